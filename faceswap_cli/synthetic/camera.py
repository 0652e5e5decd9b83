"""The camera, and the placement of head and body in the world."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.geometry import Floats, Triple, Vector, unit

DISTANCE_CM = 78.0
"""Distance of the camera from the plane of the head's center: about an arm's length."""

FOCAL_SIDES = 2.2
"""Focal length in sides of the image: the frame shows DISTANCE_CM / FOCAL_SIDES = 35 cm."""

LIFT_CM = 1.2
"""Height of the head's center above the frame's middle, to leave room for the shoulders."""

NEUTRAL_PITCH = -6.5
"""Pitch, degrees, of the modeled head when `SceneParams.pitch` is 0: the average person's pitch
then agrees with that of MediaPipe's face model."""

Rotation = npt.NDArray[np.float64]
"""float64 (3, 3): rotates head coordinates to world coordinates."""


def rotation(yaw: float, pitch: float, roll: float) -> Rotation:
    """Return head_to_world for angles in degrees, signed as in `SceneParams`."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """The transform of a body part's coordinates to the world's: rotated, then translated."""

    to_world: Rotation
    origin_cm: Triple

    def camera_cm(self) -> Triple:
        """Return the camera's position in these coordinates, cm."""
        offset = np.array([0, 0, DISTANCE_CM]) - np.array(self.origin_cm)
        return _triple(self.to_world.T @ offset)

    def vectors_to_local(self, vector: Vector) -> Vector:
        """Return many world directions in these coordinates."""
        x, y, z = vector
        m = self.to_world
        return (
            float(m[0, 0]) * x + float(m[1, 0]) * y + float(m[2, 0]) * z,
            float(m[0, 1]) * x + float(m[1, 1]) * y + float(m[2, 1]) * z,
            float(m[0, 2]) * x + float(m[1, 2]) * y + float(m[2, 2]) * z,
        )

    def vector_to_local(self, vector: Triple) -> Triple:
        """Return one world direction in these coordinates."""
        return _triple(self.to_world.T @ np.array(vector))

    def to_image(self, points_cm: Floats, camera: "Camera") -> Floats:
        """Return the projections of points (N, 3), float32 (N, 2) px."""
        x, y, z = (points_cm @ self.to_world.T + np.array(self.origin_cm)).T
        scale = camera.focal_px / (DISTANCE_CM - z)
        points_px = np.stack([camera.center_px + x * scale, camera.center_px - y * scale], axis=1)
        return points_px.astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Camera:
    """A pinhole camera that looks along -z at a square image."""

    size_px: int
    focal_px: float

    @property
    def center_px(self) -> float:
        """Position of the optical axis, in x and in y: pixel centers are on integers."""
        return (self.size_px - 1) / 2

    @property
    def pixel_cm(self) -> float:
        """Size of a pixel at the head's center."""
        return DISTANCE_CM / self.focal_px

    def rays(self, columns: Floats, rows: Floats) -> Vector:
        """Return unit world directions through pixels (N,)."""
        x = (columns - self.center_px) * (1 / self.focal_px)
        y = (self.center_px - rows) * (1 / self.focal_px)
        return unit((x, y, np.full_like(x, -1)))


def camera_for(scene: SceneParams, size_px: int) -> Camera:
    """Return the scene's camera."""
    return Camera(size_px=size_px, focal_px=size_px * FOCAL_SIDES * scene.scale)


def place_head(scene: SceneParams) -> Placement:
    """Return the head's placement."""
    to_world = rotation(scene.yaw, scene.pitch + NEUTRAL_PITCH, scene.roll)
    return Placement(to_world=to_world, origin_cm=_origin(scene))


def place_body(scene: SceneParams) -> Placement:
    """Return the placement of neck and shoulders, which follow the head a little."""
    to_world = rotation(0.30 * scene.yaw, 0.15 * scene.pitch, 0.25 * scene.roll)
    return Placement(to_world=to_world, origin_cm=_origin(scene))


def _origin(scene: SceneParams) -> Triple:
    return scene.shift[0], scene.shift[1] + LIFT_CM, 0.0


def _triple(values: Floats) -> Triple:
    x, y, z = (float(v) for v in values)
    return x, y, z
