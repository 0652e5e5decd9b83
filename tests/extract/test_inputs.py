"""Several inputs, time ranges, and frame steps."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    FRAMES,
    SpotDetector,
    no_op,
    read_set_files,
    remux,
    run_extract,
    stamp_frame_number,
    write_clip,
)

from faceswap_cli.cli.app import app
from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import ExtractSummary, extract, set_names
from faceswap_cli.synthetic import CAST, animate, render_frames
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.source import FrameSource, find_sources


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> list[FrameSource]:
    """Two clips with one without a face between them, and a sequence of four images."""
    root = tmp_path_factory.mktemp("reel")
    write_clip(root / "a.mp4", frames=14)
    write_clip(root / "b.mp4", frames=6, empty=set(range(6)), first=14)
    write_clip(root / "c.mp4", frames=15, first=20)
    (root / "album").mkdir()
    for index, frame in enumerate(islice(read_frames(root / "a.mp4"), 9, 13)):
        image = stamp_frame_number(frame.image.copy(), 35 + index)
        image_io.write_png(root / "album" / f"{index}.png", image)
    return find_sources([root / "a.mp4", root / "b.mp4", root / "c.mp4", root / "album"])


def run_all(reel: Sequence[FrameSource], folder: SetFolder, **changes: object) -> ExtractSummary:
    """Extract all of the footage into one set with `SpotDetector`."""
    before = changes.pop("before", no_op)
    return extract(
        reel,
        folder=folder,
        settings=ExtractSettings(size_px=64, **changes),  # type: ignore[arg-type]
        report=Reporter(),
        detector=lambda: SpotDetector(before),  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_several_inputs_become_one_set(reel: Sequence[FrameSource], folder: SetFolder) -> None:
    """Crops have the frame numbers and times of their own input, and distinct names."""
    summary = run_all(reel, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    positions = [(record.input_index, record.frame) for record in found.records]
    assert (39, 13 + 14 + 4) == (summary.frames, summary.faces)
    assert sorted(positions) == positions
    assert {0: 13, 2: 14, 3: 4} == Counter(source for source, _ in positions)
    assert len(positions) == len({record.file for record in found.records})
    assert "3-000003-0.png" in {record.file for record in found.records}
    assert all(Fraction(record.frame, 25) == record.time for record in found.records)


@pytest.mark.slow
@pytest.mark.parametrize("at", [3, 12, 16, 22, 30, 36, 38])
def test_multi_input_set_resumes(
    reel: Sequence[FrameSource], folder: SetFolder, tmp_path: Path, at: int
) -> None:
    """Interrupted in any of the inputs and resumed, the set has the same bytes."""
    undisturbed = SetFolder(root=tmp_path / "undisturbed")
    run_all(reel, undisturbed)

    def stop(index: int) -> None:
        if index == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(reel, folder, before=stop)
    run_all(reel, folder)

    assert read_set_files(undisturbed) == read_set_files(folder)


@pytest.mark.slow
def test_different_inputs_need_another_set(reel: Sequence[FrameSource], folder: SetFolder) -> None:
    """A set of several inputs is not continued with fewer."""
    run_all(reel, folder)

    with pytest.raises(ConfigurationError) as caught:
        run_all(reel[:2], folder)

    assert 'the set "spot" holds the faces of another 4 inputs, a.mp4 to album' == (
        caught.value.message
    )


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({"start_s": 0.4}, [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]),
        ({"start_s": 0.5, "end_s": 0.64}, [13, 14, 15]),
        ({"end_s": 0.16, "every": 2}, [2]),
        ({"max_faces": 3}, [1, 2, 3]),
        ({"fps": 5}, [5, 10, 15, 20]),
        ({"fps": 10, "start_s": 0.4}, [10, 13, 15, 18, 20]),
        ({"fps": 100, "end_s": 0.16}, [1, 2, 3]),
        ({"max_faces": 9, "start_s": 0.1}, [3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ],
)
def test_time_range_limits_extraction(
    clip: Path, folder: SetFolder, tmp_path: Path, changes: dict[str, float], frames: list[int]
) -> None:
    """Only the requested frames are saved, and a resumed run gives the same bytes."""
    whole = SetFolder(root=tmp_path / "whole")
    summary = run_all(find_sources([clip]), whole, **changes)

    def stop(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        run_all(find_sources([clip]), folder, before=stop, **changes)
    run_all(find_sources([clip]), folder, **changes)

    found = FaceSet.load("whole", folder=whole.root, records=whole.records)
    assert frames == [record.frame for record in found.records]
    assert len(frames) == summary.faces <= summary.frames < FRAMES
    assert read_set_files(whole) == read_set_files(folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_start_time_is_seeked(folder: SetFolder, tmp_path: Path, kind: str) -> None:
    """Frames after a seek have the number, time and faces that reading from the start gives."""
    clip = write_clip(tmp_path / "long.mp4", frames=60, empty=frozenset())
    clip = remux(clip, tmp_path / f"other.{kind}")
    whole = SetFolder(root=tmp_path / "whole")
    settings = {"size_px": 64, "faces": "all"}
    run_extract(clip, whole, settings=ExtractSettings(**settings))  # type: ignore[arg-type]

    run_extract(clip, folder, settings=ExtractSettings(**settings, start_s=1.5))  # type: ignore[arg-type]

    expected = FaceSet.load("whole", folder=whole.root, records=whole.records).records
    found = FaceSet.load("part", folder=folder.root, records=folder.records).records
    assert list(range(38, 60)) == [record.frame for record in found]
    for one, other in zip(expected[-len(found) :], found, strict=True):
        assert (one.file, one.time) == (other.file, other.time)
        np.testing.assert_array_equal(one.landmarks, other.landmarks)


@pytest.mark.slow
def test_changed_limit_is_a_different_setting(clip: Path, folder: SetFolder) -> None:
    """A setting missing in source.toml has its default."""
    run_extract(clip, folder)

    with pytest.raises(ConfigurationError, match=r"other settings \(max_faces none, now 3\)"):
        run_extract(clip, folder, settings=ExtractSettings(size_px=64, max_faces=3))


def test_each_input_becomes_its_own_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without --name a folder of images and a video are two sets; one without faces is noted."""
    rendered = render_frames(CAST["ada"], animate(4, seconds=0.2).scenes, size_px=192, processes=1)
    for index, frame in enumerate(rendered):
        image_io.write_png(tmp_path / "ada" / f"{index}.png", frame.image)
    write_clip(tmp_path / "empty.mp4", frames=3)
    command = ["extract", str(tmp_path / "ada"), str(tmp_path / "empty.mp4"), "--json"]

    with pytest.raises(SystemExit) as ended:
        app([*command, "--workspace", str(tmp_path / "space")])

    assert 0 == ended.value.code
    summary = json.loads(capsys.readouterr().out)
    assert ("ada", 5, 5) == (summary["name"], summary["frames"], summary["faces"])
    assert 5 == len(list((tmp_path / "space" / "faces" / "ada").glob("*.png")))
    assert not (tmp_path / "space" / "faces" / "empty").exists()


def test_inputs_of_the_same_name_need_one_set(clip: Path, tmp_path: Path) -> None:
    """Names that would collide are an error before anything is written."""
    (tmp_path / "other").mkdir()
    copy = Path(shutil.copy(clip, tmp_path / "other"))

    with pytest.raises(ConfigurationError, match='two inputs would both become the set "spot"'):
        set_names(find_sources([clip, copy]))


def test_frame_step(clip: Path, folder: SetFolder) -> None:
    """With every=5 only the frames 0, 5, 10, ... are processed."""
    processed: set[int] = set()

    summary = run_extract(
        clip, folder, settings=ExtractSettings(size_px=64, every=5), before=processed.add
    )

    assert {0, 5, 10, 15, 20} == processed
    assert (5, 4) == (summary.frames, summary.faces)
    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    assert [5, 10, 15, 20] == [record.frame for record in found.records]
