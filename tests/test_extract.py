"""Laws of extract: stopped anyhow and run again it ends with the same bytes; it says what it lacks.

Most of them use a detector that finds bright spots: it is quick, and it can die where it is told.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Self

import av
import cv2
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from faceswap_cli import pictures
from faceswap_cli.actors import CAST, draw_all, perform
from faceswap_cli.arrays import Image
from faceswap_cli.cli.app import app
from faceswap_cli.errors import ConfigurationError, InputError, NoFacesError
from faceswap_cli.faces import journal
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.follow import Pace
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.faces.region import Region
from faceswap_cli.learning.data import masked_crop
from faceswap_cli.report import Silent
from faceswap_cli.stages import extract as stage
from faceswap_cli.stages.extract import ExtractSettings, ExtractSummary, extract, set_names
from faceswap_cli.video.footage import Footage, find_footage
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter
from faceswap_cli.views import View
from faceswap_cli.workspace import SetFolder

FRAMES = 24
EMPTY = frozenset({0, 22, 23})
"""Frames without a face: the first and the last ones."""
HIDDEN = frozenset({7, 8})
"""Frames in which it is there, and nobody sees it."""
FACES = FRAMES - len(EMPTY)


def nothing(index: int) -> None:
    """Do nothing ahead of the image number `index`."""


class SpotDetector:
    """Takes the bright part of an image for a face; runs `before` ahead of each image.

    It reads the number of an image off its corner, where `write_clip` put it.
    """

    def __init__(self, before: Callable[[int], None] = nothing) -> None:
        self.before = before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hold nothing."""

    def detect(self, image: Image) -> list[Face]:
        """Return one face around the bright pixels, if there are any."""
        self.before(number_of(image))
        return self._spots(image)

    def find(self, image: Image) -> list[Region]:
        """Return where that is."""
        return [Region.of(face.landmarks) for face in self.detect(image)]

    def place(self, image: Image, found: Sequence[Region], *, beside: Sequence[Face]) -> list[Face]:
        """Return the face, known or not."""
        return self._spots(image)

    def follow(self, view: View, faces: Sequence[Face]) -> list[Face]:
        """Return the same as `detect`."""
        return self.detect(view.whole())

    def _spots(self, image: Image) -> list[Face]:
        """Return one face around the bright pixels, if there are any."""
        rows, columns = np.nonzero(image[..., 0] > 128)
        if rows.size < 500:
            return []
        box = np.float32([columns.min(), rows.min(), columns.max(), rows.max()])
        spread = np.random.default_rng(1).uniform(0, 1, (478, 2))
        landmarks = (box[:2] + spread * (box[2:] - box[:2])).astype(np.float32)
        return [
            Face(
                box=box,
                landmarks=landmarks,
                score=0.9,
                expression=(0.25,) * 52,
                pose=(1.0, 2.0, 3.0),
            )
        ]


def number_of(image: Image) -> int:
    """Return the number in an image's corner."""
    bits = image[:8, :64, 0].reshape(8, 8, 8).mean(axis=(0, 2)) > 60
    return int(sum(1 << place for place in np.flatnonzero(bits)))


def with_number(image: Image, number: int) -> Image:
    """Put a number into an image's corner, below 128 levels."""
    for place in range(8):
        image[:8, 8 * place : 8 * place + 8] = 115 * (number >> place & 1)
    return image


