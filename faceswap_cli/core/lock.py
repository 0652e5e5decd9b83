"""Locks: one process at a time writes into a set, a run or an output.

    set_lock       a folder of faces
    run_lock       a folder of training
    folder_lock    a folder of results
    output_lock    a file, or a folder that is put together beside it

A lock is a hidden file that the system unlocks however its process ends, so none is ever stale. It
is in the folder that it protects, or beside the output, and deleted afterwards; one that a killed
process leaves behind means nothing, and goes with the next lock. Its text says which process holds
it, for the error that the second one gets.

Who removes the folder of a lock ends the work in it: nothing creates it again while it is locked.
"""

import errno
import hashlib
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import fit_name, keep_folder, make_folder, translate_os_errors

LOCK_SUFFIX = ".lock"
"""End of the name of every lock's file; in a folder it is all of the name."""
OUTPUT_HINT = "wait until it has finished, or choose another path with --output"
SET_HINT = "wait until it has finished, or extract into another set with --name NEW"
RETRY_HINT = "wait until it has finished, then run the same command again"
"""What the second process can do; the last one where there is no other place to write to."""
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""The system's errors on a disk without locks, as some network folders are."""


@contextmanager
def set_lock(folder: Path, *, hint: str = SET_HINT) -> Iterator[None]:
    """Keep other processes from writing into the set in `folder`, which is created.

    Args:
        folder: The set.
        hint: What the second process can do.

    Raises:
        InputError: Another process writes there, or the folder cannot be written.
    """
    with _lock_folder(folder, f'the set "{folder.name}"', hint):
        yield


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`, and delete temporary files of a killed one.

    Raises:
        InputError: Another process trains there, or the folder cannot be written.
    """
    hint = "wait until it has finished, or start another run with --name NEW"
    with _lock_folder(folder, f'the run "{folder.name}"', hint):
        remove_stale_temp_files(folder)
        yield


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from writing their results into `folder`.

    It is created, and removed again if nothing was written.

    Raises:
        InputError: Another process writes there, or the folder cannot be written.
    """
    with _lock_folder(folder, str(folder), OUTPUT_HINT):
        yield


@contextmanager
def output_lock(output: Path, *, hint: str = OUTPUT_HINT) -> Iterator[None]:
    """Keep other processes from making the file or folder `output`.

    Its parent folder is created, and removed again if nothing was written.

    Args:
        output: The file or folder; may be missing.
        hint: What the second process can do.

    Raises:
        InputError: Another process makes it, or the folder cannot be written.
    """
    path = output.with_name(fit_name(output.name, LOCK_SUFFIX, prefix="."))
    with _lock_file(path, str(output), hint):
        yield


def remove_stale_temp_files(folder: Path) -> list[Path]:
    """Delete files that were being written when a process was killed; return their paths.

    They have the temporary names of `fileio.atomic_write` and, inside it, of safetensors.
    """
    stale = [
        path
        for path in folder.rglob(".*")
        if _TEMP_NAME.fullmatch(path.name) and path.suffix != LOCK_SUFFIX and path.is_file()
    ]
    for path in stale:
        path.unlink()
    return stale


_TEMP_NAME = re.compile(r"\..+-[a-z0-9_]{8}(\.[^.]*)?|\.tmp\w{6}")


@contextmanager
def _lock_folder(folder: Path, title: str, hint: str) -> Iterator[None]:
    """Hold the lock of a folder, by the file in it."""
    with _lock_file(folder / LOCK_SUFFIX, title, hint):
        yield


@contextmanager
def _lock_file(path: Path, title: str, hint: str) -> Iterator[None]:
    """Hold a lock; its folder is created, and removed again if it is empty then.

    Args:
        path: The file to lock.
        title: What it protects, for the error.
        hint: What the second process can do.

    Raises:
        InputError: Another process holds it, or the folder cannot be written.
    """
    folder = path.parent
    created = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        with translate_os_errors(folder):
            make_folder(folder)
            path, file = _acquire(path)
        if file is None:
            raise InputError(f"{title} is being written by {_read_holder(path)}", hint=hint)
        try:
            with keep_folder(folder):
                yield
        finally:
            _release(path, file)
    finally:
        for one in created:
            with suppress(OSError):  # not empty
                one.rmdir()


def _acquire(path: Path) -> tuple[Path, IO[bytes] | None]:
    """Open and lock a file; return which one, and None if another process has locked it.

    Where the disk has no locks, another file stands in for it, which only this machine sees.

    Raises:
        OSError: The file cannot be opened.
    """
    while True:
        file = _open_shared(path)
        try:
            is_locked = _try_lock(file)
        except OSError:
            file.close()
            local = _local_path(path)
            if path == local:
                raise
            path.unlink(missing_ok=True)
            path = local
            continue
        if not is_locked:
            file.close()
            return path, None
        if _is_at(file, path):
            with suppress(OSError):  # another user's file, opened for reading
                file.truncate(0)
                file.write(f"{os.getpid()} {platform.node()}".encode())
                file.flush()
            return path, file
        file.close()  # it was deleted by the process that had locked it before


def _release(path: Path, file: IO[bytes]) -> None:
    """Delete a locked file and unlock it."""
    is_windows = sys.platform == "win32"
    if is_windows:  # an open file cannot be deleted
        file.close()
    with suppress(OSError):
        if is_windows or _is_at(file, path):
            path.unlink()
    file.close()


def _open_shared(path: Path) -> IO[bytes]:
    """Open or create a file that every user of the folder can lock.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        file = path.open("a+b")
    except PermissionError:
        if not path.exists():
            raise
        return path.open("rb")
    with suppress(OSError):  # another user's
        path.chmod(0o666)
    return file


def _local_path(path: Path) -> Path:
    """Return the file on this machine that stands in for one that cannot be locked."""
    digest = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f".faceswap-{digest}{LOCK_SUFFIX}"


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file without waiting; return False if another process has locked it.

    Raises:
        OSError: The disk has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0x7FFF_0000)  # beyond the text, which stays readable for others
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            raise
        return False
    return True


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _read_holder(path: Path) -> str:
    """Return the process that holds a lock, for the end of a sentence."""
    try:
        number, _, machine = path.read_text(encoding="utf-8", errors="replace").partition(" ")
    except OSError:
        number = machine = ""
    if not number.isdecimal():
        return "another process"
    return f"process {number}" + (f" on {machine}" if machine not in ("", platform.node()) else "")
