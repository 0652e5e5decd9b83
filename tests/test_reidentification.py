"""Re-identification: lost faces come back to their tracks, and no track has two people.

The people are `square`s, so that a test says who is who; how similar they are is the test's choice.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    CannedDetector,
    NearbyDetector,
    RecordingReporter,
    ShapeEmbedder,
    gray_frames,
    read_frame_number,
    square,
    stamp_frame_number,
)

from faceswap_cli.conversion import analysis
from faceswap_cli.conversion.analysis import analyze_clip
from faceswap_cli.conversion.assignment import parse_assignments
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import FaceIndex
from faceswap_cli.core.lazy_image import ArrayImage, LazyImage
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import read_records
from faceswap_cli.faces.reidentification import (
    DIFFERENT_IDENTITY_COSINE,
    EMBED_INTERVAL,
    LATER_EMBEDDINGS,
    MAX_IDENTITIES,
    MAX_LINKS,
    RETURN_SECONDS,
    Identities,
    ReIdentifier,
)
from faceswap_cli.faces.selection import SelectAll, SelectionRule, SelectLargest
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.tracker import FaceTracker, OnlineTracker, TrackerState, TrackingConfig
from faceswap_cli.faces.types import Face
from faceswap_cli.stages.extract import extract
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.writer import VideoWriter

Faces = Mapping[int, Sequence[Face]]
"""Frame -> its faces."""
ONLY_PLACE = DIFFERENT_IDENTITY_COSINE + 0.02
"""A similarity that is enough for a face at the place where it was lost."""


def track(
    faces: Faces,
    count: int,
    *,
    similarities: Mapping[tuple[int, int], float] | None = None,
    selection: SelectionRule | None = None,
    detector: type[CannedDetector] = NearbyDetector,
    first: int = 0,
    state: TrackerState | None = None,
) -> list[tuple[dict[int, int], TrackerState]]:
    """Return track -> left edge of every frame's detected faces, and the state after it, by JSON.

    Args:
        faces: The faces of the frames.
        count: Number of frames, at 25 a second.
        similarities: As of `ShapeEmbedder`.
        selection: Every face if not given.
        detector: How faces are tracked from frame to frame.
        first: Number of the first frame.
        state: That after the frame before.
    """
    embedder = ShapeEmbedder(similarities)
    with FaceTracker(
        lambda: detector(faces, []), selection=selection or SelectAll(), embedder=embedder
    ) as tracker:
        results = tracker.track(gray_frames(range(first, count), first=first), state=state)
        return [
            (
                {
                    face.track: round(float(face.face.box[0]))
                    for face in tracked.faces
                    if not face.is_interpolated
                },
                json.loads(json.dumps(tracked.get_state())),
            )
            for tracked in results
        ]


def tracks_of(
    faces: Faces, count: int, similarities: Mapping[tuple[int, int], float] | None = None
) -> list[list[int]]:
    """Return the tracks of the faces of every frame, from left to right."""
    results = track(faces, count, similarities=similarities)
    return [sorted(lefts, key=lambda one: lefts[one]) for lefts, _ in results]


@pytest.mark.parametrize("missed", [1, 5, 6, 25, 50, 100])
def test_a_lost_face_returns_to_its_track(missed: int) -> None:
    """Lost for 0.04 to 4 s, and 40 px away when it returns: its track goes on.

    It had ended after 6 frames, and the face was track 1; at another place after any gap.
    """
    faces = {k: [square(10 if k < 20 else 50)] for k in range(140) if not 20 <= k < 20 + missed}

    results = tracks_of(faces, 140)

    assert [[0]] * 20 + [[]] * missed + [[0]] * (120 - missed) == results


def test_a_face_lost_for_too_long_is_a_new_track() -> None:
    """After `RETURN_SECONDS` it is not known any more: memory is bounded."""
    missed = int(25 * RETURN_SECONDS) + 1
    faces = {k: [square(10)] for k in range(180) if not 20 <= k < 20 + missed}

    assert [0] == tracks_of(faces, 180)[19]
    assert [1] == tracks_of(faces, 180)[179]


@pytest.mark.parametrize(
    ("seen", "missed"), [(20, 0), (11, 0), (20, 1), (20, 3), (20, 6), (20, 50)]
)
@pytest.mark.parametrize("cosine", [0.0, DIFFERENT_IDENTITY_COSINE - 0.01])
def test_another_person_at_the_same_place_is_another_track(
    seen: int, missed: int, cosine: float
) -> None:
    """Someone else appears where a face was lost: a new track.

    Up to 5 frames later it had been the same one.
    """
    gap = range(seen, seen + missed)
    faces = {k: [square(10, person=1 if k < seen else 2)] for k in range(90) if k not in gap}

    class Searching(CannedDetector):
        def track(self, view: object, faces: Sequence[Face]) -> list[Face]:
            """Lose every face: each is found by a search."""
            return []

    results = track(faces, 90, similarities={(1, 2): cosine}, detector=Searching)

    for k, (lefts, _) in enumerate(results):
        assert ([] if k in gap else [0] if k < seen else [1]) == list(lefts)


@pytest.mark.parametrize(("left", "expected"), [(10, 0), (20, 0), (60, 1)])
def test_place_decides_where_the_face_does_not(left: float, expected: int) -> None:
    """A face that is neither clearly the same nor another one is known where it was lost."""
    faces = {k: [square(10)] for k in range(20)} | {
        k: [square(left, person=2)] for k in range(45, 49)
    }
    similarities = {(1, 2): ONLY_PLACE}
    assert [expected] == tracks_of(faces, 49, similarities)[46]


@pytest.mark.parametrize(("left", "side"), [(10, 90), (10, 18), (900, 40)])
def test_an_impossible_place_is_another_track(left: float, side: float) -> None:
    """A face of a far other size, or farther than it can have gone, is not taken for the lost one.

    0.2 s after the loss; 2 s later it may be there.
    """
    faces = {k: [square(10)] for k in range(20)} | {k: [square(left, side)] for k in range(25, 30)}
    assert [1] == tracks_of(faces, 30)[27]
    later = {k: [square(10)] for k in range(20)} | {k: [square(900)] for k in range(75, 80)}
    assert [0] == tracks_of(later, 80)[77]


def test_an_ambiguous_return_is_a_new_track() -> None:
    """Two people look alike, and are lost: one who returns between them is neither.

    Where the faces were lost, each comes back to its own track.
    """
    alike = {(1, 2): 0.95}
    both = {k: [square(10), square(110, person=2)] for k in range(20)}
    between = both | {k: [square(60)] for k in range(50, 60)}
    back = both | {k: [square(12), square(108, person=2)] for k in range(50, 60)}

    assert [2] == tracks_of(between, 60, alike)[55]
    assert [0, 1] == tracks_of(back, 60, alike)[55]


def test_crossing_people_keep_their_tracks() -> None:
    """Two people cross; the one behind is not detected for 5 frames.

    The one in front had come out of it with the other's track, being where that face was lost, and
    the one behind as track 2.
    """
    front = {k: square(10 + 8 * k) for k in range(30)}
    behind = {k: square(250 - 8 * k, person=2) for k in range(30) if not 13 <= k < 18}
    faces = {k: [front[k], *([behind[k]] if k in behind else [])] for k in range(30)}

    for k, (lefts, _) in enumerate(track(faces, 30, detector=CannedDetector)):
        assert {0: 10 + 8 * k} | ({1: 250 - 8 * k} if k in behind else {}) == lefts


class OverlapDetector(CannedDetector):
    """Tracks a face to any other one that touches it."""

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return the frame's faces that touch one of `faces`."""
        present = self.faces_in(view.to_array())
        return [one for one in present if any(abs(one.box[0] - face.box[0]) < 39 for face in faces)]


