"""How large a batch may be: found by trying, with room to spare.

Knows when trying stops; refuses to know how a batch is learnt from.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch

FIRST = 2
"""Faces of each person in the first batch that is tried; the others are its doublings."""
GPU_PART = 0.9
"""Part of a GPU's free memory that training may take."""
CPU_PART = 0.5
"""Part of a machine's free memory that training may take: other programs live there too."""
CPU_GAIN = 0.1
"""A doubling on a CPU must raise images/s by this part: more only makes steps fewer."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What a batch of some size took."""

    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When doubling stops."""

    memory_bytes: float
    """What training may take."""
    least_gain: float
    """By what part images/s must rise with each doubling; -1 asks for nothing."""


def largest_batch(
    attempt: Callable[[int], Trial | None], *, limits: Limits, most: int
) -> tuple[int, str]:
    """Return the largest batch that fits and pays, and what stopped the search, in words.

    Args:
        attempt: Learns from some batches of a size; None if memory ran out.
        limits: When to stop.
        most: Faces of each person in the largest batch that makes sense.
    """
    best, before = 1, 0.0
    size = FIRST
    while size <= most:
        trial = attempt(size)
        if trial is None or trial.memory_bytes > limits.memory_bytes:
            return best, f"{size} would take too much memory"
        if before and trial.images_per_second < before * (1 + limits.least_gain):
            return best, f"{size} would be no faster"
        best, before = size, trial.images_per_second
        size *= 2
    return best, f"the smallest set has {most} faces to learn from"


def limits_of(device: torch.device) -> Limits:
    """Return when doubling stops on a device, from the memory that is free now."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return Limits(memory_bytes=GPU_PART * free, least_gain=-1.0)
    return Limits(memory_bytes=CPU_PART * free_bytes(), least_gain=CPU_GAIN)


def free_bytes() -> float:
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
