"""Which pool a command uses, and how large it is: `open_pool`."""

import os
from dataclasses import dataclass

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.parallel.processes import InProcessPool, ProcessPool
from faceswap_cli.parallel.ray_cluster import RayPool
from faceswap_cli.parallel.scheduler import Pool
from faceswap_cli.parallel.settings import ParallelSettings

CORES_PER_WORKER = 2
"""Cores that one process keeps busy: it decodes, tracks and encodes in different threads."""


@dataclass(frozen=True, kw_only=True)
class TaskNeeds:
    """What each task of a command needs of a machine."""

    memory_bytes: float
    """Peak of a process."""
    device: str = "cpu"
    """`auto`, `cpu`, `cuda` or `mps`."""
    gpus: int = 0
    """GPUs of this machine that tasks can use, each by one process; 0: they use none."""


def open_pool(settings: ParallelSettings, needs: TaskNeeds, *, max_tasks: int) -> Pool:
    """Return the pool that a command asks for; one process alone needs no other.

    Args:
        settings: What the user chose.
        needs: What each task needs.
        max_tasks: Tasks that could run at a time.

    Raises:
        ConfigurationError: `settings.on` is neither `ray` nor `ray:ADDRESS`.
    """
    if settings.on is not None:
        return RayPool(
            address=parse_ray_address(settings.on),
            workers=settings.workers,
            device=needs.device,
            max_cpus=CORES_PER_WORKER,
        )
    workers = settings.workers or default_worker_count(needs)
    workers = min(workers, max_tasks)
    if workers <= 1:
        return InProcessPool()
    return ProcessPool(workers=workers, threads=max(1, count_cores() // workers), gpus=needs.gpus)


def parse_ray_address(text: str) -> str | None:
    """Return the address in `ray:ADDRESS`; None for `ray`, which is the cluster of this machine.

    Raises:
        ConfigurationError: It is neither.
    """
    engine, _, address = text.partition(":")
    if engine != "ray" or text.endswith(":"):
        raise ConfigurationError(
            f'--on: "{text}" is not a cluster', hint="name ray, or ray:ADDRESS of its head node"
        )
    return address or None


def default_worker_count(needs: TaskNeeds) -> int:
    """Return how many processes this machine has the cores, the memory and the GPUs for."""
    by_memory = available_memory_bytes() / 2 / needs.memory_bytes
    by_cores = needs.gpus or count_cores() // CORES_PER_WORKER
    return max(1, int(min(by_cores, by_memory)))


def count_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory_bytes() -> float:
    """Return the machine's free memory, bytes; infinite where the system does not report it."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a system file
            table = dict(line.split(":", 1) for line in lines)
        return float(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
