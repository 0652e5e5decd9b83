"""Hands: a palm and five jointed fingers in a random pose, any skin, bare arm or sleeve."""

import cv2
import numpy as np

from faceswap_cli.synthetic.geometry import Floats, clip, smoothstep
from faceswap_cli.synthetic.occluders.layer import (
    OccluderLayer,
    fractal_noise,
    random_texture,
    shade_height,
)
from faceswap_cli.synthetic.occluders.solids import Capsule, Relief, draw_capsules

# A grown hand, cm: x to the side of the little finger, y to the fingertips, z out of the back.
KNUCKLES = ((-3.0, 8.6, 0.2), (-1.0, 9.0, 0.4), (1.0, 8.5, 0.3), (2.9, 7.5, 0.0))
"""Where the fingers begin, index to little finger; the wrist is the origin."""
BONES = ((4.3, 2.5, 2.0), (4.8, 2.9, 2.1), (4.4, 2.7, 2.1), (3.4, 2.0, 1.8))
"""Lengths of the fingers' bones."""
RADII = ((0.95, 0.85, 0.75, 0.6), (0.98, 0.87, 0.77, 0.62), (0.92, 0.82, 0.72, 0.58),
         (0.8, 0.7, 0.62, 0.5))  # fmt: skip
"""Radii of the fingers at the joints, from the knuckle to the tip."""
THUMB_ROOT, THUMB_BONES = (-2.2, 2.4, -0.6), (4.0, 3.2, 2.6)
THUMB_RADII = (1.35, 1.1, 0.98, 0.72)
ARM_CM, ARM_RADII = 30.0, (2.5, 4.0)
"""Length of the arm that is drawn, and its radii at the wrist and at the elbow."""

DARKEST_SKIN, LIGHTEST_SKIN = (0.25, 0.15, 0.10), (0.96, 0.78, 0.68)
FINGER_SPAN = 3
"""Capsules of a finger."""


def draw_hand(rng: np.random.Generator, size_px: int) -> OccluderLayer:
    """Return a hand that reaches into the square from somewhere."""
    capsules, back_is_seen = _pose(rng)
    relief = draw_capsules(capsules, size_px, softness_cm=float(rng.uniform(0.25, 0.45)))
    brightness = shade_height(relief.height_cm, rng, size_px, gloss=float(rng.uniform(0, 0.25)))
    color = _skin_color(rng, relief, size_px)
    color = color * (1 - 0.35 * _creases(relief)[..., None] * rng.uniform(0.3, 1))
    if back_is_seen:
        color = _add_nails(color, relief, rng)
    color *= brightness[..., None]
    if rng.uniform() < 0.5:
        color = _add_sleeve(color, relief, brightness, rng, size_px)
    return OccluderLayer.from_drawing(clip(color, 0, 1), relief.opacity)


def _pose(rng: np.random.Generator) -> tuple[list[Capsule], bool]:
    """Return the capsules of a hand in the plane's coordinates, and whether its back is seen."""
    size = rng.uniform(0.85, 1.2)
    capsules = _hand_capsules(rng)
    back_is_seen = bool(rng.uniform() < 0.6)
    # In the hand's own coordinates the camera looks at its back.
    turn = rng.normal(0, 0.35) + (0 if back_is_seen else np.pi)
    roll = rng.normal(0, 0.9) if rng.uniform() < 0.75 else rng.uniform(-np.pi, np.pi)
    rotation = _rotation(roll=roll, turn=turn, nod=rng.normal(0, 0.4))
    if rng.uniform() < 0.5:
        rotation = rotation * np.array([-1, 1, 1])  # the other hand
    middle = rotation @ np.array([0, 9, 0]) * size
    target = np.array([rng.normal(0, 4.5), rng.normal(-3.5, 5), 4])
    return [
        Capsule(
            start=rotation @ one.start * size - middle + target,
            end=rotation @ one.end * size - middle + target,
            start_radius=one.start_radius * size,
            end_radius=one.end_radius * size,
        )
        for one in capsules
    ], back_is_seen


def _hand_capsules(rng: np.random.Generator) -> list[Capsule]:
    """Return the capsules of a right hand's back: fingers, thumb, palm, arm, in this order."""
    curl = float(rng.choice([0.1, 0.35, 0.9, 1.5], p=[0.4, 0.3, 0.2, 0.1]))
    spread = rng.uniform(-0.02, 0.16)
    capsules: list[Capsule] = []
    for index, (knuckle, bones, radii) in enumerate(zip(KNUCKLES, BONES, RADII, strict=True)):
        is_pointing = index == 0 and rng.uniform() < 0.15
        bend = 0.1 if is_pointing else max(-0.1, curl + rng.normal(0, 0.18))
        side = spread * (index - 1.5) + rng.normal(0, 0.04)
        joints = _finger(np.array(knuckle), side, (bend, 1.1 * bend, 0.7 * bend), bones)
        capsules += _chain(joints, radii)
    side, bend = -rng.uniform(0.25, 0.95), rng.uniform(0, 0.5)
    capsules += _chain(
        _finger(np.array(THUMB_ROOT), side, (0.2 * bend, bend, 0.8 * bend), THUMB_BONES),
        THUMB_RADII,
    )
    wrist = np.zeros(3)
    for knuckle in KNUCKLES:
        end = np.array(knuckle) - [0, 0, 0.3]
        start = wrist + np.array([0.45 * knuckle[0], 0, 0])
        capsules.append(Capsule(start=start, end=end, start_radius=1.5, end_radius=1.15))
    elbow = np.array([rng.normal(0, 6), -ARM_CM, rng.normal(0, 6)])
    near, far = ARM_RADII
    capsules.append(Capsule(start=wrist, end=elbow, start_radius=near, end_radius=far))
    return capsules


