"""Where rays from the camera meet a head; what they see there is `shading`'s business."""

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
"""No head with its hair reaches further from its centre."""

COARSE = 4
"""Rays are first cast at every fourth pixel, to know where the fine ones start."""

_FIRST_PACE = 0.62
"""Share of the height over the surface to go along a ray before its slope is known."""
_SLOPE_RANGE, _STEP_RANGE_CM = (0.55, 3.3), (-0.6, 2.5)
"""Bounds on a secant's slope (1 is a ray straight down) and on a step."""
_NEAR_CM = 0.008
"""A ray this close to the surface has met it."""
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
    """What they meet, on the surface, head coordinates, cm."""
    distance: Floats
    """cm along the ray."""


def cast_rays(
    radius: SphereMap, camera: Camera, placement: Placement, *, nearer_than_cm: Floats
) -> VisiblePixels:
    """Find every pixel that shows a head, and where on it.

    Args:
        radius: The head's surface.
        camera: Who looks.
        placement: Where the head is.
        nearer_than_cm: What is already in the picture, (S, S): the distance along each ray.
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
    seen = np.flatnonzero(cover > 0)
    ray, distance = subset(ray, seen), hits.distance[seen]
    point = point_along(eye, ray, distance)
    azimuth, elevation, height = spherical(point)
    return VisiblePixels(
        rows=rows[seen],
        columns=columns[seen],
        alpha=cover[seen],
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
    """cm over the surface at the closest."""
    met: Floats
    """bool."""


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
    # A cell matters if it or a neighbour comes within a cell's diagonal of the surface.
    close = hits.met | (hits.height < 1.5 * COARSE * camera.pixel_cm)
    first = np.full(cells * cells, _FAR_CM, np.float32)
    first[index[close]] = hits.distance[close]
    nearest_of_nine = np.asarray(cv2.erode(first.reshape(cells, cells), np.ones((3, 3), np.uint8)))
    fine = np.repeat(np.repeat(nearest_of_nine, COARSE, axis=0), COARSE, axis=1)
    fine = fine[: camera.size_px, : camera.size_px]
    rows, columns = np.nonzero(fine < _FAR_CM)
    return rows, columns, fine[rows, columns] - 0.05


def _march(radius: SphereMap, eye: Triple, ray: Vector, start: Floats, *, steps: int) -> _Hits:
    """Walk along rays until they meet the surface or leave the head behind.

    The first step is short enough for most slopes; from then on the secant through the last two
    heights, kept within bounds, says how far it is. A step too far is taken back the same way.
    """
    leave = 0.3 * REACH_CM - (ray[0] * eye[0] + ray[1] * eye[1] + ray[2] * eye[2])
    distance, height = np.empty_like(start), np.empty_like(start)
    active, here = np.arange(start.size), start
    closest, closest_at = np.full(start.size, _FAR_CM, np.float32), start
    over = _height_over(radius, point_along(eye, ray, here))
    step = clip(_FIRST_PACE * over, *_STEP_RANGE_CM)
    for _ in range(steps):
        off = np.abs(over)
        closest_at = np.where(off < closest, here, closest_at)
        closest = np.minimum(off, closest)
        distance[active], height[active] = closest_at, closest
        kept = np.flatnonzero((off >= _NEAR_CM) & (here + step < leave))
        if kept.size == 0:
            break
        active, closest, closest_at = active[kept], closest[kept], closest_at[kept]
        ray, leave, step, before = subset(ray, kept), leave[kept], step[kept], over[kept]
        here = here[kept] + step
        over = _height_over(radius, point_along(eye, ray, here))
        slope = clip((before - over) / step, *_SLOPE_RANGE)
        step = clip(over / slope, *_STEP_RANGE_CM)
    return _Hits(distance=distance, height=height, met=height < 5 * _NEAR_CM)


def _height_over(radius: SphereMap, point: Vector) -> Floats:
    """Return how far points lie over the surface, cm along their direction."""
    azimuth, elevation, height = spherical(point)
    return height - radius.sample(azimuth, elevation)
