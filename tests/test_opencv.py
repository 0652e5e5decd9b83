"""Two builds of OpenCV share the folder `cv2`: the names that the program uses must exist."""

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


def test_both_builds_have_the_same_version() -> None:
    """They install to the same folder: a mixture of two versions would break."""
    assert version("opencv-python") == version("opencv-contrib-python")
    assert version("opencv-python").startswith(cv2.__version__)


@pytest.mark.parametrize("name", sorted(names_used()))
def test_used_names_exist(name: str) -> None:
    """Each function and constant that the program uses exists in the installed build."""
    assert hasattr(cv2, name)


@pytest.mark.slow
def test_used_names_are_found() -> None:
    """The list of names that is read from the source is not empty."""
    assert {"warpAffine", "cvtColor", "imencode"} <= names_used()


def test_pixel_centers_are_on_integers() -> None:
    """`warpAffine` with a shift of one moves a pixel by exactly one: our convention is OpenCV's."""
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 200
    moved = cv2.warpAffine(image, np.array([[1, 0, 1], [0, 1, 0]], np.float64), (5, 5))
    assert 200 == moved[2, 3, 0]
    assert 200 * 3 == moved.sum()
