"""Images that become RGB only where they are read, and the rectangles that say where.

Converting a decoded frame into RGB exactly costs more than decoding it, and of most frames a stage
needs no more than a face. So frames travel as `LazyImage`, and each reader names its rectangle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from faceswap_cli.core.types import Gray, Image, Points


class Rect(NamedTuple):
    """Part of an image, px: columns `left` to `right`, rows `top` to `bottom`, ends excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @classmethod
    def from_size(cls, size: tuple[int, int]) -> "Rect":
        """Return the whole of an image of (width, height) px."""
        return cls(0, 0, *size)

    @classmethod
    def from_points(cls, points: Points) -> "Rect":
        """Return all pixels read when an image is sampled between points (N, 2) px."""
        left, top = np.floor(points.min(axis=0)) - 1
        right, bottom = np.ceil(points.max(axis=0)) + 2
        return cls(int(left), int(top), int(right), int(bottom))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px; never negative."""
        return max(0, self.right - self.left), max(0, self.bottom - self.top)

    @property
    def slices(self) -> tuple[slice, slice]:
        """(rows, columns): `image[rect.slices]` is this part of an image, as a view."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def clip(self, size: tuple[int, int]) -> "Rect":
        """Return the part inside an image of (width, height) px; it may be empty."""
        width, height = size
        left, top = min(max(self.left, 0), width), min(max(self.top, 0), height)
        return Rect(
            left, top, max(min(self.right, width), left), max(min(self.bottom, height), top)
        )

    def clip_nonempty(self, size: tuple[int, int]) -> "Rect":
        """Return the part inside an image of (width, height) px, or the image's nearest pixel."""
        width, height = size
        left = min(max(self.left, 0), width - 1)
        top = min(max(self.top, 0), height - 1)
        right, bottom = min(self.right, width), min(self.bottom, height)
        return Rect(left, top, max(right, left + 1), max(bottom, top + 1))

    def subtract(self, hole: "Rect") -> list["Rect"]:
        """Return the up to four rectangles that cover this one outside `hole`."""
        left, top, right, bottom = self
        x0, y0 = max(left, hole.left), max(top, hole.top)
        x1, y1 = min(right, hole.right), min(bottom, hole.bottom)
        if x0 >= x1 or y0 >= y1:
            return [self]
        parts = [Rect(left, top, right, y0), Rect(left, y1, right, bottom)]
        parts += [Rect(left, y0, x0, y1), Rect(x1, y0, right, y1)]
        return [part for part in parts if 0 not in part.size]


class LazyImage(Protocol):
    """An upright image; any number of threads may read it at once."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""

    def to_array(self) -> Image:
        """Return the whole image, uint8 (H, W, 3); read-only."""

    def to_partial_array(self, area: Rect) -> Image:
        """Return an array of the whole image's shape, valid inside `area` only; read-only.

        Values outside `area` are undefined and may change.
        """

    def sample_luma(self, step: int) -> Gray:
        """Return the luma of every `step`-th pixel in both directions, for comparing images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ArrayImage:
    """An image that is in memory."""

    image: Image

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        height, width = self.image.shape[:2]
        return width, height

    def to_array(self) -> Image:
        """Return the image."""
        return self.image

    def to_partial_array(self, _: Rect) -> Image:
        """Return the image."""
        return self.image

    def sample_luma(self, step: int) -> Gray:
        """Return the luma of every `step`-th pixel in both directions."""
        some = np.ascontiguousarray(self.image[::step, ::step])
        return np.asarray(cv2.cvtColor(some, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def as_lazy(image: Image | LazyImage) -> LazyImage:
    """Return `image` as a `LazyImage`."""
    return ArrayImage(image=image) if isinstance(image, np.ndarray) else image


@dataclass(frozen=True, kw_only=True, eq=False)
class Patch:
    """New pixels for a part of an image."""

    area: Rect
    """Its position; within the image."""
    image: Image
    """uint8 (H, W, 3), of the area's size."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchedImage:
    """An image with patches over it, the last on top."""

    base: LazyImage
    patches: Sequence[Patch]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px."""
        return self.base.size

    def to_array(self) -> Image:
        """Return the whole image; without patches, the base's own array."""
        return self.to_partial_array(Rect.from_size(self.size))

    def to_partial_array(self, area: Rect) -> Image:
        """Return an array of the whole image's shape, valid inside `area` only."""
        overlapping = [patch for patch in self.patches if [area] != area.subtract(patch.area)]
        image = self._read_base(area)
        if not overlapping:
            return image
        patched = np.empty_like(image)
        inside = area.clip_nonempty(self.size).slices
        patched[inside] = image[inside]
        for patch in overlapping:
            patched[patch.area.slices] = patch.image
        return patched

    def sample_luma(self, step: int) -> Gray:
        """Return the luma of every `step`-th pixel in both directions."""
        return (
            ArrayImage(image=self.to_array()).sample_luma(step)
            if self.patches
            else self.base.sample_luma(step)
        )

    def _read_base(self, area: Rect) -> Image:
        """Return the base's pixels in `area`."""
        if area == Rect.from_size(self.size):
            return self.base.to_array()
        return self.base.to_partial_array(area)
