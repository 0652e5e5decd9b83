"""What is not the front of a face: ears, the mouth's inside, clothes, short hair."""

from functools import cache

import numpy as np

from faceswap_cli.heads.hairline import scalp_cover
from faceswap_cli.heads.mesh import base_mesh
from faceswap_cli.heads.skin.canvas import (
    blend,
    multiply,
    to_linear,
)
from faceswap_cli.heads.traits import FaceTraits, HeadTraits
from faceswap_cli.synthetic.geometry import Floats, bump, clip, smoothstep, soft_noise


def paint_ears_and_mouth(color: Floats, face: FaceTraits) -> None:
    """Redden the ears and paint the inside of the mouth, in place."""
    mesh = base_mesh()
    fair = float(np.clip(np.mean(face.skin) * 1.6 - 0.25, 0.25, 1))
    multiply(color, (1.0, 0.70, 0.66), 0.5 * fair * mesh.regions["ears"])
    blend(color, (0.16, 0.035, 0.03), clip(1.5 * mesh.regions["inside_mouth"], 0, 1))


def paint_clothes(color: Floats, surface: Floats, head: HeadTraits) -> None:
    """Paint clothes over the shoulders, in place."""
    x, y, z = np.moveaxis(base_mesh().texel_points, -1, 0)
    edge = -17.6 + head.collar_cm - 2.2 * bump(x / 5) * smoothstep(-8, -3, z) + 0.25 * np.abs(x)
    edge = np.minimum(edge, -14.5)
    cloth = smoothstep(0.12, -0.12, y - edge)
    rng = np.random.default_rng(head.seed)
    weave = soft_noise(rng, y.shape, ((500, 1.0), (60, 0.6), (20, 0.8)))
    seam = 1 - 0.35 * bump((y - edge + 0.7) / 0.12)
    tint = to_linear(head.clothes)[:, None, None] * (seam * (1 + 0.06 * weave))
    covered = cloth * (_outside_mouth())
    blend(color, tint, covered)
    surface[1] *= 1 - 0.8 * covered
    surface[3] = covered


def paint_scalp(color: Floats, surface: Floats, head: HeadTraits) -> None:
    """Paint short hair, or what is seen between longer ones, in place."""
    rng = np.random.default_rng((head.seed, 4))
    cover = scalp_cover(head.hair, rng)
    grain = soft_noise(rng, cover.shape, ((700, 1.0), (250, 0.6)))
    hair = to_linear(head.hair.color) * (1 - head.hair.gray) + 0.3 * head.hair.gray
    short = float(np.clip(head.hair.length_cm / 1.5, 0, 1))
    cover = clip(cover * (0.55 + 0.45 * short + 0.25 * (1 - short) * grain), 0, 1)
    blend(color, hair[:, None, None] * (0.75 + 0.12 * clip(grain, -2, 2)), cover)
    surface[1] *= 1 - 0.7 * cover
    surface[3] = np.maximum(surface[3], cover)


@cache
def _outside_mouth() -> Floats:
    """Return 1 where the atlas is covered, outside the mouth."""
    mesh = base_mesh()
    covered = np.abs(mesh.texel_normals).max(-1) > 0
    inside: Floats = covered * (1 - mesh.regions["inside_mouth"])
    return inside
