"""A picture that becomes RGB where it is looked at; knows nothing of where it comes from.

Turning a decoded frame into RGB exactly costs more than decoding it, and of most frames a stage
wants no more than a face. So frames travel as views, and whoever looks says where.

Convention:
    An area is in px: left, top, right, bottom; the ends are excluded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from faceswap_cli.core.types import Gray, Image, Points

Area: TypeAlias = tuple[int, int, int, int]
"""A part of a picture, px: left, top, right, bottom; the ends are excluded."""


class LazyImage(Protocol):
    """A picture, upright; any number of threads may look at once."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""

    def to_array(self) -> Image:
        """Return all of it; not to be written to."""

    def to_partial_array(self, area: Area) -> Image:
        """Return an array of the whole picture's shape that is right inside `area`.

        What lies outside is anything, and may change. Not to be written to.
        """

    def sample_luma(self, step: int) -> Gray:
        """Return the light of every `step`-th pixel both ways, for telling pictures apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayImage:
    """A picture that is there already."""

    image: Image

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        height, width = self.image.shape[:2]
        return width, height

    def to_array(self) -> Image:
        """Return the picture."""
        return self.image

    def to_partial_array(self, _: Area) -> Image:
        """Return the picture."""
        return self.image

    def sample_luma(self, step: int) -> Gray:
        """Return the luma of every `step`-th pixel both ways."""
        some = np.ascontiguousarray(self.image[::step, ::step])
        return np.asarray(cv2.cvtColor(some, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def as_lazy(image: Image | LazyImage) -> LazyImage:
    """Return a view of a picture, which may be one already."""
    return ArrayImage(image=image) if isinstance(image, np.ndarray) else image


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """What a part of a picture is to show instead."""

    area: Area
    """Where it lies; within the picture."""
    image: Image
    """uint8 (H, W, 3), of the area's size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchedImage:
    """A picture with others laid over parts of it, one after the other."""

    base: LazyImage
    patches: Sequence[Patch]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        return self.base.size

    def to_array(self) -> Image:
        """Return all of it; without a patch the very picture that is under them."""
        width, height = self.size
        return self.to_partial_array((0, 0, width, height))

    def to_partial_array(self, area: Area) -> Image:
        """Return an array of the whole picture's shape that is right inside `area`."""
        here = [patch for patch in self.patches if [area] != subtract_area(area, patch.area)]
        image = self._read_base(area)
        if not here:
            return image
        shown = np.empty_like(image)
        left, top, right, bottom = clip_area(area, self.size)
        shown[top:bottom, left:right] = image[top:bottom, left:right]
        for patch in here:
            left, top, right, bottom = patch.area
            shown[top:bottom, left:right] = patch.image
        return shown

    def sample_luma(self, step: int) -> Gray:
        """Return the luma of every `step`-th pixel both ways."""
        return (
            ArrayImage(image=self.to_array()).sample_luma(step)
            if self.patches
            else self.base.sample_luma(step)
        )

    def _read_base(self, area: Area) -> Image:
        """Return what is under an area."""
        width, height = self.size
        return (
            self.base.to_array()
            if area == (0, 0, width, height)
            else self.base.to_partial_array(area)
        )


def bounding_area(points: Points) -> Area:
    """Return the area that is looked at to sample a picture between points (N, 2) px."""
    left, top = np.floor(points.min(axis=0)) - 1
    right, bottom = np.ceil(points.max(axis=0)) + 2
    return int(left), int(top), int(right), int(bottom)


def clip_area(area: Area, size: tuple[int, int]) -> Area:
    """Return the part of an area in a picture of (width, height) px; at least its nearest pixel."""
    left, top, right, bottom = area
    width, height = size
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)


def subtract_area(area: Area, hole: Area) -> list[Area]:
    """Return the up to four areas that an area has beyond another one."""
    left, top, right, bottom = area
    x0, y0, x1, y1 = (
        max(left, hole[0]),
        max(top, hole[1]),
        min(right, hole[2]),
        min(bottom, hole[3]),
    )
    if x0 >= x1 or y0 >= y1:
        return [area]
    parts = [(left, top, right, y0), (left, y1, right, bottom)]
    parts += [(left, y0, x0, y1), (x1, y0, right, y1)]
    return [part for part in parts if part[0] < part[2] and part[1] < part[3]]
