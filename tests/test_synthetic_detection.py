"""Whether a detector made for real faces takes the drawn ones for faces, and reads them right."""

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
"""Our points and MediaPipe's."""


@pytest.fixture(scope="module")
def readings() -> npt.NDArray[np.float64]:
    """Return what is true and what is read of 48 drawings.

    The columns: faces found; true yaw, pitch, roll, jaw and blink; the same as read; and how far
    the landmarks are apart.
    """
    people = [*CAST.values(), random_person(101)]
    rows = []
    with MediaPipeDetector() as detector:
        for seed, person in enumerate(people):
            actor = HeadModel.from_person(person)
            for moment in random_scenes(seed, FRAMES_EACH):
                drawing = render_frame(actor, moment, SIDE_PX)
                faces = detector.detect(drawing.image)
                true = (moment.yaw, moment.pitch, moment.roll, moment.jaw, moment.blink)
                if not faces:
                    rows.append((0.0, *true, *[np.nan] * (len(true) + 1)))
                    continue
                expression = dict(zip(BLENDSHAPE_NAMES, faces[0].blendshapes, strict=True))
                read = (*faces[0].pose, expression["jawOpen"], expression["eyeBlinkLeft"])
                rows.append((float(len(faces)), *true, *read, landmark_error(drawing, faces[0])))
    return np.array(rows)


def landmark_error(drawing: RenderedFrame, face: Face) -> float:
    """Return the mean distance of read from true landmarks, in outer eye corners' distances."""
    eyes = drawing.landmarks["left_eye_outer"], drawing.landmarks["right_eye_outer"]
    off = [
        np.subtract(face.landmarks[i], drawing.landmarks[name]) for name, i in MESH_INDICES.items()
    ]
    return float(np.hypot(*np.transpose(off)).mean() / np.hypot(*np.subtract(*eyes)))


@pytest.mark.slow
def test_the_landmarks_are_where_the_detector_sees_them(
    readings: npt.NDArray[np.float64],
) -> None:
    """Eye corners and mouth are within 5 % of the eyes' distance, seen or computed."""
    assert np.nanmean(readings[:, -1]) < 0.05


@pytest.mark.slow
def test_the_detector_finds_one_face_in_every_drawing(readings: npt.NDArray[np.float64]) -> None:
    """At least 98 % of the documented range is found, and never two faces in one."""
    assert np.mean(readings[:, 0] == 1) >= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "column", "least", "most_off"),
    [("yaw", 1, 0.98, 4.0), ("pitch", 2, 0.92, 5.0), ("roll", 3, 0.97, 3.0)],
)
def test_the_detector_reads_the_true_pose(
    readings: npt.NDArray[np.float64], name: str, column: int, least: float, most_off: float
) -> None:
    """The pose read follows the pose drawn, with its sign and in degrees."""
    true, read = readings[readings[:, 0] == 1][:, [column, column + 5]].T
    assert np.corrcoef(true, read)[0, 1] >= least, name
    assert np.abs(true - read).mean() <= most_off, name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "column", "least"), [("jaw", 4, 0.6), ("blink", 5, 0.85)])
def test_the_detector_reads_the_expression(
    readings: npt.NDArray[np.float64], name: str, column: int, least: float
) -> None:
    """An opening mouth and a closing eye are seen as such."""
    true, read = readings[readings[:, 0] == 1][:, [column, column + 5]].T
    assert np.corrcoef(true, read)[0, 1] >= least, name
