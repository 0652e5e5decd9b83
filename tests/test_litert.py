"""LiteRT runs MediaPipe's networks to MediaPipe's results, in silence and without a connection."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import Image
from faceswap_cli.faces.detectors.blazeface import detect_short_range, make_anchors
from faceswap_cli.faces.detectors.litert import (
    DetectorNetworks,
    LiteRTDetector,
    build_face,
    run_landmarks,
)
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.tracker import TwoStageDetector
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, random_scenes, render_frame


def synthetic_people() -> list[Image]:
    """Drawn people at random moments over the whole range of poses."""
    return [
        render_frame(HeadModel.from_person(CAST[name]), moment, 256).image
        for seed, name in enumerate(sorted(CAST))
        for moment in random_scenes(seed, 3)
    ]


@pytest.fixture(scope="module")
def networks() -> DetectorNetworks:
    """The networks, loaded."""
    return DetectorNetworks.open(find_model_file("face_landmarker"), yunet=find_model_file("yunet"))


def test_litert_matches_mediapipe(networks: DetectorNetworks) -> None:
    """Landmarks agree to 1/200 of the eyes' distance, expressions to 0.02, angles to 0.2 degrees.

    Both begin with what BlazeFace finds. The images are square: in others MediaPipe scales the
    depth of a leaning head by their shape, which turns its pose by up to two degrees.
    """
    with MediaPipeDetector() as theirs:
        for image in synthetic_people():
            (region,) = detect_short_range(image, networks.short_range)
            mine = build_face(
                run_landmarks(image, region, networks), networks, size=image.shape[1::-1]
            )
            (other,) = theirs.detect(image)

            eyes = np.linalg.norm(other.landmarks[33] - other.landmarks[263])
            assert np.linalg.norm(mine.landmarks - other.landmarks, axis=1).max() < eyes / 200
            np.testing.assert_allclose(mine.blendshapes, other.blendshapes, atol=0.02)
            np.testing.assert_allclose(mine.pose, other.pose, atol=0.2)


def test_second_pass_is_independent_of_the_detector(networks: DetectorNetworks) -> None:
    """Begun from YuNet's box or from BlazeFace's, the second look ends nearer than the first."""
    first, second = [], []
    for image in synthetic_people():
        (one,) = networks.yunet.detect(image, side_px=256)
        (two,) = detect_short_range(image, networks.short_range)
        looks = [run_landmarks(image, region, networks).landmarks for region in (one, two)]
        first.append(np.linalg.norm(looks[0] - looks[1], axis=1).mean())
        again = [
            run_landmarks(image, RoI.from_landmarks(look), networks).landmarks for look in looks
        ]
        second.append(np.linalg.norm(again[0] - again[1], axis=1).mean())

    assert np.mean(second) < 0.6 * np.mean(first)


def test_both_detectors_find_the_same_two_faces() -> None:
    """In a wide image both find both, and put them in the same places."""
    pair = np.hstack(
        [
            render_frame(HeadModel.from_person(CAST[name]), SceneParams(), 256).image
            for name in ("ada", "bo")
        ]
    )

    with LiteRTDetector() as ours, MediaPipeDetector() as theirs:
        mine, other = ours.detect(pair), theirs.detect(pair)

    assert 2 == len(mine) == len(other)
    for one, two in zip(mine, other, strict=True):
        np.testing.assert_allclose(one.box, two.box, atol=4)


@pytest.mark.parametrize("size", [256, 96])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotated_face_is_found(quarters: int, size: int) -> None:
    """On its side or upside down, large or small, a face is where the upright one would be."""
    frame = paste_small(
        render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image, size=size
    )

    with LiteRTDetector() as detector:
        (upright,) = detector.detect(frame)
        (face,) = detector.detect(np.rot90(frame, quarters))

    height, width = frame.shape[:2]
    x, y = upright.landmarks.mean(axis=0)
    lying = [(y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x)]
    np.testing.assert_allclose(face.landmarks.mean(axis=0), lying[quarters - 1], atol=size / 40)
    turn = (upright.pose[2] + 90 * quarters - face.pose[2] + 180) % 360 - 180
    assert turn == pytest.approx(0, abs=8)


def paste_small(picture: Image, *, size: int) -> Image:
    """A picture of `size` px in a frame of 480 x 300."""
    frame = np.full((300, 480, 3), 110, dtype=np.uint8)
    frame[20 : 20 + size, 200 : 200 + size] = cv2.resize(picture, (size, size))
    return frame


def test_a_small_face_is_found() -> None:
    """A face of 30 px in a frame of 1280 is found, which MediaPipe misses."""
    frame = np.full((720, 1280, 3), 110, dtype=np.uint8)
    picture = render_frame(HeadModel.from_person(CAST["bo"]), SceneParams(), 256).image
    frame[300:356, 900:956] = cv2.resize(picture, (56, 56), interpolation=cv2.INTER_AREA)

    with LiteRTDetector() as ours, MediaPipeDetector() as theirs:
        (face,) = ours.detect(frame)
        assert [] == theirs.detect(frame)

    assert ((face.box > [900, 300, 900, 300]) & (face.box < [956, 356, 956, 356])).all()


def test_the_library_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loading and finding leave standard error to the program."""
    with LiteRTDetector() as detector:
        assert 1 == len(detector.detect(synthetic_people()[0]))

    assert ("", "") == capfd.readouterr()


