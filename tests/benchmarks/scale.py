"""Speed-up of several processes over one, on the same clips: `python tests/benchmarks/scale.py`.

    python tests/benchmarks/scale.py [--clips 4] [--seconds 4] [--workers 1 2] [--rounds 3]
    python tests/benchmarks/scale.py --on ray

The variants alternate in one run, and the result is a ratio: clips are extracted by each number of
processes, to sets of equal content. The processes are new in each round, as in a command, so their
start counts. `CPU` is the processor time of all of them together over that of one: what the ratio
costs. `open` is what the command itself does for an input before its task: the part that no process
can take over.
"""

import argparse
import resource
import tempfile
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import perf_counter

import cv2
import numpy as np

from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.parallel.settings import ParallelSettings
from faceswap_cli.stages.extract import extract_inputs
from faceswap_cli.synthetic import CAST, animate, render_frames
from faceswap_cli.video.source import find_sources
from faceswap_cli.video.writer import VideoWriter

SIZE = WIDTH, HEIGHT = 1280, 720
FACE_PX = 480
"""Side of the synthetic image in the frame; the face in it is about 200 px wide."""


def write_clips(folder: Path, *, count: int, seconds: float) -> list[Path]:
    """Write clips of synthetic people in 720p."""
    paths = []
    for number in range(count):
        person = CAST[sorted(CAST)[number % len(CAST)]]
        scenes = animate(number, seconds=seconds).scenes
        path = folder / f"clip-{number}.mp4"
        noise = np.random.default_rng(number).integers(0, 255, (9, 16, 3), dtype=np.uint8)
        wall = cv2.resize(noise, SIZE, interpolation=cv2.INTER_CUBIC)
        with VideoWriter(path, size=SIZE, rate=Fraction(25)) as writer:
            for index, rendered in enumerate(render_frames(person, scenes, size_px=FACE_PX)):
                frame = np.roll(wall, index, axis=1).copy()
                frame[120 : 120 + FACE_PX, 400 : 400 + FACE_PX] = rendered.image
                writer.write(frame, Fraction(index, 25))
        paths.append(path)
    return paths


def time_extract(
    clips: list[Path], parallel: ParallelSettings, folder: Path
) -> tuple[float, float, int]:
    """Extract the clips; return seconds, seconds of processor time, and frames."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        start, cpu = perf_counter(), cpu_seconds()
        batch = extract_inputs(
            clips,
            name=None,
            workspace=Workspace(root=Path(root)),
            settings=ExtractSettings(),
            report=Reporter(),
            parallel=parallel,
        )
        assert not batch.failed
        frames = sum(one.frames for one in batch.extracted)
        return perf_counter() - start, cpu_seconds() - cpu, frames


def cpu_seconds() -> float:
    """Return the processor time of this process and of those it started that have ended."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def main() -> None:
    """Run the variants in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--on", help="ray, or ray:ADDRESS; 1 is this process all the same")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = write_clips(folder, count=options.clips, seconds=options.seconds)
        start = perf_counter()
        find_sources(clips)
        opening = (perf_counter() - start) / len(clips)
        times: dict[int, list[tuple[float, float, int]]] = {count: [] for count in options.workers}
        for round_number in range(options.rounds):
            order = options.workers if round_number % 2 == 0 else options.workers[::-1]
            for count in order:
                parallel = ParallelSettings(workers=count, on=options.on if count > 1 else None)
                times[count].append(time_extract(clips, parallel, folder))
    baseline = times[options.workers[0]]
    print(f"open: {1000 * opening:.0f} ms an input")
    print("| workers | frames/s | speed-up | CPU |\n| --- | --- | --- | --- |")
    for count, rounds in times.items():
        speed_up = median(one[0] / other[0] for one, other in zip(baseline, rounds, strict=True))
        cpu = median(other[1] / one[1] for one, other in zip(baseline, rounds, strict=True))
        rate = median(frames / seconds for seconds, _, frames in rounds)
        print(f"| {count} | {rate:.1f} | {speed_up:.2f} | {cpu:.2f} |")


if __name__ == "__main__":
    main()