def _finger(
    root: Floats, side: float, bends: tuple[float, ...], bones: tuple[float, ...]
) -> list[Floats]:
    """Return the joints of a finger that bends towards the palm."""
    joints, angle = [root], 0.0
    for bend, bone in zip(bends, bones, strict=True):
        angle += bend
        step = np.array([np.sin(side), np.cos(side) * np.cos(angle), -np.sin(angle)])
        joints.append(joints[-1] + bone * step)
    return joints


def _chain(joints: list[Floats], radii: tuple[float, ...]) -> list[Capsule]:
    """Return capsules from joint to joint."""
    return [
        Capsule(start=a, end=b, start_radius=r, end_radius=s)
        for a, b, r, s in zip(joints, joints[1:], radii, radii[1:], strict=False)
    ]


def _rotation(*, roll: float, turn: float, nod: float) -> Floats:
    """Return a rotation (3, 3): about the hand's axis, then out of the plane, then in it."""
    c, s = np.cos([roll, turn, nod]), np.sin([roll, turn, nod])
    in_plane = np.array([[c[0], -s[0], 0], [s[0], c[0], 0], [0, 0, 1]])
    about_axis = np.array([[c[1], 0, s[1]], [0, 1, 0], [-s[1], 0, c[1]]])
    out_of_plane = np.array([[1, 0, 0], [0, c[2], -s[2]], [0, s[2], c[2]]])
    rotation: Floats = in_plane @ out_of_plane @ about_axis
    return rotation


def _skin_color(rng: np.random.Generator, relief: Relief, size_px: int) -> Floats:
    """Return the color of skin, redder at the tips and the joints, with blotches."""
    lightness = rng.uniform()
    skin = np.array(DARKEST_SKIN) + lightness * np.subtract(LIGHTEST_SKIN, DARKEST_SKIN)
    skin = skin * rng.uniform([0.95, 0.95, 0.92], [1.04, 1.03, 1.06])
    is_tip = (relief.part % FINGER_SPAN == FINGER_SPAN - 1) & (relief.part < 5 * FINGER_SPAN)
    red = 0.5 * is_tip * relief.along + 0.12 * fractal_noise(rng, size_px, nodes=8)
    red = cv2.GaussianBlur(red.astype(np.float32), (0, 0), 1.5)
    change = red[..., None] * np.array([0.02, -0.07, -0.06], np.float32)
    grain = 0.025 * fractal_noise(rng, size_px, nodes=24, octaves=3)[..., None]
    color: Floats = (skin * (1 + change + grain)).astype(np.float32)
    return color


def _creases(relief: Relief) -> Floats:
    """Return 1 in the folds of the fingers' joints and along the edges between fingers."""
    is_finger = (relief.part >= 0) & (relief.part < 5 * FINGER_SPAN)
    is_first = relief.part % FINGER_SPAN == 0
    fold = np.exp(-((relief.along / 0.05) ** 2)) * ~is_first
    edge = np.clip(np.abs(relief.across) - 0.85, 0, 0.15) / 0.15
    crease: Floats = (is_finger * np.maximum(0.6 * fold, edge)).astype(np.float32)
    return crease


def _add_nails(color: Floats, relief: Relief, rng: np.random.Generator) -> Floats:
    """Return the color with nails on the last bones."""
    is_tip = (relief.part % FINGER_SPAN == FINGER_SPAN - 1) & (relief.part < 5 * FINGER_SPAN)
    length = rng.uniform(0.28, 0.4)
    offset = np.hypot((relief.along - 0.95) / length, relief.across / 0.62)
    nail = smoothstep(1.05, 0.9, offset) * is_tip
    paint = rng.uniform(0, 1, 3) if rng.uniform() < 0.3 else np.array([1.05, 0.9, 0.88])
    base = color if paint.max() > 1 else np.ones_like(color)
    painted = base * paint.astype(np.float32) * (1 + 0.15 * smoothstep(0.5, 0, offset))[..., None]
    nails: Floats = color + (painted - color) * (0.85 * nail)[..., None]
    return nails


def _add_sleeve(
    color: Floats, relief: Relief, brightness: Floats, rng: np.random.Generator, size_px: int
) -> Floats:
    """Return the color with cloth over the arm, from somewhere on."""
    is_arm = relief.part == 5 * FINGER_SPAN + len(KNUCKLES)
    cloth = smoothstep(0, 0.02, relief.along - rng.uniform(0.0, 0.25)) * is_arm
    texture = random_texture(rng, size_px) * brightness[..., None]
    sleeved: Floats = color + (texture - color) * cloth[..., None]
    return sleeved
