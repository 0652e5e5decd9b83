"""Processes that die: `run_in_process` runs a workload in a process of its own, with a fault.

Processes are forked from a server that has everything imported, so a hundred take minutes.

    KillAtOperation   kill -9 just before a given file operation
    StopAtOperation   SIGTERM just before one
    PowerCut          the same, and what was not flushed to the disk is lost
    RunOnly           no fault, and counts the file operations

A kill by the clock needs no code in the process: see `run_in_process`.
"""

import os
import random
import shutil
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

from faults.workloads import Inputs, find_workload

from faceswap_cli.core.errors import EXIT_INTERRUPTED, FaceswapError
from faceswap_cli.core.signals import interrupt_on_signals

FILE_EVENTS = frozenset(
    {"open", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}
)
"""Audit events of Python that are file operations; `os.fsync` has none, and is added."""
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
TIMEOUT_S = 900.0
"""Generous: a machine may be busy."""

Loss = Literal["all", "content", "some"]
"""What a power cut takes of that which was not flushed: names and content, content only (a name
without its bytes), or by chance."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a process ended."""

    exit_code: int
    """Negative for a signal."""
    seconds: float


@dataclass(kw_only=True)
class RunOnly:
    """Runs without a fault and writes the number of file operations to a file."""

    report: Path
    operations: int = 0

    def arm(self, folder: Path) -> None:
        """Begin to count."""
        on_file_operation(folder, self._count)

    def finish(self) -> None:
        """Write the number."""
        self.report.write_text(str(self.operations))

    def _count(self) -> None:
        self.operations += 1


@dataclass(kw_only=True)
class KillAtOperation(RunOnly):
    """Kills the process before its file operation number `at`."""

    at: int
    signal_name: str = "SIGKILL"

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.at:
            os.kill(os.getpid(), getattr(signal, self.signal_name))


@dataclass(kw_only=True)
class StopAtOperation(KillAtOperation):
    """Asks the process to stop before its file operation number `at`."""

    signal_name: str = "SIGTERM"


@dataclass(kw_only=True)
class WaitAtOperation(RunOnly):
    """Waits before file operation number `at` until it is killed, and writes that it does."""

    at: int

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.at:
            self.report.touch()
            time.sleep(TIMEOUT_S)


@dataclass(kw_only=True)
class PowerCut(RunOnly):
    """Cuts the power before the file operation number `at`: only what was flushed is left.

    A file has the content of its last `fsync`, a folder the entries of its last one; of what was
    written since, `loss` says what is there. Written to the folder `disk`.
    """

    at: int
    disk: Path
    loss: Loss
    seed: int = 0
    _contents: dict[int, bytes] = field(default_factory=dict)
    """Inode -> content at the last flush."""
    _entries: dict[Path, dict[str, int]] = field(default_factory=dict)
    """Folder -> name -> inode at the last flush."""

    def arm(self, folder: Path) -> None:
        """Begin to record flushes and count operations."""
        self._root = folder
        self._record_tree()
        on_file_operation(folder, self._count, after_fsync=self._record)

    def _count(self) -> None:
        self.operations += 1
        if self.operations == self.at:
            self._write_disk(self._root, self.disk)
            os.kill(os.getpid(), signal.SIGKILL)

    def _record_tree(self) -> None:
        """Take what is there from earlier runs for flushed, as it is after a restart."""
        self._entries[self._root] = {}
        for path in [self._root, *self._root.rglob("*")]:
            if path.is_dir():
                self._entries[path] = _list_inodes(path)
            elif path.is_file():
                self._contents[path.stat().st_ino] = path.read_bytes()

    def _record(self, descriptor: int) -> None:
        """Record what a flush makes durable."""
        state = os.fstat(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}")
        if stat.S_ISDIR(state.st_mode):
            self._entries[path.resolve()] = _list_inodes(path)
        else:
            self._contents[state.st_ino] = path.read_bytes()

    def _write_disk(self, folder: Path, target: Path) -> None:
        """Write what is left of a folder to `target`."""
        target.mkdir()
        rng = random.Random(self.seed)
        is_current = self.loss == "content" or (self.loss == "some" and rng.random() < 0.5)
        now, then = _list_inodes(folder), self._entries.get(folder, {})
        entries = now if is_current else then
        for name, inode in entries.items():
            inner = folder / name
            # A folder has its own inode still; nothing here renames one that is in use.
            if inner.is_dir():
                self._write_disk(inner, target / name)
            else:
                (target / name).write_bytes(self._contents.get(inode, b""))


