"""Laws of looking a set through: what is found, what moves, and that all of it comes back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli import actors, pictures
from faceswap_cli.arrays import AnyArray, Image, Points
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.faces.coverage import coverage, gaps
from faceswap_cli.faces.detect import EXPRESSIONS
from faceswap_cli.faces.flaws import (
    BLOCK,
    FLAWS,
    SAME_EXPRESSION,
    SAME_LEVELS,
    blurry,
    duplicates,
    likeness,
)
from faceswap_cli.faces.looks import look, runs
from faceswap_cli.faces.record import FaceRecord, FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.sface import SFace
from faceswap_cli.report import Silent
from faceswap_cli.stages import faces as stage
from faceswap_cli.stages.extract import extract
from faceswap_cli.workspace import Workspace

MakeSet = Callable[..., FaceSet]


def posed(record: FaceRecord, *, yaw: float = 0.0, **coefficients: float) -> FaceRecord:
    """Return a record that looks there, with that expression."""
    expression = [coefficients.get(name, 0.0) for name in EXPRESSIONS]
    return replace(record, pose=(yaw, 0.0, 0.0), expression=tuple(expression))


# --- coverage -----------------------------------------------------------------------------------


def test_what_one_set_never_shows_is_said_with_its_share(make_set: MakeSet) -> None:
    """In a seventh of B's frames it looks left with an open mouth; A does either, never both."""
    plain = make_set("a", count=100).records
    ours = [posed(r, yaw=-20 if i % 2 else 0, jawOpen=0.0) for i, r in enumerate(plain)]
    ours = [posed(r, jawOpen=0.8) if i % 2 == 0 else r for i, r in enumerate(ours)]
    theirs = [posed(r, yaw=-20, jawOpen=0.8) if i < 14 else r for i, r in enumerate(plain)]
    (gap,) = gaps(theirs, ours)
    told = gap.sentence("B", "A")
    assert "B looks left with an open mouth in 14% of its frames, A never" in told
    assert told.endswith("add such footage of A")


def test_a_gap_is_told_once_as_generally_as_can_be(make_set: MakeSet) -> None:
    """Whoever never looks right is not told as well that they never do so with a smile."""
    plain = make_set("a", count=40).records
    both = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}
    ours = [posed(r, **both) if i % 2 else r for i, r in enumerate(plain)]
    theirs = [posed(r, yaw=20, **both) if i < 20 else posed(r) for i, r in enumerate(plain)]
    assert ["looks right"] == [gap.what for gap in gaps(theirs, ours)]
    assert [] == gaps(ours, ours)


def test_every_face_looks_somewhere(make_set: MakeSet) -> None:
    """The table of poses adds up to the set, whatever the angles."""
    chance = np.random.default_rng(4)
    records = [
        replace(record, pose=(float(yaw), float(pitch), 0.0))
        for record, yaw, pitch in zip(
            make_set("a", count=60).records,
            chance.uniform(-90, 90, 60),
            chance.uniform(-80, 80, 60),
            strict=True,
        )
    ]
    counted = [count for row in coverage(records).poses.values() for count in row.values()]
    assert 60 == sum(counted)
    assert 0 == coverage([]).faces


# --- flaws --------------------------------------------------------------------------------------


def test_of_duplicates_the_sharpest_stays_and_no_two_that_stay_are_alike() -> None:
    """Whatever is dropped has a sharper twin that stays, across blocks too."""
    chance = np.random.default_rng(5)
    count = BLOCK + 200
    grey = chance.uniform(0, 255, (60, 16))[chance.integers(0, 60, count)]
    grey += chance.normal(0, 0.8, grey.shape)
    expression = np.zeros((count, 3))
    expression[:, 0] = chance.integers(0, 2, count)
    sharpness = chance.uniform(1, 9, count)
    marks = duplicates(grey, expression, sharpness)

    def alike(i: int, j: int) -> bool:
        near = np.sqrt(np.mean((grey[i] - grey[j]) ** 2)) < SAME_LEVELS
        return bool(near and np.abs(expression[i] - expression[j]).max() < SAME_EXPRESSION)

    stays = np.flatnonzero(~marks)
    assert 60 < len(stays) < count / 2
    assert not any(alike(i, j) for i in stays for j in stays if i < j)
    for i in np.flatnonzero(marks):
        assert any(alike(i, j) and sharpness[j] >= sharpness[i] for j in stays)


