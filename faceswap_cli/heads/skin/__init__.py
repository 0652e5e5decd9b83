"""The skin of a person, painted once: `paint_skin`.

Skin is painted on a canvas, the base mesh seen from the front, and carried over to the texture
atlas. Features therefore follow each person's form, and lines are drawn where a face has them.
Colors are linear RGB here; textures hold their square roots as bytes.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import ATLAS_SIZE, base_mesh, face_weight
from faceswap_cli.heads.skin.canvas import blend, canvas, canvas_maps, to_atlas, to_linear
from faceswap_cli.heads.skin.complexion import (
    paint_complexion,
    paint_eye_shadow,
    paint_spots,
    paint_stubble,
)
from faceswap_cli.heads.skin.covers import paint_clothes, paint_ears_and_mouth, paint_scalp
from faceswap_cli.heads.skin.features import paint_brows, paint_lips, paint_makeup
from faceswap_cli.heads.skin.wrinkles import paint_wrinkles
from faceswap_cli.heads.traits import FaceTraits, HeadPerson
from faceswap_cli.synthetic.geometry import Floats, bump, clip, soft_noise


@dataclass(frozen=True, kw_only=True, eq=False)
class SkinTexture:
    """A person's maps, (1280, 640) texels."""

    color: AnyArray
    """uint8 (H, W, 3): square roots of linear RGB."""
    surface: AnyArray
    """uint8 (H, W, 4): face (what a swap replaces), gloss, height (128 is flat), clothes."""


def paint_skin(person: HeadPerson) -> SkinTexture:
    """Paint a person's maps: takes a quarter of a second."""
    face, rng = person.face, np.random.default_rng(person.face.seed)
    _, _, front = canvas_maps()
    planes, gloss, height = _paint_face(face, rng)
    color = _bare_skin(face, rng)
    painted = [to_atlas(plane) for plane in (*planes, gloss, height)]
    blend(color, np.stack(painted[:3]), front)
    paint_ears_and_mouth(color, face)
    surface = np.zeros((4, *front.shape), np.float32)
    surface[0] = _texel_face()
    surface[1] = 0.35 + (painted[3] - 0.35) * front
    surface[2] = 0.5 + painted[4] * front
    paint_clothes(color, surface, person.head)
    paint_scalp(color, surface, person.head)
    return SkinTexture(
        color=_to_bytes(np.sqrt(clip(color, 0, 1))), surface=_to_bytes(clip(surface, 0, 1))
    )


def _to_bytes(planes: Floats) -> AnyArray:
    """Return planes (C, H, W) in [0, 1] as uint8 (H, W, C)."""
    scaled: AnyArray = cv2.merge([cv2.convertScaleAbs(plane, alpha=255) for plane in planes])
    return scaled


@cache
def _texel_face() -> Floats:
    """Return how much each texel belongs to the face that a swap replaces."""
    return face_weight(base_mesh().texel_points)


def _bare_skin(face: FaceTraits, rng: np.random.Generator) -> Floats:
    """Return linear skin color over the atlas, away from the face's features."""
    width, height = ATLAS_SIZE
    noise = soft_noise(rng, (height, width), ((12, 1.0), (24, 0.7), (48, 0.5), (192, 0.4)))
    skin = to_linear(face.skin)
    color: Floats = skin[:, None, None] * (1 + 0.05 * face.blotches * noise)
    return color


def _paint_face(face: FaceTraits, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """Return the canvas: linear color planes (3, H, W), gloss and height (H, W)."""
    x, y = canvas()
    color = paint_complexion(face, rng)
    gloss = 0.30 + 0.45 * face.gloss * (
        0.7 * bump(x / 2.5, (y - 5.0) / 2.0)
        + bump(x / 0.9, (y + 2.6) / 2.2)
        + 0.5 * bump((np.abs(x) - 4.2) / 1.3, (y + 2.0) / 1.0)
        + 0.4 * bump(x / 1.2, (y + 9.6) / 0.9)
    )
    height = np.zeros_like(x)
    paint_spots(color, face, rng)
    paint_eye_shadow(color, face)
    paint_stubble(color, face, rng)
    paint_wrinkles(color, height, face, rng)
    paint_lips(color, gloss, height, face, rng)
    paint_brows(color, face, rng)
    paint_makeup(color, face)
    pores = soft_noise(rng, x.shape, ((240, 1.0), (120, 0.6)))
    height += 0.012 * pores
    return color, gloss, height
