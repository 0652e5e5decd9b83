"""Head pose from landmarks with depth (`estimate_rotation`), as angles, and errors between poses.

The rotation is the one MediaPipe's face geometry pipeline reports: the landmarks are unprojected
through a camera into centimeters, and a canonical face is fitted to them by weighted Procrustes
analysis (D. Akca, "Generalized Procrustes analysis and its applications in photogrammetry", 2003,
2.4).

Convention:
    x to image right, y up, z to the camera; see `faces.types.Face`.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NUM_SKIN_LANDMARKS = 468
"""The first landmarks; those of the irises after them have no depth of their own."""
VERTICAL_FOV_DEG = 63.0
"""Vertical field of view of the camera that MediaPipe assumes by default."""

# From geometry_pipeline_metadata_landmarks.binarypb in face_landmarker.task (Apache-2.0).
CANONICAL_FACE: Mapping[int, tuple[float, float, float, float]] = MappingProxyType(
    {
        4: (0.000000, -0.463170, 7.586580, 0.070910),
        6: (0.000000, 2.473255, 5.788627, 0.032100),
        10: (0.000000, 8.261778, 4.481535, 0.008447),
        33: (-4.445859, 2.663991, 3.173422, 0.058724),
        54: (-6.279331, 6.615427, 1.425850, 0.007667),
        67: (-3.523964, 8.005976, 3.729163, 0.009078),
        117: (-5.258659, 0.945811, 2.974312, 0.009792),
        119: (-3.300681, 0.861641, 3.872784, 0.014565),
        121: (-1.820731, 1.467954, 4.224124, 0.018591),
        127: (-7.743095, 2.364999, -2.005167, 0.005198),
        129: (-1.785794, -0.978284, 4.850470, 0.120625),
        132: (-7.270895, -2.890917, -2.252455, 0.005560),
        133: (-1.856432, 2.585245, 3.757904, 0.053286),
        136: (-5.085276, -7.178590, 0.714711, 0.066890),
        143: (-6.407571, 2.236021, 1.560843, 0.014817),
        147: (-6.234883, -1.944430, 1.663542, 0.014263),
        198: (-1.246815, 0.230297, 5.681036, 0.025462),
        205: (-3.832928, -1.537326, 4.137731, 0.047252),
        263: (4.445859, 2.663991, 3.173422, 0.058724),
        284: (6.279331, 6.615427, 1.425850, 0.007667),
        297: (3.523964, 8.005976, 3.729163, 0.009078),
        346: (5.258659, 0.945811, 2.974312, 0.009792),
        348: (3.300681, 0.861641, 3.872784, 0.014565),
        350: (1.820731, 1.467954, 4.224124, 0.018591),
        356: (7.743095, 2.364999, -2.005167, 0.005198),
        358: (1.785794, -0.978284, 4.850470, 0.120625),
        361: (7.270895, -2.890917, -2.252455, 0.005560),
        362: (1.856432, 2.585245, 3.757904, 0.053286),
        365: (5.085276, -7.178590, 0.714711, 0.066890),
        372: (6.407571, 2.236021, 1.560843, 0.014817),
        376: (6.234883, -1.944430, 1.663542, 0.014263),
        420: (1.246815, 0.230297, 5.681036, 0.025462),
        425: (3.832928, -1.537326, 4.137731, 0.047252),
    }
)
"""Landmark -> x, y, z in cm on the canonical face, and its weight in the fit."""


def estimate_rotation(landmarks: Array, *, size: tuple[int, int]) -> Array:
    """Return the head's rotation (3, 3), Rz(roll) @ Ry(yaw) @ Rx(pitch).

    Args:
        landmarks: (N, 3): x, y, px in the frame; depth in the same unit, away from the camera.
        size: (width, height) of the frame, px; the camera's axis goes through its center.
    """
    width, height = size
    table = np.array(list(CANONICAL_FACE.values()))
    model, weights = table[:, :3], table[:, 3]
    # The near plane is at 1: one px there, and the landmarks on it.
    px = 2 * math.tan(math.radians(VERTICAL_FOV_DEG) / 2) / height
    near = (landmarks - [width / 2, height / 2, landmarks[:NUM_SKIN_LANDMARKS, 2].mean()]) * px
    points = near[list(CANONICAL_FACE)]
    flat = points * [1, -1, -1]
    # The face's distance follows from its size in the image, at first as if it were flat.
    scale, _ = fit_scale_rotation(model, flat, weights)
    scale *= fit_scale_rotation(model, _unproject(points, scale), weights)[0]
    return fit_scale_rotation(model, _unproject(points, scale), weights)[1]


def angle_errors_deg(poses: npt.ArrayLike, others: npt.ArrayLike) -> Array:
    """Return the absolute differences of yaw, pitch and roll (..., 3), wrapped to 0 to 180."""
    return np.asarray(np.abs((np.subtract(poses, others) + 180) % 360 - 180))


def pose_error_deg(poses: npt.ArrayLike, others: npt.ArrayLike) -> Array:
    """Return the L2 norms (...) of the differences of poses (..., 3), degrees.

    The pose error of L. Li et al., "FaceShifter", CVPR 2020, table 1.
    """
    return np.asarray(np.linalg.norm(angle_errors_deg(poses, others), axis=-1))


def rotation_to_euler(rotation: Array) -> tuple[float, float, float]:
    """Return yaw, pitch, roll in degrees of a rotation (3, 3) = Rz(roll) @ Ry(yaw) @ Rx(pitch).

    Convention:
        x to image right, y up, z to the camera; see `faces.types.Face`.
    """
    yaw = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))


def fit_scale_rotation(points: Array, target: Array, weights: Array) -> tuple[float, Array]:
    """Return the scale and rotation (3, 3) that best map points to target, both (N, 3)."""
    weights = (weights / weights.sum())[:, None]
    start = points - (points * weights).sum(axis=0)
    end = target - (target * weights).sum(axis=0)
    left, _, right = np.linalg.svd((end * weights).T @ start)
    mirror = np.diag([1, 1, np.sign(np.linalg.det(left @ right))])
    rotation = left @ mirror @ right
    scale = ((start @ rotation.T) * end * weights).sum() / (start**2 * weights).sum()
    return float(scale), rotation


def _unproject(points: Array, scale: float) -> Array:
    """Return the positions in space, in cm, of points on the near plane with depth."""
    depth = (points[:, 2:] + 1) / scale
    return np.hstack([points[:, :2] * depth, depth]) * [1, -1, -1]