def test_a_blink_is_no_duplicate() -> None:
    """The same picture with another expression is another face to learn from."""
    expression = np.array([[0.0], [SAME_EXPRESSION + 0.01]])
    assert not duplicates(np.zeros((2, 4)), expression, np.ones(2)).any()
    assert [False, True] == duplicates(np.zeros((2, 4)), np.zeros((2, 1)), np.ones(2)).tolist()


def test_blurry_is_judged_by_the_set_itself() -> None:
    """All soft is no flaw; a few that are far softer than the rest are."""
    assert not blurry(np.full(20, 3.0)).any()
    assert [True] * 2 + [False] * 18 == blurry(np.array([20.0] * 2 + [100.0] * 18)).tolist()
    assert 0 == len(blurry(np.zeros(0)))


def test_the_person_of_a_set_is_who_has_most_faces() -> None:
    """The others are unlike them; who was not asked about is unknown."""
    chance = np.random.default_rng(6)

    def person(count: int) -> AnyArray:
        around = chance.normal(size=128) + 0.3 * chance.normal(size=(count, 128))
        return np.asarray(around / np.linalg.norm(around, axis=1, keepdims=True))

    unknown = np.full((1, 128), np.nan)
    found = likeness(np.vstack([person(8), person(5), person(20), unknown]))
    assert (found[:13] < 0.3).all()
    assert (found[13:33] > 0.9).all()
    assert np.isnan(found[33])
    assert np.isnan(likeness(unknown)).all()


# --- looks --------------------------------------------------------------------------------------


