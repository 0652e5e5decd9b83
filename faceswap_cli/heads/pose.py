"""Vertices of a person in a scene: face units, eyes that turn, a neck that bends.

Main entry point: `pose_points`.
"""

from dataclasses import dataclass, replace

import numpy as np

from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.mesh import LEFT_EYE, NECK_PIVOT_CM, RIGHT_EYE, base_mesh
from faceswap_cli.heads.scene import GAZE_DEGREES, HeadScene
from faceswap_cli.synthetic import camera
from faceswap_cli.synthetic.geometry import Floats

_INDEX = {name: number for number, name in enumerate(BLENDSHAPE_NAMES)}

_FOLLOWING_LIDS = (("eyeLookUp", "eyeWide", 1.0), ("eyeLookDown", "eyeBlink", 0.2))
"""Gazes, the units of the lids that follow them, and how far at a coefficient of 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Eye:
    """An eyeball in camera-facing coordinates of the scene, cm."""

    center: Floats
    radius_cm: float
    axes: Floats
    """float32 (3, 3): rows are the eye's right, up and line of sight."""


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Return the matrix of a pose in degrees, float32 (3, 3), for column vectors."""
    return camera.rotation(yaw, pitch, roll).astype(np.float32)


def gaze_degrees(scene: HeadScene) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where the eyes at the image's right and left look: degrees right and up, each."""
    if scene.gaze is not None:
        return scene.gaze, scene.gaze
    c = scene.blendshapes
    across, along = GAZE_DEGREES

    def eye(side: str, sign: float) -> tuple[float, float]:
        out = c[_INDEX[f"eyeLookOut{side}"]] - c[_INDEX[f"eyeLookIn{side}"]]
        up = c[_INDEX[f"eyeLookUp{side}"]] - c[_INDEX[f"eyeLookDown{side}"]]
        return sign * out * across, up * along

    return eye("Left", 1.0), eye("Right", -1.0)


def with_gaze(scene: HeadScene) -> HeadScene:
    """Return the scene with the coefficients of its gaze, so that the lids follow it."""
    if scene.gaze is None:
        return scene
    c = list(scene.blendshapes)
    right, up = scene.gaze[0] / GAZE_DEGREES[0], scene.gaze[1] / GAZE_DEGREES[1]
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        for name, value in (
            ("Out", sign * right),
            ("In", -sign * right),
            ("Up", up),
            ("Down", -up),
        ):
            c[_INDEX[f"eyeLook{name}{side}"]] = max(0.0, value)
    return replace(scene, blendshapes=tuple(c))


def deform(rest: Floats, scene: HeadScene) -> Floats:
    """Return the vertices of a head at rest with the scene's face units, (N, 3), cm."""
    c = _with_lids(np.asarray(scene.blendshapes, np.float32))
    used = np.flatnonzero(np.abs(c) > 1e-3)
    if not len(used):
        return rest
    units = base_mesh().units[used].reshape(len(used), -1)
    points: Floats = rest + (c[used] @ units).reshape(rest.shape)
    return points


def _with_lids(coefficients: Floats) -> Floats:
    """Return the coefficients with the lids that follow a gaze up or down.

    MakeHuman's units of gaze hardly move them: an eye that looks down would show its white above.
    """
    moved = coefficients.copy()
    for side in ("Left", "Right"):
        for gaze, lid, share in _FOLLOWING_LIDS:
            at = _INDEX[lid + side]
            moved[at] = max(moved[at], min(1.0, moved[at] + share * moved[_INDEX[gaze + side]]))
    return moved


def turn(points: Floats, weight: Floats, scene: HeadScene) -> Floats:
    """Return points (N, 3) turned about the neck as far as `weight` (N,) says, and shifted."""
    matrix = rotation(scene.yaw, scene.pitch, scene.roll)
    pivot = np.array(NECK_PIVOT_CM, np.float32)
    turned = (points - pivot) @ matrix.T + pivot
    moved: Floats = points + weight[:, None] * (turned - points)
    return moved


def eyes(rest: Floats, scene: HeadScene) -> tuple[Eye, Eye]:
    """Return both eyeballs, before the head is turned: at the image's right and left."""
    mesh = base_mesh()
    found = []
    for part, gaze in zip((LEFT_EYE, RIGHT_EYE), gaze_degrees(scene), strict=True):
        ball = rest[mesh.vertices_of(part)]
        center = (ball.min(0) + ball.max(0)) / 2
        matrix = rotation(gaze[0], -gaze[1], 0)
        radius = float(np.linalg.norm(ball - center, axis=1).max())
        found.append(Eye(center=center, radius_cm=radius, axes=matrix.T))
    return found[0], found[1]
