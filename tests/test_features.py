"""Eyes and mouth in a crop: marked where the landmarks are."""

import numpy as np
import pytest

from faceswap_cli.faces.align import FaceAlignment
from faceswap_cli.faces.features import EYES, GROWN, MOUTH, features_mask, grown

SIZE = 100


@pytest.fixture
def landmarks() -> np.ndarray:
    """A face whose eyes and mouth are ovals of 8 by 4 px and of 16 by 8, at known places."""
    points = np.full((478, 2), 50, np.float32)
    parts = ((EYES[0], (30, 40), 8, 4), (EYES[1], (70, 40), 8, 4), (MOUTH, (50, 75), 16, 8))
    for places, (x, y), width, height in parts:
        angles = np.linspace(0, 2 * np.pi, len(places), endpoint=False)
        points[list(places)] = np.stack(
            [x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=1
        )
    return points


def test_eyes_and_mouth_are_marked_and_nothing_else(landmarks: np.ndarray) -> None:
    """1 in the middle of each, 0 on the nose and the cheeks, as much in all as the grown ovals."""
    alignment = FaceAlignment(to_unit=np.array([[1 / SIZE, 0, 0], [0, 1 / SIZE, 0]]))
    mask = features_mask(landmarks, alignment, SIZE)
    assert (SIZE, SIZE) == mask.shape
    assert [1, 1, 1] == [mask[40, 30], mask[40, 70], mask[75, 50]]
    assert [0, 0, 0] == [mask[55, 50], mask[60, 25], mask[5, 5]]
    area = np.pi / 4 * GROWN**2 * (2 * 8 * 4 + 16 * 8)
    assert area == pytest.approx(float(mask.sum()), rel=0.08)


def test_an_outline_grows_about_its_middle() -> None:
    """Every corner moves away from the middle by the same factor."""
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    assert np.allclose((square - 1) * GROWN + 1, grown(square))
