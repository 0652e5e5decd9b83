"""Where the camera stands and how a head is turned before it; nothing of what it sees."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.geometry import Floats, Triple, Vector, unit

DISTANCE_CM = 78.0
"""From the camera to the plane of the head's centre: about an arm's length."""

FOCAL_SIDES = 2.2
"""Focal length in sides of the image: the frame shows DISTANCE_CM / FOCAL_SIDES = 35 cm."""

LIFT_CM = 1.2
"""How far over the frame's middle the head's centre is, to leave room for the shoulders."""

NEUTRAL_PITCH = -6.5
"""Pitch, degrees, of the modelled head when `Moment.pitch` is 0: so that MediaPipe's face model,
whose idea of straight ahead is the field's, agrees with ours on the average person."""

Rotation = npt.NDArray[np.float64]
"""float64 (3, 3): turns head coordinates into world coordinates."""


def rotation(yaw: float, pitch: float, roll: float) -> Rotation:
    """Return head_to_world for angles in degrees, signed as in `Moment`."""
    y, p, r = np.radians([yaw, pitch, roll])
    turn = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    nod = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    tilt = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(tilt @ turn @ nod, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """A body part's coordinates against the world's: turned, then moved."""

    to_world: Rotation
    origin_cm: Triple

    def camera_cm(self) -> Triple:
        """Return the camera's position in these coordinates, cm."""
        away = np.array([0, 0, DISTANCE_CM]) - np.array(self.origin_cm)
        return _triple(self.to_world.T @ away)

    def vectors_to_local(self, vector: Vector) -> Vector:
        """Turn many world directions into these coordinates."""
        x, y, z = vector
        m = self.to_world
        return (
            float(m[0, 0]) * x + float(m[1, 0]) * y + float(m[2, 0]) * z,
            float(m[0, 1]) * x + float(m[1, 1]) * y + float(m[2, 1]) * z,
            float(m[0, 2]) * x + float(m[1, 2]) * y + float(m[2, 2]) * z,
        )

    def vector_to_local(self, vector: Triple) -> Triple:
        """Turn one world direction into these coordinates."""
        return _triple(self.to_world.T @ np.array(vector))

    def to_image(self, points_cm: Floats, camera: "Camera") -> Floats:
        """Return where points (N, 3) appear, float32 (N, 2) px."""
        x, y, z = (points_cm @ self.to_world.T + np.array(self.origin_cm)).T
        zoom = camera.focal_px / (DISTANCE_CM - z)
        seen = np.stack([camera.center_px + x * zoom, camera.center_px - y * zoom], axis=1)
        return seen.astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A pinhole camera that looks along -z at a square image."""

    size_px: int
    focal_px: float

    @property
    def center_px(self) -> float:
        """The optical axis in the image, both ways: pixel centres are on integers."""
        return (self.size_px - 1) / 2

    @property
    def pixel_cm(self) -> float:
        """Size of a pixel at the head's centre."""
        return DISTANCE_CM / self.focal_px

    def rays(self, columns: Floats, rows: Floats) -> Vector:
        """Return unit world directions through pixels (N,)."""
        x = (columns - self.center_px) * (1 / self.focal_px)
        y = (self.center_px - rows) * (1 / self.focal_px)
        return unit((x, y, np.full_like(x, -1)))


def camera_for(scene: SceneParams, size_px: int) -> Camera:
    """Return the camera of this moment."""
    return Camera(size_px=size_px, focal_px=size_px * FOCAL_SIDES * scene.scale)


def place_head(scene: SceneParams) -> Placement:
    """Return the head's placement."""
    turned = rotation(scene.yaw, scene.pitch + NEUTRAL_PITCH, scene.roll)
    return Placement(to_world=turned, origin_cm=_origin(scene))


def place_body(scene: SceneParams) -> Placement:
    """Return the placement of neck and shoulders, which follow the head a little."""
    turned = rotation(0.30 * scene.yaw, 0.15 * scene.pitch, 0.25 * scene.roll)
    return Placement(to_world=turned, origin_cm=_origin(scene))


def _origin(scene: SceneParams) -> Triple:
    return scene.shift[0], scene.shift[1] + LIFT_CM, 0.0


def _triple(values: Floats) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
