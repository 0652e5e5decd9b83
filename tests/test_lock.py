"""One process at a time writes into a set, a run or an output; a dead process holds nothing."""

import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from faceswap_cli.core import fileio, lock
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lock import (
    folder_lock,
    output_lock,
    remove_stale_temp_files,
    run_lock,
    set_lock,
)

LOCKS = [set_lock, run_lock, folder_lock, output_lock]

HOLDER = """
import sys
from pathlib import Path
from faceswap_cli.core import lock
with getattr(lock, sys.argv[1])(Path(sys.argv[2])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(name: str, path: Path) -> Iterator["subprocess.Popen[str]"]:
    """Hold a lock in another process, which is killed after the block."""
    command = [sys.executable, "-c", HOLDER, name, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "locked\n" == process.stdout.readline()
        yield process
        process.kill()


@pytest.mark.parametrize("name", ["set_lock", "output_lock"])
def test_a_second_process_is_refused_until_the_first_one_dies(name: str, tmp_path: Path) -> None:
    """The error has exit code 3, says what is written by which process, and what to do.

    After kill -9 the lock can be taken at once, and is gone afterwards.
    """
    path = tmp_path / "ada"
    hold: Callable[[Path], AbstractContextManager[None]] = getattr(lock, name)
    with other_process(name, path) as process:
        message = rf'ada"? is being written by process {process.pid}$'
        with pytest.raises(InputError, match=message), hold(path):
            pass
        process.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL)
        process.wait()
        with hold(path):
            pass
    assert [] == [one for one in tmp_path.rglob("*") if one.is_file()]


@pytest.mark.parametrize("hold", LOCKS)
def test_a_lock_leaves_nothing(
    hold: Callable[[Path], AbstractContextManager[None]], tmp_path: Path
) -> None:
    """Neither its file nor the folders that it made, but all that was there or was written."""
    path = tmp_path / "new" / "deep" / "ada"
    for _ in range(2):
        with (
            hold(path),
            pytest.raises(InputError, match="is being written by") as caught,
            hold(path),
        ):
            pass
        assert 3 == caught.value.exit_code
        assert caught.value.hint.startswith("wait until it has finished")
        assert [] == list(tmp_path.iterdir())
    with hold(path):
        path.parent.joinpath("file").touch()
    assert [path.parent / "file"] == [one for one in tmp_path.rglob("*") if one.is_file()]


@pytest.mark.parametrize("hold", LOCKS)
@pytest.mark.parametrize("write", [fileio.write_text, fileio.append_line])
def test_a_removed_folder_is_not_created_again(
    write: Callable[[Path, str], None],
    hold: Callable[[Path], AbstractContextManager[None]],
    tmp_path: Path,
) -> None:
    """Not in part, and not by what is written deeper in it; it is when the lock is taken again."""
    root = tmp_path / "work"
    path = root / "ada" if hold is output_lock else root
    deep = root / "snapshots" / "last" / "0.txt"
    with hold(path):
        write(deep, "a")
        shutil.rmtree(root)
        for one in (deep, root / "log.txt"):
            with pytest.raises(InputError, match=r"work is gone: it was removed while"):
                write(one, "b")
        assert not root.exists()
    with hold(path):
        write(deep, "c")
    assert "c" == deep.read_text().strip()


@pytest.mark.parametrize("hold", LOCKS)
def test_a_folder_removed_during_a_write_is_not_created_again(
    hold: Callable[[Path], AbstractContextManager[None]], tmp_path: Path
) -> None:
    """Whatever of the file was written goes with it."""
    root = tmp_path / "work"
    path = root / "ada" if hold is output_lock else root
    with (
        hold(path),
        pytest.raises(InputError, match=r"work is gone: it was removed while"),
        fileio.atomic_write(root / "snapshots" / "0.txt") as temporary,
    ):
        shutil.rmtree(root)
        temporary.write_text("a")
    assert not root.exists()


def test_outputs_of_one_folder_are_independent(tmp_path: Path) -> None:
    """The folder and each file in it have locks of their own."""
    with folder_lock(tmp_path), output_lock(tmp_path / "a.mp4"), output_lock(tmp_path / "b.mp4"):
        assert all(one.name.startswith(".") for one in tmp_path.iterdir())


def test_a_machine_is_named_unless_it_is_this_one(tmp_path: Path) -> None:
    """In a folder that several machines share the number alone does not say which process."""
    with set_lock(tmp_path):
        assert f"{os.getpid()} {platform.node()}" == (tmp_path / ".lock").read_text()
        for text, holder in (
            ("12 farm-7", "process 12 on farm-7"),
            ("12", "process 12"),
            ("", "another process"),
            ("\0\0", "another process"),
        ):
            (tmp_path / ".lock").write_text(text)
            with pytest.raises(InputError, match=f"by {holder}$"), set_lock(tmp_path):
                pass


def test_a_lock_deleted_while_it_is_opened_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two processes would hold two locks, one of them on a deleted file."""
    open_shared = lock._open_shared
    opened = []

    def delete_first(path: Path) -> object:
        file = open_shared(path)
        opened.append(path)
        if len(opened) == 1:
            path.unlink()
        return file

    monkeypatch.setattr(lock, "_open_shared", delete_first)
    with set_lock(tmp_path):
        assert 2 == len(opened)
        assert (tmp_path / ".lock").exists()


def test_a_disk_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network folders have none: a file on this machine stands in, so two are refused here."""
    real, disk, local = lock._try_lock, tmp_path / "disk", tmp_path / "local"
    local.mkdir()
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(local))

    def refuse_on_disk(file: object) -> bool:
        if Path(file.name).is_relative_to(disk):  # type: ignore[attr-defined]
            raise OSError(errno.ENOLCK, "no locks available")
        return real(file)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "_try_lock", refuse_on_disk)
    with set_lock(disk):
        assert [] == list(disk.iterdir())
        with pytest.raises(InputError, match="is being written by process"), set_lock(disk):
            pass
    assert [] == list(local.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do anything")
def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    """With the folder's name and not the lock's."""
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=f"cannot write {tmp_path}"), set_lock(tmp_path):
        pass


def test_another_users_lock_file_is_locked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another user's killed process left may be one that only its owner can write."""
    left = tmp_path / ".lock"
    left.write_text("99")
    real = Path.open

    def refuse_writing(path: Path, mode: str = "r", **rest: object) -> object:
        if path == left and "a" in mode:
            raise PermissionError(errno.EACCES, "permission denied")
        return real(path, mode, **rest)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse_writing)
    refused = pytest.raises(InputError, match="is being written by")
    with set_lock(tmp_path), refused, set_lock(tmp_path):
        pass


def test_only_temporary_files_are_stale(tmp_path: Path) -> None:
    """A hidden file of the user's and another output's lock in the run's folder stay."""
    kept = [".notes-about-it.txt", ".a-swapping.lock", ".clip-swapped.mp4.lock", ".lock", "a-b.png"]
    gone = [".report-0a_b0000.html", ".tmpEwyXYK", ".000000000004-x7abcd_1.safetensors"]
    for name in (*kept, *gone):
        (tmp_path / name).touch()
    remove_stale_temp_files(tmp_path)
    assert sorted(kept) == sorted(path.name for path in tmp_path.iterdir())
