"""Working through the plans of many inputs: `run_plans`."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, Self

from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.parallel.tasks import (
    Message,
    Plan,
    Result,
    Task,
    TaskFailure,
    TaskNote,
    TaskProgress,
    TaskResult,
)


class Receive(Protocol):
    """Is called with a task's number and a message of it."""

    def __call__(self, number: int, message: Message) -> None:
        """Take the message."""


class Pool(Protocol):
    """Processes that run tasks; a context manager. After an exception they stop, and save."""

    @property
    def capacity(self) -> int:
        """Tasks that it should have at a time, so that no process waits for one."""

    def __enter__(self) -> Self:
        """Be ready for tasks."""

    def __exit__(self, *_: object) -> None:
        """End all processes."""

    def submit(self, number: int, task: Task[Any]) -> None:
        """Run a task as soon as a process is free."""

    def receive(self, receive: Receive) -> None:
        """Wait a short time for messages, and pass them on in order.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came.
        """


@dataclass(frozen=True, kw_only=True)
class Outcomes(Generic[Result]):
    """How the plans ended, each by the name of its input, in the order of the plans."""

    results: Mapping[str, Result]
    failed: Mapping[str, FaceswapError]


def run_plans(
    plans: Mapping[str, Plan[Result]],
    pool: Pool,
    *,
    report: Reporter,
    title: str,
    total: float | None,
    unit: str,
) -> Outcomes[Result]:
    """Work through plans, under one bar; one that fails does not stop the others.

    Args:
        plans: By the names of their inputs.
        pool: Runs the tasks.
        report: Shows the bar, and notes of the tasks and failures.
        title: Of the bar.
        total: Units of all tasks; None: unknown.
        unit: What is counted.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the tasks stopped, and saved what they had.
    """
    report.start_task(title, total=total, unit=unit)
    scheduler = _Scheduler(plans, pool, report)
    try:
        scheduler.run()
    finally:
        for plan in plans.values():
            plan.close()
    return Outcomes(
        results={name: scheduler.results[name] for name in plans if name in scheduler.results},
        failed={name: scheduler.failed[name] for name in plans if name in scheduler.failed},
    )


@dataclass(kw_only=True)
class _RunningTask:
    """A task in the pool."""

    plan: str
    """Name of its plan."""
    index: int
    """Which of the tasks that the plan yielded together it is."""
    units: float
    done: float = 0.0


@dataclass(kw_only=True)
class _OpenTasks:
    """The tasks that a plan yielded together."""

    results: list[Any]
    unfinished: int
    error: FaceswapError | None = None


@dataclass
class _Scheduler(Generic[Result]):
    """The plans on their way."""

    plans: Mapping[str, Plan[Result]]
    pool: Pool
    report: Reporter
    results: dict[str, Result] = field(default_factory=dict)
    failed: dict[str, FaceswapError] = field(default_factory=dict)
    _running: dict[int, _RunningTask] = field(default_factory=dict)
    """The tasks in the pool, by number."""
    _open: dict[str, _OpenTasks] = field(default_factory=dict)
    _count: int = 0
    """Tasks submitted."""
    _done: float = 0.0
    """Units of finished tasks."""

    def run(self) -> None:
        """Work through all plans; only as many are started as the pool can use."""
        waiting = deque(self.plans)
        while waiting or self._running:
            while waiting and len(self._running) < self.pool.capacity:
                self._advance(waiting.popleft(), None)
            if self._running:
                self.pool.receive(self._on_message)

    def _advance(self, name: str, before: _OpenTasks | None) -> None:
        """Send a plan the results of its last tasks, and submit the next ones."""
        plan = self.plans[name]
        try:
            if before is not None and before.error is not None:
                tasks = plan.throw(before.error)
            else:
                tasks = next(plan) if before is None else plan.send(before.results)
        except StopIteration as end:
            self.results[name] = end.value
            return
        except FaceswapError as error:
            self.failed[name] = error
            self.report.note(f"failed: {error.describe(name)}")
            return
        self._open[name] = _OpenTasks(results=[None] * len(tasks), unfinished=len(tasks))
        for index, task in enumerate(tasks):
            self._running[self._count] = _RunningTask(plan=name, index=index, units=task.units)
            self.pool.submit(self._count, task)
            self._count += 1

    def _on_message(self, number: int, message: Message) -> None:
        """Show a message, or go on after a task's end."""
        if number not in self._running:
            return  # it came after the end of its task, from a process that was given up
        if isinstance(message, TaskNote):
            self.report.note(message.text)
        elif isinstance(message, TaskProgress):
            task = self._running[number]
            task.done = max(task.done, min(message.done, task.units or message.done))
            self._show_progress(message.numbers)
        else:
            self._finish(number, message)

    def _finish(self, number: int, message: TaskResult | TaskFailure) -> None:
        """Record how a task ended; its plan goes on after the last of its open tasks."""
        task = self._running.pop(number)
        self._done += task.units or task.done
        tasks = self._open[task.plan]
        tasks.unfinished -= 1
        if isinstance(message, TaskResult):
            tasks.results[task.index] = message.value
        else:
            tasks.error = tasks.error or message.error
        if not tasks.unfinished:
            self._advance(task.plan, self._open.pop(task.plan))
        self._show_progress({})

    def _show_progress(self, numbers: Mapping[str, Number]) -> None:
        """Move the bar; the numbers are those of one task, so they are shown if it is the only one.

        Args:
            numbers: Of the task that sent them.
        """
        finished = len(self.results) + len(self.failed)
        done = self._done + sum(task.done for task in self._running.values())
        own = numbers if len(self._running) == 1 else {}
        self.report.update(done, {"finished": f"{finished}/{len(self.plans)}", **own})
