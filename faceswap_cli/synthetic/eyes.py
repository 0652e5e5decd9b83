"""Eyeballs, lids and lashes, computed per pixel because they are sharper than any map."""

from dataclasses import dataclass

import numpy as np

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.camera import NEUTRAL_PITCH
from faceswap_cli.synthetic.geometry import (
    Floats,
    Triple,
    Vector,
    bump,
    clip,
    dot,
    point_along,
    smoothstep,
    subset,
    unit,
)
from faceswap_cli.synthetic.head_shape import EYEBALL_DEPTH_CM
from faceswap_cli.synthetic.traits import FaceTraits

EYEBALL_RADIUS_CM = 1.38
IRIS_RADIUS, PUPIL_RADIUS = 0.425, 0.168
"""Angular radii from the eyeball's center, rad."""

_WHITE: Triple = (0.90, 0.87, 0.85)
_TEAR_DUCT: Triple = (0.62, 0.36, 0.34)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lids:
    """The opening between the lids at many pixels: cm from the eye's middle line."""

    across: Floats
    """-1 at the inner corner, 1 at the outer."""
    height: Floats
    """cm above the line through the corners."""
    upper: Floats
    """The upper lid's edge, cm."""
    open_upper: Floats
    """The upper lid's edge of the open eye, cm."""
    lower: Floats
    """The lower lid's edge, cm."""

    @property
    def opening(self) -> Floats:
        """1 where the eyeball is visible."""
        return (
            smoothstep(-0.035, 0.045, self.upper - self.height)
            * smoothstep(-0.04, 0.05, self.height - self.lower)
            * (np.abs(self.across) < 1)
        )


def add_eyes(
    light: Floats,
    rest: Vector,
    *,
    ray: Vector,
    eye: Triple,
    lamp: Triple,
    shadow: Floats,
    face: FaceTraits,
    scene: SceneParams,
) -> None:
    """Render both eyes into `light` (N, 3), in place.

    Args:
        light: Shaded pixels.
        rest: The canonical points of the pixels, cm.
        ray: Their unit rays in head coordinates.
        eye: The camera in head coordinates, cm.
        lamp: Unit vector towards the lamp, in head coordinates.
        shadow: 1 where the lamp reaches.
        face: The face's traits.
        scene: Blink, gaze and light.
    """
    x, y, z = rest
    for side in (-1, 1):
        across = (side * x - face.eye_x_cm) * (1 / face.eye_width_cm)
        height = y - face.eye_y_cm - face.eye_tilt * face.eye_width_cm * across
        near = (np.abs(across) < 1.35) & (np.abs(height) < 1.6) & (z > 3) & (side * x > 0)
        index = np.flatnonzero(near)
        if index.size == 0:
            continue
        lids = _lids(across[index], height[index], face, scene)
        center = (side * face.eye_x_cm, face.eye_y_cm - 0.02, EYEBALL_DEPTH_CM)
        ball = _eyeball(
            subset(ray, index),
            lids,
            center=center,
            eye=eye,
            lamp=lamp,
            shadow=shadow[index],
            face=face,
            scene=scene,
        )
        pixels = light[index]
        pixels += (ball - pixels) * lids.opening[:, None]
        light[index] = pixels * (1 - _lashes_and_crease(lids, face, scene))[:, None]


def _lids(across: Floats, height: Floats, face: FaceTraits, scene: SceneParams) -> Lids:
    within = clip(1 - across * across, 0, 1)
    lower = -0.58 * face.eye_height_cm * within**0.8
    arch = clip(1 - 0.93 * (across + 0.12) ** 2, 0, 1) ** 0.62
    open_upper = 0.93 * face.eye_height_cm * arch * np.sqrt(clip(4 * within, 0, 1))
    shut = 0.92 * lower
    upper = shut + (open_upper - shut) * min(max(1 - scene.blink, 0), 1)
    return Lids(across=across, height=height, upper=upper, open_upper=open_upper, lower=lower)


