"""Memory of long runs: `python tests/faults/long_runs.py` takes an hour, and prints a table.

An extraction and a conversion of a ten-minute clip of 1280 x 720 px, and 10,000 training steps of
the `debug` preset. Faces are bright spots, so the detector's own memory is not in it. Memory is
sampled by the progress; a run is flat if its last quarter takes little more than what comes before.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
from fakes import make_spot_images, run_extract
from faults import workloads
from faults.workloads import Inputs

from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.stages.train import StopCriterion
from faceswap_cli.video.writer import VideoWriter

MAX_GROWTH_MB = 32.0
"""Growth in the last quarter of a run that counts as flat: caches of the allocator."""


@dataclass(kw_only=True)
class MemorySampler(Reporter):
    """Samples this process's memory at each report of progress."""

    resident_mb: list[float] = field(default_factory=list)

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Sample it."""
        self.resident_mb.append(read_resident_mb())

    def growth_mb(self) -> float:
        """Return by how much the peak of the last quarter is above that of all before.

        A conversion finds all faces first and encodes then: its second half has the encoder too.
        """
        last = len(self.resident_mb) * 3 // 4
        return max(self.resident_mb[last:]) - max(self.resident_mb[:last])


def read_resident_mb() -> float:
    """Return the memory of this process that is resident, MB."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - a system file
        return int(file.read().split()[1]) * 4096 / 1e6


def write_long_clip(path: Path, *, frames: int, size: tuple[int, int]) -> Path:
    """Write a clip of a bright spot that goes on for `frames` frames."""
    images = [cv2.resize(image, size) for image in make_spot_images(30, empty=frozenset())]
    with VideoWriter(path, size=size, rate=Fraction(25), quality=20) as writer:
        for index in range(frames):
            writer.write(images[index % len(images)], Fraction(index, 25))
    return path


def sample_extract(clip: Path, folder: Path) -> MemorySampler:
    """Extract a clip's faces."""
    sampler = MemorySampler()
    run_extract(clip, SetFolder(root=folder / "faces" / "long"), report=sampler)  # type: ignore[arg-type]
    return sampler


def sample_convert(inputs: Inputs, folder: Path) -> MemorySampler:
    """Convert the clip of the first identity."""
    sampler = MemorySampler()
    workloads.run_convert(inputs, folder, report=sampler)
    return sampler


def sample_train(inputs: Inputs, folder: Path, *, steps: int) -> MemorySampler:
    """Train for some steps."""
    sampler = MemorySampler()
    images = steps * workloads.RECIPE.train.batch_size * len(workloads.NAMES)
    recipe = replace(
        workloads.RECIPE,
        train=replace(workloads.RECIPE.train, checkpoint_interval_images=images // 20),
    )
    stop = StopCriterion(max_images=images)
    workloads.run_train(inputs, folder, report=sampler, recipe=recipe, stop=stop)
    return sampler


def main() -> int:
    """Sample all three and print a table; return how many are not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    rising = 0
    with tempfile.TemporaryDirectory() as name:
        inputs = Inputs(root=Path(name) / "inputs")
        inputs.make()
        frames = round(arguments.minutes * 60 * 25)
        clip = write_long_clip(inputs.clip("ada"), frames=frames, size=(1280, 720))
        runs = {
            f"extract, {frames:,} frames": partial(sample_extract, clip),
            f"convert, {frames:,} frames": partial(sample_convert, inputs),
            f"train, {arguments.steps:,} steps": partial(
                sample_train, inputs, steps=arguments.steps
            ),
        }
        for number, (title, run) in enumerate(runs.items()):
            sampler = run(Path(name) / str(number))
            peak, growth = max(sampler.resident_mb), sampler.growth_mb()
            print(f"{title:32} {peak:8,.0f} MB {growth:+8.1f} MB in the last quarter", flush=True)
            rising += growth > MAX_GROWTH_MB
    return rising


if __name__ == "__main__":
    sys.exit(main())
