"""Boxes around faces, and whether two of them are of one face."""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
"""float32 (..., 4): x0, y0, x1, y1, px."""

IOU_THRESHOLD = 0.3
"""Two boxes are of one face if their intersection over union is larger than this."""


def compute_iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Return the intersections over unions (...) of boxes (..., 4); the shapes are broadcast."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    both = compute_area(boxes) + compute_area(others)
    return np.asarray(shared / np.maximum(both - shared, 1e-6), dtype=np.float32)


def compute_area(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return the areas (...) of boxes (..., 4), px²."""
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))
