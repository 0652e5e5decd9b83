"""Which faces are kept: what was typed is understood, and nobody takes turns."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli import pictures
from faceswap_cli.actors import CAST, Actor, Moment, draw
from faceswap_cli.arrays import Image
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.faces.align import align
from faceswap_cli.faces.choose import (
    MEASURED_AT_ONCE,
    MEASURED_EVERY,
    MEASURED_MOST,
    SAME_PERSON,
    Choice,
    Everyone,
    Largest,
    Like,
    OneTrack,
    parse_choice,
)
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.litert import LiteRTDetector
from faceswap_cli.faces.sface import Direction, SFace
from faceswap_cli.faces.track import Steady
from faceswap_cli.views import Still

BLACK = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture(scope="module")
def detector() -> Iterator[LiteRTDetector]:
    """An open detector."""
    with LiteRTDetector() as opened:
        yield opened


def face(track: int, side: float, *, x: float = 0.0) -> Steady:
    """A square face of a track."""
    spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
    found = Face(
        box=np.float32([x, 0, x + side, side]),
        landmarks=np.float32(spread * side + [x, 0]),
        score=1.0,
        expression=(0.0,) * 52,
        pose=(0.0, 0.0, 0.0),
    )
    return Steady(face=found, alignment=align(found.landmarks), track=track)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("largest", Largest()),
        ("all", Everyone()),
        ("track 0", OneTrack(number=0)),
        ("track:12", OneTrack(number=12)),
        ("like photo.jpg", Like(photo=Path("photo.jpg"))),
        ("like:my own photo: 2.jpg", Like(photo=Path("my own photo: 2.jpg"))),
        ("  like  é.png ", Like(photo=Path("é.png"))),
    ],
)
def test_what_is_typed_is_understood(text: str, choice: Choice) -> None:
    """Each form, with a space or a colon."""
    assert choice == parse_choice(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("largst", 'did you mean "largest"?'),
        ("track", 'a track is named by its number: "track 0"'),
        ("track -1", 'a track is named by its number: "track 0"'),
        ("like", 'name a picture of the person: "like photo.jpg"'),
        ("", "there is: all, largest, like PHOTO, track N"),
    ],
)
def test_what_cannot_be_understood_is_refused(text: str, hint: str) -> None:
    """A word that is none of them is named, with what is meant or missing."""
    with pytest.raises(ConfigurationError, match="no choice of faces called") as caught:
        parse_choice(text)
    assert hint == caught.value.hint


def test_everyone_and_one_track(detector: LiteRTDetector) -> None:
    """All come largest first; a track comes alone."""
    faces = [face(3, 10), face(1, 30), face(2, 20)]

    everyone = Everyone().chooser(detector).pick(Still(image=BLACK), faces)
    third = OneTrack(number=3).chooser(detector).pick(Still(image=BLACK), faces)

    assert [1, 2, 3] == [one.track for one in everyone]
    assert [3] == [one.track for one in third]
    assert [] == OneTrack(number=9).chooser(detector).pick(Still(image=BLACK), faces)


def test_two_people_of_one_size_do_not_take_turns(detector: LiteRTDetector) -> None:
    """Whoever was larger first stays, until the other is much larger or the first is gone."""
    chooser = Largest().chooser(detector)
    sides = [(40, 38), (38, 40), (40, 46), (40, 50), (46, 40), (None, 20), (60, 20), (30, 20)]

    picked = [
        [
            one.track
            for one in chooser.pick(
                Still(image=BLACK), [face(0, a), face(1, b)] if a else [face(1, b)]
            )
        ]
        for a, b in sides
    ]

    assert [[0], [0], [0], [1], [1], [1], [0], [0]] == picked
    assert [] == chooser.pick(Still(image=BLACK), [])


@cache
def person(name: str, moment: Moment) -> Image:
    """A drawn person."""
    return draw(Actor.of(CAST[name]), moment, 256).image


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of a drawn person, under a name with a space and an umlaut."""
    path = tmp_path_factory.mktemp("photos") / "ada im Grünen.png"
    pictures.write_png(path, person("ada", Moment()))
    return path


def test_a_person_is_known_from_a_picture(detector: LiteRTDetector, photo: Path) -> None:
    """Beside another person, turned, on either side, the right face is kept."""
    ada, bo = person("ada", Moment(yaw=15, roll=6)), person("bo", Moment(yaw=-10))
    for frame, track in ((np.hstack([ada, bo]), 0), (np.hstack([bo, ada]), 1)):
        found = sorted(detector.detect(frame), key=lambda one: one.box[0])
        assert 2 == len(found)
        faces = [
            Steady(face=one, alignment=align(one.landmarks), track=track_of)
            for track_of, one in enumerate(found)
        ]
        chooser = Like(photo=photo).chooser(detector)
        assert [track] == [one.track for one in chooser.pick(Still(image=frame), faces)]
        assert [] == chooser.pick(Still(image=frame), [])


