"""Codecs, encoders and one quality scale for all of them (`select_encoder`).

    0           lossless (h264, h265, av1)
    1 to 17     for further editing: larger than viewing needs
    18          looks the same as the source: the default
    19 to 28    good to watch, a half to a fifth of the size
    29 to 51    ever coarser

The scale is x264's rate factor. H.265 and AV1 get the rate factor that measured as good, or a
little better, on the same frames (`tests/benchmarks/codecs.py`); hardware encoders their vendors'
own scale, which was not measured. ProRes has four sizes, which stand for ranges of it; FFV1 is
always lossless.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec as LibraryCodec
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext, Flags
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.video import DEFAULT_QUALITY

BEST_QUALITY, WORST_QUALITY = 0, 51
"""The ends of the scale of quality."""

FORMATS_8_BIT = ("yuv420p", "yuv422p", "yuv444p")
FORMATS_10_BIT = ("yuv420p10le", "yuv422p10le", "yuv444p10le")
FORMATS_12_BIT = ("yuv420p12le", "yuv422p12le", "yuv444p12le")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """One of the library's encoders."""

    name: str
    """FFmpeg's name."""
    pixel_formats: tuple[str, ...]
    """The pixel formats it takes, in FFmpeg's names."""
    options: Callable[[int], dict[str, str]]
    """Return its options for a quality."""
    is_hardware: bool = False
    allows_odd_size: bool = False
    """It takes an odd width or height although chroma has half of it."""


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """An encoder with its input format."""

    encoder: Encoder
    pixel_format: str
    notes: tuple[str, ...] = ()
    """What the user may not expect, one line each."""


def _x264(quality: int) -> dict[str, str]:
    """Return options of libx264; a rate factor of 0 would not be lossless at 10 bits."""
    rate = {"crf": str(quality)} if quality else {"qp": "0"}
    return {**rate, "preset": "veryfast"}


def _x265(quality: int) -> dict[str, str]:
    """Return options of libx265."""
    rate = {"crf": str(map_quality(quality, H265_CRF_STEP, max_value=51))} if quality else {}
    lossless = "" if quality else ":lossless=1"
    return {**rate, "preset": "veryfast", "x265-params": f"log-level=none{lossless}"}


def _svt_av1(quality: int) -> dict[str, str]:
    """Return options of SVT-AV1, whose scale goes to 63."""
    os.environ.setdefault("SVT_LOG", "1")  # it writes to the terminal directly: errors only
    if not quality:
        return {"preset": "8", "svtav1-params": "lossless=1"}
    return {
        "preset": "8",
        "crf": str(map_quality(quality, AV1_CRF_STEP, max_value=63, at_default=24)),
    }


H265_CRF_STEP, AV1_CRF_STEP = 1.3, 2.2
"""Steps of x265's and SVT-AV1's rate factors for one of x264's.

Measured at five qualities on a close-up face with little noise, for x265 on a street too: SSIM is
x264's within 0.001 from 12 to 28 for x265, and never below it from 18 on for SVT-AV1.
"""


def map_quality(
    quality: int, step: float, *, max_value: int, at_default: int = DEFAULT_QUALITY
) -> int:
    """Return another encoder's rate factor for a quality that is not lossless."""
    return min(max_value, max(1, round(at_default + (quality - DEFAULT_QUALITY) * step)))


def _prores(quality: int) -> dict[str, str]:
    """Return options of ProRes 422: HQ, standard, LT or proxy."""
    profile = 3 - sum(quality > last for last in (18, 24, 32))
    return {"profile": str(profile), "vendor": "apl0"}


def _prores_444(quality: int) -> dict[str, str]:
    """Return options of ProRes 4444: XQ or standard."""
    return {"profile": "5" if quality <= 10 else "4", "vendor": "apl0"}


def _ffv1(_: int) -> dict[str, str]:
    """Return options of FFV1: version 3, intra only, with checksums."""
    return {"level": "3", "g": "1", "slicecrc": "1", "slices": "4"}


def _nvenc(quality: int) -> dict[str, str]:
    """Return options of NVIDIA's encoders: constant quality, or lossless."""
    if not quality:
        return {"preset": "p5", "tune": "lossless"}
    return {"preset": "p5", "rc": "vbr", "cq": str(quality), "b": "0"}


def _qsv(quality: int) -> dict[str, str]:
    """Return options of Intel's encoders: constant quality."""
    return {"preset": "medium", "global_quality": str(max(1, quality))}


