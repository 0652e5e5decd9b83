"""The look of eyeballs: iris, pupil, sclera and its veins, per visible point."""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.heads.skin.canvas import to_linear
from faceswap_cli.heads.traits import FaceTraits
from faceswap_cli.synthetic.geometry import Floats, bump, smoothstep

IRIS_SINE = 0.445
"""Radius of the iris relative to the eyeball's."""
_PUPIL, _LIMBUS = 0.36, 0.10
"""Radius of the pupil and width of the dark border, relative to the iris."""
_ROWS, _COLUMNS = 64, 256


@dataclass(frozen=True, kw_only=True, eq=False)
class EyeTexture:
    """Colors of an iris over distance from the pupil (rows) and angle (columns), and veins."""

    iris: Floats
    veins: Floats


def paint_eye(face: FaceTraits) -> EyeTexture:
    """Paint a person's iris, linear RGB float32 (64, 256, 3)."""
    rng = np.random.default_rng(face.seed + 17)
    fibers: Floats = rng.standard_normal((8, _COLUMNS)).astype(np.float32)
    fibers = cv2.resize(fibers, (_COLUMNS, _ROWS), interpolation=cv2.INTER_LINEAR)
    fibers = np.hstack([fibers, fibers])
    fibers = cv2.GaussianBlur(fibers, (0, 0), 1.0)[:, _COLUMNS // 2 : _COLUMNS * 3 // 2]
    fibers = np.divide(fibers, fibers.std())
    radius = np.linspace(0, 1, _ROWS, dtype=np.float32)[:, None]
    tint = to_linear(face.iris)
    collarette = bump((radius - 0.52) / 0.12)
    shade = 1.35 + 0.30 * fibers + 0.45 * collarette - 0.35 * radius
    shade = shade * (1 - 0.85 * smoothstep(1 - 2.2 * _LIMBUS, 1.0, radius))
    warm = np.array([1.15, 0.95, 0.75], np.float32)
    color = tint * shade[..., None] * (1 + (warm - 1) * collarette[..., None])
    pupil = smoothstep(_PUPIL + 0.05, _PUPIL - 0.02, radius + 0 * fibers)
    color = color * (1 - pupil[..., None]) + 0.004
    veins: Floats = rng.standard_normal((32, 64)).astype(np.float32)
    veins = cv2.resize(veins, (128, 128), interpolation=cv2.INTER_CUBIC)
    return EyeTexture(iris=color.astype(np.float32), veins=np.abs(veins))


def shade_eye(direction: Floats, texture: EyeTexture) -> tuple[Floats, Floats, Floats]:
    """Return linear color (N, 3), normal (N, 3) and iris (N,) of points on an eyeball.

    Args:
        direction: Unit vectors (N, 3) from the eyeball's center, in the eye's own axes.
        texture: The person's eyes.
    """
    x, y, z = direction.T
    sine = np.sqrt(x * x + y * y)
    front = z > 0
    radius = np.where(front, sine / IRIS_SINE, 9.0).astype(np.float32)
    iris = smoothstep(1.02, 0.94, radius)
    angle = (np.arctan2(y, x) + np.pi) * ((_COLUMNS - 1) / (2 * np.pi))
    color = np.empty((len(x), 3), np.float32)
    vein = cv2.remap(
        texture.veins,
        (x * 60 + 64).astype(np.float32).reshape(-1, 1),
        (y * 60 + 64).astype(np.float32).reshape(-1, 1),
        cv2.INTER_LINEAR,
    )[:, 0]
    away = smoothstep(0.5, 1.0, np.abs(x))
    red = 0.04 + 0.16 * away * np.exp(-6 * vein) + 0.18 * smoothstep(0.75, 1.0, np.abs(x))
    color[:] = (0.62, 0.60, 0.58)
    color *= 1 - red[:, None] * np.array([0.2, 1.0, 1.0], np.float32)
    samples = cv2.remap(
        texture.iris,
        angle.astype(np.float32).reshape(-1, 1),
        (np.minimum(radius, 1) * (_ROWS - 1)).reshape(-1, 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[:, 0]
    color += (samples - color) * iris[:, None]
    # The cornea bulges: a smaller sphere that sits further out.
    bulge = direction - np.array([0, 0, 0.42], np.float32) * iris[:, None]
    normal: Floats = bulge / np.linalg.norm(bulge, axis=1, keepdims=True)
    return color, normal, iris
