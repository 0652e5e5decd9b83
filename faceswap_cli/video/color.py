"""Conversion between the YUV of files and RGB (`ToRGB`, `FromRGB`), and access to YUV planes.

One conversion serves every stage, in both directions, so that an unchanged pixel comes back as it
was. Accuracy is preferred to speed: the usual fast path of swscale darkens by one level on average
and errs by up to three; rounding accurately, with chroma interpolated, errs by at most one and has
no bias.
"""

import threading
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import AnyArray, Image


class YuvMatrix(IntEnum):
    """The YUV matrices supported here, by their numbers in ITU-T H.273, table 4."""

    BT709 = 1
    FCC = 4
    BT470BG = 5
    SMPTE170M = 6
    SMPTE240M = 7
    BT2020 = 9


class ColorRange(IntEnum):
    """The levels of black and white: 16 and 235, or 0 and 255."""

    LIMITED = 1
    FULL = 2


@dataclass(frozen=True, kw_only=True)
class ColorTags:
    """A file's color tags, in the numbers of ITU-T H.273; None where it has none."""

    primaries: int | None = None
    transfer: int | None = None
    matrix: int | None = None
    range: int | None = None
    """1 limited, 2 full."""

    def with_defaults(self, size: tuple[int, int]) -> "ColorTags":
        """Return tags with a matrix and a range that can be converted.

        An untagged file is interpreted as players do: limited range, and BT.709 from high
        definition on (a longer side of 1280 px or a shorter one above 576), BT.601 below.

        Args:
            size: (width, height) px, upright or not.
        """
        convertible = self.matrix in set(YuvMatrix)
        guess = YuvMatrix.BT709 if _is_high_definition(size) else YuvMatrix.SMPTE170M
        return replace(
            self,
            matrix=self.matrix if convertible else int(guess),
            range=self.range or int(ColorRange.LIMITED),
        )


BT709 = ColorTags(primaries=1, transfer=1, matrix=YuvMatrix.BT709, range=ColorRange.LIMITED)
"""Tags of a synthetic clip: what every player expects of today's video."""

UNSPECIFIED = 2
"""ITU-T H.273: primaries, transfer and matrix unknown."""

_TO_RGB_FLAGS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
# Averaging each 2x2 block undoes the interpolation of _TO_RGB_FLAGS best (measured: chroma
# comes back at 54 to 68 dB, luma at 64 to 87 dB).
_FROM_RGB_FLAGS = Interpolation.AREA | Interpolation.ACCURATE_RND
# With more, swscale works on slices in parallel, and the last row of one may overwrite the first of
# the next: if the width is not a multiple of 16, eight pixels are wrong now and then.
SWSCALE_THREADS = 1


_DEPTHS = ("", "9le", "10le", "12le", "14le", "16le")
PLANAR_FORMATS = frozenset(
    f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in _DEPTHS
)
"""The planar YUV formats that are supported sample by sample."""


def to_planar_format(name: str, *, transposed: bool = False) -> str | None:
    """Return the plain name of a decoder's pixel format, or None if it is not planar YUV.

    Full range is a tag of its own here (yuvj420p is yuv420p). A transposed image with chroma at
    half the columns would have it at half the rows, which no encoder here takes.
    """
    plain = name.replace("yuvj", "yuv")
    if plain not in PLANAR_FORMATS or (transposed and "422" in plain):
        return None
    return plain


def get_planes(frame: VideoFrame) -> list[AnyArray]:
    """Return views of a planar frame's Y, Cb and Cr, each (rows, columns), uint8 or uint16."""
    wide = frame.format.components[0].bits > 8
    kind = np.dtype("<u2") if wide else np.dtype(np.uint8)
    views = []
    for plane in frame.planes:
        lines = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(
            plane.height, plane.line_size
        )
        views.append(lines.view(kind)[:, : plane.width])
    return views


def read_color_tags(frame: VideoFrame) -> ColorTags:
    """Return the color tags of a decoded frame."""
    full = frame.format.name.startswith("yuvj")
    return ColorTags(
        primaries=_tag_or_none(frame.color_primaries),
        transfer=_tag_or_none(frame.color_trc),
        matrix=_tag_or_none(frame.colorspace),
        range=int(ColorRange.FULL) if full else (int(frame.color_range) or None),
    )


