"""Hair of the head: roots, combing and falling. Main entry point: `grow_hair`."""

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.hairline import hairline_height
from faceswap_cli.heads.mesh import HEAD_CENTER_CM, SKIN, base_mesh
from faceswap_cli.heads.strands.ribbons import HAIR, make_ribbons, sample_roots, vary_color
from faceswap_cli.heads.traits import HairTraits, HeadTraits
from faceswap_cli.synthetic.geometry import Floats, clip, smoothstep

_RIBBONS = 1300
_FACE_HALF_CM, _FOREHEAD_CM, _CHEEK_Z_CM = 5.6, 4.0, -2.0
"""Half the width that hair leaves free in front of the face, from what height down, and how far it
comes to the front beside it."""
_COLUMNS, _ROWS = 48, 32
"""Cells of the table of how far the skin is from the head's center, by direction."""


@cache
def _scalp_triangles() -> AnyArray:
    """Return the triangles of the skin that could bear hair of the head."""
    mesh = base_mesh()
    middle = mesh.points[mesh.triangles].mean(1)
    inside = (
        (mesh.part == SKIN)
        & (middle[:, 1] > -10)
        & (np.linalg.norm(middle - HEAD_CENTER_CM, axis=1) > 7.0)
    )
    return np.flatnonzero(inside)


def grow_hair(head: HeadTraits, rest: Floats, normals: Floats) -> Mapping[str, AnyArray] | None:
    """Return the hair of the head, or nothing if there is none to grow."""
    mesh, hair = base_mesh(), head.hair
    rng = np.random.default_rng((head.seed, 5))
    triangles = _scalp_triangles()
    middle = mesh.points[mesh.triangles[triangles]].mean(1)
    weight = smoothstep(-0.1, 0.5, hairline_height(middle, hair))
    weight *= 1 - 0.9 * _in_ears(middle)
    if weight.sum() < 1:
        return None
    chosen, shares = sample_roots(triangles, weight, _RIBBONS, rng)
    corners = mesh.triangles[chosen]
    roots = np.einsum("nk,nkc->nc", shares, rest[corners])
    base_roots = np.einsum("nk,nkc->nc", shares, mesh.points[corners])
    normal = np.einsum("nk,nkc->nc", shares, normals[corners])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    combed = _comb(base_roots, normal, hair, rng)
    paths = _trace(roots, normal, combed, hair, rest=rest, rng=rng)
    color = vary_color(hair.color, hair.gray, rng, len(roots))
    width = rng.uniform(0.35, 0.65, len(roots)) * (0.8 + 0.6 * min(hair.length_cm / 16, 1))
    return make_ribbons(
        paths,
        width,
        color,
        center=np.array(HEAD_CENTER_CM),
        anchors=corners[:, 0],
        rng=rng,
        kind=HAIR,
        root_light=0.55,
    )


def _in_ears(points: Floats) -> Floats:
    """Return 1 at points of the base mesh on or next to an ear."""
    x, y, z = points.T
    near: Floats = (
        smoothstep(6.6, 7.4, np.abs(x)) * (np.abs(y + 1.8) < 3.4) * (np.abs(z + 7.6) < 2.6)
    )
    return near


class _Combed(NamedTuple):
    """How N ribbons are combed."""

    length: Floats
    """cm"""
    flow: Floats
    """(N, 3)"""
    is_fringe: AnyArray
    """Bool (N,): over the brow; other ribbons fall beside the face."""


def _comb(roots: Floats, normal: Floats, hair: HairTraits, rng: np.random.Generator) -> _Combed:
    """Return how ribbons are cut and combed."""
    x, y, z = roots.T
    count = len(x)
    top = smoothstep(3.5, 8.0, y)
    side = np.sign(x - 3.0 * hair.parting + rng.normal(0, 0.25, count))
    front = smoothstep(-6.5, -1.0, z) * top
    length: Floats = np.full(count, hair.length_cm, np.float32)
    if hair.length_cm < 9:  # short at the sides and in the neck
        length = length * (0.30 + 0.70 * smoothstep(0.0, 7.0, y))
    length = np.maximum(length, 0.7)
    flow = np.stack([side * (0.9 * top), -1.0 + 0.9 * top, -0.55 * np.ones(count)], 1)
    is_fringe: AnyArray = np.zeros(count, bool)
    if hair.fringe_cm > 0:
        forward = front * smoothstep(-6.0, -3.0, z)
        is_fringe = (forward > 0.3) & (np.abs(x) < 6.5)
        length = np.where(is_fringe, hair.fringe_cm * rng.uniform(0.85, 1.05, count), length)
        ahead = np.stack([0.35 * side + 0.05 * x, np.full(count, -0.6), np.full(count, 1.3)], 1)
        flow += forward[:, None] * (ahead - flow)
    flow = flow.astype(np.float32)
    flow -= (flow * normal).sum(1, keepdims=True) * normal
    flow /= np.linalg.norm(flow, axis=1, keepdims=True) + 1e-6
    flow += rng.normal(0, 0.10, flow.shape)
    length = (length * rng.uniform(0.8, 1.08, count)).astype(np.float32)
    return _Combed(length, flow.astype(np.float32), is_fringe)


