"""Rasterization of triangles with a z-buffer: OpenCV's, with its conventions in one place.

Main entry points: `rasterize` (a scene seen by a camera) and `rasterize_uv` (a texture atlas).
Convention: camera coordinates are x right, y up, z towards the camera, so what is visible has
negative z; a pixel's center lies half a pixel from its border.
"""

from typing import NamedTuple

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.synthetic.geometry import Floats

NEAR_CM, FAR_CM = 1.0, 1000.0
_IDENTITY = np.eye(4, dtype=np.float32)
_MAX_TRIANGLES = 1 << 22
"""More could not be numbered exactly by float32 between 0 and 1."""


class Raster(NamedTuple):
    """What each pixel shows."""

    triangle: AnyArray
    """int32 (H, W): index of the triangle, -1 where there is none."""
    weights: Floats
    """float32 (H, W, 2): the shares of the triangle's second and third vertex, in perspective."""
    depth: Floats
    """float32 (H, W): distance along the optical axis, `FAR_CM` where there is nothing."""


def rasterize(
    points: Floats, triangles: AnyArray, *, size: tuple[int, int], fov_rad: float
) -> Raster:
    """Return the nearest triangle of each pixel.

    Args:
        points: Vertices in camera coordinates, float32 (N, 3), cm.
        triangles: Vertices of each triangle (T, 3); both sides are visible.
        size: Width and height, px.
        fov_rad: Vertical field of view.
    """
    count = len(triangles)
    assert count < _MAX_TRIANGLES, count
    scale = 1 << (count + 1).bit_length()  # a power of two: numbers survive as they are
    codes = np.zeros((count, 3, 3), np.float32)
    codes[:, :, 0] = ((np.arange(count) + 0.5) / scale)[:, None]
    codes[:, 1, 1] = 1
    codes[:, 2, 2] = 1
    corners = np.ascontiguousarray(points, np.float32)[triangles].reshape(-1, 3)
    buffer, depth = _run(
        corners,
        np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        codes.reshape(-1, 3),
        size=size,
        fov_rad=fov_rad,
    )
    triangle = np.floor(buffer[..., 0] * scale).astype(np.int32)
    return Raster(np.maximum(triangle, -1), buffer[..., 1:], depth)


def is_front_facing(points: Floats, triangles: AnyArray) -> AnyArray:
    """Return which triangles show their front to the camera, bool (T,); arguments as above."""
    rows = np.ascontiguousarray(points.T)
    a, b, c = (np.stack([row.take(corner) for row in rows]) for corner in triangles.T)
    u, v = b - a, c - a
    normal_x = u[1] * v[2] - u[2] * v[1]
    normal_y = u[2] * v[0] - u[0] * v[2]
    normal_z = u[0] * v[1] - u[1] * v[0]
    facing: AnyArray = normal_x * a[0] + normal_y * a[1] + normal_z * a[2] < 0
    return facing


def is_in_frame(points: Floats, triangles: AnyArray, *, fov_rad: float) -> AnyArray:
    """Return which triangles may be in a square image, bool (T,); arguments as above."""
    reach = np.float32(np.tan(fov_rad / 2)) * -points[:, 2]
    x, y = points[:, 0], points[:, 1]
    sides = (x > reach) + 2 * (x < -reach) + 4 * (y > reach) + 8 * (y < -reach)
    outside = sides.astype(np.uint8)
    a, b, c = (outside.take(corner) for corner in triangles.T)
    inside: AnyArray = (a & b & c) == 0
    return inside


def rasterize_depth(
    points: Floats, triangles: AnyArray, *, size: tuple[int, int], fov_rad: float
) -> Floats:
    """Return the distance of the nearest triangle along the optical axis, as in `rasterize`."""
    width, height = size
    depth = np.full((height, width), FAR_CM, np.float32)
    cv2.triangleRasterizeDepth(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(triangles, np.int32),
        depth,
        _IDENTITY,
        fov_rad,
        NEAR_CM,
        FAR_CM,
        _settings(),
    )
    return depth


def rasterize_uv(
    uv: AnyArray, triangles: AnyArray, values: AnyArray, size: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Return values of vertices interpolated over a texture atlas, and where it is covered.

    Args:
        uv: Texture coordinates (N, 2), 0 to 1 from the top left.
        triangles: Vertices of each triangle (T, 3).
        values: Three values per vertex (N, 3), of any range.
        size: Width and height of the atlas, px.

    Returns:
        float32 (H, W, 3), 0 where nothing covers, and float32 (H, W) of 0 and 1.
    """
    width, height = size
    low, high = values.min(0), values.max(0)
    # A plane at distance 1, with a field of view of 90 degrees, is 2 high.
    plane = np.full((len(uv), 3), -1, np.float32)
    plane[:, 0] = (2 * uv[:, 0] - 1) * (width / height)
    plane[:, 1] = 1 - 2 * uv[:, 1]
    colors = ((values - low) / np.maximum(high - low, 1e-9)).astype(np.float32)
    buffer, _ = _run(plane * 2, triangles, colors, size=size, fov_rad=np.pi / 2)
    covered = (buffer[..., 0] >= 0).astype(np.float32)
    return (buffer * (high - low) + low).astype(np.float32) * covered[..., None], covered


def _run(
    points: Floats, triangles: AnyArray, colors: Floats, *, size: tuple[int, int], fov_rad: float
) -> tuple[Floats, Floats]:
    """Return colors of vertices interpolated, -1 where there is nothing, and the depth."""
    width, height = size
    buffer = np.full((height, width, 3), -1, np.float32)
    depth = np.full((height, width), FAR_CM, np.float32)
    cv2.triangleRasterize(
        np.ascontiguousarray(points, np.float32),
        np.ascontiguousarray(triangles, np.int32),
        np.ascontiguousarray(colors),
        buffer,
        depth,
        _IDENTITY,
        fov_rad,
        NEAR_CM,
        FAR_CM,
        _settings(),
    )
    return buffer, depth


def _settings() -> cv2.TriangleRasterizeSettings:
    """Return OpenCV's settings: values are interpolated, and both sides are visible."""
    settings = cv2.TriangleRasterizeSettings()
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    settings.setCullingMode(cv2.RASTERIZE_CULLING_NONE)
    settings.setGlCompatibleMode(cv2.RASTERIZE_COMPAT_DISABLED)
    return settings