class ToRGB:
    """Converts the decoded frames of one video to RGB, whole or in part; thread-safe.

    Args:
        tags: The file's color tags.
        size: (width, height) px as coded, before any rotation.
    """

    def __init__(self, tags: ColorTags, *, size: tuple[int, int]) -> None:
        self.tags = tags.with_defaults(size)
        self.size = size
        self._thread_state = _ThreadState()

    def __call__(self, frame: VideoFrame) -> Image:
        """Return a frame as uint8 (H, W, 3), whatever bit depth the file has."""
        self._apply_tags(frame)
        return _convert_to_rgb(frame, self._thread_state.reformatter, size=self.size)

    def convert_area(self, frame: VideoFrame, area: Rect) -> Image:
        """Return an area of the frame as coded, equal to that part of the whole conversion."""
        left, top, right, bottom = area
        padded = self._pad_area(frame, area)
        if padded is None:
            return self(frame)[top:bottom, left:right]
        x0, y0, x1, y1 = padded
        buffer = self._get_tile_buffer(frame, size=(x1 - x0, y1 - y0))
        buffer.copy_from(frame, x0, y0)
        rgb = _convert_to_rgb(buffer.frame, buffer.reformatter, size=(x1 - x0, y1 - y0))
        return rgb[top - y0 : bottom - y0, left - x0 : right - x0]

    def _apply_tags(self, frame: VideoFrame) -> None:
        """Set the tags by which swscale converts a frame."""
        if not frame.format.is_rgb:
            frame.colorspace = self.tags.matrix or UNSPECIFIED
            frame.color_range = self.tags.range or ColorRange.LIMITED

    def _pad_area(self, frame: VideoFrame, area: Rect) -> Rect | None:
        """Return the area to convert for one that is requested; None: the whole frame."""
        width, height = self.size
        # With an odd size chroma is scaled by not quite two; interlaced fields interpolate apart.
        if (
            to_planar_format(frame.format.name) is None
            or frame.interlaced_frame
            or (frame.width, frame.height) != self.size
            or width % 2
            or height % 2
        ):
            return None
        left, right = _pad_interval(area[0], area[2], width)
        top, bottom = _pad_interval(area[1], area[3], height)
        is_all = (right - left, bottom - top) == self.size
        return None if is_all else Rect(left, top, right, bottom)

    def _get_tile_buffer(self, frame: VideoFrame, *, size: tuple[int, int]) -> "_TileBuffer":
        """Return the thread's buffer for a part of a frame of this size."""
        buffers, key = self._thread_state.tile_buffers, (frame.format.name, size)
        if key not in buffers:
            self._apply_tags(frame)
            while len(buffers) >= _MAX_TILE_BUFFERS:
                del buffers[next(iter(buffers))]
            buffers[key] = _TileBuffer(frame, size=size)
        return buffers[key]


_MARGIN_PX = 8
"""Converted around an area: interpolation of chroma reaches less far."""
TILE_ALIGN_PX = 32
"""Sizes of parts are multiples of this: swscale prepares tables for each size."""
_MAX_TILE_BUFFERS = 4
"""Buffers of different sizes that a thread keeps."""


class _ThreadState(threading.local):
    """State of one thread: swscale's tables must not be shared."""

    def __init__(self) -> None:
        self.reformatter = VideoReformatter()
        self.tile_buffers: dict[tuple[str, tuple[int, int]], _TileBuffer] = {}


class _TileBuffer:
    """A small frame that takes a part of a large one, and is converted as that is.

    Args:
        frame: A frame of the video, tagged.
        size: (width, height) px of the parts, smaller than the frame.
    """

    def __init__(self, frame: VideoFrame, *, size: tuple[int, int]) -> None:
        width, height = size
        # Made by scaling, which copies all metadata: PyAV has no name for the chroma location,
        # which shifts colors by half a pixel.
        self.frame = VideoReformatter().reformat(
            frame,
            width=width,
            height=height,
            format=frame.format.name,
            interpolation="POINT",
            threads=SWSCALE_THREADS,
        )
        self.reformatter = VideoReformatter()

    def copy_from(self, frame: VideoFrame, left: int, top: int) -> None:
        """Copy the samples of a frame from (left, top) px on."""
        for part, whole in zip(get_planes(self.frame), get_planes(frame), strict=True):
            height, width = part.shape
            y = top * whole.shape[0] // frame.height
            x = left * whole.shape[1] // frame.width
            part[:] = whole[y : y + height, x : x + width]


def _pad_interval(start: int, end: int, max_end: int) -> tuple[int, int]:
    """Return the interval to convert for one that is requested, within 0 to `max_end` px."""
    length = -(-(end - start + 2 * _MARGIN_PX + 1) // TILE_ALIGN_PX) * TILE_ALIGN_PX
    begin = max(0, min((start - _MARGIN_PX) // 2 * 2, max_end - length))
    return begin, min(begin + length, max_end)


def _convert_to_rgb(
    frame: VideoFrame, reformatter: VideoReformatter, *, size: tuple[int, int]
) -> Image:
    """Return a tagged frame as uint8 (H, W, 3), whatever its bit depth."""
    width, height = size
    rgb = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        dst_color_range=ColorRange.FULL,
        interpolation=_TO_RGB_FLAGS,
        threads=SWSCALE_THREADS,
    )
    return np.asarray(rgb.to_ndarray(), dtype=np.uint8)


class FromRGB:
    """Converts RGB to the frames that an encoder takes.

    Args:
        tags: The color tags of the output; completed by the same rule as for reading.
        size: (width, height) px.
        pixel_format: FFmpeg's name, such as yuv420p.
    """

    def __init__(self, tags: ColorTags, *, size: tuple[int, int], pixel_format: str) -> None:
        self.tags = tags.with_defaults(size)
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
            interpolation=_FROM_RGB_FLAGS,
            threads=SWSCALE_THREADS,
        )


def _is_high_definition(size: tuple[int, int]) -> bool:
    """Return whether players take an untagged image of this size as BT.709."""
    return max(size) >= 1280 or min(size) > 576


def _tag_or_none(tag: int) -> int | None:
    """Return a tag, or None for the numbers without a meaning."""
    return int(tag) if tag not in (0, UNSPECIFIED, 3) else None
