"""Where detail is lost: the frame's own face through the conversion, at networks' sizes.

    python tests/benchmarks/detail.py VIDEO [--frames N]

A perfect network would return the very face that it got. Its input is cropped, its output pasted
back as `convert` does, and the result is evaluated against the frame itself, once with the default
postprocessing and once without any. What a trained model is below the row of its size, its network
has lost and not its resolution or the conversion.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import FaceSwapper, FaceTask, build_swapper
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.extract import extract
from faceswap_cli.training.dataset import evenly_spaced
from faceswap_cli.video.reader import read_frames as read_video

SIZES = (64, 96, 128, 192, 256)
COVERAGE = 0.8
"""That of the preset `light`."""
NAME = "self"
METRICS = ("sharpness", "lpips", "ssim", "eyes", "mouth", "gaze")
DEFAULT = ConvertSettings(mask="oval", color="none")
PLAIN = ConvertSettings(mask="oval", color="none", sharpen=0.0, match_blur=False, match_grain=False)


def perfect_model(size_px: int) -> FaceModel:
    """Return a network that returns its input."""

    def infer(crops: Sequence[Image], identity: str) -> list[SwappedFace]:
        del identity
        return [SwappedFace(image=crop, mask=None) for crop in crops]

    return FaceModel(identities=(NAME,), size_px=size_px, coverage=COVERAGE, infer=infer)


def read_frames(video: Path, records: Sequence[FaceRecord]) -> list[tuple[Image, FaceRecord]]:
    """Return the frames of some records, in their order."""
    by_frame = {record.frame: record for record in records}
    return [
        (frame.image, by_frame[frame.index])
        for frame in read_video(video)
        if frame.index in by_frame
    ]


def convert_frames(
    swapper: FaceSwapper, frames: Sequence[tuple[Image, FaceRecord]]
) -> Iterator[FramePair]:
    """Yield each frame with its converted one; the truth is the frame."""
    for index, (image, record) in enumerate(frames):
        view = ArrayImage(image=image)
        task = FaceTask(
            identity=NAME, track=0, landmarks=record.landmarks, alignment=record.alignment
        )
        layers = swapper.run([swapper.prepare(view, task)])
        swapped = np.asarray(swapper.composite(view, layers).to_array())
        yield FramePair(time=float(index), original=image, swapped=swapped, truth=image)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--frames", type=int, default=24)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder))
        target = space.set_folder(NAME)
        extract(given.video, folder=target, settings=ExtractSettings(), report=Reporter())
        faces = FaceSet.load(NAME, folder=target.root, records=target.records)
        shown = evenly_spaced(np.arange(len(faces)), given.frames)
        frames = read_frames(given.video, [faces.records[index] for index in shown])
        print(f"| output, px | postprocessing | {' | '.join(METRICS)} |")
        print("|" + " --- |" * (2 + len(METRICS)))
        for size_px in SIZES:
            for label, settings in (("default", DEFAULT), ("none", PLAIN)):
                swapper = build_swapper(settings, perfect_model(size_px))
                results = evaluate_frames(
                    convert_frames(swapper, frames),
                    frame_count=len(frames),
                    identity=faces,
                    report=Reporter(),
                ).results
                cells = " | ".join(results[name].format_value() for name in METRICS)
                print(f"| {size_px} | {label} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
