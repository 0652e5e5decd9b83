"""Each way a game of networks is lost, driven on purpose: a run sees it, goes back and goes on."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from faceswap_cli.core import config
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.training import loop, run_log
from faceswap_cli.training.swap_metrics import FaceAnalyzer, SwapEvaluator
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import SwapModel, TrainProgress

HEALTHY_IMAGES = 192
"""Images after which networks are spoilt: by then they have learnt what there is to lose."""
MAX_IMAGES = 256
Fault = Callable[[SwapModel], None]


class RecordingReporter(Reporter):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Remember a line."""
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread; nobody reads the faces of these sets; losses are read at every step."""
    torch.set_num_threads(1)

    def shut(held: ExitStack) -> FaceAnalyzer:
        raise InputError("the readers are not here")

    monkeypatch.setattr(loop, "SwapEvaluator", partial(SwapEvaluator, load_analyzer=shut))
    monkeypatch.setattr(run_log, "STATUS_INTERVAL_S", 0.0)


def output_layers(model: SwapModel) -> list[torch.nn.Module]:
    """Return the layers that draw the generators' pictures."""
    return [generator.up[0] for generator in model.generators]  # type: ignore[union-attr,index]


@torch.no_grad()
def mute_critics(model: SwapModel) -> None:
    """Make every discriminator say the same of everything."""
    for parameter in model.discriminators.parameters():  # type: ignore[union-attr,operator]
        parameter.zero_()


@torch.no_grad()
def constant_output(model: SwapModel) -> None:
    """Make every generator draw the same whatever it is shown."""
    for layer in output_layers(model):
        for parameter in layer.parameters():
            parameter.zero_()


@torch.no_grad()
def inverted_output(model: SwapModel) -> None:
    """Turn every generator's colours round."""
    for layer in output_layers(model):
        for parameter in layer.parameters():
            parameter.neg_()


def identity_output(model: SwapModel) -> None:
    """Make every generator hand its input on."""
    own = type(model).generate  # type: ignore[attr-defined]

    def generate(generator: torch.nn.Module, faces: Tensor) -> Tensor:
        return faces + 1e-6 * own(model, generator, faces)

    model.generate = generate  # type: ignore[assignment]


def undo_fault(model: SwapModel) -> None:
    """Take back what no state holds."""
    model.__dict__.pop("generate", None)


@pytest.mark.parametrize("backend", ["cyclegan", "progressive"])
@pytest.mark.parametrize(
    ("spoil", "sign"),
    [
        (mute_critics, "discriminators gives the same output for every input"),
        (constant_output, "different faces come out alike"),
        (inverted_output, "come out inverted"),
        (identity_output, "swaps are copies of their input"),
    ],
)
def test_a_lost_game_goes_back_and_goes_on(
    make_set: Callable[..., FaceSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    spoil: Fault,
    sign: str,
) -> None:
    """A dead discriminator, mode collapse, inversion, copying: named, undone, slower afterwards."""
    step = Trainer.step

    def spoilt(trainer: Trainer, batch: object, progress: TrainProgress, **more: float) -> object:
        undo_fault(trainer.model)
        # Colours turned round come right again in a few steps, so they are turned in the last.
        due = MAX_IMAGES - 4 if spoil is inverted_output else HEALTHY_IMAGES
        is_due = progress.images_seen >= due and more["lr_scale"] == 1.0
        told = step(trainer, batch, progress, **more)  # type: ignore[arg-type]
        if is_due:
            spoil(trainer.model)
        return told

    monkeypatch.setattr(Trainer, "step", spoilt)
    changes = [
        "train.batch_size=2",
        "train.checkpoint_interval_images=64",
        "train.ema_halflife_images=0",
        "train.learning_rate=4e-3",
        "model.discriminator_norm=instance",
    ]
    notes = RecordingReporter()
    summary = train(
        TrainJob(
            sets=[make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)],
            recipe=config.resolve(backend, "debug", changes),
            run=RunFolder(root=tmp_path / "runs" / "lost"),
            stop_criterion=StopCriterion(max_images=MAX_IMAGES, max_minutes=None),
            device="cpu",
            seed=1,
        ),
        report=notes,
    )
    troubles = [line for line in notes.notes if "of the rate" in line]
    assert 1 == len(troubles)
    assert sign in troubles[0]
    assert troubles[0].endswith(f"back to {HEALTHY_IMAGES} images at 0.5 of the rate")
    assert MAX_IMAGES == summary.images_seen
