"""How close convert comes to its bounds, as ratios from one interleaved run.

The model of the benchmark takes no time: everything else is measured. Run by hand, on an idle
machine:

    python tests/benchmarks/convert.py            # speed at 720p
    python tests/benchmarks/convert.py --memory   # peak memory of a long clip over a short one's
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS, LOCATION_DETECTORS
from faceswap_cli.faces.masks import convex_hull
from faceswap_cli.faces.selection import SelectAll
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.tracker import FaceTracker
from faceswap_cli.stages import convert as stage
from faceswap_cli.stages.extract import extract
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

SIZE = WIDTH, HEIGHT = 1280, 720
FACE_PX = 420
"""Side of the synthetic face's image; the face is about two thirds as high."""
FRAMES = 240
NAIVE_FRAMES = 40
"""Frames for the plain loop, which is slow."""
ROUNDS = 3
RATE = 25


def make_frames(count: int) -> list[Image]:
    """Return frames with a moving synthetic face, a panning background, and grain."""
    rng = np.random.default_rng(0)
    wide = rng.integers(40, 200, (HEIGHT // 16, (WIDTH + 2 * count) // 16 + 1, 3))
    backdrop = np.kron(wide, np.ones((16, 16, 1))).astype(np.uint8)[:HEIGHT]
    grain = rng.normal(0, 3, (HEIGHT, WIDTH, 1))
    actor = HeadModel.from_person(CAST["ada"])
    frames = []
    for index, scene in enumerate(animate(1, seconds=count // RATE + 1).scenes[:count]):
        frame = backdrop[:, 2 * index : 2 * index + WIDTH].copy()
        left = 400 + index % 60
        frame[150 : 150 + FACE_PX, left : left + FACE_PX] = render_frame(
            actor, scene, FACE_PX
        ).image
        noisy = frame + np.roll(grain, 37 * index, axis=1)
        frames.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return frames


def passthrough_model() -> FaceModel:
    """Return a model that returns its input and takes no time."""

    def infer(crops: Sequence[Image], _: str) -> list[SwappedFace]:
        return [SwappedFace(image=crop, mask=None) for crop in crops]

    return FaceModel(identities=("ada", "bo"), size_px=128, coverage=0.8, infer=infer)


class _PassthroughLoader:
    """Replaces `FaceModel` in the stage."""

    @staticmethod
    def load(*_: object, **__: object) -> FaceModel:
        """Return the model that takes no time."""
        return passthrough_model()


def write_video(path: Path, images: Sequence[Image], *, repeat: int = 1) -> None:
    """Write a video of the images, `repeat` times over."""
    with VideoWriter(path, size=SIZE, rate=Fraction(RATE)) as video:
        for index in range(len(images) * repeat):
            video.write(images[index % len(images)], Fraction(index, RATE))


def decode_bare(path: Path) -> None:
    """Decode with PyAV alone, no conversion."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def encode_bare(path: Path, frames: Sequence[VideoFrame]) -> None:
    """Encode frames that are YUV already with PyAV alone, at the stage's own preset."""
    with av.open(str(path), "w") as output:
        options = {"crf": "18", "preset": "veryfast"}
        stream = output.add_stream(
            "libx264", rate=RATE, width=WIDTH, height=HEIGHT, options=options
        )
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def track_faces(images: Sequence[Image]) -> None:
    """Detect and track the faces of frames in memory, as the stage does."""
    frames = (
        Frame(index=index, time=Fraction(index, RATE), view=ArrayImage(image=image))
        for index, image in enumerate(images)
    )
    with FaceTracker(LOCATION_DETECTORS[DEFAULT_DETECTOR], selection=SelectAll()) as tracker:
        for _ in tracker.track(frames):
            pass


def convert(source: Path, folder: Path, settings: ConvertSettings, space: Workspace | None) -> None:
    """Run the stage."""
    stage.convert(
        source,
        weights=source,
        to="bo",
        output=folder / "out.mp4",
        device="cpu",
        report=Reporter(),
        settings=settings,
        workspace=space,
    )


def naive_loop(source: Path, target: Path) -> None:
    """Do the same operations one frame at a time, in float, on whole frames.

    As the peers do it: a search in every frame, the mask blurred and the face warped at the frame's
    size, colors matched and blended in float32.
    """
    model = passthrough_model()
    with ExitStack() as stack:
        detector = stack.enter_context(DETECTORS[DEFAULT_DETECTOR]())
        writer = stack.enter_context(VideoWriter(target, size=SIZE, rate=Fraction(RATE)))
        for frame in read_frames(source):
            image = frame.image
            for face in detector.detect(image)[:1]:
                image = _paste_naive(image, face.landmarks, model)
            writer.write(image, frame.time)


def _paste_naive(image: Image, landmarks: AnyArray, model: FaceModel) -> Image:
    """Return a frame with the model's face in it, the plain way."""
    alignment = align_face(landmarks).center_crop(model.coverage)
    to_crop = alignment.frame_to_crop(model.size_px)
    crop = cv2.warpAffine(image, to_crop, (model.size_px, model.size_px))
    (swapped,) = model.infer([np.asarray(crop, np.uint8)], "bo")
    full = cv2.warpAffine(
        swapped.image.astype(np.float32),
        to_crop,
        SIZE,
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.fillPoly(mask, [np.round(convex_hull(landmarks)).astype(np.int32)], color=[1.0])
    reach = int(alignment.side_px * 0.075) | 1
    mask = cv2.GaussianBlur(mask, (2 * reach + 1, 2 * reach + 1), 0)[..., None]
    inside = (mask[..., 0] > 0.5).astype(np.uint8)
    own = cv2.cvtColor(full / 255, cv2.COLOR_RGB2LAB)
    target = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    (mean, deviation), (goal, spread) = (cv2.meanStdDev(one, mask=inside) for one in (own, target))
    matched = (own - mean.T) / (deviation.T + 1e-6) * spread.T + goal.T
    recolored = cv2.cvtColor(matched.astype(np.float32), cv2.COLOR_LAB2RGB) * 255
    blended = recolored * mask + image.astype(np.float32) * (1 - mask)
    return np.asarray(np.clip(np.rint(blended), 0, 255), dtype=np.uint8)


NAIVE = "plain loop"


def measure_time(work: Callable[[], None], frames: int) -> tuple[float, float]:
    """Return wall and CPU seconds per frame of some work."""
    start, busy = perf_counter(), process_time()
    work()
    return (perf_counter() - start) / frames, (process_time() - busy) / frames


def benchmark_speed(rounds: int) -> None:
    """Time everything in turn, the order reversed every other round, and print the ratios."""
    stage.FaceModel = _PassthroughLoader  # type: ignore[misc,assignment]
    images = make_frames(FRAMES)
    frames = [VideoFrame.from_ndarray(image).reformat(format="yuv420p") for image in images]
    usual = ConvertSettings(mask="both", hwaccel=False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, short = folder / "in.mp4", folder / "short.mp4"
        write_video(source, images)
        write_video(short, images[:NAIVE_FRAMES])
        space = Workspace.open(folder / "workspace")
        extract(
            source,
            folder=space.set_folder("ada"),
            settings=ExtractSettings(),
            report=Reporter(),
        )
        works: dict[str, Callable[[], None]] = {
            "bare decode": lambda: decode_bare(source),
            "landmarks": lambda: track_faces(images),
            "bare encode": lambda: encode_bare(folder / "bare.mp4", frames),
            "convert": lambda: convert(source, folder, usual, None),
            "convert, faces from the set": lambda: convert(source, folder, usual, space),
            NAIVE: lambda: naive_loop(short, folder / "plain.mp4"),
        }
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for turn in range(rounds):
            for label in list(works)[:: 1 if turn % 2 else -1]:
                count = NAIVE_FRAMES if label == NAIVE else FRAMES
                taken[label].append(measure_time(works[label], count))
    print_report(taken)


def print_report(taken: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Print median wall and CPU time per frame, the spread, and the ratios."""
    wall = {name: median(one for one, _ in times) for name, times in taken.items()}
    rounds = len(next(iter(taken.values())))
    print(f"{SIZE[0]}x{SIZE[1]}, {FRAMES} frames, {os.cpu_count()} CPUs, {rounds} rounds")
    for label, times in taken.items():
        spread = max(one for one, _ in times) / min(one for one, _ in times) - 1
        busy = median(one for _, one in times)
        print(
            f"{label:30} {1 / wall[label]:7.1f} frames/s (spread {100 * spread:.0f} %)"
            f" {1000 * busy:8.1f} CPU ms a frame"
        )
    parts = ("bare decode", "landmarks", "bare encode")
    slowest = max(parts, key=lambda one: wall[one])
    for label in ("convert", "convert, faces from the set"):
        print(
            f"{label}: {100 * wall[slowest] / wall[label]:.0f} % of {slowest} alone, "
            f"{100 * sum(wall[one] for one in parts) / wall[label]:.0f} % of the three in turn, "
            f"{wall[NAIVE] / wall[label]:.1f} x the plain loop"
        )


def benchmark_memory(seconds: Sequence[int]) -> None:
    """Print the peak memory of converting clips of different length, each in a new process."""
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = make_frames(10 * RATE)
        for length in seconds:
            source = folder / f"{length}.mp4"
            write_video(source, images, repeat=length // 10)
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(source)],
                capture_output=True,
                text=True,
                check=True,
            )
            peaks.append(int(done.stdout))
            print(f"{length:5} s: {peaks[-1] / 1024:.0f} MiB at the peak")
    print(f"the longest takes {peaks[-1] / peaks[0]:.3f} x the memory of the shortest")


def print_peak_memory(source: Path) -> None:
    """Convert one clip and print the process's peak memory, KiB."""
    stage.FaceModel = _PassthroughLoader  # type: ignore[misc,assignment]
    with tempfile.TemporaryDirectory() as name:
        convert(source, Path(name), ConvertSettings(mask="both", hwaccel=False), None)
    # Not the peak of getrusage, which a child inherits from its parent.
    (peak,) = re.findall(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    print(peak)


def main() -> None:
    """Run the selected benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10, 600], help="for --memory")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print_peak_memory(options.one)
    elif options.memory:
        benchmark_memory(options.seconds)
    else:
        benchmark_speed(options.rounds)


if __name__ == "__main__":
    main()