OFFLINE = """
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame
from faceswap_cli.faces.detectors.litert import LiteRTDetector
with LiteRTDetector() as detector:
    image = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image
    assert len(detector.detect(image)) == 1
"""


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_litert_opens_no_socket(tmp_path: Path) -> None:
    """Finding faces asks the system for no connection of any kind."""
    calls = tmp_path / "calls"
    command = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(calls)]
    traced = subprocess.run([*command, sys.executable, "-c", OFFLINE], check=False)

    assert 0 == traced.returncode
    assert [] == [line for line in calls.read_text().splitlines() if "(" in line]


def test_missing_litert_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
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
    places = make_anchors()

    assert (896, 2) == places.shape
    assert (4, 124) == (places.min(), places.max())
    np.testing.assert_allclose(places.mean(axis=0), 64)


def test_location_only_finds_the_same_faces() -> None:
    """Searching and following, to the bit; and nothing of expressions."""
    picture = render_frame(HeadModel.from_person(CAST["ada"]), random_scenes(3, 1)[0], 256).image
    with LiteRTDetector() as whole, LiteRTDetector(location_only=True) as quick:
        found, told = whole.detect(picture), quick.detect(picture)
        pairs = [
            *zip(found, told, strict=True),
            *zip(
                whole.track(ArrayImage(image=picture), found),
                quick.track(ArrayImage(image=picture), told),
                strict=True,
            ),
        ]
    assert len(pairs) >= 2
    for one, other in pairs:
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        assert one.score == other.score
        assert one.blendshapes
        assert () == other.blendshapes


def test_detect_equals_rois_plus_landmarks() -> None:
    """The halves that the tracker calls one by one give the faces of `detect`."""
    pair = np.hstack(
        [
            render_frame(HeadModel.from_person(CAST[name]), SceneParams(scale=scale), 256).image
            for name, scale in (("ada", 1.0), ("bo", 0.8))
        ]
    )
    with LiteRTDetector() as detector:
        assert isinstance(detector, TwoStageDetector)
        faces = detector.detect(pair)
        fitted = detector.fit_landmarks(pair, detector.detect_rois(pair), exclude=())
        assert [] == detector.fit_landmarks(pair, [], exclude=())

    assert 2 == len(faces) == len(fitted)
    for one, other in zip(faces, fitted, strict=True):
        np.testing.assert_array_equal(one.landmarks, other.landmarks)
        assert (one.score, one.pose, one.blendshapes) == (
            other.score,
            other.pose,
            other.blendshapes,
        )
