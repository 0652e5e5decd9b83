"""The tones of a face: blood, pigment, spots, shadows and a shaved beard."""

from functools import cache

import numpy as np

from faceswap_cli.heads.skin.canvas import (
    blend,
    canvas,
    multiply,
    scatter,
    to_linear,
)
from faceswap_cli.heads.traits import FaceTraits
from faceswap_cli.synthetic.geometry import Floats, bump, clip, smoothstep, soft_noise


def paint_complexion(face: FaceTraits, rng: np.random.Generator) -> Floats:
    """Return skin with the tones that a face has: redder cheeks and nose, yellower forehead."""
    x, y = canvas()
    shape = x.shape
    blood = soft_noise(rng, shape, ((5, 1.0), (10, 0.9), (20, 0.7), (40, 0.6), (80, 0.5)))
    pigment = soft_noise(rng, shape, ((4, 1.0), (12, 0.7), (48, 0.6), (160, 0.5)))
    color = np.empty((3, *shape), np.float32)
    color[:] = to_linear(face.skin)[:, None, None]
    # Dark skin shows less blood, and more pigment.
    fair = float(np.clip(np.mean(face.skin) * 1.6 - 0.25, 0.25, 1))
    multiply(color, (1.02, 0.80, 0.78), 0.16 * face.blotches * fair * blood)
    multiply(color, (0.80, 0.74, 0.68), 0.22 * face.blotches * pigment)
    side = np.abs(x)
    red = (
        bump((side - 4.3) / 1.9, (y + 3.4) / 1.7)
        + 0.8 * bump(x / 1.3, (y + 3.7) / 1.0)
        + 0.5 * bump((side - 1.6) / 0.7, (y + 4.2) / 0.8)
        + 0.35 * bump(x / 1.6, (y + 9.8) / 1.1)
    )
    red = red * (1 + 0.25 * blood)
    multiply(color, (0.98, 0.66, 0.64), face.redness * fair * red * 0.75)
    multiply(color, (0.92, 0.62, 0.60), 0.25 * fair * bump((side - 1.75) / 0.5, (y + 4.1) / 0.7))
    multiply(color, (1.0, 0.97, 0.88), bump(x / 5.0, (y - 5.5) / 2.2))
    return color


def paint_spots(color: Floats, face: FaceTraits, rng: np.random.Generator) -> None:
    """Paint freckles, moles and the spots of age, in place."""
    x, y = canvas()
    middle = clip(
        bump((np.abs(x) - 2.8) / 2.8, (y + 2.4) / 1.8) + 0.35 * bump(x / 5, (y - 4) / 3), 0, 1
    )
    if face.freckles > 0:
        dots = scatter(rng, int(5000 * face.freckles), (0.03, 0.09), middle)
        multiply(color, (0.62, 0.48, 0.38), 0.75 * face.freckles * dots)
    everywhere = np.full(x.shape, 1.0, np.float32)
    dots = scatter(rng, face.moles, (0.07, 0.16), everywhere)
    multiply(color, (0.30, 0.22, 0.18), dots)
    pimples = scatter(rng, 24, (0.06, 0.12), 0.8 * face.blotches * everywhere)
    multiply(color, (0.95, 0.68, 0.66), 0.5 * face.blotches * pimples)
    if face.body.age > 50:
        aged = (face.body.age - 50) / 40
        dots = scatter(rng, int(90 * aged), (0.08, 0.28), everywhere)
        multiply(color, (0.72, 0.60, 0.50), 0.6 * dots)


def paint_eye_shadow(color: Floats, face: FaceTraits) -> None:
    """Darken the skin around the eyes, in place."""
    x, y = canvas()
    side = np.abs(x) - 3.05
    under = bump((side + 0.3) / 1.5, (y + 1.25) / 0.55)
    lids = bump(side / 1.9, (y - 0.2) / 0.9)
    inner = bump((side + 1.6) / 0.6, (y - 0.1) / 0.8)
    multiply(color, (0.74, 0.62, 0.66), face.eye_shadow * 0.8 * under)
    multiply(color, (0.78, 0.64, 0.62), (0.25 + 0.4 * face.eye_shadow) * clip(lids + inner, 0, 1))


def paint_stubble(color: Floats, face: FaceTraits, rng: np.random.Generator) -> None:
    """Paint the shadow of a shaved or short beard, in place."""
    amount = max(face.stubble, min(1.0, face.beard_cm * 1.2))
    if amount <= 0 and face.mustache_cm <= 0:
        return
    hair = to_linear(face.beard)
    grain = 0.72 + 0.28 * soft_noise(rng, canvas()[0].shape, ((300, 1.0), (160, 0.6)))
    area = beard_area() * amount
    mustache = mustache_area() * max(face.stubble, min(1.0, face.mustache_cm * 1.5))
    alpha = clip(np.maximum(area, mustache) * grain, 0, 1)
    blend(color, (hair + 0.25 * to_linear(face.skin)) * 0.8, 0.55 * alpha)


@cache
def beard_area() -> Floats:
    """Return where cheeks, chin and throat grow a beard, on the canvas."""
    x, y = canvas()
    side = np.abs(x)
    # From the sideburns down to below the mouth: the cheeks' line falls to the front.
    line = -5.2 - 0.5 * (side - 4.5) ** 2 * (side < 4.5) * 0.25 + 1.1 * clip(side - 4.5, 0, 3)
    cheeks = smoothstep(0.5, -0.7, y - line) * smoothstep(2.1, 3.4, side)
    chin = smoothstep(-8.1, -8.9, y) * (1 - 0.6 * bump((side - 1.3) / 0.5, (y + 8.6) / 0.5))
    area: Floats = np.maximum(cheeks, chin).astype(np.float32)
    return area


@cache
def mustache_area() -> Floats:
    """Return where the upper lip grows hair, on the canvas."""
    x, y = canvas()
    side = np.abs(x)
    top, bottom = -4.75 - 0.12 * side**2, -5.75 - 0.10 * side**2
    area = smoothstep(0.12, -0.12, y - top) * smoothstep(-0.1, 0.1, y - bottom)
    area = area * smoothstep(3.1, 2.5, side) * (1 - 0.6 * bump(x / 0.18))
    corner = bump((side - 2.9) / 0.35, (y + 7.0) / 1.3)
    hairs: Floats = np.maximum(area, 0.8 * corner).astype(np.float32)
    return hairs
