"""Where in a crop eyes and mouth are: what people look at first, and networks blur last."""

import numpy as np

from faceswap_cli.core.types import Mask, Points
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.masks import rasterize_polygons

# fmt: off
EYELIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)
# fmt: on
"""MediaPipe's outlines of lids and lips, around each."""

OUTLINE_SCALE = 1.3
"""Size of what is marked as a multiple of the outline: lashes, creases and corners belong to it."""


def eyes_mouth_mask(landmarks: Points, alignment: FaceAlignment, size: int) -> Mask:
    """Return 1 on eyes and mouth as they lie in a crop of `size` px, antialiased."""
    outlines = [landmarks[list(places)] for places in (*EYELIDS, OUTER_LIPS)]
    return rasterize_polygons([enlarge_outline(outline) for outline in outlines], alignment, size)


def enlarge_outline(outline: Points) -> Points:
    """Return an outline (K, 2) enlarged about its middle."""
    middle = outline.mean(axis=0)
    return np.asarray(middle + OUTLINE_SCALE * (outline - middle), dtype=np.float32)
