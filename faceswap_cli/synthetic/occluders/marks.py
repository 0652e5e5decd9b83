"""What belongs to a face and hides nothing of it: beards, wrinkles, make-up, strong brows."""

import cv2
import numpy as np

from faceswap_cli.synthetic.geometry import clip, smoothstep
from faceswap_cli.synthetic.occluders.layer import (
    OccluderLayer,
    fractal_noise,
    plane_points,
    random_color,
    shade_color,
    to_pixels,
)
from faceswap_cli.synthetic.occluders.strands import HAIR_COLORS
from faceswap_cli.synthetic.occluders.things import MOUTH_CM

BROW_X_CM, BROW_Y_CM = 3.3, 4.6
"""Middle of a brow in MediaPipe's face model."""


def draw_beard(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a beard, a moustache or stubble."""
    x, y = plane_points(size_px)
    bend = 0.3 * fractal_noise(rng, size_px, nodes=6, octaves=2)
    side_x = np.abs(x)
    jaw = smoothstep(0.5, -0.5, y + rng.uniform(3, 6.5) - 0.05 * side_x**2 * rng.uniform(1, 2.4))
    sideburn = smoothstep(5.2, 6.2, side_x) * smoothstep(2, 0, y) * (rng.uniform() < 0.6)
    moustache = np.exp(-(((x / 2.6) ** 4) + (((y + 3.2) / 0.6) ** 2))) * (rng.uniform() < 0.8)
    region = clip(np.maximum(np.maximum(jaw, sideburn), 1.3 * moustache) + 0.2 * bend, 0, 1)
    lips = np.hypot(x / rng.uniform(2.4, 3.2), (y - MOUTH_CM[1]) / rng.uniform(0.8, 1.3))
    region *= smoothstep(0.85, 1.1, lips)
    hairs = fractal_noise(rng, size_px, nodes=int(rng.integers(30, 110)), octaves=2)
    density = rng.uniform(0.1, 1.1)
    color = np.array(HAIR_COLORS[int(rng.integers(len(HAIR_COLORS)))]) * rng.uniform(0.6, 1.2)
    opacity = clip(region * (density + 0.35 * hairs), 0, 0.95)
    bright = 1 + 0.35 * fractal_noise(rng, size_px, nodes=40, octaves=2)
    return _mark(shade_color(color, bright), opacity)


def draw_wrinkles(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return folds of skin and dark rings, anywhere."""
    lines = np.zeros((size_px, size_px), np.float32)
    for _ in range(int(rng.integers(3, 22))):
        start = np.array([rng.uniform(-7, 7), rng.uniform(-8, 8)])
        angle, bend, length = rng.normal(0, 0.8), rng.normal(0, 0.4), rng.uniform(1, 5)
        angles = angle + bend * np.linspace(-1, 1, 8)
        steps = np.stack([np.cos(angles), np.sin(angles)], axis=1) * length / 8
        pixels = np.round(to_pixels(start + np.cumsum(steps, axis=0), size_px) * 16)
        cv2.polylines(
            lines, [pixels.astype(np.int32)], False, [rng.uniform(0.3, 1)], 1, cv2.LINE_8, 4
        )
    lines = 2 * np.asarray(cv2.GaussianBlur(lines, (0, 0), rng.uniform(0.5, 1.6)), np.float32)
    color = np.zeros((size_px, size_px, 3), np.float32) + rng.uniform([0.1, 0, 0], [0.4, 0.2, 0.2])
    return _mark(color, clip(lines * rng.uniform(0.15, 0.6), 0, 0.6))


def draw_makeup(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return blotches, paint or a tan in patches."""
    nodes = int(rng.integers(2, 9))
    weight = clip(fractal_noise(rng, size_px, nodes=nodes, octaves=3) - rng.uniform(-0.5, 1), 0, 1)
    color = shade_color(
        random_color(rng), 1 + 0.1 * fractal_noise(rng, size_px, nodes=20, octaves=2)
    )
    return _mark(color, weight * rng.uniform(0.1, 0.55))


def draw_brows(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return dark brows, rings around the eyes, or lips painted."""
    x, y = plane_points(size_px)
    side_x = np.abs(x) - BROW_X_CM
    if rng.uniform() < 0.6:
        height = rng.uniform(0.25, 0.8)
        arch = BROW_Y_CM + rng.uniform(-0.6, 0.4) - rng.uniform(0, 0.09) * side_x**2
        shape = np.exp(-((side_x / 1.9) ** 4) - ((y - arch) / height) ** 2)
    else:
        center_y = MOUTH_CM[1] if rng.uniform() < 0.5 else 2.6
        across = x / 2.6 if center_y < 0 else side_x / 1.9
        shape = np.exp(-(across**4) - ((y - center_y) / rng.uniform(0.5, 1.3)) ** 2)
    hairs = fractal_noise(rng, size_px, nodes=50, octaves=2)
    color = random_color(rng) * rng.uniform(0.1, 0.8)
    return _mark(shade_color(color, 1 + 0.3 * hairs), clip(shape * (0.8 + 0.3 * hairs), 0, 0.9))


def _mark(color: np.ndarray, opacity: np.ndarray) -> OccluderLayer:
    """Return a layer that belongs to the face."""
    return OccluderLayer.from_drawing(
        np.asarray(color, np.float32),
        np.asarray(opacity, np.float32),
        is_worn=True,
        hides=False,
    )
