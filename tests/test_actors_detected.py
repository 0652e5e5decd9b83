"""Whether a detector made for real faces takes the drawn ones for faces, and reads them right."""

import numpy as np
import numpy.typing as npt
import pytest

from faceswap_cli.actors import CAST, Actor, draw, random_moments, random_person
from faceswap_cli.faces.detect import EXPRESSIONS, MediaPipeDetector

SIDE_PX = 256
FRAMES_EACH = 8


@pytest.fixture(scope="module")
def readings() -> npt.NDArray[np.float64]:
    """Return, for each of 48 drawings: found; then true and read yaw, pitch, roll, jaw, blink."""
    people = [*CAST.values(), random_person(101)]
    rows = []
    with MediaPipeDetector() as detector:
        for seed, person in enumerate(people):
            actor = Actor.of(person)
            for moment in random_moments(seed, FRAMES_EACH):
                faces = detector.detect(draw(actor, moment, SIDE_PX).image)
                true = (moment.yaw, moment.pitch, moment.roll, moment.jaw, moment.blink)
                if not faces:
                    rows.append((0.0, *true, *[np.nan] * len(true)))
                    continue
                expression = dict(zip(EXPRESSIONS, faces[0].expression, strict=True))
                read = (*faces[0].pose, expression["jawOpen"], expression["eyeBlinkLeft"])
                rows.append((float(len(faces)), *true, *read))
    return np.array(rows)


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
