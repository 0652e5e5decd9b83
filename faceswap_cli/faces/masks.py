"""Masks of the face, mouth and eyes in a crop, drawn from landmarks or predicted by a network.

Masks from landmarks ignore occlusion: what is in front of the face, `occlusion` finds. See
docs/guide/compositing.md.
"""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.types import Mask, Points
from faceswap_cli.faces import VISIBLE_MASK
from faceswap_cli.faces.alignment import FaceAlignment, transform_points

# fmt: off
FACE_OVAL = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
    152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)
"""MediaPipe's face oval: from the top of the forehead clockwise as seen in the image."""
FOREHEAD = frozenset((
    10, 109, 67, 103, 54, 21, 338, 297, 332, 284, 251,
    151, 108, 69, 104, 68, 337, 299, 333, 298, 71, 301, 9, 8, 139, 368,
))
"""The landmarks above the brows."""
HAIRLINE = (54, 103, 67, 109, 10, 338, 297, 332, 284)
"""The landmarks along the top of the forehead: on most faces it ends above them."""
ABOVE_BROWS = (
    (63, 68), (105, 104), (66, 69), (107, 108), (9, 151),
    (336, 337), (296, 299), (334, 333), (293, 298),
)
"""Pairs: a landmark on the upper edge of the brows, and the one above it on the forehead."""
EYELIDS = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
"""The outlines of both eyes, each once around; the image's left eye first."""
OUTER_LIPS = (
    61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
)
"""The outer edge of the lips, once around."""
INNER_LIPS = (
    78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
)
"""The inner edge of the lips, once around."""
# fmt: on
HAIRLINE_RAISE = 0.5
"""How far above its landmarks a forehead may reach, as a part of their distance from the brows.
More finds no more forehead on synthetic people, and more of what is none."""
BROW_MARGIN = 0.35
"""How far a mask without the forehead reaches up it, from the brows to the landmarks above them:
brows must be whole."""
OUTLINE_SCALE = 1.3
"""Eyes and mouth are marked larger than their outlines: lashes, creases and corners belong to them.
"""

MASK_PX = 128
"""Side of the square in which masks are built and shaped: their edge is soft, so they may be
enlarged."""
SUPERSAMPLING = 4
"""Polygons are filled this many times finer than the mask, then averaged.

OpenCV fills the pixels that the border touches as well, so the mask is 1 / (2 SUPERSAMPLING) px
wider all around than the polygon.
"""
SUBPIXEL_BITS = 4
"""OpenCV takes polygon corners in 1/16 px."""


def face_oval(landmarks: Points) -> Points:
    """Return the face's outline, forehead included, float32 (36, 2), px in the frame."""
    return landmarks[list(FACE_OVAL)]


def convex_hull(landmarks: Points) -> Points:
    """Return the convex hull of all landmarks, float32 (K, 2): the outline of the face.

    On a frontal face it is the oval. When the head turns, nose, lips and brow protrude from the
    oval's far side and would not be swapped: at 45 degrees the oval covers 73 % of a synthetic
    face and the hull 90 %, with 1.6 % of the hull on the background.
    """
    hull = cv2.convexHull(landmarks.astype(np.float32), clockwise=False)
    return np.asarray(hull[:, 0], dtype=np.float32)


def face_mask(
    landmarks: Points, alignment: FaceAlignment, size: int = MASK_PX, *, forehead: bool = True
) -> Mask:
    """Return the filled convex hull of a face in a crop of `size` px, antialiased.

    Args:
        landmarks: (478, 2) px in the frame.
        alignment: The crop's square in the frame.
        size: Side of the mask, px.
        forehead: Whether it includes the forehead, where bangs often hang.
    """
    points = landmarks
    if not forehead:
        lower = [index for index in range(len(landmarks)) if index not in FOREHEAD]
        brows, above = (landmarks[list(row)] for row in zip(*ABOVE_BROWS, strict=True))
        points = np.concatenate([landmarks[lower], brows + BROW_MARGIN * (above - brows)])
    return rasterize_polygons([convex_hull(points)], alignment, size)


