"""Selection of faces: parsing, and selections that stay with their face."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.embedding import SAME_IDENTITY_COSINE, Embedding, SFace
from faceswap_cli.faces.selection import (
    EMBED_FIRST_FRAMES,
    EMBED_INTERVAL,
    HOLD_SECONDS,
    MAX_EMBEDDINGS,
    SWITCH_SECONDS,
    SelectAll,
    SelectionRule,
    SelectLargest,
    SelectMatching,
    SelectTrack,
    parse_selection,
)
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import Face
from faceswap_cli.synthetic import CAST, HeadModel, SceneParams, render_frame
from faceswap_cli.video.frame import Frame


def make_frame(image: Image, *, time: float = 0) -> Frame:
    """Return a frame."""
    return Frame(index=0, time=Fraction(time), view=ArrayImage(image=image))


BLANK = make_frame(np.zeros((8, 8, 3), np.uint8))


@pytest.fixture(scope="module")
def detector() -> Iterator[LiteRTDetector]:
    """An open detector."""
    with LiteRTDetector() as opened:
        yield opened


def face(track: int, side: float, *, x: float = 0.0) -> SmoothedFace:
    """Return a square face of a track."""
    spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
    detected = Face(
        box=np.float32([x, 0, x + side, side]),
        landmarks=np.float32(spread * side + [x, 0]),
        score=1.0,
        blendshapes=(0.0,) * 52,
        pose=(0.0, 0.0, 0.0),
    )
    return SmoothedFace(face=detected, alignment=align_face(detected.landmarks), track=track)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("largest", SelectLargest()),
        ("all", SelectAll()),
        ("track 0", SelectTrack(track=0)),
        ("track:12", SelectTrack(track=12)),
        ("like photo.jpg", SelectMatching(photo=Path("photo.jpg"))),
        ("match:my own photo: 2.jpg", SelectMatching(photo=Path("my own photo: 2.jpg"))),
        ("  match  é.png ", SelectMatching(photo=Path("é.png"))),
    ],
)
def test_parse_selection(text: str, rule: SelectionRule) -> None:
    """Each form, with a space or a colon."""
    assert rule == parse_selection(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("largst", 'did you mean "largest"?'),
        ("track", 'a track is named by its number: "track 0"'),
        ("track -1", 'a track is named by its number: "track 0"'),
        ("match", 'name a photo of the person: "match photo.jpg"'),
        ("like", 'name a photo of the person: "match photo.jpg"'),
        ("", "there is: all, largest, match PHOTO, track N"),
    ],
)
def test_parse_selection_rejects_bad_text(text: str, hint: str) -> None:
    """The error names the text, and hints at what is meant or missing."""
    with pytest.raises(ConfigurationError, match="no selection of faces called") as caught:
        parse_selection(text)
    assert hint == caught.value.hint


def test_select_all_and_select_track(detector: LiteRTDetector) -> None:
    """All faces come largest first; a track comes alone."""
    faces = [face(3, 10), face(1, 30), face(2, 20)]

    every_face = SelectAll().create_selector(detector).select(BLANK, faces)
    third = SelectTrack(track=3).create_selector(detector).select(BLANK, faces)

    assert [1, 2, 3] == [one.track for one in every_face]
    assert [3] == [one.track for one in third]
    assert [] == SelectTrack(track=9).create_selector(detector).select(BLANK, faces)


Sides = Mapping[int, float]
"""Track -> side of its face, px."""


def select_largest(shots: Sequence[Sequence[Sides]], *, frame_rate: int = 10) -> list[list[int]]:
    """Return the selected tracks of every frame; passes the state through JSON in between.

    Args:
        shots: The faces of each frame of each shot.
        frame_rate: Frames a second.
    """
    with LiteRTDetector() as detector:
        rule = SelectLargest()
        selector = rule.create_selector(detector)
        selected = []
        frames = [(shot, sides) for shot, frames in enumerate(shots) for sides in frames]
        for index, (shot, sides) in enumerate(frames):
            state = json.loads(json.dumps(selector.state_dict()))
            selector = rule.create_selector(detector)
            selector.load_state_dict(state)
            frame = replace(BLANK, index=index, time=Fraction(index, frame_rate))
            faces = [replace(face(track, side), shot=shot) for track, side in sides.items()]
            selected.append([one.track for one in selector.select(frame, faces)])
    return selected


def test_largest_selection_is_stable() -> None:
    """The face that was larger first stays, though the other becomes a little larger.

    It had been given up for one 1.5 times its area in a single frame: 0 0 0 1.
    """
    sides = [{0: a, 1: b} for a, b in [(40, 38), (38, 40), (40, 46), (40, 60), (40, 46)]]
    assert [[0]] * 5 == select_largest([sides])
    assert [[]] == select_largest([[{}]])


@pytest.mark.parametrize("side", [20, 38, 44])
@pytest.mark.parametrize("seconds", [0.1, 2, 4.9])
def test_nobody_is_selected_while_the_main_face_is_away(seconds: float, side: float) -> None:
    """In view for 2 s, away, and back: its track or none is selected, and never the bystander's.

    The bystander had been selected in every frame of the absence, and kept if it was larger.
    """
    both, alone = {0: 40.0, 1: side if side < 40 else 38}, {1: side}
    away = round(10 * seconds)

    selected = select_largest([[both] * 20 + [alone] * away + [both] * 10])

    assert [[0]] * 20 + [[]] * away + [[0]] * 10 == selected


def test_a_main_face_that_stays_away_is_given_up() -> None:
    """After `HOLD_SECONDS` the largest face in view becomes the main one.

    A face seen for a moment only, an error perhaps, is given up at once.
    """
    both, alone = {0: 40.0, 1: 20.0, 2: 30.0}, {1: 20.0, 2: 30.0}
    held = round(10 * HOLD_SECONDS)
    assert [[0]] * 20 + [[]] * held + [[2]] * 10 == select_largest(
        [[both] * 20 + [alone] * (held + 10)]
    )
    assert [[0], [2], [2]] == select_largest([[both, alone, alone]])
    assert [[0]] * 2 + [[]] * 4 + [[2]] * 2 == select_largest([[both] * 2 + [alone] * 6])


@pytest.mark.parametrize(
    ("side", "seconds"), [(48, None), (50, SWITCH_SECONDS), (80, 0.8), (160, 0.2)]
)
def test_a_larger_face_becomes_the_main_one(side: float, seconds: float | None) -> None:
    """Who comes in later and is 1.5 times as large (1.25 times as wide) wins, sooner if larger.

    A single frame had been enough.
    """
    selected = select_largest([[{0: 40.0}] * 20 + [{0: 40.0, 1: side}] * 50])

    first = selected.index([1]) if [1] in selected else None
    assert first == (None if seconds is None else pytest.approx(20 + 10 * seconds, abs=1))
    assert first is None or {1} == {track for tracks in selected[first:] for track in tracks}


def test_a_passer_by_near_the_camera_is_not_the_main_face() -> None:
    """A face 1.9 times as large that is in view for 1.1 s is not selected.

    It was, in all frames that it was in.
    """
    passing = [{0: 80.0, 1: 110.0}] * 11
    assert [[0]] * 51 == select_largest([[{0: 80.0}] * 5 + passing + [{0: 80.0}] * 35])


def test_a_shot_begins_anew() -> None:
    """After a cut the largest face is selected, though smaller than the one still held."""
    first, second = [{0: 80.0, 1: 40.0}] * 20 + [{1: 40.0}] * 10, [{2: 20.0, 3: 10.0}] * 5
    assert [[0]] * 20 + [[]] * 10 + [[2]] * 5 == select_largest([first, second])


@cache
def person(name: str, scene: SceneParams) -> Image:
    """Return an image of a synthetic person, rendered once for all tests."""
    return render_frame(HeadModel.from_person(CAST[name]), scene, 256).image


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of a synthetic person, under a name with a space and an umlaut."""
    path = tmp_path_factory.mktemp("photos") / "ada im Grünen.png"
    image_io.write_png(path, person("ada", SceneParams()))
    return path


