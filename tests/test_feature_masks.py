"""Eyes and mouth in a crop: marked where the landmarks are."""

import numpy as np
import pytest

from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.feature_masks import (
    EYELIDS,
    OUTER_LIPS,
    OUTLINE_SCALE,
    enlarge_outline,
    eyes_mouth_mask,
)

SIZE = 100


@pytest.fixture
def landmarks() -> np.ndarray:
    """A face whose eyes and mouth are ovals of 8 by 4 px and of 16 by 8, at known places."""
    points = np.full((478, 2), 50, np.float32)
    parts = (
        (EYELIDS[0], (30, 40), 8, 4),
        (EYELIDS[1], (70, 40), 8, 4),
        (OUTER_LIPS, (50, 75), 16, 8),
    )
    for places, (x, y), width, height in parts:
        angles = np.linspace(0, 2 * np.pi, len(places), endpoint=False)
        points[list(places)] = np.stack(
            [x + width / 2 * np.cos(angles), y + height / 2 * np.sin(angles)], axis=1
        )
    return points


def test_eyes_mouth_mask_covers_eyes_and_mouth(landmarks: np.ndarray) -> None:
    """1 in the middle of each, 0 on the nose and the cheeks, as much in all as the grown ovals."""
    alignment = FaceAlignment(to_unit=np.array([[1 / SIZE, 0, 0], [0, 1 / SIZE, 0]]))
    mask = eyes_mouth_mask(landmarks, alignment, SIZE)
    assert (SIZE, SIZE) == mask.shape
    assert [1, 1, 1] == [mask[40, 30], mask[40, 70], mask[75, 50]]
    assert [0, 0, 0] == [mask[55, 50], mask[60, 25], mask[5, 5]]
    area = np.pi / 4 * OUTLINE_SCALE**2 * (2 * 8 * 4 + 16 * 8)
    assert area == pytest.approx(float(mask.sum()), rel=0.08)


def test_enlarge_outline_keeps_the_center() -> None:
    """Every corner moves away from the middle by the same factor."""
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], np.float32)
    assert np.allclose((square - 1) * OUTLINE_SCALE + 1, enlarge_outline(square))
