"""Followed faces are those that looking anew would find, at a fraction of the searches."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Self

import numpy as np
import pytest

from faceswap_cli.actors import CAST, Actor, Moment, draw, perform
from faceswap_cli.arrays import Image
from faceswap_cli.faces.align import align
from faceswap_cli.faces.choose import Everyone, Largest
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.follow import (
    EVERY,
    WAITING_FRAMES,
    Follower,
    Memory,
    Onlooker,
    Pace,
    Watched,
    is_cut,
    thumbnail,
)
from faceswap_cli.faces.litert import LiteRTDetector
from faceswap_cli.faces.region import Region
from faceswap_cli.faces.track import REACH, places
from faceswap_cli.views import Area, Still, View, beyond, clipped


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A frame."""

    image: Image

    @property
    def view(self) -> Still:
        """The picture."""
        return Still(image=self.image)


class Counting(LiteRTDetector):
    """Counts its searches."""

    searches = 0

    def find(self, image: Image) -> list[Region]:
        """Count, then search."""
        Counting.searches += 1
        return super().find(image)


class Script:
    """A detector that is told what each frame shows; frames are known by their grey."""

    def __init__(self, faces: Mapping[int, Sequence[Face]], searched: list[int]) -> None:
        self.faces = faces
        self.searched = searched

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold nothing."""

    def detect(self, image: Image) -> list[Face]:
        """Return what was told."""
        return list(self.faces.get(int(image[0, 0, 0]), ()))

    def find(self, image: Image) -> list[Region]:
        """Return where that is, and note that it was searched for."""
        self.searched.append(int(image[0, 0, 0]))
        return [Region.of(face.landmarks) for face in self.detect(image)]

    def place(self, image: Image, found: Sequence[Region], *, beside: Sequence[Face]) -> list[Face]:
        """Return what was told, known or not."""
        return self.detect(image)

    def follow(self, view: View, faces: Sequence[Face]) -> list[Face]:
        """Return as many."""
        return self.detect(view.whole())[: len(faces)]


def square(x: float, side: float = 40.0) -> Face:
    """A face in a square."""
    spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
    landmarks = np.float32(spread * side + [x, 20])
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=1.0,
        expression=(0.1,) * 52,
        pose=(1.0, 2.0, 3.0),
    )


def greys(levels: Sequence[int]) -> Iterator[Shown]:
    """Frames of one grey each."""
    return (Shown(image=np.full((18, 32, 3), level, np.uint8)) for level in levels)


def watch(
    levels: Sequence[int],
    faces: Mapping[int, Sequence[Face]],
    *,
    pace: Pace | None = None,
    searched: list[int] | None = None,
) -> list[list[tuple[int, bool]]]:
    """Track, and whether it was filled in, of every face of every frame."""
    seen: list[int] = [] if searched is None else searched
    with Follower(lambda: Script(faces, seen), choice=Everyone()) as follower:
        return [
            sorted((face.track, face.is_interpolated) for face in watched.faces)
            for watched in follower.over(greys(levels), pace=pace)
        ]


@pytest.fixture(scope="module")
def film() -> list[Image]:
    """A second of a drawn person who moves."""
    actor = Actor.of(CAST["ada"])
    return [draw(actor, moment, 192).image for moment in perform(2, seconds=1).moments]


def followed(
    images: Sequence[Image], *, memory: Memory | None = None, pace: Pace | None = None
) -> list[tuple[Watched[Shown], Memory]]:
    """What comes out for each image, and what is known then."""
    Counting.searches = 0
    frames = (Shown(image=image) for image in images)
    with Follower(Counting, choice=Everyone()) as follower:
        watched = follower.over(frames, pace=pace, memory=memory)
        return [(seen, json.loads(json.dumps(seen.memory()))) for seen in watched]


def test_frames_are_looked_at_only_where_somebody_asked(film: list[Image]) -> None:
    """Faces come out the same whatever a frame shows where nobody asked to look."""
    film = [np.pad(image, ((60, 60), (90, 90), (0, 0)), mode="edge") for image in film]

    with Follower(LiteRTDetector, choice=Everyone()) as follower:
        seen = list(follower.over(Shown(image=image) for image in film))
        again = list(follower.over(Half(image=image) for image in film))

    for one, other in zip(seen, again, strict=True):
        for face, twin in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(face.face.landmarks, twin.face.landmarks)
            np.testing.assert_array_equal(face.alignment.to_unit, twin.alignment.to_unit)
            area = face.alignment.area()
            crops = [
                face.alignment.crop(item.view.showing(area), 64) for item in (one.item, other.item)
            ]
            np.testing.assert_array_equal(*crops)


def test_a_frame_is_ready_where_a_face_is_expected() -> None:
    """Following a face that hardly moves waits for nothing: the search looked there before it."""
    image = draw(Actor.of(CAST["ada"]), Moment(), 192).image
    frames = [Listed(image=np.pad(image, ((60, 60), (90, 90), (0, 0)))) for _ in range(30)]

    with Follower(LiteRTDetector, choice=Everyone()) as follower:
        for seen in follower.over(iter(frames)):
            [face] = seen.faces
            seen.item.view.showing(face.alignment.area())

    # The first ones are searched before anybody is followed.
    for frame in frames[2 * WAITING_FRAMES + 4 :]:
        ready, *asked = frame.areas
        assert len(asked) == 2
        assert all([] == beyond(area, ready) for area in asked)


@dataclass(frozen=True, kw_only=True, eq=False)
class Listed(Shown):
    """A frame that notes where it is looked at."""

    areas: list[Area] = field(default_factory=list)

    @property
    def view(self) -> "Noting":
        """The picture."""
        return Noting(image=self.image, areas=self.areas)


@dataclass(frozen=True, kw_only=True, eq=False)
class Noting(Still):
    """A picture that notes where it is looked at."""

    areas: list[Area]

    def showing(self, area: Area) -> Image:
        """Note it, and return the picture."""
        self.areas.append(area)
        return self.image


class Half(Shown):
    """A frame that is noise where nobody asked to look."""

    @property
    def view(self) -> Still:
        """The picture, for those who ask."""
        return Blinkered(image=self.image)


class Blinkered(Still):
    """A picture that is noise where nobody asked to look."""

    def showing(self, area: Area) -> Image:
        """Return the picture in the area, and noise around it."""
        left, top, right, bottom = clipped(area, self.size)
        noise = np.random.default_rng(0).integers(0, 255, self.image.shape, dtype=np.uint8)
        noise[top:bottom, left:right] = self.image[top:bottom, left:right]
        return noise


def test_a_followed_face_is_where_a_search_finds_it(film: list[Image]) -> None:
    """The landmarks are those of a search to a hundredth of the face, with a tenth of the work."""
    seen = followed(film)
    assert -(-len(film) // EVERY) == Counting.searches

    with LiteRTDetector() as detector:
        for image, (watched, _) in zip(film, seen, strict=True):
            [searched] = detector.detect(image)
            [steady] = watched.faces
            assert image is watched.item.image
            apart = np.linalg.norm(steady.face.landmarks - searched.landmarks, axis=1).mean()
            assert apart < 0.01 * np.sqrt(steady.face.area_px)


@pytest.mark.parametrize("stop", [0, 3, 9, 10, 17])
def test_begun_again_it_goes_on_as_if_it_had_never_stopped(film: list[Image], stop: int) -> None:
    """From any frame on, with what was known there, the very same faces come out."""
    whole = followed(film)

    again = followed(film[stop + 1 :], memory=whole[stop][1])

    for (one, before), (two, after) in zip(whole[stop + 1 :], again, strict=True):
        assert before == after
        assert len(one.faces) == len(two.faces) == 1
        for a, b in zip(one.faces, two.faces, strict=True):
            np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)
            np.testing.assert_array_equal(a.alignment.to_unit, b.alignment.to_unit)
            assert (a.track, a.face.score, a.face.pose) == (b.track, b.face.score, b.face.pose)


def test_begun_again_it_stays_with_whom_it_picked() -> None:
    """The larger of two at first stays picked, though the other grew before the stop."""
    faces = {
        k: [square(10, 40 if k < 5 else 36), square(100, 36 if k < 5 else 40)] for k in range(30)
    }

    def picked(levels: Sequence[int], memory: Memory | None) -> list[tuple[int, Memory]]:
        with Follower(lambda: Script(faces, []), choice=Largest()) as follower:
            watched = follower.over(greys(levels), memory=memory)
            return [
                (seen.faces[0].track, json.loads(json.dumps(seen.memory()))) for seen in watched
            ]

    whole = picked(range(30), None)
    again = picked(range(13, 30), whole[12][1])

    [first] = {track for track, _ in whole}
    assert [first] * 17 == [track for track, _ in again]
    assert whole[13:] == again


def test_an_onlooker_sees_what_a_follower_sees(film: list[Image]) -> None:
    """The same faces with the same points, at once and unsmoothed."""
    seen = followed(film)
    with LiteRTDetector() as detector:
        onlooker = Onlooker(detector)
        for image, (watched, _) in zip(film, seen, strict=True):
            [face] = onlooker.look(image)
            np.testing.assert_array_equal(watched.faces[0].face.landmarks, face.landmarks)


def test_faces_come_out_held_steady(film: list[Image]) -> None:
    """The alignment of a frame is what its neighbours before and after say, jitter taken out."""
    seen = followed(film)
    raw = np.array([places(align(watched.faces[0].face.landmarks)) for watched, _ in seen])
    held = np.array([places(watched.faces[0].alignment) for watched, _ in seen])

    def restless(where: np.ndarray) -> np.ndarray:
        return np.abs(np.diff(where, n=2, axis=0)).mean(axis=0)

    assert (restless(held) < 0.8 * restless(raw)).all()
    assert np.abs(held - raw)[:, 2:].max() < 3


def test_two_people_keep_their_tracks() -> None:
    """In whatever order they are found, and one missed for a while: filled in, and marked."""
    both = {k: [square(10 + k), square(100 - k)][:: 1 if k % 2 else -1] for k in range(30)}
    both |= {k: [square(10 + k)] for k in range(12, 12 + REACH - 1)}

    seen = watch(range(30), both)

    for k, faces in enumerate(seen):
        is_gap = 12 <= k < 12 + REACH - 1
        assert [0, 1] == [track for track, _ in faces]
        assert is_gap == any(filled for _, filled in faces)


def test_a_long_gap_is_not_filled() -> None:
    """After `REACH` frames nobody says that it is the same face."""
    faces = {k: [square(10)] for k in range(30) if not 12 <= k < 12 + REACH}

    seen = watch(range(30), faces)

    assert [] == [k for k, one in enumerate(seen) if any(filled for _, filled in one)]
    assert [[(0, False)]] * 12 + [[]] * REACH + [[(1, False)]] * (18 - REACH) == seen


def test_a_track_ends_at_a_cut() -> None:
    """In the next shot even a face in the same place is another, and searched for at once."""
    levels = [*range(15), *range(100, 115)]
    searched: list[int] = []

    seen = watch(levels, {level: [square(10)] for level in levels}, searched=searched)

    assert [[(0, False)]] * 15 + [[(1, False)]] * 15 == seen
    assert [0, 10, 100, 105] == sorted(searched)


def test_a_search_brings_newcomers_and_moves_nobody() -> None:
    """Who is followed stays where following puts them, whatever a search says of that place."""
    searched_for = square(14)

    class Wavering(Script):
        def detect(self, image: Image) -> list[Face]:
            return [searched_for, square(100)]

        def follow(self, view: View, faces: Sequence[Face]) -> list[Face]:
            return [square(10)] if len(faces) == 1 else [square(10), square(100)]

    with Follower(lambda: Wavering({}, []), choice=Everyone()) as follower:
        seen = [watched.faces for watched in follower.over(greys(range(EVERY + 3)))]

    assert 14 == pytest.approx(seen[0][0].face.box[0], abs=0.5)
    for faces in seen[1:]:
        assert [0, 1] == sorted(face.track for face in faces)
        first = next(face for face in faces if face.track == 0)
        assert 10 == pytest.approx(first.face.box[0], abs=0.5)


def test_somebody_lost_is_searched_for_while_they_may_come_back() -> None:
    """In every frame of a short gap, and no longer while there is somebody else."""
    both = {k: [square(10), square(100)] for k in range(3)}
    searched: list[int] = []

    watch(range(20), both | {k: [square(10)] for k in range(3, 20)}, searched=searched)

    assert sorted([0, 10, *range(3, 3 + REACH)]) == sorted(searched)


def test_where_nobody_is_every_frame_is_searched() -> None:
    """A newcomer is seen at once if there is nobody to follow."""
    searched: list[int] = []

    seen = watch(range(25), {k: [square(10)] for k in range(13, 25)}, searched=searched)

    assert list(range(14)) == sorted(searched)[:14]
    assert [[]] * 13 + [[(0, False)]] * 12 == seen


class Minding(Script):
    """Follows whoever is still near where they were."""

    def follow(self, view: View, faces: Sequence[Face]) -> list[Face]:
        """Return those told of the frame who are near one of the faces."""
        told = self.faces.get(int(view.whole()[0, 0, 0]), ())
        return [one for one in told if any(abs(one.box[0] - face.box[0]) < 9 for face in faces)]


@pytest.mark.parametrize("comes", [11, 15, 19, 20])
def test_a_newcomer_is_followed_back_to_where_it_came_in(comes: int) -> None:
    """Found by the search in frame 20, a second face is there from its first frame on.

    Begun again anywhere, and with what came out before it: the very same.
    """
    faces = {k: [square(10 + k), *([square(100 - 2 * k)] if k >= comes else [])] for k in range(30)}

    def seen(levels: Sequence[int], memory: Memory | None) -> list[tuple[list[float], Memory]]:
        with Follower(lambda: Minding(faces, []), choice=Everyone()) as follower:
            return [
                (
                    [x for one in watched.faces for x in (one.track, *one.face.box.tolist())],
                    json.loads(json.dumps(watched.memory())),
                )
                for watched in follower.over(greys(levels), memory=memory)
            ]

    whole = seen(range(30), None)

    assert [1] * comes + [2] * (30 - comes) == [len(found) // 5 for found, _ in whole]
    for stop in (comes - 6, comes - 1, comes, 18, 21):
        assert whole[stop + 1 :] == seen(range(stop + 1, 30), whole[stop][1])


def test_nobody_is_followed_back_through_a_cut() -> None:
    """Who is found in a shot's first frame was in none of the shot before."""

    class Blind(Minding):
        def detect(self, image: Image) -> list[Face]:
            return super().detect(image)[: 1 if image[0, 0, 0] < 40 else 2]

    faces = {k: [square(10), square(100)] for k in (5, 6, 7, 40, 41)}
    with Follower(lambda: Blind(faces, []), choice=Everyone()) as follower:
        seen = [len(watched.faces) for watched in follower.over(greys(sorted(faces)))]

    assert [1, 1, 1, 2, 2] == seen


