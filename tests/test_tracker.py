"""Tracked faces are those that a search in every frame finds, with a tenth of the searches."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from fakes import (
    CannedDetector,
    NearbyDetector,
    PartialImage,
    gray_frames,
    make_frame,
    make_frames,
    square,
)

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.reidentification import LATER_EMBEDDINGS
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


class CountingDetector(LiteRTDetector):
    """LiteRT's detector with a count of its searches."""

    searches = 0

    def detect_rois(self, image: Image) -> list[RoI]:
        """Count the search."""
        CountingDetector.searches += 1
        return super().detect_rois(image)


def track_all(
    levels: Sequence[int],
    faces: Mapping[int, Sequence[Face]],
    *,
    config: TrackingConfig | None = None,
    searched: list[int] | None = None,
) -> list[list[tuple[int, bool]]]:
    """Return track and `is_interpolated` of every face of every frame."""
    searches: list[int] = [] if searched is None else searched
    with FaceTracker(lambda: CannedDetector(faces, searches), selection=SelectAll()) as tracker:
        return [
            sorted((face.track, face.is_interpolated) for face in tracked.faces)
            for tracked in tracker.track(gray_frames(levels), config=config)
        ]


@pytest.fixture(scope="module")
def clip() -> list[Image]:
    """Images of a second of a synthetic person in motion."""
    head = HeadModel.from_person(CAST["ada"])
    return [render_frame(head, scene, 192).image for scene in animate(2, seconds=1).scenes]


def track_with_state(
    images: Sequence[Image],
    *,
    state: TrackerState | None = None,
    config: TrackingConfig | None = None,
) -> list[tuple[TrackedFrame, TrackerState]]:
    """Return each tracked frame, and the state after it, passed through JSON."""
    CountingDetector.searches = 0
    frames = make_frames(images)
    with FaceTracker(CountingDetector, selection=SelectAll()) as tracker:
        results = tracker.track(frames, config=config, state=state)
        return [(tracked, json.loads(json.dumps(tracked.get_state()))) for tracked in results]


@pytest.mark.slow
def test_frames_are_decoded_only_where_requested(clip: list[Image]) -> None:
    """Pixels outside the areas that the tracker requests make no difference."""
    clip = [np.pad(image, ((60, 60), (90, 90), (0, 0)), mode="edge") for image in clip]

    with FaceTracker(LiteRTDetector, selection=SelectAll()) as tracker:
        whole = list(tracker.track(make_frames(clip)))
        partial = (make_frame(PartialImage(image=image), k) for k, image in enumerate(clip))
        from_partial = list(tracker.track(partial))

    for one, other in zip(whole, from_partial, strict=True):
        for face, again in zip(one.faces, other.faces, strict=True):
            np.testing.assert_array_equal(face.face.landmarks, again.face.landmarks)
            np.testing.assert_array_equal(face.alignment.to_unit, again.alignment.to_unit)
            area = face.alignment.source_area()
            crops = [
                face.alignment.crop(frame.view.to_partial_array(area), 64)
                for frame in (one.frame, other.frame)
            ]
            np.testing.assert_array_equal(*crops)


def test_predicted_areas_are_prefetched() -> None:
    """The search converts ahead the areas that tracking and cropping of a still face then read."""
    image = render_frame(HeadModel.from_person(CAST["ada"]), SceneParams(), 192).image
    image = np.pad(image, ((60, 60), (90, 90), (0, 0)))
    views = [RecordingImage(image=image) for _ in range(30)]

    with FaceTracker(LiteRTDetector, selection=SelectAll()) as tracker:
        for tracked in tracker.track(make_frame(view, k) for k, view in enumerate(views)):
            [face] = tracked.faces
            tracked.frame.view.to_partial_array(face.alignment.source_area())

    # The first frames are searched before any face is tracked.
    for index, view in enumerate(views[2 * PREFETCH_FRAMES + 4 :], 2 * PREFETCH_FRAMES + 4):
        ready, *requested = view.areas
        is_embedded = index + 1 in LATER_EMBEDDINGS
        assert len(requested) == 2 + is_embedded
        assert all([] == area.subtract(ready) for area in requested)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordingImage(ArrayImage):
    """An image that records the requested areas."""

    areas: list[Rect] = field(default_factory=list)

    def to_partial_array(self, area: Rect) -> Image:
        """Record the area, and return the image."""
        self.areas.append(area)
        return self.image


