"""Whether teeth are visible, on synthetic people whose teeth are known."""

import cv2
import numpy as np
import pytest

from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.metrics.teeth import VISIBLE_AREA, teeth_area, teeth_error
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, mouth, render_frame

SIDE_PX = 224
PEOPLE = ("ada", "bo", "di")
"""Of light and dark skin."""
THROAT = (0.17, 0.05, 0.05)


@pytest.fixture(scope="module")
def detector() -> LiteRTDetector:
    """A detector that is open."""
    return LiteRTDetector()


def measure(detector: LiteRTDetector, person: str, scene: SceneParams) -> tuple[float, Image]:
    """Return the area of the teeth in a scene, and its image."""
    image = render_frame(HeadModel.from_person(CAST[person]), scene, SIDE_PX).image
    return teeth_area(image, find_landmarks(detector, image)), image


def find_landmarks(detector: LiteRTDetector, image: Image) -> Points:
    """Return the landmarks of the only face."""
    with detector:
        [face] = detector.detect(image)
    return face.landmarks


@pytest.mark.parametrize("person", PEOPLE)
def test_teeth_are_visible_in_an_open_mouth_that_has_some(
    detector: LiteRTDetector, person: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a closed one, nor where teeth are as dark as the throat; in weak light, too."""
    closed, _ = measure(detector, person, SceneParams(jaw=0.0))
    visible, image = measure(detector, person, SceneParams(jaw=0.55, smile=0.4))
    assert closed < VISIBLE_AREA
    assert visible > 5 * VISIBLE_AREA
    landmarks = find_landmarks(detector, image)
    dark = (image * 0.6).astype(np.uint8)
    assert visible == pytest.approx(teeth_area(dark, landmarks), rel=0.3)
    half = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    assert visible == pytest.approx(teeth_area(half, (landmarks + 0.5) / 2 - 0.5), rel=0.3)
    monkeypatch.setattr(mouth, "_TEETH", THROAT)
    hidden, _ = measure(detector, person, SceneParams(jaw=0.55, smile=0.4))
    assert hidden < VISIBLE_AREA


def test_only_a_clear_difference_is_an_error() -> None:
    """Areas on both sides of the limit but near each other agree; what is unknown stays unknown."""
    driving = np.array([0.0, 0.1, 0.1, 0.004, 0.0, np.nan])
    areas = np.array([0.0, 0.2, 0.0, 0.006, 0.1, 0.1])
    expected = [0, 0, 1, 0, 1, np.nan]
    assert np.array_equal(expected, teeth_error(areas, driving), equal_nan=True)
