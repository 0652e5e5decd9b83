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

from faceswap_cli.errors import ConfigurationError, InputError
from faceswap_cli.video.codecs import CODECS


@dataclass(frozen=True, kw_only=True)
class Form:
    """A form of file that can be written."""

    name: str
    """FFmpeg's name of it."""
    codecs: tuple[str, ...]
    """The codecs of the picture it holds, the usual one first."""
    options: Callable[[int, bool], dict[str, str]]
    """Its options, given a number of ticks a second in which every stream's start is whole, and
    whether there are titles that only their makers know, such as a telephone's."""
    sound: str
    """What sound is encoded as if it cannot be held as it is."""
    text: str
    """What subtitles made of text are turned into if they cannot be held as they are."""

    @property
    def adds_up(self) -> bool:
        """Whether it stores the steps between times of decoding, and no times of showing."""
        return self.name in ("mp4", "mov")


def _quicktime_options(ticks_a_second: int, own_titles: bool) -> dict[str, str]:
    """Put the index first, and keep the starts of the streams exact (the default is 1 ms)."""
    flags = "+faststart" + "+use_metadata_tags" * own_titles
    return {"movflags": flags, "movie_timescale": str(ticks_a_second)}


def _matroska_options(_: int, __: bool) -> dict[str, str]:
    """Keep the times as they are even where the sound begins before 0."""
    return {"avoid_negative_ts": "disabled"}


_MP4 = Form(
    name="mp4",
    codecs=("h264", "h265", "av1"),
    options=_quicktime_options,
    sound="aac",
    text="mov_text",
)
_MOV = Form(
    name="mov",
    codecs=("h264", "h265", "prores"),
    options=_quicktime_options,
    sound="aac",
    text="mov_text",
)
_MKV = Form(
    name="matroska",
    codecs=("h264", "h265", "av1", "prores", "ffv1"),
    options=_matroska_options,
    sound="aac",
    text="subrip",
)
_WEBM = Form(
    name="webm", codecs=("av1",), options=_matroska_options, sound="libopus", text="webvtt"
)

FORMS: Mapping[str, Form] = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": _MOV,
    ".mkv": _MKV,
    ".webm": _WEBM,
}
"""The forms by the endings of files' names."""


def form_of(path: Path) -> Form:
    """Return the form of file that a name's ending asks for.

    Raises:
        InputError: None that this program writes.
    """
    try:
        return FORMS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write a video named {path.name}",
            hint=f"give it one of these endings: {', '.join(FORMS)}",
        ) from None


def codec_for(path: Path, wanted: str | None) -> str:
    """Return the codec for a file: the one that is asked for, or the usual one of its form.

    Raises:
        InputError: The name's ending is not that of a video.
        ConfigurationError: There is no such codec, or a file of this form cannot hold it.
    """
    form = form_of(path)
    codec = wanted or form.codecs[0]
    if codec in form.codecs or codec not in CODECS:
        return codec
    endings = [ending for ending, other in FORMS.items() if codec in other.codecs]
    raise ConfigurationError(
        f"a {path.suffix.lower()} file cannot hold {codec}",
        hint=f"end the name in {' or '.join(endings)}, or choose {' or '.join(form.codecs)}",
    )


def holds(form: Form, stream: Stream) -> bool:
    """Return whether a form of file can hold a stream as it is; FFmpeg only tells when it tries."""
    try:
        with av.open(BytesIO(), "w", format=form.name) as attempt:
            attempt.add_stream_from_template(stream)
            attempt.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


def ticks_a_second(picture_ticks: int, source: InputContainer | None, rate_hz: int) -> int:
    """Return a time scale in which every stream starts on a whole tick, within reason.

    Args:
        picture_ticks: Ticks a second of the picture.
        source: Where sound is copied from, if it is.
        rate_hz: Samples a second of sound that is encoded; 1 if none is.
    """
    scales = [picture_ticks, rate_hz]
    if source is not None:
        scales += [s.time_base.denominator for s in source.streams.audio if s.time_base]
    common = lcm(*scales)
    return common if common <= MOST_TICKS_A_SECOND else picture_ticks


MOST_TICKS_A_SECOND = 10_000_000
"""Above this a film's length in ticks would leave what old players read."""
