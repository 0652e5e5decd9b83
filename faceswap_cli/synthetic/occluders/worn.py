"""What is worn on a face: glasses with clear and dark lenses, cloth over mouth and nose."""

import cv2
import numpy as np

from faceswap_cli.synthetic.geometry import Floats, clip, smoothstep
from faceswap_cli.synthetic.occluders.layer import (
    OccluderLayer,
    edge,
    fractal_noise,
    plane_points,
    random_color,
    random_texture,
    shade_color,
)

EYE_X_CM, EYE_Y_CM = 3.2, 2.6
"""Middle of the eye in MediaPipe's face model."""


def draw_glasses(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return the frames of glasses; some have dark lenses, and some a reflection."""
    outline, frames = _glasses_shape(rng, size_px)
    frame_color = random_color(rng) * (rng.uniform(0.05, 0.5) if rng.uniform() < 0.6 else 1)
    light = 1 + 0.25 * fractal_noise(rng, size_px, nodes=4, octaves=2)
    color = shade_color(frame_color, light)
    opacity = frames
    lens = edge(outline, size_px) * (1 - frames)
    if rng.uniform() < 0.35:
        depth = rng.uniform(0.75, 1)
        glass = shade_color(
            random_color(rng) * rng.uniform(0.05, 0.4), 1 + 0.3 * _gleam(rng, size_px)
        )
        color, opacity = _over(color, opacity, glass, depth * lens)
    if rng.uniform() < 0.35:
        shine = clip(_gleam(rng, size_px) * rng.uniform(0.6, 1.2), 0, 1) * lens
        color, opacity = _over(color, opacity, np.ones_like(color), shine)
    return OccluderLayer.from_drawing(color, opacity, is_worn=True)


def draw_clear_lenses(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return the tint of lenses that the eyes are seen through: nothing is hidden by them."""
    outline, frames = _glasses_shape(rng, size_px)
    color = shade_color(random_color(rng), 1 + 0.2 * _gleam(rng, size_px))
    lens = edge(outline, size_px) * (1 - frames)
    return OccluderLayer.from_drawing(
        color, lens * np.float32(rng.uniform(0.05, 0.35)), is_worn=True, hides=False
    )


def draw_face_covering(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return cloth over mouth, chin and mostly the nose."""
    x, y = plane_points(size_px)
    top = rng.uniform(-3.5, 1.2) - 0.02 * rng.uniform(0, 2) * x**2
    bend = 0.15 * fractal_noise(rng, size_px, nodes=4, octaves=2)
    outside = np.maximum(y - top - bend, np.abs(x) - rng.uniform(6.5, 11) - bend)
    folds = np.sin(y * rng.uniform(1, 4) + bend * 4) * rng.uniform(0, 0.15)
    brightness = 0.85 - 0.004 * (x * x) + folds + 0.08 * fractal_noise(rng, size_px, nodes=6)
    color = clip(random_texture(rng, size_px) * brightness[..., None], 0, 1)
    return OccluderLayer.from_drawing(color, edge(outside, size_px), is_worn=True)


def _glasses_shape(rng: np.random.Generator, size_px: int) -> tuple[Floats, Floats]:
    """Return the signed distance to the lenses, cm, and the opacity of the frames."""
    x, y = plane_points(size_px)
    half_width, half_height = rng.uniform(2.0, 3.0), rng.uniform(1.3, 2.6)
    corner = rng.uniform(0.4, 1) * min(half_width, half_height)
    center_y, droop = EYE_Y_CM - rng.uniform(0.0, 0.8), rng.uniform(0, 0.25)
    side_x = np.abs(x) - max(EYE_X_CM, half_width + 0.5)
    rise = y - center_y - droop * side_x * 0.3
    # A rectangle with round corners before each eye.
    off_x = np.abs(side_x) - half_width + corner
    off_y = np.abs(rise) - half_height + corner
    outline = np.hypot(np.maximum(off_x, 0), np.maximum(off_y, 0)) - corner
    outline += np.minimum(np.maximum(off_x, off_y), 0)
    thickness = rng.uniform(0.05, 0.45) if rng.uniform() < 0.85 else 0.0
    top_only = rng.uniform() < 0.15
    rim = edge(np.abs(outline) - thickness / 2, size_px) * (thickness > 0)
    if top_only:
        rim = rim * smoothstep(-0.2, 0.2, rise)
    bar = max(thickness, 0.12)
    inner = max(EYE_X_CM, half_width + 0.5) - half_width
    bridge = np.maximum(np.abs(x) - inner, np.abs(y - center_y - 0.4 + 0.1 * x**2) - bar / 2)
    hinge = np.abs(y - center_y - 0.5 * half_height)
    outer = max(EYE_X_CM, half_width + 0.5) + half_width
    arm = np.maximum(outer - np.abs(x), hinge - bar / 2)
    frames = np.maximum(rim, np.maximum(edge(bridge, size_px), edge(arm, size_px)))
    return np.asarray(outline, np.float32), np.asarray(frames, np.float32)


def _gleam(rng: np.random.Generator, size_px: int) -> Floats:
    """Return bands of reflected light, 0 to about 1."""
    x, y = plane_points(size_px)
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-4, 4)
    across = x * np.cos(angle) + y * np.sin(angle) - offset
    band = np.exp(-((across / rng.uniform(0.3, 1.5)) ** 2))
    gleam: Floats = cv2.GaussianBlur(band.astype(np.float32), (0, 0), 1)
    return gleam


def _over(
    below: Floats, below_opacity: Floats, above: Floats, above_opacity: Floats
) -> tuple[Floats, Floats]:
    """Return color and opacity of one layer over another."""
    opacity = above_opacity + below_opacity * (1 - above_opacity)
    weight = above_opacity / np.maximum(opacity, 1e-6)
    return below + (above - below) * weight[..., None], opacity
