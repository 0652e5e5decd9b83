"""Costs of training (`TrainEstimate`), and the largest batch that fits (`search_batch_size`)."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from faceswap_cli.core.fileio import format_bytes
from faceswap_cli.core.hardware import synchronize
from faceswap_cli.parallel.pools import available_memory_bytes
from faceswap_cli.training.checkpoint import MAX_SNAPSHOTS
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.trainer import StepOutOfMemoryError, Trainer
from faceswap_models.base import TrainProgress
from faceswap_models.growing import GrowingModel

WARMUP_STEPS = 2
"""Steps that are not timed: the first ones allocate memory and choose algorithms."""
TIMED_SECONDS = 1.5
"""How long steps are timed, at least one of them."""
IN_FLIGHT_SNAPSHOTS = 1
"""Snapshots in addition to the last ones, while they are written."""
INITIAL_BATCH_SIZE = 2
"""Faces of each identity in the first batch that is tried; the others are its doublings."""
FACE_MODELS_BYTES = 300_000_000
"""Memory of a process that the face models and their images take when swaps are first measured:
278 MB here."""
GPU_MEMORY_FRACTION = 0.9
"""Part of a GPU's free memory that training may take."""
CPU_MEMORY_FRACTION = 0.5
"""Part of a machine's free memory that training may take: other programs need some too."""
CPU_MIN_SPEEDUP = 0.1
"""Part by which a doubling on a CPU must raise images/s: else it only makes steps fewer."""


@dataclass(frozen=True, kw_only=True)
class TrainEstimate:
    """What a run needs: device, parameters, speed, memory, disk and time."""

    device: str
    """Name of the device."""
    precision: str
    """Precision of the computation."""
    parameters: int
    """Trained parameters."""
    faces_per_identity: dict[str, int]
    images_per_step: int
    """Faces in a step, over all identities."""
    disk_bytes: int
    """Size of the run's folder with cache and checkpoints, without previews."""
    images_per_second: float | None = None
    """Measured; None before the first steps."""
    memory_bytes: int = 0
    """Peak use of the device's memory; on a CPU, of the whole process."""
    remaining_images: int | None = None
    """Images left; None without a limit of images."""
    remaining_seconds: float | None = None
    """Time left; None without a limit."""

    def to_rows(self) -> dict[str, str]:
        """Return the estimate as rows of a table, name to text."""
        if self.remaining_seconds is None:
            remaining = "until the validation error stops improving"
        else:
            images = "" if self.remaining_images is None else f"{self.remaining_images:,} images, "
            remaining = images + format_duration(self.remaining_seconds)
        faces = (f"{name} {count:,}" for name, count in self.faces_per_identity.items())
        speed = self.images_per_second
        return {
            "device": self.device,
            "precision": self.precision,
            "parameters": f"{self.parameters:,}",
            "faces": ", ".join(faces),
            "faces a step": f"{self.images_per_step:,}",
            "speed": "unknown" if speed is None else f"{speed:,.0f} images/s",
            "memory": format_bytes(self.memory_bytes) if self.memory_bytes else "unknown",
            "disk": format_bytes(self.disk_bytes),
            "remaining": remaining,
        }


def benchmark_steps(
    trainer: Trainer,
    loader: FaceLoader,
    *,
    start_images: int = 0,
    seconds: float | None = None,
) -> tuple[float, int]:
    """Train for some seconds from `start_images`; the trainer's state is not usable afterwards.

    Where memory runs out, the trainer is left with as many micro-batches as it needs.

    Returns:
        Images/s, and the peak memory in bytes.
    """
    timed_seconds = TIMED_SECONDS if seconds is None else seconds
    images = loader.images_per_step
    device = trainer.hardware.device
    steps, start = 0, time.monotonic()
    while steps <= WARMUP_STEPS or time.monotonic() - start < timed_seconds:
        if steps == WARMUP_STEPS:
            start = time.monotonic()
        seen = start_images + steps * images
        progress = TrainProgress(images_seen=seen, max_images=None)
        batch = loader.batch(seen)
        try:
            trainer.step(batch, progress, lr_scale=1.0, images=images)
        except StepOutOfMemoryError:
            trainer.split_further(batch.target.shape[1])
            steps = 0
            continue
        steps += 1
        synchronize(device)
    elapsed = time.monotonic() - start
    return (steps - WARMUP_STEPS) * images / elapsed, peak_memory_bytes(device)


