"""What is run under faults: an extraction, a training and a conversion, of about a second each.

Each resumes in the folder that it is given, like the command of its name. Faces are bright spots
(`fakes.SpotDetector`) and the networks are the `debug` preset's; everything else is the program's
own. Work is saved every few frames and images, so that many saves are hit.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from fakes import SpotDetector, make_spot_images, run_extract

from faceswap_cli.cli.console import Terminal
from faceswap_cli.conversion import analysis
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core import config, image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.workspace import RunFolder, SetFolder
from faceswap_cli.faces import crop_writer
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR
from faceswap_cli.stages.convert import convert
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.training import checkpoint, loop
from faceswap_cli.training.swap_metrics import FaceAnalyzer, SwapEvaluator
from faceswap_cli.video.reader import read_frames
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.writer import AudioTrack, VideoWriter

NAMES = ("ada", "bo")
SAVE_FRAMES = 8
"""Frames in a segment of a conversion, and between two saves of its first pass."""
SAVE_IMAGES = 32
"""Images between two checkpoints of the training."""
TRAIN_IMAGES = 96
UNTIL = StopCriterion(max_images=TRAIN_IMAGES)
SET_SAVE_S = 0.02
"""Seconds between two saves of the extraction."""
RECIPE = config.resolve(
    "autoencoder",
    "debug",
    [
        "train.batch_size=2",
        f"train.checkpoint_interval_images={SAVE_IMAGES}",
        "train.preview_interval_images=64",
        "model.latent_dim=8",
    ],
)
# Lossless: an encoder may choose differently from run to run.
SETTINGS = ConvertSettings(
    mask="both", color="none", match_blur=False, match_grain=False, quality=0
)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Clips, sets and a trained model that a user already has."""

    root: Path

    def clip(self, name: str) -> Path:
        """Return the clip of an identity."""
        return self.root / f"{name}.mp4"

    def set_folder(self, name: str) -> SetFolder:
        """Return the set of an identity."""
        return SetFolder(root=self.root / "workspace" / "faces" / name)

    @property
    def run(self) -> RunFolder:
        """The finished training."""
        return RunFolder(root=self.root / "workspace" / "runs" / "ada-bo")

    def make(self) -> None:
        """Make all of them."""
        for number, name in enumerate(NAMES):
            write_spot_clip(self.clip(name), first=100 * number)
            run_extract(self.clip(name), self.set_folder(name))
        run_train(self, self.root / "workspace")

    def digests(self) -> dict[str, str]:
        """Return the digest of every file."""
        return digest_files(self.root)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Work that is interrupted, resumed and compared with the same work uninterrupted."""

    name: str
    run: Callable[[Inputs, Path], None]
    """Does the work in a folder, or resumes it there."""
    read_result: Callable[[Path], dict[str, str]]
    """Returns a digest of each part of the result that must not depend on interruptions."""
    check_files: Callable[[Path], None]
    """Checks that what has its final name is whole, at any time."""


def write_spot_clip(path: Path, *, frames: int = 24, first: int = 0) -> Path:
    """Write a clip of a bright spot in every frame but a few, with sound."""
    tone = np.sin(np.arange(1920 * frames) * 0.05)[:, None].astype(np.float32) * 0.3
    sound = AudioTrack(samples=tone, rate_hz=48_000)
    with VideoWriter(path, size=(160, 120), rate=Fraction(25), quality=10, audio=sound) as writer:
        for index, image in enumerate(make_spot_images(frames, first=first)):
            writer.write(image, Fraction(index, 25))
    return path


def run_extraction(inputs: Inputs, folder: Path) -> None:
    """Extract a clip's faces."""
    with patch.object(crop_writer, "CHECKPOINT_INTERVAL_S", SET_SAVE_S):
        run_extract(inputs.clip("ada"), _set_in(folder))


def run_train(
    inputs: Inputs,
    folder: Path,
    *,
    report: Reporter | None = None,
    recipe: Recipe = RECIPE,
    stop: StopCriterion = UNTIL,
) -> None:
    """Train on both sets."""
    torch.set_num_threads(1)
    job = TrainJob(
        sets=[FaceSet.from_folder(inputs.set_folder(name)) for name in NAMES],
        recipe=recipe,
        run=_run_in(folder),
        stop_criterion=stop,
        device="cpu",
        seed=1,
    )
    evaluator = partial(SwapEvaluator, load_analyzer=_no_face_models)
    with patch.object(loop, "SwapEvaluator", evaluator):
        train(job, report=report or Progress(folder))


def run_convert(
    inputs: Inputs,
    folder: Path,
    *,
    report: Reporter | None = None,
    settings: ConvertSettings = SETTINGS,
    detector: type[SpotDetector] = SpotDetector,
) -> None:
    """Swap the faces of a clip."""
    torch.set_num_threads(1)
    defaults = SegmentedWriter.__init__.__kwdefaults__
    with (
        patch.object(analysis, "LOCATION_DETECTORS", {DEFAULT_DETECTOR: detector}),
        patch.object(analysis, "SAVE_INTERVAL_FRAMES", SAVE_FRAMES),
        patch.dict(defaults, segment_frames=SAVE_FRAMES),
    ):
        convert(
            inputs.clip("ada"),
            weights=inputs.run.weights,
            to="bo",
            output=_video_in(folder),
            device="cpu",
            report=report or Progress(folder),
            settings=settings,
        )


