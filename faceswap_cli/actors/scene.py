"""What is around the head: a blurred room, neck and shoulders, glasses, a hand; not the head."""

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

from faceswap_cli.actors.camera import Camera, Placement
from faceswap_cli.actors.geometry import Floats, Triple, Vector, clip, dot, smoothstep, toward, unit
from faceswap_cli.actors.identity import Person
from faceswap_cli.actors.performance import Moment

FAR_CM = 1e6
"""The depth of a pixel that shows nothing but the room."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """A picture in the making: linear light and the distance of what it shows."""

    light: Floats
    """float32 (S, S, 3)."""
    depth_cm: Floats
    """float32 (S, S): along the ray."""


def room(moment: Moment, size_px: int) -> Canvas:
    """Return an out-of-focus room, the same for every person at this moment."""
    rng = np.random.default_rng(1000 + moment.background)
    grey = rng.uniform(0.25, 0.75)
    top = grey + rng.uniform(-0.10, 0.10, 3)
    bottom = grey * rng.uniform(0.6, 1.1) + rng.uniform(-0.08, 0.08, 3)
    down = np.linspace(0, 1, size_px, dtype=np.float32)[:, None, None]
    blobs = 0.08 * rng.standard_normal((6, 6, 1)) + 0.025 * rng.standard_normal((6, 6, 3))
    spread = cv2.resize(blobs.astype(np.float32), (size_px, size_px), interpolation=cv2.INTER_CUBIC)
    light = spread + (top + (bottom - top) * down).astype(np.float32)
    return Canvas(
        light=clip(light, 0.03, 1), depth_cm=np.full((size_px, size_px), FAR_CM, np.float32)
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """An ellipsoid of the body."""

    centre_cm: Triple
    radii_cm: Triple
    colour: Triple
    shaded_by_head: bool = False


def _body_parts(person: Person) -> list[_Part]:
    red, green, blue = person.face.skin
    skin = (0.95 * red, 0.93 * green, 0.93 * blue)
    parts = [
        _Part(centre_cm=(0, -28.5, -2.8), radii_cm=(22, 11.5, 9.0), colour=person.head.clothes),
        _Part(centre_cm=(0, -21, -3.4), radii_cm=(10.5, 6.6, 6.2), colour=person.head.clothes),
        _Part(centre_cm=(0, -14, -1.9), radii_cm=(5.3, 13, 5.4), colour=skin, shaded_by_head=True),
    ]
    if person.head.long_hair > 0:
        length = 4 + 4 * person.head.long_hair
        behind = _Part(
            centre_cm=(0, -7, -5.0),
            radii_cm=(8.6, length, 4.6),
            colour=person.head.hair,
            shaded_by_head=True,
        )
        parts.append(behind)
    return parts


def add_body(
    canvas: Canvas, person: Person, moment: Moment, *, camera: Camera, placement: Placement
) -> None:
    """Draw neck, shoulders and the hair behind them on `canvas`, in place."""
    eye, lamp = placement.camera_cm(), placement.inward(towards_lamp(moment))
    for part in _body_parts(person):
        window = _window(part, camera, placement)
        rows, columns = np.mgrid[window].astype(np.float32)
        rays = placement.inwards(camera.rays(columns, rows))
        _add_ellipsoid(canvas, part, window, eye=eye, rays=rays, lamp=lamp, moment=moment)


def _window(part: _Part, camera: Camera, placement: Placement) -> tuple[slice, slice]:
    """Return the rows and columns of the image that an ellipsoid can touch."""
    corners = [
        [c + sign * r for c, sign, r in zip(part.centre_cm, signs, part.radii_cm, strict=True)]
        for signs in product((-1, 1), repeat=3)
    ]
    seen = placement.to_image(np.array(corners), camera)
    (left, top), (right, bottom) = seen.min(axis=0) - 2, seen.max(axis=0) + 3
    size = camera.size_px
    return (
        slice(int(np.clip(top, 0, size)), int(np.clip(bottom, 0, size))),
        slice(int(np.clip(left, 0, size)), int(np.clip(right, 0, size))),
    )


def _add_ellipsoid(
    canvas: Canvas,
    part: _Part,
    window: tuple[slice, slice],
    *,
    eye: Triple,
    rays: Vector,
    lamp: Triple,
    moment: Moment,
) -> None:
    # In units of its radii an ellipsoid is the unit sphere, and the ray a quadratic's root.
    start = [(e - c) / r for e, c, r in zip(eye, part.centre_cm, part.radii_cm, strict=True)]
    x, y, z = (d * (1 / r) for d, r in zip(rays, part.radii_cm, strict=True))
    a = x * x + y * y + z * z
    b = x * start[0] + y * start[1] + z * start[2]
    inside = b * b - a * (sum(s * s for s in start) - 1)
    depth = (-b - np.sqrt(np.maximum(inside, 0))) / a
    near = np.where(depth < canvas.depth_cm[window], 1, 0)
    cover = clip(0.5 + inside / a * 9, 0, 1) * near
    point = toward(eye, rays, depth)
    outward = [
        (p - c) / (r * r) for p, c, r in zip(point, part.centre_cm, part.radii_cm, strict=True)
    ]
    normal = unit((outward[0], outward[1], outward[2]))
    lit = clip((dot(normal, _constant(lamp)) + 0.2) * (1 / 1.2), 0, 1)
    sky = 0.35 + 0.75 * smoothstep(-6.5, -16, point[1]) if part.shaded_by_head else 1.0
    strength = (0.9 * moment.ambient + 0.85 * moment.key * lit) * sky
    shade = strength[..., None] * np.array(part.colour, np.float32)
    light = canvas.light[window]
    light += (shade - light) * cover[..., None]
    np.copyto(canvas.depth_cm[window], depth, where=cover > 0.5)


def towards_lamp(moment: Moment) -> Triple:
    """Return the unit world vector towards the lamp."""
    length = float(np.linalg.norm(moment.light))
    x, y, z = moment.light
    return x / length, y / length, z / length


def _constant(vector: Triple) -> Vector:
    x, y, z = (np.float32(v) for v in vector)
    return np.asarray(x), np.asarray(y), np.asarray(z)
