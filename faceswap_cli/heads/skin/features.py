"""Lips, brows and make-up of a face."""

from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import base_mesh
from faceswap_cli.heads.skin.canvas import (
    CANVAS_HEIGHT,
    CANVAS_LEFT,
    CANVAS_TOP,
    CANVAS_WIDTH,
    PX_PER_CM,
    SHIFT,
    blend,
    canvas,
    canvas_maps,
    multiply,
    to_linear,
)
from faceswap_cli.heads.traits import FaceTraits
from faceswap_cli.synthetic.geometry import Floats, bump, clip, smoothstep, soft_noise

_BROW_HEIGHT_CM = 1.15
"""Of the inner end of a brow that does not rise: higher ones are read as raised."""


@cache
def _canvas_lips() -> Floats:
    """Return the mask of the lips on the canvas."""
    mesh = base_mesh()
    columns, rows, _ = canvas_maps()
    lips = mesh.regions["lips"] * (mesh.texel_points[..., 2] > 1.5)
    used = lips > 0.02
    canvas = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.float32)
    at = np.round(rows[used]).astype(int), np.round(columns[used]).astype(int)
    np.maximum.at(canvas, at, lips[used])
    closed = cv2.morphologyEx(canvas, cv2.MORPH_CLOSE, np.ones((9, 9), np.uint8))
    smooth: Floats = cv2.GaussianBlur(closed, (0, 0), 2.0)
    return smooth


def paint_lips(
    color: Floats, gloss: Floats, height: Floats, face: FaceTraits, rng: np.random.Generator
) -> None:
    """Paint the lips and their gloss, in place."""
    x, y = canvas()
    lips = _canvas_lips()
    edge = smoothstep(0.35, 0.85, lips)
    noise = soft_noise(rng, (CANVAS_HEIGHT, CANVAS_WIDTH), ((30, 1.0), (90, 0.8)))
    lines = np.sin(x * 16 + 3 * np.sin(x * 2.3) + 0.8 * noise)
    upper = smoothstep(-6.9, -6.6, y)
    shade = 1 + 0.05 * noise + 0.05 * lines - 0.18 * upper
    tint = to_linear(face.lips)
    alpha = edge * (0.68 + 0.3 * face.makeup)
    blend(color, tint[:, None, None] * shade, alpha)
    # The border of the upper lip catches light.
    rim = bump((lips - 0.22) / 0.14) * smoothstep(-6.9, -6.2, y)
    multiply(color, (1.10, 1.08, 1.06), 0.5 * rim)
    gloss += (0.75 + 0.25 * face.makeup - gloss) * edge
    height += 0.02 * lines * edge


def paint_brows(color: Floats, face: FaceTraits, rng: np.random.Generator) -> None:
    """Draw the brows, hair by hair, in place."""
    canvas = np.zeros((CANVAS_HEIGHT, CANVAS_WIDTH), np.uint8)
    count = int(230 * (0.35 + face.brow_density))
    thickness = 0.28 + 0.5 * face.brow_thickness
    for sign in (-1, 1):
        along = rng.beta(1.15, 1.2, count)
        off = rng.normal(0, 0.42, count).clip(-1, 1)
        lean = rng.normal(0, 0.16, count)
        for t, offset, tilt in zip(along, off, lean, strict=True):
            x, y, half = _brow_path(t, face, thickness)
            root = np.array([x, y + offset * half])
            # Inner hairs stand up, outer ones lie along the brow.
            angle = np.interp(t, [0, 0.2, 0.6, 1], [1.45, 0.95, 0.25, -0.25])
            angle += tilt - 0.45 * offset * (t > 0.15)
            length = np.interp(t, [0, 0.3, 1], [0.42, 0.62, 0.38]) * (0.8 + 0.5 * thickness)
            tip = root + length * np.array([np.cos(angle), np.sin(angle)])
            _hair_line(canvas, root * [sign, 1], tip * [sign, 1], int(rng.integers(120, 235)))
    soft = cv2.GaussianBlur(canvas, (0, 0), 0.9).astype(np.float32) / 255
    shadow = cv2.GaussianBlur(canvas, (0, 0), 6).astype(np.float32) / 255
    tint = to_linear(face.brows)
    skin = to_linear(face.skin)
    blend(color, tint + 0.4 * skin, clip(0.6 * face.brow_density * shadow, 0, 1))
    blend(color, tint + 0.06 * skin, clip(1.2 * soft, 0, 0.88))


def _brow_path(t: float, face: FaceTraits, thickness: float) -> tuple[float, float, float]:
    """Return x, y and half the height of a brow at `t` of its length, cm."""
    x = 1.25 + 3.95 * t
    arch = np.sin(min(t / 0.68, 1.0) * np.pi / 2) * (0.25 + 0.55 * face.brow_arch)
    fall = max(0.0, t - 0.66) ** 1.5 * (1.8 + 1.6 * face.brow_arch)
    y = _BROW_HEIGHT_CM + face.brow_rise_cm + arch - fall
    half = thickness * 0.5 * np.interp(t, [0, 0.12, 0.45, 1], [0.7, 1.0, 0.85, 0.22])
    return x, y, float(half)


def _hair_line(canvas: AnyArray, root: AnyArray, tip: AnyArray, value: int) -> None:
    """Draw a hair from `root` to `tip`, both in cm."""
    ends = [
        [int(v) for v in (end - [CANVAS_LEFT, CANVAS_TOP]) * [16 * PX_PER_CM, -16 * PX_PER_CM]]
        for end in (root, tip)
    ]
    cv2.line(canvas, ends[0], ends[1], value, 2, cv2.LINE_AA, SHIFT)


def paint_makeup(color: Floats, face: FaceTraits) -> None:
    """Paint lashes' shadow, eyeliner, eye shadow and rouge, in place."""
    x, y = canvas()
    side = np.abs(x) - 3.1
    curve = 0.55 - 0.26 * side**2 + 0.05 * side
    lash = bump((y - curve) / 0.16) * smoothstep(1.75, 1.3, np.abs(side - 0.1))
    multiply(color, (0.25, 0.2, 0.2), (0.35 + 0.6 * face.makeup) * lash)
    if face.makeup > 0:
        lid = bump(side / 1.5, (y - 0.95) / 0.45)
        multiply(color, (0.72, 0.55, 0.58), 0.6 * face.makeup * lid)
        rouge = bump((np.abs(x) - 4.7) / 1.4, (y + 3.0) / 1.1)
        multiply(color, (1.0, 0.72, 0.74), 0.5 * face.makeup * rouge)
