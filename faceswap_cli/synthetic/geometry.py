"""Vector math, signed distances, and tables over the directions from a head's center.

Convention:
    Lengths in cm, angles in rad; x to the image's right, y up, z towards the camera. A direction is
    `azimuth = atan2(x, z)` in [-pi, pi] and `elevation = asin(y / radius)` in [-pi/2, pi/2]. Arrays
    are float32; points are three arrays of one shape, because numpy is fastest on whole rows.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[Any]
"""float32 of any shape."""

Vector: TypeAlias = tuple[Floats, Floats, Floats]
"""The x, y and z of many points, three arrays of one shape."""

Triple: TypeAlias = tuple[float, float, float]
"""The x, y and z of one point, or red, green and blue in [0, 1]."""

_ROW = 1024
"""Samples per row of a look-up: `cv2.remap` refuses more than 32,767 columns."""


def clip(values: Floats, low: float, high: float) -> Floats:
    """Return `values` clipped to between `low` and `high`."""
    clipped: Floats = np.minimum(np.maximum(values, low), high)
    return clipped


def smoothstep(low: float, high: float, values: Floats) -> Floats:
    """Return 0 at `low`, 1 at `high` and a cubic between; `low` may be the larger."""
    t = clip((values - low) * (1 / (high - low)), 0, 1)
    eased: Floats = t * t * (3 - 2 * t)
    return eased


def bump(*offsets: Floats) -> Floats:
    """Return `exp(-sum of squares)`: 1 where every offset, in widths, is 0."""
    total = offsets[0] * offsets[0]
    for offset in offsets[1:]:
        total = total + offset * offset
    hill: Floats = np.exp(-total)
    return hill


def smooth_min(first: Floats, second: Floats, width_cm: float) -> Floats:
    """Return the minimum of two distances, smooth over `width_cm` (Quilez's polynomial)."""
    weight = clip(0.5 + (second - first) * (0.5 / width_cm), 0, 1)
    minimum: Floats = second + (first - second) * weight - width_cm * weight * (1 - weight)
    return minimum


def smooth_max(first: Floats, second: Floats, width_cm: float) -> Floats:
    """Return the maximum of two distances, smooth over `width_cm`."""
    return -smooth_min(-first, -second, width_cm)


def ellipsoid(point: Vector, center_cm: Triple, radii_cm: Triple) -> Floats:
    """Return the signed distance to an ellipsoid, cm, negative inside (first order, Quilez)."""
    scaled = [(p - c) * (1 / r) for p, c, r in zip(point, center_cm, radii_cm, strict=True)]
    level = np.sqrt(sum(s * s for s in scaled))
    slope = np.sqrt(sum((s * (1 / r)) ** 2 for s, r in zip(scaled, radii_cm, strict=True))) + 1e-6
    distance: Floats = level * (level - 1) / slope
    return distance


def capsule(
    point: Vector, start_cm: Triple, end_cm: Triple, *, start_radius_cm: float, end_radius_cm: float
) -> Floats:
    """Return the signed distance to a cone with round ends, cm, negative inside."""
    axis = [e - s for s, e in zip(start_cm, end_cm, strict=True)]
    away = [p - s for p, s in zip(point, start_cm, strict=True)]
    length_squared = sum(a * a for a in axis)
    along = clip(
        np.asarray(sum(w * a for w, a in zip(away, axis, strict=True)) / length_squared), 0, 1
    )
    gap = np.sqrt(sum((w - along * a) ** 2 for w, a in zip(away, axis, strict=True)))
    distance: Floats = gap - (start_radius_cm + (end_radius_cm - start_radius_cm) * along)
    return distance


def norm(vector: Vector) -> Floats:
    """Return the lengths of many vectors."""
    x, y, z = vector
    length: Floats = np.sqrt(x * x + y * y + z * z)
    return length


def dot(first: Vector, second: Vector) -> Floats:
    """Return the scalar products of many pairs of vectors."""
    product: Floats = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return product


def scale_vector(vector: Vector, factor: Floats | float) -> Vector:
    """Return many vectors times `factor`."""
    return vector[0] * factor, vector[1] * factor, vector[2] * factor


def unit(vector: Vector) -> Vector:
    """Return many vectors scaled to length 1."""
    return scale_vector(vector, 1 / (norm(vector) + 1e-9))


def point_along(origin: Triple, step: Vector, distance: Floats | float) -> Vector:
    """Return the points `distance` along `step` from `origin`."""
    return (
        origin[0] + step[0] * distance,
        origin[1] + step[1] * distance,
        origin[2] + step[2] * distance,
    )


def subset(vector: Vector, index: npt.NDArray[Any]) -> Vector:
    """Return many vectors at an index."""
    return vector[0][index], vector[1][index], vector[2][index]


def direction(azimuth: Floats, elevation: Floats) -> Vector:
    """Return the unit vectors of directions `azimuth` and `elevation`."""
    level = np.cos(elevation)
    return np.sin(azimuth) * level, np.sin(elevation), np.cos(azimuth) * level


def spherical(point: Vector) -> tuple[Floats, Floats, Floats]:
    """Return azimuth and elevation (rad) and radius (cm) of many points."""
    x, y, z = point
    across = x * x + z * z
    radius = np.sqrt(across + y * y)
    return np.arctan2(x, z), np.arctan2(y, np.sqrt(across)), radius


def directions(columns: int, rows: int) -> tuple[Floats, Floats]:
    """Return the azimuth and elevation of every cell of a map, each (rows, columns)."""
    azimuth = np.linspace(-np.pi, np.pi, columns, endpoint=False, dtype=np.float32)
    elevation = np.linspace(-np.pi / 2, np.pi / 2, rows, dtype=np.float32)
    grid_azimuth, grid_elevation = np.meshgrid(azimuth, elevation)
    return grid_azimuth, grid_elevation


@dataclass(frozen=True, kw_only=True, eq=False)
class SphereMap:
    """A function of direction, tabulated over azimuth (columns) and elevation (rows)."""

    values: Floats
    """float32 (rows, columns) or (rows, columns, channels up to 4)."""

    def sample(self, azimuth: Floats, elevation: Floats) -> Floats:
        """Return the values at many directions (N,), bilinear: (N,) or (N, channels)."""
        rows, columns = self.values.shape[:2]
        across = (azimuth + np.pi) * (columns / (2 * np.pi))
        down = (elevation + np.pi / 2) * ((rows - 1) / np.pi)
        return _bilinear(self.values, across, down)

    def downsample(self) -> "SphereMap":
        """Return the map at half the columns and rows, averaged so that it does not flicker."""
        return SphereMap(values=cv2.pyrDown(self.values, borderType=cv2.BORDER_WRAP))

    def smooth(self) -> "SphereMap":
        """Return the map blurred by about a cell."""
        padded = np.pad(self.values, ((0, 0), (4, 4)), mode="wrap")
        return SphereMap(values=cv2.GaussianBlur(padded, (0, 0), 0.8)[:, 4:-4].copy())

    @cached_property
    def with_slopes(self) -> "SphereMap":
        """The map with two more channels: derivatives by azimuth and by elevation, cm / rad."""
        rows, columns = self.values.shape
        padded = np.pad(self.values, ((0, 0), (1, 1)), mode="wrap")
        across = cv2.Sobel(padded, cv2.CV_32F, 1, 0, scale=columns / (16 * np.pi))[:, 1:-1]
        down = cv2.Sobel(padded, cv2.CV_32F, 0, 1, scale=(rows - 1) / (8 * np.pi))[:, 1:-1]
        return SphereMap(values=np.dstack([self.values, across, down]))


def _bilinear(table: Floats, across: Floats, down: Floats) -> Floats:
    """Sample `table` at many positions, arranged in rows of an image for `cv2.remap`."""
    count = across.size
    rows = max(1, -(-count // _ROW))
    positions = np.zeros((2, rows * _ROW), np.float32)
    positions[0, :count], positions[1, :count] = across, down
    grid = positions.reshape(2, rows, _ROW)
    sampled = cv2.remap(table, grid[0], grid[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    flat: Floats = sampled.reshape(rows * _ROW, *table.shape[2:])[:count]
    return flat


def soft_noise(
    rng: np.random.Generator, shape: tuple[int, int], octaves: tuple[tuple[int, float], ...]
) -> Floats:
    """Return noise (rows, columns) of mean 0 and deviation 1.

    Args:
        rng: Source of randomness.
        shape: Rows and columns.
        octaves: Layers to add up: cells from top to bottom, and weight.
    """
    rows, columns = shape
    total = np.zeros(shape, np.float32)
    for cells, weight in octaves:
        layer = rng.standard_normal((cells, cells * columns // rows)).astype(np.float32)
        total += weight * cv2.resize(layer, (columns, rows), interpolation=cv2.INTER_CUBIC)
    noise: Floats = (total - total.mean()) / (total.std() + np.float32(1e-6))
    return noise