def test_a_track_that_slides_to_another_face_is_corrected() -> None:
    """Someone passes close in front of a face, and takes its track along: both get their own back.

    The passer-by had kept track 0, and the face behind was track 2 for good.
    """
    passing = {k: 16 * k - 252 for k in range(10, 36)}
    hidden = range(20, 26)
    faces = {k: [] if k in hidden else [square(70)] for k in range(50)}
    for k, left in passing.items():
        faces[k].append(square(left, person=2))

    results = [lefts for lefts, _ in track(faces, 50, detector=OverlapDetector)]

    assert [{0: 70, 1: passing[k]} for k in range(10, 20)] == results[10:20]
    # Its place alone cannot tell: it is where the other one was.
    assert [{0: passing[k]} for k in range(20, 24)] == results[20:24]
    assert [{1: passing[k]} for k in (24, 25)] == results[24:26]
    assert [{0: 70, 1: passing[k]} for k in range(26, 36)] == results[26:36]
    assert [{0: 70}] * 14 == results[36:]


@pytest.mark.parametrize("frames", LATER_EMBEDDINGS)
def test_a_badly_seen_face_is_recognized_later(frames: int) -> None:
    """It returns in profile, say, and is recognized when it has turned back to the camera.

    From there on it is on its track: with the frames before that are not out yet.
    """
    seen_well = 50 + frames - 1
    faces = {k: [square(10)] for k in range(20)} | {
        k: [square(60, person=1 if k >= seen_well else 2)] for k in range(50, 100)
    }
    results = tracks_of(faces, 100, {(1, 2): 0.25})

    assert [[0]] * 20 == results[:20]
    assert [[0]] * (100 - seen_well) == results[seen_well:]
    recognized = next(k for k in range(50, 100) if results[k] == [0])
    assert max(50, seen_well - TrackingConfig().lookahead) == recognized
    assert [[1]] * (recognized - 50) == results[50:recognized]


