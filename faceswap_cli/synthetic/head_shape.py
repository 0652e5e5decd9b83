"""The shape of a person's head: a signed distance, and its radius table (`radius_table`).

The head is one star-shaped surface: a ray from its center meets it once, so a table of radii over
direction describes all of it. Sizes in cm, origin in the middle of the head (see `geometry`).
"""

import numpy as np

from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    Vector,
    capsule,
    clip,
    direction,
    directions,
    ellipsoid,
    scale_vector,
    smooth_max,
    smooth_min,
)
from faceswap_cli.synthetic.traits import FaceTraits, HeadTraits, Person

COLUMNS, ROWS = 600, 300
"""Cells of the radius table: 0.6 degrees, 1 mm on the face."""

OUTER_RADIUS_CM = 15.5
"""Upper bound on the radius of a head without hair."""

_STEPS, _RELAXATION = 12, 0.9
"""Sphere tracing inwards; 12 damped steps leave less than 0.02 cm."""

MOUTH_BOW_CM = 0.065
"""Curvature of the seam between the lips."""

EYEBALL_DEPTH_CM = 6.30
"""Distance of an eyeball's center in front of the head's center."""


def radius_table(person: Person) -> SphereMap:
    """Return the radius of the bare head (no hair) over direction, cm."""
    azimuth, elevation = directions(COLUMNS, ROWS)
    middle = COLUMNS // 2
    # The head is symmetric: trace azimuth 0 to pi, then mirror it.
    right = _traced(person, azimuth[:, middle:], elevation[:, middle:])
    last = right[:, -1:]
    return SphereMap(values=np.hstack([last, right[:, :0:-1], right]))


def _traced(person: Person, azimuth: Floats, elevation: Floats) -> Floats:
    towards = direction(azimuth.ravel(), elevation.ravel())
    radius = np.full(azimuth.size, OUTER_RADIUS_CM, np.float32)
    for _ in range(_STEPS):
        radius -= clip(_RELAXATION * head_distance(scale_vector(towards, radius), person), -1.5, 4)
    return radius.reshape(azimuth.shape)


def head_distance(point: Vector, person: Person) -> Floats:
    """Return the signed distance from points (N,) to the bare head, cm, negative inside."""
    x, y, z = point
    mirrored = (np.abs(x), y, z)
    distance = _skull(point, person)
    distance = _cheeks_and_sockets(distance, mirrored, person.face)
    distance = _nose(distance, point, mirrored, person.face)
    distance = _mouth(distance, point, person.face)
    return _ears(distance, mirrored, person.head)


def _skull(point: Vector, person: Person) -> Floats:
    face, head = person.face, person.head
    width, drop = face.face_width, face.chin_drop_cm
    cranium = (7.35 * head.skull_width, 9.2 * head.skull_height, 9.0)
    jaw = (4.9 * face.jaw_width * width, 4.1 + 0.3 * drop, 5.6)
    chin = (2.3 * face.chin_width, 1.5, 2.2)
    distance = ellipsoid(point, (0, 2.2, -1.2), cranium)
    distance = smooth_min(distance, ellipsoid(point, (0, -3.0, 1.7), (6.35 * width, 8.0, 6.9)), 1.6)
    distance = smooth_min(distance, ellipsoid(point, (0, -7.0, 2.0), jaw), 1.6)
    return smooth_min(distance, ellipsoid(point, (0, -9.7 - drop, 5.0), chin), 2.0)


def _cheeks_and_sockets(distance: Floats, mirrored: Vector, face: FaceTraits) -> Floats:
    x, y, z = mirrored
    cheekbone = (2.1 * face.cheek_size, 1.7, 1.9 * face.cheek_size)
    ridge = (2.6, 0.75, 0.45 + 0.35 * face.brow_ridge)
    # The ridge bends back with x, as a forehead does.
    bent = (x, y + 0.0175 * x * x, z + 0.085 * x * x)
    socket = ellipsoid(mirrored, (face.eye_x_cm - 0.15, 0.05, 9.1), (2.0, 1.15, 1.75))
    lids = (face.eye_x_cm, face.eye_y_cm - 0.05, EYEBALL_DEPTH_CM)
    distance = smooth_min(
        distance, ellipsoid(mirrored, (4.1 * face.face_width, -2.6, 5.2), cheekbone), 2.2
    )
    distance = smooth_min(distance, ellipsoid(bent, (2.5, 2.0, 7.15), ridge), 1.2)
    distance = smooth_max(distance, -socket, 0.9)
    return smooth_min(distance, ellipsoid(mirrored, lids, (1.5, 1.28, 1.42)), 0.35)


def _nose(distance: Floats, point: Vector, mirrored: Vector, face: FaceTraits) -> Floats:
    width, length, tip = face.nose_width, face.nose_length_cm, face.nose_tip_cm
    muzzle = ellipsoid(point, (0, -6.6, 7.2), (3.1, 2.3, 1.85))
    bridge = capsule(
        point,
        (0, 1.6, 7.1 + face.nose_bridge_cm),
        (0, -3.2 - length, 9.75 + 0.4 * tip),
        start_radius_cm=0.70 * width**0.5,
        end_radius_cm=0.80 * width**0.5,
    )
    ball = ellipsoid(point, (0, -3.7 - length, 9.95 + 0.5 * tip), (0.98 * width, 0.85, 0.95))
    wing = ellipsoid(mirrored, (1.08 * width, -4.0 - length, 8.95), (0.72 * width, 0.68, 0.85))
    distance = smooth_min(distance, muzzle, 1.2)
    distance = smooth_min(distance, bridge, 0.75)
    distance = smooth_min(distance, ball, 0.6)
    return smooth_min(distance, wing, 0.35)


def _mouth(distance: Floats, point: Vector, face: FaceTraits) -> Floats:
    x, y, z = point
    mouth_y, width = face.mouth_y_cm, face.mouth_width_cm
    upper, lower = face.upper_lip_cm / 0.62, face.lower_lip_cm / 0.78
    bow = MOUTH_BOW_CM * np.cos(clip(x * (1 / width), -1, 1) * np.pi)
    bent = (x, y + bow, z + 0.055 * x * x)
    upper_lip = ellipsoid(
        bent, (0, mouth_y + 0.42 * upper, 8.72), (width * 0.98, 0.34 * upper, 0.52)
    )
    lower_lip = ellipsoid(
        bent, (0, mouth_y - 0.55 * lower, 8.62), (width * 0.86, 0.42 * lower, 0.58)
    )
    groove = ellipsoid(point, (0, mouth_y - 1.75, 9.55), (1.7, 0.55, 0.75))
    distance = smooth_min(distance, upper_lip, 0.28)
    distance = smooth_min(distance, lower_lip, 0.30)
    return smooth_max(distance, -groove, 0.6)


def _ears(distance: Floats, mirrored: Vector, head: HeadTraits) -> Floats:
    if head.long_hair > 0:
        return distance  # tucked away
    size = head.ear_size
    ear = ellipsoid(mirrored, (7.2 * head.skull_width, -0.9, -0.9), (0.75, 2.9 * size, 1.7 * size))
    return smooth_min(distance, ear, 0.5)