@pytest.mark.slow
def test_tracking_agrees_with_detection(clip: list[Image]) -> None:
    """Landmarks are those of a search to a hundredth of the face, with a tenth of the searches."""
    results = track_with_state(clip)
    assert -(-len(clip) // DETECT_INTERVAL) == CountingDetector.searches

    with LiteRTDetector() as detector:
        for image, (tracked, _) in zip(clip, results, strict=True):
            [detected] = detector.detect(image)
            [smoothed] = tracked.faces
            assert image is tracked.frame.image
            errors = np.linalg.norm(smoothed.face.landmarks - detected.landmarks, axis=1)
            assert errors.mean() < 0.01 * np.sqrt(smoothed.face.area_px)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [0, 3, 9, 10, 17])
def test_resumed_tracker_matches_an_uninterrupted_one(clip: list[Image], stop: int) -> None:
    """Resumed after any frame with its state, the tracker gives exactly the same faces."""
    whole = track_with_state(clip)

    again = track_with_state(clip[stop + 1 :], state=whole[stop][1])

    for (one, before), (two, after) in zip(whole[stop + 1 :], again, strict=True):
        assert before == after
        assert len(one.faces) == len(two.faces) == 1
        for a, b in zip(one.faces, two.faces, strict=True):
            np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)
            np.testing.assert_array_equal(a.alignment.to_unit, b.alignment.to_unit)
            assert (a.track, a.face.score, a.face.pose) == (b.track, b.face.score, b.face.pose)


def test_resumed_tracker_keeps_its_selection() -> None:
    """The face selected at first stays selected, though the other grew before the stop."""
    faces = {
        k: [square(10, 40 if k < 5 else 36), square(100, 36 if k < 5 else 40)] for k in range(30)
    }

    def select(levels: Sequence[int], state: TrackerState | None) -> list[tuple[int, TrackerState]]:
        with FaceTracker(lambda: CannedDetector(faces, []), selection=SelectLargest()) as tracker:
            return [
                (tracked.faces[0].track, json.loads(json.dumps(tracked.get_state())))
                for tracked in tracker.track(gray_frames(levels, first=levels[0]), state=state)
            ]

    whole = select(range(30), None)
    again = select(range(13, 30), whole[12][1])

    [first] = {track for track, _ in whole}
    assert [first] * 17 == [track for track, _ in again]
    assert whole[13:] == again


@pytest.mark.slow
def test_online_tracker_matches_face_tracker(clip: list[Image]) -> None:
    """It gives the same landmarks, at once and without smoothing."""
    results = track_with_state(clip)
    with LiteRTDetector() as detector:
        online = OnlineTracker(detector)
        for image, (tracked, _) in zip(clip, results, strict=True):
            [face] = online.update(image).faces.values()
            np.testing.assert_array_equal(tracked.faces[0].face.landmarks, face.landmarks)


def test_tracked_faces_are_smoothed(clip: list[Image]) -> None:
    """Alignments jitter less than those of the landmarks, and stay near them."""
    faces = [tracked.faces[0] for tracked, _ in track_with_state(clip)]
    raw = np.array([alignment_to_params(align_face(face.face.landmarks)) for face in faces])
    smoothed = np.array([alignment_to_params(face.alignment) for face in faces])

    def jitter(params: np.ndarray) -> np.ndarray:
        return np.abs(np.diff(params, n=2, axis=0)).mean(axis=0)

    assert (jitter(smoothed) < 0.8 * jitter(raw)).all()
    assert np.abs(smoothed - raw)[:, 2:].max() < 3


def test_two_faces_keep_their_tracks() -> None:
    """In any order of detection; the one missed for a while is interpolated, and marked."""
    both = {k: [square(10 + k), square(100 - k)][:: 1 if k % 2 else -1] for k in range(30)}
    both |= {k: [square(10 + k)] for k in range(12, 12 + SMOOTHING_RADIUS - 1)}

    results = track_all(range(30), both)

    for k, faces in enumerate(results):
        is_gap = 12 <= k < 12 + SMOOTHING_RADIUS - 1
        assert [0, 1] == [track for track, _ in faces]
        assert is_gap == any(is_interpolated for _, is_interpolated in faces)


