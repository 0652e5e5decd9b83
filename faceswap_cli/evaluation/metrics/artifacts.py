"""Visible artifacts of a swap: seam, color, sharpness; and whether a face was swapped at all.

Every metric compares a crop of the swapped frame with the same crop of the original, so that what
was there before the swap does not count.

Convention:
    Crops are RGB uint8 (S, S, 3), or their `to_lab`; a face's mask is float32 (S, S) in [0, 1].
    Color differences are CIE76 delta E.
"""

import math
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
"""bool (S, S)."""

SEAM_HALF_WIDTH = 3 / 256
"""Half the width of the ring along the mask's border, as a fraction of the crop's side."""
BAND_LIMITS = (3 / 256, 14 / 256)
"""Distances of the bands on both sides of the border, as fractions of the crop's side."""
SECTOR_COUNT = 24
"""Sectors of the border, each compared with itself: light falls from one side, and an edge along
hair or collar is no artifact."""
DENOISE_SIGMA = 1.2 / 256
"""Deviation of the blur that removes noise before sharpness, as a fraction of the crop's side."""
MIN_IN_FRONT = 0.01
"""Part of a face that something in front of it covers at least, to be looked at."""
PAINTED_LEVELS = 12
"""A pixel differs by more than this in some channel where it was painted over; encoding changes
fewer levels."""
CHANGED_LEVELS, CHANGED_RATIO = 0.7, 1.3
"""A face is changed if it differs by more than this ratio times its surroundings' difference, plus
these levels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceZones:
    """Zones of a crop, from the face's mask."""

    face: ZoneMask
    seam: ZoneMask
    """A narrow ring along the border."""
    inner: ZoneMask
    """A band inside the border."""
    outer: ZoneMask
    """A band outside it."""
    sector: npt.NDArray[np.int64]
    """Sector of each pixel around the middle of the face, 0 to `SECTOR_COUNT` - 1."""

    @classmethod
    def from_mask(cls, mask: Mask) -> Self:
        """Return the zones of a face's mask."""
        side = mask.shape[0]
        face = (mask >= 0.5).astype(np.uint8)
        inside, outside = (cv2.distanceTransform(one, cv2.DIST_L2, 5) for one in (face, 1 - face))
        distance = np.maximum(inside, outside)
        band = (distance >= BAND_LIMITS[0] * side) & (distance < BAND_LIMITS[1] * side)
        rows, columns = np.nonzero(face)
        middle = (columns.mean(), rows.mean()) if len(rows) else (side / 2, side / 2)
        return cls(
            face=face > 0,
            seam=distance <= SEAM_HALF_WIDTH * side,
            inner=band & (face > 0),
            outer=band & (face == 0),
            sector=_sectors(side, *(round(value) for value in middle)),
        )


@lru_cache(maxsize=32)
def _sectors(side: int, x: int, y: int) -> npt.NDArray[np.int64]:
    """Return the sector of each pixel around (x, y)."""
    rows, columns = np.mgrid[:side, :side]
    turns = np.arctan2(rows - y, columns - x) / (2 * np.pi) + 0.5
    return np.asarray(np.minimum((turns * SECTOR_COUNT).astype(np.int64), SECTOR_COUNT - 1))


def to_lab(image: Image) -> Lab:
    """Return a crop in CIELAB."""
    scaled = image.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), dtype=np.float32)


def seam_gradient(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return the increase of the color gradient along the border, delta E per px.

    The mean over sectors; a sector that became smoother counts 0.
    """
    new, old = (
        _sector_means(_color_gradient(image)[..., None], zones.seam, zones.sector)
        for image in (swapped, original)
    )
    return float(np.nanmean(np.maximum(new - old, 0)))


def seam_color_step(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return the change of the color step across the border, delta E, mean over sectors.

    A sector's step is the mean of the band inside less that of the band outside.
    """
    new, old = (
        _sector_means(image, zones.inner, zones.sector)
        - _sector_means(image, zones.outer, zones.sector)
        for image in (swapped, original)
    )
    return float(np.nanmean(np.linalg.norm(new - old, axis=1)))


def color_offset(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return the change of the face's mean color relative to its surroundings', delta E.

    The surroundings are the band just outside the mask: forehead, temples, jaw and neck.
    """
    new, old = (
        image[zones.face].mean(axis=0) - image[zones.outer].mean(axis=0)
        for image in (swapped, original)
    )
    return float(np.linalg.norm(new - old))


def sharpness_ratio(swapped: Lab, original: Lab, zones: FaceZones) -> float:
    """Return the sharpness of the face over that of its surroundings, relative to the original.

    Sharpness is the deviation of the Laplacian of the lightness, the measure of J. L. Pech-Pacheco
    et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000, after a blur that removes
    grain: a network does not generate noise, which is no artifact.
    """
    inside, outside = (
        _sharpness(swapped, zone) / max(_sharpness(original, zone), 1e-6)
        for zone in (zones.face, zones.outer)
    )
    return inside / max(outside, 1e-6)


def painted_over(swapped: Image, original: Image, zones: FaceZones, occlusion: Mask) -> float:
    """Return the part of what is in front of the face that the swap changed, percent.

    NaN where there is next to nothing in front of it.

    Args:
        swapped: The crop of the swapped frame.
        original: The crop of the original.
        zones: Of the face's outline.
        occlusion: float32 (S, S): 1 where something is in front of the face in the original.
    """
    in_front = zones.face & (occlusion > 0.5)
    if in_front.sum() < MIN_IN_FRONT * zones.face.sum():
        return math.nan
    difference = cv2.absdiff(swapped, original).max(axis=2)
    return 100 * float((difference[in_front] > PAINTED_LEVELS).mean())


def is_changed(
    swapped: Image, original: Image, zones: FaceZones, *, area: ZoneMask | None = None
) -> bool:
    """Return whether the face was swapped: it differs more than its surroundings.

    Encoding changes an image everywhere; a swap changes the face.

    Args:
        swapped: The crop of the swapped frame.
        original: The same of the original.
        zones: Of the face.
        area: Where to look, instead of at the face.
    """
    area = zones.face if area is None else area
    difference = cv2.absdiff(swapped, original).mean(axis=2)
    around = ~(zones.face | zones.seam | zones.outer | area)
    background = float(difference[around].mean()) if around.any() else 0.0
    return float(difference[area].mean()) > CHANGED_RATIO * background + CHANGED_LEVELS


def _sector_means(
    values: npt.NDArray[np.float32], zone: ZoneMask, sector: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the means (SECTOR_COUNT, C) of values (S, S, C) in a zone, NaN for empty sectors."""
    where, inside = sector[zone], values[zone]
    count = np.bincount(where, minlength=SECTOR_COUNT).astype(np.float64)
    count[count == 0] = np.nan
    sums = [np.bincount(where, channel, minlength=SECTOR_COUNT) for channel in inside.T]
    return np.stack(sums, axis=1) / count[:, None]


def _color_gradient(image: Lab) -> npt.NDArray[np.float32]:
    """Return the magnitude of the color gradient (S, S), delta E per px."""
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=1 / 8)
    return np.asarray(np.sqrt((across**2 + down**2).sum(axis=2)), dtype=np.float32)


def _sharpness(image: Lab, zone: ZoneMask) -> float:
    """Return the deviation of the lightness's Laplacian in a zone."""
    sigma = DENOISE_SIGMA * image.shape[0]
    smooth = cv2.GaussianBlur(image[..., 0], (0, 0), sigma)
    return float(cv2.Laplacian(smooth, cv2.CV_32F)[zone].std())