@pytest.mark.slow
def test_matching_selection_finds_the_identity(detector: LiteRTDetector, photo: Path) -> None:
    """Of two people, turned and on either side, the right face is selected."""
    ada, bo = person("ada", SceneParams(yaw=15, roll=6)), person("bo", SceneParams(yaw=-10))
    for frame, track in ((np.hstack([ada, bo]), 0), (np.hstack([bo, ada]), 1)):
        found = sorted(detector.detect(frame), key=lambda one: one.box[0])
        assert 2 == len(found)
        faces = [
            SmoothedFace(face=one, alignment=align_face(one.landmarks), track=track_of)
            for track_of, one in enumerate(found)
        ]
        selector = SelectMatching(photo=photo).create_selector(detector)
        assert [track] == [one.track for one in selector.select(make_frame(frame), faces)]
        assert [] == selector.select(make_frame(frame), [])


class CountingSFace(SFace):
    """Returns a fixed embedding, and counts the calls."""

    def __init__(self, embedding: Embedding) -> None:
        self.embed_count = 0
        self.embedding = embedding

    def embed(self, image: Image, landmarks: object) -> Embedding:
        """Return the fixed embedding."""
        self.embed_count += 1
        return self.embedding


@pytest.mark.parametrize(
    ("cosine", "count"), [(SAME_IDENTITY_COSINE + 0.01, 1), (SAME_IDENTITY_COSINE - 0.01, 0)]
)
def test_matching_selection_rejects_other_identities(
    detector: LiteRTDetector,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    cosine: float,
    count: int,
) -> None:
    """A face alone in the frame is selected only if it is similar enough."""
    sface = CountingSFace(np.eye(128)[0])
    monkeypatch.setattr("faceswap_cli.faces.selection.SFace", lambda _: sface)
    selector = SelectMatching(photo=photo).create_selector(detector)

    sface.embedding = cosine * np.eye(128)[0] + np.sqrt(1 - cosine**2) * np.eye(128)[1]

    assert count == len(selector.select(BLANK, [face(0, 9)]))


