"""Interrupted in any way and resumed, extract gives the same bytes."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import (
    FACE_COUNT,
    FRAMES,
    RecordingReporter,
    SpotDetector,
    make_spot_images,
    mark_unfinished,
    read_set_files,
    run_extract,
    write_clip,
    write_damaged_clip,
)

from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.lock import set_lock
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces import set_source
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.tracker import TrackingConfig
from faceswap_cli.stages import extract as stage
from faceswap_cli.stages.extract import extract


@pytest.mark.slow
@pytest.mark.parametrize(
    ("at", "failure"), [(0, KeyboardInterrupt), (8, MemoryError), (20, KeyboardInterrupt)]
)
def test_resume_after_interrupt_is_byte_identical(
    clip: Path,
    folder: SetFolder,
    whole: dict[str, bytes],
    at: int,
    failure: type[BaseException],
) -> None:
    """Ctrl-C or an error at any frame, then the same command: the files are the same."""

    def stop(index: int) -> None:
        if index == at:
            raise failure

    with pytest.raises(failure):
        run_extract(clip, folder, before=stop)
    processed: set[int] = set()
    summary = run_extract(clip, folder, before=processed.add)

    assert whole == read_set_files(folder)
    assert (FRAMES, FACE_COUNT) == (summary.frames, summary.faces)
    assert set(range(max(0, at - TrackingConfig().lookahead), FRAMES)) >= processed


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import fakes as here
from faceswap_cli.faces import crop_writer
from faceswap_cli.core.workspace import SetFolder

crop_writer.CHECKPOINT_INTERVAL_S = 0.0

def die(index):
    if index == {at}:
        time.sleep({delay})  # lets the writing thread get further
        os.kill(os.getpid(), signal.SIGKILL)

here.run_extract(Path({clip!r}), SetFolder(root=Path({root!r})), before=die)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9")
@pytest.mark.parametrize(("at", "delay"), [(3, 0.0), (10, 0.002)])
def test_resume_after_kill_is_byte_identical(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], at: int, delay: float
) -> None:
    """A process killed twice without warning loses no frame and leaves no extra file."""
    script = KILLED.format(
        tests=str(Path(__file__).parents[1]),
        at=at,
        delay=delay,
        clip=str(clip),
        root=str(folder.root),
    )
    for _ in range(2):
        died = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
        if died.returncode == 0:  # the second run had fewer frames left than `at`
            break
        assert -signal.SIGKILL == died.returncode, died.stderr.decode()
    run_extract(clip, folder)

    assert whole == read_set_files(folder)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 5000])
def test_torn_last_record_is_redone(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], cut: int
) -> None:
    """With records torn by a crash, the run resumes at a whole line."""
    run_extract(clip, folder)
    os.truncate(folder.records, folder.records.stat().st_size - cut)
    mark_unfinished(folder)

    run_extract(clip, folder)

    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_zero_filled_records_are_redone(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """A power cut can leave a file with its length and without its content."""
    run_extract(clip, folder)
    size = folder.records.stat().st_size
    os.truncate(folder.records, size - 6000)
    os.truncate(folder.records, size)
    mark_unfinished(folder)

    run_extract(clip, folder)

    assert whole == read_set_files(folder)


def test_stale_temp_files_are_removed(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """Temporary files are removed; a crop without a record is overwritten; other files stay."""
    folder.root.mkdir(parents=True)
    (folder.root / ".000003-0-abcd_123.png").write_bytes(b"half a")
    (folder.root / "000004-0.png").write_bytes(b"half a")
    (folder.root / ".my-notes.txt").write_text("keep me")

    run_extract(clip, folder)

    assert whole | {".my-notes.txt": b"keep me"} == read_set_files(folder)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_full_disk_stops_the_run_without_data_loss(
    clip: Path,
    folder: SetFolder,
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """A crop that cannot be written has no record, nor has any after it; the next run adds them."""
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".000010-0-"):
            raise OSError(number, os.strerror(number))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError) as caught:
        run_extract(clip, folder)
    assert "000010-0.png" in caught.value.message
    assert caught.value.hint
    assert b"000009-0.png" in folder.records.read_bytes()
    assert b"000010-0.png" not in folder.records.read_bytes()
    assert b"000011-0.png" not in folder.records.read_bytes()

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    run_extract(clip, folder)

    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_resume_after_last_face_repeats_no_work(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all faces on the disk, only the missing `[result]` is added."""
    write_text = set_source.write_text

    def fails(path: Path, text: str) -> None:
        if "[result]" in text:
            raise MemoryError
        write_text(path, text)

    monkeypatch.setattr(set_source, "write_text", fails)
    with pytest.raises(MemoryError):
        run_extract(clip, folder)
    monkeypatch.setattr(set_source, "write_text", write_text)
    processed: list[int] = []

    run_extract(clip, folder, before=processed.append)

    assert [] == processed
    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_interrupt_finishes_the_current_frame(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """A signal ends the run after the current frame; the work so far is on the disk."""
    report = RecordingReporter()

    def request_stop(index: int) -> None:
        if index == 12:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        extract(
            clip,
            folder=folder,
            settings=ExtractSettings(size_px=64),
            report=report,
            detector=lambda: SpotDetector(request_stop),
        )

    lines = len(folder.records.read_bytes().splitlines())
    assert f"stopped after frame {lines}: {lines} faces so far" == report.notes[-1]
    assert lines < 20
    run_extract(clip, folder)
    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_a_set_is_extracted_by_one_process_at_a_time(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """A second extraction into a set is refused at once, and the first one finishes whole.

    Both had ended with exit code 0, and the set held every face twice.
    """
    refused: list[InputError] = []

    def extract_again(index: int) -> None:
        if index in (0, 8):
            with pytest.raises(InputError, match="is being written by process") as caught:
                run_extract(clip, folder)
            refused.append(caught.value)

    run_extract(clip, folder, before=extract_again)
    assert 2 == len(refused)
    assert 3 == refused[0].exit_code
    assert refused[0].message.startswith(f'the set "{folder.name}" is being written')
    assert "--name NEW" in refused[0].hint
    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_a_complete_set_needs_no_lock(
    clip: Path, folder: SetFolder, whole: dict[str, bytes]
) -> None:
    """It is not written to, so it may be in a folder that this user cannot write to."""
    run_extract(clip, folder)
    with set_lock(folder.root):
        assert FACE_COUNT == run_extract(clip, folder).faces
    assert whole == read_set_files(folder)


@pytest.mark.slow
def test_a_set_that_another_process_completed_is_not_extracted_again(
    clip: Path, folder: SetFolder, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done between the first check and the lock is seen."""

    @contextmanager
    def late(root: Path) -> Iterator[None]:
        monkeypatch.undo()
        run_extract(clip, folder)
        yield

    monkeypatch.setattr(stage, "set_lock", late)
    report = RecordingReporter()
    run_extract(clip, folder, report=report)
    assert any("is complete" in note for note in report.notes)
    assert whole == read_set_files(folder)


def test_an_empty_set_of_a_killed_run_is_removed(folder: SetFolder, tmp_path: Path) -> None:
    """A resumed extraction without a face leaves no folder either."""
    clip = write_clip(tmp_path / "empty.mp4", frames=3, empty={0, 1, 2})
    folder.root.mkdir(parents=True)
    (folder.root / ".lock").write_text("99")
    with pytest.raises(NoFacesError):
        run_extract(clip, folder)
    assert not folder.root.exists()


@pytest.mark.slow
@pytest.mark.parametrize("at", [None, 10, 40])
def test_what_damage_has_cost_is_counted_over_all_runs(
    at: int | None, folder: SetFolder, tmp_path: Path
) -> None:
    """The summary and the set count the lost frames once, wherever the first run was stopped.

    The first run ends before or after the damage, with frames 23 to 27 of 50 lost.
    """
    images = list(make_spot_images(50, empty=frozenset()))
    clip = write_damaged_clip(tmp_path / "clip.mkv", images, damaged=23)

    def stop(index: int) -> None:
        if index == at:
            raise KeyboardInterrupt

    if at is not None:
        with pytest.raises(KeyboardInterrupt):
            run_extract(clip, folder, before=stop)
    report = RecordingReporter()
    summary = run_extract(clip, folder, report=report)

    assert (45, 5, 0.2) == (summary.frames, summary.missing_frames, summary.missing_seconds)
    told = "clip.mkv is damaged: 0.20 s (5 frames) are missing, at 0.92-1.12 s"
    assert 1 == report.notes.count(told)
    again = run_extract(clip, folder)
    assert (5, 0.2) == (again.missing_frames, again.missing_seconds)
