"""Being asked to stop: Ctrl-C and SIGTERM become a question that the training loop asks."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a system sends before it kills."""


class StopFlag:
    """Whether somebody asked to stop."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def graceful_interrupt() -> Iterator[StopFlag]:
    """Hear the first signal as a wish to stop after this step; a second one acts at once.

    Does nothing outside the main thread, where Python delivers no signals.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def hear(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.requested = True
        restore()

    def restore() -> None:
        for number, action in before.items():
            signal.signal(number, action or signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, hear)
    try:
        yield stop
    finally:
        restore()
