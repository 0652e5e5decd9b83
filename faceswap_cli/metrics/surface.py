"""What gives a swap away on the surface: an edge, a colour, a blur; and whether it is one at all.

Every measure here compares a crop of the swapped footage with the same place in the original, so
that what was there before the swap counts for nothing.

Convention:
    Crops are RGB uint8 (S, S, 3); the face's mask is float32 (S, S) in [0, 1].
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.arrays import Image, Mask

EDGE = 3 / 256
"""Half the width of the ring along the mask's border, in sides of the crop."""
RIM = (3 / 256, 14 / 256)
"""Where the bands on both sides of the border begin and end, in sides of the crop."""
SECTORS = 12
"""Parts of the border that are compared on their own: light falls from one side."""
CHANGED_LEVELS, CHANGED_RATIO = 0.7, 1.3
"""A face was changed if inside it the footage differs by this much more than around it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Zones:
    """Parts of a crop, all from the face's mask; boolean (S, S)."""

    face: npt.NDArray[np.bool_]
    edge: npt.NDArray[np.bool_]
    """A narrow ring along the border."""
    inner: npt.NDArray[np.bool_]
    """A band inside the border."""
    outer: npt.NDArray[np.bool_]
    """A band outside it."""
    sector: npt.NDArray[np.int64]
    """Which way from the middle of the face a pixel lies, 0 to `SECTORS` - 1."""

    @classmethod
    def of(cls, mask: Mask) -> Self:
        """Return the zones of a face's mask."""
        side = mask.shape[0]
        face = (mask >= 0.5).astype(np.uint8)
        inwards = cv2.distanceTransform(face, cv2.DIST_L2, 5)
        outwards = cv2.distanceTransform(1 - face, cv2.DIST_L2, 5)
        away = inwards + outwards
        near, far = RIM[0] * side, RIM[1] * side
        rows, columns = np.nonzero(face)
        middle = (columns.mean(), rows.mean()) if len(rows) else (side / 2, side / 2)
        band = (away >= near) & (away < far)
        return cls(
            face=face > 0,
            edge=away <= EDGE * side,
            inner=band & (face > 0),
            outer=band & (face == 0),
            sector=_sectors(side, *(round(value) for value in middle)),
        )


@lru_cache(maxsize=32)
def _sectors(side: int, x: int, y: int) -> npt.NDArray[np.int64]:
    """Return the sector of each pixel around (x, y)."""
    rows, columns = np.mgrid[:side, :side]
    turn = np.arctan2(rows - y, columns - x) / (2 * np.pi) + 0.5
    return np.asarray(np.minimum((turn * SECTORS).astype(np.int64), SECTORS - 1))


def edge_ratio(swapped: Image, original: Image, zones: Zones) -> float:
    """Return the mean Sobel magnitude along the border over that of the original; 1 is no seam."""
    return _slope(swapped, zones.edge) / max(_slope(original, zones.edge), 1e-6)


def colour_step(swapped: Image, original: Image, zones: Zones) -> float:
    """Return how much the step in colour across the border grew or shrank, CIE76 delta E.

    The border is cut into sectors; each one's step, inside less outside in CIELAB, is compared
    with the original's own, and the lengths of the differences are averaged.
    """
    new, old = lab(swapped), lab(original)
    steps = []
    for sector in range(SECTORS):
        here = zones.sector == sector
        inner, outer = zones.inner & here, zones.outer & here
        if inner.any() and outer.any():
            step = new[inner].mean(axis=0) - new[outer].mean(axis=0)
            own = old[inner].mean(axis=0) - old[outer].mean(axis=0)
            steps.append(float(np.linalg.norm(step - own)))
    return float(np.mean(steps)) if steps else float("nan")


def colour_gap(swapped: Image, original: Image, zones: Zones) -> float:
    """Return how far the whole face's mean colour moved against its surroundings', delta E.

    The surroundings are the band just outside the mask: forehead, temples, jaw and neck.
    """
    gaps = [
        picture[zones.face].mean(axis=0) - picture[zones.outer].mean(axis=0)
        for picture in (lab(swapped), lab(original))
    ]
    return float(np.linalg.norm(gaps[0] - gaps[1]))


def detail_ratio(swapped: Image, original: Image, zones: Zones) -> float:
    """Return the detail in the face over that around it, against the original's; 1 is as sharp.

    Detail is the variance of the Laplacian of the luma: J. L. Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy", ICPR 2000.
    """
    inside, outside = (
        _detail(swapped, zone) / max(_detail(original, zone), 1e-6)
        for zone in (zones.face, zones.outer)
    )
    return inside / max(outside, 1e-6)


def is_changed(swapped: Image, original: Image, zones: Zones) -> bool:
    """Whether the face was swapped, and not passed through: it differs more than what is around.

    Encoding changes a picture everywhere; a swap changes the face.
    """
    difference = cv2.absdiff(swapped, original).mean(axis=2)
    inside, outside = (
        float(difference[zones.inner | zones.face].mean()),
        _outside(difference, zones),
    )
    return inside > CHANGED_RATIO * outside + CHANGED_LEVELS


def lab(image: Image) -> npt.NDArray[np.float32]:
    """Return a picture in CIELAB, L* 0 to 100, float32 (H, W, 3)."""
    scaled = image.astype(np.float32) / 255
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), dtype=np.float32)


def _outside(difference: npt.NDArray[np.float64], zones: Zones) -> float:
    """Return the mean difference outside the face, far enough from it for soft borders."""
    outside = ~(zones.face | zones.edge | zones.outer)
    return float(difference[outside].mean()) if outside.any() else 0.0


def _slope(image: Image, zone: npt.NDArray[np.bool_]) -> float:
    """Return the mean length of the luma's gradient in a zone, levels a pixel."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    across = cv2.Sobel(luma, cv2.CV_32F, 1, 0, scale=1 / 8)
    down = cv2.Sobel(luma, cv2.CV_32F, 0, 1, scale=1 / 8)
    return float(cv2.magnitude(across, down)[zone].mean())


def _detail(image: Image, zone: npt.NDArray[np.bool_]) -> float:
    """Return the variance of the luma's Laplacian in a zone, levels squared."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(luma, cv2.CV_32F)[zone].var())