def test_long_gap_is_not_interpolated() -> None:
    """A face comes back to its track; where it was missing for long, nothing is made up.

    A gap of `SMOOTHING_RADIUS` frames had ended the track: 0, then 1.
    """
    faces = {k: [square(10)] for k in range(30) if not 12 <= k < 12 + SMOOTHING_RADIUS}

    results = track_all(range(30), faces)

    assert [] == [
        k for k, one in enumerate(results) if any(interpolated for _, interpolated in one)
    ]
    assert [[(0, False)]] * 12 + [[]] * SMOOTHING_RADIUS + [[(0, False)]] * (
        18 - SMOOTHING_RADIUS
    ) == results


def test_a_track_ends_at_a_cut() -> None:
    """In the next shot even a face at the same position is another, and searched for at once."""
    levels = [*range(15), *range(100, 115)]
    searched: list[int] = []

    results = track_all(levels, {level: [square(10)] for level in levels}, searched=searched)

    assert [[(0, False)]] * 15 + [[(1, False)]] * 15 == results
    assert [0, 10, 100, 105] == sorted(searched)


def test_detection_adds_faces_and_moves_none() -> None:
    """A tracked face stays where tracking found it, though a search finds it a little off."""
    detected = square(14)

    class ShiftedDetector(CannedDetector):
        def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
            return [detected, square(100)]

        def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
            return [square(10)] if len(faces) == 1 else [square(10), square(100)]

    with FaceTracker(lambda: ShiftedDetector({}, []), selection=SelectAll()) as tracker:
        results = [
            tracked.faces for tracked in tracker.track(gray_frames(range(DETECT_INTERVAL + 3)))
        ]

    assert 14 == pytest.approx(results[0][0].face.box[0], abs=0.5)
    for faces in results[1:]:
        assert [0, 1] == sorted(face.track for face in faces)
        first = next(face for face in faces if face.track == 0)
        assert 10 == pytest.approx(first.face.box[0], abs=0.5)


def test_lost_face_is_searched_while_its_track_lives() -> None:
    """It is searched for in every frame of a short gap, and no longer."""
    both = {k: [square(10), square(100)] for k in range(3)}
    searched: list[int] = []

    track_all(range(20), both | {k: [square(10)] for k in range(3, 20)}, searched=searched)

    assert sorted([0, 10, *range(3, 3 + SMOOTHING_RADIUS)]) == sorted(searched)


def test_every_empty_frame_is_searched() -> None:
    """A new face is found at once if no face is tracked."""
    searched: list[int] = []

    results = track_all(range(25), {k: [square(10)] for k in range(13, 25)}, searched=searched)

    assert list(range(14)) == sorted(searched)[:14]
    assert [[]] * 13 + [[(0, False)]] * 12 == results


