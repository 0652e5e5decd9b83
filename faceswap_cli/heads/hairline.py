"""Where hair of the head grows: `hairline_height` and `scalp_cover`."""

import cv2
import numpy as np

from faceswap_cli.heads.mesh import HEAD_CENTER_CM, base_mesh
from faceswap_cli.heads.traits import HairTraits
from faceswap_cli.synthetic.geometry import Floats, smoothstep


def hairline_height(points: Floats, hair: HairTraits) -> Floats:
    """Return how far points of the base mesh are above the hairline, cm; negative is bare skin."""
    x, y, z = np.moveaxis(points, -1, 0)
    angle = np.degrees(np.abs(np.arctan2(x, z - HEAD_CENTER_CM[2])))
    line = np.interp(
        angle,
        [0, 18, 34, 46, 58, 70, 84, 92, 104, 118, 140, 180],
        [6.1, 6.0, 5.7, 4.7, 2.4, -0.2, -1.6, 1.6, 1.4, -3.5, -7.5, -8.6],
    ).astype(np.float32)
    front = smoothstep(75, 25, angle)
    temples = np.exp(-(((angle - 33) / 16) ** 2))
    line = line + hair.hairline_cm * front + hair.recession * (3.2 * temples + 1.6 * front)
    crown = np.hypot(x / 5.5, (z + 9.5) / 5.5)
    bald = np.where(y > 5, (hair.recession - 0.55) * 9 * np.exp(-(crown**2)), 0)
    bald += np.where(y > 5, np.maximum(hair.recession - 0.75, 0) * 30 * front, 0)
    height: Floats = (y - line - np.maximum(bald, 0)).astype(np.float32)
    return height


def scalp_cover(hair: HairTraits, rng: np.random.Generator) -> Floats:
    """Return how much hair covers each texel of the skin, (1280, 640), 0 to 1."""
    if hair.length_cm <= 0:
        return np.zeros(base_mesh().texel_points.shape[:2], np.float32)
    mesh = base_mesh()
    height = hairline_height(mesh.texel_points, hair)
    ragged = rng.standard_normal((384, 192)).astype(np.float32)
    height = height + 0.28 * cv2.resize(ragged, height.shape[::-1], interpolation=cv2.INTER_CUBIC)
    cover: Floats = smoothstep(-0.35, 0.75, height) * (1 - mesh.regions["ears"])
    return cover
