"""Curation of sets: coverage, outliers, and moving crops out and back."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceswap_cli import synthetic
from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.core.lock import output_lock, set_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import AnyArray, Image, Points
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.curation.crop_features import compute_features, find_track_runs
from faceswap_cli.faces.curation.outliers import (
    BLOCK_SIZE,
    DUPLICATE_MAX_BLENDSHAPE_DIFF,
    DUPLICATE_MAX_DIFF,
    OUTLIER_TYPES,
    find_blurry,
    find_duplicates,
    identity_similarity,
)
from faceswap_cli.faces.curation.pose_coverage import find_gaps, measure_coverage
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.embedding import SFace
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.stages import faces as stage
from faceswap_cli.stages.extract import extract

MakeSet = Callable[..., FaceSet]


def with_pose(record: FaceRecord, *, yaw: float = 0.0, **coefficients: float) -> FaceRecord:
    """Return a record with a pose and blendshapes."""
    blendshapes = [coefficients.get(name, 0.0) for name in BLENDSHAPE_NAMES]
    return replace(record, pose=(yaw, 0.0, 0.0), blendshapes=tuple(blendshapes))


# --- coverage -----------------------------------------------------------------------------------


def test_gap_reports_the_share(make_set: MakeSet) -> None:
    """B looks left with an open mouth in 14 % of its frames; A does either, never both."""
    plain = make_set("a", count=100).records
    ours = [with_pose(r, yaw=-20 if i % 2 else 0, jawOpen=0.0) for i, r in enumerate(plain)]
    ours = [with_pose(r, jawOpen=0.8) if i % 2 == 0 else r for i, r in enumerate(ours)]
    theirs = [with_pose(r, yaw=-20, jawOpen=0.8) if i < 14 else r for i, r in enumerate(plain)]
    (gap,) = find_gaps(theirs, ours)
    sentence = gap.to_sentence("B", "A")
    assert "B looks left with an open mouth in 14% of its frames, A never" in sentence
    assert sentence.endswith("add such footage of A")


def test_only_the_most_general_gap_is_reported(make_set: MakeSet) -> None:
    """That a set never looks right with a smile is left out if it never looks right."""
    plain = make_set("a", count=40).records
    smile = {"mouthSmileLeft": 0.9, "mouthSmileRight": 0.9}
    ours = [with_pose(r, **smile) if i % 2 else r for i, r in enumerate(plain)]
    theirs = [
        with_pose(r, yaw=20, **smile) if i < 20 else with_pose(r) for i, r in enumerate(plain)
    ]
    assert ["looks right"] == [gap.what for gap in find_gaps(theirs, ours)]
    assert [] == find_gaps(ours, ours)


def test_pose_bins_cover_every_face(make_set: MakeSet) -> None:
    """The table of poses adds up to the set, whatever the angles."""
    rng = np.random.default_rng(4)
    records = [
        replace(record, pose=(float(yaw), float(pitch), 0.0))
        for record, yaw, pitch in zip(
            make_set("a", count=60).records,
            rng.uniform(-90, 90, 60),
            rng.uniform(-80, 80, 60),
            strict=True,
        )
    ]
    counts = [count for row in measure_coverage(records).poses.values() for count in row.values()]
    assert 60 == sum(counts)
    assert 0 == measure_coverage([]).faces


# --- outliers -----------------------------------------------------------------------------------


def test_duplicates_keep_the_sharpest() -> None:
    """Every duplicate has a sharper one that is not, across blocks too."""
    rng = np.random.default_rng(5)
    count = BLOCK_SIZE + 200
    gray = rng.uniform(0, 255, (60, 16))[rng.integers(0, 60, count)]
    gray += rng.normal(0, 0.8, gray.shape)
    blendshapes = np.zeros((count, 3))
    blendshapes[:, 0] = rng.integers(0, 2, count)
    sharpness = rng.uniform(1, 9, count)
    is_duplicate = find_duplicates(gray, blendshapes, sharpness)

    def are_duplicates(i: int, j: int) -> bool:
        is_near = np.sqrt(np.mean((gray[i] - gray[j]) ** 2)) < DUPLICATE_MAX_DIFF
        return bool(
            is_near
            and np.abs(blendshapes[i] - blendshapes[j]).max() < DUPLICATE_MAX_BLENDSHAPE_DIFF
        )

    unique = np.flatnonzero(~is_duplicate)
    assert 60 < len(unique) < count / 2
    assert not any(are_duplicates(i, j) for i in unique for j in unique if i < j)
    for i in np.flatnonzero(is_duplicate):
        assert any(are_duplicates(i, j) and sharpness[j] >= sharpness[i] for j in unique)


def test_blink_is_not_a_duplicate() -> None:
    """The same image with another expression is worth training on."""
    blendshapes = np.array([[0.0], [DUPLICATE_MAX_BLENDSHAPE_DIFF + 0.01]])
    assert not find_duplicates(np.zeros((2, 4)), blendshapes, np.ones(2)).any()
    assert [False, True] == find_duplicates(np.zeros((2, 4)), np.zeros((2, 1)), np.ones(2)).tolist()


def test_blur_is_relative_to_the_set() -> None:
    """If all faces are soft, none is blurry; a few far softer than the rest are."""
    assert not find_blurry(np.full(20, 3.0)).any()
    assert [True] * 2 + [False] * 18 == find_blurry(np.array([20.0] * 2 + [100.0] * 18)).tolist()
    assert 0 == len(find_blurry(np.zeros(0)))


def test_main_identity_has_the_most_faces() -> None:
    """Other people are dissimilar to the largest group; faces without embedding are NaN."""
    rng = np.random.default_rng(6)

    def person(count: int) -> AnyArray:
        embeddings = rng.normal(size=128) + 0.3 * rng.normal(size=(count, 128))
        return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))

    unknown = np.full((1, 128), np.nan)
    found = identity_similarity(np.vstack([person(8), person(5), person(20), unknown]))
    assert (found[:13] < 0.3).all()
    assert (found[13:33] > 0.9).all()
    assert np.isnan(found[33])
    assert np.isnan(identity_similarity(unknown)).all()


# --- features -----------------------------------------------------------------------------------


def test_track_runs_split_by_face_cut_and_gap(
    make_set: MakeSet,
) -> None:
    """A run is one face tracked within one shot."""
    first = make_set("a", count=1).records[0]
    left, right = first.alignment, first.alignment.center_crop(1.0)
    right = replace(right, to_unit=right.to_unit - [[0, 0, 3], [0, 0, 0]])
    records, gray = [], []
    for frame in range(12):
        time = Fraction(frame + (20 if frame >= 8 else 0), 25)
        for alignment in (left, right):
            records.append(replace(first, frame=frame, time=time, alignment=alignment))
            gray.append(np.full(4, 200.0 if frame >= 4 else 10.0))
    found = find_track_runs(records, np.array(gray))
    frames = [[records[i].frame for i in run] for run in found]
    assert [[0, 1, 2, 3]] * 2 + [[4, 5, 6, 7]] * 2 + [[8, 9, 10, 11]] * 2 == sorted(frames)
    assert all(len({id(records[i].alignment) for i in run}) == 1 for run in found)
    jumping = [replace(first, frame=frame, alignment=(left, right)[frame]) for frame in range(2)]
    assert [[0], [1]] == find_track_runs(jumping, np.zeros((2, 4)))


class CountingSFace(SFace):
    """Embeds a crop by its color, and counts the calls."""

    def __init__(self) -> None:
        self.embed_count = 0

    def embed(self, image: Image, landmarks: Points) -> AnyArray:
        """Return one of three embeddings."""
        self.embed_count += 1
        return np.asarray(np.eye(128)[image.mean(axis=(0, 1)).argmax()])


def test_only_changed_crops_are_reread(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features are cached; with a damaged cache all crops are read again."""
    faces = make_set("a", count=8, hue=1)
    make_set("a", count=6, hue=0)
    cache, sface, read = tmp_path / "looks.npz", CountingSFace(), list[str]()
    read_image = image_io.read_image
    monkeypatch.setattr(
        image_io, "read_image", lambda path: read.append(path.name) or read_image(path)
    )

    def is_main_person() -> AnyArray:
        read.clear()
        features = compute_features(
            faces, cache=cache, load_sface=lambda: sface, on_progress=lambda _: None
        )
        return identity_similarity(features.embeddings) > 0.5

    assert [True] * 6 + [False] * 2 == is_main_person().tolist()
    assert 8 + sface.embed_count == len(read)
    assert [True] * 6 + [False] * 2 == is_main_person().tolist()
    assert [] == read
    make_set("a", count=1, hue=1)
    assert [False] + [True] * 5 + [False] * 2 == is_main_person().tolist()
    # The changed crop is of another shot, so the next one starts a run.
    assert ["000000-0.png", "000000-0.png", "000001-0.png"] == sorted(read)
    cache.write_bytes(b"torn")
    assert [False] + [True] * 5 + [False] * 2 == is_main_person().tolist()
    assert 8 < len(read)


