"""Tasks for the tests of pools: other processes import this module, and little with it."""

import os
import signal
import time
from pathlib import Path

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import graceful_interrupt


def square(number: int, report: Reporter) -> int:
    """Return the square of a number, after ten units of progress and a note."""
    report.start_task("square", total=10, unit="steps")
    report.note(f"the number is {number}")
    for done in range(1, 11):
        report.update(done)
    return number * number


def fail(report: Reporter) -> None:
    """Fail as a damaged input does."""
    raise InputError("it is damaged", hint="make it anew")


def read_missing(path: Path, report: Reporter) -> bytes:
    """Read a file that was removed."""
    return path.read_bytes()


def crash(report: Reporter) -> None:
    """Fail as a bug does."""
    raise ZeroDivisionError("a bug")


def process_of(report: Reporter) -> int:
    """Return the number of the process."""
    return os.getpid()


def die(folder: Path, times: int, report: Reporter) -> int:
    """Kill the process, the first `times` times that it is called; then return these."""
    died = len(list(folder.iterdir()))
    if died < times:
        (folder / str(died)).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return died


def work_until_stopped(folder: Path, report: Reporter) -> None:
    """Work until a signal comes, and save that then."""
    with graceful_interrupt() as stop:
        (folder / "started").touch()
        for _ in range(1000):
            if stop.requested:
                (folder / "saved").touch()
                raise KeyboardInterrupt
            time.sleep(0.05)
