"""The forms of file that can be written, and what each can hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import lcm
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Stream

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.video.codecs import CODECS


@dataclass(frozen=True, kw_only=True)
class ContainerFormat:
    """A form of file that can be written."""

    name: str
    """FFmpeg's name of it."""
    codecs: tuple[str, ...]
    """The codecs of the picture it holds, the usual one first."""
    options: Callable[[int, bool], dict[str, str]]
    """Its options, given a number of ticks a second in which every stream's start is whole, and
    whether there are titles that only their makers know, such as a telephone's."""
    audio_codec: str
    """What sound is encoded as if it cannot be held as it is."""
    subtitle_codec: str
    """What subtitles made of text are turned into if they cannot be held as they are."""

    @property
    def stores_durations(self) -> bool:
        """Whether it stores the steps between times of decoding, and no times of showing."""
        return self.name in ("mp4", "mov")


def _quicktime_options(timescale: int, custom_metadata: bool) -> dict[str, str]:
    """Put the index first, and keep the starts of the streams exact (the default is 1 ms)."""
    flags = "+faststart" + "+use_metadata_tags" * custom_metadata
    return {"movflags": flags, "movie_timescale": str(timescale)}


def _matroska_options(_: int, __: bool) -> dict[str, str]:
    """Keep the times as they are even where the sound begins before 0."""
    return {"avoid_negative_ts": "disabled"}


_MP4 = ContainerFormat(
    name="mp4",
    codecs=("h264", "h265", "av1"),
    options=_quicktime_options,
    audio_codec="aac",
    subtitle_codec="mov_text",
)
_MOV = ContainerFormat(
    name="mov",
    codecs=("h264", "h265", "prores"),
    options=_quicktime_options,
    audio_codec="aac",
    subtitle_codec="mov_text",
)
_MKV = ContainerFormat(
    name="matroska",
    codecs=("h264", "h265", "av1", "prores", "ffv1"),
    options=_matroska_options,
    audio_codec="aac",
    subtitle_codec="subrip",
)
_WEBM = ContainerFormat(
    name="webm",
    codecs=("av1",),
    options=_matroska_options,
    audio_codec="libopus",
    subtitle_codec="webvtt",
)

CONTAINER_FORMATS: Mapping[str, ContainerFormat] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MOV,
    ".mkv": _MKV,
    ".webm": _WEBM,
}
"""The forms by the endings of files' names."""


def format_for_path(path: Path) -> ContainerFormat:
    """Return the form of file that a name's ending asks for.

    Raises:
        InputError: None that this program writes.
    """
    try:
        return CONTAINER_FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write a video named {path.name}",
            hint=f"give it one of these endings: {', '.join(CONTAINER_FORMATS)}",
        ) from None


def resolve_codec(path: Path, wanted: str | None) -> str:
    """Return the codec for a file: the one that is asked for, or the usual one of its form.

    Raises:
        InputError: The name's ending is not that of a video.
        ConfigurationError: There is no such codec, or a file of this form cannot hold it.
    """
    form = format_for_path(path)
    codec = wanted or form.codecs[0]
    if codec in form.codecs or codec not in CODECS:
        return codec
    endings = [ending for ending, other in CONTAINER_FORMATS.items() if codec in other.codecs]
    raise ConfigurationError(
        f"a {path.suffix.lower()} file cannot hold {codec}",
        hint=f"end the name in {' or '.join(endings)}, or choose {' or '.join(form.codecs)}",
    )


def can_hold(container_format: ContainerFormat, stream: Stream) -> bool:
    """Return whether a form of file can hold a stream as it is; FFmpeg only tells when it tries."""
    try:
        with av.open(BytesIO(), "w", format=container_format.name) as attempt:
            attempt.add_stream_from_template(stream)
            attempt.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def common_timescale(
    video_timescale: int, source: InputContainer | None, audio_rate_hz: int
) -> int:
    """Return a time scale in which every stream starts on a whole tick, within reason.

    Args:
        video_timescale: Ticks a second of the picture.
        source: Where sound is copied from, if it is.
        audio_rate_hz: Samples a second of sound that is encoded; 1 if none is.
    """
    scales = [video_timescale, audio_rate_hz]
    if source is not None:
        scales += [s.time_base.denominator for s in source.streams.audio if s.time_base]
    common = lcm(*scales)
    return common if common <= MAX_TIMESCALE else video_timescale


MAX_TIMESCALE = 10_000_000
"""Above this a film's length in ticks would leave what old players read."""
