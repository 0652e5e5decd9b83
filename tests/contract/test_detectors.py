"""The law every face detector obeys, on people drawn by the program."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from faceswap_cli.core.lazy_image import ArrayImage, Rect
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
"""Points of a drawn face and the landmarks that mean the same; left is the image's left."""


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest) -> Iterator[FaceDetector]:
    """Each of the detectors, open."""
    with DETECTORS[request.param]() as opened:
        yield opened


@cache
def render_cached(name: str, moment: SceneParams, size: int = 256) -> RenderedFrame:
    """A drawn person, drawn once for all tests."""
    return render_frame(HeadModel.from_person(CAST[name]), moment, size)


def render_person(
    moment: SceneParams | None = None, *, name: str = "ada", size: int = 256
) -> Image:
    """The picture of a drawn person."""
    return render_cached(name, moment or SceneParams(), size).image


def detect_one(detector: FaceDetector, image: Image) -> Face:
    """The one face that is there."""
    faces = detector.detect(image)
    assert 1 == len(faces)
    return faces[0]


def test_a_face_has_every_part(detector: FaceDetector) -> None:
    """Shapes, types and ranges are those of `Face`."""
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
    """The corners of the eyes are found within a tenth of the eyes' distance."""
    truth = render_cached(name, SceneParams(yaw=10, roll=-8))
    face = detect_one(detector, truth.image)

    drawn = np.array([truth.landmarks[point] for point in EYES])
    found = face.landmarks[list(EYES.values())]

    distance = np.linalg.norm(drawn[0] - drawn[3])
    assert np.linalg.norm(found - drawn, axis=1).max() < 0.1 * distance


def test_poses_match_ground_truth(detector: FaceDetector) -> None:
    """Yaw, pitch and roll grow with the drawn ones, about degree by degree."""
    moments = random_scenes(5, 12)
    found = np.array(
        [detect_one(detector, render_person(moment, name="ed")).pose for moment in moments]
    )
    drawn = np.array([(moment.yaw, moment.pitch, moment.roll) for moment in moments])

    for angle in range(3):
        assert np.corrcoef(drawn[:, angle], found[:, angle])[0, 1] > 0.95
        assert 0.6 < np.polyfit(drawn[:, angle], found[:, angle], 1)[0] < 1.2


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("jawOpen", SceneParams(jaw=0.9)),
        ("eyeBlinkLeft", SceneParams(blink=1)),
        ("eyeBlinkRight", SceneParams(blink=1)),
    ],
)
def test_blendshapes_respond_to_expressions(
    detector: FaceDetector, name: str, moment: SceneParams
) -> None:
    """A coefficient rises when the drawn person does what it is named for."""
    index = BLENDSHAPE_NAMES.index(name)

    rest, doing = detect_one(detector, render_person()), detect_one(detector, render_person(moment))

    assert doing.blendshapes[index] > rest.blendshapes[index] + 0.2


def test_the_same_image_gives_the_same_faces(detector: FaceDetector) -> None:
    """What was looked at before makes no difference: a stopped run can go on anywhere."""
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
    """A face that moved a little is found again, and nobody where there is nobody."""
    before = detector.detect(render_person())
    (face,) = detector.track(ArrayImage(image=render_person(SceneParams(yaw=4, jaw=0.2))), before)
    (searched,) = detector.detect(render_person(SceneParams(yaw=4, jaw=0.2)))

    np.testing.assert_allclose(face.landmarks, searched.landmarks, atol=5)
    assert [] == detector.track(
        ArrayImage(image=np.full((256, 256, 3), 128, dtype=np.uint8)), before
    )
    assert [] == detector.track(ArrayImage(image=render_person()), [])


def same_face(one: Face, other: Face) -> bool:
    """Whether two faces are the same in everything."""
    parts = [(face.score, face.pose, face.blendshapes) for face in (one, other)]
    return parts[0] == parts[1] and np.array_equal(one.landmarks, other.landmarks)


def test_tracking_reads_only_requested_areas(detector: FaceDetector) -> None:
    """What a view shows elsewhere is anything, and makes no difference."""
    before = detector.detect(render_person())
    image = render_person(SceneParams(yaw=4, roll=9))
    wide = np.zeros((400, 500, 3), np.uint8)
    wide[40:296, 80:336] = image
    moved = [shift_face(face, 80, 40) for face in before]

    (face,) = detector.track(PartialImage(image=wide), moved)
    (whole,) = detector.track(ArrayImage(image=wide), moved)

    assert same_face(whole, face)


@dataclass(frozen=True, kw_only=True, eq=False)
class PartialImage(ArrayImage):
    """A picture that is noise where nobody asked to look."""

    def to_partial_array(self, area: Rect) -> Image:
        """Return the picture in the area, and noise around it."""
        left, top, right, bottom = area.clip_nonempty(self.size)
        noise = np.random.default_rng(0).integers(0, 255, self.image.shape, dtype=np.uint8)
        noise[top:bottom, left:right] = self.image[top:bottom, left:right]
        return noise


def shift_face(face: Face, x: float, y: float) -> Face:
    """The face elsewhere."""
    return replace(
        face,
        box=face.box + np.float32([x, y, x, y]),
        landmarks=face.landmarks + np.float32([x, y]),
    )


def test_excluded_faces_are_not_returned(detector: FaceDetector) -> None:
    """With one of two faces excluded the other comes as ever; with both excluded, none."""
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
    """A grey picture of any size holds nothing and hurts nothing."""
    assert [] == detector.detect(np.full(shape, 128, dtype=np.uint8))


def test_a_mirrored_image_mirrors_the_face(detector: FaceDetector) -> None:
    """Pixel centres are on integers: x and its mirror image add up to the width less one."""
    image = render_person()
    here, there = detect_one(detector, image), detect_one(detector, image[:, ::-1])

    outer, inner = [33, 263, 133, 362, 10, 152], [263, 33, 362, 133, 10, 152]
    sums = here.landmarks[outer, 0] + there.landmarks[inner, 0]
    assert sums.mean() == pytest.approx(image.shape[1] - 1, abs=1.0)
    assert here.pose[0] == pytest.approx(-there.pose[0], abs=3)
    assert here.pose[2] == pytest.approx(-there.pose[2], abs=3)


def test_closing_twice_is_harmless() -> None:
    """Whoever closes early does not make the end of the block fail."""
    for opening in DETECTORS.values():
        with opening() as opened:
            opened.close()
