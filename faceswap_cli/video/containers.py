"""The containers that can be written (`CONTAINER_FORMATS`), and what each can hold."""

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
    """A container that can be written."""

    name: str
    """FFmpeg's name."""
    codecs: tuple[str, ...]
    """Names in `codecs.CODECS`, the default first."""
    options: Callable[[int, bool], dict[str, str]]
    """Return its options, given a time scale in which every stream starts on a whole tick, and
    whether there is metadata with vendors' own keys, such as a phone's."""
    audio_codec: str
    """Codec for audio that it cannot hold as it is."""
    subtitle_codec: str
    """Codec for text subtitles that it cannot hold as they are."""

    @property
    def stores_durations(self) -> bool:
        """Whether it stores the steps between times of decoding instead of the times."""
        return self.name in ("mp4", "mov")


def _quicktime_options(timescale: int, custom_metadata: bool) -> dict[str, str]:
    """Return options that put the index first and keep stream starts exact (default: 1 ms)."""
    flags = "+faststart" + "+use_metadata_tags" * custom_metadata
    return {"movflags": flags, "movie_timescale": str(timescale)}


def _matroska_options(_: int, __: bool) -> dict[str, str]:
    """Return options that keep times as they are even where audio begins before 0."""
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
"""The containers by file name extension."""


def format_for_path(path: Path) -> ContainerFormat:
    """Return the container for a file name extension.

    Raises:
        InputError: The extension is not that of a container that can be written.
    """
    try:
        return CONTAINER_FORMATS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write a video named {path.name}",
            hint=f"give it one of these extensions: {', '.join(CONTAINER_FORMATS)}",
        ) from None


def resolve_codec(path: Path, requested: str | None) -> str:
    """Return the codec for a file: the requested one, or the default of its container.

    Raises:
        InputError: The extension is not that of a video.
        ConfigurationError: The container cannot hold the codec.
    """
    container_format = format_for_path(path)
    codec = requested or container_format.codecs[0]
    if codec in container_format.codecs or codec not in CODECS:
        return codec
    suffixes = [suffix for suffix, other in CONTAINER_FORMATS.items() if codec in other.codecs]
    raise ConfigurationError(
        f"a {path.suffix.lower()} file cannot hold {codec}",
        hint=f"end the name in {' or '.join(suffixes)}, "
        f"or choose {' or '.join(container_format.codecs)}",
    )


def can_hold(container_format: ContainerFormat, stream: Stream) -> bool:
    """Return whether a container can hold a stream as it is, by trying: FFmpeg has no list."""
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
        video_timescale: Ticks a second of the video stream.
        source: The file that audio is copied from, if any.
        audio_rate_hz: Sample rate of audio that is encoded; 1 if none is.
    """
    scales = [video_timescale, audio_rate_hz]
    if source is not None:
        scales += [s.time_base.denominator for s in source.streams.audio if s.time_base]
    common = lcm(*scales)
    return common if common <= MAX_TIMESCALE else video_timescale


MAX_TIMESCALE = 10_000_000
"""Above this the duration of a feature film in ticks would exceed what old players read."""
