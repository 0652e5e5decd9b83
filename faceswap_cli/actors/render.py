"""Draw one person at one moment: the room, the head before it, and the picture's development."""

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
    clip,
)
from faceswap_cli.actors.hair import with_hair
from faceswap_cli.actors.identity import Person
from faceswap_cli.actors.landmarks import find_landmarks
from faceswap_cli.actors.paint import Paint, paint
from faceswap_cli.actors.performance import Moment
from faceswap_cli.actors.rays import cast_rays
from faceswap_cli.actors.scene import (
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
    seen = cast_rays(radius, camera, placement, nearer_than_cm=canvas.depth_cm)
    shaded = shade(
        seen.point,
        seen.ray,
        person=actor.person,
        coat=actor.paint.for_pixels_of(camera.pixel_cm),
        expression=expression,
        rest_radius=actor.radius,
        radius=radius,
        lighting=_lighting(expression.moment, placement),
    )
    pixels = seen.rows, seen.columns
    under = canvas.light[pixels]
    canvas.light[pixels] = under + (shaded.light - under) * seen.cover[:, None]
    canvas.depth_cm[pixels] = seen.distance
    masks = np.zeros((2, camera.size_px, camera.size_px), np.float32)
    masks[0][pixels] = clip(shaded.face, 0, 1) * seen.cover
    masks[1][pixels] = seen.cover
    return masks[0], masks[1]


def _lighting(moment: Moment, placement: Placement) -> Lighting:
    return Lighting(
        lamp=placement.inward(towards_lamp(moment)),
        up=placement.inward((0, 1, 0)),
        eye=placement.camera_cm(),
    )


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
    numbers = [np.ravel(value) for value in astuple(moment) if value is not None]
    # Adding zero makes one of minus zero and zero, as `==` does.
    rng = np.random.default_rng(zlib.crc32((np.concatenate(numbers) + 0.0).tobytes()))
    # A byte looked up among the normal distribution's 256 quantiles is far faster than a draw.
    share = rng.integers(0, 256, shape, dtype=np.uint8)
    return _normal_quantiles()[share] * np.float32(moment.noise)


@cache
def _normal_quantiles() -> Floats:
    """Return the middles of 256 equally likely slices of the normal distribution, float32."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
