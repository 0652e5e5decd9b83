"""What light reaches: shadow maps of lamps, and ambient occlusion of a head at rest.

Soft shadows are variance shadow maps: Donnelly and Lauritzen 2006. Main entry points:
`ShadowMap.create` and `ambient_occlusion`.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.raster import rasterize_depth
from faceswap_cli.synthetic.geometry import Floats, Triple, clip

_DISTANCE_CM = 400.0
"""Lamps are this far away: rays are nearly parallel."""
_RADIUS_CM = 17.0
"""Of the sphere around the head that shadow maps cover."""
_FOV_RAD = 2 * float(np.arctan(_RADIUS_CM / _DISTANCE_CM))
_SIDE = 160
_BIAS_CM = 0.35
_BLEED = 0.25
"""Below this visibility is full shadow: variance maps leak light."""

_AMBIENT_VIEWS, _AMBIENT_SIDE, _AMBIENT_BIAS_CM = 40, 80, 0.5


def observer_axes(direction: Triple | Floats) -> Floats:
    """Return the rotation (3, 3) to the axes of an observer in a direction, z towards it."""
    z = np.asarray(direction, np.float64)
    z = z / np.linalg.norm(z)
    helper = np.array([0.0, 1.0, 0.0]) if abs(z[1]) < 0.95 else np.array([0.0, 0.0, 1.0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    matrix: Floats = np.stack([x, np.cross(z, x), z]).astype(np.float32)
    return matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowMap:
    """How far from a lamp the nearest surface is, blurred with its square."""

    matrix: Floats
    center: Floats
    moments: Floats
    """float32 (S, S, 2): means of the depth and of its square, cm from the center."""

    @classmethod
    def create(
        cls,
        points: Floats,
        triangles: AnyArray,
        *,
        direction: Triple,
        center: Floats,
        size: float,
    ) -> "ShadowMap":
        """Return the shadows that triangles cast, seen from a lamp; `size` as in `Lamp`."""
        matrix = observer_axes(direction)
        depth = _depth_from(matrix, points, triangles, center=center, side=_SIDE)
        # Where nothing is, let the blur see the back of the head, not infinity.
        depth = np.minimum(depth - _DISTANCE_CM, _RADIUS_CM)
        moments = np.dstack([depth, depth * depth])
        sigma = (0.8 + 5.0 * size) * _SIDE / 192
        return cls(matrix=matrix, center=center, moments=cv2.GaussianBlur(moments, (0, 0), sigma))

    def visibility(self, points: Floats) -> Floats:
        """Return how much of the lamp is seen from points (3, N), (N,) 0 to 1."""
        x, y, depth = _map_position(self.matrix, points, self.center, _SIDE)
        depth = depth - _BIAS_CM
        mean, square = sample(self.moments, x, y).T
        variance = np.maximum(square - mean * mean, 0.02)
        behind = np.maximum(depth - mean, 0)
        lit = variance / (variance + behind * behind)
        seen: Floats = clip((lit - _BLEED) * (1 / (1 - _BLEED)), 0, 1)
        return seen


def _map_position(
    matrix: Floats, points: Floats, center: Floats, side: int
) -> tuple[Floats, Floats, Floats]:
    """Return x and y in px of a map, and the distance from the center, cm, of points (3, N)."""
    local = matrix @ points - (matrix @ center)[:, None]
    scale = side / 2 / _RADIUS_CM
    return local[0] * scale + (side / 2 - 0.5), local[1] * -scale + (side / 2 - 0.5), -local[2]


def sample(table: AnyArray, x: Floats, y: Floats) -> AnyArray:
    """Return values of an image (H, W, C) at many positions (N,) in px: (N, C), bilinear."""
    count = len(x)
    rows = -(-count // _ROW)
    places = np.zeros((2, rows * _ROW), np.float32)
    places[0, :count], places[1, :count] = x, y
    grid = places.reshape(2, rows, _ROW)
    sampled = cv2.remap(table, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return sampled.reshape(rows * _ROW, -1)[:count]


_ROW = 1024
"""`cv2.remap` refuses more than 32,767 columns."""


def _depth_from(
    matrix: Floats, points: Floats, triangles: AnyArray, *, center: Floats, side: int
) -> Floats:
    local = (points - center) @ matrix.T
    local[:, 2] -= _DISTANCE_CM
    return rasterize_depth(local, triangles, size=(side, side), fov_rad=_FOV_RAD)


def ambient_occlusion(
    points: Floats, normals: Floats, triangles: AnyArray, *, center: Floats, count: int
) -> Floats:
    """Return how much of the sky the first `count` points see, float32 (count,), 0 to 1.

    Views from directions spread over a sphere say which points are in front there; each counts by
    the cosine to the normal.
    """
    seen, total = np.zeros(count, np.float32), np.full(count, 1e-6, np.float32)
    lifted = (points[:count] + 0.1 * normals[:count]).T
    for direction in _spread_directions(_AMBIENT_VIEWS):
        matrix = observer_axes(direction)
        depth = _depth_from(matrix, points, triangles, center=center, side=_AMBIENT_SIDE)
        x, y, away = _map_position(matrix, lifted, center, _AMBIENT_SIDE)
        nearest = sample(depth - _DISTANCE_CM, x, y)[:, 0]
        cosine = np.maximum(normals[:count] @ direction, 0)
        seen += cosine * (away < nearest + _AMBIENT_BIAS_CM)
        total += cosine
    return seen / total


def _spread_directions(count: int) -> Floats:
    """Return unit vectors evenly over the sphere (Fibonacci lattice), float32 (count, 3)."""
    number = np.arange(count) + 0.5
    y = 1 - 2 * number / count
    angle = np.pi * (1 + 5**0.5) * number
    level = np.sqrt(1 - y * y)
    spread: Floats = np.stack([level * np.cos(angle), y, level * np.sin(angle)], 1)
    return spread.astype(np.float32)
