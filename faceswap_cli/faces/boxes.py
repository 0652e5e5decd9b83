"""Boxes around faces, and whether two of them are of one face."""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
"""float32 (..., 4): x0, y0, x1, y1, px."""

IOU_THRESHOLD = 0.3
"""Two boxes are of one face if their intersection over union is larger than this."""


def compute_iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Return the intersections over unions (...) of boxes (..., 4); the shapes are broadcast."""
    shared = _compute_shared(boxes, others)
    both = compute_area(boxes) + compute_area(others)
    return np.asarray(shared / np.maximum(both - shared, 1e-6), dtype=np.float32)


def compute_area(boxes: Boxes) -> npt.NDArray[np.float32]:
    """Return the areas (...) of boxes (..., 4), px²."""
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1))


def compute_overlap(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Return the parts (...) of the smaller one of two boxes (..., 4) that the other one covers."""
    smaller = np.minimum(compute_area(boxes), compute_area(others))
    return np.asarray(_compute_shared(boxes, others) / np.maximum(smaller, 1e-6), dtype=np.float32)


def _compute_shared(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float32]:
    """Return the areas (...) that two boxes (..., 4) share, px²."""
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., 2:], others[..., 2:])
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=-1))
