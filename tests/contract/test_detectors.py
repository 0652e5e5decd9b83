"""The law every face detector obeys, on people drawn by the program."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from faceswap_cli.actors import CAST, Actor, Drawing, Moment, draw, random_moments
from faceswap_cli.arrays import Image
from faceswap_cli.faces.detect import EXPRESSIONS, LANDMARKS, Face, FaceDetector
from faceswap_cli.faces.detectors import DETECTORS
from faceswap_cli.views import Area, Still, clipped

EYES = {"left_eye_outer": 33, "left_eye_inner": 133, "right_eye_inner": 362, "right_eye_outer": 263}
"""Points of a drawn face and the landmarks that mean the same; left is the image's left."""


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def detector(request: pytest.FixtureRequest) -> Iterator[FaceDetector]:
    """Each of the detectors, open."""
    with DETECTORS[request.param]() as opened:
        yield opened


@cache
def drawing(name: str, moment: Moment, size: int = 256) -> Drawing:
    """A drawn person, drawn once for all tests."""
    return draw(Actor.of(CAST[name]), moment, size)


def person(moment: Moment | None = None, *, name: str = "ada", size: int = 256) -> Image:
    """The picture of a drawn person."""
    return drawing(name, moment or Moment(), size).image


def only(detector: FaceDetector, image: Image) -> Face:
    """The one face that is there."""
    faces = detector.detect(image)
    assert 1 == len(faces)
    return faces[0]


def test_a_face_has_every_part(detector: FaceDetector) -> None:
    """Shapes, types and ranges are those of `Face`."""
    face = only(detector, person())

    assert (LANDMARKS, 2) == face.landmarks.shape
    assert np.float32 == face.landmarks.dtype
    assert (4,) == face.box.shape
    np.testing.assert_array_equal(face.landmarks.min(axis=0), face.box[:2])
    np.testing.assert_array_equal(face.landmarks.max(axis=0), face.box[2:])
    assert 0.5 <= face.score <= 1
    assert len(EXPRESSIONS) == len(face.expression) == 52
    assert all(0 <= value <= 1 for value in face.expression)
    assert all(-90 < angle < 90 for angle in face.pose)


@pytest.mark.parametrize("name", sorted(CAST))
def test_landmarks_lie_on_the_drawn_points(detector: FaceDetector, name: str) -> None:
    """The corners of the eyes are found within a tenth of the eyes' distance."""
    truth = drawing(name, Moment(yaw=10, roll=-8))
    face = only(detector, truth.image)

    drawn = np.array([truth.landmarks[point] for point in EYES])
    found = face.landmarks[list(EYES.values())]

    distance = np.linalg.norm(drawn[0] - drawn[3])
    assert np.linalg.norm(found - drawn, axis=1).max() < 0.1 * distance


def test_poses_follow_the_truth(detector: FaceDetector) -> None:
    """Yaw, pitch and roll grow with the drawn ones, about degree by degree."""
    moments = random_moments(5, 12)
    found = np.array([only(detector, person(moment, name="ed")).pose for moment in moments])
    drawn = np.array([(moment.yaw, moment.pitch, moment.roll) for moment in moments])

    for angle in range(3):
        assert np.corrcoef(drawn[:, angle], found[:, angle])[0, 1] > 0.95
        assert 0.6 < np.polyfit(drawn[:, angle], found[:, angle], 1)[0] < 1.2


@pytest.mark.parametrize(
    ("name", "moment"),
    [
        ("jawOpen", Moment(jaw=0.9)),
        ("eyeBlinkLeft", Moment(blink=1)),
        ("eyeBlinkRight", Moment(blink=1)),
    ],
)
def test_expressions_are_told_by_name(detector: FaceDetector, name: str, moment: Moment) -> None:
    """A coefficient rises when the drawn person does what it is named for."""
    index = EXPRESSIONS.index(name)

    rest, doing = only(detector, person()), only(detector, person(moment))

    assert doing.expression[index] > rest.expression[index] + 0.2


