"""The CycleGAN's own numbers: the paper's losses and layout, its two players, its files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from faceswap_cli.core import config
from faceswap_cli.core.errors import CheckpointError, ConfigurationError
from faceswap_cli.core.hardware import Hardware
from faceswap_cli.stages.train import build_model
from faceswap_cli.training import checkpoint
from faceswap_cli.training.trainer import Trainer
from faceswap_models.backends.cyclegan import (
    DISCRIMINATORS,
    GENERATORS,
    CycleGAN,
    CycleGANModelSettings,
    CycleGANTrainSettings,
)
from faceswap_models.base import FaceBatch, TrainProgress

NARROW = CycleGANModelSettings(size_px=32, generator_channels=(4, 8), discriminator_channels=(4, 8))
"""The paper's kinds of layers, few of them."""
PAPER = CycleGANTrainSettings(batch_size=2, warp_strength=0.0)
PLAIN = Hardware(
    device=torch.device("cpu"), autocast_dtype=None, memory_format=torch.contiguous_format
)


def batch(people: int = 2, *, side_px: int = 32, seed: int = 0) -> FaceBatch:
    """Return smooth random faces."""
    torch.manual_seed(seed)
    coarse = torch.rand(people * 2, 3, 4, 4) * 2 - 1
    faces = torch.nn.functional.interpolate(coarse, size=(side_px, side_px), mode="bilinear")
    target = faces.unflatten(0, (people, 2))
    mask = torch.rand(people, 2, 1, side_px, side_px)
    return FaceBatch(warped=target, target=target, mask=mask)


def make_model(people: int = 2, train: CycleGANTrainSettings = PAPER) -> CycleGAN:
    """Return freshly drawn networks."""
    torch.manual_seed(7)
    return CycleGAN(NARROW, train, ("x", "y", "z")[:people])


def no_update(group: str, loss: Tensor) -> None:
    """Take the place of the trainer's update."""
    del group, loss


def step_losses(model: CycleGAN, faces: FaceBatch) -> dict[str, Tensor]:
    """Return what a step that learns nothing tells."""
    return model.train_step(faces, no_update, TrainProgress(images_seen=0, max_images=None))


@pytest.mark.parametrize("beta", [5.0, 0.0])
def test_the_losses_are_the_papers(beta: float) -> None:
    """Section V-A, written out for two people; beta 0 leaves the identity loss out."""
    model = make_model(train=replace(PAPER, cycle_weight=10.0, identity_weight=beta))
    faces = batch()
    x, y = faces.target
    f, g = model.generators
    d_x, d_y = (lambda image, one=one: one(image)[0].scores for one in model.discriminators)

    def cycle_and_identity(
        there: torch.nn.Module, back: torch.nn.Module, a: Tensor, b: Tensor
    ) -> Tensor:
        return 10 * (back(there(a)) - a).abs().mean() + beta * (there(b) - b).abs().mean()

    expected = {
        "generator y": (1 - d_y(g(x))).square().mean() + cycle_and_identity(g, f, x, y),
        "generator x": (1 - d_x(f(y))).square().mean() + cycle_and_identity(f, g, y, x),
        "discriminator y": (1 - d_y(y)).square().mean() + d_y(g(x)).square().mean(),
        "discriminator x": (1 - d_x(x)).square().mean() + d_x(f(y)).square().mean(),
    }
    found = step_losses(model, faces)
    for name, value in expected.items():
        torch.testing.assert_close(value.detach(), found[name])
    assert (beta > 0) == ("identity" in found)


def test_all_four_networks_have_a_curve() -> None:
    """Each network's loss has its person's name; the parts come beside them."""
    names = {f"{kind} {name}" for kind in ("generator", "discriminator") for name in ("x", "y")}
    assert names | {"adversarial", "cycle", "identity"} == set(step_losses(make_model(), batch()))


def test_each_player_has_its_own_rate_and_its_own_held_out_loss() -> None:
    """The discriminators' rate is its own setting; both players tell of held-out faces."""
    model = make_model(train=replace(PAPER, learning_rate=1e-3, d_learning_rate=4e-3))
    assert (1e-3, 4e-3) == (model.learning_rate(GENERATORS), model.learning_rate(DISCRIMINATORS))
    with torch.no_grad():
        found = model.eval().validation_losses(batch())
    assert {GENERATORS, DISCRIMINATORS} == set(found)
    assert not torch.equal(found[GENERATORS], found[DISCRIMINATORS])


def test_a_player_learns_from_its_own_loss_alone() -> None:
    """At a discriminator's rate of nought only generators change, and the other way round."""
    for still, lively in ((DISCRIMINATORS, GENERATORS), (GENERATORS, DISCRIMINATORS)):
        rates = {"learning_rate": 1e-3, "d_learning_rate": 1e-3}
        rates["d_learning_rate" if still == DISCRIMINATORS else "learning_rate"] = 0.0
        train = replace(PAPER, **rates)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        before = {name: one.clone() for name, one in trainer.model.named_parameters()}
        trainer.step(batch(), TrainProgress(images_seen=0, max_images=None), lr_scale=1.0, images=4)
        changed = {
            name.split(".")[0]
            for name, one in trainer.model.named_parameters()
            if not torch.equal(one, before[name])
        }
        assert {lively} == changed


