"""Followed faces are those that looking anew would find, at a fraction of the searches."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Self

import numpy as np
import pytest

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.selection import SelectAll, SelectLargest
from faceswap_cli.faces.track_smoothing import SMOOTHING_RADIUS, alignment_to_params
from faceswap_cli.faces.tracker import (
    DETECT_INTERVAL,
    PREFETCH_FRAMES,
    FaceTracker,
    OnlineTracker,
    TrackedFrame,
    TrackerState,
    TrackingConfig,
    is_cut,
    make_thumbnail,
)
from faceswap_cli.faces.types import Face
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, animate, render_frame
from faceswap_cli.video.frame import Frame


def make_frame(view: LazyImage, index: int) -> Frame:
    """Return frame `index` of a video of 25 frames a second."""
    return Frame(index=index, time=Fraction(index, 25), view=view)


def make_frames(images: Iterable[Image]) -> Iterator[Frame]:
    """Yield the frames of a video of 25 frames a second."""
    return (make_frame(ArrayImage(image=image), index) for index, image in enumerate(images))


class CountingDetector(LiteRTDetector):
    """Counts its searches."""

    searches = 0

    def detect_rois(self, image: Image) -> list[RoI]:
        """Count, then search."""
        CountingDetector.searches += 1
        return super().detect_rois(image)


class CannedDetector:
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

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the frame's faces, excluded or not, and note that it was searched."""
        self.searched.append(int(image[0, 0, 0]))
        return self.faces_in(image)

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return as many."""
        return self.faces_in(view.to_array())[: len(faces)]

    def faces_in(self, image: Image) -> list[Face]:
        """Return the faces of the frame that an image is of."""
        return list(self.faces.get(int(image[0, 0, 0]), ()))


def square(x: float, side: float = 40.0) -> Face:
    """A face in a square."""
    spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
    landmarks = np.float32(spread * side + [x, 20])
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=1.0,
        blendshapes=(0.1,) * 52,
        pose=(1.0, 2.0, 3.0),
    )


def greys(levels: Sequence[int]) -> Iterator[Frame]:
    """Yield frames of one gray each."""
    return make_frames(np.full((18, 32, 3), level, np.uint8) for level in levels)


def track_all(
    levels: Sequence[int],
    faces: Mapping[int, Sequence[Face]],
    *,
    config: TrackingConfig | None = None,
    searched: list[int] | None = None,
) -> list[list[tuple[int, bool]]]:
    """Track, and whether it was filled in, of every face of every frame."""
    seen: list[int] = [] if searched is None else searched
    with FaceTracker(lambda: CannedDetector(faces, seen), selection=SelectAll()) as follower:
        return [
            sorted((face.track, face.is_interpolated) for face in watched.faces)
            for watched in follower.track(greys(levels), config=config)
        ]


@pytest.fixture(scope="module")
def film() -> list[Image]:
    """A second of a drawn person who moves."""
    actor = HeadModel.from_person(CAST["ada"])
    return [render_frame(actor, moment, 192).image for moment in animate(2, seconds=1).scenes]


def track_with_state(
    images: Sequence[Image],
    *,
    state: TrackerState | None = None,
    config: TrackingConfig | None = None,
) -> list[tuple[TrackedFrame, TrackerState]]:
    """What comes out for each image, and what is known then."""
    CountingDetector.searches = 0
    frames = make_frames(images)
    with FaceTracker(CountingDetector, selection=SelectAll()) as follower:
        watched = follower.track(frames, config=config, state=state)
        return [(seen, json.loads(json.dumps(seen.get_state()))) for seen in watched]


def test_frames_are_decoded_only_where_requested(film: list[Image]) -> None:
    """Faces come out the same whatever a frame shows where nobody asked to look."""
    film = [np.pad(image, ((60, 60), (90, 90), (0, 0)), mode="edge") for image in film]

    with FaceTracker(LiteRTDetector, selection=SelectAll()) as follower:
        seen = list(follower.track(make_frames(film)))
        partial = (make_frame(PartialImage(image=image), k) for k, image in enumerate(film))
        again = list(follower.track(partial))

    for one, other in zip(seen, again, strict=True):
        for face, twin in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(face.face.landmarks, twin.face.landmarks)
            np.testing.assert_array_equal(face.alignment.to_unit, twin.alignment.to_unit)
            area = face.alignment.source_area()
            crops = [
                face.alignment.crop(item.view.to_partial_array(area), 64)
                for item in (one.frame, other.frame)
            ]
            np.testing.assert_array_equal(*crops)


def test_predicted_areas_are_prefetched() -> None:
    """Following a face that hardly moves waits for nothing: the search looked there before it."""
    image = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 192).image
    image = np.pad(image, ((60, 60), (90, 90), (0, 0)))
    views = [RecordingImage(image=image) for _ in range(30)]

    with FaceTracker(LiteRTDetector, selection=SelectAll()) as follower:
        for seen in follower.track(make_frame(view, k) for k, view in enumerate(views)):
            [face] = seen.faces
            seen.frame.view.to_partial_array(face.alignment.source_area())

    # The first ones are searched before anybody is followed.
    for view in views[2 * PREFETCH_FRAMES + 4 :]:
        ready, *asked = view.areas
        assert len(asked) == 2
        assert all([] == area.subtract(ready) for area in asked)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingImage(ArrayImage):
    """A picture that notes where it is looked at."""

    areas: list[Rect] = field(default_factory=list)

    def to_partial_array(self, area: Rect) -> Image:
        """Note it, and return the picture."""
        self.areas.append(area)
        return self.image


class PartialImage(ArrayImage):
    """A picture that is noise where nobody asked to look."""

    def to_partial_array(self, area: Rect) -> Image:
        """Return the picture in the area, and noise around it."""
        left, top, right, bottom = area.clip_nonempty(self.size)
        noise = np.random.default_rng(0).integers(0, 255, self.image.shape, dtype=np.uint8)
        noise[top:bottom, left:right] = self.image[top:bottom, left:right]
        return noise


def test_tracking_agrees_with_detection(film: list[Image]) -> None:
    """The landmarks are those of a search to a hundredth of the face, with a tenth of the work."""
    seen = track_with_state(film)
    assert -(-len(film) // DETECT_INTERVAL) == CountingDetector.searches

    with LiteRTDetector() as detector:
        for image, (watched, _) in zip(film, seen, strict=True):
            [searched] = detector.detect(image)
            [steady] = watched.faces
            assert image is watched.frame.image
            apart = np.linalg.norm(steady.face.landmarks - searched.landmarks, axis=1).mean()
            assert apart < 0.01 * np.sqrt(steady.face.area_px)


@pytest.mark.parametrize("stop", [0, 3, 9, 10, 17])
def test_resumed_tracker_matches_an_uninterrupted_one(film: list[Image], stop: int) -> None:
    """From any frame on, with what was known there, the very same faces come out."""
    whole = track_with_state(film)

    again = track_with_state(film[stop + 1 :], state=whole[stop][1])

    for (one, before), (two, after) in zip(whole[stop + 1 :], again, strict=True):
        assert before == after
        assert len(one.faces) == len(two.faces) == 1
        for a, b in zip(one.faces, two.faces, strict=True):
            np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)
            np.testing.assert_array_equal(a.alignment.to_unit, b.alignment.to_unit)
            assert (a.track, a.face.score, a.face.pose) == (b.track, b.face.score, b.face.pose)


def test_resumed_tracker_keeps_its_selection() -> None:
    """The larger of two at first stays picked, though the other grew before the stop."""
    faces = {
        k: [square(10, 40 if k < 5 else 36), square(100, 36 if k < 5 else 40)] for k in range(30)
    }

    def picked(
        levels: Sequence[int], memory: TrackerState | None
    ) -> list[tuple[int, TrackerState]]:
        with FaceTracker(lambda: CannedDetector(faces, []), selection=SelectLargest()) as follower:
            watched = follower.track(greys(levels), state=memory)
            return [
                (seen.faces[0].track, json.loads(json.dumps(seen.get_state()))) for seen in watched
            ]

    whole = picked(range(30), None)
    again = picked(range(13, 30), whole[12][1])

    [first] = {track for track, _ in whole}
    assert [first] * 17 == [track for track, _ in again]
    assert whole[13:] == again


def test_online_tracker_matches_face_tracker(film: list[Image]) -> None:
    """The same faces with the same points, at once and unsmoothed."""
    seen = track_with_state(film)
    with LiteRTDetector() as detector:
        onlooker = OnlineTracker(detector)
        for image, (watched, _) in zip(film, seen, strict=True):
            [face] = onlooker.update(image)
            np.testing.assert_array_equal(watched.faces[0].face.landmarks, face.landmarks)


def test_tracked_faces_are_smoothed(film: list[Image]) -> None:
    """The alignment of a frame is what its neighbours before and after say, jitter taken out."""
    seen = track_with_state(film)
    raw = np.array(
        [alignment_to_params(align_face(watched.faces[0].face.landmarks)) for watched, _ in seen]
    )
    held = np.array([alignment_to_params(watched.faces[0].alignment) for watched, _ in seen])

    def restless(where: np.ndarray) -> np.ndarray:
        return np.abs(np.diff(where, n=2, axis=0)).mean(axis=0)

    assert (restless(held) < 0.8 * restless(raw)).all()
    assert np.abs(held - raw)[:, 2:].max() < 3


def test_two_faces_keep_their_tracks() -> None:
    """In whatever order they are found, and one missed for a while: filled in, and marked."""
    both = {k: [square(10 + k), square(100 - k)][:: 1 if k % 2 else -1] for k in range(30)}
    both |= {k: [square(10 + k)] for k in range(12, 12 + SMOOTHING_RADIUS - 1)}

    seen = track_all(range(30), both)

    for k, faces in enumerate(seen):
        is_gap = 12 <= k < 12 + SMOOTHING_RADIUS - 1
        assert [0, 1] == [track for track, _ in faces]
        assert is_gap == any(filled for _, filled in faces)


def test_long_gap_is_not_interpolated() -> None:
    """After `REACH` frames nobody says that it is the same face."""
    faces = {k: [square(10)] for k in range(30) if not 12 <= k < 12 + SMOOTHING_RADIUS}

    seen = track_all(range(30), faces)

    assert [] == [k for k, one in enumerate(seen) if any(filled for _, filled in one)]
    assert [[(0, False)]] * 12 + [[]] * SMOOTHING_RADIUS + [[(1, False)]] * (
        18 - SMOOTHING_RADIUS
    ) == seen


def test_a_track_ends_at_a_cut() -> None:
    """In the next shot even a face in the same place is another, and searched for at once."""
    levels = [*range(15), *range(100, 115)]
    searched: list[int] = []

    seen = track_all(levels, {level: [square(10)] for level in levels}, searched=searched)

    assert [[(0, False)]] * 15 + [[(1, False)]] * 15 == seen
    assert [0, 10, 100, 105] == sorted(searched)


def test_detection_adds_faces_and_moves_none() -> None:
    """Who is followed stays where following puts them, whatever a search says of that place."""
    searched_for = square(14)

    class Wavering(CannedDetector):
        def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
            return [searched_for, square(100)]

        def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
            return [square(10)] if len(faces) == 1 else [square(10), square(100)]

    with FaceTracker(lambda: Wavering({}, []), selection=SelectAll()) as follower:
        seen = [watched.faces for watched in follower.track(greys(range(DETECT_INTERVAL + 3)))]

    assert 14 == pytest.approx(seen[0][0].face.box[0], abs=0.5)
    for faces in seen[1:]:
        assert [0, 1] == sorted(face.track for face in faces)
        first = next(face for face in faces if face.track == 0)
        assert 10 == pytest.approx(first.face.box[0], abs=0.5)


def test_lost_face_is_searched_while_its_track_lives() -> None:
    """In every frame of a short gap, and no longer while there is somebody else."""
    both = {k: [square(10), square(100)] for k in range(3)}
    searched: list[int] = []

    track_all(range(20), both | {k: [square(10)] for k in range(3, 20)}, searched=searched)

    assert sorted([0, 10, *range(3, 3 + SMOOTHING_RADIUS)]) == sorted(searched)


def test_every_empty_frame_is_searched() -> None:
    """A newcomer is seen at once if there is nobody to follow."""
    searched: list[int] = []

    seen = track_all(range(25), {k: [square(10)] for k in range(13, 25)}, searched=searched)

    assert list(range(14)) == sorted(searched)[:14]
    assert [[]] * 13 + [[(0, False)]] * 12 == seen


class NearbyDetector(CannedDetector):
    """Follows whoever is still near where they were."""

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those told of the frame who are near one of the faces."""
        told = self.faces.get(int(view.to_array()[0, 0, 0]), ())
        return [one for one in told if any(abs(one.box[0] - face.box[0]) < 9 for face in faces)]


