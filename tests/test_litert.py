"""LiteRT runs MediaPipe's networks to MediaPipe's results, in silence and without a connection."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli.actors import CAST, Actor, Moment, draw, random_moments
from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.faces.detect import MediaPipeDetector
from faceswap_cli.faces.litert import LiteRTDetector, short_range_anchors


def people() -> list[Image]:
    """Drawn people at random moments over the whole range of poses."""
    return [
        draw(Actor.of(CAST[name]), moment, 256).image
        for seed, name in enumerate(sorted(CAST))
        for moment in random_moments(seed, 3)
    ]


def test_both_libraries_read_the_same_off_a_face() -> None:
    """Landmarks agree to 1/200 of the eyes' distance, expressions to 0.02, angles to 0.2 degrees.

    The images are square: in others MediaPipe scales the depth of a leaning head by their shape,
    which turns its pose by up to two degrees.
    """
    with LiteRTDetector() as ours, MediaPipeDetector() as theirs:
        pairs = [(ours.detect(image), theirs.detect(image)) for image in people()]

    for (mine,), (other,) in pairs:
        eyes = np.linalg.norm(other.landmarks[33] - other.landmarks[263])
        assert np.linalg.norm(mine.landmarks - other.landmarks, axis=1).max() < eyes / 200
        np.testing.assert_allclose(mine.expression, other.expression, atol=0.02)
        np.testing.assert_allclose(mine.pose, other.pose, atol=0.2)
        assert mine.score == pytest.approx(other.score, abs=0.01)


def test_two_faces_are_the_same_two() -> None:
    """In a wide image both find both, and put them in the same places."""
    pair = np.hstack([draw(Actor.of(CAST[name]), Moment(), 256).image for name in ("ada", "bo")])

    with LiteRTDetector() as ours, MediaPipeDetector() as theirs:
        mine, other = ours.detect(pair), theirs.detect(pair)

    assert 2 == len(mine) == len(other)
    for one, two in zip(mine, other, strict=True):
        np.testing.assert_allclose(one.box, two.box, atol=1)


@pytest.mark.parametrize("turns", [1, 3])
def test_a_lying_face_is_found(turns: int) -> None:
    """A head on its side is found, its eyes one above the other."""
    upright = draw(Actor.of(CAST["ada"]), Moment(), 256).image

    with LiteRTDetector() as detector:
        (face,) = detector.detect(np.rot90(upright, turns))

    across, down = face.landmarks[263] - face.landmarks[33]
    assert abs(down) > 5 * abs(across)


def test_the_library_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loading and finding leave standard error to the program."""
    with LiteRTDetector() as detector:
        assert 1 == len(detector.detect(people()[0]))

    assert ("", "") == capfd.readouterr()


OFFLINE = """
from faceswap_cli.actors import CAST, Actor, Moment, draw
from faceswap_cli.faces.litert import LiteRTDetector
with LiteRTDetector() as detector:
    assert len(detector.detect(draw(Actor.of(CAST["ada"]), Moment(), 256).image)) == 1
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_no_socket_is_opened(tmp_path: Path) -> None:
    """Finding faces asks the system for no connection of any kind."""
    calls = tmp_path / "calls"
    command = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(calls)]
    traced = subprocess.run([*command, sys.executable, "-c", OFFLINE], check=False)

    assert 0 == traced.returncode
    assert [] == [line for line in calls.read_text().splitlines() if "(" in line]


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says how to install it, and standard error is open again."""
    before = os.fstat(2)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)

    with pytest.raises(InputError) as caught, LiteRTDetector():
        pass

    assert caught.value.message.startswith("LiteRT, which finds the faces, cannot be loaded")
    assert 'install it with: pip install "ai-edge-litert>=2.1,<3"' == caught.value.hint
    assert before == os.fstat(2)


def test_anchors_cover_the_picture() -> None:
    """The detector's rows begin two a cell of 8 px and six a cell of 16 px, evenly."""
    anchors = short_range_anchors(128)

    assert (896, 2) == anchors.shape
    assert (4, 124) == (anchors.min(), anchors.max())
    np.testing.assert_allclose(anchors.mean(axis=0), 64)
