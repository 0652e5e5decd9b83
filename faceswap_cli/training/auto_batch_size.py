"""How large a batch may be: found by trying, with room to spare.

Knows when trying stops; refuses to know how a batch is learnt from.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

INITIAL_BATCH_SIZE = 2
"""Faces of each person in the first batch that is tried; the others are its doublings."""
GPU_MEMORY_FRACTION = 0.9
"""Part of a GPU's free memory that training may take."""
CPU_MEMORY_FRACTION = 0.5
"""Part of a machine's free memory that training may take: other programs live there too."""
CPU_MIN_SPEEDUP = 0.1
"""A doubling on a CPU must raise images/s by this part: more only makes steps fewer."""


@dataclass(frozen=True, kw_only=True)
class BatchTrial:
    """What a batch of some size took."""

    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """When doubling stops."""

    memory_bytes: float
    """What training may take."""
    min_speedup: float
    """By what part images/s must rise with each doubling; -1 asks for nothing."""


def search_batch_size(
    run_trial: Callable[[int], BatchTrial | None], *, limits: SearchLimits, max_batch_size: int
) -> tuple[int, str]:
    """Return the largest batch that fits and pays, and what stopped the search, in words.

    Args:
        run_trial: Learns from some batches of a size; None if memory ran out.
        limits: When to stop.
        max_batch_size: Faces of each person in the largest batch that makes sense.
    """
    best, before = 1, 0.0
    size = INITIAL_BATCH_SIZE
    while size <= max_batch_size:
        trial = run_trial(size)
        if trial is None or trial.memory_bytes > limits.memory_bytes:
            return best, f"{size} would take too much memory"
        if before and trial.images_per_second < before * (1 + limits.min_speedup):
            return best, f"{size} would be no faster"
        best, before = size, trial.images_per_second
        size *= 2
    return best, f"the smallest set has {max_batch_size} faces to learn from"


def search_limits(device: torch.device) -> SearchLimits:
    """Return when doubling stops on a device, from the memory that is free now."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return SearchLimits(memory_bytes=GPU_MEMORY_FRACTION * free, min_speedup=-1.0)
    return SearchLimits(
        memory_bytes=CPU_MEMORY_FRACTION * available_memory_bytes(), min_speedup=CPU_MIN_SPEEDUP
    )


def available_memory_bytes() -> float:
    """Return the machine's free memory; unbounded where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - not a file of ours
            table = dict(line.split(":", 1) for line in lines)
        return float(table["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
