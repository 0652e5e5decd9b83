"""One training at a time in a run's folder, and nothing left there by one that was killed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from faceswap_cli.errors import ConfigurationError
from faceswap_cli.files import explained

LOCK = ".lock"
"""Name of the file that is locked; it stays, and means nothing while nobody locks it."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`, and clear what a killed one left half done.

    The system gives the lock back however this process ends, so no lock is ever stale.

    Raises:
        ConfigurationError: Another process trains there.
    """
    path = folder / LOCK
    with explained(path):
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b")
    with file:
        if not _locked(file):
            raise ConfigurationError(
                f'the run "{folder.name}" is being trained by another process{_who(path)}',
                hint="wait for it, or start another run with --name NEW",
            )
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        sweep(folder)
        yield


def sweep(folder: Path) -> list[Path]:
    """Delete what was being written when a process was killed; return its paths.

    That is files by the temporary names of `files.replacing` and, inside it, of safetensors.
    """
    patterns = (".*-*.*", ".tmp??????")
    found = [path for pattern in patterns for path in folder.rglob(pattern) if path.is_file()]
    for path in found:
        path.unlink()
    return found


def _locked(file: IO[bytes]) -> bool:
    """Lock an open file for this process, without waiting; say whether that could be done."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0x7FFF_0000)  # beyond the text, which others may read
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _who(path: Path) -> str:
    """Return the number of the process that holds a lock, as a sentence has it."""
    number = path.read_text(encoding="ascii", errors="ignore").strip()
    return f" (number {number})" if number else ""
