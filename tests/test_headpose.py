"""A head's turn is read back from landmarks that were made by turning one."""

import numpy as np
import pytest

from faceswap_cli.actors.camera import rotation as turned
from faceswap_cli.faces import headpose
from faceswap_cli.faces.detect import angles

DISTANCE_CM = 60.0


def seen(pose: tuple[float, float, float], *, size: tuple[int, int]) -> headpose.Array:
    """Landmarks (478, 3), px, of a canonical head turned before the camera MediaPipe assumes."""
    width, height = size
    table = np.array(list(headpose.CANONICAL.values()))[:, :3]
    places = table @ turned(*pose).T + [6, -4, -DISTANCE_CM]
    depth = -places[:, 2:]
    unit = height / 2 / np.tan(np.radians(headpose.VERTICAL_FIELD_DEGREES / 2))
    flat = places[:, :2] / depth * [unit, -unit] + [width / 2, height / 2]
    landmarks = np.zeros((478, 3))
    landmarks[list(headpose.CANONICAL)] = np.hstack([flat, (depth / DISTANCE_CM - 1) * unit])
    others = np.setdiff1d(np.arange(headpose.SKIN), list(headpose.CANONICAL))
    landmarks[others, 2] = -landmarks[:, 2].sum() / len(others)  # the mean is as deep as the head
    return landmarks


@pytest.mark.parametrize("size", [(640, 480), (720, 1280)])
@pytest.mark.parametrize("pose", [(0, 0, 0), (35, -10, 0), (-20, 15, 30), (5, 0, 170)])
def test_a_turned_head_is_read_back(
    pose: tuple[float, float, float], size: tuple[int, int]
) -> None:
    """Yaw, pitch and roll come back within half a degree, wherever the head is in the picture."""
    found = angles(headpose.rotation(seen(pose, size=size), size=size))

    np.testing.assert_allclose(found, pose, atol=0.5)


def test_a_similarity_is_read_back() -> None:
    """Scale and rotation of a moved cloud of points come back, and no mirror image does."""
    chance = np.random.default_rng(2)
    points, weights = chance.normal(size=(9, 3)), chance.uniform(0.1, 1, 9)
    turn = turned(20, -30, 70)

    scale, found = headpose.similarity(points, 2.5 * points @ turn.T + [1, 2, 3], weights)
    _, mirrored = headpose.similarity(points, points * [1, 1, -1], weights)

    assert scale == pytest.approx(2.5)
    np.testing.assert_allclose(found, turn, atol=1e-9)
    assert np.linalg.det(mirrored) == pytest.approx(1)
