"""Followed faces are those that looking anew would find, at a fraction of the searches."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from faceswap_cli.actors import CAST, Actor, draw, perform
from faceswap_cli.arrays import Image
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.follow import EVERY, Follower, is_cut, largest, thumbnail
from faceswap_cli.faces.litert import LiteRTDetector


class Counting(LiteRTDetector):
    """Counts its searches."""

    searches = 0

    def detect(self, image: Image) -> list[Face]:
        """Count, then search."""
        self.searches += 1
        return super().detect(image)


@pytest.fixture
def detector() -> Iterator[Counting]:
    """An open detector that counts its searches."""
    with Counting() as opened:
        yield opened


@pytest.fixture(scope="module")
def film() -> list[Image]:
    """A second of a drawn person who moves."""
    actor = Actor.of(CAST["ada"])
    return [draw(actor, moment, 192).image for moment in perform(2, seconds=1).moments]


def looked(follower: Follower, images: Sequence[Image]) -> list[Sequence[Face]]:
    """What a follower finds in each image."""
    return [follower.look(image, number) for number, image in enumerate(images)]


def test_a_followed_face_is_where_a_search_finds_it(detector: Counting, film: list[Image]) -> None:
    """The landmarks are those of a search to a hundredth of the face, with a tenth of the work."""
    followed = looked(Follower(detector), film)
    assert -(-len(film) // EVERY) == detector.searches

    for image, (face,) in zip(film, followed, strict=True):
        (searched,) = detector.detect(image)
        apart = np.linalg.norm(face.landmarks - searched.landmarks, axis=1).mean()
        assert apart < 0.01 * np.sqrt(face.area_px)


def test_begun_at_a_search_nothing_before_it_matters(detector: Counting, film: list[Image]) -> None:
    """From any search on a new follower finds the very same faces."""
    whole = looked(Follower(detector), film)
    begun = looked(Follower(detector), film[EVERY:])

    for (one,), (two,) in zip(whole[EVERY:], begun, strict=True):
        np.testing.assert_array_equal(one.landmarks, two.landmarks)
        assert (one.score, one.expression, one.pose) == (two.score, two.expression, two.pose)


def test_a_cut_makes_it_search(detector: Counting, film: list[Image]) -> None:
    """Another shot, with the face elsewhere, is searched at once; so is an image without a face."""
    wall = np.full_like(film[0], 255)
    moved = np.roll(film[4], 60, axis=1)

    found = looked(Follower(detector), [*film[:3], 255 - moved, wall, film[5]])

    assert [1, 1, 1] == [len(faces) for faces in found[:3]]
    assert 0 == len(found[4])
    assert 1 == len(found[5])
    assert 1 + 3 == detector.searches


def test_a_face_that_leaves_is_searched_for(detector: Counting, film: list[Image]) -> None:
    """A face that is gone without a cut is not kept alive."""
    empty = np.full_like(film[0], film[0].mean(axis=(0, 1)).astype(np.uint8))
    fading = [film[0], *(np.uint8(film[0] * (1 - k) + empty * k) for k in (0.3, 0.6, 0.9, 1.0))]

    found = looked(Follower(detector), fading)

    assert 1 == len(found[0])
    assert 0 == len(found[-1])


def test_only_what_matters_is_followed(detector: Counting, film: list[Image]) -> None:
    """With a choice of the largest, one of two people is returned in every frame."""
    pairs = [np.hstack([image, image[::2, ::2].repeat(2, axis=0)]) for image in film[:6]]

    found = looked(Follower(detector, keep=largest), pairs)

    assert [1] * 6 == [len(faces) for faces in found]


def test_a_cut_is_told_from_motion(film: list[Image]) -> None:
    """Frames that follow each other are one shot; a film and its negative are two."""
    assert not any(is_cut(thumbnail(one), thumbnail(two)) for one, two in pairwise(film))
    assert is_cut(thumbnail(film[0]), thumbnail(255 - film[0]))
