"""A data set in the layout of FaceForensics++ becomes sets with pairs, splits and masks."""

import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import RecordingReporter, SpotDetector, make_spot_images, write_clip
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.frame_eval import FramePair, find_marked_area
from faceswap_cli.faces.alignment import align_face, transform_points
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.set_source import read_source
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.imports.import_faceforensics import PersonSummary, import_faceforensics
from faceswap_cli.training.dataset import cache_digest, crop_with_masks, unpack_face_mask
from faceswap_cli.video.writer import VideoWriter

FRAMES, SHORT = 7, 4
"""Frames of a source video, and of one method's mask video."""
SIDE_PX = 64


def make_mask(image: Image) -> Image:
    """Return the mask of a spot's left half, as a compressed video shows it."""
    columns = np.flatnonzero((image[..., 0] > 128).any(axis=0))
    mask = np.random.default_rng(0).integers(0, 30, image.shape, dtype=np.uint8)
    mask[30:90, columns[0] : columns[0] + 25] += 220
    return mask


def write_masks_video(path: Path, images: Sequence[Image]) -> None:
    """Write the masks of some images as a video."""
    with VideoWriter(path, size=(160, 120), rate=Fraction(25), quality=20) as writer:
        for index, image in enumerate(images):
            writer.write(make_mask(image), Fraction(index, 25))


@pytest.fixture(scope="module")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn data set: two pairs of which one is in a list, and masks of two methods."""
    root = tmp_path_factory.mktemp("ff") / "data"
    for name in ("000", "003", "008", "900"):
        path = root / "original_sequences/youtube/c23/videos" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_clip(path, frames=FRAMES, empty=frozenset(), first=int(name) % 100)
    images = list(make_spot_images(FRAMES, empty=frozenset()))
    for method, frames in (("Deepfakes", FRAMES), ("FaceSwap", SHORT)):
        masks = root / "manipulated_sequences" / method / "masks/videos"
        masks.mkdir(parents=True)
        write_masks_video(masks / "000_003.mp4", images[:frames])
    fakes = root / "manipulated_sequences/Deepfakes/c23/videos"
    fakes.mkdir(parents=True)
    write_clip(fakes / "008_000.mp4", frames=2, empty=frozenset())
    (root / "splits").mkdir()
    (root / "splits/train.json").write_text('[["000", "003"], ["777", "778"]]')
    # Names that are no videos' are left out: these would be paths, or move the cursor.
    (root / "splits/test.json").write_text('[["../000", "900"], ["900", "\\u001b[2J"], ["900"]]')
    return root


def run_import(data_set: Path, root: Path, **options: Any) -> list[PersonSummary]:  # noqa: ANN401
    """Import a data set."""
    options = {"report": RecordingReporter(), **options}
    return import_faceforensics(
        data_set,
        workspace=Workspace.open(root),
        settings=ExtractSettings(size_px=SIDE_PX),
        detector=SpotDetector,
        **options,
    )


@pytest.fixture(scope="module")
def people(
    data_set: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[PersonSummary], Workspace]:
    """The people of the data set, and their workspace."""
    root = tmp_path_factory.mktemp("workspace")
    return run_import(data_set, root), Workspace(root=root)


@pytest.mark.slow
def test_each_person_of_a_pair_becomes_a_set(
    people: tuple[list[PersonSummary], Workspace],
) -> None:
    """With its partner and list; a video in no pair, and a pair without video, become none."""
    found, space = people
    assert [
        ("000", "003", "train", FRAMES),
        ("003", "000", "train", 0),
        ("008", "000", "", 0),
    ] == [(one.name, one.partner, one.split, one.masks) for one in found]
    assert {FRAMES} == {one.faces for one in found}
    assert ["000", "003", "008"] == sorted(space.set_names())
    facts = read_source(space.set_folder("000").source)["import"]
    assert {
        "format": "FaceForensics++",
        "partner": "003",
        "split": "train",
        "method": "Deepfakes",
    } == facts
    assert "method" not in read_source(space.set_folder("003").source)["import"]


def test_masks_are_cut_as_the_crops_are(people: tuple[list[PersonSummary], Workspace]) -> None:
    """White where the mask is in the crop's frame, black elsewhere, whatever compression added."""
    faces = FaceSet.from_folder(people[1].set_folder("000"))
    seen = {0: 0, 255: 0}
    for record in faces.records:
        mask = image_io.read_image(faces.mask_path(record))[..., 0]
        spot = 20 + 3 * record.frame  # its first column
        for level, x in ((255, spot + 5), (255, spot + 20), (0, spot + 30), (0, spot + 45)):
            point = np.array([[x, 60]], np.float32)
            [[column, row]] = transform_points(point, record.alignment.frame_to_crop(SIDE_PX))
            if 1 < min(column, row) and max(column, row) < SIDE_PX - 2:
                assert mask[round(float(row)), round(float(column))] == level
                seen[level] += 1
    assert min(seen.values()) > FRAMES / 2


