"""A decoded picture as the file has it: what a stage does not touch never leaves its own numbers.

Going through RGB costs a level here and there, and two bits of every colour of a 10-bit clip. So a
frame keeps its decoded planes beside its RGB, and the writer takes only the changed rectangles from
the RGB; all other samples are copied.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import LazyImage, Rect
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video.color import ColorTags, FromRGB
from faceswap_cli.video.pixel_format import get_planes, to_planar_format


class OrientationLike(Protocol):
    """How the stored picture lies."""

    @property
    def transposed(self) -> bool:
        """Whether its axes change places to be shown."""

    def to_upright(self, image: AnyArray) -> AnyArray:
        """Return an array of samples as it is to be shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSamples:
    """A frame's own samples."""

    decoded: VideoFrame
    orientation: OrientationLike

    @property
    def pixel_format(self) -> str | None:
        """FFmpeg's name of the upright picture's samples; None if they are not understood."""
        return to_planar_format(self.decoded.format.name, transposed=self.orientation.transposed)


class FramePatcher:
    """Builds the frames an encoder is given from originals and what was changed in them.

    Args:
        tags: The colours' tags, as the file will have them.
        size: (width, height) px, upright.
        pixel_format: The originals' own, a name in `PLANAR_FORMATS`.
    """

    def __init__(self, tags: ColorTags, *, size: tuple[int, int], pixel_format: str) -> None:
        self.size = size
        self.pixel_format = pixel_format
        self._tags = tags.with_defaults(size)
        form = VideoFormat(pixel_format, 16, 16)
        self._from_rgb = FromRGB(tags, size=size, pixel_format=pixel_format)
        self._block = 16 // form.chroma_width(16), 16 // form.chroma_height(16)

    def accepts(self, original: SourceSamples) -> bool:
        """Return whether a frame is of the kind that is expected; a damaged file changes kinds."""
        decoded = original.decoded
        size = decoded.width, decoded.height
        upright = size[::-1] if original.orientation.transposed else size
        return upright == self.size and original.pixel_format == self.pixel_format

    def __call__(
        self, original: SourceSamples, view: LazyImage, changed: Iterable[Rect]
    ) -> VideoFrame:
        """Return a frame that shows `view` in the changed areas and the original elsewhere.

        Where several pixels share a colour sample, it changes only if all of them may.
        """
        frame = VideoFrame(*self.size, self.pixel_format)
        planes = get_planes(frame)
        for own, plane in zip(planes, get_planes(original.decoded), strict=True):
            own[:] = original.orientation.to_upright(plane)
        for area in changed:
            self._patch(planes, view, area.clip(self.size))
        frame.colorspace = self._tags.matrix or 0
        frame.color_range = self._tags.range or 0
        return frame

    def _patch(self, planes: Sequence[AnyArray], view: LazyImage, area: Rect) -> None:
        """Overwrite the samples of an area by those of the view."""
        if 0 in area.size:
            return
        left, top, right, bottom = area
        across, down = self._block
        width, height = self.size
        # Whole blocks of pixels that share their colour, so that the outermost are averaged right.
        x0, y0 = left // across * across, top // down * down
        x1, y1 = min(-(-right // across) * across, width), min(-(-bottom // down) * down, height)
        blocks = Rect(x0, y0, x1, y1)
        part = view.to_partial_array(blocks)[blocks.slices]
        luma, *colour = get_planes(self._from_rgb(_pad_to_tile(part)))
        planes[0][top:bottom, left:right] = luma[top - y0 : bottom - y0, left - x0 : right - x0]
        # Of the colour samples those whose pixels all lie inside, or beyond the picture's border.
        first_x, first_y = -(-left // across), -(-top // down)
        last_x = -(-right // across) if right == width else right // across
        last_y = -(-bottom // down) if bottom == height else bottom // down
        for plane, new in zip(planes[1:], colour, strict=True):
            plane[first_y:last_y, first_x:last_x] = new[
                first_y - y0 // down : last_y - y0 // down,
                first_x - x0 // across : last_x - x0 // across,
            ]


_TILE_ALIGN_PX = 32
"""Parts are converted in whole such sizes: swscale prepares tables for each size anew."""


def _pad_to_tile(part: Image) -> Image:
    """Return a part with black to the right of it and below, which changes no sample of its own.

    One of an odd size ends with the picture, where colour is not averaged over whole blocks.
    """
    height, width = part.shape[:2]
    if height % 2 or width % 2:
        return part
    room = np.zeros(
        (
            -(-height // _TILE_ALIGN_PX) * _TILE_ALIGN_PX,
            -(-width // _TILE_ALIGN_PX) * _TILE_ALIGN_PX,
            3,
        ),
        np.uint8,
    )
    room[:height, :width] = part
    return room
