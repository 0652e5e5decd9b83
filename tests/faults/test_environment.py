"""Starved or disturbed, a command ends with one line and a documented code; afterwards it resumes.

With what it needs it ends with the same result as anywhere else.
"""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.conftest import Undisturbed
from faults.environments import (
    ClockJumpsBack,
    FewDescriptors,
    FolderRemoved,
    LibraryFails,
    LimitedFileSize,
    NobodyReads,
    NoHome,
)
from faults.injection import KillAtOperation, RunOnly, error_path, paused_process, run_in_process
from faults.workloads import WORKLOADS, Inputs

from faceswap_cli.core.errors import InputError

pytestmark = [
    pytest.mark.slow,  # together: each waits for processes that end and begin again
    pytest.mark.skipif(sys.platform != "linux", reason="limits and mounts of Linux"),
]
every_workload = pytest.mark.parametrize("name", WORKLOADS)
Results = Mapping[str, Undisturbed]
BENIGN = {
    "64 file descriptors": FewDescriptors,
    "a user without a home": NoHome,
    "an output that nobody reads": NobodyReads,
    "a clock that jumps back": ClockJumpsBack,
}


def check_refused(folder: Path, code: int) -> str:
    """Check that work ended with the code for files and one line; return that line."""
    assert InputError.exit_code == code
    message, hint = error_path(folder).read_text().split("\n")
    assert message
    assert hint
    error_path(folder).unlink()
    return message


def check_resume(name: str, inputs: Inputs, folder: Path, expected: Undisturbed) -> None:
    """Run a workload without a fault and check that it ends as if nothing had happened."""
    WORKLOADS[name].check_files(folder)
    assert 0 == run_in_process(name, inputs, folder).exit_code
    assert expected.result == WORKLOADS[name].read_result(folder)


@every_workload
@pytest.mark.fault("{kind}, {name}")
@pytest.mark.parametrize("kind", BENIGN)
def test_makes_no_difference(
    kind: str, name: str, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """The result is that of any other surroundings."""
    make: Callable[..., RunOnly] = BENIGN[kind]
    folder = tmp_path / "work"
    fault = make(report=tmp_path / "operations")
    ended = run_in_process(name, inputs, folder, fault=fault)
    assert 0 == ended.exit_code
    assert undisturbed[name].result == WORKLOADS[name].read_result(folder)


@every_workload
@pytest.mark.fault("file size limit, {name}")
@pytest.mark.seeds(5)
def test_file_size_limit(
    name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """The first file that would be too large is refused; without the limit the work goes on."""
    folder = tmp_path / "work"
    limit = random.Random(seed).randint(100, 9_000)
    fault = LimitedFileSize(report=tmp_path / "operations", limit_bytes=limit)
    ended = run_in_process(name, inputs, folder, fault=fault)
    assert "file size limit" in check_refused(folder, ended.exit_code)
    check_resume(name, inputs, folder, undisturbed[name])


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """Mount a disk in memory on a folder; skip the test where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@every_workload
@pytest.mark.fault("full disk, {name}")
@pytest.mark.seeds(10)
def test_full_disk(
    name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """A disk of which most is taken fills up in the middle; with more space the work goes on."""
    disk = tmp_path / "disk"
    with mounted(disk, "size=4M"):
        free = random.Random(seed).randint(2, 60) * 4096
        (disk / "other").write_bytes(bytes(4 * 2**20 - free))
        ended = run_in_process(name, inputs, disk / "work")
        message = check_refused(disk / "work", ended.exit_code)
        assert "no space left" in message or "has 0 MB" in message
        remount(disk, "size=64M")
        check_resume(name, inputs, disk / "work", undisturbed[name])


@every_workload
@pytest.mark.fault("read-only workspace, {name}")
def test_read_only(name: str, inputs: Inputs, undisturbed: Results, tmp_path: Path) -> None:
    """Nothing begins on a disk that cannot be written; unfinished work there stays."""
    disk = tmp_path / "disk"
    folder = disk / "work"
    with mounted(disk, "size=64M"):
        at = undisturbed[name].operations // 2
        half = KillAtOperation(report=tmp_path / "operations", at=at)
        run_in_process(name, inputs, folder, fault=half)
        error_path(folder).touch()
        remount(disk, "ro")
        ended = run_in_process(name, inputs, folder)
        assert 0 != ended.exit_code
        remount(disk, "rw")
        check_resume(name, inputs, folder, undisturbed[name])


@every_workload
@pytest.mark.fault("folder removed during {name}")
@pytest.mark.seeds(10)
def test_removed_folder(
    name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """The work ends with one line; or it had not begun, or was finished. The next run is whole."""
    folder, expected = tmp_path / "work", undisturbed[name]
    at = random.Random(f"{name} {seed}").randint(1, expected.operations)
    fault = FolderRemoved(report=tmp_path / "operations", at=at)
    ended = run_in_process(name, inputs, folder, fault=fault)
    if ended.exit_code:
        check_refused(folder, ended.exit_code)
    elif folder.exists():
        assert expected.result == WORKLOADS[name].read_result(folder)
    assert 0 == run_in_process(name, inputs, folder).exit_code
    assert expected.result == WORKLOADS[name].read_result(folder)


@every_workload
@pytest.mark.fault("a library that fails, {name}")
@pytest.mark.seeds(10)
def test_library_fails(
    name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """An error that nobody expected ends the work as a kill does: what was saved is whole."""
    folder = tmp_path / "work"
    at = random.Random(f"{name} {seed}").randint(1, 20)
    fault = LibraryFails(report=tmp_path / "operations", at=at)
    assert 1 == run_in_process(name, inputs, folder, fault=fault).exit_code
    check_resume(name, inputs, folder, undisturbed[name])


@every_workload
@pytest.mark.fault("two processes, {name}")
def test_two_processes(name: str, inputs: Inputs, undisturbed: Results, tmp_path: Path) -> None:
    """The second one is refused with the first one's number; a dead first one locks nothing."""
    folder, expected = tmp_path / "work", undisturbed[name]
    with paused_process(name, inputs, folder, at=expected.operations // 2) as first:
        ended = run_in_process(name, inputs, folder)
        message = check_refused(folder, ended.exit_code)
        assert f"is being written by process {first}" in message
    check_resume(name, inputs, folder, expected)


@every_workload
@pytest.mark.fault("symlinked workspace, {name}")
def test_symlinked(name: str, inputs: Inputs, undisturbed: Results, tmp_path: Path) -> None:
    """The work is done where the link points, and the link is still one."""
    folder, real = tmp_path / "work", tmp_path / "elsewhere"
    real.mkdir()
    folder.symlink_to(real)
    at = undisturbed[name].operations // 2
    half = KillAtOperation(report=tmp_path / "operations", at=at)
    run_in_process(name, inputs, folder, fault=half)
    check_resume(name, inputs, folder, undisturbed[name])
    assert folder.is_symlink()
    assert list(real.iterdir())


@pytest.mark.fault("a locale without UTF-8, extract")
def test_locale_without_utf8(inputs: Inputs, tmp_path: Path) -> None:
    """The whole command line, with a name that is not UTF-8 either and is printed."""
    clip = os.fsencode(tmp_path) + b"/\xe4da \xf0\x9f\x98\x80.mp4"
    os.link(inputs.clip("ada"), clip)
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "faceswap_cli", "extract", clip, "--name", "ada"]
    ended = subprocess.run(
        [*command, "--workspace", str(tmp_path / "work")],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert 4 == ended.returncode, ended.stderr  # a spot is no face
    assert "Traceback" not in ended.stderr
    assert "error:" in ended.stderr