class Listener(Silent):
    """Keeps what a stage says."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.done: list[float] = []

    def note(self, text: str) -> None:
        """Keep a line."""
        self.notes.append(text)

    def advance(self, done: float, numbers: object = None) -> None:
        """Keep the progress."""
        self.done.append(done)


def write_clip(
    path: Path, *, frames: int = FRAMES, empty: Set[int] = EMPTY, first: int = 0
) -> Path:
    """Write a clip of a bright spot that wanders over a dark ground, its images numbered."""
    chance = np.random.default_rng(3)
    with VideoWriter(path, size=(160, 120), rate=Fraction(25), quality=10) as writer:
        for index in range(frames):
            image = chance.integers(0, 40, (120, 160, 3), dtype=np.uint8)
            if index not in empty:
                x = 20 + 3 * (index % 30)
                image[30:90, x : x + 50] = chance.integers(190, 255, (60, 50, 3))
            if index in HIDDEN:
                image[..., 0] = np.minimum(image[..., 0], 90)
            writer.write(with_number(image, first + index), Fraction(index, 25))
    return path


@pytest.fixture(autouse=True)
def _marks_every_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far the work got is said after every frame: the clips here last no two seconds."""
    monkeypatch.setattr(journal, "SYNC_SECONDS", 0.0)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short clip in a folder of its own."""
    return write_clip(tmp_path_factory.mktemp("clip") / "spot.mp4")


@pytest.fixture
def folder(tmp_path: Path) -> SetFolder:
    """A set that is not there yet."""
    return SetFolder(root=tmp_path / "workspace" / "faces" / "spot")


def run(
    clip: Path,
    folder: SetFolder,
    *,
    settings: ExtractSettings | None = None,
    before: Callable[[int], None] = nothing,
    report: Listener | None = None,
) -> ExtractSummary:
    """Extract with the quick detector."""
    return extract(
        clip,
        folder=folder,
        settings=settings or ExtractSettings(size_px=64),
        report=report or Listener(),
        detector=lambda: SpotDetector(before),
    )


def content(folder: SetFolder) -> dict[str, bytes]:
    """Every file of a set by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.root.iterdir())}


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of an extraction that nothing disturbed."""
    undisturbed = SetFolder(root=tmp_path_factory.mktemp("whole") / "undisturbed")
    run(clip, undisturbed)
    return content(undisturbed)


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


@pytest.mark.parametrize(
    ("at", "failure"), [(0, KeyboardInterrupt), (8, MemoryError), (20, KeyboardInterrupt)]
)
def test_a_stopped_run_goes_on_to_the_same_bytes(
    clip: Path,
    folder: SetFolder,
    whole: dict[str, bytes],
    at: int,
    failure: type[BaseException],
) -> None:
    """Ctrl-C or an error at any frame, then the same command: as if nothing had happened."""

    def stop(index: int) -> None:
        if index == at:
            raise failure

    with pytest.raises(failure):
        run(clip, folder, before=stop)
    seen: set[int] = set()
    summary = run(clip, folder, before=seen.add)

    assert whole == content(folder)
    assert (FRAMES, FACES) == (summary.frames, summary.faces)
    assert set(range(max(0, at - Pace().held), FRAMES)) >= seen


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import test_extract as here

here.journal.SYNC_SECONDS = 0.0

def die(index):
    if index == {at}:
        time.sleep({delay})  # lets the writing thread get to another place
        os.kill(os.getpid(), signal.SIGKILL)

here.run(Path({clip!r}), here.SetFolder(root=Path({root!r})), before=die)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9")
@pytest.mark.parametrize(("at", "delay"), [(3, 0.0), (10, 0.002)])
def test_a_killed_run_goes_on_to_the_same_bytes(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], at: int, delay: float
) -> None:
    """A process killed without warning, twice over, loses nothing and leaves nothing behind."""
    script = KILLED.format(
        tests=str(Path(__file__).parent), at=at, delay=delay, clip=str(clip), root=str(folder.root)
    )
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        if died.returncode == 0:  # the second run had fewer frames left than `at`
            break
        assert -signal.SIGKILL == died.returncode, died.stderr.decode()
    run(clip, folder)

    assert whole == content(folder)


@pytest.mark.parametrize("cut", [1, 5000])
def test_a_torn_last_line_is_found_again(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], cut: int
) -> None:
    """Whatever of the records a crash left, the run goes on from the last whole line."""
    run(clip, folder)
    os.truncate(folder.records, folder.records.stat().st_size - cut)
    undo_end(folder)

    run(clip, folder)

    assert whole == content(folder)


def undo_end(folder: SetFolder) -> None:
    """Make a finished set look like one that was stopped."""
    text = folder.source.read_text()
    folder.source.write_text(text[: text.index("\n[result]")])


def test_lines_lost_in_zeros_are_found_again(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """A power cut can leave a file's length and not its content."""
    run(clip, folder)
    size = folder.records.stat().st_size
    os.truncate(folder.records, size - 6000)
    os.truncate(folder.records, size)
    undo_end(folder)

    run(clip, folder)

    assert whole == content(folder)


