"""Everything around the head: a blurred room, neck and shoulders, glasses, a hand.

Solids are ellipsoids, because a ray meets one at the root of a quadratic.
"""

from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.camera import Camera, Placement, place_body, place_head, rotation
from faceswap_cli.synthetic.geometry import (
    Floats,
    Triple,
    Vector,
    clip,
    point_along,
    smoothstep,
    unit,
)
from faceswap_cli.synthetic.traits import Person

_EDGE = 9.0
"""Slope of the soft edge of an ellipsoid over the squared depth of a ray inside it."""

_HAND_SKIN: Triple = (0.62, 0.44, 0.35)
_HAND_LEAN, _HAND_BEFORE_CM = 25.0, 14.0
"""Roll of a hand, degrees counter-clockwise, and its distance in front of the head's center."""

_LENS_Z_CM, _ARM_X_CM = 9.3, 6.9
"""Positions of the lenses and the arms of glasses."""

_ROOM_PX = 64
"""Side of the image of a room before it is enlarged: nothing in it is sharp."""

FAR_CM = 1e6
"""Depth of a pixel of the room."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """An image being rendered: linear light and depth."""

    light: Floats
    """float32 (S, S, 3)."""
    depth_cm: Floats
    """float32 (S, S): distance along the ray."""


def render_background(scene: SceneParams, size_px: int) -> Canvas:
    """Return an out-of-focus room, the same for every person."""
    rng = np.random.default_rng(1000 + scene.background)
    gray = rng.uniform(0.25, 0.75)
    top = gray + rng.uniform(-0.10, 0.10, 3)
    bottom = gray * rng.uniform(0.6, 1.1) + rng.uniform(-0.08, 0.08, 3)
    down = np.linspace(0, 1, _ROOM_PX, dtype=np.float32)[:, None, None]
    blobs = 0.08 * rng.standard_normal((6, 6, 1)) + 0.025 * rng.standard_normal((6, 6, 3))
    spread = cv2.resize(
        blobs.astype(np.float32), (_ROOM_PX, _ROOM_PX), interpolation=cv2.INTER_CUBIC
    )
    small = clip(spread + (top + (bottom - top) * down).astype(np.float32), 0.03, 1)
    return Canvas(
        light=np.asarray(cv2.resize(small, (size_px, size_px), interpolation=cv2.INTER_LINEAR)),
        depth_cm=np.full((size_px, size_px), FAR_CM, np.float32),
    )


@dataclass(frozen=True, kw_only=True)
class _Solid:
    """An ellipsoid."""

    center_cm: Triple
    radii_cm: Triple
    color: Triple
    under_head: bool = False
    """Whether the head shades its upper end."""


def _body_parts(person: Person) -> list[_Solid]:
    red, green, blue = person.face.skin
    skin = (0.95 * red, 0.93 * green, 0.93 * blue)
    parts = [
        _Solid(center_cm=(0, -27.2, -3.0), radii_cm=(22, 11.5, 9.0), color=person.head.clothes),
        _Solid(center_cm=(0, -20, -3.6), radii_cm=(11.5, 6.6, 6.0), color=person.head.clothes),
        _Solid(center_cm=(0, -14, -2.1), radii_cm=(5.0, 13, 5.2), color=skin, under_head=True),
    ]
    if person.head.long_hair > 0:
        length = 4 + 4 * person.head.long_hair
        behind = _Solid(
            center_cm=(0, -7, -5.0),
            radii_cm=(8.6, length, 4.6),
            color=person.head.hair,
            under_head=True,
        )
        parts.append(behind)
    return parts


def add_body(canvas: Canvas, person: Person, scene: SceneParams, *, camera: Camera) -> None:
    """Render neck, shoulders and the hair behind them on `canvas`, in place."""
    _add(canvas, _body_parts(person), scene, camera=camera, placement=place_body(scene))


def add_hand(canvas: Canvas, scene: SceneParams, *, camera: Camera) -> Floats:
    """Render the scene's hand, if any, on `canvas`, in place; return its coverage (S, S).

    Its skin does not depend on the person.
    """
    if scene.hand is None:
        return np.zeros_like(canvas.depth_cm)
    x, y, z = place_head(scene).origin_cm
    placement = Placement(
        to_world=rotation(0, 0, _HAND_LEAN),
        origin_cm=(x + scene.hand[0], y + scene.hand[1], z + _HAND_BEFORE_CM),
    )
    return _add(canvas, _hand_parts(), scene, camera=camera, placement=placement)


def _hand_parts() -> list[_Solid]:
    """Return four fingers pointing up, a thumb, a palm and a forearm; the tips are at y = 0."""
    centers_and_radii = [
        *(((x, -3.9, 0.0), (0.95, 3.9, 0.9)) for x in (-2.7, -0.9, 0.9, 2.7)),
        ((-4.6, -8.5, 0.3), (1.1, 3.0, 1.0)),
        ((0.0, -9.2, -0.3), (4.1, 4.4, 1.4)),
        ((0.6, -22.0, -0.6), (3.0, 11.0, 2.5)),
    ]
    return [_Solid(center_cm=c, radii_cm=r, color=_HAND_SKIN) for c, r in centers_and_radii]


def add_glasses(
    canvas: Canvas, person: Person, scene: SceneParams, *, camera: Camera, placement: Placement
) -> None:
    """Render the person's glasses, if any, on `canvas`, in place: two rims, a bridge, two arms."""
    if person.head.glasses == 0:
        return
    eye, dark = placement.camera_cm(), person.head.glasses
    near = [[x, y, z] for x in (-_ARM_X_CM, _ARM_X_CM) for y in (-3, 3) for z in (0, _LENS_Z_CM)]
    window = _window(np.array(near), camera, placement)
    rows, columns = np.mgrid[window].astype(np.float32)
    ray = placement.vectors_to_local(camera.rays(columns, rows))
    depth = canvas.depth_cm[window] + 0.3  # brows and cheeks may touch the rims
    front = (_LENS_Z_CM - eye[2]) / ray[2]
    x, y, _ = point_along(eye, ray, front)
    side_x = np.abs(x)
    # The distance to a rectangle with round corners, one in front of each eye.
    corner = np.maximum(np.abs(side_x - 3.3) - 1.4, 0), np.maximum(np.abs(y + 0.15) - 0.8, 0)
    rim = smoothstep(0.20, 0.10, np.abs(np.hypot(*corner) - 0.85))
    joined = (side_x < 1.1) | ((side_x > 5.5) & (side_x < _ARM_X_CM))
    bridge = smoothstep(0.22, 0.12, np.abs(y - 0.45)) * joined
    cover = np.maximum(rim, bridge) * (front < depth)
    for side in (-1, 1):
        along = (side * _ARM_X_CM - eye[0]) / (ray[0] + 1e-9)
        _, y, z = point_along(eye, ray, along)
        arm = smoothstep(0.26, 0.14, np.abs(y - 0.45)) * (z > 0) * (z < _LENS_Z_CM)
        cover = np.maximum(cover, arm * (along < depth))
    shade = np.float32(0.10 * scene.ambient + 0.05 * scene.key)
    light = canvas.light[window]
    light += (shade - light) * (dark * cover)[..., None]


