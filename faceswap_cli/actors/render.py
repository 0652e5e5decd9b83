"""Draw one person at one moment: cast rays, shade what they meet, develop the picture."""

import zlib
from dataclasses import astuple, dataclass
from functools import cache, lru_cache
from statistics import NormalDist

import cv2
import numpy as np

from faceswap_cli.actors.camera import Camera, Placement, camera_for, place_head
from faceswap_cli.actors.expression import Expression, MouthLine, find_mouth_line
from faceswap_cli.actors.geometry import (
    Floats,
    SphereMap,
    Triple,
    Vector,
    clip,
    scaled,
    spherical,
    subset,
    toward,
)
from faceswap_cli.actors.hair import with_hair
from faceswap_cli.actors.identity import Person
from faceswap_cli.actors.landmarks import find_landmarks
from faceswap_cli.actors.paint import Paint, paint
from faceswap_cli.actors.performance import Moment
from faceswap_cli.actors.scene import (
    FAR_CM,
    Canvas,
    add_body,
    add_glasses,
    add_hand,
    room,
    towards_lamp,
)
from faceswap_cli.actors.shading import Lighting, shade
from faceswap_cli.actors.skull import radius_table
from faceswap_cli.arrays import Image, Mask

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

_SHOULDER, _GAMMA = 0.12, 1.15
"""How bright light rolls off, and the picture's contrast."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A picture and everything that is true of it."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    face_mask: Mask
    """float32 (S, S): 1 where a true swap shows the other's face."""
    head_mask: Mask
    """float32 (S, S): 1 on the head, hair included."""
    landmarks: dict[str, tuple[float, float]]
    """Named points of the face, (x, y) px, hidden ones too; `left` is the image's left."""
    moment: Moment


@dataclass(frozen=True, kw_only=True, eq=False)
class Actor:
    """A person made ready to be drawn: tables and painted maps."""

    person: Person
    radius: SphereMap
    """The head at rest, hair included, cm."""
    mouth: MouthLine
    paint: Paint

    @classmethod
    def of(cls, person: Person) -> "Actor":
        """Return a person made ready: half a second of work, remembered for the last few."""
        return _remembered(person)

    @classmethod
    def made_ready(cls, person: Person) -> "Actor":
        """Make a person ready, from nothing."""
        bare = radius_table(person)
        return cls(
            person=person,
            radius=with_hair(bare, person.head),
            mouth=find_mouth_line(bare, person.face),
            paint=paint(person, bare),
        )


@lru_cache(maxsize=8)
def _remembered(person: Person) -> Actor:
    return Actor.made_ready(person)


def draw(actor: Actor, moment: Moment, size_px: int) -> Drawing:
    """Draw `actor` at `moment` in a square picture of `size_px`.

    The same arguments give the same bytes, whichever process draws them.
    """
    camera, placement = camera_for(moment, size_px), place_head(moment)
    expression = Expression(moment=moment, mouth=actor.mouth)
    radius = expression.radius(actor.radius)
    canvas = room(moment, size_px)
    add_body(canvas, actor.person, moment, camera=camera)
    face_mask, head_mask = _add_head(
        canvas, actor, expression, radius=radius, camera=camera, placement=placement
    )
    add_glasses(canvas, actor.person, moment, camera=camera, placement=placement)
    uncovered = 1 - add_hand(canvas, moment, camera=camera)
    return Drawing(
        image=_developed(canvas.light, moment),
        face_mask=face_mask * uncovered,
        head_mask=head_mask * uncovered,
        landmarks=find_landmarks(
            actor.person.face,
            expression,
            rest=actor.radius,
            radius=radius,
            camera=camera,
            placement=placement,
        ),
        moment=moment,
    )


def _add_head(
    canvas: Canvas,
    actor: Actor,
    expression: Expression,
    *,
    radius: SphereMap,
    camera: Camera,
    placement: Placement,
) -> tuple[Mask, Mask]:
    """Draw the head on `canvas`, in place; return the face's mask and the head's."""
    eye = placement.camera_cm()
    rows, columns, start = _coarse(radius, camera, placement, eye)
    ray = placement.inwards(camera.rays(columns.astype(np.float32), rows.astype(np.float32)))
    hits = _march(radius, eye, ray, start, steps=_FINE_STEPS)
    cover = np.where(hits.met, 1, clip(0.5 - hits.height * (0.55 / camera.pixel_cm), 0, 1))
    cover = cover * (hits.distance < canvas.depth_cm[rows, columns])
    seen = np.flatnonzero(cover > 0)
    ray, rows, columns, cover = subset(ray, seen), rows[seen], columns[seen], cover[seen]
    point = toward(eye, ray, hits.distance[seen])
    azimuth, elevation, height = spherical(point)
    # A ray that just misses shows the rim it passes.
    point = scaled(point, radius.at(azimuth, elevation) / height)
    shaded = shade(
        point,
        ray,
        person=actor.person,
        coat=actor.paint.for_pixels_of(camera.pixel_cm),
        expression=expression,
        rest_radius=actor.radius,
        radius=radius,
        lighting=_lighting(expression.moment, placement, eye),
    )
    under = canvas.light[rows, columns]
    canvas.light[rows, columns] = under + (shaded.light - under) * cover[:, None]
    canvas.depth_cm[rows, columns] = hits.distance[seen]
    masks = np.zeros((2, camera.size_px, camera.size_px), np.float32)
    masks[0, rows, columns] = clip(shaded.face, 0, 1) * cover
    masks[1, rows, columns] = cover
    return masks[0], masks[1]


