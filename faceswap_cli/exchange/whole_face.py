"""The square of a face that a `.dfm` file gets, and resampling between it and a network's square.

Programs that run `.dfm` files crop faces by landmarks and templates of their own, in a framing that
is called the whole face. Their square and ours differ by a similarity that is nearly the same for
every frontal face, so a constant one is built into the exported graph.

Convention:
    Squares are given in the unit square of a face. Positions along an axis of an image are
    continuous, 0 to 1, so pixel `i` of `size` has its center at `(i + 0.5) / size`.
"""

import math

import numpy as np
import numpy.typing as npt

WHOLE_FACE_SIDE = 0.945
"""Side of the whole-face square, in sides of the unit square.

FaceFusion's template, fitted to the landmarks of two filmed and eight synthetic people, looking
within 15 degrees of the camera: 0.98, 0.92 and 0.94, with a deviation of 0.02 to 0.03 in each.
"""
WHOLE_FACE_CENTER = (0.507, 0.446)
"""Its center (x, y) in the unit square, from the same faces: theirs deviated by 0.005 to 0.012."""

SIZE_MULTIPLE_PX = 16
"""Sides of `.dfm` files are multiples of this, as those of the networks that they were made for."""
RAMP = 0.04
"""Width of the soft border of a network's square, as a part of its side."""

Weights = npt.NDArray[np.float32]


def whole_face_px(size_px: int, coverage: float) -> int:
    """Return the side of the whole-face square in which a network's square keeps its pixels.

    Args:
        size_px: Side of the network's square.
        coverage: Its side, as a part of the unit square's.
    """
    exact = size_px * WHOLE_FACE_SIDE / coverage
    return math.ceil(exact / SIZE_MULTIPLE_PX) * SIZE_MULTIPLE_PX


def network_interval(axis: int, coverage: float) -> tuple[float, float]:
    """Return where a network's square begins and ends along the whole-face square.

    Args:
        axis: 0 for x, 1 for y.
        coverage: Side of the network's square, which is central in the unit square.
    """
    offset = 0.5 - WHOLE_FACE_CENTER[axis]
    middle, half = 0.5 + offset / WHOLE_FACE_SIDE, coverage / WHOLE_FACE_SIDE / 2
    return middle - half, middle + half


def resampling_weights(interval: tuple[float, float], *, size_in: int, size_out: int) -> Weights:
    """Return weights (size_out, size_in) that resample an interval of an axis.

    Linear interpolation when it enlarges, a triangle filter as wide as an output pixel when it
    reduces. Beyond the input its last pixel repeats.

    Args:
        interval: Where the output begins and ends along the input.
        size_in: Pixels of the input.
        size_out: Pixels of the output.
    """
    positions = _positions(interval, size_out) * size_in - 0.5  # px of the input
    width = max(1.0, (interval[1] - interval[0]) * size_in / size_out)
    distance = np.abs(np.clip(positions, 0, size_in - 1)[:, None] - np.arange(size_in))
    weights = np.maximum(0.0, 1 - distance / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def inside_weights(interval: tuple[float, float], *, size: int) -> Weights:
    """Return (size,) weights: 1 inside an interval of an axis, 0 outside, with a soft border."""
    start, end = interval
    positions = _positions((0.0, 1.0), size)
    depth = np.minimum(positions - start, end - positions) / (RAMP * (end - start))
    return np.clip(depth, 0, 1).astype(np.float32)


def invert_interval(interval: tuple[float, float]) -> tuple[float, float]:
    """Return where the whole axis begins and ends, measured along an interval of it."""
    start, end = interval
    return -start / (end - start), (1 - start) / (end - start)


def _positions(interval: tuple[float, float], size: int) -> npt.NDArray[np.float64]:
    """Return the centers (size,) of pixels that cover an interval."""
    start, end = interval
    return start + (np.arange(size) + 0.5) / size * (end - start)
