"""Each way a game of networks is lost, driven on purpose: a run sees it, goes back and goes on."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from faceswap_cli import config
from faceswap_cli.errors import InputError
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.learning import sitting
from faceswap_cli.learning.kept import Eyes, KeptJudge
from faceswap_cli.learning.trainer import Learner
from faceswap_cli.report import Silent
from faceswap_cli.stages.train import Goal, Training, train
from faceswap_cli.workspace import RunFolder
from faceswap_models.base import Progress, SwapModel

HEALTHY = 192
"""Images after which networks are spoilt: by then they have learnt what there is to lose."""
GOAL = 256
Spoil = Callable[[SwapModel], None]


class Notes(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        """Remember a line."""
        self.told.append(text)


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread; nobody reads the faces of these sets; losses are read at every step."""
    torch.set_num_threads(1)

    def shut(held: ExitStack) -> Eyes:
        raise InputError("the readers are not here")

    monkeypatch.setattr(sitting, "KeptJudge", partial(KeptJudge, open_eyes=shut))
    monkeypatch.setattr(sitting, "PULSE_SECONDS", 0.0)


def last_layers(model: SwapModel) -> list[torch.nn.Module]:
    """Return the layers that draw the generators' pictures."""
    return [generator.up[0] for generator in model.generators]  # type: ignore[union-attr,index]


@torch.no_grad()
def mute_critics(model: SwapModel) -> None:
    """Make every discriminator say the same of everything."""
    for parameter in model.discriminators.parameters():  # type: ignore[union-attr,operator]
        parameter.zero_()


@torch.no_grad()
def one_face(model: SwapModel) -> None:
    """Make every generator draw the same whatever it is shown."""
    for layer in last_layers(model):
        for parameter in layer.parameters():
            parameter.zero_()


@torch.no_grad()
def negatives(model: SwapModel) -> None:
    """Turn every generator's colours round."""
    for layer in last_layers(model):
        for parameter in layer.parameters():
            parameter.neg_()


def copies(model: SwapModel) -> None:
    """Make every generator hand its input on."""
    own = type(model).seen_by  # type: ignore[attr-defined]

    def seen_by(generator: torch.nn.Module, faces: Tensor) -> Tensor:
        return faces + 1e-6 * own(model, generator, faces)

    model.seen_by = seen_by  # type: ignore[assignment]


def heal(model: SwapModel) -> None:
    """Take back what no state holds."""
    model.__dict__.pop("seen_by", None)


@pytest.mark.parametrize("backend", ["cyclegan", "progressive"])
@pytest.mark.parametrize(
    ("spoil", "sign"),
    [
        (mute_critics, "discriminators says the same whatever it is shown"),
        (one_face, "different faces come out alike"),
        (negatives, "come out inverted"),
        (copies, "swaps have become copies of their input"),
    ],
)
def test_a_lost_game_goes_back_and_goes_on(
    make_set: Callable[..., FaceSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    spoil: Spoil,
    sign: str,
) -> None:
    """A dead discriminator, mode collapse, inversion, copying: named, undone, slower afterwards."""
    step = Learner.step

    def spoilt(learner: Learner, batch: object, progress: Progress, **more: float) -> object:
        heal(learner.model)
        # Colours turned round come right again in a few steps, so they are turned in the last.
        due = GOAL - 4 if spoil is negatives else HEALTHY
        is_due = progress.images_seen >= due and more["factor"] == 1.0
        told = step(learner, batch, progress, **more)  # type: ignore[arg-type]
        if is_due:
            spoil(learner.model)
        return told

    monkeypatch.setattr(Learner, "step", spoilt)
    changes = [
        "train.batch_size=2",
        "train.save_images=64",
        "train.ema_halflife_images=0",
        "train.learning_rate=4e-3",
        "model.discriminator_norm=instance",
    ]
    notes = Notes()
    summary = train(
        Training(
            sets=[make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)],
            recipe=config.resolve(backend, "debug", changes),
            run=RunFolder(root=tmp_path / "runs" / "lost"),
            goal=Goal(images=GOAL, minutes=None),
            device="cpu",
            seed=1,
        ),
        report=notes,
    )
    troubles = [line for line in notes.told if "of the rate" in line]
    assert 1 == len(troubles)
    assert sign in troubles[0]
    assert troubles[0].endswith(f"back to {HEALTHY} images at 0.5 of the rate")
    assert GOAL == summary.images_seen
