"""Hair over a face: single strands, locks and fringes, as thousands of curved lines."""

import cv2
import numpy as np

from faceswap_cli.core.types import Mask
from faceswap_cli.synthetic.geometry import Floats, clip
from faceswap_cli.synthetic.occluders.layer import (
    OccluderLayer,
    fractal_noise,
    pixels_per_cm,
    to_pixels,
)

NODES = 12
"""Points of a line."""
SUPERSAMPLING = 3
"""Lines are drawn this many times finer: a hair is thinner than a pixel."""
HAIR_COLORS = (
    (0.04, 0.03, 0.03),
    (0.13, 0.08, 0.05),
    (0.32, 0.19, 0.10),
    (0.62, 0.45, 0.25),
    (0.82, 0.70, 0.48),
    (0.55, 0.53, 0.52),
    (0.85, 0.84, 0.82),
    (0.45, 0.15, 0.07),
)


def draw_fringe(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a fringe from the hairline over the brow, parted or not."""
    count = int(rng.integers(60, 400))
    left, right = sorted(rng.uniform(-8.5, 8.5, 2))
    if right - left < 4:
        left, right = -7.5, 7.5
    x = rng.uniform(left, right, count)
    parting, sweep = rng.uniform(-8, 8), rng.normal(0, 0.5)
    length = rng.uniform(2.5, 10) * rng.uniform(0.8, 1.1, count)
    start = np.stack([x, 9.5 + rng.normal(0, 0.5, count) - 0.03 * x**2], axis=1)
    lean = sweep + 0.12 * (x - parting) * rng.uniform(0, 1) + rng.normal(0, 0.08, count)
    return _draw(rng, size_px, start, length, np.arctan(lean), bend=rng.normal(0, 0.06))


def draw_lock(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a lock of long hair that hangs over a part of the face."""
    count = int(rng.integers(4, 120))
    root = np.array([rng.uniform(-8, 8), rng.uniform(7, 11)])
    spread = rng.uniform(0.1, 1.6)
    start = root + rng.normal(0, 1, (count, 2)) * [spread, 0.4]
    length = rng.uniform(6, 22) * rng.uniform(0.85, 1.1, count)
    lean = rng.normal(0, 0.35) + rng.normal(0, 0.03 + 0.05 * spread, count)
    return _draw(rng, size_px, start, length, lean, bend=rng.normal(0, 0.05))


def draw_wisps(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a few loose hairs across the face."""
    count = int(rng.integers(3, 25))
    start = np.stack([rng.uniform(-9, 9, count), rng.uniform(2, 11, count)], axis=1)
    length = rng.uniform(3, 16, count)
    return _draw(
        rng, size_px, start, length, rng.normal(0, 0.7, count), bend=rng.normal(0, 0.1), wide=0.8
    )


def _draw(
    rng: np.random.Generator,
    size_px: int,
    start: Floats,
    length: Floats,
    lean: Floats,
    *,
    bend: float,
    wide: float = 1.0,
) -> OccluderLayer:
    """Return hairs from `start` (N, 2) downwards, `lean` (N,) rad off the vertical at first."""
    count = len(start)
    steps = np.linspace(0, 1, NODES)
    wave = rng.uniform(0, 0.25) * np.sin(
        rng.uniform(0, 6.28) + steps * rng.uniform(2, 9) + rng.normal(0, 0.5, (count, 1))
    )
    angles = lean[:, None] + bend * length[:, None] * steps + wave  # (N, NODES)
    step_cm = length[:, None, None] / NODES
    moves = np.stack([np.sin(angles), -np.cos(angles)], axis=2) * step_cm
    points = start[:, None] + np.cumsum(moves, axis=1)
    color = np.array(HAIR_COLORS[int(rng.integers(len(HAIR_COLORS)))]) * rng.uniform(0.7, 1.3)
    thickness_cm = wide * rng.uniform(0.03, 0.14)
    return _render_lines(rng, size_px, points, color, thickness_cm)


def _render_lines(
    rng: np.random.Generator, size_px: int, points: Floats, color: Floats, thickness_cm: float
) -> OccluderLayer:
    """Return lines (N, K, 2) as a layer; each has a brightness of its own."""
    fine = size_px * SUPERSAMPLING
    image, mask = np.zeros((fine, fine), np.float32), np.zeros((fine, fine), np.uint8)
    width = max(1, round(thickness_cm * pixels_per_cm(fine)))
    for line in points:
        pixels = np.round(to_pixels(line, fine) * 16).astype(np.int32)
        cv2.polylines(mask, [pixels], False, [255], width, cv2.LINE_8, 4)
        cv2.polylines(image, [pixels], False, [rng.uniform(0.55, 1.35)], width, cv2.LINE_8, 4)
    alpha = cv2.resize(mask, (size_px, size_px), interpolation=cv2.INTER_AREA) / np.float32(255)
    strength = min(1.0, thickness_cm * pixels_per_cm(size_px) / 0.4)
    bright = cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA)
    bright = bright / np.maximum(alpha, 1e-3)
    gloss = 1 + 0.3 * fractal_noise(rng, size_px, nodes=4, octaves=2)
    opacity: Mask = np.asarray(alpha * strength, np.float32)
    return OccluderLayer.from_drawing(
        clip(color.astype(np.float32) * (bright * gloss)[..., None], 0, 1), opacity
    )