# --- the stage ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def synthetic_set(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A set of rendered images, one blurred, one a duplicate, and one cut off."""
    folder = tmp_path_factory.mktemp("synthetic")
    shots = synthetic.render_frames(
        synthetic.CAST["ada"], synthetic.random_scenes(11, 9), size_px=256, processes=1
    )
    images = [shot.image for shot in shots]
    images.append(np.asarray(cv2.GaussianBlur(images[0], (0, 0), 4), dtype=np.uint8))
    images.append(images[3])
    images.append(np.ascontiguousarray(images[5][:, 100:]))
    for number, image in enumerate(images):
        image_io.write_png(folder / "shots" / f"{number:02d}.png", image)
    space = Workspace.open(folder / "workspace")
    extract(
        folder / "shots",
        folder=space.set_folder("ada"),
        settings=ExtractSettings(),
        report=Reporter(),
    )
    return space


@pytest.fixture
def ada(synthetic_set: Workspace) -> Iterator[Workspace]:
    """The synthetic set; rejected crops are restored after the test."""
    yield synthetic_set
    stage.restore_faces(synthetic_set.set_folder("ada"), report=Reporter())


def crops(space: Workspace) -> set[str]:
    """Return the names of the crops in the set."""
    return {path.name for path in space.set_folder("ada").root.glob("*.png")}


