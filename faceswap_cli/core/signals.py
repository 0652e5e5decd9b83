"""Ctrl-C and SIGTERM as a flag that long-running loops check: `graceful_interrupt`."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")
"""Ctrl-C, the signal that a system sends before it kills, and Ctrl-Break, which Windows has."""


class StopFlag:
    """Whether a stop was requested."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def graceful_interrupt() -> Iterator[StopFlag]:
    """Yield a flag that the first signal sets; a second signal has its usual effect.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = [getattr(signal, name) for name in SIGNAL_NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}

    def request_stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.requested = True
        restore()

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action or signal.SIG_DFL)

    for number in numbers:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        restore()
