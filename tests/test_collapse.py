"""Failures of GAN training, caused on purpose: a run detects each, rolls back and continues."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from faceswap_cli.core import config
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.training import run_log
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import SwapModel, TrainProgress

pytestmark = pytest.mark.usefixtures("no_face_models")
HEALTHY_IMAGES = 192
"""Images after which a fault is injected: by then networks have learned enough to collapse."""
MAX_IMAGES = 256
Fault = Callable[[SwapModel], None]


class RecordingReporter(Reporter):
    """Records notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Record a note."""
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _status_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read losses at every step."""
    monkeypatch.setattr(run_log, "STATUS_INTERVAL_S", 0.0)


def output_layers(model: SwapModel) -> list[torch.nn.Module]:
    """Return the generators' output layers."""
    return [generator.up[0] for generator in model.generators]  # type: ignore[union-attr,index]


@torch.no_grad()
def constant_discriminators(model: SwapModel) -> None:
    """Make every discriminator give the same score for every input."""
    for parameter in model.discriminators.parameters():  # type: ignore[union-attr,operator]
        parameter.zero_()


@torch.no_grad()
def constant_output(model: SwapModel) -> None:
    """Make every generator give the same image for every input."""
    for layer in output_layers(model):
        for parameter in layer.parameters():
            parameter.zero_()


@torch.no_grad()
def inverted_output(model: SwapModel) -> None:
    """Invert the colors of every generator."""
    for layer in output_layers(model):
        for parameter in layer.parameters():
            parameter.neg_()


def identity_output(model: SwapModel) -> None:
    """Make every generator return its input."""
    original = type(model).generate  # type: ignore[attr-defined]

    def generate(generator: torch.nn.Module, faces: Tensor) -> Tensor:
        return faces + 1e-6 * original(model, generator, faces)

    model.generate = generate  # type: ignore[assignment]


def undo_fault(model: SwapModel) -> None:
    """Undo the fault that no checkpoint holds."""
    model.__dict__.pop("generate", None)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cyclegan", "progressive"])
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (constant_discriminators, "discriminators gives the same output for every input"),
        (constant_output, "swaps of different faces are the same"),
        (inverted_output, "come out inverted"),
        (identity_output, "swaps are copies of their input"),
    ],
)
def test_a_failing_gan_rolls_back_and_continues(
    make_set: Callable[..., FaceSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    fault: Fault,
    problem: str,
) -> None:
    """A dead discriminator, mode collapse, inversion, copying: named, undone, at half the rate."""
    step = Trainer.step

    def faulty_step(
        trainer: Trainer, batch: object, progress: TrainProgress, **more: float
    ) -> object:
        undo_fault(trainer.model)
        # Networks recover from inverted colors in a few steps: they are inverted in the last one.
        due = MAX_IMAGES - 4 if fault is inverted_output else HEALTHY_IMAGES
        is_due = progress.images_seen >= due and more["lr_scale"] == 1.0
        losses = step(trainer, batch, progress, **more)  # type: ignore[arg-type]
        if is_due:
            fault(trainer.model)
        return losses

    monkeypatch.setattr(Trainer, "step", faulty_step)
    changes = [
        "train.batch_size=2",
        "train.checkpoint_interval_images=64",
        "train.ema_halflife_images=0",
        "train.learning_rate=4e-3",
        "model.discriminator_norm=instance",
    ]
    reporter = RecordingReporter()
    summary = train(
        TrainJob(
            sets=[make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)],
            recipe=config.resolve(backend, "debug", changes),
            run=RunFolder(root=tmp_path / "runs" / "failing"),
            stop_criterion=StopCriterion(max_images=MAX_IMAGES, max_minutes=None),
            device="cpu",
            seed=1,
        ),
        report=reporter,
    )
    rollbacks = [line for line in reporter.notes if "of the rate" in line]
    assert 1 == len(rollbacks)
    assert problem in rollbacks[0]
    assert rollbacks[0].endswith(f"back to {HEALTHY_IMAGES} images at 0.5 of the rate")
    assert MAX_IMAGES == summary.images_seen
