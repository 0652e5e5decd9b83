"""Pools of this machine: `ProcessPool`, and `InProcessPool`, which needs no other process.

The processes are new ones (`spawn`: safe with threads and CUDA) and share nothing: each has a pipe
to the one that started it, and what they write is guarded by the locks of `core.lock`. When a
process dies, the system closes its pipe, and another one gets its task.
"""

import multiprocessing
import os
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Self

from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.parallel.scheduler import Receive
from faceswap_cli.parallel.tasks import (
    Message,
    Task,
    TaskFailure,
    TaskResult,
    perform,
    run_task,
)

MAX_ATTEMPTS = 3
"""Processes that may die of one task before it fails."""
POLL_S = 0.2
"""Time between two checks for a signal."""
STOP_S = 20.0
"""Time that processes have to save their work when they are stopped."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""Environment variables for the threads of torch and OpenCV."""


class InProcessPool:
    """Runs tasks one after the other in this process."""

    capacity = 1

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Task[Any]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, number: int, task: Task[Any]) -> None:
        """Run a task when messages are received."""
        self._waiting.append((number, task))

    def receive(self, receive: Receive) -> None:
        """Run the next task."""
        number, task = self._waiting.popleft()
        receive(number, run_task(task, lambda message: receive(number, message), interval_s=0.0))


@dataclass(kw_only=True, eq=False)
class _Worker:
    """A process and what it does."""

    process: BaseProcess
    connection: "Connection[Any, Any]"
    assignment: tuple[int, Task[Any]] | None = None
    """Number and task."""


@dataclass(kw_only=True)
class ProcessPool:
    """Runs tasks in several processes of this machine."""

    workers: int
    """Processes."""
    threads: int = 1
    """Threads of each for networks and images; the environment variables of the user go first."""
    gpus: int = 0
    """GPUs, of which each process gets one; 0: they see what this process sees."""
    _idle: list[_Worker] = field(default_factory=list)
    _busy: list[_Worker] = field(default_factory=list)
    _waiting: deque[tuple[int, Task[Any]]] = field(default_factory=deque)
    _deaths: dict[int, int] = field(default_factory=dict)
    """Processes that died of a task, by its number."""
    _started: int = 0

    @property
    def capacity(self) -> int:
        """One task waits for each process."""
        return 2 * self.workers

    def __enter__(self) -> Self:
        self._signals = graceful_interrupt()
        self._stop: StopFlag = self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes; those that work are asked to save."""
        for worker in self._busy:
            worker.process.terminate()
        for worker in (*self._idle, *self._busy):
            worker.connection.close()
        for worker in (*self._idle, *self._busy):
            worker.process.join(STOP_S)
            worker.process.kill()
            worker.process.join()
        self._signals.__exit__(None, None, None)

    def submit(self, number: int, task: Task[Any]) -> None:
        """Give a task to an idle process, to a new one, or to the first that becomes idle."""
        self._waiting.append((number, task))
        self._assign()

    def receive(self, receive: Receive) -> None:
        """Pass on what processes sent, for at most `POLL_S`."""
        connections = {worker.connection: worker for worker in self._busy}
        for connection in wait(list(connections), timeout=POLL_S):
            assert isinstance(connection, Connection)
            self._receive_from(connections[connection], receive)
        self._assign()
        if self._stop.requested:
            raise KeyboardInterrupt

    def _receive_from(self, worker: _Worker, receive: Receive) -> None:
        """Pass on the next message of a process, or find out that it died."""
        assert worker.assignment is not None
        number, task = worker.assignment
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            self._busy.remove(worker)
            worker.process.join()
            self._retry(number, task, worker.process.exitcode, receive)
            return
        if isinstance(message, TaskResult | TaskFailure):
            worker.assignment = None
            self._busy.remove(worker)
            self._idle.append(worker)
        receive(number, message)

    def _retry(self, number: int, task: Task[Any], exit_code: int | None, receive: Receive) -> None:
        """Give a task whose process died to another one, unless it has killed several."""
        self._deaths[number] = self._deaths.get(number, 0) + 1
        if self._deaths[number] < MAX_ATTEMPTS:
            self._waiting.appendleft((number, task))
            return
        receive(number, TaskFailure(error=lost_task_error(task.name, f"exit code {exit_code}")))

    def _assign(self) -> None:
        """Give waiting tasks to processes, as long as there are both."""
        while self._waiting and (self._idle or len(self._busy) < self.workers):
            worker = self._idle.pop() if self._idle else self._start_worker()
            worker.assignment = self._waiting.popleft()
            self._busy.append(worker)
            with suppress(OSError):  # it died while it was idle: `receive` finds its pipe closed
                worker.connection.send(worker.assignment[1])

    def _start_worker(self) -> _Worker:
        """Start a process."""
        variables = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        variables = {name: os.environ.get(name, value) for name, value in variables.items()}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = visible_gpu(self._started, self.gpus)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=run_worker, args=(theirs, variables), daemon=True)
        process.start()
        theirs.close()  # so that the pipe ends with the process
        self._started += 1
        return _Worker(process=process, connection=ours)


def visible_gpu(worker: int, gpus: int) -> str:
    """Return the value of `CUDA_VISIBLE_DEVICES` for a process: one of those visible here.

    Args:
        worker: Number of the process.
        gpus: GPUs that are visible here.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else [str(index) for index in range(gpus)]
    return names[worker % len(names)]


def lost_task_error(name: str, reason: str) -> FaceswapError:
    """Return the error of a task whose processes died.

    Args:
        name: Its input.
        reason: What is known of the last death.
    """
    return FaceswapError(
        f"{name}: the process that worked on it died {MAX_ATTEMPTS} times ({reason})",
        hint="if memory ran out, use fewer processes: --workers N",
    )


def run_worker(connection: "Connection[Any, Any]", variables: dict[str, str]) -> None:
    """Run tasks that come through a pipe until it is closed; the main function of a process.

    Args:
        connection: Tasks come in, messages go out.
        variables: Environment, set before the libraries that read it are imported with the tasks.
    """
    os.environ.update(variables)
    if hasattr(os, "setsid"):
        # Ctrl-C reaches only the process in the terminal, which asks this one to save and stop.
        os.setsid()
    lock = threading.Lock()

    def send(message: Message) -> None:
        with lock:
            try:
                connection.send(message)
            except OSError:
                # The process that wanted the result is gone, and nothing can be told any more.
                raise KeyboardInterrupt from None

    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            send(perform(task, send))
        except KeyboardInterrupt:
            return
