"""What a training takes: measured on a few steps, before it begins.

Knows speed, memory and disk; refuses to know runs.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from faceswap_cli.core.errors import InputError
from faceswap_cli.training.checkpoint import KEPT_SNAPSHOTS
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import TrainProgress

WARMUP_STEPS = 2
"""Steps that are not timed: the first ones allocate memory and choose algorithms."""
TIMED_SECONDS = 1.5
"""How long steps are timed, at least one of them."""
IN_FLIGHT_SNAPSHOTS = 1
"""Files that lie beside the kept ones while they are written."""


@dataclass(frozen=True, kw_only=True)
class TrainEstimate:
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

    def facts(self) -> dict[str, str]:
        """Return the plan as people read it, name by name."""
        if self.seconds is None:
            goal = "until held-out faces get no better"
        else:
            images = "" if self.images is None else f"{self.images:,} images, "
            goal = images + format_duration(self.seconds)
        return {
            "device": self.device,
            "precision": self.precision,
            "parameters": f"{self.parameters:,}",
            "faces": ", ".join(f"{name} {count:,}" for name, count in self.faces.items()),
            "faces a step": f"{self.batch:,}",
            "speed": f"{self.images_per_second:,.0f} images/s",
            "memory": format_bytes(self.memory_bytes) if self.memory_bytes else "unknown",
            "disk": format_bytes(self.disk_bytes),
            "to the goal": goal,
        }


def benchmark_step(
    trainer: Trainer, loader: FaceLoader, *, start_images: int = 0
) -> tuple[float, int]:
    """Learn for some seconds from `start_images` images on, and leave the trainer as it was.

    Of several processes each measures by itself at the same time, without waiting for the others.

    Returns:
        Images/s of all processes together, and the largest memory in bytes.
    """
    # Kept in the machine's memory: a GPU's is what is being measured.
    before = {name: one.detach().to("cpu", copy=True) for name, one in trainer.state_dict().items()}
    reduce, trainer.all_reduce = trainer.all_reduce, None
    try:
        for step in range(WARMUP_STEPS):
            _train_step(trainer, loader, start_images, step)
        _synchronize(trainer.hardware.device)
        began, steps = time.monotonic(), 0
        while steps == 0 or time.monotonic() - began < TIMED_SECONDS:
            _train_step(trainer, loader, start_images, WARMUP_STEPS + steps)
            steps += 1
            _synchronize(trainer.hardware.device)
        seconds = time.monotonic() - began
    finally:
        trainer.all_reduce = reduce
    trainer.load_state_dict(before)
    return steps * loader.images_per_step / seconds, peak_memory_bytes(trainer.hardware.device)


def estimate_disk_bytes(trainer: Trainer, *, cache_bytes: int) -> int:
    """Return the bytes that a run of a trainer will take, sheets left out.

    Args:
        trainer: Whether it has learnt or not: Adam's two moments are counted in.
        cache_bytes: Size of the decoded crops.
    """
    state = sum(one.numel() * one.element_size() for one in trainer.state_dict().values())
    for group, optimizer in trainer.optimizers.items():
        if not optimizer.state:
            state += sum(
                2 * one.numel() * one.element_size() for one in trainer.parameter_groups[group]
            )
    weights = sum(one.numel() * 2 for one in trainer.export_weights().values())
    return (KEPT_SNAPSHOTS + IN_FLIGHT_SNAPSHOTS) * state + 2 * weights + cache_bytes


def check_disk_space(folder: Path, *, needed_bytes: int) -> None:
    """Refuse to begin what the disk has no room for.

    Args:
        folder: Where the run lies, or will; what is there already counts.
        needed_bytes: What the run's folder will hold.

    Raises:
        InputError: The disk's free space is less than what is still needed.
    """
    there = {one.st_ino: one.st_size for one in map(Path.stat, _iter_files(folder))}
    missing = needed_bytes - sum(there.values())
    home = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(home).free
    if free < missing:
        raise InputError(
            f"the run needs {format_bytes(missing)} more on the disk of {folder}, which has {format_bytes(free)}",
            hint="free some space, or give a --workspace on another disk",
        )


def format_bytes(count: float) -> str:
    """Return a number of bytes as people write it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def format_duration(seconds: float) -> str:
    """Return a length of time as people write it."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours = f"{minutes // 60} h " if minutes >= 60 else ""
    return f"{hours}{minutes % 60} min"


def peak_memory_bytes(device: torch.device) -> int:
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


def _iter_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder."""
    return (path for path in folder.rglob("*") if path.is_file())


def _train_step(trainer: Trainer, loader: FaceLoader, start: int, step: int) -> None:
    """Learn from one batch."""
    images = loader.images_per_step
    progress = TrainProgress(images_seen=start + step * images, max_images=None)
    trainer.step(loader.batch(progress.images_seen), progress, lr_scale=1.0, images=images)


def _synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