def test_embeddings_per_track_are_bounded(
    detector: LiteRTDetector, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first in each frame, then at intervals, then no more; never for interpolated faces."""
    counting = CountingSFace(np.eye(128)[0])
    monkeypatch.setattr("faceswap_cli.faces.selection.SFace", lambda _: counting)
    selector = SelectMatching(photo=photo).create_selector(detector)
    assert 1 == counting.embed_count
    embed_counts = []
    for _ in range(EMBED_INTERVAL * MAX_EMBEDDINGS):
        assert 1 == len(selector.select(BLANK, [face(0, 9)]))
        embed_counts.append(counting.embed_count - 1)
    assert list(range(1, EMBED_FIRST_FRAMES + 1)) == embed_counts[:EMBED_FIRST_FRAMES]
    assert 1 == embed_counts[EMBED_INTERVAL * 3] - embed_counts[EMBED_INTERVAL * 2]
    assert MAX_EMBEDDINGS == embed_counts[-1]

    selector = SelectMatching(photo=photo).create_selector(detector)
    before = counting.embed_count
    interpolated = replace(face(0, 9), is_interpolated=True)
    assert [] == selector.select(BLANK, [interpolated])
    assert before == counting.embed_count


def test_matching_selection_remembers_a_lost_track(
    detector: LiteRTDetector, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A track that goes on after 4.9 s is known, though the face is turned away at first.

    It had been forgotten after 50 frames, and was not selected.
    """
    sface = CountingSFace(np.eye(128)[0])
    monkeypatch.setattr("faceswap_cli.faces.selection.SFace", lambda _: sface)
    selector = SelectMatching(photo=photo).create_selector(detector)
    for index in range(200):
        sface.embedding = np.eye(128)[0 if index < 60 else 1]
        visible = [face(0, 9)] if index < 60 or index >= 182 else []
        frame = replace(BLANK, index=index, time=Fraction(index, 25))
        assert visible == selector.select(frame, visible)


@pytest.mark.parametrize("text", ["all", "track 1", "largest", "like"])
def test_selector_state_round_trip(detector: LiteRTDetector, photo: Path, text: str) -> None:
    """The state passes through JSON, and the next selections are the same."""
    rule = parse_selection(f"like {photo}" if text == "like" else text)
    frame = np.hstack(
        [person("ada", SceneParams(yaw=15, roll=6)), person("bo", SceneParams(yaw=-10))]
    )
    faces: Sequence[SmoothedFace] = [
        SmoothedFace(face=one, alignment=align_face(one.landmarks), track=track)
        for track, one in enumerate(detector.detect(frame))
    ]
    whole, first, second = (rule.create_selector(detector) for _ in range(3))
    for _ in range(2):
        whole.select(make_frame(frame), faces)
        first.select(make_frame(frame), faces)

    second.load_state_dict(json.loads(json.dumps(first.state_dict())))

    for visible in (faces, faces[1:], faces):
        assert whole.select(make_frame(frame), visible) == second.select(make_frame(frame), visible)
        assert json.dumps(whole.state_dict()) == json.dumps(second.state_dict())


def test_photo_is_identified_by_content(photo: Path, tmp_path: Path) -> None:
    """The same photo under another name is the same rule; another photo is another."""
    copy, other = tmp_path / "copy.png", tmp_path / "other.png"
    copy.write_bytes(photo.read_bytes())
    image_io.write_png(other, person("bo", SceneParams(yaw=-10)))

    assert (
        SelectMatching(photo=photo).canonical_text() == SelectMatching(photo=copy).canonical_text()
    )
    assert (
        SelectMatching(photo=photo).canonical_text() != SelectMatching(photo=other).canonical_text()
    )


def test_unusable_photo_is_reported(detector: LiteRTDetector, tmp_path: Path) -> None:
    """Missing, not an image, without a face."""
    (tmp_path / "text.png").write_text("no image")
    image_io.write_png(tmp_path / "wall.png", np.full((64, 64, 3), 90, np.uint8))

    with pytest.raises(InputError, match="cannot read"):
        SelectMatching(photo=tmp_path / "none.png").create_selector(detector)
    with pytest.raises(InputError, match="is not an image"):
        SelectMatching(photo=tmp_path / "text.png").create_selector(detector)
    with pytest.raises(NoFacesError, match="there is no face in"):
        SelectMatching(photo=tmp_path / "wall.png").create_selector(detector)
    with pytest.raises(InputError, match="cannot read"):
        SelectMatching(photo=tmp_path / "none.png").canonical_text()