def test_a_drawn_face_that_slides_in_is_there_as_soon_as_a_search_would_find_it(
    film: list[Image],
) -> None:
    """Beside somebody who is followed, between two searches."""
    side = film[0].shape[0]
    images = []
    for k, image in enumerate(film[:24]):
        wide = np.full((side, 3 * side, 3), 120, np.uint8)
        wide[:, :side] = image
        left = 3 * side - 20 * max(0, k - 8)
        wide[:, left : left + side] = film[k + 1][:, : 3 * side - left]
        images.append(wide)

    counts = [len(watched.faces) for watched, _ in followed(images)]

    with LiteRTDetector() as detector:
        searched = [len(detector.detect(image)) for image in images]
    assert 2 == searched[-1]
    assert counts.index(2) % EVERY
    assert counts.index(2) <= searched.index(2)
    assert {2} == set(counts[counts.index(2) :])


def test_pictures_have_nothing_to_do_with_each_other() -> None:
    """In a row of pictures every face is another, where it is, and none is filled in."""
    faces = {k: [square(10 + 3 * (k % 2))] for k in range(10) if k != 4}

    pace = Pace.of(Fraction(25), moves=False)
    with Follower(lambda: Script(faces, []), choice=Everyone()) as follower:
        seen = [watched.faces for watched in follower.over(greys(range(10)), pace=pace)]

    assert [0, 1, 2, 3, 4, 5, 6, 7, 8] == [face.track for one in seen for face in one]
    assert [] == seen[4]
    for k in (2, 3):
        where = places(align(faces[k][0].landmarks))
        np.testing.assert_allclose(places(seen[k][0].alignment), where, atol=1e-2)


