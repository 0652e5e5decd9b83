"""Muting of libraries that write to standard error: `suppress_stderr`."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class _Redirection:
    """File descriptor 2 of the process, redirected while at least one block is inside.

    Counted, since blocks of several threads overlap: each saving and restoring the descriptor on
    its own could save a redirected one, and leave standard error muted for good.
    """

    blocks: int = 0
    saved: int = -1
    """Copy of the descriptor as it was; valid while `blocks` is not 0."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Redirect the descriptor if this is the first block."""
        with self.lock:
            if self.blocks == 0:
                self.saved = os.dup(2)
                with open(os.devnull, "wb") as null:  # noqa: PTH123 - a device
                    os.dup2(null.fileno(), 2)
            self.blocks += 1

    def end(self) -> None:
        """Restore the descriptor if this is the last block."""
        with self.lock:
            self.blocks -= 1
            if self.blocks == 0:
                os.dup2(self.saved, 2)
                os.close(self.saved)


_REDIRECTION = _Redirection()


@contextmanager
def suppress_stderr() -> Iterator[None]:
    """Mute the process's standard error inside the block, for C++ logs that have no switch.

    They write straight to the file descriptor. Several threads may be inside at once; it is muted
    until the last of them leaves.
    """
    _REDIRECTION.begin()
    try:
        yield
    finally:
        _REDIRECTION.end()
