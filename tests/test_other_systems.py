"""What Windows and macOS do differently, as far as a Linux machine can show it."""

import os
import signal
import sys
import tomllib
import types
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from faceswap_cli.core import app_dirs, fileio, lock, signals, workspace
from faceswap_cli.core.errors import ConfigurationError, InputError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/faceswap"),
        ("linux", {"XDG_CACHE_HOME": "own"}, "own/faceswap"),
        ("darwin", {}, "home/Library/Caches/faceswap"),
        ("win32", {}, "home/AppData/Local/faceswap"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/faceswap"),
    ],
)
def test_the_user_s_folders_follow_the_system_s_custom(
    platform: str,
    variables: dict[str, str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where each system keeps what can be made again."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert tmp_path / expected == app_dirs.cache_folder()


class WindowsLocks(types.ModuleType):
    """Python's msvcrt as far as locks use it: a byte range of a file, once at a time."""

    LK_NBLCK = 2

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.locked: set[tuple[int, int]] = set()

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        """Lock bytes at the file's position; fail where another descriptor has them."""
        assert (self.LK_NBLCK, 1) == (mode, count)
        key = (os.fstat(descriptor).st_ino, os.lseek(descriptor, 0, os.SEEK_CUR))
        if key in self.locked:
            raise PermissionError(13, "Permission denied")
        self.locked.add(key)


def test_a_lock_on_windows_is_held_once_and_its_text_stays_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The locked byte is far beyond the text, since Windows lets nobody read a locked one."""
    windows = WindowsLocks()
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    output = tmp_path / "a.mp4"
    with lock.output_lock(output):
        [(_, position)] = windows.locked
        assert position > 1_000_000
        with (
            pytest.raises(InputError, match="is being written by process"),
            lock.output_lock(output),
        ):
            pass
    assert [] == list(tmp_path.iterdir())


def test_a_page_that_a_browser_reads_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses that while the file is open; other errors are not waited for."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(fileio, "REPLACE_PAUSE_S", 0.0)
    replace, refusals = Path.replace, [PermissionError(13, "in use")] * 3

    def replace_later(self: Path, target: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_later)
    fileio.write_text(tmp_path / "report.html", "new")
    assert ("new", []) == ((tmp_path / "report.html").read_text(), refusals)
    refusals += [PermissionError(13, "in use")] * fileio.REPLACE_ATTEMPTS
    with pytest.raises(InputError, match="cannot write"):
        fileio.write_text(tmp_path / "report.html", "newer")
    assert "new" == (tmp_path / "report.html").read_text()
    assert ["report.html"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["con", "AUX", "nul.txt", "com1", "a.", "a "])
def test_names_that_windows_cannot_have_are_refused_there(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On other systems such a set may exist already."""
    assert name == workspace.validate_name(name)
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match="on Windows"):
        workspace.validate_name(name)
    assert "console" == workspace.validate_name("console")


def test_paths_in_sets_and_records_are_the_same_on_every_system() -> None:
    """A name that is valid is one part of a path, on Windows and elsewhere."""
    for name in ("anna", "anna b.c", "Ännä-1"):
        assert workspace.validate_name(name) == name
        for kind in (PureWindowsPath, PurePosixPath):
            assert (name,) == kind(name).parts
    for name in ("a/b", "a\\b", "c:", "a:b", "a?"):
        with pytest.raises(ConfigurationError):
            workspace.validate_name(name)


def test_ctrl_break_stops_a_training_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its signal exists there alone: here another one plays it, and is given back afterwards."""
    before = signal.getsignal(signal.SIGUSR1)
    with signals.graceful_interrupt():
        assert before == signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    with signals.graceful_interrupt() as stop:
        signal.raise_signal(signal.SIGUSR1)
        assert stop.requested
    assert before == signal.getsignal(signal.SIGUSR1)


def test_the_docker_image_is_made_of_what_exists_and_runs_without_privileges() -> None:
    """As far as reading it shows: it could not be built where it was written."""
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [
        word
        for line in lines
        if line.startswith("COPY") and "--from" not in line
        for word in line.split()[1:-1]
    ]
    assert {"pyproject.toml", "faceswap_cli", "models"} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert all(f"!{name}" in ignored for name in copied)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert ["faceswap"] == users
    entry = next(line for line in lines if line.startswith("ENTRYPOINT"))
    assert lines.index("USER faceswap") < lines.index(entry)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert entry == f'ENTRYPOINT ["{next(iter(scripts["project"]["scripts"]))}"]'


def test_the_workflow_checks_three_systems_and_all_pythons_that_are_supported() -> None:
    """It is marked as not run, and installs and calls what exists."""
    text = (ROOT / ".github/workflows/check.yml").read_text(encoding="utf-8")
    assert "Not run yet" in text
    for name in ("ubuntu", "windows", "macos", '"3.11", "3.12", "3.13"', "tests/check.py --fast"):
        assert name in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ">=3.11,<3.14" == project["requires-python"]
    assert "dev" in project["optional-dependencies"]
