"""Solids seen from the front as opacity and height: tapered capsules, and unions of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.core.types import Mask
from faceswap_cli.synthetic.geometry import Floats, clip
from faceswap_cli.synthetic.occluders.layer import pixels_per_cm, plane_points, to_pixels

FAR_CM = -100.0
"""Height where there is nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Capsule:
    """A cone with round ends; x, y in the plane and z towards the camera, cm."""

    start: Floats
    """(3,)"""
    end: Floats
    """(3,)"""
    start_radius: float
    end_radius: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Relief:
    """What a union of solids looks like from the front."""

    opacity: Mask
    """float32 (S, S)."""
    height_cm: Floats
    """float32 (S, S): of the surface; smooth beyond the edge."""
    part: Floats
    """int (S, S): index of the capsule seen; -1 for none."""
    along: Floats
    """float32 (S, S): 0 at the start of that capsule, 1 at its end."""
    across: Floats
    """float32 (S, S): distance from its axis over its radius, signed, to the right of the axis."""


def draw_capsules(capsules: Sequence[Capsule], size_px: int, *, softness_cm: float) -> Relief:
    """Draw capsules as one body, the nearest in front.

    Args:
        capsules: In cm.
        size_px: Side of the layer.
        softness_cm: Over which joints are rounded.
    """
    shape = (size_px, size_px)
    relief = Relief(
        opacity=np.zeros(shape, np.float32),
        height_cm=np.full(shape, FAR_CM, np.float32),
        part=np.full(shape, -1),
        along=np.zeros(shape, np.float32),
        across=np.zeros(shape, np.float32),
    )
    x, y = plane_points(size_px)
    for index, capsule in enumerate(capsules):
        window = _window(capsule, size_px)
        if x[window].size:
            _add(relief, capsule, index, x[window], y[window], window, size_px)
    return _soften(relief, softness_cm * pixels_per_cm(size_px))


def _add(
    relief: Relief,
    capsule: Capsule,
    index: int,
    x: Floats,
    y: Floats,
    window: tuple[slice, slice],
    size_px: int,
) -> None:
    """Draw one capsule, in place."""
    axis = capsule.end - capsule.start
    squared = float(axis[0] ** 2 + axis[1] ** 2) + 1e-6
    dx, dy = x - capsule.start[0], y - capsule.start[1]
    along = clip((dx * axis[0] + dy * axis[1]) / squared, 0, 1)
    off_x, off_y = dx - along * axis[0], dy - along * axis[1]
    gap = np.sqrt(off_x**2 + off_y**2)
    radius = capsule.start_radius + (capsule.end_radius - capsule.start_radius) * along
    cover = clip(0.5 - (gap - radius) * pixels_per_cm(size_px), 0, 1)
    height = capsule.start[2] + along * axis[2] + np.sqrt(np.maximum(radius**2 - gap**2, 0))
    nearer = (cover > 0) & (height > relief.height_cm[window])
    np.copyto(relief.height_cm[window], height, where=nearer)
    np.copyto(relief.part[window], index, where=nearer)
    np.copyto(relief.along[window], along, where=nearer)
    sign = np.sign(dx * axis[1] - dy * axis[0])
    np.copyto(relief.across[window], sign * gap / radius, where=nearer)
    np.maximum(relief.opacity[window], cover, out=relief.opacity[window])


def _window(capsule: Capsule, size_px: int) -> tuple[slice, slice]:
    """Return the rows and columns that a capsule may touch."""
    ends = to_pixels(np.stack([capsule.start[:2], capsule.end[:2]]), size_px)
    reach = max(capsule.start_radius, capsule.end_radius) * pixels_per_cm(size_px) + 2
    low = np.clip(np.floor(ends.min(axis=0) - reach), 0, size_px).astype(int)
    high = np.clip(np.ceil(ends.max(axis=0) + reach), 0, size_px).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _soften(relief: Relief, sigma_px: float) -> Relief:
    """Round the joints: average heights over the body, and continue them beyond its edge."""
    inside = (relief.part >= 0).astype(np.float32)
    if not inside.any():
        return relief
    height = np.where(inside > 0, relief.height_cm, 0).astype(np.float32)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma_px)
    mean = cv2.GaussianBlur(height, (0, 0), sigma_px) / np.maximum(weight, 1e-3)
    # Steps between two fingers stay: only what is nearly level is averaged.
    level = np.exp(-(((height - mean) / 0.7) ** 2)) * inside
    smooth = height + (mean - height) * np.where(inside > 0, level, 1)
    return Relief(
        opacity=relief.opacity,
        height_cm=np.asarray(smooth, np.float32),
        part=relief.part,
        along=relief.along,
        across=relief.across,
    )