def test_three_people_take_turns_in_all_pairs() -> None:
    """The first turn shows everybody as the next person, the second as the one after."""
    model, shown = make_model(3), []
    draw = model.generate_all
    model.generate_all = lambda faces, offset: shown.append(offset) or draw(faces, offset=offset)  # type: ignore[method-assign,func-returns-value]
    for step in range(4):
        progress = TrainProgress(images_seen=step * 6, max_images=None)
        model.train_step(batch(3), no_update, progress)
    assert [1, 2, 1, 2] == shown


def test_what_outside_and_structure_ask_for() -> None:
    """A swap that copies its input costs neither; weights of nought leave both parts out."""
    train = replace(PAPER, outside_mask_weight=1.0, structure_weight=1.0)
    model = make_model(train=train)
    faces = batch()
    assert {"outside", "structure"} <= set(step_losses(model, faces))
    drawn = model.generate_all(faces, offset=1)
    copies = drawn._replace(fake=faces.target.roll(1, 0))
    _, parts = model.generator_losses(faces, copies)
    assert 0 == parts["outside"]
    assert 0 == pytest.approx(float(parts["structure"]), abs=1e-5)


def test_the_gradient_penalty_is_the_discriminators_alone() -> None:
    """It changes what they learn and nothing that generators do; at nought it is not there."""
    steps = {}
    for weight in (0.0, 1e4):
        train = replace(PAPER, r1_weight=weight)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        losses = trainer.step(
            batch(), TrainProgress(images_seen=0, max_images=None), lr_scale=1.0, images=4
        )
        assert (weight > 0) == ("slope" in losses)
        steps[weight] = {name: one.clone() for name, one in trainer.model.named_parameters()}
    changed = {
        name.split(".")[0]
        for name, one in steps[0.0].items()
        if not torch.equal(one, steps[1e4][name])
    }
    assert {"discriminators"} == changed


def test_a_discriminators_slope_is_learnt_down() -> None:
    """After some steps with the penalty it is flatter at real faces than without."""
    slopes = {}
    for weight in (0.0, 1e3):
        train = replace(PAPER, r1_weight=weight, d_learning_rate=1e-2)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        for step in range(8):
            progress = TrainProgress(images_seen=4 * step, max_images=None)
            trainer.step(batch(), progress, lr_scale=1.0, images=4)
        assert isinstance(trainer.model, CycleGAN)
        slopes[weight] = float(torch.stack(trainer.model.r1_penalties(batch())).detach().sum())
    assert 2 * slopes[1e3] < slopes[0.0]


def test_what_only_training_needs_is_not_exported(tmp_path: Path) -> None:
    """Weights hold generators alone, and are read back into networks that swap the same."""
    recipe = config.resolve("cyclegan", "debug", [])
    trainer = Trainer(build_model(recipe, ("x", "y"), PLAIN, seed=0), recipe.train, PLAIN)
    trainer.step(batch(), TrainProgress(images_seen=0, max_images=None), lr_scale=1.0, images=4)
    assert {"generators"} == {name.split(".")[0] for name in trainer.export_weights()}
    assert {"discriminators", "pools"} < {
        name.split("/")[1].split(".")[0]
        for name in trainer.state_dict()
        if name.startswith("model/")
    }
    path = tmp_path / "weights.safetensors"
    checkpoint.save_weights(path, trainer, recipe=recipe, identities=("x", "y"), images_seen=4)
    back = checkpoint.load_weights(path, torch.device("cpu")).model
    shown = batch().target[0]
    with trainer.ema_weights() as model, torch.no_grad():
        expected = model.swap(shown, "y").image
        torch.testing.assert_close(expected, back.swap(shown, "y").image, rtol=0, atol=5e-3)


def test_weights_that_lack_a_generator_are_refused(tmp_path: Path) -> None:
    """Only what training alone needs may be missing from a file."""
    recipe = config.resolve("cyclegan", "debug", [])
    trainer = Trainer(build_model(recipe, ("x", "y"), PLAIN, seed=0), recipe.train, PLAIN)
    path = tmp_path / "weights.safetensors"
    trainer.model.training_only_prefixes = ("generators.0", "discriminators.", "pools.")
    checkpoint.save_weights(path, trainer, recipe=recipe, identities=("x", "y"), images_seen=4)
    with pytest.raises(CheckpointError, match="not a trained model that this version can read"):
        checkpoint.load_weights(path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "told_as"),
    [
        (
            "model.size_px=64",
            "size_px = 64 is too small for 5 generator and 5 discriminator layers",
        ),
        ("model.size_px=100", "size_px = 100 cannot be halved 5 times"),
        ("model.discriminator_norm=batch", '"batch" is none of instance, spectral, none'),
        ("model.generator_channels=[]", "need at least one value each"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(change: str, told_as: str) -> None:
    """With instance norm a five-layer discriminator fails at 64 px: that is said beforehand."""
    with pytest.raises(ConfigurationError, match=told_as):
        config.resolve("cyclegan", "paper", [change])


def test_the_smallest_side_allowed_can_be_learnt_at() -> None:
    """What is not refused works: five layers at 128 px, two at 16."""
    for widths, side in (((2, 2, 2, 2, 2), 128), ((2, 2), 16)):
        settings = CycleGANModelSettings(
            size_px=side, generator_channels=widths, discriminator_channels=widths
        )
        torch.manual_seed(0)
        model = CycleGAN(settings, PAPER, ("x", "y"))
        assert all(loss.isfinite() for loss in step_losses(model, batch(side_px=side)).values())
        with pytest.raises(ValueError, match="too small"):
            replace(settings, size_px=side // 2)
