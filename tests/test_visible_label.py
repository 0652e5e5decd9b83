"""The line in the picture: there, legible, in a corner, and off the faces where it can be."""

import cv2
import numpy as np
import pytest

from faceswap_cli.core.types import Image
from faceswap_cli.provenance.visible_label import CORNERS, choose_corner, draw_label

SIZES = [(1920, 1080), (1280, 720), (720, 1280), (320, 240), (160, 120), (64, 64), (16, 9), (1, 1)]


def gray_image(width: int, height: int) -> Image:
    """Return a busy picture."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height)), dtype=np.uint8)


def changed_area(before: Image, after: Image) -> tuple[int, int, int, int]:
    """Return x0, y0, x1, y1 of what differs between two pictures."""
    rows, columns = np.nonzero((before != after).any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("corner", CORNERS)
@pytest.mark.parametrize(("width", "height"), SIZES[:-2])
def test_the_line_lies_in_its_corner_and_takes_little(width: int, height: int, corner: str) -> None:
    """Everything outside one small strip is untouched; the strip is inside, near the corner."""
    frame = gray_image(width, height)
    kept = frame.copy()

    labelled = draw_label(frame, corner)

    x0, y0, x1, y1 = changed_area(frame, labelled)
    assert (kept == frame).all(), "the frame given is left as it is"
    assert y1 - y0 <= max(18, 0.06 * min(width, height))
    assert ("right" in corner) == (x0 > width - x1)
    assert ("bottom" in corner) == (y0 > height - y1)
    assert x1 - x0 <= 0.91 * width


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_any_size_takes_the_line(width: int, height: int) -> None:
    """Even where nobody could read it, a frame comes back in its own size."""
    labelled = draw_label(gray_image(width, height))

    assert ((height, width, 3), np.uint8) == (labelled.shape, labelled.dtype)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize(("width", "height"), SIZES[:4])
def test_the_letters_stand_out_on_any_ground(width: int, height: int, level: int) -> None:
    """White letters on a dark strip: the contrast is that which the web's guidelines ask for.

    WCAG 2.2, 1.4.3: at least 4.5 to 1.
    """
    frame = np.full((height, width, 3), level, dtype=np.uint8)
    x0, y0, x1, y1 = changed_area(frame, draw_label(frame)) if level else (0, 0, width, height)
    strip = draw_label(frame)[y0:y1, x0:x1, 0].astype(np.float64)
    ground, letters = np.percentile(strip, 5) / 255, strip.max() / 255

    def luminance(value: float) -> float:
        return float(value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4)

    assert 4.5 <= (luminance(letters) + 0.05) / (luminance(ground) + 0.05)


def test_the_corner_is_one_without_faces() -> None:
    """A face in the lower left sends the line to the right; faces everywhere, to the least."""
    size = (640, 360)
    face = (0.0, 200.0, 200.0, 360.0)
    assert CORNERS[0] == choose_corner([], size)
    assert "bottom right" == choose_corner([face], size)
    everywhere = [face, (440.0, 0.0, 640.0, 360.0), (0.0, 0.0, 90.0, 20.0)]
    assert "top left" == choose_corner(everywhere, size)

    frame = np.zeros((360, 640, 3), dtype=np.uint8)
    frame[200:, :200] = 200
    assert (draw_label(frame, choose_corner([face], size))[200:, :200] == 200).all()
