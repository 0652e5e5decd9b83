"""Regions of interest: rotated with the face, and mapped back into the frame."""

import cv2
import numpy as np
import pytest

from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.detectors.roi import RoI


@pytest.mark.parametrize("roll", [0.0, 25.0, 90.0, -170.0])
def test_roi_keeps_the_center_and_levels_the_eyes(roll: float) -> None:
    """The box's center becomes the crop's, and the eyes are level, at any roll."""
    angle = np.radians(roll)
    across = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    box = np.array([[100, 60], [180, 140]], dtype=np.float32)
    eyes = np.array([140, 90], dtype=np.float32) + np.outer([-20, 20], across).astype(np.float32)

    roi = RoI.from_box(box, eyes, margin=1.5)
    to_crop = cv2.invertAffineTransform(roi.roi_to_frame(96))

    assert roi.rotation_deg == pytest.approx(roll, abs=1e-3)
    np.testing.assert_allclose(
        transform_points(np.float32([[140, 100]]), to_crop), [[48, 48]], atol=1e-3
    )
    left, right = transform_points(eyes, to_crop)
    assert left[1] == pytest.approx(right[1], abs=1e-3)
    assert right[0] - left[0] == pytest.approx(40 * 96 / 120, abs=1e-3)


def test_roi_crop_shows_its_content() -> None:
    """A bright spot of the frame is where the roi's matrix says in the crop."""
    image = np.zeros((200, 300, 3), dtype=np.uint8)
    image[50:55, 150:155] = 255
    roi = RoI(center=(140, 70), size=(80, 80), rotation_deg=30)

    crop = roi.crop(image, 80, border=cv2.BORDER_REPLICATE)

    y, x = np.unravel_index(crop[..., 0].argmax(), crop.shape[:2])
    np.testing.assert_allclose(
        transform_points(np.float32([[x, y]]), roi.roi_to_frame(80)), [[152, 52]], atol=3
    )


def test_roi_of_an_image_is_a_centered_square() -> None:
    """A wide image is fitted in, with a black margin on two sides."""
    image = np.full((50, 100, 3), 200, dtype=np.uint8)

    crop = RoI.from_image(image).crop(image, 100, border=cv2.BORDER_CONSTANT)

    assert 0 == crop[:24].max() == crop[76:].max()
    assert 200 == crop[26:74].min()
