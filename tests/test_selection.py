"""Selection of faces: parsing, and selections that stay with their face."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
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
from faceswap_cli.faces.embedding import Embedding, SFace
from faceswap_cli.faces.selection import (
    EMBED_FIRST_FRAMES,
    EMBED_INTERVAL,
    MAX_EMBEDDINGS,
    SAME_IDENTITY_COSINE,
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

BLACK = np.zeros((8, 8, 3), np.uint8)


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

    every_face = SelectAll().create_selector(detector).select(ArrayImage(image=BLACK), faces)
    third = SelectTrack(track=3).create_selector(detector).select(ArrayImage(image=BLACK), faces)

    assert [1, 2, 3] == [one.track for one in every_face]
    assert [3] == [one.track for one in third]
    assert [] == SelectTrack(track=9).create_selector(detector).select(
        ArrayImage(image=BLACK), faces
    )


def test_largest_selection_is_stable(detector: LiteRTDetector) -> None:
    """The face that was larger first stays, until the other is much larger or the first is gone."""
    selector = SelectLargest().create_selector(detector)
    sides = [(40, 38), (38, 40), (40, 46), (40, 50), (46, 40), (None, 20), (60, 20), (30, 20)]

    selected = [
        [
            one.track
            for one in selector.select(
                ArrayImage(image=BLACK), [face(0, a), face(1, b)] if a else [face(1, b)]
            )
        ]
        for a, b in sides
    ]

    assert [[0], [0], [0], [1], [1], [1], [0], [0]] == selected
    assert [] == selector.select(ArrayImage(image=BLACK), [])


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
        assert [track] == [one.track for one in selector.select(ArrayImage(image=frame), faces)]
        assert [] == selector.select(ArrayImage(image=frame), [])


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

    assert count == len(selector.select(ArrayImage(image=BLACK), [face(0, 9)]))


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
        assert 1 == len(selector.select(ArrayImage(image=BLACK), [face(0, 9)]))
        embed_counts.append(counting.embed_count - 1)
    assert list(range(1, EMBED_FIRST_FRAMES + 1)) == embed_counts[:EMBED_FIRST_FRAMES]
    assert 1 == embed_counts[EMBED_INTERVAL * 3] - embed_counts[EMBED_INTERVAL * 2]
    assert MAX_EMBEDDINGS == embed_counts[-1]

    selector = SelectMatching(photo=photo).create_selector(detector)
    before = counting.embed_count
    interpolated = replace(face(0, 9), is_interpolated=True)
    assert [] == selector.select(ArrayImage(image=BLACK), [interpolated])
    assert before == counting.embed_count


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
        whole.select(ArrayImage(image=frame), faces)
        first.select(ArrayImage(image=frame), faces)

    second.load_state_dict(json.loads(json.dumps(first.state_dict())))

    for visible in (faces, faces[1:], faces):
        assert whole.select(ArrayImage(image=frame), visible) == second.select(
            ArrayImage(image=frame), visible
        )
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