class Counting(SFace):
    """Knows one direction, and counts how often it is asked."""

    def __init__(self, direction: Direction) -> None:
        self.asked = 0
        self.known = direction

    def direction(self, image: Image, landmarks: object) -> Direction:
        """Count."""
        self.asked += 1
        return self.known


@pytest.mark.parametrize(("cosine", "kept"), [(SAME_PERSON + 0.01, 1), (SAME_PERSON - 0.01, 0)])
def test_somebody_else_is_not_kept(
    detector: LiteRTDetector,
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
    cosine: float,
    kept: int,
) -> None:
    """A face alone in the frame is kept only if it is like enough: drawn people all look alike."""
    known = Counting(np.eye(128)[0])
    monkeypatch.setattr("faceswap_cli.faces.choose.SFace", lambda _: known)
    chooser = Like(photo=photo).chooser(detector)

    known.known = cosine * np.eye(128)[0] + np.sqrt(1 - cosine**2) * np.eye(128)[1]

    assert kept == len(chooser.pick(Still(image=BLACK), [face(0, 9)]))


def test_a_track_is_not_measured_for_ever(
    detector: LiteRTDetector, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At first in each frame, then now and then, then no more; never where nobody saw the face."""
    north = np.eye(128)[0]
    counting = Counting(north)
    monkeypatch.setattr("faceswap_cli.faces.choose.SFace", lambda _: counting)
    chooser = Like(photo=photo).chooser(detector)
    assert 1 == counting.asked
    asked = []
    for _ in range(MEASURED_EVERY * MEASURED_MOST):
        assert 1 == len(chooser.pick(Still(image=BLACK), [face(0, 9)]))
        asked.append(counting.asked - 1)
    assert list(range(1, MEASURED_AT_ONCE + 1)) == asked[:MEASURED_AT_ONCE]
    assert 1 == asked[MEASURED_EVERY * 3] - asked[MEASURED_EVERY * 2]
    assert MEASURED_MOST == asked[-1]

    unseen = Like(photo=photo).chooser(detector)
    before = counting.asked
    assert [] == unseen.pick(Still(image=BLACK), [replace(face(0, 9), is_interpolated=True)])
    assert before == counting.asked


@pytest.mark.parametrize("text", ["all", "track 1", "largest", "like"])
def test_a_choice_goes_on_where_it_stopped(
    detector: LiteRTDetector, photo: Path, text: str
) -> None:
    """What is remembered passes through JSON, and the next picks are the same."""
    choice = parse_choice(f"like {photo}" if text == "like" else text)
    frame = np.hstack([person("ada", Moment(yaw=15, roll=6)), person("bo", Moment(yaw=-10))])
    faces: Sequence[Steady] = [
        Steady(face=one, alignment=align(one.landmarks), track=track)
        for track, one in enumerate(detector.detect(frame))
    ]
    whole, first, second = (choice.chooser(detector) for _ in range(3))
    for _ in range(2):
        whole.pick(Still(image=frame), faces)
        first.pick(Still(image=frame), faces)

    second.recall(json.loads(json.dumps(first.memory())))

    for shown in (faces, faces[1:], faces):
        assert whole.pick(Still(image=frame), shown) == second.pick(Still(image=frame), shown)
        assert json.dumps(whole.memory()) == json.dumps(second.memory())


def test_a_picture_is_known_by_its_content(photo: Path, tmp_path: Path) -> None:
    """The same picture under another name is the same choice; another picture is another."""
    twin, other = tmp_path / "twin.png", tmp_path / "other.png"
    twin.write_bytes(photo.read_bytes())
    pictures.write_png(other, person("bo", Moment(yaw=-10)))

    assert Like(photo=photo).described() == Like(photo=twin).described()
    assert Like(photo=photo).described() != Like(photo=other).described()


def test_a_picture_that_is_no_help_is_named(detector: LiteRTDetector, tmp_path: Path) -> None:
    """Missing, not a picture, without a face."""
    (tmp_path / "text.png").write_text("no picture")
    pictures.write_png(tmp_path / "wall.png", np.full((64, 64, 3), 90, np.uint8))

    with pytest.raises(InputError, match="cannot read"):
        Like(photo=tmp_path / "none.png").chooser(detector)
    with pytest.raises(InputError, match="is not a picture"):
        Like(photo=tmp_path / "text.png").chooser(detector)
    with pytest.raises(NoFacesError, match="there is no face in"):
        Like(photo=tmp_path / "wall.png").chooser(detector)
    with pytest.raises(InputError, match="cannot read"):
        Like(photo=tmp_path / "none.png").described()
