"""How fast reading and writing are compared with the bare library, in one interleaved run.

Run by hand:  python tests/benchmarks/video.py
"""

import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median
from time import process_time

import av
import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.writer import VideoWriter

SIZE = WIDTH, HEIGHT = 1280, 720
FRAMES = 90
ROUNDS = 3


def make_frames() -> list[Image]:
    """Return frames with movement, edges and grain, so that the encoder has realistic work."""
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 255, (HEIGHT // 16, (WIDTH + 4 * FRAMES) // 16 + 1, 3))
    scene = np.kron(wide, np.ones((16, 16, 1)))[:HEIGHT]
    grain = rng.normal(0, 4, (HEIGHT, WIDTH, 1))
    return [
        np.clip(scene[:, 4 * i : 4 * i + WIDTH] + np.roll(grain, 37 * i, axis=1), 0, 255).astype(
            np.uint8
        )
        for i in range(FRAMES)
    ]


def write_video(path: Path, images: list[Image]) -> None:
    """Write with the program's writer."""
    with VideoWriter(path, size=SIZE, rate=Fraction(30)) as video:
        for index, image in enumerate(images):
            video.write(image, Fraction(index, 30))


def write_originals(path: Path, source: Path) -> None:
    """Rewrite a clip with one face's area of every frame changed, as convert does."""
    with VideoWriter(path, size=SIZE, rate=Fraction(30), copy_from=source) as video:
        for frame in read_frames(source):
            changed = [Rect(490, 200, 790, 530)]
            video.write(frame.image, frame.time, original=frame.original, changed=changed)


def write_rgb_only(path: Path, source: Path) -> None:
    """Rewrite a clip from RGB alone."""
    with VideoWriter(path, size=SIZE, rate=Fraction(30), copy_from=source) as video:
        for frame in read_frames(source):
            video.write(frame.image, frame.time)


def write_bare(path: Path, images: list[Image]) -> None:
    """Write with PyAV alone: the same encoder and settings, no care for colors or times."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream(
            "libx264",
            rate=30,
            width=WIDTH,
            height=HEIGHT,
            options={"crf": "18", "preset": "veryfast"},
        )
        for image in images:
            output.mux(stream.encode(VideoFrame.from_ndarray(image)))
        output.mux(stream.encode(None))


def read(path: Path) -> None:
    """Read with the program's reader."""
    for frame in read_frames(path):
        frame.view.to_array()


def decode_bare(path: Path) -> None:
    """Decode with PyAV alone, no conversion."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for _ in container.decode(video=0):
            pass


def read_bare(path: Path) -> None:
    """Decode and convert as PyAV does by default: fast, a level too dark, BT.601 for everything."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            frame.to_ndarray(format="rgb24")


def seconds(call: Callable[[], None]) -> float:
    """Return the processor time of a call: other processes do not count."""
    start = process_time()
    call()
    return process_time() - start


def main() -> None:
    """Time everything in turn, the order reversed every other round, and print the ratios."""
    images = make_frames()
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "in.mp4", Path(folder) / "out.mp4"
        write_video(source, images)
        calls: dict[str, Callable[[], None]] = {
            "bare decode": lambda: decode_bare(source),
            "bare decode and conversion": lambda: read_bare(source),
            "our read": lambda: read(source),
            "bare encode": lambda: write_bare(target, images),
            "our write": lambda: write_video(target, images),
            "read and write, RGB": lambda: write_rgb_only(target, source),
            "read and write, originals": lambda: write_originals(target, source),
        }
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for turn in range(ROUNDS):
            for name in list(calls)[:: 1 if turn % 2 else -1]:
                taken[name].append(seconds(calls[name]))
    middle = {name: median(times) for name, times in taken.items()}
    for name, time in middle.items():
        print(f"{name:28} {FRAMES / time:7.1f} frames/s")
    for ours, bare in [
        ("our read", "bare decode"),
        ("our read", "bare decode and conversion"),
        ("our write", "bare encode"),
        ("read and write, originals", "read and write, RGB"),
    ]:
        print(f"{ours} takes {middle[ours] / middle[bare]:.2f} x the time of {bare}")


if __name__ == "__main__":
    main()
