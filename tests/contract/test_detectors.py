"""What every face detector must do, tested on synthetic people."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from fakes import PartialImage

from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Image
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, NUM_LANDMARKS, Face, FaceDetector
from faceswap_cli.synthetic import (
    CAST,
    HeadModel,
    RenderedFrame,
    SceneParams,
    random_scenes,
    render_frame,
)

EYES = {"left_eye_outer": 33, "left_eye_inner": 133, "right_eye_inner": 362, "right_eye_outer": 263}
"""Points of a rendered face -> the corresponding landmarks; left is the image's left."""


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest) -> Iterator[FaceDetector]:
    """Each of the detectors, opened."""
    with DETECTORS[request.param]() as opened:
        yield opened


@cache
def render_cached(name: str, scene: SceneParams, size: int = 256) -> RenderedFrame:
    """Return a synthetic person, rendered once for all tests."""
    return render_frame(HeadModel.from_person(CAST[name]), scene, size)


def render_person(scene: SceneParams | None = None, *, name: str = "ada", size: int = 256) -> Image:
    """Return the image of a synthetic person."""
    return render_cached(name, scene or SceneParams(), size).image


def detect_one(detector: FaceDetector, image: Image) -> Face:
    """Return the only face in an image."""
    faces = detector.detect(image)
    assert 1 == len(faces)
    return faces[0]


def test_a_face_has_every_part(detector: FaceDetector) -> None:
    """Shapes, types and ranges are as `Face` documents."""
    face = detect_one(detector, render_person())

    assert (NUM_LANDMARKS, 2) == face.landmarks.shape
    assert np.float32 == face.landmarks.dtype
    assert (4,) == face.box.shape
    np.testing.assert_array_equal(face.landmarks.min(axis=0), face.box[:2])
    np.testing.assert_array_equal(face.landmarks.max(axis=0), face.box[2:])
    assert 0.5 <= face.score <= 1
    assert len(BLENDSHAPE_NAMES) == len(face.blendshapes) == 52
    assert all(0 <= value <= 1 for value in face.blendshapes)
    assert all(-90 < angle < 90 for angle in face.pose)


@pytest.mark.parametrize("name", sorted(CAST))
def test_landmarks_match_the_rendered_points(detector: FaceDetector, name: str) -> None:
    """The corners of the eyes are found to a tenth of their distance."""
    truth = render_cached(name, SceneParams(yaw=10, roll=-8))
    face = detect_one(detector, truth.image)

    expected = np.array([truth.landmarks[point] for point in EYES])
    found = face.landmarks[list(EYES.values())]

    distance = np.linalg.norm(expected[0] - expected[3])
    assert np.linalg.norm(found - expected, axis=1).max() < 0.1 * distance


def test_poses_match_ground_truth(detector: FaceDetector) -> None:
    """Yaw, pitch and roll grow with the rendered ones, about degree by degree."""
    scenes = random_scenes(5, 12)
    found = np.array(
        [detect_one(detector, render_person(scene, name="ed")).pose for scene in scenes]
    )
    expected = np.array([(scene.yaw, scene.pitch, scene.roll) for scene in scenes])

    for angle in range(3):
        assert np.corrcoef(expected[:, angle], found[:, angle])[0, 1] > 0.95
        assert 0.6 < np.polyfit(expected[:, angle], found[:, angle], 1)[0] < 1.2


@pytest.mark.parametrize(
    ("name", "scene"),
    [
        ("jawOpen", SceneParams(jaw=0.9)),
        ("eyeBlinkLeft", SceneParams(blink=1)),
        ("eyeBlinkRight", SceneParams(blink=1)),
    ],
)
def test_blendshapes_respond_to_expressions(
    detector: FaceDetector, name: str, scene: SceneParams
) -> None:
    """A blendshape rises with the expression it is named for."""
    index = BLENDSHAPE_NAMES.index(name)

    rest, active = detect_one(detector, render_person()), detect_one(detector, render_person(scene))

    assert active.blendshapes[index] > rest.blendshapes[index] + 0.2


