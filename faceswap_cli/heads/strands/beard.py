"""Beards and lashes, which move with the skin: `grow_beard` and `grow_lashes`."""

from collections.abc import Mapping

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import SKIN, base_mesh, vertex_normals
from faceswap_cli.heads.skin.canvas import canvas_values
from faceswap_cli.heads.skin.complexion import beard_area, mustache_area
from faceswap_cli.heads.strands.ribbons import BEARD, make_ribbons, sample_roots, vary_color
from faceswap_cli.heads.traits import FaceTraits
from faceswap_cli.synthetic.geometry import Floats, smoothstep

_BEARD_RIBBONS = 1500
_LASHES = 46
"""Lashes on an upper lid."""


def grow_beard(face: FaceTraits, rest: Floats, normals: Floats) -> Mapping[str, AnyArray]:
    """Grow beard and mustache."""
    mesh = base_mesh()
    rng = np.random.default_rng((face.seed, 6))
    triangles = np.flatnonzero(
        (mesh.part == SKIN)
        & (mesh.points[mesh.triangles][..., 2].min(1) > -7)
        & (mesh.points[mesh.triangles][..., 1].min(1) > -13)
    )
    middle = mesh.points[mesh.triangles[triangles]].mean(1)
    outside = smoothstep(
        -0.2,
        0.2,
        vertex_normals(mesh.points, mesh.triangles)[mesh.triangles[triangles, 0]]
        @ np.array([0, -0.35, 1], np.float32),
    )
    beard = canvas_values(beard_area(), middle) * outside * min(face.beard_cm, 1)
    mustache = canvas_values(mustache_area(), middle) * outside * min(face.mustache_cm, 1)
    weight = np.maximum(beard, 1.4 * mustache)
    chosen, shares = sample_roots(triangles, weight, _BEARD_RIBBONS, rng)
    corners = mesh.triangles[chosen]
    roots = np.einsum("nk,nkc->nc", shares, rest[corners])
    base_roots = np.einsum("nk,nkc->nc", shares, mesh.points[corners])
    normal = np.einsum("nk,nkc->nc", shares, normals[corners])
    is_lip = canvas_values(mustache_area(), base_roots) > 0.3
    length = np.where(is_lip, face.mustache_cm, face.beard_cm) * rng.uniform(0.6, 1.15, len(roots))
    aside = np.sign(base_roots[:, 0]) * np.where(is_lip, 1.1, 0.15)
    heading = 0.40 * normal + np.stack([aside, -np.ones(len(roots)), np.zeros(len(roots))], 1)
    heading += rng.normal(0, 0.32, heading.shape)
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    t = np.linspace(0, 1, 4)[None, :, None]
    droop = np.array([0, -0.35, 0])
    paths = roots[:, None] + length[:, None, None] * (t * heading[:, None] + t**2 * droop)
    color = vary_color(face.beard, 0.0, rng, len(roots))
    return make_ribbons(
        paths.astype(np.float32),
        rng.uniform(0.07, 0.15, len(roots)),
        color,
        center=np.array([0, -5.0, -4.0]),
        anchors=corners[:, 0],
        rng=rng,
        kind=BEARD,
        root_light=0.6,
    )


def grow_lashes(face: FaceTraits, rest: Floats) -> Mapping[str, AnyArray]:
    """Return the lashes: thin triangles from the lids' edges."""
    rng = np.random.default_rng((face.seed, 7))
    roots, tips, anchors = [], [], []
    for number, rows in enumerate(base_mesh().lashes):
        upper = number % 2 == 1
        count = _LASHES if upper else _LASHES * 2 // 3
        t = np.sort(rng.uniform(0.03, 0.97, count)) * (rows.shape[1] - 1)
        low = t.astype(int)
        part = (t - low)[:, None]
        root, tip = (rest[row[low]] * (1 - part) + rest[row[low + 1]] * part for row in rows)
        grown = (0.62 + 0.30 * face.makeup) if upper else 0.45
        reach = grown * rng.uniform(0.75, 1.1, (count, 1))
        roots.append(root)
        tips.append(root + (tip - root) * reach + rng.normal(0, 0.02, (count, 3)))
        anchors.append(rows[:, low].T)
    root, tip = np.concatenate(roots), np.concatenate(tips)
    paths = np.stack([root, tip], 1).astype(np.float32)
    color = np.full((len(root), 3), 0.012, np.float32)
    return make_ribbons(
        paths,
        np.full(len(root), 0.05 + 0.02 * face.makeup),
        color,
        center=np.array([0, 0, -20.0]),
        anchors=np.concatenate(anchors),
        rng=rng,
        kind=BEARD,
        root_light=1.0,
    )