def raised_face_mask(landmarks: Points, alignment: FaceAlignment, size: int = MASK_PX) -> Mask:
    """Return the filled hull of a face whose forehead reaches as far up as any does.

    Hair is in it on most heads: `SeenFace.find_face` leaves that out.
    """
    brows = landmarks[[lower for lower, _ in ABOVE_BROWS]].mean(axis=0)
    raised = landmarks[list(HAIRLINE)] + HAIRLINE_RAISE * (landmarks[HAIRLINE[4]] - brows)
    hull = convex_hull(np.concatenate([landmarks, raised]))
    return rasterize_polygons([hull], alignment, size)


def mouth_mask(landmarks: Points, alignment: FaceAlignment, size: int = MASK_PX) -> Mask:
    """Return the opening between the lips in a crop of `size` px; all 0 if they are closed.

    As `protect_mask` of `Compositor` it preserves the frame's own teeth and tongue, which networks
    render worst of all.
    """
    return rasterize_polygons([landmarks[list(INNER_LIPS)]], alignment, size)


def eyes_mouth_mask(landmarks: Points, alignment: FaceAlignment, size: int) -> Mask:
    """Return 1 on eyes and mouth in a crop of `size` px, antialiased.

    Training can weight them more: they are what viewers look at first.
    """
    outlines = [landmarks[list(indices)] for indices in (*EYELIDS, OUTER_LIPS)]
    return rasterize_polygons([enlarge_outline(outline) for outline in outlines], alignment, size)


def enlarge_outline(outline: Points) -> Points:
    """Return an outline (K, 2) enlarged by `OUTLINE_SCALE` about its mean."""
    center = outline.mean(axis=0)
    return np.asarray(center + OUTLINE_SCALE * (outline - center), dtype=np.float32)


def _use_oval(oval: Mask, _: Mask | None) -> Mask:
    """Return the oval alone."""
    return oval


def _use_learned(oval: Mask, learned: Mask | None) -> Mask:
    """Return the predicted mask at the oval's size.

    Raises:
        ConfigurationError: The model predicts none.
    """
    if learned is None:
        raise ConfigurationError(
            "this model predicts no mask",
            hint="choose --mask oval, or a preset that predicts masks",
        )
    return _resize_mask(learned, oval.shape[0])


def intersect_masks(oval: Mask, learned: Mask | None) -> Mask:
    """Return the product of both masks, at the oval's size; the oval if no mask was predicted."""
    return oval if learned is None else oval * _resize_mask(learned, oval.shape[0])


def _resize_mask(mask: Mask, size: int) -> Mask:
    resized = cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, dtype=np.float32)


MASK_MODES: Mapping[str, Callable[[Mask, Mask | None], Mask]] = {
    VISIBLE_MASK: intersect_masks,
    "both": intersect_masks,
    "oval": _use_oval,
    "learned": _use_learned,
}
"""`MASK_MODES[name](oval, learned)`: where the swap is visible, by the values of `--mask`; what is
in front of the face is left out of `visible` besides.

`oval` is float32 (M, M), as is the result; `learned` is of any size, None for a model without one.
"""


def rasterize_polygons(polygons: Sequence[Points], alignment: FaceAlignment, size: int) -> Mask:
    """Return polygons (K, 2), px in the frame, filled in a crop of `size` px, antialiased."""
    fine = np.zeros((size * SUPERSAMPLING, size * SUPERSAMPLING), dtype=np.uint8)
    for polygon in polygons:
        projected = transform_points(polygon, alignment.frame_to_crop(size * SUPERSAMPLING))
        corners = np.round(projected * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(fine, [corners], color=[255], shift=SUBPIXEL_BITS)
    mask = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(mask / 255, dtype=np.float32)
