"""The command: bad input gives one line and an exit code, and changes nothing."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from fakes import (
    FACE_COUNT,
    SpotDetector,
    read_set_files,
    remux,
    write_clip,
)

from faceswap_cli.cli.app import app
from faceswap_cli.core import image_io
from faceswap_cli.core.lock import set_lock
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages import extract as stage
from faceswap_cli.synthetic import CAST, animate, render_frames


def test_extract_needs_no_torch() -> None:
    """The stage is imported without torch, which takes seconds and gigabytes."""
    script = "import sys, faceswap_cli.stages.extract; sys.exit('torch' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", script], check=False).returncode


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_extract_opens_no_connection(tmp_path: Path) -> None:
    """The whole command, with the real detector, makes no system call for a connection."""
    rendered = render_frames(CAST["bo"], animate(4, seconds=0.1).scenes, size_px=192, processes=1)
    for index, frame in enumerate(rendered):
        image_io.write_png(tmp_path / "bo" / f"{index}.png", frame.image)
    command = [sys.executable, "-m", "faceswap_cli", "extract", "bo", "--quiet"]
    watch = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", "calls"]

    done = subprocess.run([*watch, *command], cwd=tmp_path, check=False)

    assert 0 == done.returncode
    assert (tmp_path / "workspace" / "faces" / "bo" / "000000-0.png").is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [] == [line for line in calls if "(" in line]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace in the current folder; `SpotDetector` finds faces."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stage, "DETECTORS", {"litert": SpotDetector})
    return tmp_path / "workspace"


def command(*words: str) -> int:
    """Run the command; return its exit code."""
    with pytest.raises(SystemExit) as ended:
        app(["extract", *words])
    return int(ended.value.code or 0)


def write_truncated(path: Path) -> Path:
    """Write a clip without its last third; its index comes first."""
    whole = write_clip(path.with_name("whole.mp4"), frames=120, empty=frozenset())
    remux(whole, path)
    whole.unlink()
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


def write_audio(path: Path) -> None:
    """Write a video file without a video stream."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("aac", rate=44100)
        silence = AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), "fltp", "mono")
        silence.sample_rate = 44100
        target.mux(stream.encode(silence))
        target.mux(stream.encode(None))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone.mp4": (Path.resolve, "there is no file"),
    "a folder": (Path.mkdir, "there are neither images nor videos in the folder"),
    "empty.mp4": (Path.touch, "is empty (0 bytes)"),
    "text.mp4": (lambda path: path.write_text("dear diary\n" * 99), "it is a text file"),
    "sound.mp4": (write_audio, "holds audio but no video"),
    "noise.mp4": (lambda path: path.write_bytes(bytes(range(256)) * 99), "not a video that can be"),
    "no index.mp4": (
        lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(9999)),
        "its index is missing",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_exits_with_code_3_and_one_line(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The problem, a hint, exit code 3; an existing set is unchanged."""
    make, message = BAD[name]
    assert 0 == command(str(clip), "--name", "set", "--quiet")
    before = read_set_files(SetFolder(root=workspace / "faces" / "set"))
    make(workspace.parent / name)
    capsys.readouterr()

    code = command(name, "--name", "set", "--quiet")

    lines = capsys.readouterr().err.splitlines()
    assert 3 == code
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert len(lines) <= 2
    assert before == read_set_files(SetFolder(root=workspace / "faces" / "set"))
    assert 3 == command(name, "--name", "other", "--quiet")
    assert not (workspace / "faces" / "other").exists()


def test_unreadable_images_leave_no_set(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are noticed only when they are read; the set begun by then is removed."""
    (workspace.parent / "photo.png").write_bytes(b"no photo")

    assert 3 == command("photo.png", "--quiet")
    assert "photo.png is not an image" in capsys.readouterr().err
    assert not (workspace / "faces" / "photo").exists()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs POSIX rights")
def test_permission_error_names_the_video(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the command that grants access."""
    mine = Path(shutil.copy(clip, "mine.mp4"))
    access = os.access

    def refused(path: Path, *how: int) -> bool:
        return os.fspath(path) != str(mine) and access(path, *how)

    monkeypatch.setattr(os, "access", refused)

    assert 3 == command("mine.mp4", "--quiet")

    error = capsys.readouterr().err
    assert "mine.mp4 may not be read" in error
    assert "chmod u+r mine.mp4" in error


@pytest.mark.slow
def test_truncated_video_keeps_its_readable_part(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The readable frames become faces, and a note says what is missing."""
    write_truncated(workspace.parent / "cut.mp4")

    assert 0 == command("cut.mp4")

    output = capsys.readouterr()
    count = len((workspace / "faces" / "cut" / "faces.jsonl").read_bytes().splitlines())
    assert 40 <= count < 120
    assert "cut.mp4 ends after" in output.err
    assert "of 4.8 s" in output.err


def test_no_face_exits_with_code_4(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The error has a hint."""
    write_clip(workspace.parent / "empty.mp4", frames=3, empty={0, 1, 2})

    assert 4 == command("empty.mp4", "--quiet")
    assert "try a closer shot" in capsys.readouterr().err


def test_time_range_beyond_the_end_is_reported_once(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is about the time range, not about small faces; there is no set."""
    assert 4 == command(str(clip), "--start", "9")

    output = capsys.readouterr()
    assert 1 == (output.out + output.err).count("spot.mp4 has no frame in the time range")
    assert "choose an earlier --start" in output.err
    assert not (workspace / "faces" / "spot").exists()


def test_newer_workspace_format_is_rejected(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in it is changed."""
    workspace.mkdir()
    (workspace / "workspace.toml").write_text("format = 99\n")

    assert 3 == command(str(clip), "--quiet")
    assert "was made by a newer faceswap (format 99" in capsys.readouterr().err
    assert ["workspace.toml"] == [path.name for path in workspace.iterdir()]


@pytest.mark.slow
def test_unusual_set_names_are_accepted(workspace: Path, clip: Path) -> None:
    """Spaces, umlauts, emoji and brackets in the names of videos, sets and workspaces."""
    odd = Path(shutil.copy(clip, workspace.parent / "Ünser [Film] 🎬.mp4"))

    assert 0 == command(str(odd), "--workspace", "mein Ördner", "--quiet")
    assert 0 == command(str(odd), "--workspace", "mein Ördner", "--quiet")

    made = SetFolder(root=Path("mein Ördner") / "faces" / "Ünser [Film] 🎬")
    assert FACE_COUNT == len(FaceSet.load("x", folder=made.root, records=made.records))
    assert odd.name == tomllib.loads(made.source.read_text(encoding="utf-8"))["input"]["name"]


def test_full_disk_exits_with_code_3(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says so, and what was written stays."""
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if path.name.startswith(".000010-0-"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)

    assert 3 == command(str(clip), "--quiet")
    error = capsys.readouterr().err
    assert "no space left on the disk" in error
    assert "run the same command again" in error
    assert (workspace / "faces" / "spot" / "000009-0.png").is_file()


@pytest.mark.slow
def test_one_input_that_fails_does_not_stop_the_others(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every other set is made; the failure is said at the end, in JSON too, and is the exit code.

    A clip without a face is noted, and is no failure.
    """
    Path("broken.mp4").write_bytes(b"no video")
    write_clip(Path("empty.mp4"), frames=3, empty={0, 1, 2})
    code = command("broken.mp4", str(clip), "empty.mp4", "--json")
    captured = capsys.readouterr()
    assert 3 == code
    result = json.loads(captured.out)
    assert {clip.stem, "broken.mp4"} == result.keys()
    assert FACE_COUNT == result[clip.stem]["faces"]
    assert 3 == result["broken.mp4"]["exit_code"]
    assert "failed: no face was found in the 3 frames of empty.mp4" in captured.err
    assert "error: broken.mp4" in captured.err
    assert not (workspace / "faces" / "empty").exists()


@pytest.mark.slow
def test_a_set_that_another_process_writes_fails_by_itself(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is found out while extracting is of one input, too."""
    write_clip(Path("other.mp4"), frames=3, empty=frozenset())
    with set_lock(workspace / "faces" / "other"):
        assert 3 == command("other.mp4", str(clip), "--json")
    result = json.loads(capsys.readouterr().out)
    assert "is being written" in result["other.mp4"]["error"]
    assert FACE_COUNT == result[clip.stem]["faces"]