@pytest.mark.parametrize(
    ("rate", "every", "reach", "search"),
    [
        (25, 1, REACH, EVERY),
        (60, 1, REACH, EVERY),
        (12, 1, 3, EVERY),
        (25, 3, 2, 1),
        (25, 25, 0, 1),
    ],
)
def test_what_has_a_say_is_near_in_time(rate: int, every: int, reach: int, search: int) -> None:
    """Where frames are far apart fewer of them tell where a face is, and each is searched."""
    pace = Pace.of(Fraction(rate), every=every)

    assert (reach, search) == (pace.reach, pace.search_every)


def test_only_a_few_frames_are_held_back() -> None:
    """A long film needs no memory: what came out and some frames before it is let go."""
    taken: list[int] = []

    def feed() -> Iterator[Shown]:
        for number, shown in enumerate(greys([10] * 60)):
            taken.append(number)
            yield shown

    with Follower(lambda: Script({10: [square(10)]}, []), choice=Everyone()) as follower:
        for number, watched in enumerate(follower.over(feed())):
            assert len(taken) <= number + 1 + Pace().held + 12
            assert len(watched.memory()["scenes"]) <= REACH + 1


def test_left_early_it_lets_its_threads_go() -> None:
    """Closing the frames in the middle ends what runs ahead."""
    before = threading.active_count()
    with Follower(lambda: Script({}, []), choice=Everyone()) as follower:
        watched = follower.over(greys([10] * 100))
        next(watched)
        assert threading.active_count() > before
        watched.close()
    assert before == threading.active_count()


def test_a_cut_is_told_from_motion(film: list[Image]) -> None:
    """Frames that follow each other are one shot; a film and its negative are two."""
    assert not any(
        is_cut(thumbnail(Still(image=one)), thumbnail(Still(image=two)))
        for one, two in pairwise(film)
    )
    assert is_cut(thumbnail(Still(image=film[0])), thumbnail(Still(image=255 - film[0])))


def test_a_face_that_leaves_is_not_kept_alive(film: list[Image]) -> None:
    """A face that fades without a cut is gone when it is gone."""
    empty = np.full_like(film[0], film[0].mean(axis=(0, 1)).astype(np.uint8))
    fading = [film[0], *(np.uint8(film[0] * (1 - k) + empty * k) for k in (0.3, 0.6, 0.9, 1.0))]

    found = followed(fading)

    assert 1 == len(found[0][0].faces)
    assert 0 == len(found[-1][0].faces)