def _distance_table(rest: Floats) -> Floats:
    """Return how far the skin reaches from the head's center by direction, (rows, columns), cm."""
    mesh = base_mesh()
    skin = rest[mesh.vertices_of(SKIN)] - np.array(HEAD_CENTER_CM, np.float32)
    distance = np.linalg.norm(skin, axis=1)
    column = ((np.arctan2(skin[:, 0], skin[:, 2]) / (2 * np.pi) + 0.5) * _COLUMNS).astype(int)
    row = ((np.arcsin(skin[:, 1] / distance) / np.pi + 0.5) * _ROWS).astype(int)
    table = np.zeros((_ROWS, _COLUMNS), np.float32)
    np.maximum.at(table, (row.clip(0, _ROWS - 1), column % _COLUMNS), distance)
    for _ in range(3):  # cells that no vertex is in
        wrapped = np.pad(table, ((1, 1), (1, 1)), mode="wrap")
        wrapped[0], wrapped[-1] = wrapped[1], wrapped[-2]
        table = np.where(table > 0, table, cv2.dilate(wrapped, np.ones((3, 3)))[1:-1, 1:-1])
    # Hair falls over the shoulders, not along them.
    table = np.minimum(table, 13.0)
    smooth: Floats = cv2.GaussianBlur(np.pad(table, ((0, 0), (3, 3)), mode="wrap"), (0, 0), 0.7)
    reach: Floats = np.maximum(table * 0.985, smooth[:, 3:-3])
    return reach


def _skin_distance(table: Floats, local: Floats, distance: Floats) -> Floats:
    """Return the table's values in the directions of points (N, 3) from the head's center."""
    column = (np.arctan2(local[:, 0], local[:, 2]) / (2 * np.pi) + 0.5) * _COLUMNS - 0.5
    row = (np.arcsin(clip(local[:, 1] / distance, -1, 1)) / np.pi + 0.5) * _ROWS - 0.5
    padded = np.pad(table, ((0, 0), (2, 2)), mode="wrap")
    found: Floats = cv2.remap(
        padded,
        (column + 2).astype(np.float32).reshape(-1, 1),
        row.astype(np.float32).reshape(-1, 1),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )[:, 0]
    return found


def _trace(
    roots: Floats,
    normal: Floats,
    combed: _Combed,
    hair: HairTraits,
    *,
    rest: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return the middle lines of ribbons, (N, steps + 1, 3)."""
    lengths = combed.length
    turns = hair.curl * hair.length_cm
    steps = int(np.clip(round(hair.length_cm / 2.2 + turns), 3, 10))
    count = len(roots)
    table, center = _distance_table(rest), np.array(HEAD_CENTER_CM, np.float32)
    layer = rng.uniform(0.15, 1.0, count).astype(np.float32) * hair.lift_cm
    stiff = float(np.clip(1.6 - hair.length_cm / 6, 0.15, 1.0))
    tight = hair.curl**2
    heading = combed.flow + normal * (0.35 + 0.5 * stiff * min(hair.lift_cm, 1.5) + 2.0 * tight)
    heading /= np.linalg.norm(heading, axis=1, keepdims=True)
    down = np.array([0, -1, 0], np.float32)
    weight = 0.42 * (1 - tight) * (1 - 0.75 * stiff)
    phase = rng.uniform(0, 2 * np.pi, count)
    step = lengths[:, None] / steps
    path = [roots - 0.1 * normal]
    for number in range(1, steps + 1):
        heading = heading + weight * down + rng.normal(0, 0.05 + 0.12 * hair.curl, (count, 3))
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        point = path[-1] + heading * step
        local = point - center
        distance = np.linalg.norm(local, axis=1)
        limit = _skin_distance(table, local, distance) + layer * min(1.0, number / 2)
        pushed = center + local * (np.maximum(limit, distance) / distance)[:, None]
        pushed = np.where(combed.is_fringe[:, None], pushed, _beside_face(pushed))
        moved = pushed - path[-1]
        heading = moved / (np.linalg.norm(moved, axis=1, keepdims=True) + 1e-6)
        path.append(path[-1] + heading * step)
    line = np.stack(path, 1).astype(np.float32)
    return _curl(line, lengths, phase, hair, center)


def _beside_face(points: Floats) -> Floats:
    """Return points (N, 3), cm, those in front of the face moved to its sides and back."""
    x, y, z = points.T
    low = smoothstep(_FOREHEAD_CM + 1, _FOREHEAD_CM - 2, y)
    aside = np.maximum(np.abs(x), _FACE_HALF_CM * low * (z > -4))
    back = np.minimum(z, _CHEEK_Z_CM + 8 * (1 - low))
    moved: Floats = np.stack([np.where(x < 0, -aside, aside), y, back], 1)
    return moved


def _curl(line: Floats, lengths: Floats, phase: Floats, hair: HairTraits, center: Floats) -> Floats:
    """Return middle lines wound to curls or waves."""
    steps = line.shape[1] - 1
    along = np.linspace(0, 1, steps + 1, dtype=np.float32)[None] * lengths[:, None]
    pitch_cm = 7.0 - 4.0 * hair.curl
    angle = 2 * np.pi * along / pitch_cm + phase[:, None]
    size = (0.10 + 0.75 * hair.curl) * np.minimum(along / 3.0, 1.0) * (hair.curl > 0.02)
    outward = line - center
    outward /= np.linalg.norm(outward, axis=2, keepdims=True)
    tangent = np.gradient(line, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
    aside = np.cross(tangent, outward)
    wound: Floats = line + size[..., None] * (
        np.sin(angle)[..., None] * aside + (0.5 + 0.5 * np.cos(angle))[..., None] * outward
    )
    return wound.astype(np.float32)
