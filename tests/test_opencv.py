"""Two builds of OpenCV share one `cv2` folder; what we use of it must be there and agree."""

import ast
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "faceswap_cli").rglob("*.py"))


def names_used() -> set[str]:
    """Return every `cv2.name` in the program."""
    return {
        node.attr
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "cv2"
    }


def test_both_builds_are_of_one_version() -> None:
    """They write the same folder: a mixture of two versions would break in strange ways."""
    assert version("opencv-python") == version("opencv-contrib-python")
    assert version("opencv-python").startswith(cv2.__version__)


@pytest.mark.parametrize("name", sorted(names_used()))
def test_what_we_use_is_there(name: str) -> None:
    """Each function and constant the program names exists in the installed build."""
    assert hasattr(cv2, name)


def test_there_is_something_to_check() -> None:
    """The list above is read from the source, and not empty."""
    assert {"warpAffine", "cvtColor", "imencode"} <= names_used()


def test_pixel_centres_lie_on_integers() -> None:
    """`warpAffine` with a shift of one moves a pixel by exactly one: our convention is OpenCV's."""
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 200
    moved = cv2.warpAffine(image, np.array([[1, 0, 1], [0, 1, 0]], np.float64), (5, 5))
    assert 200 == moved[2, 3, 0]
    assert 200 * 3 == moved.sum()
