"""Pool of a Ray cluster: `RayPool`. The only file that imports Ray.

A task of ours is a task of Ray, which finds a node for it, and runs it again elsewhere if its
process or node is lost. Messages come through a queue on the node of the command; inputs and
results are files in folders that all nodes share.
"""

import os
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Self

from faceswap_cli.core.errors import ConfigurationError, DeviceError, InputError
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.parallel.processes import MAX_ATTEMPTS, POLL_S, STOP_S, lost_task_error
from faceswap_cli.parallel.scheduler import Receive
from faceswap_cli.parallel.tasks import Message, Task, TaskFailure, perform

TASKS_PER_SLOT = 2
"""Tasks submitted for each that can run: Ray starts the next one without asking this process."""


class RayPool:
    """Runs tasks on a Ray cluster.

    Args:
        address: Of the cluster; None takes the one of this machine, or starts one.
        workers: Tasks at a time, at most; None: as many as the cluster has room for.
        device: `auto`, `cpu`, `cuda` or `mps`; with `auto` each task asks for a GPU if the cluster
            has any.
        max_cpus: CPUs that a task asks for, unless the nodes have fewer.
    """

    def __init__(
        self, *, address: str | None, workers: int | None, device: str, max_cpus: int
    ) -> None:
        self._ray = import_ray()
        self._address = address
        self._workers = workers
        self._device = device
        self._max_cpus = max_cpus
        self._tasks: dict[Any, tuple[int, str]] = {}
        """Number and name of each task by Ray's reference to its result."""

    @property
    def capacity(self) -> int:
        """As many tasks as the cluster has room for, and some that wait; a cluster may grow."""
        if self._workers is not None:
            return self._workers
        resources = self._ray.cluster_resources()
        slots = resources.get("CPU", 0) // self._options["num_cpus"]
        if gpus := self._options["num_gpus"]:
            slots = min(slots, resources.get("GPU", 0) // gpus)
        return max(1, TASKS_PER_SLOT * int(slots))

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            InputError: There is no cluster at the address.
            DeviceError: It has no GPU.
        """
        from ray.util.queue import Queue
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Our commands report nothing to anyone, and Ray would.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            self._ray.init(address=self._address, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(
                f"there is no Ray cluster at {self._address or 'this machine'}: {error}",
                hint="start one with ray start --head, and name the address that it prints",
            ) from error
        try:
            self._options = self._task_options()
        except DeviceError:
            self._ray.shutdown()
            raise
        here = NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=False
        )
        self._queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
        self._signals = graceful_interrupt()
        self._stop: StopFlag = self._signals.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what still runs, wait until it has saved, and disconnect."""
        for reference in self._tasks:
            self._ray.cancel(reference)
        if self._tasks:
            self._ray.wait(list(self._tasks), num_returns=len(self._tasks), timeout=STOP_S)
        self._ray.shutdown()
        self._signals.__exit__(None, None, None)

    def submit(self, number: int, task: Task[Any]) -> None:
        """Have Ray run a task."""
        remote = self._ray.remote(run_ray_task).options(**self._options)
        reference = remote.remote(number, task, self._queue, str(Path.cwd()))
        self._tasks[reference] = number, task.name

    def receive(self, receive: Receive) -> None:
        """Pass on messages, then the ends of tasks."""
        ended, _ = self._ray.wait(list(self._tasks), timeout=POLL_S)
        while count := self._queue.qsize():
            for number, message in self._queue.get_nowait_batch(count):
                receive(number, message)
        for reference in ended:
            number, name = self._tasks.pop(reference)
            receive(number, self._read_end(reference, name))
        if self._stop.requested:
            raise KeyboardInterrupt

    def _read_end(self, reference: Any, name: str) -> Message:  # noqa: ANN401 - Ray's own
        """Return how a task ended; that its processes died is a failure of the task."""
        try:
            end: Message = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            reason = str(error).strip().partition("\n")[0]
            return TaskFailure(error=lost_task_error(name, reason))
        return end

    def _task_options(self) -> dict[str, Any]:
        """Return what each task asks Ray for.

        Raises:
            DeviceError: The tasks need a GPU, and the cluster has none.
        """
        nodes = [one["Resources"] for one in self._ray.nodes() if one["Alive"]]
        has_gpus = any(node.get("GPU", 0) for node in nodes)
        if self._device == "cuda" and not has_gpus:
            raise DeviceError(
                "--device cuda: the Ray cluster has no GPU", hint="use --device cpu or auto"
            )
        cpus = max((node.get("CPU", 0) for node in nodes), default=0)
        return {
            "num_cpus": max(1, min(self._max_cpus, int(cpus))),
            "num_gpus": 1 if has_gpus and self._device in ("auto", "cuda") else 0,
            # Of lost processes and nodes; our own errors are results.
            "max_retries": MAX_ATTEMPTS - 1,
        }


def run_ray_task(number: int, task: Task[Any], queue: Any, folder: str) -> Message:  # noqa: ANN401
    """Run a task in a process of the cluster; return how it ended.

    Args:
        number: Its number.
        task: The task.
        queue: Receives its number and its messages.
        folder: The folder of the command, from which paths count.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        return TaskFailure(
            error=InputError(
                f"{task.name}: a node of the cluster has no folder {folder}: {error.strerror}",
                hint="share the folder of the inputs and the workspace with all nodes",
            )
        )
    return perform(task, lambda message: queue.put((number, message)))


def import_ray() -> ModuleType:
    """Import Ray.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise ConfigurationError(
            "--on ray needs Ray, which is not installed",
            hint='pip install "faceswap-cli[cluster]"',
        ) from error
