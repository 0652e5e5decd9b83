"""The command: bad input is one line and an exit code, and leaves what was there before."""

import errno
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
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages import extract as stage
from faceswap_cli.synthetic import CAST, animate, render_frames


def test_extract_needs_no_torch() -> None:
    """The stage is imported without torch, which takes seconds and gigabytes."""
    script = "import sys, faceswap_cli.stages.extract; sys.exit('torch' in sys.modules)"

    assert 0 == subprocess.run([sys.executable, "-c", script], check=False).returncode


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_extract_opens_no_connection(tmp_path: Path) -> None:
    """The whole command, with the real detector, asks the system for no connection."""
    drawn = render_frames(CAST["bo"], animate(4, seconds=0.1).scenes, size_px=192, processes=1)
    for index, drawing in enumerate(drawn):
        image_io.write_png(tmp_path / "bo" / f"{index}.png", drawing.image)
    command = [sys.executable, "-m", "faceswap_cli", "extract", "bo", "--quiet"]
    watch = ["strace", "-f", "-e", "trace=socket,connect,sendto", "-o", "calls"]

    done = subprocess.run([*watch, *command], cwd=tmp_path, check=False)

    assert 0 == done.returncode
    assert (tmp_path / "workspace" / "faces" / "bo" / "000000-0.png").is_file()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [] == [line for line in calls if "(" in line]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    remux(whole, path)
    whole.unlink()
    os.truncate(path, path.stat().st_size * 2 // 3)
    return path


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
    "a folder": (Path.mkdir, "there are neither images nor videos in the folder"),
    "empty.mp4": (Path.touch, "is empty (0 bytes)"),
    "text.mp4": (lambda path: path.write_text("dear diary\n" * 99), "it is a text file"),
    "sound.mp4": (sound, "holds audio but no video"),
    "noise.mp4": (lambda path: path.write_bytes(bytes(range(256)) * 99), "not a video that can be"),
    "no index.mp4": (
        lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" + bytes(9999)),
        "its index is missing",
    ),
}


@pytest.mark.parametrize("name", list(BAD))
def test_bad_input_exits_with_code_3_and_one_line(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """What it is, what to do, exit code 3; and a set that was there before is as it was."""
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
    """They are found out only when they are looked at; what was begun is taken away."""
    (workspace.parent / "photo.png").write_bytes(b"no photo")

    assert 3 == command("photo.png", "--quiet")
    assert "photo.png is not an image" in capsys.readouterr().err
    assert not (workspace / "faces" / "photo").exists()


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid"), reason="needs POSIX rights")
def test_permission_error_names_the_video(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
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


def test_truncated_video_keeps_its_readable_part(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The frames that are there become faces, and what is missing is said."""
    truncated(workspace.parent / "cut.mp4")

    assert 0 == command("cut.mp4")

    said = capsys.readouterr()
    kept = len((workspace / "faces" / "cut" / "faces.jsonl").read_bytes().splitlines())
    assert 40 <= kept < 120
    assert "cut.mp4 ends after" in said.err
    assert "of 4.8 s" in said.err


def test_no_face_exits_with_code_4(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what to try."""
    write_clip(workspace.parent / "nobody.mp4", frames=3, empty={0, 1, 2})

    assert 4 == command("nobody.mp4", "--quiet")
    assert "try a closer shot" in capsys.readouterr().err


def test_time_range_beyond_the_end_is_reported_once(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not that its faces are too small; and there is no set."""
    assert 4 == command(str(clip), "--start", "9")

    said = capsys.readouterr()
    assert 1 == (said.out + said.err).count("spot.mp4 has no frame in the time range")
    assert "choose an earlier --start" in said.err
    assert not (workspace / "faces" / "spot").exists()


def test_newer_workspace_format_is_rejected(
    workspace: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing in it is touched."""
    workspace.mkdir()
    (workspace / "workspace.toml").write_text("format = 99\n")

    assert 3 == command(str(clip), "--quiet")
    assert "was made by a newer faceswap (format 99" in capsys.readouterr().err
    assert ["workspace.toml"] == [path.name for path in workspace.iterdir()]


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
    assert (workspace / "faces" / "spot" / "000009-0.png").is_file()