def test_training_takes_the_masks_in_place_of_the_outline(
    people: tuple[list[PersonSummary], Workspace],
) -> None:
    """The fourth channel has the mask; a crop without one has the outline, and another digest."""
    faces = FaceSet.from_folder(people[1].set_folder("000"))
    record = faces.records[3]
    path = faces.mask_path(record)
    expected = image_io.read_image(path)[..., 0] / 255
    actual = unpack_face_mask(crop_with_masks(faces, record, SIDE_PX)[..., 3])
    assert np.abs(actual - expected).max() < 0.01
    digest, content = cache_digest(faces, SIDE_PX), path.read_bytes()
    path.unlink()
    path.symlink_to(faces.path(record).parents[1] / "elsewhere.png")  # which is as good as none
    (faces.folder.parent / "elsewhere.png").write_bytes(content)
    try:
        assert faces.find_mask(record) is None
        outline = face_mask(record.landmarks, record.alignment, SIDE_PX)
        bare = replace(record, covered=0.0)  # a drawn face has little of one
        actual = unpack_face_mask(crop_with_masks(faces, bare, SIDE_PX)[..., 3])
        assert (actual > outline - 0.01).all()  # a forehead may reach higher
        assert np.abs(actual - outline)[SIDE_PX // 2 :].max() < 0.01
        assert digest != cache_digest(faces, SIDE_PX)
    finally:
        path.unlink()
        path.write_bytes(content)
        (faces.folder.parent / "elsewhere.png").unlink()


def test_a_second_import_changes_nothing(
    data_set: Path, people: tuple[list[PersonSummary], Workspace]
) -> None:
    """Also what was cut before stays; a mask that was deleted comes back."""
    found, space = people
    faces = FaceSet.from_folder(space.set_folder("000"))
    kept, deleted = (faces.mask_path(one) for one in faces.records[:2])
    before = kept.read_bytes()
    deleted.unlink()
    assert found == run_import(data_set, space.root)
    assert deleted.exists()
    assert before == kept.read_bytes()


def test_another_method_and_a_list_are_chosen(data_set: Path, tmp_path: Path) -> None:
    """What a shorter mask video does not have is counted."""
    report = RecordingReporter()
    found = run_import(data_set, tmp_path, method="FaceSwap", split="train", report=report)
    assert ["000", "003"] == [one.name for one in found]
    assert SHORT == found[0].masks
    assert f"000_003.mp4 has masks for {SHORT} of the {FRAMES} faces" in report.notes
    assert "003 has no mask of FaceSwap" in report.notes


@pytest.mark.parametrize("options", [{"method": "FaceSwop"}, {"split": "trian"}])
def test_unknown_methods_and_lists_are_refused(
    data_set: Path, tmp_path: Path, options: dict[str, str]
) -> None:
    """With the nearest name."""
    with pytest.raises(ConfigurationError) as raised:
        run_import(data_set, tmp_path, **options)
    assert "did you mean" in (raised.value.hint or "")


@pytest.mark.slow
def test_masks_of_other_footage_are_refused(data_set: Path, tmp_path: Path) -> None:
    """A mask of another size is of another video."""
    masks = data_set / "manipulated_sequences/Deepfakes/masks/videos/008_000.mp4"
    with VideoWriter(masks, size=(64, 48), rate=Fraction(25)) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8), Fraction(0))
    try:
        with pytest.raises(InputError, match="not of the size of the footage"):
            run_import(data_set, tmp_path)
    finally:
        masks.unlink()


def test_a_swap_is_measured_where_its_mask_is() -> None:
    """In the face's crop; a black mask is none."""
    image = next(make_spot_images(1, empty=frozenset()))
    [face] = SpotDetector().detect(image)
    alignment = align_face(face.landmarks)
    black, white = np.zeros_like(image), np.full_like(image, 255)
    for marked, expected in ((None, None), (black, None), (white, np.ones((256, 256)))):
        pair = FramePair(time=0, original=image, swapped=image, swapped_area=marked)
        area = find_marked_area(pair, alignment)
        assert (area is None) == (expected is None)
        assert area is None or np.array_equal(expected, area)


@pytest.mark.slow
def test_the_command_prints_every_set(
    data_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name with `--json`; one name for all of them is refused."""
    monkeypatch.setattr(
        "faceswap_cli.stages.imports.import_faceforensics.DETECTORS", {"litert": SpotDetector}
    )
    words = ["import", str(data_set), "--workspace", str(tmp_path), "--size", str(SIDE_PX)]
    done = CliRunner().invoke(app, [*words, "--json", "--consent", "synthetic"])
    assert 0 == done.exit_code, done.output
    result = json.loads(done.stdout)
    assert {"000", "003", "008"} == set(result)
    assert "train" == result["000"]["split"]
    done = CliRunner().invoke(app, [*words, "--name", "all"])
    assert 2 == done.exit_code
    assert "leave --name out" in done.stderr
