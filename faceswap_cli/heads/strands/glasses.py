"""Glasses, of ribbons as well: `make_glasses`."""

from collections.abc import Mapping

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import LEFT_EYE, SKIN, base_mesh
from faceswap_cli.heads.strands.ribbons import GLASSES, Strands, make_ribbons
from faceswap_cli.heads.traits import HeadTraits
from faceswap_cli.synthetic.geometry import Floats

_RIMS = (0, 1)
"""Numbers of the ribbons around the lenses."""


def rim_vertices(strands: Strands) -> tuple[AnyArray, ...]:
    """Return the vertices of both rims of a person's glasses; none without glasses."""
    is_glasses = strands.kind == GLASSES
    if not is_glasses.any():
        return ()
    return tuple(
        np.unique(strands.triangles[is_glasses & (strands.ribbon == number)]) for number in _RIMS
    )


def make_glasses(head: HeadTraits, rest: Floats) -> Mapping[str, AnyArray]:
    """Return the frame of a pair of glasses: two rims, the bridge and the temples."""
    mesh, size = base_mesh(), head.glasses_size
    left = rest[mesh.vertices_of(LEFT_EYE)].mean(0)
    skin = rest[mesh.vertices_of(SKIN)]
    beside = (np.abs(skin[:, 1] - left[1]) < 1) & (skin[:, 2] > -6) & (skin[:, 2] < -2)
    half = float(np.abs(skin[beside, 0]).max()) + 0.25
    x, y, z = float(left[0]), float(left[1]) - 0.35, float(left[2]) + 2.9
    t = np.linspace(0, 2 * np.pi, 25)
    rim = np.stack(
        [
            x + 2.55 * size * np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.8,
            y + 1.95 * size * np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 0.8,
            z - 0.5 * (np.cos(t) > 0) * np.cos(t),
        ],
        axis=1,
    )
    along = np.linspace(0, 1, 25)
    corner = x + 2.5 * size
    temple = np.stack(
        [
            np.interp(along, [0, 0.12, 1], [corner, max(half, corner), max(half, 7.3)]),
            np.full(25, y + 0.9),
            np.interp(along, [0, 0.12, 1], [z - 0.5, z - 1.2, -7.5]),
        ],
        axis=1,
    )
    inner = x - 2.5 * size
    bridge = np.stack(
        [np.linspace(inner, -inner, 25), y + 0.5 + 0.25 * np.sin(np.pi * along), np.full(25, z)], 1
    )
    mirror = np.array([-1, 1, 1])
    paths = np.stack([rim, rim * mirror, temple, temple * mirror, bridge]).astype(np.float32)
    shade = 0.5 * (1 - head.glasses) ** 2 + 0.01
    return make_ribbons(
        paths,
        np.float32(head.frame_width) * np.array([0.26, 0.26, 0.40, 0.40, 0.26], np.float32),
        np.full((5, 3), shade, np.float32),
        center=np.array([0, 0, -40.0]),
        anchors=np.full(5, rest[:, 1].argmax()),
        rng=np.random.default_rng(1),
        kind=GLASSES,
        root_light=1.0,
        taper=False,
    )