def test_leftovers_of_a_kill_are_swept(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """Half-written temporary files go; a crop without a line is written again; others stay."""
    folder.root.mkdir(parents=True)
    (folder.root / ".000003-0-abcd_123.png").write_bytes(b"half a")
    (folder.root / "000004-0.png").write_bytes(b"half a")
    (folder.root / ".my-notes.txt").write_text("keep me")

    run(clip, folder)

    assert whole | {".my-notes.txt": b"keep me"} == content(folder)


def test_a_complete_set_is_left_alone(clip: Path, folder: SetFolder) -> None:
    """The same command a second time says so, looks at nothing and changes nothing."""
    first = run(clip, folder)
    before, report = content(folder), Listener()

    def never(index: int) -> None:
        pytest.fail("looked at a frame again")

    second = run(clip, folder, before=never, report=report)

    assert (first.frames, first.faces) == (second.frames, second.faces)
    assert ['the set "spot" is complete: nothing left to do'] == report.notes
    assert before == content(folder)


def test_a_crop_deleted_by_hand_stays_deleted(clip: Path, folder: SetFolder) -> None:
    """Going on does not bring back what the user threw out, and it is out of the set."""
    run(clip, folder)
    folder.crop(5, 0).unlink()

    run(clip, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    assert 5 not in [record.frame for record in found.records]


def test_the_same_video_under_another_name_is_the_same(clip: Path, folder: SetFolder) -> None:
    """A source is known by its content: moving it does not stop a run from going on."""
    run(clip, folder)
    moved = Path(shutil.copy(clip, folder.root.parent / "renamed.mp4"))
    report = Listener()

    run(moved, folder, report=report)

    assert ['the set "spot" is complete: nothing left to do'] == report.notes


def test_another_video_needs_another_name(clip: Path, folder: SetFolder, tmp_path: Path) -> None:
    """A set is never mixed from two sources by accident."""
    run(clip, folder)
    before = content(folder)
    other = write_clip(tmp_path / "other.mp4", frames=5)

    with pytest.raises(ConfigurationError) as caught:
        run(other, folder)

    assert 'the set "spot" holds the faces of another video, spot.mp4' == caught.value.message
    assert "choose another name with --name" == caught.value.hint
    assert before == content(folder)


def test_one_changed_byte_makes_another_video(
    clip: Path, folder: SetFolder, tmp_path: Path
) -> None:
    """A file of the same size is told from the first by its content."""
    run(clip, folder)
    data = clip.read_bytes()
    assert b"x264" in data  # the encoder's signature, which no decoder minds
    (tmp_path / "other.mp4").write_bytes(data.replace(b"x264", b"y264", 1))

    with pytest.raises(ConfigurationError, match="the faces of another video"):
        run(tmp_path / "other.mp4", folder)


def test_other_settings_need_another_name(clip: Path, folder: SetFolder) -> None:
    """The crops of a set are all of one size."""
    run(clip, folder)

    with pytest.raises(ConfigurationError, match=r"other settings \(size_px 64, now 32\)"):
        run(clip, folder, settings=ExtractSettings(size_px=32))


def test_faces_of_nobody_knows_whom_are_not_touched(clip: Path, folder: SetFolder) -> None:
    """A folder with records and without a source is somebody else's."""
    folder.root.mkdir(parents=True)
    folder.records.write_text("{}\n")

    with pytest.raises(ConfigurationError, match="nothing says whose"):
        run(clip, folder)
    assert "{}\n" == folder.records.read_text()


def test_a_source_that_cannot_be_read_is_named(clip: Path, folder: SetFolder) -> None:
    """A damaged source.toml stops the run before anything is overwritten."""
    folder.root.mkdir(parents=True)
    folder.source.write_text("[input\n")

    with pytest.raises(InputError, match=r"source\.toml cannot be read"):
        run(clip, folder)


def test_no_face_at_all_leaves_no_set(folder: SetFolder, tmp_path: Path) -> None:
    """A clip without faces ends with exit code 4, advice, and no folder."""
    clip = write_clip(tmp_path / "nobody.mp4", frames=3, empty={0, 1, 2})

    with pytest.raises(NoFacesError) as caught:
        run(clip, folder)

    assert 4 == caught.value.exit_code
    assert "no face was found in the 3 frames of nobody.mp4" == caught.value.message
    assert "30 px wide or more: try a closer shot" in caught.value.hint
    assert not folder.root.exists()


def test_a_missing_video_leaves_no_set(folder: SetFolder, tmp_path: Path) -> None:
    """A typing mistake in the name changes nothing on the disk."""
    with pytest.raises(InputError, match=r"nowhere\.mp4"):
        run(tmp_path / "nowhere.mp4", folder)
    assert not folder.root.exists()


def test_a_detector_that_cannot_be_loaded_leaves_no_set(clip: Path, folder: SetFolder) -> None:
    """What is missing on the machine is said before anything is written."""

    def refuse() -> SpotDetector:
        raise InputError("no detector here")

    with pytest.raises(InputError, match="no detector here"):
        extract(clip, folder=folder, settings=ExtractSettings(), report=Silent(), detector=refuse)
    assert not folder.root.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ExtractSettings(faces="smallest"), 'no choice of faces called "smallest"'),
        (ExtractSettings(size_px=4), "crops cannot be 4 px wide"),
        (ExtractSettings(every=0), "every 0 frames makes no sense"),
        (ExtractSettings(detector="lightrt"), 'no face detector called "lightrt"'),
        (ExtractSettings(framing="hed"), 'no framing called "hed"'),
        (ExtractSettings(format="bmp"), 'no picture format called "bmp"'),
        (ExtractSettings(fps=0), "0 frames a second make no sense"),
        (ExtractSettings(fps=5, every=2), "say the same thing twice"),
        (ExtractSettings(start_s=3, end_s=2), "the end, 2 s, is not after the start, 3 s"),
    ],
)
def test_settings_are_checked(
    clip: Path, folder: SetFolder, settings: ExtractSettings, message: str
) -> None:
    """A setting that makes no sense is named before the video is read."""
    with pytest.raises(ConfigurationError, match=message):
        run(clip, folder, settings=settings)


