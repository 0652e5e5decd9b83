"""Intersection of camera rays with a head: `cast_rays`."""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.synthetic.camera import Camera, Placement
from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    Triple,
    Vector,
    clip,
    point_along,
    scale_vector,
    spherical,
    subset,
)

_FAR_CM = 1e6

REACH_CM = 16.5
"""Upper bound on the radius of a head with hair."""

COARSE = 4
"""Rays are first cast at every fourth pixel, which gives the fine ones their start."""

_FIRST_STEP = 0.62
"""Length of the first step along a ray as a fraction of its height above the surface."""
_SLOPE_RANGE, _STEP_RANGE_CM = (0.55, 3.3), (-0.6, 2.5)
"""Bounds on a secant's slope (1 is a ray straight down) and on a step."""
_NEAR_CM = 0.008
"""A ray this close to the surface is a hit."""
_COARSE_STEPS, _FINE_STEPS = 24, 40


@dataclass(frozen=True, kw_only=True, eq=False)
class VisiblePixels:
    """The pixels (N,) that show the head."""

    rows: Floats
    columns: Floats
    alpha: Floats
    """How much of the pixel is head, above 0 to 1."""
    ray: Vector
    """Unit directions from the camera, head coordinates."""
    point: Vector
    """Where they meet the surface, head coordinates, cm."""
    distance: Floats
    """cm along the ray."""


def cast_rays(
    radius: SphereMap, camera: Camera, placement: Placement, *, nearer_than_cm: Floats
) -> VisiblePixels:
    """Find every pixel that shows a head, and where on it.

    Args:
        radius: The head's surface.
        camera: The camera.
        placement: The head's placement.
        nearer_than_cm: Depth of what is already in the image, (S, S): distance along each ray.
    """
    eye = placement.camera_cm()
    rows, columns, start = _starts(radius, camera, placement)
    ray = placement.vectors_to_local(
        camera.rays(columns.astype(np.float32), rows.astype(np.float32))
    )
    hits = _march(radius, eye, ray, start, steps=_FINE_STEPS)
    # The outline is soft: a near miss covers a part of its pixel.
    cover = np.where(hits.met, 1, clip(0.5 - hits.height * (0.55 / camera.pixel_cm), 0, 1))
    cover = cover * (hits.distance < nearer_than_cm[rows, columns])
    visible = np.flatnonzero(cover > 0)
    ray, distance = subset(ray, visible), hits.distance[visible]
    point = point_along(eye, ray, distance)
    azimuth, elevation, height = spherical(point)
    return VisiblePixels(
        rows=rows[visible],
        columns=columns[visible],
        alpha=cover[visible],
        ray=ray,
        point=scale_vector(point, radius.sample(azimuth, elevation) / height),
        distance=distance,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Hits:
    """Where rays (N,) meet the surface, or pass it closest."""

    distance: Floats
    """cm along the ray."""
    height: Floats
    """cm above the surface at the closest point."""
    met: Floats
    """bool: whether the ray meets the surface."""


def _starts(
    radius: SphereMap, camera: Camera, placement: Placement
) -> tuple[Floats, Floats, Floats]:
    """Return rows, columns and starting distances of the rays that may meet the head."""
    eye = placement.camera_cm()
    cells = -(-camera.size_px // COARSE)
    middle = (COARSE - 1) / 2
    grid_rows, grid_columns = np.mgrid[0:cells, 0:cells].astype(np.float32) * COARSE + middle
    ray = placement.vectors_to_local(camera.rays(grid_columns.ravel(), grid_rows.ravel()))
    nearest = -(ray[0] * eye[0] + ray[1] * eye[1] + ray[2] * eye[2])
    inside = REACH_CM**2 - (sum(e * e for e in eye) - nearest * nearest)
    index = np.flatnonzero(inside > 0)
    start = nearest[index] - np.sqrt(inside[index])
    hits = _march(radius, eye, subset(ray, index), start, steps=_COARSE_STEPS)
    # A cell matters if it or a neighbor comes within a cell's diagonal of the surface.
    close = hits.met | (hits.height < 1.5 * COARSE * camera.pixel_cm)
    first = np.full(cells * cells, _FAR_CM, np.float32)
    first[index[close]] = hits.distance[close]
    nearest_of_nine = np.asarray(cv2.erode(first.reshape(cells, cells), np.ones((3, 3), np.uint8)))
    fine = np.repeat(np.repeat(nearest_of_nine, COARSE, axis=0), COARSE, axis=1)
    fine = fine[: camera.size_px, : camera.size_px]
    rows, columns = np.nonzero(fine < _FAR_CM)
    return rows, columns, fine[rows, columns] - 0.05


def _march(radius: SphereMap, eye: Triple, ray: Vector, start: Floats, *, steps: int) -> _Hits:
    """March along rays until they meet the surface or have passed the head.

    The first step is short enough for most slopes; later ones are from the secant through the last
    two heights, within bounds. A step too far is followed by a negative one.
    """
    leave = 0.3 * REACH_CM - (ray[0] * eye[0] + ray[1] * eye[1] + ray[2] * eye[2])
    distance, height = np.empty_like(start), np.empty_like(start)
    active, here = np.arange(start.size), start
    closest, closest_at = np.full(start.size, _FAR_CM, np.float32), start
    over = _height_over(radius, point_along(eye, ray, here))
    step = clip(_FIRST_STEP * over, *_STEP_RANGE_CM)
    for _ in range(steps):
        off = np.abs(over)
        closest_at = np.where(off < closest, here, closest_at)
        closest = np.minimum(off, closest)
        distance[active], height[active] = closest_at, closest
        left = np.flatnonzero((off >= _NEAR_CM) & (here + step < leave))
        if left.size == 0:
            break
        active, closest, closest_at = active[left], closest[left], closest_at[left]
        ray, leave, step, before = subset(ray, left), leave[left], step[left], over[left]
        here = here[left] + step
        over = _height_over(radius, point_along(eye, ray, here))
        slope = clip((before - over) / step, *_SLOPE_RANGE)
        step = clip(over / slope, *_STEP_RANGE_CM)
    return _Hits(distance=distance, height=height, met=height < 5 * _NEAR_CM)


def _height_over(radius: SphereMap, point: Vector) -> Floats:
    """Return the height of points above the surface, cm along their direction."""
    azimuth, elevation, height = spherical(point)
    return height - radius.sample(azimuth, elevation)