@pytest.mark.parametrize("stop", [2, 8, 19, 20, 33, 40, 49, 50, 52, 61, 62, 66, 67, 68, 73])
def test_resumed_in_a_loss_it_gives_the_same(stop: int) -> None:
    """Resumed after any frame, also before a late recognition, it gives exactly the same."""
    faces: dict[int, list[Face]] = {
        k: [square(10 + k), *([square(100 - 2 * k, person=3)] if k < 35 else [])] for k in range(20)
    }
    faces |= {k: [square(120, person=2)] for k in range(50, 61)}
    faces |= {k: [square(120), square(20, person=3)] for k in range(61, 90)}
    for k in (2, 66, 67):
        del faces[k][0]

    whole = track(faces, 90)
    again = track(faces, 90, first=stop + 1, state=whole[stop][1])

    assert whole[stop + 1 :] == again
    assert {0: 120, 1: 20} == whole[-1][0]


@pytest.mark.parametrize("stop", [None, 40, 60, 90])
def test_the_bystander_is_not_selected_while_the_main_person_is_away(stop: int | None) -> None:
    """`largest`, tracker and selection together: the main person is not found for 2 s.

    The bystander had been selected in those 50 frames and in all after them: the person came back
    as another track, and was not half as large again as the bystander.
    """
    main, bystander = square(10, 44), square(100, 38, person=2)
    faces = {k: [bystander] if 50 <= k < 100 else [main, bystander] for k in range(150)}

    results = track(faces, 150, selection=SelectLargest())
    if stop is not None:
        results[stop + 1 :] = track(
            faces, 150, selection=SelectLargest(), first=stop + 1, state=results[stop][1]
        )

    assert [[0]] * 50 + [[]] * 50 + [[0]] * 50 == [list(lefts) for lefts, _ in results]


def half_changed_frames(levels: Sequence[int]) -> Iterator[Frame]:
    """Yield frames of which the left half has a gray level, and the right half never changes."""
    for frame in gray_frames(levels):
        image = frame.image.copy()
        image[:, 16:] = 50
        yield replace(frame, view=ArrayImage(image=image))


