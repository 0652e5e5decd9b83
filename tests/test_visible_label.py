"""The visible label: legible, in a corner, and off the faces if possible."""

import cv2
import numpy as np
import pytest

from faceswap_cli.core.types import Image
from faceswap_cli.provenance.visible_label import CORNERS, choose_corner, draw_label

SIZES = [(1920, 1080), (1280, 720), (720, 1280), (320, 240), (160, 120), (64, 64), (16, 9), (1, 1)]


def random_image(width: int, height: int) -> Image:
    """Return an image of smooth random colors."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), dtype=np.uint8)


def changed_area(before: Image, after: Image) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of the pixels that differ between two images."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("width", "height"), SIZES[:-2])
def test_the_label_is_small_and_in_its_corner(width: int, height: int, corner: str) -> None:
    """Everything outside a small strip near the corner is unchanged."""
    frame = random_image(width, height)
    before = frame.copy()

    labeled = draw_label(frame, corner)

    x0, y0, x1, y1 = changed_area(frame, labeled)
    assert (before == frame).all(), "the given frame is not changed"
    assert y1 - y0 <= max(18, 0.06 * min(width, height))
    assert ("right" in corner) == (x0 > width - x1)
    assert ("bottom" in corner) == (y0 > height - y1)
    assert x1 - x0 <= 0.91 * width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_any_size_can_be_labeled(width: int, height: int) -> None:
    """A frame has the same size afterwards, even if the label is too small to read."""
    labeled = draw_label(random_image(width, height))

    assert ((height, width, 3), np.uint8) == (labeled.shape, labeled.dtype)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(("width", "height"), SIZES[:4])
def test_the_label_is_legible_on_any_background(width: int, height: int, level: int) -> None:
    """White letters on a dark strip have the contrast of the accessibility guidelines.

    WCAG 2.2, 1.4.3: at least 4.5 to 1.
    """
    frame = np.full((height, width, 3), level, dtype=np.uint8)
    x0, y0, x1, y1 = changed_area(frame, draw_label(frame)) if level else (0, 0, width, height)
    strip = draw_label(frame)[y0:y1, x0:x1, 0].astype(np.float64)
    background, letters = np.percentile(strip, 5) / 255, strip.max() / 255

    def luminance(value: float) -> float:
        return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)

    assert 4.5 <= (luminance(letters) + 0.05) / (luminance(background) + 0.05)


def test_the_corner_covers_least_of_the_faces() -> None:
    """A face in the lower left moves the label to the right; several to the least covered."""
    size = (640, 360)
    face = (0.0, 200.0, 200.0, 360.0)
    assert CORNERS[0] == choose_corner([], size)
    assert "bottom right" == choose_corner([face], size)
    everywhere = [face, (440.0, 0.0, 640.0, 360.0), (0.0, 0.0, 90.0, 20.0)]
    assert "top left" == choose_corner(everywhere, size)

    frame = np.zeros((360, 640, 3), dtype=np.uint8)
    frame[200:, :200] = 200
    assert (draw_label(frame, choose_corner([face], size))[200:, :200] == 200).all()
