"""How the YUV of a file and the RGB of the program turn into each other; knows no file.

One conversion serves every stage, in both directions, so that a pixel nobody touched comes back as
it was. Speed was traded for truth here: the usual fast path of swscale darkens by one level on
average and errs by up to three; rounding accurately, with chroma interpolated, errs by at most one
and has no bias.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from faceswap_cli.arrays import Image


class Matrix(IntEnum):
    """The YUV matrices that can be converted, by their numbers in ITU-T H.273, table 4."""

    BT709 = 1
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    BT2020 = 9


class Range(IntEnum):
    """What black and white are: 16 and 235, or 0 and 255."""

    LIMITED = 1
    FULL = 2


@dataclass(frozen=True, kw_only=True)
class ColourTags:
    """What a file says of its colours, in the numbers of ITU-T H.273; None where it is silent."""

    primaries: int | None = None
    transfer: int | None = None
    matrix: int | None = None
    range: int | None = None
    """1 limited, 2 full."""

    def completed(self, size: tuple[int, int]) -> "ColourTags":
        """Return tags whose matrix and range can be computed with.

        An untagged file is taken as players take it: limited range, and BT.709 from high
        definition on (a longer side of 1280 px or a shorter one above 576), BT.601 below.

        Args:
            size: (width, height) px, either way up.
        """
        convertible = self.matrix in set(Matrix)
        guess = Matrix.BT709 if _is_high_definition(size) else Matrix.SMPTE170M
        return replace(
            self,
            matrix=self.matrix if convertible else int(guess),
            range=self.range or int(Range.LIMITED),
        )


BT709 = ColourTags(primaries=1, transfer=1, matrix=Matrix.BT709, range=Range.LIMITED)
"""What a drawn clip is tagged with: the colours every player expects of today's video."""

UNSPECIFIED = 2
"""ITU-T H.273: primaries, transfer and matrix unknown."""

_READING = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# Averaging each 2x2 block is what undoes the interpolation of _READING best (measured: chroma
# comes back at 54 to 68 dB, luma at 64 to 87 dB).
_WRITING = Interpolation.AREA | Interpolation.ACCURATE_RND


def tags_of(frame: VideoFrame) -> ColourTags:
    """Return what a decoded frame says about its colours."""
    full = frame.format.name.startswith("yuvj")
    return ColourTags(
        primaries=_known(frame.color_primaries),
        transfer=_known(frame.color_trc),
        matrix=_known(frame.colorspace),
        range=int(Range.FULL) if full else (int(frame.color_range) or None),
    )


class ToRGB:
    """Turns the decoded frames of one video into RGB.

    Args:
        tags: What the file says.
        size: (width, height) px as coded, before any rotation.
    """

    def __init__(self, tags: ColourTags, *, size: tuple[int, int]) -> None:
        self.tags = tags.completed(size)
        self.size = size
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Image:
        """Return uint8 (H, W, 3), 8 bits whatever the file has."""
        if not frame.format.is_rgb:
            frame.colorspace = self.tags.matrix or UNSPECIFIED
            frame.color_range = self.tags.range or Range.LIMITED
        width, height = self.size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            dst_color_range=Range.FULL,
            interpolation=_READING,
        )
        return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


class FromRGB:
    """Turns RGB into the frames an encoder takes.

    Args:
        tags: What the file will say; completed by the same rule as for reading.
        size: (width, height) px.
        pixel_format: FFmpeg's name, such as yuv420p.
    """

    def __init__(self, tags: ColourTags, *, size: tuple[int, int], pixel_format: str) -> None:
        self.tags = tags.completed(size)
        self.pixel_format = pixel_format
        self._reformatter = VideoReformatter()

    def __call__(self, image: Image) -> VideoFrame:
        """Return the frame, tagged; `image` is uint8 (H, W, 3)."""
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.colorspace = self.tags.matrix or UNSPECIFIED
        return self._reformatter.reformat(
            frame,
            format=self.pixel_format,
            dst_color_range=self.tags.range,
            interpolation=_WRITING,
        )


def _is_high_definition(size: tuple[int, int]) -> bool:
    """Return whether a picture of this size is BT.709 by custom."""
    return max(size) >= 1280 or min(size) > 576


def _known(tag: int) -> int | None:
    """Return a tag, or None for the numbers that mean nothing."""
    return int(tag) if tag not in (0, UNSPECIFIED, 3) else None