@pytest.mark.parametrize(("person", "during", "after"), [(2, [1], [0, 1]), (3, [2], [2, 3])])
def test_a_change_of_half_the_image_is_no_cut_while_a_face_stays(
    person: int, during: list[int], after: list[int]
) -> None:
    """The main person leaves a half of the image at once, and the other one stays: one shot.

    It had been three, with the bystander selected in the second one. If the other one is someone
    else at the same place, it still is a cut.
    """
    levels = [*range(20), *range(180, 200), *range(20, 40)]
    faces = {k: [square(10, 44), square(100, person=2)] for k in range(20)}
    faces |= {k: [square(100, person=person)] for k in range(180, 200)}
    faces |= {k: [square(10, 44), square(100, person=person)] for k in range(20, 40)}
    with FaceTracker(
        lambda: NearbyDetector(faces, []), selection=SelectAll(), embedder=ShapeEmbedder()
    ) as tracker:
        results = [
            sorted(face.track for face in tracked.faces)
            for tracked in tracker.track(half_changed_frames(levels))
        ]
    assert [[0, 1]] * 20 + [during] * 20 + [after] * 20 == results


def test_still_images_are_not_embedded() -> None:
    """Each is a shot of its own, so no face can return."""
    embedder = ShapeEmbedder()
    config = TrackingConfig.from_frame_rate(Fraction(25), is_continuous=False)
    faces = {k: [square(10)] for k in range(10)}
    with FaceTracker(
        lambda: CannedDetector(faces, []), selection=SelectAll(), embedder=embedder
    ) as tracker:
        results = [
            [face.track for face in tracked.faces]
            for tracked in tracker.track(gray_frames(range(10)), config=config)
        ]
    assert [[k] for k in range(10)] == results
    assert 0 == embedder.count


def test_few_faces_are_embedded() -> None:
    """A face that is tracked without a break costs one embedding every 2 s."""
    embedder = ShapeEmbedder()
    with FaceTracker(
        lambda: CannedDetector({10: [square(10)]}, []), selection=SelectAll(), embedder=embedder
    ) as tracker:
        assert 200 == sum(1 for _ in tracker.track(gray_frames([10] * 200)))
    assert 1 + len(LATER_EMBEDDINGS) + 200 // EMBED_INTERVAL == embedder.count


@pytest.mark.slow
def test_what_is_remembered_is_bounded() -> None:
    """However many faces flash up, the state keeps its size."""
    identities, count = Identities(links=dict.fromkeys(range(MAX_LINKS + 9), 0)), 0
    reidentifier = ReIdentifier(ShapeEmbedder(), frame_rate=Fraction(25), max_missed=5)
    for index in range(30):
        faces = {count + k: square(2000 * k, person=1 + (index + k) % 8) for k in range(16)}
        identified = reidentifier.update(
            identities,
            faces if index % 2 else {k: square(90 * k, 5 + 30 * (k % 2)) for k in faces},
            view=ArrayImage(image=np.zeros((8, 8, 3), np.uint8)),
            frame_index=index,
            found=list(faces),
            track_count=count,
        )
        identities, count = identified.identities, identified.track_count
    assert len(identities.tracks) <= MAX_IDENTITIES + 16
    assert MAX_LINKS == len(identities.links)
    assert list(identities.to_json()) == ["tracks", "links"]


def test_the_online_tracker_gives_faces_back_too() -> None:
    """It has the same tracks: for measuring, the same person must be measured."""
    faces = {k: [square(10)] for k in range(60) if not 20 <= k < 45}
    online = OnlineTracker(NearbyDetector(faces, []), embedder=ShapeEmbedder())
    tracks = [list(online.update(frame.image).faces) for frame in gray_frames(range(60))]
    assert [[0]] * 20 + [[]] * 25 + [[0]] * 15 == tracks