def _amf(quality: int) -> dict[str, str]:
    """Return options of AMD's encoders: constant quantizer."""
    return {"rc": "cqp", "qp_i": str(quality), "qp_p": str(quality)}


def _videotoolbox(quality: int) -> dict[str, str]:
    """Return options of Apple's encoders, whose scale runs from 100 down to 1."""
    return {"q:v": str(max(1, round(100 - quality * 1.9))), "flags": "+qscale"}


def _hardware_encoders(codec: str) -> tuple[Encoder, ...]:
    """Return the hardware encoders of a codec; `is_available` tries which of them work."""
    ten_bit = ("yuv420p10le",) if codec != "h264" else ()
    vendors = {"nvenc": _nvenc, "qsv": _qsv, "amf": _amf, "videotoolbox": _videotoolbox}
    return tuple(
        Encoder(
            name=f"{codec}_{vendor}",
            pixel_formats=("yuv420p", *ten_bit),
            options=options,
            is_hardware=True,
        )
        for vendor, options in vendors.items()
    )


_H264 = Encoder(name="libx264", pixel_formats=FORMATS_8_BIT + FORMATS_10_BIT, options=_x264)
_H265 = Encoder(
    name="libx265", pixel_formats=FORMATS_8_BIT + FORMATS_10_BIT + FORMATS_12_BIT, options=_x265
)
_AV1 = Encoder(
    name="libsvtav1",
    pixel_formats=("yuv420p", "yuv420p10le"),
    options=_svt_av1,
    allows_odd_size=True,
)
_PRORES_422 = Encoder(
    name="prores_ks", pixel_formats=("yuv422p10le",), options=_prores, allows_odd_size=True
)
_PRORES_444 = Encoder(
    name="prores_ks", pixel_formats=("yuv444p10le",), options=_prores_444, allows_odd_size=True
)
_FFV1 = Encoder(
    name="ffv1",
    pixel_formats=FORMATS_8_BIT + FORMATS_10_BIT + FORMATS_12_BIT,
    options=_ffv1,
    allows_odd_size=True,
)

CODECS: Mapping[str, tuple[Encoder, ...]] = {
    "h264": (*_hardware_encoders("h264"), _H264),
    "h265": (*_hardware_encoders("hevc"), _H265),
    "av1": (*_hardware_encoders("av1"), _AV1),
    "prores": (_PRORES_422, _PRORES_444),
    "ffv1": (_FFV1,),
}
"""The codecs by the names that the user types, each with its encoders, preferred ones first."""


def check_codec(codec: str, quality: int) -> None:
    """Refuse an unknown codec or a wrong quality.

    Raises:
        ConfigurationError: The codec is unknown, or the quality is off the scale.
    """
    if codec not in CODECS:
        raise ConfigurationError(
            f'there is no codec called "{codec}"', hint=did_you_mean(codec, CODECS)
        )
    if not BEST_QUALITY <= quality <= WORST_QUALITY:
        raise ConfigurationError(
            f"quality {quality} is off the scale",
            hint=f"{BEST_QUALITY} is lossless, {DEFAULT_QUALITY} looks the same as the source, "
            f"{WORST_QUALITY} is the worst",
        )


def select_encoder(
    codec: str,
    *,
    size: tuple[int, int],
    source_pixel_format: str | None = None,
    hardware: bool = True,
) -> EncoderChoice:
    """Return the encoder for frames of a size, with the pixel format nearest to the source's.

    Args:
        codec: A name in `CODECS`.
        size: (width, height) px.
        source_pixel_format: The source's pixel format; None for RGB that needs no more than 8 bits
            and chroma at half the resolution.
        hardware: Whether a hardware encoder may be used, if it preserves as much.

    Raises:
        ConfigurationError: The codec is unknown.
    """
    check_codec(codec, DEFAULT_QUALITY)
    wanted = source_pixel_format or "yuv420p"
    software = min(
        (
            _select_pixel_format(encoder, wanted, size)
            for encoder in CODECS[codec]
            if not encoder.is_hardware
        ),
        key=lambda choice: _conversion_loss(wanted, choice),
    )
    notes: list[str] = []
    for encoder in CODECS[codec] if hardware else ():
        if not encoder.is_hardware or not is_available(encoder.name):
            continue
        choice = _select_pixel_format(encoder, wanted, size)
        if choice.pixel_format == software.pixel_format and is_available(
            encoder.name, size=size, pixel_format=choice.pixel_format
        ):
            return choice
        notes.append(
            f"{encoder.name} cannot hold {software.pixel_format} at {size[0]}x{size[1]}: "
            f"{software.encoder.name} encodes instead"
        )
    notes += _describe_losses(wanted, software.pixel_format) if source_pixel_format else []
    return EncoderChoice(
        encoder=software.encoder, pixel_format=software.pixel_format, notes=tuple(notes)
    )


