"""Ribbons of strands: bands of a few triangles along lines. Main entry point: `make_ribbons`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.mesh import base_mesh, bend_weight
from faceswap_cli.heads.skin.canvas import to_linear
from faceswap_cli.synthetic.geometry import Floats, Triple, clip

HAIR, BEARD, GLASSES = range(3)
"""Values of `Strands.kind`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Strands:
    """Ribbons of a person at rest; arrays are per vertex, float32, unless they say otherwise."""

    points: Floats
    """(M, 3): middle lines, cm; both edges of a ribbon have the same."""
    half_width: Floats
    """(M,): from the middle line to this edge, cm, with sign."""
    triangles: AnyArray
    """int32 (T, 3)."""
    tangents: Floats
    """(M, 3): from root to tip."""
    outward: Floats
    """(M, 3): away from the skin."""
    color: Floats
    """(M, 3): linear RGB."""
    light: Floats
    """(M,): how much of the surroundings is seen; roots are in the dark."""
    across: Floats
    """(M,): position across the strands, in strands."""
    bend: Floats
    """(M,): how far a vertex follows the head."""
    anchors: AnyArray
    """int32 (M,): the vertex of the mesh that each one moves with."""
    kind: AnyArray
    """uint8 (T,): `HAIR`, `BEARD` (and lashes, which belong to the face) or `GLASSES`."""
    ribbon: AnyArray
    """int32 (T,): number of the ribbon."""

    @cached_property
    def shadow_triangles(self) -> AnyArray:
        """int32: the triangles of every third ribbon: enough for soft shadows."""
        casting: AnyArray = self.triangles[self.ribbon % 3 == 0]
        return casting

    @cached_property
    def corners(self) -> AnyArray:
        """`triangles` as rows, int32 (3, T)."""
        return np.ascontiguousarray(self.triangles.T)

    @cached_property
    def rows(self) -> Floats:
        """float32 (11, M): tangents, outward, color, light, across."""
        rows: Floats = np.vstack(
            [self.tangents.T, self.outward.T, self.color.T, self.light, self.across]
        ).astype(np.float32)
        return rows


def make_ribbons(
    paths: Floats,
    width: Floats,
    color: Floats,
    *,
    center: Floats,
    anchors: AnyArray,
    rng: np.random.Generator,
    kind: int,
    root_light: float,
    taper: bool = True,
) -> Mapping[str, AnyArray]:
    """Return the arrays of `Strands` of bands along middle lines (N, steps + 1, 3)."""
    count, knots = paths.shape[:2]
    tangent = np.gradient(paths, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
    outward = paths - center.astype(np.float32)
    outward -= (outward * tangent).sum(2, keepdims=True) * tangent
    outward /= np.linalg.norm(outward, axis=2, keepdims=True) + 1e-6
    t = np.linspace(0, 1, knots, dtype=np.float32)
    profile = np.interp(t, [0, 0.15, 0.7, 1], [0.75, 1.0, 0.9, 0.3]) if taper else np.ones(knots)
    half = 0.5 * width[:, None] * profile
    first = np.arange(count * knots * 2).reshape(count, knots, 2)
    a, b, c, d = first[:, :-1, 0], first[:, :-1, 1], first[:, 1:, 0], first[:, 1:, 1]
    triangles = np.concatenate(
        [np.stack([a, b, c], -1).reshape(-1, 3), np.stack([b, d, c], -1).reshape(-1, 3)]
    ).astype(np.int32)
    light: Floats = np.interp(t, [0, 0.55], [root_light, 1])
    offset = rng.uniform(0, 64, count)
    across: Floats = np.stack([offset, offset + width * 14], axis=1)

    def per_vertex(values: Floats) -> Floats:
        spread: Floats = np.broadcast_to(values, (count, knots, 2, *values.shape[3:]))
        return spread.reshape(count * knots * 2, *values.shape[3:]).astype(np.float32)

    flat = per_vertex(paths[:, :, None])
    return {
        "points": flat,
        "half_width": per_vertex(np.stack([-half, half], 2)),
        "triangles": triangles,
        "tangents": per_vertex(tangent[:, :, None]),
        "outward": per_vertex(outward[:, :, None]),
        "color": per_vertex(color[:, None, None]),
        "light": per_vertex(light[None, :, None]),
        "across": per_vertex(across[:, None, :]),
        "bend": _hair_bend(flat) if kind == HAIR else np.ones(len(flat), np.float32),
        "anchors": per_vertex(anchors.reshape(count, -1, 1)).astype(np.int32),
        "kind": np.full(len(triangles), kind, np.uint8),
        "ribbon": np.tile(np.repeat(np.arange(count, dtype=np.int32), knots - 1), 2),
    }


def edges(middle: Floats, tangents: Floats, half_width: Floats, towards: Floats) -> Floats:
    """Return the edges of ribbons that turn their flat side to a point or along a direction.

    Args:
        middle: Points of the middle lines (M, 3).
        tangents: (M, 3).
        half_width: Signed (M,).
        towards: Vectors to what the ribbons face (M, 3), of any length.
    """
    t, v = tangents.T, towards.T
    aside = np.stack(
        [t[1] * v[2] - t[2] * v[1], t[2] * v[0] - t[0] * v[2], t[0] * v[1] - t[1] * v[0]]
    )
    length = np.sqrt((aside * aside).sum(0)) + 1e-6
    moved: Floats = middle + (aside * (half_width / length)).T
    return moved


def _hair_bend(points: Floats) -> Floats:
    """Return how far hair follows the head: what lies on the shoulders stays there."""
    lowered = points.copy()
    lowered[:, 1] += 4.0
    return bend_weight(lowered)


def vary_color(base: Triple, gray_share: float, rng: np.random.Generator, count: int) -> Floats:
    """Return the linear colors of ribbons (count, 3): varied, and some of them gray."""
    color = np.tile(to_linear(base), (count, 1))
    color *= np.exp(rng.normal(0, 0.20, (count, 1)))
    color *= 1 + rng.normal(0, 0.05, (count, 3))
    gray = gray_share * rng.uniform(0.6, 1.0, (count, 1)) * rng.uniform(0.5, 1.15, (count, 1))
    mixed: Floats = (color + (0.36 - color) * clip(gray, 0, 1)).astype(np.float32)
    return mixed


def sample_roots(
    triangles: AnyArray, weight: Floats, count: int, rng: np.random.Generator
) -> tuple[AnyArray, Floats]:
    """Return triangles and barycentric weights of `count` points, as dense as `weight` says.

    The areas are those of the base mesh, so that another face under the same hair moves no root.
    """
    mesh = base_mesh()
    corners = mesh.points[mesh.triangles[triangles]]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    share = np.cumsum(area * weight)
    picks = (np.arange(count) + rng.uniform(0, 1, count)) / count * share[-1]
    chosen = np.searchsorted(share, picks).clip(0, len(triangles) - 1)
    a, b = rng.uniform(0, 1, (2, count))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    weights: Floats = np.stack([1 - a - b, a, b], 1).astype(np.float32)
    return triangles[chosen], weights