def test_a_head_has_one_face() -> None:
    """What a search finds in the hair of a tracked face, overlapping it by a third, is none.

    It had become a track of its own in 32 of 105 frames of a street scene.
    """

    class Imagining(NearbyDetector):
        def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
            """Add a face above each."""
            found = super().detect(image)
            return [*found, *(move_up(one, 27) for one in found)]

    def move_up(face: Face, pixels: float) -> Face:
        down = np.float32([0, -pixels])
        return replace(face, landmarks=face.landmarks + down, box=face.box + np.tile(down, 2))

    faces = {k: [square(10)] for k in range(3, 30)}
    assert [1] * 26 == [len(lefts) for lefts, _ in track(faces, 30, detector=Imagining)[4:]]


@pytest.fixture(scope="module")
def two_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a video of 110 frames with their numbers; `two_faces` knows who is in them."""
    path = tmp_path_factory.mktemp("reidentification") / "two.mp4"
    with VideoWriter(path, size=(256, 96), rate=Fraction(25)) as video:
        for index in range(110):
            image = stamp_frame_number(np.full((96, 256, 3), 60, np.uint8), index)
            video.write(image, Fraction(index, 25))
    return path


AWAY = range(45, 95)


def two_faces(image: Image) -> list[Face]:
    """Return the main person, who is not found in the frames `AWAY`, and a bystander."""
    main, bystander = square(10, 60), square(150, 55, person=2)
    return [bystander] if read_frame_number(image) in AWAY else [main, bystander]


class TwoPeopleDetector(NearbyDetector):
    """Finds `two_faces`."""

    def __init__(self) -> None:
        super().__init__({}, [])

    def faces_in(self, image: Image) -> list[Face]:
        """Return the faces of a frame."""
        return two_faces(image)


def index_faces(path: Path, folder: Path, report: RecordingReporter) -> FaceIndex:
    """Return the faces of a clip as `convert` finds them, with the default selection."""
    return analyze_clip(
        Clip.open(path),
        parse_assignments([], to=None, identities=["bo"]),
        sets=[],
        folder=folder,
        report=report,
        note=report.note,
    )


@pytest.mark.slow
def test_extract_and_convert_leave_the_bystander_alone(
    two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The main person is not found for 2 s: in these frames neither stage has a face.

    Both had taken the bystander, in those 50 frames and in the 15 after them.
    """
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {"litert": TwoPeopleDetector})
    folder = SetFolder(root=tmp_path / "set")
    extract(
        two_people,
        folder=folder,
        settings=ExtractSettings(size_px=16),
        report=RecordingReporter(),
        detector=TwoPeopleDetector,
    )
    extracted = list(read_records(folder.records))
    face_index = index_faces(two_people, tmp_path / "index", RecordingReporter())
    to_swap = [(frame, task) for frame, tasks in face_index.iter_tasks(["bo"]) for task in tasks]

    expected = [k for k in range(110) if k not in AWAY]
    assert expected == [record.frame for record in extracted]
    assert expected == [frame for frame, _ in to_swap]
    for landmarks in [one.landmarks for one in extracted] + [one.landmarks for _, one in to_swap]:
        assert landmarks[:, 0].max() < 80
    assert {0} == {record.track for record in extracted} == {task.track for _, task in to_swap}


@pytest.mark.slow
def test_faces_of_an_earlier_tracker_are_not_mixed_with_new_ones(
    two_people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an interrupted `convert` of another version found is found again.

    It had been taken as it was, and continued.
    """
    monkeypatch.setattr(analysis, "LOCATION_DETECTORS", {"litert": TwoPeopleDetector})
    notes = []
    for version in (analysis.TRACKER_VERSION, analysis.TRACKER_VERSION, 99):
        monkeypatch.setattr(analysis, "TRACKER_VERSION", version)
        report = RecordingReporter()
        index_faces(two_people, tmp_path, report)
        notes.append(report.notes)
    assert [[], ["the faces are known from an earlier run"], []] == notes