Fault = RunOnly


def on_file_operation(
    folder: Path,
    action: Callable[[], None],
    *,
    after_fsync: Callable[[int], None] | None = None,
) -> None:
    """Call `action` before each file operation of this process in a folder."""
    prefix, fsync = str(folder), os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS or (event == "open" and not arguments[2] & WRITE_FLAGS):
            return
        if str(arguments[0]).startswith(prefix):
            action()

    def flush(descriptor: int) -> None:
        action()
        fsync(descriptor)
        if after_fsync:
            after_fsync(descriptor)

    sys.addaudithook(hook)
    os.fsync = flush


def run_in_process(
    workload: str,
    inputs: Inputs,
    folder: Path,
    *,
    fault: Fault | None = None,
    kill_after_s: float | None = None,
    signal_number: int = 9,
) -> Ended:
    """Run a workload in a process of its own.

    Args:
        workload: Name of the workload.
        inputs: What it needs.
        folder: Where it works.
        fault: What happens to it.
        kill_after_s: When it gets a signal.
        signal_number: That signal.
    """
    context = _server()
    started, start = context.Event(), time.monotonic()
    process = context.Process(target=_main, args=(workload, inputs, folder, fault, started))
    process.start()
    started.wait(TIMEOUT_S)
    if kill_after_s is not None:
        process.join(kill_after_s)
        if process.pid is not None and process.exitcode is None:
            os.kill(process.pid, signal_number)
    process.join(TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{workload} takes too long")
    return Ended(exit_code=process.exitcode, seconds=time.monotonic() - start)


@contextmanager
def paused_process(name: str, inputs: Inputs, folder: Path, *, at: int) -> Iterator[int]:
    """Yield the number of a process that waits before its file operation `at`, and is then killed.

    Args:
        name: Name of the workload.
        inputs: What it needs.
        folder: Where it works.
        at: The file operation.
    """
    waiting = folder.with_name("waiting")
    fault = WaitAtOperation(report=waiting, at=at)
    context = _server()
    started = context.Event()
    process = context.Process(target=_main, args=(name, inputs, folder, fault, started))
    process.start()
    while not waiting.exists():
        assert process.is_alive()
        time.sleep(0.05)
    assert process.pid
    yield process.pid
    process.kill()
    process.join()


def error_path(folder: Path) -> Path:
    """Return the file with the message and the hint of the error that ended a workload there."""
    return folder.with_name(f"{folder.name}.error")


def replace_folder(folder: Path, by: Path) -> None:
    """Put a folder in the place of another one, with what is beside it kept."""
    shutil.rmtree(folder, ignore_errors=True)
    by.rename(folder)


@cache
def _server() -> ForkServerContext:
    """Return a context whose server has everything imported."""
    tests = str(Path(__file__).parents[1])
    # The server does not get this process's search path before it imports.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([tests, *filter(None, sys.path)]))
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _main(workload: str, inputs: Inputs, folder: Path, fault: Fault | None, started: Any) -> None:  # noqa: ANN401
    """Run a workload; `started` is set just before."""
    if fault:
        folder.mkdir(parents=True, exist_ok=True)
        fault.arm(folder)
    started.set()
    try:
        with interrupt_on_signals():  # as every command does
            find_workload(workload).run(inputs, folder)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except FaceswapError as error:
        error_path(folder).write_text(f"{error.message}\n{error.hint}")
        sys.exit(error.exit_code)
    if fault:
        fault.finish()


def _list_inodes(folder: Path) -> dict[str, int]:
    """Return the entries of a folder with their inodes."""
    with os.scandir(folder) as entries:
        return {entry.name: entry.inode() for entry in entries}