def _lighting(moment: Moment, placement: Placement, eye: Triple) -> Lighting:
    return Lighting(
        lamp=placement.inward(towards_lamp(moment)), up=placement.inward((0, 1, 0)), eye=eye
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


def _coarse(
    radius: SphereMap, camera: Camera, placement: Placement, eye: Triple
) -> tuple[Floats, Floats, Floats]:
    """Return rows, columns and starting distances of the rays that may meet the head."""
    cells = -(-camera.size_px // COARSE)
    middle = (COARSE - 1) / 2
    grid_rows, grid_columns = np.mgrid[0:cells, 0:cells].astype(np.float32) * COARSE + middle
    ray = placement.inwards(camera.rays(grid_columns.ravel(), grid_rows.ravel()))
    nearest = -(ray[0] * eye[0] + ray[1] * eye[1] + ray[2] * eye[2])
    inside = REACH_CM**2 - (sum(e * e for e in eye) - nearest * nearest)
    index = np.flatnonzero(inside > 0)
    start = nearest[index] - np.sqrt(inside[index])
    hits = _march(radius, eye, subset(ray, index), start, steps=_COARSE_STEPS)
    # A cell matters if it or a neighbour comes within a cell's diagonal of the surface.
    close = hits.met | (hits.height < 1.5 * COARSE * camera.pixel_cm)
    first = np.full(cells * cells, FAR_CM, np.float32)
    first[index[close]] = hits.distance[close]
    nearest_of_nine = np.asarray(cv2.erode(first.reshape(cells, cells), np.ones((3, 3), np.uint8)))
    fine = np.repeat(np.repeat(nearest_of_nine, COARSE, axis=0), COARSE, axis=1)
    fine = fine[: camera.size_px, : camera.size_px]
    rows, columns = np.nonzero(fine < FAR_CM)
    return rows, columns, fine[rows, columns] - 0.05


def _march(radius: SphereMap, eye: Triple, ray: Vector, start: Floats, *, steps: int) -> _Hits:
    """Walk along rays until they meet the surface or leave the head behind.

    The first step is short enough for most slopes; from then on the secant through the last two
    heights, kept within bounds, says how far it is. A step too far is taken back the same way.
    """
    leave = 0.3 * REACH_CM - (ray[0] * eye[0] + ray[1] * eye[1] + ray[2] * eye[2])
    distance, height = np.empty_like(start), np.empty_like(start)
    active, here = np.arange(start.size), start
    closest, closest_at = np.full(start.size, FAR_CM, np.float32), start
    over = _height_over(radius, toward(eye, ray, here))
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
        over = _height_over(radius, toward(eye, ray, here))
        slope = clip((before - over) / step, *_SLOPE_RANGE)
        step = clip(over / slope, *_STEP_RANGE_CM)
    return _Hits(distance=distance, height=height, met=height < 5 * _NEAR_CM)


def _height_over(radius: SphereMap, point: Vector) -> Floats:
    """Return how far points lie over the surface, cm along their direction."""
    azimuth, elevation, height = spherical(point)
    return height - radius.at(azimuth, elevation)


def _developed(light: Floats, moment: Moment) -> Image:
    """Return the picture a camera makes of `light`: a soft shoulder, and sensor noise."""
    linear = np.maximum(light, 0)
    bright: Floats = np.asarray(cv2.pow(linear / (1 + _SHOULDER * linear), 1 / _GAMMA))
    values = bright * 255 + 0.5
    if moment.noise > 0:
        values += _sensor_noise(moment, light.shape)
    picture: Image = clip(values, 0, 255).astype(np.uint8)
    return picture


def _sensor_noise(moment: Moment, shape: tuple[int, ...]) -> Floats:
    """Return normal noise, in 255ths: of the moment, so that a true swap has the same."""
    rng = np.random.default_rng(zlib.crc32(repr(astuple(moment)).encode()))
    # A byte looked up among the normal distribution's 256 quantiles is far faster than a draw.
    share = rng.integers(0, 256, shape, dtype=np.uint8)
    return _normal_quantiles()[share] * np.float32(moment.noise)


@cache
def _normal_quantiles() -> Floats:
    """Return the middles of 256 equally likely slices of the normal distribution, float32."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
