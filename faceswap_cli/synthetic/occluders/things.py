"""Objects before a face: microphones, cups, sticks, spoons, food, paper, blurred edges."""

import cv2
import numpy as np

from faceswap_cli.synthetic.geometry import Floats, clip
from faceswap_cli.synthetic.occluders.layer import (
    OccluderLayer,
    edge,
    fractal_noise,
    plane_points,
    random_color,
    random_texture,
    shade_color,
    shade_height,
)
from faceswap_cli.synthetic.occluders.solids import Capsule, draw_capsules

MOUTH_CM = (0.0, -4.4)
"""Middle of the mouth in MediaPipe's face model."""


def draw_microphone(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a round or long head on a handle, before the mouth or beside it."""
    tip = np.array([rng.normal(0, 3), rng.normal(-6, 2.5), 6.0])
    direction = _direction(rng, downwards=True)
    radius = rng.uniform(1.2, 3.2)
    end = tip + direction * rng.uniform(0.2, 3)
    head = Capsule(start=tip, end=end, start_radius=radius, end_radius=radius * 0.9)
    handle = Capsule(
        start=end,
        end=tip + direction * 30,
        start_radius=radius * rng.uniform(0.4, 0.7),
        end_radius=radius * rng.uniform(0.3, 0.5),
    )
    relief = draw_capsules([head, handle], size_px, softness_cm=0.15)
    light = shade_height(relief.height_cm, rng, size_px, gloss=float(rng.uniform(0, 0.6)))
    x, y = plane_points(size_px)
    mesh = 0.5 + 0.5 * np.sin(x * 12) * np.sin(y * 12) if rng.uniform() < 0.5 else 1.0
    foam = 1 + 0.15 * fractal_noise(rng, size_px, nodes=40, octaves=2)
    head_color = shade_color(random_color(rng) * rng.uniform(0.15, 1), light * mesh * foam)
    handle_color = shade_color(random_color(rng) * rng.uniform(0.15, 1), light)
    color = np.where((relief.part == 0)[..., None], head_color, handle_color)
    return OccluderLayer.from_drawing(color, relief.opacity)


def draw_stick(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a pen, a brush, a straw, a pole or a spoon."""
    tip = np.array([rng.normal(0, 4), rng.normal(-2, 5), 5.0])
    direction = _direction(rng, downwards=bool(rng.uniform() < 0.6))
    radius = rng.uniform(0.12, 1.0)
    start = tip - direction * (30 if rng.uniform() < 0.4 else 0)
    parts = [Capsule(start=start, end=tip + direction * 30, start_radius=radius, end_radius=radius)]
    if rng.uniform() < 0.3:
        bowl = rng.uniform(0.9, 2)
        parts.append(
            Capsule(start=tip, end=tip + direction * bowl, start_radius=bowl, end_radius=bowl * 0.7)
        )
    relief = draw_capsules(parts, size_px, softness_cm=0.1)
    light = shade_height(relief.height_cm, rng, size_px, gloss=float(rng.uniform(0, 0.8)))
    color = clip(random_texture(rng, size_px) * light[..., None], 0, 1)
    return OccluderLayer.from_drawing(color, relief.opacity)


def draw_cup(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a cup, a glass or a bottle at the mouth, tilted."""
    x, y = plane_points(size_px)
    center = np.array(MOUTH_CM) + rng.normal(0, [2.5, 1.5])
    angle = rng.normal(0, 0.35)
    along = (x - center[0]) * np.sin(angle) - (y - center[1]) * np.cos(angle)
    across = (x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)
    half, taper, height = rng.uniform(1.5, 5), rng.uniform(-0.12, 0.2), rng.uniform(5, 14)
    width = half - taper * along
    rim = rng.uniform(0.05, 0.35) * np.sqrt(np.maximum(1 - (across / half) ** 2, 0)) * half
    outside = np.maximum(np.abs(across) - width, np.maximum(-along - rim, along - height - rim))
    roundness = np.sqrt(np.maximum(1 - (across / np.maximum(width, 0.1)) ** 2, 0)) * half
    light = shade_height(roundness.astype(np.float32), rng, size_px, gloss=rng.uniform(0, 0.7))
    color = clip(random_texture(rng, size_px) * light[..., None], 0, 1)
    inside = clip((np.abs(along + 0) - rim) * 4, 0, 1)  # the rim's opening is darker
    color = color * (0.6 + 0.4 * inside)[..., None]
    return OccluderLayer.from_drawing(color, edge(outside.astype(np.float32), size_px))


def draw_food(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a lump at the mouth."""
    x, y = plane_points(size_px)
    center = np.array(MOUTH_CM) + rng.normal(0, [1.2, 0.8])
    radii = rng.uniform(0.8, 4, 2)
    angle = rng.uniform(0, np.pi)
    u = ((x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)) / radii[0]
    v = ((y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)) / radii[1]
    lumps = 0.12 * fractal_noise(rng, size_px, nodes=6)
    level = np.sqrt(u * u + v * v) + lumps
    height = np.sqrt(np.maximum(1.2 - level**2, 0)) * radii.min()
    light = shade_height(height.astype(np.float32), rng, size_px, gloss=rng.uniform(0, 0.5))
    color = clip(random_texture(rng, size_px) * light[..., None], 0, 1)
    return OccluderLayer.from_drawing(color, edge((level - 1) * radii.min(), size_px))


def draw_paper(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return paper, a card, a phone or a book: four corners, flat."""
    x, y = plane_points(size_px)
    center = np.array([rng.normal(0, 5), rng.normal(-4, 6)])
    half = rng.uniform(1.5, 10, 2)
    angle = rng.normal(0, 0.5)
    u = (x - center[0]) * np.cos(angle) + (y - center[1]) * np.sin(angle)
    v = (y - center[1]) * np.cos(angle) - (x - center[0]) * np.sin(angle)
    wave = 0.1 * rng.uniform(0, 3) * fractal_noise(rng, size_px, nodes=2, octaves=1)
    corner = rng.uniform(0, 0.8)
    off_u, off_v = np.abs(u) - half[0] + corner + wave, np.abs(v) - half[1] + corner + wave
    outside = np.hypot(np.maximum(off_u, 0), np.maximum(off_v, 0)) - corner
    outside += np.minimum(np.maximum(off_u, off_v), 0)
    light = 0.85 + 0.08 * u / half[0] * rng.normal() + 0.08 * v / half[1] * rng.normal() + wave
    color = clip(random_texture(rng, size_px) * light[..., None], 0, 1)
    if rng.uniform() < 0.4:  # lines of text
        lines = clip(np.sin(v * rng.uniform(5, 12)) * 3 - 1, 0, 1)
        lines *= fractal_noise(rng, size_px, nodes=24, octaves=2) > -0.3
        color = color * (1 - 0.8 * lines)[..., None]
    return OccluderLayer.from_drawing(color, edge(outside.astype(np.float32), size_px))


def draw_blurred_edge(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return something close to the camera and out of focus that reaches in from one side."""
    x, y = plane_points(size_px)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(-3, 8)
    bend = rng.uniform(0, 1.5) * fractal_noise(rng, size_px, nodes=3, octaves=2)
    outside = reach - (x * np.cos(angle) + (y + 1.3) * np.sin(angle)) + bend
    opacity = edge(outside.astype(np.float32), size_px)
    sigma = rng.uniform(1, 7) * size_px / 160
    color = random_texture(rng, size_px) * rng.uniform(0.3, 1)
    return OccluderLayer.from_drawing(
        clip(cv2.GaussianBlur(color, (0, 0), sigma), 0, 1),
        opacity=clip(cv2.GaussianBlur(opacity, (0, 0), sigma), 0, 1),
    )


def draw_blob(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a shape of no particular kind: what nobody thought of."""
    x, y = plane_points(size_px)
    center = rng.normal(0, 5, 2)
    radius = rng.uniform(1, 6)
    noise = fractal_noise(rng, size_px, nodes=int(rng.integers(3, 8)), octaves=3)
    outside = np.hypot(x - center[0], y - center[1]) - radius + rng.uniform(0.3, 2) * noise
    light = shade_height(clip(-outside, 0, 2), rng, size_px, gloss=rng.uniform(0, 0.5))
    color = clip(random_texture(rng, size_px) * light[..., None], 0, 1)
    return OccluderLayer.from_drawing(color, edge(outside.astype(np.float32), size_px))


def draw_shadow(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a shadow on the face, hard or soft, of one thing or of a blind: it hides nothing."""
    x, y = plane_points(size_px)
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-6, 6)
    across = x * np.cos(angle) + y * np.sin(angle) - offset
    bend = rng.uniform(0, 1.5) * fractal_noise(rng, size_px, nodes=3, octaves=2)
    if rng.uniform() < 0.25:
        inside = np.sin((across + bend) * rng.uniform(1, 4)) * 0.4
    else:
        inside = across + bend
    dark = cv2.GaussianBlur(
        edge(-inside.astype(np.float32), size_px), (0, 0), rng.uniform(0.4, 5) * size_px / 160
    )
    color = np.zeros((size_px, size_px, 3), np.float32) + random_color(rng) * 0.15
    return OccluderLayer.from_drawing(
        color, np.asarray(dark * np.float32(rng.uniform(0.15, 0.65))), hides=False
    )


def _direction(rng: np.random.Generator, *, downwards: bool) -> Floats:
    """Return a unit vector (3,) about in the plane, along which a thing lies."""
    angle = rng.normal(-np.pi / 2, 0.7) if downwards else rng.uniform(0, 2 * np.pi)
    vector = np.array([np.cos(angle), np.sin(angle), rng.normal(0, 0.3)])
    unit: Floats = vector / np.linalg.norm(vector)
    return unit
