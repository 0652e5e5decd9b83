"""A picture that becomes RGB where it is looked at; knows nothing of where it comes from.

Turning a decoded frame into RGB exactly costs more than decoding it, and of most frames a stage
wants no more than a face. So frames travel as views, and whoever looks says where.

Convention:
    An area is in px: left, top, right, bottom; the ends are excluded.
"""

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from faceswap_cli.arrays import Grey, Image

Area: TypeAlias = tuple[int, int, int, int]
"""A part of a picture, px: left, top, right, bottom; the ends are excluded."""


class View(Protocol):
    """A picture, upright; any number of threads may look at once."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""

    def whole(self) -> Image:
        """Return all of it; not to be written to."""

    def showing(self, area: Area) -> Image:
        """Return an array of the whole picture's shape that is right inside `area`.

        What lies outside is anything, and may change. Not to be written to.
        """

    def grey(self, step: int) -> Grey:
        """Return the light of every `step`-th pixel both ways, for telling pictures apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Still:
    """A picture that is there already."""

    image: Image

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        height, width = self.image.shape[:2]
        return width, height

    def whole(self) -> Image:
        """Return the picture."""
        return self.image

    def showing(self, _: Area) -> Image:
        """Return the picture."""
        return self.image

    def grey(self, step: int) -> Grey:
        """Return the luma of every `step`-th pixel both ways."""
        some = np.ascontiguousarray(self.image[::step, ::step])
        return np.asarray(cv2.cvtColor(some, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def clipped(area: Area, size: tuple[int, int]) -> Area:
    """Return the part of an area in a picture of (width, height) px; at least its nearest pixel."""
    left, top, right, bottom = area
    width, height = size
    left, top = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    return left, top, max(min(right, width), left + 1), max(min(bottom, height), top + 1)


def beyond(area: Area, hole: Area) -> list[Area]:
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
