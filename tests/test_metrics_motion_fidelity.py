"""Pose, expression, eyes, mouth and gaze: the formulas, on points and angles."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.evaluation.metrics import motion_fidelity
from faceswap_cli.faces.head_pose import angle_errors_deg, pose_error_deg
from faceswap_cli.faces.types import expression_error

Array = npt.NDArray[np.float64]


def faces(count: int = 8, *, seed: int = 0) -> Array:
    """Return random landmarks (T, 478, 2), with level eyes 30 px wide."""
    landmarks = np.random.default_rng(seed).normal(0, 100, (1, 478, 2)).repeat(count, axis=0)
    for side, ((left, right), lids) in enumerate(
        zip(motion_fidelity.EYE_CORNERS, motion_fidelity.EYELID_PAIRS, strict=True)
    ):
        middle = np.array([100.0 + 60 * side, 100.0])
        landmarks[:, left], landmarks[:, right] = middle - [15, 0], middle + np.array([15, 0])
        landmarks[:, motion_fidelity.IRIS_CENTERS[side]] = middle
        for upper, lower in lids:
            landmarks[:, upper], landmarks[:, lower] = middle - [0, 5], middle + np.array([0, 5])
    return landmarks


def transform(landmarks: Array, *, rotation_deg: float, scale: float) -> Array:
    """Return landmarks rotated clockwise as seen in the image, scaled and shifted."""
    angle = np.radians(rotation_deg)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return landmarks @ matrix.T + [17, -5]


def test_angle_errors_wrap() -> None:
    """From 179 to -179 degrees it is two degrees, in both directions."""
    first, second = np.array([[0.0, 0, 179]]), np.array([[0.0, 0, -179]])
    assert pytest.approx(2) == angle_errors_deg(first, second)[0, 2]
    assert pytest.approx(2) == angle_errors_deg(second, first)[0, 2]


def test_pose_error_is_the_norm_of_the_angles() -> None:
    """Three, four and twelve degrees make thirteen."""
    poses = np.array([[3.0, -4, 12]])
    assert pytest.approx(13) == pose_error_deg(poses, np.zeros((1, 3)))[0]


def test_constant_difference_is_no_motion_error() -> None:
    """It belongs to the identity, not to the performance."""
    driving = np.random.default_rng(1).random((20, 52))
    assert pytest.approx(0.1) == expression_error(driving + 0.1, driving).mean()
    assert (
        pytest.approx(0) == motion_fidelity.expression_motion_error(driving + 0.1, driving).mean()
    )


def test_frozen_face_misses_the_whole_motion() -> None:
    """Its error is the driving face's own motion."""
    driving = np.random.default_rng(1).random((20, 52))
    frozen = np.broadcast_to(driving[0], driving.shape)
    assert motion_fidelity.expression_motion_error(frozen, driving).mean() > 0.2


@pytest.mark.parametrize("measure", [motion_fidelity.eye_openness, motion_fidelity.mouth_openness])
def test_openness_is_invariant_to_similarities(
    measure: Callable[[Array], Array],
) -> None:
    """Rotation, scale and shift do not change it."""
    landmarks = faces()
    assert pytest.approx(measure(landmarks)) == measure(
        transform(landmarks, rotation_deg=30, scale=3)
    )


def test_eye_openness_is_height_over_width() -> None:
    """Ten px over thirty."""
    assert pytest.approx(1 / 3) == motion_fidelity.eye_openness(faces())[0]


@pytest.mark.parametrize("rotation_deg", [0.0, -40.0])
@pytest.mark.parametrize(("x", "y", "angles"), [(6, 0, (30, 0)), (0, -6, (0, 30))])
def test_gaze_is_the_angle_of_the_eyeball(
    rotation_deg: float, x: float, y: float, angles: tuple[float, float]
) -> None:
    """Half the eyeball's radius, 6 of 12 px, is 30 degrees, at any roll of the head."""
    landmarks = faces(count=1)
    landmarks[:, list(motion_fidelity.IRIS_CENTERS)] += [x, y]
    assert (
        pytest.approx(angles, abs=1e-6)
        == motion_fidelity.estimate_gaze(transform(landmarks, rotation_deg=rotation_deg, scale=2))[
            0
        ]
    )


def test_closed_eye_has_no_gaze() -> None:
    """Where one eye is closed, gaze and its error are NaN."""
    landmarks = faces()
    for upper, lower in motion_fidelity.EYELID_PAIRS[0]:
        landmarks[3, upper] = landmarks[3, lower]
    angles = motion_fidelity.estimate_gaze(landmarks)
    assert [3] == list(np.flatnonzero(np.isnan(angles).any(axis=1)))
    assert [3] == list(np.flatnonzero(np.isnan(motion_fidelity.gaze_error(angles, angles))))


def test_missing_faces_are_nan_without_a_warning() -> None:
    """A clip without faces has curves of NaN."""
    missing = np.full((4, 52), np.nan)
    assert np.isnan(motion_fidelity.expression_motion_error(missing, missing)).all()
