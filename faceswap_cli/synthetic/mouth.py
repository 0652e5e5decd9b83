"""The inside of an open mouth: dark, with teeth behind the upper lip and a tongue."""

import numpy as np

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.expression import UPPER_LIP_RISE, MouthLine, Opening
from faceswap_cli.synthetic.geometry import Floats, Triple, Vector, bump, norm, smoothstep, subset

TEETH_BEHIND_LIPS_CM = 0.75

_GULLET: Triple = (0.17, 0.05, 0.05)
_TEETH: Triple = (0.84, 0.81, 0.74)
_TONGUE: Triple = (0.55, 0.22, 0.22)


def add_mouth(
    light: Floats,
    point: Vector,
    opening: Opening,
    *,
    azimuth: Floats,
    ray: Vector,
    lamp: Triple,
    mouth: MouthLine,
    scene: SceneParams,
) -> None:
    """Render the inside of the mouth into `light` (N, 3), in place, where it is open."""
    chosen = np.flatnonzero(opening.inside)
    if chosen.size == 0:
        return
    index = opening.index[chosen]
    lips, lip_ray = subset(point, index), subset(ray, index)
    below_upper, above_lower = opening.below_upper[chosen], opening.above_lower[chosen]
    teeth, gaps = _teeth(lips, lip_ray, opening.profile[chosen], mouth=mouth, scene=scene)
    inner = np.array(_GULLET, np.float32) * (1 - teeth)[:, None]
    inner += np.array(_TEETH, np.float32) * (gaps * teeth)[:, None]
    tongue = smoothstep(0, 0.10, np.radians(4.5) * scene.jaw - above_lower)
    tongue = 0.85 * tongue * bump(azimuth[index] / 0.16) * (1 - teeth)
    inner += (np.array(_TONGUE, np.float32) - inner) * tongue[:, None]
    depth = np.minimum(below_upper, above_lower)
    strength = 0.42 + 0.40 * scene.key * min(max(lamp[2], 0), 1)
    inner *= (strength * (0.55 + 0.45 * smoothstep(0, 0.05, depth)))[:, None]
    outer = light[index]
    light[index] = outer + (inner - outer) * smoothstep(0, 0.012, depth)[:, None]


def _teeth(
    lips: Vector, ray: Vector, profile: Floats, *, mouth: MouthLine, scene: SceneParams
) -> tuple[Floats, Floats]:
    """Return how much of each pixel the upper teeth cover, and their shade between gaps."""
    behind = TEETH_BEHIND_LIPS_CM / np.maximum(-ray[2], 0.3)
    x, y, z = (p + r * behind for p, r in zip(lips, ray, strict=True))
    azimuth = np.arctan2(x, z)
    edge = mouth.at(azimuth) + UPPER_LIP_RISE * scene.jaw * mouth.opening(azimuth)
    below_gum = norm(lips) * np.sin(edge) - y + 0.30
    length = 0.95 * smoothstep(0, 0.7, profile)
    cover = smoothstep(0.05, -0.05, below_gum - length)
    cover = cover * smoothstep(0.85, 0.55, np.abs(azimuth) / mouth.corner)
    gaps = 0.80 + 0.20 * smoothstep(0, 0.22, np.abs(np.sin(x * (np.pi / 0.85))))
    return cover, gaps