def test_the_same_image_gives_the_same_faces(detector: FaceDetector) -> None:
    """Images detected before make no difference: a run can be resumed at any frame."""
    first = detect_one(detector, render_person())
    detect_one(detector, render_person(SceneParams(yaw=-25, jaw=1), name="bo"))
    detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))
    again = detect_one(detector, render_person())

    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert (first.score, first.pose, first.blendshapes) == (
        again.score,
        again.pose,
        again.blendshapes,
    )


def test_face_is_tracked_into_the_next_image(detector: FaceDetector) -> None:
    """A face that moved a little is found again, and none in an empty image."""
    before = detector.detect(render_person())
    (face,) = detector.track(ArrayImage(image=render_person(SceneParams(yaw=4, jaw=0.2))), before)
    (searched,) = detector.detect(render_person(SceneParams(yaw=4, jaw=0.2)))

    np.testing.assert_allclose(face.landmarks, searched.landmarks, atol=5)
    assert [] == detector.track(
        ArrayImage(image=np.full((256, 256, 3), 128, dtype=np.uint8)), before
    )
    assert [] == detector.track(ArrayImage(image=render_person()), [])


def same_face(one: Face, other: Face) -> bool:
    """Return whether two faces are equal."""
    parts = [(face.score, face.pose, face.blendshapes) for face in (one, other)]
    return parts[0] == parts[1] and np.array_equal(one.landmarks, other.landmarks)


def test_tracking_reads_only_requested_areas(detector: FaceDetector) -> None:
    """Pixels outside the areas that a detector requests make no difference."""
    before = detector.detect(render_person())
    image = render_person(SceneParams(yaw=4, roll=9))
    wide = np.zeros((400, 500, 3), np.uint8)
    wide[40:296, 80:336] = image
    moved = [shift_face(face, 80, 40) for face in before]

    (face,) = detector.track(PartialImage(image=wide), moved)
    (whole,) = detector.track(ArrayImage(image=wide), moved)

    assert same_face(whole, face)


def shift_face(face: Face, x: float, y: float) -> Face:
    """Return the face moved by (x, y) px."""
    return replace(
        face,
        box=face.box + np.float32([x, y, x, y]),
        landmarks=face.landmarks + np.float32([x, y]),
    )


def test_excluded_faces_are_not_returned(detector: FaceDetector) -> None:
    """With one of two faces excluded the other is found as before; with both, none is."""
    pair = np.hstack([render_person(), render_person(SceneParams(scale=0.8), name="bo")])
    ada, bo = detector.detect(pair)

    assert [] == detector.detect(pair, exclude=[ada, bo])
    assert any(same_face(bo, face) for face in detector.detect(pair, exclude=[ada]))


def test_several_faces_come_largest_first(detector: FaceDetector) -> None:
    """Two people side by side are both found, the nearer one first."""
    far, near = (
        render_person(SceneParams(scale=0.7)),
        render_person(SceneParams(scale=1.1), name="bo"),
    )

    faces = detector.detect(np.hstack([far, near]))

    assert 2 == len(faces)
    assert faces[0].area_px > faces[1].area_px
    assert faces[0].box[0] > 256 > faces[1].box[2]


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3), (240, 320, 3), (251, 333, 3)])
def test_no_face_is_an_empty_list(detector: FaceDetector, shape: tuple[int, ...]) -> None:
    """A gray image of any size gives no face and no error."""
    assert [] == detector.detect(np.full(shape, 128, dtype=np.uint8))


def test_a_mirrored_image_mirrors_the_face(detector: FaceDetector) -> None:
    """Pixel centers are on integers: x and its mirror image add up to the width less one."""
    image = render_person()
    plain, mirrored = detect_one(detector, image), detect_one(detector, image[:, ::-1])

    outer, inner = [33, 263, 133, 362, 10, 152], [263, 33, 362, 133, 10, 152]
    sums = plain.landmarks[outer, 0] + mirrored.landmarks[inner, 0]
    assert sums.mean() == pytest.approx(image.shape[1] - 1, abs=1.0)
    assert plain.pose[0] == pytest.approx(-mirrored.pose[0], abs=3)
    assert plain.pose[2] == pytest.approx(-mirrored.pose[2], abs=3)


def test_closing_twice_is_harmless() -> None:
    """A detector closed early is closed again at the end of its block."""
    for make_detector in DETECTORS.values():
        with make_detector() as detector:
            detector.close()
