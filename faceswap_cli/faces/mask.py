"""What part of a crop is face: the outline of the landmarks, filled; nothing of blending."""

from collections.abc import Sequence

import cv2
import numpy as np

from faceswap_cli.arrays import Mask, Points
from faceswap_cli.faces.align import FaceAlignment, transform

# fmt: off
OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
# fmt: on
"""MediaPipe's face oval: from the top of the forehead clockwise as seen in the image."""

FOLD = 4
"""The polygon is filled this many times finer than the mask, then averaged.

OpenCV fills the pixels that the border touches as well, so the mask is 1 / (2 FOLD) px wider all
around than the polygon.
"""
SUBPIXEL_BITS = 4
"""OpenCV takes polygon corners in 1/16 px."""


def oval(landmarks: Points) -> Points:
    """Return the face's outline, forehead included, float32 (36, 2), px in the frame."""
    return landmarks[list(OVAL)]


def silhouette(landmarks: Points) -> Points:
    """Return the outline widened to hold every landmark, float32 (K, 2): their convex hull.

    On a face seen from the front it is the oval. When the head turns, nose, lips and brow come
    out on its far side, and would stay those of the other person: at 45 degrees the oval holds
    73 % of a drawn face and the hull 90 %, with 1.6 % of the hull on the background.
    """
    hull = cv2.convexHull(landmarks.astype(np.float32), clockwise=False)
    return np.asarray(hull[:, 0], dtype=np.float32)


def oval_mask(landmarks: Points, alignment: FaceAlignment, size: int) -> Mask:
    """Return the filled silhouette as it lies in a crop of `size` px, antialiased."""
    return filled([silhouette(landmarks)], alignment, size)


def filled(outlines: Sequence[Points], alignment: FaceAlignment, size: int) -> Mask:
    """Return polygons (K, 2), px in the frame, filled as they lie in a crop, antialiased."""
    fine = np.zeros((size * FOLD, size * FOLD), dtype=np.uint8)
    for outline in outlines:
        placed = transform(outline, alignment.matrix(size * FOLD))
        corners = np.round(placed * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(fine, [corners], color=[255], shift=SUBPIXEL_BITS)
    mask = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(mask / 255, dtype=np.float32)