def test_the_same_image_gives_the_same_faces(detector: FaceDetector) -> None:
    """What was looked at before makes no difference: a stopped run can go on anywhere."""
    first = only(detector, person())
    only(detector, person(Moment(yaw=-25, jaw=1), name="bo"))
    detector.detect(np.zeros((64, 64, 3), dtype=np.uint8))
    again = only(detector, person())

    np.testing.assert_array_equal(first.landmarks, again.landmarks)
    assert (first.score, first.pose, first.expression) == (
        again.score,
        again.pose,
        again.expression,
    )


def test_a_face_is_followed_into_the_next_image(detector: FaceDetector) -> None:
    """A face that moved a little is found again, and nobody where there is nobody."""
    before = detector.detect(person())
    (face,) = detector.follow(Still(image=person(Moment(yaw=4, jaw=0.2))), before)
    (searched,) = detector.detect(person(Moment(yaw=4, jaw=0.2)))

    np.testing.assert_allclose(face.landmarks, searched.landmarks, atol=5)
    assert [] == detector.follow(Still(image=np.full((256, 256, 3), 128, dtype=np.uint8)), before)
    assert [] == detector.follow(Still(image=person()), [])


def same(one: Face, other: Face) -> bool:
    """Whether two faces are the same in everything."""
    parts = [(face.score, face.pose, face.expression) for face in (one, other)]
    return parts[0] == parts[1] and np.array_equal(one.landmarks, other.landmarks)


def test_following_looks_only_where_it_asked(detector: FaceDetector) -> None:
    """What a view shows elsewhere is anything, and makes no difference."""
    before = detector.detect(person())
    image = person(Moment(yaw=4, roll=9))
    wide = np.zeros((400, 500, 3), np.uint8)
    wide[40:296, 80:336] = image
    moved = [shifted(face, 80, 40) for face in before]

    (face,) = detector.follow(Blinkered(image=wide), moved)
    (whole,) = detector.follow(Still(image=wide), moved)

    assert same(whole, face)


@dataclass(frozen=True, kw_only=True, eq=False)
class Blinkered(Still):
    """A picture that is noise where nobody asked to look."""

    def showing(self, area: Area) -> Image:
        """Return the picture in the area, and noise around it."""
        left, top, right, bottom = clipped(area, self.size)
        noise = np.random.default_rng(0).integers(0, 255, self.image.shape, dtype=np.uint8)
        noise[top:bottom, left:right] = self.image[top:bottom, left:right]
        return noise


def shifted(face: Face, x: float, y: float) -> Face:
    """The face elsewhere."""
    return replace(
        face,
        box=face.box + np.float32([x, y, x, y]),
        landmarks=face.landmarks + np.float32([x, y]),
    )


def test_both_halves_of_a_search_are_the_search(detector: FaceDetector) -> None:
    """Faces are those placed where some were found."""
    pair = np.hstack([person(), person(Moment(scale=0.8), name="bo")])

    faces = detector.detect(pair)
    placed = detector.place(pair, detector.find(pair), beside=())

    assert 2 == len(faces) == len(placed)
    assert all(map(same, faces, placed))


def test_who_is_known_is_not_placed_again(detector: FaceDetector) -> None:
    """A search beside somebody known brings the other one, and nobody where all are known."""
    pair = np.hstack([person(), person(Moment(scale=0.8), name="bo")])
    ada, bo = detector.detect(pair)
    found = detector.find(pair)

    assert [] == detector.place(pair, found, beside=[ada, bo])
    assert any(same(bo, face) for face in detector.place(pair, found, beside=[ada]))
    assert [] == detector.place(pair, [], beside=[])


def test_several_faces_come_largest_first(detector: FaceDetector) -> None:
    """Two people side by side are both found, the nearer one first."""
    far, near = person(Moment(scale=0.7)), person(Moment(scale=1.1), name="bo")

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
    image = person()
    here, there = only(detector, image), only(detector, image[:, ::-1])

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