def _add(
    canvas: Canvas,
    solids: list[_Solid],
    scene: SceneParams,
    *,
    camera: Camera,
    placement: Placement,
) -> Floats:
    """Render ellipsoids on `canvas`, in place; return how much of each pixel they cover."""
    eye, lamp = placement.camera_cm(), placement.vector_to_local(lamp_direction(scene))
    covered = np.zeros_like(canvas.depth_cm)
    for solid in solids:
        corners = [
            [
                c + sign * r
                for c, sign, r in zip(solid.center_cm, signs, solid.radii_cm, strict=True)
            ]
            for signs in product((-1, 1), repeat=3)
        ]
        window = _window(np.array(corners), camera, placement)
        rows, columns = np.mgrid[window].astype(np.float32)
        ray = placement.vectors_to_local(camera.rays(columns, rows))
        distance, cover = _meet(solid, eye, ray)
        cover = cover * (distance < canvas.depth_cm[window])
        shade = _shade(solid, point_along(eye, ray, distance), lamp, scene)
        light = canvas.light[window]
        light += (shade - light) * cover[..., None]
        np.copyto(canvas.depth_cm[window], distance, where=cover > 0.5)
        np.maximum(covered[window], cover, out=covered[window])
    return covered


def _window(corners_cm: Floats, camera: Camera, placement: Placement) -> tuple[slice, slice]:
    """Return the rows and columns of the bounding box of points (N, 3) in the image."""
    points_px = placement.to_image(corners_cm, camera)
    (left, top), (right, bottom) = points_px.min(axis=0) - 2, points_px.max(axis=0) + 3
    size = camera.size_px
    return (
        slice(int(np.clip(top, 0, size)), int(np.clip(bottom, 0, size))),
        slice(int(np.clip(left, 0, size)), int(np.clip(right, 0, size))),
    )


def _meet(solid: _Solid, eye: Triple, ray: Vector) -> tuple[Floats, Floats]:
    """Return the distance of an ellipsoid along each ray, cm, and its coverage of the pixel."""
    # In units of its radii an ellipsoid is the unit sphere.
    start = [(e - c) / r for e, c, r in zip(eye, solid.center_cm, solid.radii_cm, strict=True)]
    x, y, z = (d * (1 / r) for d, r in zip(ray, solid.radii_cm, strict=True))
    a = x * x + y * y + z * z
    b = x * start[0] + y * start[1] + z * start[2]
    inside = b * b - a * (sum(s * s for s in start) - 1)
    distance = (-b - np.sqrt(np.maximum(inside, 0))) / a
    return distance, clip(0.5 + _EDGE * inside / a, 0, 1)


def _shade(solid: _Solid, point: Vector, lamp: Triple, scene: SceneParams) -> Floats:
    """Return the light from points on an ellipsoid."""
    x, y, z = (
        (p - c) * (1 / (r * r))
        for p, c, r in zip(point, solid.center_cm, solid.radii_cm, strict=True)
    )
    normal = unit((x, y, z))
    towards = normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2]
    lit = clip((towards + 0.2) * (1 / 1.2), 0, 1)
    strength = 0.9 * scene.ambient + 0.85 * scene.key * lit
    if solid.under_head:
        strength = strength * (0.30 + 0.75 * smoothstep(-8.5, -16.5, point[1]))
    shade: Floats = strength[..., None] * np.array(solid.color, np.float32)
    return shade


def lamp_direction(scene: SceneParams) -> Triple:
    """Return the unit world vector towards the lamp."""
    length = float(np.linalg.norm(scene.light))
    x, y, z = scene.light
    return x / length, y / length, z / length