def grow_to_final(trainer: Trainer) -> None:
    """Grow networks to their final structure at once, to measure them."""
    model = trainer.model
    while isinstance(model, GrowingModel) and model.is_growing:
        trainer.grow(model.growth_step + 1, TrainProgress(images_seen=0, max_images=None))


def count_parameters(trainer: Trainer) -> int:
    """Return the number of parameters of the networks."""
    return sum(one.numel() for one in trainer.model.parameters())


def estimate_disk_bytes(trainer: Trainer, *, cache_bytes: int) -> int:
    """Return the size of a run's folder, bytes, without previews.

    Args:
        trainer: Trained or not: Adam's two moments are included.
        cache_bytes: Size of the decoded crops.
    """
    state = sum(one.numel() * one.element_size() for one in trainer.state_dict().values())
    for group, optimizer in trainer.optimizers.items():
        if not optimizer.state:
            state += sum(
                2 * one.numel() * one.element_size() for one in trainer.parameter_groups[group]
            )
    weights = sum(one.numel() * 2 for one in trainer.export_weights().values())
    return (MAX_SNAPSHOTS + IN_FLIGHT_SNAPSHOTS) * state + 2 * weights + cache_bytes


def format_duration(seconds: float) -> str:
    """Return a duration as text, in hours and minutes."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"{hours}{minutes % 60} min"


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory, bytes; 0 where the system does not report it."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":  # it keeps what it took, so this is the peak
        return int(torch.mps.driver_allocated_memory())
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def whole_peak_bytes(device: torch.device) -> int:
    """Return the peak memory of a whole training, bytes, before it has measured swaps; 0: unknown.

    On a GPU the face models take none: they run on the CPU.
    """
    peak = peak_memory_bytes(device)
    return peak + FACE_MODELS_BYTES if peak and device.type == "cpu" else peak


def device_name(device: torch.device) -> str:
    """Return the name of a device."""
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} threads)" if device.type == "cpu" else device.type


@dataclass(frozen=True, kw_only=True)
class BatchTrial:
    """Speed and memory of training with a batch of some size."""

    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class SearchLimits:
    """Limits at which doubling the batch stops."""

    memory_bytes: float
    """Memory that training may take."""
    min_speedup: float
    """Part by which images/s must rise with each doubling; -1 for any speed."""


def search_batch_size(
    run_trial: Callable[[int], BatchTrial | None], *, limits: SearchLimits, max_batch_size: int
) -> tuple[int, str]:
    """Return the largest batch that fits and pays, and what stopped the search, in words.

    Args:
        run_trial: Trains on some batches of a size; None if memory ran out.
        limits: Limits of the machine.
        max_batch_size: Faces of each identity in the largest batch that makes sense.
    """
    best, last_speed = 1, 0.0
    size = INITIAL_BATCH_SIZE
    while size <= max_batch_size:
        trial = run_trial(size)
        if trial is None or trial.memory_bytes > limits.memory_bytes:
            return best, f"{size} would take too much memory"
        if last_speed and trial.images_per_second < last_speed * (1 + limits.min_speedup):
            return best, f"{size} would be no faster"
        best, last_speed = size, trial.images_per_second
        size *= 2
    return best, f"the smallest set has {max_batch_size} training faces"


def search_limits(device: torch.device) -> SearchLimits:
    """Return the limits of a device, from its free memory."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        return SearchLimits(memory_bytes=GPU_MEMORY_FRACTION * free, min_speedup=-1.0)
    if device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return SearchLimits(memory_bytes=GPU_MEMORY_FRACTION * free, min_speedup=-1.0)
    return SearchLimits(
        memory_bytes=CPU_MEMORY_FRACTION * available_memory_bytes(), min_speedup=CPU_MIN_SPEEDUP
    )
