"""How good a crop is for training: numbers to sort by, no judgement."""

import cv2
import numpy as np

from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.masks import convex_hull

INNER_FRACTION = 0.6
"""Part of the crop's side that is looked at: the face without its background."""
ANALYSIS_PX = 96
"""The inner part is brought to this size first, so that crops of any size compare."""


def measure_sharpness(crop: Image) -> float:
    """Return the variance of the Laplacian of the luma inside the face; small is blurred.

    The measure is that of J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield
    microscopy", ICPR 2000. Luma is 0 to 255.
    """
    margin = round(crop.shape[0] * (1 - INNER_FRACTION) / 2)
    inner = crop[margin : crop.shape[0] - margin, margin : crop.shape[1] - margin]
    luma = cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY)
    fixed = cv2.resize(luma, (ANALYSIS_PX, ANALYSIS_PX), interpolation=cv2.INTER_AREA)
    return float(np.var(cv2.Laplacian(fixed, cv2.CV_64F)))


def measure_cut_off(landmarks: Points, size: tuple[int, int]) -> float:
    """Return the part of a face's area that lies outside its frame, 0 to 1.

    Landmarks are placed beyond the frame's edge too; a crop only repeats the edge there.

    Args:
        landmarks: (478, 2) px in the frame.
        size: (width, height) px of the frame.
    """
    width, height = size
    # The first pixel covers -0.5 to 0.5.
    frame = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    outline = convex_hull(landmarks)
    inside, _ = cv2.intersectConvexConvex(outline, frame)
    area = cv2.contourArea(outline)
    return float(np.clip(1 - inside / area, 0, 1)) if area > 0 else 0.0
