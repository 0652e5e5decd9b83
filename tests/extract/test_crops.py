"""What extract keeps of a face: its crop, its line, and the progress on the way."""

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from spots import EMPTY, FRAMES, HIDDEN, Listener, content, run, undo_end

from faceswap_cli import pictures
from faceswap_cli.actors import CAST, draw_all, perform
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.learning.data import masked_crop
from faceswap_cli.report import Silent
from faceswap_cli.stages.extract import extract
from faceswap_cli.video.writer import VideoWriter
from faceswap_cli.workspace import SetFolder


def test_every_face_becomes_a_crop_and_a_line(clip: Path, folder: SetFolder) -> None:
    """Records name their crop, frame and exact time; frames without a face leave nothing."""
    summary = run(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    with_face = [index for index in range(FRAMES) if index not in EMPTY]
    assert ("spot", FRAMES, len(with_face)) == (summary.name, summary.frames, summary.faces)
    assert with_face == [record.frame for record in found.records]
    assert [Fraction(index, 25) for index in with_face] == [record.time for record in found.records]
    assert [f"{index:06d}-0.png" for index in with_face] == [
        record.file for record in found.records
    ]
    assert {"faces.jsonl", "source.toml"} | {record.file for record in found.records} == set(
        content(folder)
    )
    assert (64, 64, 3) == pictures.read(found.path(found.records[0])).shape
    assert HIDDEN == {record.frame for record in found.records if record.is_interpolated}
    assert {0} == {record.track for record in found.records}


def test_a_crop_shows_what_its_record_says(clip: Path, folder: SetFolder) -> None:
    """The recorded landmarks and alignment land on the bright spot of the crop."""
    run(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    for record in (one for one in found.records if not one.is_interpolated):
        crop = pictures.read(found.path(record))
        points = np.c_[record.landmarks, np.ones(478)] @ record.alignment.matrix(64).T
        inside = points[((points > 2) & (points < 61)).all(axis=1)].round().astype(int)
        assert len(inside) > 50
        assert crop[inside[:, 1], inside[:, 0], 0].mean() > 180


def test_progress_counts_frames(clip: Path, folder: SetFolder) -> None:
    """The reporter hears of every frame, and on going on starts where the run stopped."""

    def stop(index: int) -> None:
        if index == 22:
            raise KeyboardInterrupt

    first, second = Listener(), Listener()
    with pytest.raises(KeyboardInterrupt):
        run(clip, folder, before=stop, report=first)
    run(clip, folder, report=second)

    done = len(first.done)
    assert list(range(1, FRAMES + 1)) == [*first.done, *second.done]
    assert [f"going on after frame {done - 1}: {done - 1} faces so far"] == second.notes


def test_a_drawn_person_is_extracted(tmp_path: Path) -> None:
    """With the real detector every frame of a drawn person becomes a face, killed or not."""
    performance = perform(4, seconds=1)
    drawn = draw_all(CAST["ada"], performance.moments, size_px=192, processes=1)
    with VideoWriter(tmp_path / "ada.mp4", size=(192, 192), rate=performance.rate) as writer:
        for index, drawing in enumerate(drawn):
            writer.write(drawing.image, index / performance.rate)

    def extracted(name: str) -> SetFolder:
        folder = SetFolder(root=tmp_path / name)
        summary = extract(
            tmp_path / "ada.mp4", folder=folder, settings=ExtractSettings(), report=Silent()
        )
        assert (25, 25) == (summary.frames, summary.faces)
        return folder

    first, second = extracted("first"), extracted("second")
    lines = second.records.read_bytes().splitlines(keepends=True)
    second.records.write_bytes(b"".join(lines[:17]) + lines[17][:100])
    undo_end(second)

    assert content(first) == content(extracted("second"))


def test_crops_of_heads_in_jpeg(clip: Path, folder: SetFolder, tmp_path: Path) -> None:
    """A head's crop shows more, says so, and holds its face; JPEG hardly differs from PNG."""
    faces = SetFolder(root=tmp_path / "faces")
    run(clip, faces)
    run(clip, folder, settings=ExtractSettings(size_px=96, framing="head", format="jpeg"))

    one, two = (
        FaceSet.load("spot", folder=each.root, records=each.records) for each in (faces, folder)
    )
    for small, large in zip(one.records, two.records, strict=True):
        assert ("face", "head") == (small.framing, large.framing)
        assert large.file.endswith(".jpg")
        assert (96, 96, 3) == pictures.read(two.path(large)).shape
        np.testing.assert_allclose(
            large.alignment.face_in_head().to_unit, small.alignment.to_unit, atol=1e-9
        )
        # The spot is noise: what is left of it in a smaller picture is its colours.
        cuts = [masked_crop(*each, 64) for each in ((one, small), (two, large))]
        near, far = (cv2.resize(cut, (6, 6), interpolation=cv2.INTER_AREA) for cut in cuts)
        assert np.corrcoef(near.ravel(), far.ravel())[0, 1] > 0.9
        assert np.abs(cuts[0][..., 3].astype(int) - cuts[1][..., 3]).max() <= 1


def test_a_record_says_all_that_is_known(clip: Path, folder: SetFolder) -> None:
    """Every field of a line that other programs may read, under its name."""
    run(clip, folder)

    line = json.loads(folder.records.read_text().splitlines()[0])

    assert {
        "file": "000001-0.png",
        "frame": 1,
        "time": "1/25",
        "track": 0,
        "score": 0.9,
        "pose": [1.0, 2.0, 3.0],
        "expression": [0.25] * 52,
    } == {
        key: line[key] for key in ("file", "frame", "time", "track", "score", "pose", "expression")
    }
    assert (478, 2) == np.shape(line["landmarks"])
    assert (2, 3) == np.shape(line["to_unit"])
    assert line["sharpness"] > 0
    hull = np.array(line["mask"])
    assert hull.shape[1] == 2
    np.testing.assert_array_equal(hull.min(axis=0), np.min(line["landmarks"], axis=0))
