"""Crops as large as the faces in the footage, and what a set takes on the disk, told beforehand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    FRAMES,
    RecordingReporter,
    SpotDetector,
    mark_unfinished,
    read_set_files,
    run_extract,
    write_clip,
)
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.crop_size import (
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SIZE_STEP_PX,
    choose_size_px,
    estimate_bytes,
    survey_faces,
)
from faceswap_cli.faces.set_source import read_source, write_source
from faceswap_cli.faces.settings import AUTO_SIZE_PX, ExtractSettings
from faceswap_cli.video.reader import read_frames

AUTO = ExtractSettings(size_px=AUTO_SIZE_PX)


@pytest.fixture
def folder(tmp_path: Path) -> SetFolder:
    """A set that does not exist yet."""
    return SetFolder(root=tmp_path / "faces" / "ada")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip with a face in every frame, which is large for its frames."""
    return write_clip(tmp_path / "clip.mp4", empty=frozenset())


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Make the disk have that much free space."""
    usage = shutil.disk_usage("/")._replace(free=count)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_a_size_is_the_next_step_that_keeps_most_faces_whole() -> None:
    """Within limits, growing with the faces; a few large faces do not decide."""
    sides = np.linspace(20, 900, 40)
    sizes = [choose_size_px([side]) for side in sides]
    assert sizes == sorted(sizes)
    assert (MIN_SIZE_PX, MAX_SIZE_PX) == (sizes[0], sizes[-1])
    for side, size in zip(sides, sizes, strict=True):
        assert 0 == size % SIZE_STEP_PX
        assert size >= min(side, MAX_SIZE_PX)
        assert size < max(side, MIN_SIZE_PX) + SIZE_STEP_PX
    assert 256 == choose_size_px([256.0])
    assert choose_size_px([200.0] * 99 + [500.0]) == choose_size_px([200.0])
    assert ExtractSettings.size_px == choose_size_px([])


@pytest.mark.slow
def test_auto_gives_a_set_one_size_that_its_faces_have(clip: Path, folder: SetFolder) -> None:
    """The set is the same as with that size, and keeps it when it goes on."""
    with SpotDetector() as detector:
        survey = survey_faces(read_frames(clip), detector=detector, settings=AUTO)
    size_px = choose_size_px(survey.sides_px)
    run_extract(clip, folder, settings=AUTO)
    assert size_px == read_source(folder.source)["settings"]["size_px"]
    crops = [image_io.read_image(path) for path in folder.root.glob("*.png")]
    assert {(size_px, size_px, 3)} == {crop.shape for crop in crops}
    files = read_set_files(folder)
    report = RecordingReporter()
    run_extract(clip, folder, settings=ExtractSettings(size_px=size_px), report=report)
    assert any("nothing left to do" in note for note in report.notes)
    source = read_source(folder.source)
    write_source(folder, {**source, "settings": {**source["settings"], "size_px": 96}})
    mark_unfinished(folder)
    run_extract(clip, folder, settings=AUTO)
    assert 96 == read_source(folder.source)["settings"]["size_px"]
    assert files.keys() == read_set_files(folder).keys()


def test_the_disk_use_is_told_before_the_first_crop(clip: Path, folder: SetFolder) -> None:
    """In one line, which is about right and never far too low."""
    report = RecordingReporter()
    settings = ExtractSettings(size_px=128, every=2)
    run_extract(clip, folder, settings=settings, report=report)
    told = [note for note in report.notes if "with a face in every frame" in note]
    assert 1 == len(told)
    assert told[0] == report.notes[0]
    assert "crops of 128 px" in told[0]
    taken = sum(len(content) for content in read_set_files(folder).values())
    assert 0.3 < taken / estimate_bytes(FRAMES / 2, settings) < 2  # noise, which PNG cannot shrink


@pytest.mark.slow
def test_a_disk_that_cannot_hold_the_set_is_refused_before_anything_is_written(
    clip: Path, folder: SetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sizes; fewer faces fit."""
    settings = ExtractSettings(size_px=256)
    set_free_bytes(monkeypatch, estimate_bytes(FRAMES / 2, settings))
    with pytest.raises(InputError, match=r"the set needs . MB more on the disk") as raised:
        run_extract(clip, folder, settings=settings)
    assert "--workspace" in (raised.value.hint or "")
    assert not folder.root.exists()
    run_extract(clip, folder, settings=ExtractSettings(size_px=256, max_faces=3))
    assert folder.records.exists()


@pytest.mark.slow
def test_footage_with_few_faces_fits_on_a_small_disk(
    tmp_path: Path, folder: SetFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames without a face take no space: a look at some of them decides."""
    clip = write_clip(tmp_path / "few.mp4", empty=frozenset(range(FRAMES)) - {3, 4})
    settings = ExtractSettings(size_px=256)
    set_free_bytes(monkeypatch, estimate_bytes(4, settings))
    assert 2 == run_extract(clip, folder, settings=settings).faces


@pytest.mark.parametrize(
    ("size", "message"),
    [("big", "neither a number of pixels nor auto"), ("9", "16 to 4096, or auto")],
)
def test_a_size_is_a_number_or_auto(tmp_path: Path, size: str, message: str) -> None:
    """Anything else is refused in the words of the option."""
    words = ["extract", str(tmp_path), "--size", size, "--workspace", str(tmp_path / "w")]
    write_clip(tmp_path / "a.mp4", frames=2)
    done = CliRunner().invoke(app, words)
    assert 2 == done.exit_code
    assert message in done.stderr