@pytest.mark.parametrize("comes", [11, 15, 19, 20])
def test_new_face_is_backtracked(comes: int) -> None:
    """Found by the search in frame 20, a second face is there from its first frame on.

    Begun again anywhere, and with what came out before it: the very same.
    """
    faces = {k: [square(10 + k), *([square(100 - 2 * k)] if k >= comes else [])] for k in range(30)}

    def seen(
        levels: Sequence[int], memory: TrackerState | None
    ) -> list[tuple[list[float], TrackerState]]:
        with FaceTracker(lambda: NearbyDetector(faces, []), selection=SelectAll()) as follower:
            return [
                (
                    [x for one in watched.faces for x in (one.track, *one.face.box.tolist())],
                    json.loads(json.dumps(watched.get_state())),
                )
                for watched in follower.track(greys(levels), state=memory)
            ]

    whole = seen(range(30), None)

    assert [1] * comes + [2] * (30 - comes) == [len(found) // 5 for found, _ in whole]
    for stop in (comes - 6, comes - 1, comes, 18, 21):
        assert whole[stop + 1 :] == seen(range(stop + 1, 30), whole[stop][1])


def test_backtracking_stops_at_a_cut() -> None:
    """Who is found in a shot's first frame was in none of the shot before."""

    class Blind(NearbyDetector):
        def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
            return super().detect(image)[: 1 if image[0, 0, 0] < 40 else 2]

    faces = {k: [square(10), square(100)] for k in (5, 6, 7, 40, 41)}
    with FaceTracker(lambda: Blind(faces, []), selection=SelectAll()) as follower:
        seen = [len(watched.faces) for watched in follower.track(greys(sorted(faces)))]

    assert [1, 1, 1, 2, 2] == seen


def test_entering_face_is_backtracked_to_first_detection(
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

    counts = [len(watched.faces) for watched, _ in track_with_state(images)]

    with LiteRTDetector() as detector:
        searched = [len(detector.detect(image)) for image in images]
    assert 2 == searched[-1]
    assert counts.index(2) % DETECT_INTERVAL
    assert counts.index(2) <= searched.index(2)
    assert {2} == set(counts[counts.index(2) :])


def test_still_images_are_independent() -> None:
    """In a row of pictures every face is another, where it is, and none is filled in."""
    faces = {k: [square(10 + 3 * (k % 2))] for k in range(10) if k != 4}

    pace = TrackingConfig.from_frame_rate(Fraction(25), is_continuous=False)
    with FaceTracker(lambda: CannedDetector(faces, []), selection=SelectAll()) as follower:
        seen = [watched.faces for watched in follower.track(greys(range(10)), config=pace)]

    assert [0, 1, 2, 3, 4, 5, 6, 7, 8] == [face.track for one in seen for face in one]
    assert [] == seen[4]
    for k in (2, 3):
        where = alignment_to_params(align_face(faces[k][0].landmarks))
        np.testing.assert_allclose(alignment_to_params(seen[k][0].alignment), where, atol=1e-2)


@pytest.mark.parametrize(
    ("rate", "every", "reach", "search"),
    [
        (25, 1, SMOOTHING_RADIUS, DETECT_INTERVAL),
        (60, 1, SMOOTHING_RADIUS, DETECT_INTERVAL),
        (12, 1, 3, DETECT_INTERVAL),
        (25, 3, 2, 1),
        (25, 25, 0, 1),
    ],
)
def test_config_from_frame_rate(rate: int, every: int, reach: int, search: int) -> None:
    """Where frames are far apart fewer of them tell where a face is, and each is searched."""
    pace = TrackingConfig.from_frame_rate(Fraction(rate), frame_step=every)

    assert (reach, search) == (pace.smoothing_radius, pace.detect_interval)


def test_lookahead_is_bounded() -> None:
    """A long film needs no memory: what came out and some frames before it is let go."""
    taken: list[int] = []

    def feed() -> Iterator[Frame]:
        for number, shown in enumerate(greys([10] * 60)):
            taken.append(number)
            yield shown

    with FaceTracker(
        lambda: CannedDetector({10: [square(10)]}, []), selection=SelectAll()
    ) as follower:
        for number, watched in enumerate(follower.track(feed())):
            assert len(taken) <= number + 1 + TrackingConfig().lookahead + 12
            assert len(watched.get_state()["scenes"]) <= SMOOTHING_RADIUS + 1


def test_early_exit_stops_the_threads() -> None:
    """Closing the frames in the middle ends what runs ahead."""
    before = threading.active_count()
    with FaceTracker(lambda: CannedDetector({}, []), selection=SelectAll()) as follower:
        watched = follower.track(greys([10] * 100))
        next(watched)
        assert threading.active_count() > before
        watched.close()
    assert before == threading.active_count()


def test_cut_detection_ignores_motion(film: list[Image]) -> None:
    """Frames that follow each other are one shot; a film and its negative are two."""
    assert not any(
        is_cut(make_thumbnail(ArrayImage(image=one)), make_thumbnail(ArrayImage(image=two)))
        for one, two in pairwise(film)
    )
    assert is_cut(
        make_thumbnail(ArrayImage(image=film[0])), make_thumbnail(ArrayImage(image=255 - film[0]))
    )


def test_track_ends_when_the_face_leaves(film: list[Image]) -> None:
    """A face that fades without a cut is gone when it is gone."""
    empty = np.full_like(film[0], film[0].mean(axis=(0, 1)).astype(np.uint8))
    fading = [film[0], *(np.uint8(film[0] * (1 - k) + empty * k) for k in (0.3, 0.6, 0.9, 1.0))]

    found = track_with_state(fading)

    assert 1 == len(found[0][0].faces)
    assert 0 == len(found[-1][0].faces)
