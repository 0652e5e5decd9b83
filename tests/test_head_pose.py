"""Head pose is recovered from landmarks projected from a known pose."""

import numpy as np
import pytest

from faceswap_cli.faces import head_pose
from faceswap_cli.faces.head_pose import rotation_to_euler
from faceswap_cli.synthetic.camera import rotation as rotation_matrix

DISTANCE_CM = 60.0


def project_head(pose: tuple[float, float, float], *, size: tuple[int, int]) -> head_pose.Array:
    """Return landmarks (478, 3), px, of a canonical head in the camera that MediaPipe assumes."""
    width, height = size
    table = np.array(list(head_pose.CANONICAL_FACE.values()))[:, :3]
    positions = table @ rotation_matrix(*pose).T + [6, -4, -DISTANCE_CM]
    depth = -positions[:, 2:]
    unit = height / 2 / np.tan(np.radians(head_pose.VERTICAL_FOV_DEG / 2))
    flat = positions[:, :2] / depth * [unit, -unit] + [width / 2, height / 2]
    landmarks = np.zeros((478, 3))
    landmarks[list(head_pose.CANONICAL_FACE)] = np.hstack([flat, (depth / DISTANCE_CM - 1) * unit])
    others = np.setdiff1d(np.arange(head_pose.NUM_SKIN_LANDMARKS), list(head_pose.CANONICAL_FACE))
    landmarks[others, 2] = -landmarks[:, 2].sum() / len(others)  # the mean is as deep as the head
    return landmarks


@pytest.mark.parametrize("size", [(640, 480), (720, 1280)])
@pytest.mark.parametrize("pose", [(0, 0, 0), (35, -10, 0), (-20, 15, 30), (5, 0, 170)])
def test_estimate_rotation_recovers_the_pose(
    pose: tuple[float, float, float], size: tuple[int, int]
) -> None:
    """Yaw, pitch and roll come back within half a degree, for a head off the image center."""
    found = rotation_to_euler(head_pose.estimate_rotation(project_head(pose, size=size), size=size))

    np.testing.assert_allclose(found, pose, atol=0.5)


def test_fit_scale_rotation_recovers_the_transform() -> None:
    """Scale and rotation of a moved point cloud come back; a mirrored one gives no reflection."""
    rng = np.random.default_rng(2)
    points, weights = rng.normal(size=(9, 3)), rng.uniform(0.1, 1, 9)
    rotation = rotation_matrix(20, -30, 70)

    scale, found = head_pose.fit_scale_rotation(
        points, 2.5 * points @ rotation.T + [1, 2, 3], weights
    )
    _, mirrored = head_pose.fit_scale_rotation(points, points * [1, 1, -1], weights)

    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, rotation, atol=1e-9)
    assert np.linalg.det(mirrored) == pytest.approx(1)