class Progress(Terminal):
    """The terminal; writes how far the work got, for who comes after it was killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._path = folder.with_name(f"{folder.name}.progress")

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Write it, without a flush: the kernel has it."""
        super().update(done, numbers)
        self._path.write_text(str(done))

    @staticmethod
    def read(folder: Path) -> float:
        """Return what was written last."""
        path = folder.with_name(f"{folder.name}.progress")
        return float(path.read_text() or 0) if path.exists() else 0.0


def read_set(folder: Path) -> dict[str, str]:
    """Return the digests of a set's files."""
    return digest_files(_set_in(folder).root)


def read_run(folder: Path) -> dict[str, str]:
    """Return the digests of the run in a folder."""
    return digest_run(_run_in(folder))


def digest_run(run: RunFolder) -> dict[str, str]:
    """Return the digests of a run's tensors, and what else training changes but the time."""
    result: dict[str, str] = {}
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    tensors = {"resume": resume.tensors}
    for path in (run.weights, run.best):
        tensors[path.name] = checkpoint.read_safetensors(path)[0]
    for title, values in tensors.items():
        result |= {f"{title} {name}": _digest(one.numpy()) for name, one in values.items()}
    state = asdict(resume.state) | {"seconds": 0}
    return result | {"state": repr(state), "validation": repr(resume.validation_files)}


def read_video(folder: Path) -> dict[str, str]:
    """Return the digests of the frames of the video in a folder."""
    return digest_frames(_video_in(folder))


def digest_frames(path: Path) -> dict[str, str]:
    """Return the digests and times of a video's decoded frames."""
    frames = read_frames(path)
    return {f"{frame.index} at {frame.time}": _digest(frame.image) for frame in frames}


def check_set(folder: Path) -> None:
    """Check that every crop of a record that was saved is a whole image."""
    records = _set_in(folder).records
    if records.exists():
        loaded = FaceSet.from_folder(_set_in(folder))
        for record in loaded.records:
            image_io.read_image(loaded.path(record))


def check_run(folder: Path, *, save_images: int = SAVE_IMAGES) -> None:
    """Check that all checkpoints and weights can be read, and that the last is recent enough.

    Args:
        folder: Where the run is.
        save_images: Images between two checkpoints.
    """
    run = _run_in(folder)
    for path in run.root.rglob("[!.]*.safetensors"):
        checkpoint.read_safetensors(path)
    resume = checkpoint.load_checkpoint(run)
    saved = resume.state.images_seen if resume else 0
    # What is being written does not count yet.
    assert Progress.read(folder) - saved <= 2 * save_images


def check_video(folder: Path) -> None:
    """Check that the video is whole if it is there."""
    if _video_in(folder).exists():
        assert len(list(read_frames(_video_in(folder)))) == 24


WORKLOADS = {
    one.name: one
    for one in (
        Workload(name="extract", run=run_extraction, read_result=read_set, check_files=check_set),
        Workload(name="train", run=run_train, read_result=read_run, check_files=check_run),
        Workload(name="convert", run=run_convert, read_result=read_video, check_files=check_video),
    )
}


SOAK_STEPS = 2_000
SOAK_RECIPE = replace(
    RECIPE,
    train=replace(RECIPE.train, checkpoint_interval_images=160, preview_interval_images=0),
)
SOAK_IMAGES = SOAK_STEPS * RECIPE.train.batch_size * len(NAMES)
SOAK = Workload(
    name="long train",
    run=partial(run_train, recipe=SOAK_RECIPE, stop=StopCriterion(max_images=SOAK_IMAGES)),
    read_result=read_run,
    check_files=partial(check_run, save_images=SOAK_RECIPE.train.checkpoint_interval_images),
)
"""A training of some minutes, which is disturbed again and again."""


def find_workload(name: str) -> Workload:
    """Return the workload of a name."""
    return SOAK if name == SOAK.name else WORKLOADS[name]


def digest_files(folder: Path) -> dict[str, str]:
    """Return the digest of every file in a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _digest(array: np.ndarray) -> str:  # type: ignore[type-arg]
    """Return the digest of an array."""
    text = f"{array.dtype} {array.shape}".encode()
    return hashlib.sha256(text + np.ascontiguousarray(array).tobytes()).hexdigest()


def _set_in(folder: Path) -> SetFolder:
    return SetFolder(root=folder / "faces" / "ada")


def _run_in(folder: Path) -> RunFolder:
    return RunFolder(root=folder / "runs" / "ada-bo")


def _video_in(folder: Path) -> Path:
    return folder / "exports" / "ada-swapped.mp4"


def _no_face_models(stack: ExitStack) -> FaceAnalyzer:
    """Refuse to load face models: spots are no faces."""
    raise InputError("the face models are not available")
