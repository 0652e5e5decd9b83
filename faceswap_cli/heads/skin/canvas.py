"""The canvas that faces are painted on: the base mesh seen from the front.

Convention: x to the image's right and y up, cm from the point between the eyes; colors are linear
RGB, in planes (3, H, W).
"""

from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import base_mesh
from faceswap_cli.synthetic.geometry import Floats, Triple, smoothstep

CANVAS_LEFT, CANVAS_TOP = -9.6, 11.2
"""Corner of the canvas, cm."""
CANVAS_WIDTH, CANVAS_HEIGHT = 768, 960
PX_PER_CM = 40
SHIFT = 4
"""Fractional bits of coordinates that OpenCV draws with."""


@cache
def canvas() -> tuple[Floats, Floats]:
    """Return x and y of the canvas's pixels, cm."""
    across = CANVAS_LEFT + (np.arange(CANVAS_WIDTH, dtype=np.float32) + 0.5) / PX_PER_CM
    down = CANVAS_TOP - (np.arange(CANVAS_HEIGHT, dtype=np.float32) + 0.5) / PX_PER_CM
    x, y = np.meshgrid(across, down)
    return x, y


@cache
def canvas_maps() -> tuple[Floats, Floats, Floats]:
    """Return where each texel is on the canvas (x, y in px), and how much it faces the front."""
    mesh = base_mesh()
    x, y, z = np.moveaxis(mesh.texel_points, -1, 0)
    front = smoothstep(-0.15, 0.3, mesh.texel_normals[..., 2]) * smoothstep(-7.5, -4.5, z)
    columns = (x - CANVAS_LEFT) * PX_PER_CM - 0.5
    rows = (CANVAS_TOP - y) * PX_PER_CM - 0.5
    return columns.astype(np.float32), rows.astype(np.float32), front


def canvas_values(canvas: Floats, points: Floats) -> Floats:
    """Return a canvas's values at points of the base mesh (N, 3), (N,)."""
    column = ((points[:, 0] - CANVAS_LEFT) * PX_PER_CM).astype(int).clip(0, CANVAS_WIDTH - 1)
    row = ((CANVAS_TOP - points[:, 1]) * PX_PER_CM).astype(int).clip(0, CANVAS_HEIGHT - 1)
    values: Floats = canvas[row, column]
    return values


def to_linear(color: Triple) -> Floats:
    """Return display RGB as linear RGB, float32 (3,)."""
    linear: Floats = np.asarray(color, np.float32) ** 2.2
    return linear


def to_atlas(canvas: Floats) -> Floats:
    """Return a canvas's values at the texels."""
    columns, rows, _ = canvas_maps()
    values: Floats = cv2.remap(
        canvas, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return values


def blend(color: Floats, over: Floats | Triple, alpha: Floats) -> None:
    """Blend `over` (3 values, or planes) into the planes of `color` (3, H, W), in place."""
    for plane, value in zip(color, over, strict=True):
        plane += (value - plane) * alpha


def multiply(color: Floats, factor: Triple, amount: Floats) -> None:
    """Multiply planes (3, H, W) by `factor` where `amount` is 1, in place."""
    for plane, value in zip(color, factor, strict=True):
        if value != 1:
            plane *= 1 + np.float32(value - 1) * amount


def scatter(
    rng: np.random.Generator, count: int, radius_cm: tuple[float, float], area: Floats
) -> Floats:
    """Return a canvas with soft dots, more of them where `area` is larger."""
    canvas = np.zeros(area.shape, np.uint8)
    x, y = rng.uniform(0, 1, (2, count))
    rows, columns = (y * CANVAS_HEIGHT).astype(int), (x * CANVAS_WIDTH).astype(int)
    keep = rng.uniform(0, 1, count) < area[rows, columns]
    radii = rng.uniform(*radius_cm, count) * PX_PER_CM
    for row, column, radius, value in zip(
        rows[keep], columns[keep], radii[keep], rng.integers(90, 255, keep.sum()), strict=True
    ):
        center = (int(column) << SHIFT, int(row) << SHIFT)
        cv2.circle(
            canvas,
            center,
            int(radius * (1 << SHIFT)),
            int(value),
            -1,
            lineType=cv2.LINE_AA,
            shift=SHIFT,
        )
    soft: Floats = cv2.GaussianBlur(canvas, (0, 0), 1.2).astype(np.float32) / 255
    return soft


def stroke(points: AnyArray, width_cm: float, count: int = 40) -> Floats:
    """Return a canvas with a smooth line through points (N, 2) cm, tapered at its ends."""
    canvas = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    knots = np.linspace(0, 1, len(points))
    t = np.linspace(0, 1, count)
    path = np.stack([np.interp(t, knots, points[:, axis]) for axis in (0, 1)], axis=1)
    path_px = (path - [CANVAS_LEFT, CANVAS_TOP]) * [PX_PER_CM, -PX_PER_CM] * (1 << SHIFT)
    strength = np.sin(np.pi * np.clip(t * 0.9 + 0.05, 0, 1)) ** 0.7
    for start, end, value in zip(path_px[:-1], path_px[1:], strength[1:], strict=True):
        cv2.line(
            canvas,
            [int(one) for one in start],
            [int(one) for one in end],
            int(255 * value),
            max(1, round(width_cm * PX_PER_CM)),
            cv2.LINE_AA,
            SHIFT,
        )
    soft: Floats = cv2.GaussianBlur(canvas, (0, 0), width_cm * PX_PER_CM).astype(np.float32) / 255
    return soft
