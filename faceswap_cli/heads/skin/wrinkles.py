"""Lines of age, and the folds of expressions: `paint_wrinkles`, `fold_map` and `fold_weights`."""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.skin.canvas import canvas, canvas_maps, multiply, stroke, to_atlas
from faceswap_cli.heads.traits import FaceTraits
from faceswap_cli.synthetic.geometry import Floats

_Line = tuple[Sequence[tuple[float, float]], float, float]
"""Points in cm, width in cm, and strength of a line; each is on both sides of the face."""

_FOREHEAD: tuple[_Line, ...] = tuple(
    (((0, level), (1.8, level + 0.25), (3.8, level)), 0.06, 0.7 - 0.15 * number)
    for number, level in enumerate((3.6, 4.5, 5.5))
)
_FROWN: tuple[_Line, ...] = (
    (((0.75, 1.2), (0.85, 2.0), (0.8, 2.9)), 0.06, 0.5),
    (((0.25, 1.3), (0.3, 1.9), (0.25, 2.4)), 0.05, 0.3),
)
_CROWS_FEET: tuple[_Line, ...] = tuple(
    (
        ((4.85, 0.05 + 0.3 * np.sin(angle)), (5 + 1.5 * np.cos(angle), 0.1 + 1.6 * np.sin(angle))),
        0.04,
        0.6,
    )
    for angle in (-0.5, -0.15, 0.2, 0.5)
)
_SMILE: tuple[_Line, ...] = (
    (((1.8, -3.9), (2.5, -5.0), (3.1, -6.6)), 0.08, 1.0),
    (((3.3, -5.4), (3.55, -6.6), (3.4, -7.8)), 0.08, 0.45),
)
_REST: tuple[_Line, ...] = (
    (((1.9, -0.9), (3.0, -1.45), (4.4, -1.0)), 0.05, 0.7),
    (((2.0, -1.2), (3.1, -2.0), (4.6, -1.7)), 0.06, 0.45),
    (((2.85, -7.3), (3.1, -8.2), (3.0, -9.0)), 0.06, 0.5),
    *((((across, -5.0), (across * 1.05, -5.5)), 0.03, 0.35) for across in (0.5, 1.0, 1.6)),
)

_FOLDS = (
    (_FOREHEAD, ("browInnerUp", "browOuterUpLeft", "browOuterUpRight")),
    (_FROWN, ("browDownLeft", "browDownRight")),
    (_CROWS_FEET, ("eyeSquintLeft", "eyeSquintRight", "mouthSmileLeft", "mouthSmileRight")),
    (_SMILE, ("mouthSmileLeft", "mouthSmileRight", "mouthUpperUpLeft", "mouthUpperUpRight")),
)
"""Lines that an expression folds, and the coefficients whose mean says how deep."""


def paint_wrinkles(
    color: Floats, height: Floats, face: FaceTraits, rng: np.random.Generator
) -> None:
    """Paint the lines of age, in place: darker, and grooves in the height."""
    if face.wrinkles <= 0.02:
        return
    lines = (*_FOREHEAD, *_FROWN, *_CROWS_FEET, *_SMILE, *_REST)
    amount = face.wrinkles * _draw(lines, rng, wobble_cm=0.06)
    multiply(color, (0.72, 0.60, 0.56), 0.8 * amount)
    height -= 0.22 * amount


def _draw(lines: Sequence[_Line], rng: np.random.Generator, *, wobble_cm: float) -> Floats:
    """Return a canvas with lines on both sides of the face."""
    total = np.zeros_like(canvas()[0])
    for points, width_cm, strength in lines:
        for sign in (-1, 1):
            wobbled = np.array(points) + rng.normal(0, wobble_cm, (len(points), 2))
            drawn = stroke(wobbled * [sign, 1], width_cm)
            np.maximum(total, 1.6 * strength * drawn, out=total)
    return total


@cache
def fold_map() -> AnyArray:
    """Return the folds of expressions over the atlas, uint8 (H, W, 4), the same for all people."""
    rng = np.random.default_rng(8)
    front = canvas_maps()[2]
    planes = [
        np.clip(to_atlas(_draw(lines, rng, wobble_cm=0.03)) * front, 0, 1) * 255
        for lines, _ in _FOLDS
    ]
    merged: AnyArray = cv2.merge([plane.astype(np.uint8) for plane in planes])
    return merged


def fold_weights(blendshapes: Sequence[float], wrinkles: float) -> Floats:
    """Return how deep each fold is, float32 (4,), 0 to 1: deeper in older skin."""
    means = [
        np.mean([blendshapes[BLENDSHAPE_NAMES.index(name)] for name in names])
        for _, names in _FOLDS
    ]
    weights: Floats = np.array(means, np.float32) * np.float32(0.35 + 0.65 * wrinkles)
    return weights