def test_two_people_side_by_side_are_two_runs_and_a_cut_or_a_pause_ends_one(
    make_set: MakeSet,
) -> None:
    """A run is one face followed in one shot."""
    first = make_set("a", count=1).records[0]
    left, right = first.alignment, first.alignment.central(1.0)
    right = replace(right, to_unit=right.to_unit - [[0, 0, 3], [0, 0, 0]])
    records, grey = [], []
    for frame in range(12):
        time = Fraction(frame + (20 if frame >= 8 else 0), 25)
        for place in (left, right):
            records.append(replace(first, frame=frame, time=time, alignment=place))
            grey.append(np.full(4, 200.0 if frame >= 4 else 10.0))
    found = runs(records, np.array(grey))
    frames = [[records[i].frame for i in run] for run in found]
    assert [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2 + [[8, 9, 10, 11]] * 2 == sorted(frames)
    assert all(len({id(records[i].alignment) for i in run}) == 1 for run in found)
    jumping = [replace(first, frame=frame, alignment=(left, right)[frame]) for frame in range(2)]
    assert [[0], [1]] == runs(jumping, np.zeros((2, 4)))


class Counted(SFace):
    """Says who it is by the crop's colour, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def direction(self, image: Image, landmarks: Points) -> AnyArray:
        """Return one of three directions."""
        self.asked += 1
        return np.asarray(np.eye(128)[image.mean(axis=(0, 1)).argmax()])


def test_only_new_crops_are_read_again(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is kept; a damaged file of it is measured anew."""
    faces = make_set("a", count=8, hue=1)
    make_set("a", count=6, hue=0)
    cache, sface, read = tmp_path / "looks.npz", Counted(), list[str]()
    plainly = pictures.read
    monkeypatch.setattr(pictures, "read", lambda path: read.append(path.name) or plainly(path))

    def looked() -> AnyArray:
        read.clear()
        found = look(faces, cache=cache, sface=lambda: sface, advance=lambda _: None)
        return likeness(found.directions) > 0.5

    assert [True] * 6 + [False] * 2 == looked().tolist()
    assert 8 + sface.asked == len(read)
    assert [True] * 6 + [False] * 2 == looked().tolist()
    assert [] == read
    make_set("a", count=1, hue=1)
    assert [False] + [True] * 5 + [False] * 2 == looked().tolist()
    # The changed crop is another shot, so the next one is the first of its own.
    assert ["000000-0.png", "000000-0.png", "000001-0.png"] == sorted(read)
    cache.write_bytes(b"torn")
    assert [False] + [True] * 5 + [False] * 2 == looked().tolist()
    assert 8 < len(read)


# --- the stage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A set of drawn pictures with a blurred one, a twin of another, and one cut off."""
    folder = tmp_path_factory.mktemp("drawn")
    shots = actors.draw_all(
        actors.CAST["ada"], actors.random_moments(11, 9), size_px=256, processes=1
    )
    images = [shot.image for shot in shots]
    images.append(np.asarray(cv2.GaussianBlur(images[0], (0, 0), 4), dtype=np.uint8))
    images.append(images[3])
    images.append(np.ascontiguousarray(images[5][:, 100:]))
    for number, image in enumerate(images):
        pictures.write_png(folder / "shots" / f"{number:02d}.png", image)
    space = Workspace.open(folder / "workspace")
    extract(folder / "shots", folder=space.set("ada"), settings=ExtractSettings(), report=Silent())
    return space


@pytest.fixture
def ada(drawn: Workspace) -> Iterator[Workspace]:
    """The drawn set, whole again afterwards."""
    yield drawn
    stage.undo(drawn.set("ada"), report=Silent())


def crops(space: Workspace) -> set[str]:
    """Return the names of the crops in the set."""
    return {path.name for path in space.set("ada").root.glob("*.png")}


def test_each_flaw_is_found_where_it_was_made(ada: Workspace) -> None:
    """And nowhere else."""
    everything = crops(ada)
    for flaw, wanted in (
        ("blurry", {"000009-0.png"}),
        ("cut-off", {"000011-0.png"}),
        ("stranger", set()),
    ):
        stage.drop(ada.set("ada"), [flaw], report=Silent())
        assert wanted == everything - crops(ada), flaw
        stage.undo(ada.set("ada"), report=Silent())
    stage.drop(ada.set("ada"), ["duplicate"], report=Silent())
    assert everything - crops(ada) in ({"000003-0.png"}, {"000010-0.png"})


def test_what_is_dropped_is_out_of_the_set_and_comes_back_unchanged(ada: Workspace) -> None:
    """Moved, never deleted; bytes and records are the same afterwards."""
    folder = ada.set("ada")
    before = {name: (folder.root / name).read_bytes() for name in crops(ada)}
    lines = folder.records.read_bytes()
    assert 3 == stage.drop(folder, list(FLAWS), report=Silent())
    (shown,) = stage.faces(["ada"], workspace=ada, report=Silent()).sets
    assert (9, 3) == (shown.faces, shown.rejected)
    assert 0 == sum(shown.flawed.values())
    assert 3 == stage.undo(folder, report=Silent())
    assert before == {name: (folder.root / name).read_bytes() for name in crops(ada)}
    assert lines == folder.records.read_bytes()


def test_a_crop_that_came_back_some_other_way_is_not_overwritten(ada: Workspace) -> None:
    """Neither by a drop nor by its undoing."""
    folder = ada.set("ada")
    stage.drop(folder, ["blurry"], report=Silent())
    other = folder.root / "000009-0.png"
    other.write_bytes(b"somebody's own")
    assert 0 == stage.undo(folder, report=Silent())
    assert b"somebody's own" == other.read_bytes()
    other.unlink()


def test_the_page_shows_every_face_and_asks_for_nothing(ada: Workspace) -> None:
    """A picture a face, and no address that is fetched."""
    html = stage.faces(["ada"], workspace=ada, report=Silent()).page.read_text()
    assert 12 == html.count("data:image/jpeg;base64,")
    assert "http" not in html
    assert "blurry (1)" in html


def test_a_page_of_too_many_faces_shows_the_flawed_first() -> None:
    """And some of the others, spread evenly."""
    flawed = np.arange(1000) % 10 == 0
    shown = stage.shown_places(flawed, most=200)
    assert 200 == len(shown)
    assert set(np.flatnonzero(flawed)) <= set(shown)
    assert {1, 999} <= set(shown)


def test_a_mistake_is_named(ada: Workspace) -> None:
    """A flaw, a set, one that is named twice, an empty one, a line that is no face."""
    with pytest.raises(ConfigurationError, match="blury") as error:
        stage.drop(ada.set("ada"), ["blury"], report=Silent())
    assert '"blurry"' in error.value.hint
    with pytest.raises(ConfigurationError, match='"adda"'):
        stage.faces(["adda"], workspace=ada, report=Silent())
    empty = ada.set("empty")
    empty.root.mkdir(parents=True, exist_ok=True)
    empty.records.write_text("")
    with pytest.raises(NoFacesError, match="no crops"):
        stage.faces(["empty"], workspace=ada, report=Silent())
    with pytest.raises(ConfigurationError, match="named twice"):
        stage.faces(["ada", "ada"], workspace=ada, report=Silent())
    for line in ("garbage", "{}", "[]", "3"):
        empty.records.write_text(f"{line}\n")
        with pytest.raises(InputError, match=r"faces\.jsonl cannot be read: its line 1 is not"):
            stage.faces(["empty"], workspace=ada, report=Silent())
