"""What extract writes for a face: its crop and its record; and the progress it reports."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import (
    FRAMES,
    FRAMES_MISSED,
    FRAMES_WITHOUT_FACE,
    RecordingReporter,
    mark_unfinished,
    read_set_files,
    run_extract,
)

from faceswap_cli.core import image_io
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.synthetic import CAST, animate, render_frames
from faceswap_cli.training.dataset import crop_with_masks
from faceswap_cli.video.writer import VideoWriter


@pytest.mark.slow
def test_every_face_gets_a_crop_and_a_record(clip: Path, folder: SetFolder) -> None:
    """Records have their crop, frame and exact time; frames without a face have no record."""
    summary = run_extract(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    with_face = [index for index in range(FRAMES) if index not in FRAMES_WITHOUT_FACE]
    assert ("spot", FRAMES, len(with_face)) == (summary.name, summary.frames, summary.faces)
    assert with_face == [record.frame for record in found.records]
    assert [Fraction(index, 25) for index in with_face] == [record.time for record in found.records]
    assert [f"{index:06d}-0.png" for index in with_face] == [
        record.file for record in found.records
    ]
    assert {"faces.jsonl", "source.toml"} | {record.file for record in found.records} == set(
        read_set_files(folder)
    )
    assert (64, 64, 3) == image_io.read_image(found.path(found.records[0])).shape
    assert FRAMES_MISSED == {record.frame for record in found.records if record.is_interpolated}
    assert {0} == {record.track for record in found.records}


@pytest.mark.slow
def test_crop_matches_its_record(clip: Path, folder: SetFolder) -> None:
    """The recorded landmarks, mapped by the alignment, are on the bright spot of the crop."""
    run_extract(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    for record in (one for one in found.records if not one.is_interpolated):
        crop = image_io.read_image(found.path(record))
        points = np.c_[record.landmarks, np.ones(478)] @ record.alignment.frame_to_crop(64).T
        inside = points[((points > 2) & (points < 61)).all(axis=1)].round().astype(int)
        assert len(inside) > 50
        assert crop[inside[:, 1], inside[:, 0], 0].mean() > 180


@pytest.mark.slow
def test_progress_counts_frames(clip: Path, folder: SetFolder) -> None:
    """Progress is reported after every frame; a resumed run starts where the first stopped."""

    def stop(index: int) -> None:
        if index == 22:
            raise KeyboardInterrupt

    first, second = RecordingReporter(), RecordingReporter()
    with pytest.raises(KeyboardInterrupt):
        run_extract(clip, folder, before=stop, report=first)
    run_extract(clip, folder, report=second)

    done = len(first.done)
    assert list(range(1, FRAMES + 1)) == [*first.done, *second.done]
    assert [f"resuming after frame {done - 1}: {done - 1} faces so far"] == second.notes


@pytest.mark.slow
def test_synthetic_face_is_extracted(tmp_path: Path) -> None:
    """With the real detector every frame of a person becomes a face, also after a crash."""
    performance = animate(4, seconds=1)
    rendered = render_frames(CAST["ada"], performance.scenes, size_px=192, processes=1)
    with VideoWriter(tmp_path / "ada.mp4", size=(192, 192), rate=performance.rate) as writer:
        for index, frame in enumerate(rendered):
            writer.write(frame.image, index / performance.rate)

    def extract_to(name: str) -> SetFolder:
        folder = SetFolder(root=tmp_path / name)
        summary = extract(
            tmp_path / "ada.mp4", folder=folder, settings=ExtractSettings(), report=Reporter()
        )
        assert (25, 25) == (summary.frames, summary.faces)
        return folder

    first, second = extract_to("first"), extract_to("second")
    lines = second.records.read_bytes().splitlines(keepends=True)
    second.records.write_bytes(b"".join(lines[:17]) + lines[17][:100])
    mark_unfinished(second)

    assert read_set_files(first) == read_set_files(extract_to("second"))


@pytest.mark.slow
def test_head_framing_in_jpeg(clip: Path, folder: SetFolder, tmp_path: Path) -> None:
    """A head crop has its framing in the record and gives its face; JPEG is close to PNG."""
    faces = SetFolder(root=tmp_path / "faces")
    run_extract(clip, faces)
    run_extract(clip, folder, settings=ExtractSettings(size_px=96, framing="head", format="jpeg"))

    one, two = (
        FaceSet.load("spot", folder=each.root, records=each.records) for each in (faces, folder)
    )
    for small, large in zip(one.records, two.records, strict=True):
        assert ("face", "head") == (small.framing, large.framing)
        assert large.file.endswith(".jpg")
        assert (96, 96, 3) == image_io.read_image(two.path(large)).shape
        np.testing.assert_allclose(
            large.alignment.shrink_to_face().to_unit, small.alignment.to_unit, atol=1e-9
        )
        # The spot is noise: in a smaller image only its mean colors remain.
        # Nothing covers it, although it looks like no face.
        crops = [
            crop_with_masks(faces, replace(record, covered=0.0), 64)
            for faces, record in ((one, small), (two, large))
        ]
        from_face, from_head = (
            cv2.resize(crop, (6, 6), interpolation=cv2.INTER_AREA) for crop in crops
        )
        assert np.corrcoef(from_face.ravel(), from_head.ravel())[0, 1] > 0.9
        # Above the middle a forehead may be seen in noise.
        assert np.abs(crops[0][32:, :, 3].astype(int) - crops[1][32:, :, 3]).max() <= 1


def test_record_holds_every_field(clip: Path, folder: SetFolder) -> None:
    """Every field that other programs may read has its documented name."""
    run_extract(clip, folder)

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