def _eyeball(
    ray: Vector,
    lids: Lids,
    *,
    center: Triple,
    eye: Triple,
    lamp: Triple,
    shadow: Floats,
    face: FaceTraits,
    scene: SceneParams,
) -> Floats:
    """Return the light (N, 3) from an eyeball where the rays meet it."""
    normal = _sphere_normal(ray, eye, center)
    # Eyes at rest are directed straight ahead, not along the modeled head.
    gaze_x, gaze_y = np.radians([scene.gaze[0], scene.gaze[1] + NEUTRAL_PITCH])
    gaze = (
        float(np.sin(gaze_x) * np.cos(gaze_y)),
        float(np.sin(gaze_y)),
        float(np.cos(gaze_x) * np.cos(gaze_y)),
    )
    cosine = normal[0] * gaze[0] + normal[1] * gaze[1] + normal[2] * gaze[2]
    off = np.arccos(clip(cosine, -1, 1))
    around = np.arctan2(normal[1] - gaze[1], normal[0] - gaze[0])
    iris = smoothstep(IRIS_RADIUS + 0.03, IRIS_RADIUS - 0.03, off)
    pupil = smoothstep(PUPIL_RADIUS + 0.018, PUPIL_RADIUS - 0.018, off)
    rim = bump((off - IRIS_RADIUS) / 0.05) * iris
    fibers = (1 + 0.25 * np.sin(17 * around + 3 * np.sin(5 * around))) * (
        0.75 + 0.6 * smoothstep(0.1, 0.4, off)
    )
    white = 1 - 0.20 * smoothstep(0.55, 1.0, np.abs(lids.across))
    ball = white[:, None] * np.array(_WHITE, np.float32)
    ball += (fibers[:, None] * np.array(face.iris, np.float32) - ball) * iris[:, None]
    ball *= (1 - 0.55 * rim)[:, None]
    ball += (0.02 - ball) * pupil[:, None]
    towards_lamp = normal[0] * lamp[0] + normal[1] * lamp[1] + normal[2] * lamp[2]
    lit = clip((towards_lamp + 0.35) * (1 / 1.35), 0, 1) * (0.4 + 0.6 * shadow)
    under_lid = 0.52 + 0.48 * smoothstep(-0.02, 0.42, lids.upper - lids.height)
    ball *= ((0.95 * scene.ambient + 0.62 * scene.key * lit) * under_lid)[:, None]
    halfway = unit((lamp[0] - ray[0], lamp[1] - ray[1], lamp[2] - ray[2]))
    ball += (0.95 * scene.key * clip(dot(normal, halfway), 0, 1) ** 260)[:, None]
    tear = 0.5 * bump((lids.across + 0.93) / 0.09, lids.height / 0.12)
    ball += (np.array(_TEAR_DUCT, np.float32) - ball) * tear[:, None]
    return ball


def _sphere_normal(ray: Vector, eye: Triple, center: Triple) -> Vector:
    """Return the eyeball's outward unit normal where each ray meets it (or passes closest)."""
    start = [e - c for e, c in zip(eye, center, strict=True)]
    b = ray[0] * start[0] + ray[1] * start[1] + ray[2] * start[2]
    inside = b * b - (sum(s * s for s in start) - EYEBALL_RADIUS_CM**2)
    x, y, z = point_along(eye, ray, -b - np.sqrt(np.maximum(inside, 0)))
    return unit((x - center[0], y - center[1], z - center[2]))


def _lashes_and_crease(lids: Lids, face: FaceTraits, scene: SceneParams) -> Floats:
    """Return the darkening of each pixel by lashes and the lid's crease, 0 to 1."""
    side, openness = np.abs(lids.across), 1 - scene.blink
    thick = face.lashes**0.5
    upper = bump((lids.height - lids.upper - 0.03) / (0.085 * thick))
    upper = 0.82 * upper * smoothstep(1.12, 0.98, side)
    lower = 0.30 * thick * bump((lids.height - lids.lower + 0.03) / 0.06)
    lower = lower * smoothstep(1.05, 0.9, side)
    crease = bump((lids.height - 0.72 * lids.open_upper - 0.42 - 0.10 * openness) / 0.09)
    crease = crease * smoothstep(1.15, 0.8, side) * (0.30 * openness + 0.08)
    return clip(upper + lower + crease, 0, 0.93)
