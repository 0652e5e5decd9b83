"""Memory of long runs; in tests/, `python -m faults.long_runs --figures faults/long_runs.json`.

It takes half an hour: an extraction and a conversion of a ten-minute clip of 1280 x 720 px, and
10,000 training steps of the `debug` preset. Faces are bright spots, so the detector's own memory is
not in it. Memory is sampled by the progress; a run is flat if its last quarter takes little more
than what comes before. docs/reference/reliability.md is made of the file.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from fakes import FRAMES_MISSED, SpotDetector, make_spot_images
from faults import workloads
from faults.workloads import Inputs

from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import Face
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import StopCriterion
from faceswap_cli.video.writer import VideoWriter

MAX_GROWTH_MB = 32.0
"""Growth in the last quarter of a run that counts as flat: caches of the allocator."""
FPS = 10
"""Of the clip: what grows does so by frame, and each takes 0.1 s of a core."""
SETTINGS = replace(workloads.SETTINGS, quality=20)
"""Of the conversion; without loss it would take five times as long."""


class CoarseSpotDetector(SpotDetector):
    """A `SpotDetector` that looks at one pixel of 16."""

    def _detect_spots(self, image: Image) -> list[Face]:
        """Return one face around the bright pixels."""
        return [
            replace(one, box=4 * one.box, landmarks=4 * one.landmarks)
            for one in super()._detect_spots(image[::4, ::4])
        ]


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
    """Write a clip of a bright spot that goes to and fro for `frames` frames."""
    images = []
    for index, spot in enumerate(make_spot_images(30, empty=frozenset())):
        if index not in FRAMES_MISSED:
            images.append(np.full((size[1], size[0], 3), 20, np.uint8))
            images[-1][:240, :320] = cv2.resize(cv2.blur(spot, (7, 7)), (320, 240))
    images += images[-2:0:-1]
    with VideoWriter(path, size=size, rate=Fraction(FPS), quality=20) as writer:
        for index in range(frames):
            writer.write(images[index % len(images)], Fraction(index, FPS))
    return path


def sample_extract(clip: Path, folder: Path) -> MemorySampler:
    """Extract a clip's faces."""
    sampler = MemorySampler()
    extract(
        clip,
        folder=SetFolder(root=folder / "faces" / "long"),
        settings=ExtractSettings(size_px=64),
        report=sampler,
        detector=CoarseSpotDetector,
    )
    return sampler


def sample_convert(inputs: Inputs, folder: Path) -> MemorySampler:
    """Convert the clip of the first identity."""
    sampler = MemorySampler()
    workloads.run_convert(
        inputs, folder, report=sampler, settings=SETTINGS, detector=CoarseSpotDetector
    )
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
    """Sample all three and write what they took; return how many are not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, required=True, help="file to write")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        inputs = Inputs(root=Path(name) / "inputs")
        inputs.make()
        frames = round(arguments.minutes * 60 * FPS)
        clip = write_long_clip(inputs.clip("ada"), frames=frames, size=(1280, 720))
        runs = {
            f"extract, {frames:,} frames of 1280 x 720 px": partial(sample_extract, clip),
            f"convert, {frames:,} frames of 1280 x 720 px": partial(sample_convert, inputs),
            f"train, {arguments.steps:,} steps of `debug`": partial(
                sample_train, inputs, steps=arguments.steps
            ),
        }
        for number, (title, run) in enumerate(runs.items()):
            sampler = run(Path(name) / str(number))
            figures[title] = {
                "peak_mb": round(max(sampler.resident_mb)),
                "growth_mb": round(sampler.growth_mb(), 1),
            }
            print(title, figures[title], flush=True)
            text = json.dumps(figures, indent=1, ensure_ascii=False)
            arguments.figures.write_text(text + "\n", encoding="utf-8")
    return sum(one["growth_mb"] > MAX_GROWTH_MB for one in figures.values())


if __name__ == "__main__":
    sys.exit(main())
