"""What a training would take: measured on a few steps, before anything is written.

Knows speed, memory and disk; refuses to know runs.
"""

import sys
import time
from dataclasses import dataclass

import torch

from faceswap_cli.learning.checkpoint import KEPT
from faceswap_cli.learning.feed import Feed
from faceswap_cli.learning.trainer import Learner
from faceswap_models.base import Progress

WARM_STEPS = 2
"""Steps that are not timed: the first ones allocate memory and choose algorithms."""
TIMED_SECONDS = 5.0
"""How long steps are timed, at least one of them."""
WRITTEN_AHEAD = 1
"""Files that lie beside the kept ones while they are written."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training would take."""

    device: str
    """Name of the device."""
    precision: str
    """What is computed in."""
    parameters: int
    """Numbers that are learnt."""
    faces: dict[str, int]
    """Faces by person."""
    batch: int
    """Faces in a step, of all people together."""
    images_per_second: float
    """Measured."""
    memory_bytes: int
    """Largest use of the device's memory so far; on a CPU, of the whole process."""
    disk_bytes: int
    """What the run's folder will hold, cache and kept states included, without sheets."""
    images: int | None
    """Images left to the goal; None where time or the scores decide."""
    seconds: float | None
    """Time left to the goal; None where nobody can know."""


def measure(
    learner: Learner, feed: Feed, *, timed_seconds: float = TIMED_SECONDS
) -> tuple[float, int]:
    """Learn for some seconds; return images/s and the largest memory in bytes.

    The learner is of no use afterwards: it has learnt.
    """
    for step in range(WARM_STEPS):
        _step(learner, feed, step)
    began, steps = time.monotonic(), 0
    while steps == 0 or time.monotonic() - began < timed_seconds:
        _step(learner, feed, WARM_STEPS + steps)
        steps += 1
        _finish(learner.hardware.device)
    seconds = time.monotonic() - began
    return steps * feed.images_a_batch / seconds, peak_memory(learner.hardware.device)


def disk_use(learner: Learner, *, cache_bytes: int) -> int:
    """Return the bytes that a run of a learner will take, sheets left out.

    Args:
        learner: One that has learnt, so that its optimizer's moments are there.
        cache_bytes: Size of the decoded crops.
    """
    state = sum(one.numel() * one.element_size() for one in learner.tensors().values())
    weights = sum(one.numel() * 2 for one in learner.weights().values())
    return (KEPT + WRITTEN_AHEAD) * state + 2 * weights + cache_bytes


def peak_memory(device: torch.device) -> int:
    """Return the most memory that was in use, bytes; 0 where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource  # there is none on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_name(device: torch.device) -> str:
    """Return what a device calls itself."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} threads)" if device.type == "cpu" else device.type


def _step(learner: Learner, feed: Feed, step: int) -> None:
    """Learn from one batch."""
    images = feed.images_a_batch
    progress = Progress(images_seen=step * images, goal=None)
    learner.step(feed.batch(step * images), progress, factor=1.0, images=images)


def _finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