def test_every_nth_frame_can_be_enough(clip: Path, folder: SetFolder) -> None:
    """With every=5 frames 0, 5, 10, ... are looked at, and no others."""
    seen: set[int] = set()

    summary = run(clip, folder, settings=ExtractSettings(size_px=64, every=5), before=seen.add)

    assert {0, 5, 10, 15, 20} == seen
    assert (5, 4) == (summary.frames, summary.faces)
    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    assert [5, 10, 15, 20] == [record.frame for record in found.records]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_ends_the_run_and_loses_nothing(
    clip: Path,
    folder: SetFolder,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """A crop that cannot be written has no line, nor has any after it; the next run repairs it."""
    really = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".000010-0-"):
            raise OSError(number, os.strerror(number))
        return really(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError) as caught:
        run(clip, folder)
    assert "000010-0.png" in caught.value.message
    assert caught.value.hint
    assert b"000009-0.png" in folder.records.read_bytes()
    assert b"000010-0.png" not in folder.records.read_bytes()
    assert b"000011-0.png" not in folder.records.read_bytes()

    monkeypatch.setattr(Path, "write_bytes", really)
    run(clip, folder)

    assert whole == content(folder)


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


def test_stopped_between_the_last_face_and_the_result_nothing_is_done_again(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All faces are on the disk, and only the last word is missing: it is added."""
    really = stage.write_text

    def fails(path: Path, text: str) -> None:
        if "[result]" in text:
            raise MemoryError
        really(path, text)

    monkeypatch.setattr(stage, "write_text", fails)
    with pytest.raises(MemoryError):
        run(clip, folder)
    monkeypatch.setattr(stage, "write_text", really)
    seen: list[int] = []

    run(clip, folder, before=seen.append)

    assert [] == seen
    assert whole == content(folder)


def test_asked_to_stop_it_finishes_the_frame(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """A signal ends the run after the frame at hand; all that was done is on the disk."""
    report = Listener()

    def ask(index: int) -> None:
        if index == 12:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        extract(
            clip,
            folder=folder,
            settings=ExtractSettings(size_px=64),
            report=report,
            detector=lambda: SpotDetector(ask),
        )

    lines = len(folder.records.read_bytes().splitlines())
    assert [f"stopped after frame {lines}: {lines} faces so far"] == report.notes
    assert lines < 20
    run(clip, folder)
    assert whole == content(folder)


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


def test_what_is_declared_is_kept(clip: Path, folder: SetFolder) -> None:
    """It is in source.toml from the beginning, stays without being said again, and may change."""
    said = {"consent": {"kind": "written", "note": "“contract” \n of 3 May 😀"}}

    def stop(index: int) -> None:
        if index == 9:
            raise KeyboardInterrupt

    def declared() -> object:
        return tomllib.loads(folder.source.read_text(encoding="utf-8")).get("consent")

    def again(**more: object) -> ExtractSummary:
        return extract(
            clip,
            folder=folder,
            settings=ExtractSettings(size_px=64),
            report=Silent(),
            detector=lambda: SpotDetector(stop if "stop" in more else nothing),
            declared=more.get("said", {}),  # type: ignore[arg-type]
        )

    with pytest.raises(KeyboardInterrupt):
        again(said=said, stop=True)
    assert said["consent"] == declared()
    again()
    assert said["consent"] == declared()
    assert FACES == again(said={"consent": {"kind": "myself"}}).faces
    assert {"kind": "myself"} == declared()


def test_extract_needs_no_torch() -> None:
    """The stage is imported without torch, which takes seconds and gigabytes."""
    script = "import sys, faceswap_cli.stages.extract; sys.exit('torch' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", script], check=False).returncode


@pytest.fixture(scope="module")
def reel(tmp_path_factory: pytest.TempPathFactory) -> list[Footage]:
    """Two clips with one between them that shows nobody, and four pictures."""
    root = tmp_path_factory.mktemp("reel")
    write_clip(root / "a.mp4", frames=14)
    write_clip(root / "b.mp4", frames=6, empty=set(range(6)), first=14)
    write_clip(root / "c.mp4", frames=15, first=20)
    (root / "album").mkdir()
    for index, frame in enumerate(islice(read_frames(root / "a.mp4"), 9, 13)):
        image = with_number(frame.image.copy(), 35 + index)
        pictures.write_png(root / "album" / f"{index}.png", image)
    return find_footage([root / "a.mp4", root / "b.mp4", root / "c.mp4", root / "album"])


def run_all(reel: Sequence[Footage], folder: SetFolder, **changes: object) -> ExtractSummary:
    """Put all of the footage into one set, with the quick detector."""
    before = changes.pop("before", nothing)
    return extract(
        reel,
        folder=folder,
        settings=ExtractSettings(size_px=64, **changes),  # type: ignore[arg-type]
        report=Silent(),
        detector=lambda: SpotDetector(before),  # type: ignore[arg-type]
    )


def test_several_inputs_become_one_set(reel: Sequence[Footage], folder: SetFolder) -> None:
    """Crops keep the frame numbers and times of their own input, and are named apart."""
    summary = run_all(reel, folder)

    found = FaceSet.load("spot", folder=folder.root, records=folder.records)
    places = [(record.source, record.frame) for record in found.records]
    assert (39, 13 + 14 + 4) == (summary.frames, summary.faces)
    assert sorted(places) == places
    assert {0: 13, 2: 14, 3: 4} == Counter(source for source, _ in places)
    assert len(places) == len({record.file for record in found.records})
    assert "3-000003-0.png" in {record.file for record in found.records}
    assert all(Fraction(record.frame, 25) == record.time for record in found.records)


@pytest.mark.parametrize("at", [3, 12, 16, 22, 30, 36, 38])
def test_a_set_of_several_inputs_is_gone_on_with(
    reel: Sequence[Footage], folder: SetFolder, tmp_path: Path, at: int
) -> None:
    """Stopped in any of the inputs, the set ends with the same bytes."""
    undisturbed = SetFolder(root=tmp_path / "undisturbed")
    run_all(reel, undisturbed)

    def stop(index: int) -> None:
        if index == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all(reel, folder, before=stop)
    run_all(reel, folder)

    assert content(undisturbed) == content(folder)


def test_inputs_that_differ_need_another_name(reel: Sequence[Footage], folder: SetFolder) -> None:
    """A set of several inputs is not gone on with by fewer."""
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
def test_a_part_can_be_enough(
    clip: Path, folder: SetFolder, tmp_path: Path, changes: dict[str, float], frames: list[int]
) -> None:
    """Only what is asked for is kept, and a stopped run goes on to the same bytes."""
    whole = SetFolder(root=tmp_path / "whole")
    summary = run_all(find_footage([clip]), whole, **changes)

    def stop(index: int) -> None:
        if index == 2:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        run_all(find_footage([clip]), folder, before=stop, **changes)
    run_all(find_footage([clip]), folder, **changes)

    found = FaceSet.load("whole", folder=whole.root, records=whole.records)
    assert frames == [record.frame for record in found.records]
    assert len(frames) == summary.faces <= summary.frames < FRAMES
    assert content(whole) == content(folder)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "ts"])
def test_a_start_is_sought(folder: SetFolder, tmp_path: Path, kind: str) -> None:
    """Beginning later gives the frames that beginning at once does, by number, time and picture."""
    clip = write_clip(tmp_path / "long.mp4", frames=60, empty=frozenset())
    clip = remuxed(clip, tmp_path / f"other.{kind}")
    whole = SetFolder(root=tmp_path / "whole")
    settings = {"size_px": 64, "faces": "all"}
    run(clip, whole, settings=ExtractSettings(**settings))  # type: ignore[arg-type]

    run(clip, folder, settings=ExtractSettings(**settings, start_s=1.5))  # type: ignore[arg-type]

    before = FaceSet.load("whole", folder=whole.root, records=whole.records).records
    found = FaceSet.load("part", folder=folder.root, records=folder.records).records
    assert list(range(38, 60)) == [record.frame for record in found]
    for one, other in zip(before[-len(found) :], found, strict=True):
        assert (one.file, one.time) == (other.file, other.time)
        np.testing.assert_array_equal(one.landmarks, other.landmarks)


def test_a_limit_set_later_is_another_setting(clip: Path, folder: SetFolder) -> None:
    """What is not written down counts as its usual value."""
    run(clip, folder)

    with pytest.raises(ConfigurationError, match=r"other settings \(max_faces none, now 3\)"):
        run(clip, folder, settings=ExtractSettings(size_px=64, max_faces=3))


def test_each_input_becomes_a_set_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --name a folder of pictures and a video are two sets; one without faces is noted."""
    drawn = draw_all(CAST["ada"], perform(4, seconds=0.2).moments, size_px=192, processes=1)
    for index, drawing in enumerate(drawn):
        pictures.write_png(tmp_path / "ada" / f"{index}.png", drawing.image)
    write_clip(tmp_path / "nobody.mp4", frames=3)
    command = ["extract", str(tmp_path / "ada"), str(tmp_path / "nobody.mp4"), "--json"]

    with pytest.raises(SystemExit) as ended:
        app([*command, "--workspace", str(tmp_path / "space")])

    assert 0 == ended.value.code
    summary = json.loads(capsys.readouterr().out)
    assert ("ada", 5, 5) == (summary["name"], summary["frames"], summary["faces"])
    assert 5 == len(list((tmp_path / "space" / "faces" / "ada").glob("*.png")))
    assert not (tmp_path / "space" / "faces" / "nobody").exists()


def test_two_inputs_of_one_name_need_one_set(clip: Path, tmp_path: Path) -> None:
    """Names that would collide are said before anything is done."""
    (tmp_path / "other").mkdir()
    twin = Path(shutil.copy(clip, tmp_path / "other"))

    with pytest.raises(ConfigurationError, match='two inputs would both become the set "spot"'):
        set_names(find_footage([clip, twin]))


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_nothing_leaves_the_machine(tmp_path: Path) -> None:
    """The whole command, with the real detector, asks the system for no connection."""
    drawn = draw_all(CAST["bo"], perform(4, seconds=0.1).moments, size_px=192, processes=1)
    for index, drawing in enumerate(drawn):
        pictures.write_png(tmp_path / "bo" / f"{index}.png", drawing.image)
    command = [sys.executable, "-m", "faceswap_cli", "extract", "bo", "--quiet"]
    watch = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", "calls"]

    done = subprocess.run([*watch, *command], cwd=tmp_path, check=False)

    assert 0 == done.returncode
    assert (tmp_path / "workspace" / "faces" / "bo" / "000000-0.png").is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [] == [line for line in calls if "(" in line]


@pytest.fixture
def space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace that holds nothing, in the current folder; the quick detector finds faces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "DETECTORS", {"litert": SpotDetector})
    return tmp_path / "workspace"


