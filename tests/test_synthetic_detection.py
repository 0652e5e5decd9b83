"""A detector for real faces detects synthetic ones, and measures them correctly."""

import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face
from faceswap_cli.synthetic import (
    CAST,
    HeadModel,
    RenderedFrame,
    random_person,
    random_scenes,
    render_frame,
)

SIDE_PX = 256
FRAMES_EACH = 8

# fmt: off
MESH_INDICES = {
    "left_eye_outer": 33, "left_eye_inner": 133, "right_eye_inner": 362, "right_eye_outer": 263,
    "left_mouth_corner": 61, "right_mouth_corner": 291, "lip_top": 0, "lip_bottom": 17,
}
# fmt: on
"""Our landmarks and their indices in MediaPipe's mesh."""


@pytest.fixture(scope="module")
def measurements() -> npt.NDArray[np.float64]:
    """Return true and measured values of 48 frames.

    Columns: faces found; true yaw, pitch, roll, jaw and blink; the same as measured; the error of
    the landmarks.
    """
    people = [*CAST.values(), random_person(101)]
    rows = []
    with MediaPipeDetector() as detector:
        for seed, person in enumerate(people):
            head_model = HeadModel.from_person(person)
            for scene in random_scenes(seed, FRAMES_EACH):
                rendered = render_frame(head_model, scene, SIDE_PX)
                faces = detector.detect(rendered.image)
                true = (scene.yaw, scene.pitch, scene.roll, scene.jaw, scene.blink)
                if not faces:
                    rows.append((0.0, *true, *[np.nan] * (len(true) + 1)))
                    continue
                expression = dict(zip(BLENDSHAPE_NAMES, faces[0].blendshapes, strict=True))
                measured = (*faces[0].pose, expression["jawOpen"], expression["eyeBlinkLeft"])
                rows.append(
                    (float(len(faces)), *true, *measured, landmark_error(rendered, faces[0]))
                )
    return np.array(rows)


def landmark_error(rendered: RenderedFrame, face: Face) -> float:
    """Return the mean error of landmarks, relative to the distance of the outer eye corners."""
    eyes = rendered.landmarks["left_eye_outer"], rendered.landmarks["right_eye_outer"]
    off = [
        np.subtract(face.landmarks[i], rendered.landmarks[name]) for name, i in MESH_INDICES.items()
    ]
    return float(np.hypot(*np.transpose(off)).mean() / np.hypot(*np.subtract(*eyes)))


@pytest.mark.slow
def test_the_landmarks_agree_with_the_detector(
    measurements: npt.NDArray[np.float64],
) -> None:
    """Eye corners and mouth within 5 % of the eyes' distance."""
    assert np.nanmean(measurements[:, -1]) < 0.05


@pytest.mark.slow
def test_the_detector_finds_one_face_in_every_frame(measurements: npt.NDArray[np.float64]) -> None:
    """Exactly one in at least 98 % of scenes over the documented range."""
    assert np.mean(measurements[:, 0] == 1) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "min_correlation", "max_error"),
    [("yaw", 1, 0.98, 4.0), ("pitch", 2, 0.92, 5.0), ("roll", 3, 0.97, 3.0)],
)
def test_the_detector_measures_the_true_pose(
    measurements: npt.NDArray[np.float64],
    name: str,
    column: int,
    min_correlation: float,
    max_error: float,
) -> None:
    """The measured pose follows the true one, with its sign and in degrees."""
    true, measured = measurements[measurements[:, 0] == 1][:, [column, column + 5]].T
    assert np.corrcoef(true, measured)[0, 1] >= min_correlation, name
    assert np.abs(true - measured).mean() <= max_error, name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "min_correlation"), [("jaw", 4, 0.6), ("blink", 5, 0.85)]
)
def test_the_detector_measures_the_expression(
    measurements: npt.NDArray[np.float64], name: str, column: int, min_correlation: float
) -> None:
    """The mouth's opening and the eyes' closing."""
    true, measured = measurements[measurements[:, 0] == 1][:, [column, column + 5]].T
    assert np.corrcoef(true, measured)[0, 1] >= min_correlation, name
