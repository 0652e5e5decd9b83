"""What runs in any process, and what comes back from it: `Task`, `run_task`, `Plan`.

A task is a function of a module with its arguments, so any process can import and call it. While it
runs it sends messages: its progress and notes, and at the end its result or its error.
"""

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.fileio import translate_removed_files
from faceswap_cli.core.progress import Number, PartReporter, Reporter

Result = TypeVar("Result")

PROGRESS_INTERVAL_S = 0.5
"""Time between two messages of progress of a task: one process receives those of thousands."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[Result]):
    """A part of the work that one process does from beginning to end."""

    name: str
    """The input, for the user."""
    units: float
    """Units of progress that it makes, such as frames; 0: unknown, or not worth a bar."""
    run: Callable[[Reporter], Result]
    """A function of a module, or a `functools.partial` of one. If its process is lost it is called
    again in another one, so it resumes what it finds on the disk."""


Plan = Generator[Sequence[Task[Any]], list[Any], Result]
"""The work on one input: yields tasks that may run at a time, and is sent their results in order.

An error of a task is raised where they were yielded, when none of them runs any more.
"""


@dataclass(frozen=True, kw_only=True)
class TaskProgress:
    """How far a task is."""

    done: float
    numbers: Mapping[str, Number] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TaskNote:
    """A line for the user."""

    text: str


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """The end of a task that succeeded."""

    value: Any


@dataclass(frozen=True, kw_only=True)
class TaskFailure:
    """The end of a task that failed."""

    error: FaceswapError


Message = TaskProgress | TaskNote | TaskResult | TaskFailure
Send = Callable[[Message], None]


class MessageReporter(Reporter):
    """Sends progress and notes of a task as messages.

    Args:
        send: Receives them.
        interval_s: Least time between two messages of progress.
    """

    def __init__(self, send: Send, *, interval_s: float) -> None:
        self._send = send
        self._interval_s = interval_s
        self._due = 0.0

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Send the progress, if it is due."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + self._interval_s
            self._send(TaskProgress(done=done, numbers=dict(numbers or {})))

    def note(self, text: str) -> None:
        """Send a line."""
        self._send(TaskNote(text=text))


def run_task(task: Task[Any], send: Send, *, interval_s: float) -> TaskResult | TaskFailure:
    """Run a task; return how it ended.

    Args:
        task: The task.
        send: Receives its progress and notes.
        interval_s: Least time between two messages of progress.
    """
    reporter = MessageReporter(send, interval_s=interval_s)
    parts = PartReporter(reporter, title=task.name, total=None, unit="")
    parts.start_part(task.name, start=0)
    try:
        with translate_removed_files():
            return TaskResult(value=task.run(parts))
    except FaceswapError as error:
        return TaskFailure(error=error)


def perform(task: Task[Any], send: Send) -> TaskResult | TaskFailure:
    """Run a task in a process that others do not depend on: a bug is an error of the task."""
    try:
        return run_task(task, send, interval_s=PROGRESS_INTERVAL_S)
    except Exception as error:
        return TaskFailure(
            error=FaceswapError(
                f"{task.name}: internal error: {type(error).__name__}: {error}",
                hint="to find the cause, process this input by itself with --workers 1 --debug",
            )
        )


def single_task(task: Task[Result]) -> Plan[Result]:
    """Return the plan of an input that is one task."""
    [result] = yield [task]
    return result  # type: ignore[no-any-return]
