"""What gives a swap away on the surface: an edge, a colour, a blur; and whether it is one at all.

Every measure here compares a crop of the swapped footage with the same place in the original, so
that what was there before the swap counts for nothing.

Convention:
    Crops are RGB uint8 (S, S, 3), or what `lab` makes of them; a face's mask is float32 (S, S) in
    [0, 1]. Distances between colours are CIE76 delta E.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Image, Mask

Lab = npt.NDArray[np.float32]
"""float32 (S, S, 3): L* 0 to 100, a*, b*."""
ZoneMask = npt.NDArray[np.bool_]
"""Which pixels (S, S) belong to it."""

SEAM_HALF_WIDTH = 3 / 256
"""Half the width of the ring along the mask's border, in sides of the crop."""
BAND_LIMITS = (3 / 256, 14 / 256)
"""Where the bands on both sides of the border begin and end, in sides of the crop."""
SECTOR_COUNT = 24
"""Parts of the border that are compared on their own: light falls from one side, and where the
border runs along hair or collar an edge is no fault."""
DENOISE_SIGMA = 1.2 / 256
"""Deviation of the blur that takes a camera's noise out of what counts as detail, in sides."""
CHANGED_LEVELS, CHANGED_RATIO = 0.7, 1.3
"""A face was changed if inside it the footage differs by this much more than around it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceZones:
    """Parts of a crop, all from the face's mask."""

    face: ZoneMask
    seam: ZoneMask
    """A narrow ring along the border."""
    inner: ZoneMask
    """A band inside the border."""
    outer: ZoneMask
    """A band outside it."""
    sector: npt.NDArray[np.int64]
    """Which way from the middle of the face a pixel lies, 0 to `SECTORS` - 1."""

    @classmethod
    def from_mask(cls, mask: Mask) -> Self:
        """Return the zones of a face's mask."""
        side = mask.shape[0]
        face = (mask >= 0.5).astype(np.uint8)
        inwards, outwards = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (face, 1 - face))
        away = np.maximum(inwards, outwards)
        band = (away >= BAND_LIMITS[0] * side) & (away < BAND_LIMITS[1] * side)
        rows, columns = np.nonzero(face)
        middle = (columns.mean(), rows.mean()) if len(rows) else (side / 2, side / 2)
        return cls(
            face=face > 0,
            seam=away <= SEAM_HALF_WIDTH * side,
            inner=band & (face > 0),
            outer=band & (face == 0),
            sector=_sectors(side, *(round(value) for value in middle)),
        )


@lru_cache(maxsize=32)
def _sectors(side: int, x: int, y: int) -> npt.NDArray[np.int64]:
    """Return the sector of each pixel around (x, y)."""
    rows, columns = np.mgrid[:side, :side]
    turn = np.arctan2(rows - y, columns - x) / (2 * np.pi) + 0.5
    return np.asarray(np.minimum((turn * SECTOR_COUNT).astype(np.int64), SECTOR_COUNT - 1))


def to_lab(image: Image) -> Lab:
    """Return a crop in CIELAB."""
    scaled = image.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), dtype=np.float32)


def seam_gradient(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return how much steeper colours change along the border than before, delta E a pixel.

    Sector by sector, what became smoother counts for nothing; then the mean of the sectors.
    """
    new, old = (
        _sector_means(_color_gradient(picture)[..., None], zones.seam, zones.sector)
        for picture in (swapped, original)
    )
    return float(np.nanmean(np.maximum(new - old, 0)))


def seam_color_step(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return how far the step in colour across the border is from the original's, delta E.

    A sector's step is the mean of the band inside less that of the band outside.
    """
    new, old = (
        _sector_means(picture, zones.inner, zones.sector)
        - _sector_means(picture, zones.outer, zones.sector)
        for picture in (swapped, original)
    )
    return float(np.nanmean(np.linalg.norm(new - old, axis=1)))


def color_offset(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return how far the whole face's mean colour moved against its surroundings', delta E.

    The surroundings are the band just outside the mask: forehead, temples, jaw and neck.
    """
    new, old = (
        picture[zones.face].mean(axis=0) - picture[zones.outer].mean(axis=0)
        for picture in (swapped, original)
    )
    return float(np.linalg.norm(new - old))


def sharpness_ratio(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return the detail in the face over that around it, against the original's; 1 is as sharp.

    Detail is the deviation of the Laplacian of the lightness, the measure of J. L. Pech-Pacheco et
    al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, after a blur that takes out
    the grain: a network does not draw a camera's noise, and is not to be blamed for that.
    """
    inside, outside = (
        _sharpness(swapped, zone) / max(_sharpness(original, zone), 1e-6)
        for zone in (zones.face, zones.outer)
    )
    return inside / max(outside, 1e-6)


def is_changed(swapped: Image, original: Image, zones: FaceZones) -> bool:
    """Whether the face was swapped, and not passed through: it differs more than what is around.

    Encoding changes a picture everywhere; a swap changes the face.
    """
    difference = cv2.absdiff(swapped, original).mean(axis=2)
    around = ~(zones.face | zones.seam | zones.outer)
    before = float(difference[around].mean()) if around.any() else 0.0
    return float(difference[zones.face].mean()) > CHANGED_RATIO * before + CHANGED_LEVELS


def _sector_means(
    values: npt.NDArray[np.float32], zone: ZoneMask, sector: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the means (SECTORS, C) of values (S, S, C) in a zone, NaN where it is empty."""
    where, inside = sector[zone], values[zone]
    count = np.bincount(where, minlength=SECTOR_COUNT).astype(np.float64)
    count[count == 0] = np.nan
    sums = [np.bincount(where, channel, minlength=SECTOR_COUNT) for channel in inside.T]
    return np.stack(sums, axis=1) / count[:, None]


def _color_gradient(image: Lab) -> npt.NDArray[np.float32]:
    """Return how steeply colours change, delta E a pixel (S, S)."""
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=2)), dtype=np.float32)


def _sharpness(image: Lab, zone: ZoneMask) -> float:
    """Return the deviation of the lightness's Laplacian in a zone."""
    sigma = DENOISE_SIGMA * image.shape[0]
    smooth = cv2.GaussianBlur(image[..., 0], (0, 0), sigma)
    return float(cv2.Laplacian(smooth, cv2.CV_32F)[zone].std())