def command(*words: str) -> int:
    """Run the command; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(["extract", *words])
    return int(ended.value.code or 0)


def truncated(path: Path) -> Path:
    """A clip of which the last third was not copied; its index comes first."""
    whole = write_clip(path.with_name("whole.mp4"), frames=120, empty=frozenset())
    remuxed(whole, path)
    whole.unlink()
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


def remuxed(path: Path, target: Path) -> Path:
    """Put the picture of a video into another kind of file, as it is."""
    with (
        av.open(str(path)) as source,
        av.open(str(target), "w", options={"movflags": "faststart"}) as file,
    ):
        stream = file.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = stream
                file.mux(packet)
    return target


def sound(path: Path) -> None:
    """A film without a picture."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=44100)
        silence = AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        target.mux(stream.encode(silence))
        target.mux(stream.encode(None))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone.mp4": (Path.resolve, "there is no file"),
    "a folder": (Path.mkdir, "there are neither pictures nor videos in the folder"),
    "empty.mp4": (Path.touch, "is empty (0 bytes)"),
    "text.mp4": (lambda path: path.write_text("dear diary\n" * 99), "it is a text file"),
    "sound.mp4": (sound, "holds sound but no picture"),
    "noise.mp4": (lambda path: path.write_bytes(bytes(range(256)) * 99), "not a video that can be"),
    "no index.mp4": (
        lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(9999)),
        "its index is missing",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_is_one_line_and_code_3(
    space: Path, clip: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What it is, what to do, exit code 3; and a set that was there before is as it was."""
    make, message = BAD[name]
    assert 0 == command(str(clip), "--name", "set", "--quiet")
    before = content(SetFolder(root=space / "faces" / "set"))
    make(space.parent / name)
    capsys.readouterr()

    code = command(name, "--name", "set", "--quiet")

    lines = capsys.readouterr().err.splitlines()
    assert 3 == code
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) <= 2
    assert before == content(SetFolder(root=space / "faces" / "set"))
    assert 3 == command(name, "--name", "other", "--quiet")
    assert not (space / "faces" / "other").exists()


def test_pictures_that_cannot_be_read_leave_no_set(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are found out only when they are looked at; what was begun is taken away."""
    (space.parent / "photo.png").write_bytes(b"no photo")

    assert 3 == command("photo.png", "--quiet")
    assert "photo.png is not a picture" in capsys.readouterr().err
    assert not (space / "faces" / "photo").exists()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs POSIX rights")
def test_a_video_that_may_not_be_read_is_named(
    space: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's refusal is told with the command that lifts it."""
    mine = Path(shutil.copy(clip, "mine.mp4"))
    really = os.access

    def refused(path: Path, *how: int) -> bool:
        return os.fspath(path) != str(mine) and really(path, *how)

    monkeypatch.setattr(os, "access", refused)

    assert 3 == command("mine.mp4", "--quiet")

    said = capsys.readouterr().err
    assert "mine.mp4 may not be read" in said
    assert "chmod u+r mine.mp4" in said


def test_of_a_truncated_video_what_can_be_read_is_kept(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frames that are there become faces, and what is missing is said."""
    truncated(space.parent / "cut.mp4")

    assert 0 == command("cut.mp4")

    said = capsys.readouterr()
    kept = len((space / "faces" / "cut" / "faces.jsonl").read_bytes().splitlines())
    assert 40 <= kept < 120
    assert "cut.mp4 ends after" in said.err
    assert "of 4.8 s" in said.err


def test_no_face_in_the_whole_clip_is_code_4(
    space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to try."""
    write_clip(space.parent / "nobody.mp4", frames=3, empty={0, 1, 2})

    assert 4 == command("nobody.mp4", "--quiet")
    assert "try a closer shot" in capsys.readouterr().err


def test_a_workspace_of_a_newer_format_is_refused(
    space: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in it is touched."""
    space.mkdir()
    (space / "workspace.toml").write_text("format = 99\n")

    assert 3 == command(str(clip), "--quiet")
    assert "was made by a newer faceswap (format 99" in capsys.readouterr().err
    assert ["workspace.toml"] == [path.name for path in space.iterdir()]


def test_odd_names_are_names(space: Path, clip: Path) -> None:
    """Spaces, umlauts, emoji and brackets in the names of videos, sets and workspaces."""
    odd = Path(shutil.copy(clip, space.parent / "Ünser [Film] 🎬.mp4"))

    assert 0 == command(str(odd), "--workspace", "mein Ördner", "--quiet")
    assert 0 == command(str(odd), "--workspace", "mein Ördner", "--quiet")

    made = SetFolder(root=Path("mein Ördner") / "faces" / "Ünser [Film] 🎬")
    assert FACES == len(FaceSet.load("x", folder=made.root, records=made.records))
    assert odd.name == tomllib.loads(made.source.read_text(encoding="utf-8"))["input"]["name"]


def test_a_full_disk_is_code_3(
    space: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says so, and what was written stays."""
    really = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".000010-0-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return really(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)

    assert 3 == command(str(clip), "--quiet")
    said = capsys.readouterr().err
    assert "no space left on the disk" in said
    assert "run the same command again" in said
    assert (space / "faces" / "spot" / "000009-0.png").is_file()