def _select_pixel_format(encoder: Encoder, wanted: str, size: tuple[int, int]) -> EncoderChoice:
    """Return the encoder with the one of its pixel formats that loses least."""
    fitting = [
        pixel_format
        for pixel_format in encoder.pixel_formats
        if encoder.allows_odd_size or _is_size_divisible(pixel_format, size)
    ]
    return min(
        (
            EncoderChoice(encoder=encoder, pixel_format=pixel_format)
            for pixel_format in fitting or encoder.pixel_formats
        ),
        key=lambda choice: _conversion_loss(wanted, choice),
    )


def _conversion_loss(wanted: str, choice: EncoderChoice) -> tuple[int, int, int]:
    """Return what a pixel format loses of another, then what it wastes: smaller is better."""
    bits, columns, rows = _format_layout(wanted)
    given_bits, given_columns, given_rows = _format_layout(choice.pixel_format)
    lost_bits, lost_chroma = max(0, bits - given_bits), max(0, columns - given_columns)
    lost_chroma += max(0, rows - given_rows)
    wasted = abs(bits - given_bits) + abs(columns - given_columns) + abs(rows - given_rows)
    return lost_chroma, lost_bits, wasted


def _format_layout(pixel_format: str) -> tuple[int, int, int]:
    """Return bits a sample, and 2 or 1: chroma samples for two columns and for two rows."""
    layout = VideoFormat(pixel_format, 16, 16)
    return layout.components[0].bits, layout.chroma_width(16) // 8, layout.chroma_height(16) // 8


def _is_size_divisible(pixel_format: str, size: tuple[int, int]) -> bool:
    """Return whether chroma samples of this format cover an image of this size exactly."""
    _, *chroma = _format_layout(pixel_format)
    return not any(side % 2 and samples == 1 for side, samples in zip(size, chroma, strict=True))


def _describe_losses(wanted: str, given: str) -> list[str]:
    """Return what the codec cannot preserve, one line each."""
    bits, *chroma = _format_layout(wanted)
    given_bits, *given_chroma = _format_layout(given)
    notes = []
    if given_bits < bits:
        notes.append(f"{bits} bits a color become {given_bits}: the codec holds no more")
    if any(after < before for before, after in zip(chroma, given_chroma, strict=True)):
        notes.append("color is stored at a lower resolution: the codec holds no more")
    return notes


def ffmpeg_version() -> str:
    """Return the version of the FFmpeg inside PyAV."""
    return av.ffmpeg_version_info


@cache
def is_available(
    name: str, *, size: tuple[int, int] = (256, 256), pixel_format: str = "yuv420p"
) -> bool:
    """Return whether an encoder works on this machine, by encoding three frames."""
    try:
        LibraryCodec(name, "w")
        context = open_encoder(
            name, size=size, pixel_format=pixel_format, time_base=Fraction(1, 25), options={}
        )
        width, height = size
        gray = VideoFrame.from_ndarray(np.full((height, width, 3), 128, np.uint8))
        for tick in range(3):
            frame = gray.reformat(format=pixel_format)
            frame.pts = tick
            context.encode(frame)
        context.encode(None)
    except (FFmpegError, UnknownCodecError, ValueError, OSError):
        return False
    return True


def open_encoder(
    name: str,
    *,
    size: tuple[int, int],
    pixel_format: str,
    time_base: Fraction,
    options: Mapping[str, str],
    rate: Fraction = Fraction(25),
    configure: Callable[[VideoCodecContext], None] | None = None,
) -> VideoCodecContext:
    """Return an open encoder whose headers are separate from its packets."""
    context = CodecContext.create(name, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = pixel_format
    context.time_base = time_base
    context.framerate = rate.limit_denominator(1_000_000)
    context.flags |= Flags.global_header | Flags.frame_duration
    context.options = dict(options)
    if configure is not None:
        configure(context)
    with keep_scheduling():
        context.open()
    return context


@contextmanager
def keep_scheduling() -> Iterator[None]:
    """Give all threads of the process the scheduling back that this one has before the block.

    Run by root, SVT-AV1 makes the thread that opens it and all of its own real-time threads of the
    highest priority: they would take the processors from everything else on the machine.
    """
    if not hasattr(os, "sched_getscheduler"):  # only Linux has it
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            for thread in Path("/proc/self/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended
                    os.sched_setscheduler(int(thread.name), policy, parameters)
