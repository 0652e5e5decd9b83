"""Signals that ask to stop: a flag for long loops, or Ctrl-C's exception for everything else.

`graceful_interrupt` yields the flag: the loop finishes what it is at, and saves.
`interrupt_on_signals` has every such signal raise KeyboardInterrupt, as Ctrl-C does.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
"""Ctrl-C, the signal that a system sends before it kills, that of a closed terminal, and Windows'
Ctrl-Break."""


class StopFlag:
    """Whether a stop was requested."""

    def __init__(self) -> None:
        self.requested = False

    def raise_if_requested(self) -> None:
        """Raise what Ctrl-C does, now that the work so far is saved.

        Raises:
            KeyboardInterrupt: A stop was requested.
        """
        if self.requested:
            raise KeyboardInterrupt


@contextmanager
def graceful_interrupt() -> Iterator[StopFlag]:
    """Yield a flag that the first signal sets; a second signal has its usual effect.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _handled_signals()}

    def request_stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.requested = True
        restore()

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action or signal.SIG_DFL)

    for number in before:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Have every signal that asks to stop raise KeyboardInterrupt inside the block.

    Without it SIGTERM and SIGHUP end the process at once: no file is closed, nothing is said.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, signal.default_int_handler)
        for number in _handled_signals()
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def _handled_signals() -> list[signal.Signals]:
    """Return the system's signals of that kind, without SIGHUP where `nohup` has it ignored."""
    numbers = [getattr(signal, name) for name in SIGNAL_NAMES if hasattr(signal, name)]
    return [
        number
        for number in numbers
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN
    ]
