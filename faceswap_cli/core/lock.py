"""`run_lock`: one process trains in a run's folder at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import translate_os_errors

LOCK_FILENAME = ".lock"
"""Name of the file that is locked; it stays, and means nothing while it is not locked."""


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`, and delete temporary files of a killed one.

    The system releases the lock however this process ends, so no lock is ever stale.

    Raises:
        ConfigurationError: Another process trains there.
    """
    path = folder / LOCK_FILENAME
    with translate_os_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        if not _try_lock(file):
            raise ConfigurationError(
                f'the run "{folder.name}" is being trained by another process'
                f"{_describe_holder(path)}",
                hint="wait for it, or start another run with --name NEW",
            )
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        remove_stale_temp_files(folder)
        yield


def remove_stale_temp_files(folder: Path) -> list[Path]:
    """Delete files that were being written when a process was killed; return their paths.

    They have the temporary names of `fileio.atomic_write` and, inside it, of safetensors.
    """
    patterns = (".*-*.*", ".tmp??????")
    stale = [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]
    for path in stale:
        path.unlink()
    return stale


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process, without waiting; return whether that succeeded."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0x7FFF_0000)  # beyond the text, which stays readable for others
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _describe_holder(path: Path) -> str:
    """Return the ID of the process that holds a lock, for the end of a sentence."""
    number = path.read_text(encoding="ascii", errors="ignore").strip()
    return f" (number {number})" if number else ""
