"""Whether teeth are visible: `teeth_area` of an image, `teeth_error` of two videos.

Teeth are what is between the inner lips, not dark as the throat and less red than the skin: neither
tongue nor lips. Compared with a person's own cheeks, whatever their skin and the light are.
"""

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.metrics.artifacts import to_lab
from faceswap_cli.evaluation.metrics.motion_fidelity import MOUTH_CORNERS
from faceswap_cli.faces.alignment import align_face, transform_points
from faceswap_cli.faces.masks import INNER_LIPS, rasterize_polygons

Array = npt.NDArray[np.float64]

CROP_PX = 256
"""Side of the crop in which pixels are counted."""
CHEEKS = (50, 280, 205, 425, 117, 346)
"""Landmarks on the cheeks."""
PATCH_PX = 2
"""Half the side of the patch around each."""
MIN_LIGHTNESS, MIN_LESS_RED = 0.45, 3.0
"""L* of teeth is at least this part of the cheeks', and a* less than theirs by this."""
VISIBLE_AREA = 0.005
"""Area of visible teeth from which on they count as visible."""


def teeth_area(image: Image, landmarks: Points) -> float:
    """Return the area of the visible teeth over the square of the mouth's inner width.

    Args:
        image: RGB uint8 (H, W, 3).
        landmarks: (478, 2) px in it.
    """
    alignment = align_face(landmarks)
    crop = to_lab(alignment.crop(image, CROP_PX))
    points = transform_points(landmarks, alignment.frame_to_crop(CROP_PX))
    cheeks = np.median([_patch_mean(crop, points[index]) for index in CHEEKS], axis=0)
    is_inside = rasterize_polygons([landmarks[list(INNER_LIPS)]], alignment, CROP_PX) > 0.5
    is_tooth = (
        is_inside
        & (crop[..., 0] > MIN_LIGHTNESS * cheeks[0])
        & (crop[..., 1] < cheeks[1] - MIN_LESS_RED)
    )
    left, right = points[list(MOUTH_CORNERS)]
    width = max(float(np.linalg.norm(right - left)), 1.0)
    return float(is_tooth.sum() / width**2)


def teeth_error(areas: Array, driving: Array) -> Array:
    """Return whether teeth are visible in one of two videos only, 0 or 1 (T,); NaN where unknown.

    A difference in area of less than `VISIBLE_AREA` is none, on whichever side of it.
    """
    differs = ((areas > VISIBLE_AREA) != (driving > VISIBLE_AREA)) & (
        np.abs(areas - driving) > VISIBLE_AREA
    )
    return np.where(np.isnan(areas) | np.isnan(driving), np.nan, differs.astype(np.float64))


def _patch_mean(crop: npt.NDArray[np.float32], point: Points) -> npt.NDArray[np.float32]:
    """Return the mean color (3,) around a point, within the crop."""
    column, row = np.clip(np.round(point), PATCH_PX, CROP_PX - 1 - PATCH_PX).astype(int)
    patch = crop[row - PATCH_PX : row + PATCH_PX + 1, column - PATCH_PX : column + PATCH_PX + 1]
    return np.asarray(patch.mean(axis=(0, 1)), dtype=np.float32)
