"""LiteRT gives MediaPipe's results, without log output and without a connection."""

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
    """Return images of synthetic people over the whole range of poses."""
    return [
        render_frame(HeadModel.from_person(CAST[name]), scene, 256).image
        for seed, name in enumerate(sorted(CAST))
        for scene in random_scenes(seed, 3)
    ]


@pytest.fixture(scope="module")
def networks() -> DetectorNetworks:
    """The networks, loaded."""
    return DetectorNetworks.open(find_model_file("face_landmarker"), yunet=find_model_file("yunet"))


@pytest.mark.slow
def test_litert_matches_mediapipe(networks: DetectorNetworks) -> None:
    """Landmarks agree to 1/200 of the eyes' distance, blendshapes to 0.02, angles to 0.2 degrees.

    Both start from BlazeFace's regions. The images are square: in others MediaPipe scales the
    depth of a tilted head by the aspect ratio, which changes its pose by up to two degrees.
    """
    with MediaPipeDetector() as mediapipe:
        for image in synthetic_people():
            (roi,) = detect_short_range(image, networks.short_range)
            result = run_landmarks(image, roi, networks)
            face = build_face(result, networks, size=image.shape[1::-1])
            (expected,) = mediapipe.detect(image)

            eyes = np.linalg.norm(expected.landmarks[33] - expected.landmarks[263])
            assert np.linalg.norm(face.landmarks - expected.landmarks, axis=1).max() < eyes / 200
            np.testing.assert_allclose(face.blendshapes, expected.blendshapes, atol=0.02)
            np.testing.assert_allclose(face.pose, expected.pose, atol=0.2)


@pytest.mark.slow
def test_second_pass_is_independent_of_the_detector(networks: DetectorNetworks) -> None:
    """Started from YuNet's and BlazeFace's regions, the second fits differ less than the first."""
    first_distances, second_distances = [], []
    for image in synthetic_people():
        (one,) = networks.yunet.detect(image, side_px=256)
        (two,) = detect_short_range(image, networks.short_range)
        first = [run_landmarks(image, roi, networks).landmarks for roi in (one, two)]
        first_distances.append(np.linalg.norm(first[0] - first[1], axis=1).mean())
        second = [
            run_landmarks(image, RoI.from_landmarks(landmarks), networks).landmarks
            for landmarks in first
        ]
        second_distances.append(np.linalg.norm(second[0] - second[1], axis=1).mean())

    assert np.mean(second_distances) < 0.6 * np.mean(first_distances)


def test_both_detectors_find_the_same_two_faces() -> None:
    """In a wide image LiteRT and MediaPipe find both faces at the same positions."""
    pair = np.hstack(
        [
            render_frame(HeadModel.from_person(CAST[name]), SceneParams(), 256).image
            for name in ("ada", "bo")
        ]
    )

    with LiteRTDetector() as litert, MediaPipeDetector() as mediapipe:
        faces, expected = litert.detect(pair), mediapipe.detect(pair)

    assert 2 == len(faces) == len(expected)
    for one, two in zip(faces, expected, strict=True):
        np.testing.assert_allclose(one.box, two.box, atol=4)


@pytest.mark.parametrize("size", [256, 96])
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotated_face_is_found(quarters: int, size: int) -> None:
    """On its side or upside down, large or small, a face is found at the right position."""
    frame = paste_small(
        render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 256).image, size=size
    )

    with LiteRTDetector() as detector:
        (upright,) = detector.detect(frame)
        (face,) = detector.detect(np.rot90(frame, quarters))

    height, width = frame.shape[:2]
    x, y = upright.landmarks.mean(axis=0)
    rotated = [(y, width - 1 - x), (width - 1 - x, height - 1 - y), (height - 1 - y, x)]
    np.testing.assert_allclose(face.landmarks.mean(axis=0), rotated[quarters - 1], atol=size / 40)
    roll_error = (upright.pose[2] + 90 * quarters - face.pose[2] + 180) % 360 - 180
    assert roll_error == pytest.approx(0, abs=8)


def paste_small(image: Image, *, size: int) -> Image:
    """Return a frame of 480 x 300 px with an image at `size` px."""
    frame = np.full((300, 480, 3), 110, dtype=np.uint8)
    frame[20 : 20 + size, 200 : 200 + size] = cv2.resize(image, (size, size))
    return frame


def test_a_small_face_is_found() -> None:
    """A face of 30 px in a frame of 1280 px is found, which MediaPipe misses."""
    frame = np.full((720, 1280, 3), 110, dtype=np.uint8)
    image = render_frame(HeadModel.from_person(CAST["bo"]), SceneParams(), 256).image
    frame[300:356, 900:956] = cv2.resize(image, (56, 56), interpolation=cv2.INTER_AREA)

    with LiteRTDetector() as litert, MediaPipeDetector() as mediapipe:
        (face,) = litert.detect(frame)
        assert [] == mediapipe.detect(frame)

    assert ((face.box > [900, 300, 900, 300]) & (face.box < [956, 356, 956, 356])).all()


def test_the_library_logs_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """Loading and detection write nothing to standard error."""
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


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_litert_opens_no_socket(tmp_path: Path) -> None:
    """Detection makes no system call for a connection of any kind."""
    calls = tmp_path / "calls"
    command = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", str(calls)]
    traced = subprocess.run([*command, sys.executable, "-c", OFFLINE], check=False)

    assert 0 == traced.returncode
    assert [] == [line for line in calls.read_text().splitlines() if "(" in line]


def test_missing_litert_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package the error says how to install it, and standard error is restored."""
    before = os.fstat(2)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)

    with pytest.raises(InputError) as caught, LiteRTDetector():
        pass

    assert caught.value.message.startswith("LiteRT, which finds the faces, cannot be loaded")
    assert 'install it with: pip install "ai-edge-litert>=2.1,<3"' == caught.value.hint
    assert before == os.fstat(2)


def test_anchors_cover_the_image() -> None:
    """There are two anchors in each cell of 8 px and six in each of 16 px, evenly spaced."""
    anchors = make_anchors()

    assert (896, 2) == anchors.shape
    assert (4, 124) == (anchors.min(), anchors.max())
    np.testing.assert_allclose(anchors.mean(axis=0), 64)


def test_location_only_finds_the_same_faces() -> None:
    """Detected and tracked faces are the same to the bit, without blendshapes."""
    image = render_frame(HeadModel.from_person(CAST["ada"]), random_scenes(3, 1)[0], 256).image
    with LiteRTDetector() as full, LiteRTDetector(location_only=True) as quick:
        faces, locations = full.detect(image), quick.detect(image)
        pairs = [
            *zip(faces, locations, strict=True),
            *zip(
                full.track(ArrayImage(image=image), faces),
                quick.track(ArrayImage(image=image), locations),
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