@pytest.mark.slow
@pytest.mark.parametrize("first", [11, 15, 19, 20])
def test_new_face_is_backtracked(first: int) -> None:
    """A second face, found by the search in frame 20, is tracked back to its first frame.

    Resumed after any frame, the tracker gives the same.
    """
    faces = {k: [square(10 + k), *([square(100 - 2 * k)] if k >= first else [])] for k in range(30)}

    def track(
        levels: Sequence[int], state: TrackerState | None
    ) -> list[tuple[list[float], TrackerState]]:
        with FaceTracker(lambda: NearbyDetector(faces, []), selection=SelectAll()) as tracker:
            return [
                (
                    [x for one in tracked.faces for x in (one.track, *one.face.box.tolist())],
                    json.loads(json.dumps(tracked.get_state())),
                )
                for tracked in tracker.track(gray_frames(levels), state=state)
            ]

    whole = track(range(30), None)

    assert [1] * first + [2] * (30 - first) == [len(numbers) // 5 for numbers, _ in whole]
    for stop in (first - 6, first - 1, first, 18, 21):
        assert whole[stop + 1 :] == track(range(stop + 1, 30), whole[stop][1])


def test_backtracking_stops_at_a_cut() -> None:
    """A face found in a shot's first frame is not tracked back into the shot before."""

    class HalfBlindDetector(NearbyDetector):
        def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
            return super().detect(image)[: 1 if image[0, 0, 0] < 40 else 2]

    faces = {k: [square(10), square(100)] for k in (5, 6, 7, 40, 41)}
    with FaceTracker(lambda: HalfBlindDetector(faces, []), selection=SelectAll()) as tracker:
        counts = [len(tracked.faces) for tracked in tracker.track(gray_frames(sorted(faces)))]

    assert [1, 1, 1, 2, 2] == counts


@pytest.mark.slow
def test_entering_face_is_backtracked_to_first_detection(
    clip: list[Image],
) -> None:
    """A face that enters between two searches, while another is tracked."""
    side = clip[0].shape[0]
    images = []
    for k, image in enumerate(clip[:24]):
        wide = np.full((side, 3 * side, 3), 120, np.uint8)
        wide[:, :side] = image
        left = 3 * side - 20 * max(0, k - 8)
        wide[:, left : left + side] = clip[k + 1][:, : 3 * side - left]
        images.append(wide)

    counts = [len(tracked.faces) for tracked, _ in track_with_state(images)]

    with LiteRTDetector() as detector:
        detected = [len(detector.detect(image)) for image in images]
    assert 2 == detected[-1]
    assert counts.index(2) % DETECT_INTERVAL
    assert counts.index(2) <= detected.index(2)
    assert {2} == set(counts[counts.index(2) :])


def test_still_images_are_independent() -> None:
    """In a sequence of still images each face has its own track, and none is interpolated."""
    faces = {k: [square(10 + 3 * (k % 2))] for k in range(10) if k != 4}

    config = TrackingConfig.from_frame_rate(Fraction(25), is_continuous=False)
    with FaceTracker(lambda: CannedDetector(faces, []), selection=SelectAll()) as tracker:
        results = [
            tracked.faces for tracked in tracker.track(gray_frames(range(10)), config=config)
        ]

    assert [0, 1, 2, 3, 4, 5, 6, 7, 8] == [face.track for one in results for face in one]
    assert [] == results[4]
    for k in (2, 3):
        expected = alignment_to_params(align_face(faces[k][0].landmarks))
        np.testing.assert_allclose(
            alignment_to_params(results[k][0].alignment), expected, atol=1e-2
        )


@pytest.mark.parametrize(
    ("rate", "frame_step", "radius", "interval"),
    [
        (25, 1, SMOOTHING_RADIUS, DETECT_INTERVAL),
        (60, 1, SMOOTHING_RADIUS, DETECT_INTERVAL),
        (12, 1, 3, DETECT_INTERVAL),
        (25, 3, 2, 1),
        (25, 25, 0, 1),
    ],
)
def test_config_from_frame_rate(rate: int, frame_step: int, radius: int, interval: int) -> None:
    """With frames far apart fewer take part in smoothing; with gaps each is searched."""
    config = TrackingConfig.from_frame_rate(Fraction(rate), frame_step=frame_step)

    assert (radius, interval) == (config.smoothing_radius, config.detect_interval)


def test_lookahead_is_bounded() -> None:
    """Memory does not grow with the clip: few frames are read ahead, few are in the state."""
    taken: list[int] = []

    def read() -> Iterator[Frame]:
        for index, frame in enumerate(gray_frames([10] * 60)):
            taken.append(index)
            yield frame

    with FaceTracker(
        lambda: CannedDetector({10: [square(10)]}, []), selection=SelectAll()
    ) as tracker:
        for index, tracked in enumerate(tracker.track(read())):
            assert len(taken) <= index + 1 + TrackingConfig().lookahead + 12
            assert len(tracked.get_state()["scenes"]) <= SMOOTHING_RADIUS + 1


def test_early_exit_stops_the_threads() -> None:
    """Closing the generator early ends the prefetch threads."""
    before = threading.active_count()
    with FaceTracker(lambda: CannedDetector({}, []), selection=SelectAll()) as tracker:
        results = tracker.track(gray_frames([10] * 100))
        next(results)
        assert threading.active_count() > before
        results.close()
    assert before == threading.active_count()


def test_cut_detection_ignores_motion(clip: list[Image]) -> None:
    """Consecutive frames are of one shot; a frame and its negative are of two."""
    assert not any(
        is_cut(make_thumbnail(ArrayImage(image=one)), make_thumbnail(ArrayImage(image=two)))
        for one, two in pairwise(clip)
    )
    assert is_cut(
        make_thumbnail(ArrayImage(image=clip[0])), make_thumbnail(ArrayImage(image=255 - clip[0]))
    )


def test_track_ends_when_the_face_leaves(clip: list[Image]) -> None:
    """The track of a face that fades out without a cut ends."""
    empty = np.full_like(clip[0], clip[0].mean(axis=(0, 1)).astype(np.uint8))
    fading = [clip[0], *(np.uint8(clip[0] * (1 - k) + empty * k) for k in (0.3, 0.6, 0.9, 1.0))]

    results = track_with_state(fading)

    assert 1 == len(results[0][0].faces)
    assert 0 == len(results[-1][0].faces)