@pytest.mark.slow
def test_each_outlier_type_is_found(ada: Workspace) -> None:
    """Each in the crops that were made so, and in no others."""
    all_crops = crops(ada)
    for kind, expected in (
        ("blurry", {"000009-0.png"}),
        ("cut-off", {"000011-0.png"}),
        ("other-person", set()),
    ):
        stage.reject_faces(ada.set_folder("ada"), [kind], report=Reporter())
        assert expected == all_crops - crops(ada), kind
        stage.restore_faces(ada.set_folder("ada"), report=Reporter())
    stage.reject_faces(ada.set_folder("ada"), ["duplicate"], report=Reporter())
    assert all_crops - crops(ada) in ({"000003-0.png"}, {"000010-0.png"})


def test_rejected_crops_are_restored_unchanged(ada: Workspace) -> None:
    """Crops are moved, never deleted; bytes and records are the same afterwards."""
    folder = ada.set_folder("ada")
    before = {name: (folder.root / name).read_bytes() for name in crops(ada)}
    lines = folder.records.read_bytes()
    assert 3 == stage.reject_faces(folder, list(OUTLIER_TYPES), report=Reporter())
    (shown,) = stage.inspect_sets(["ada"], workspace=ada, report=Reporter()).sets
    assert (9, 3) == (shown.faces, shown.rejected)
    assert 0 == sum(shown.outlier_counts.values())
    assert 3 == stage.restore_faces(folder, report=Reporter())
    assert before == {name: (folder.root / name).read_bytes() for name in crops(ada)}
    assert lines == folder.records.read_bytes()


def test_restore_does_not_overwrite(ada: Workspace) -> None:
    """A file of the user's with a rejected crop's name stays, and so does the rejected crop."""
    folder = ada.set_folder("ada")
    stage.reject_faces(folder, ["blurry"], report=Reporter())
    other = folder.root / "000009-0.png"
    other.write_bytes(b"the user's own")
    assert 0 == stage.restore_faces(folder, report=Reporter())
    assert b"the user's own" == other.read_bytes()
    other.unlink()


def test_a_set_is_changed_by_one_process_at_a_time(ada: Workspace) -> None:
    """Crops are neither moved out nor back while another process writes into the set."""
    folder = ada.set_folder("ada")
    before = crops(ada)
    message = 'the set "ada" is being written by process'
    with set_lock(folder.root):
        with pytest.raises(InputError, match=message):
            stage.reject_faces(folder, ["blurry"], report=Reporter())
        with pytest.raises(InputError, match=message) as caught:
            stage.restore_faces(folder, report=Reporter())
    assert "then run the same command again" in caught.value.hint
    assert before == crops(ada)
    with output_lock(ada.faces_page("ada")), pytest.raises(InputError, match=r"ada\.html is being"):
        stage.inspect_sets(["ada"], workspace=ada, report=Reporter())


def test_page_is_self_contained(ada: Workspace) -> None:
    """It has a thumbnail for each face, and loads nothing from the web."""
    html = stage.inspect_sets(["ada"], workspace=ada, report=Reporter()).page.read_text()
    assert 12 == html.count("data:image/jpeg;base64,")
    assert not any(f'{one}="http' in html for one in ("src", "href"))
    assert "blurry (1)" in html


def test_outliers_come_first_on_a_full_page() -> None:
    """All outliers are shown, and some of the others, evenly spaced."""
    is_outlier = np.arange(1000) % 10 == 0
    shown = stage.select_tiles(is_outlier, max_tiles=200)
    assert 200 == len(shown)
    assert set(np.flatnonzero(is_outlier)) <= set(shown)
    assert {1, 999} <= set(shown)


def test_a_mistake_is_named(ada: Workspace) -> None:
    """An unknown type or set, a set named twice, an empty one, a line that is no record."""
    with pytest.raises(ConfigurationError, match="blury") as error:
        stage.reject_faces(ada.set_folder("ada"), ["blury"], report=Reporter())
    assert '"blurry"' in error.value.hint
    with pytest.raises(ConfigurationError, match='"adda"'):
        stage.inspect_sets(["adda"], workspace=ada, report=Reporter())
    empty = ada.set_folder("empty")
    empty.root.mkdir(parents=True, exist_ok=True)
    empty.records.write_text("")
    with pytest.raises(NoFacesError, match="no crops"):
        stage.inspect_sets(["empty"], workspace=ada, report=Reporter())
    with pytest.raises(ConfigurationError, match="named twice"):
        stage.inspect_sets(["ada", "ada"], workspace=ada, report=Reporter())
    for line in ("garbage", "{}", "[]", "3"):
        empty.records.write_text(f"{line}\n")
        with pytest.raises(InputError, match=r"faces\.jsonl cannot be read: its line 1 is not"):
            stage.inspect_sets(["empty"], workspace=ada, report=Reporter())
