"""The CycleGAN: the paper's losses and layout, its two groups, its files."""

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
"""The paper's layout with few layers and channels."""
PAPER = CycleGANTrainSettings(batch_size=2, warp_strength=0.0)
PLAIN = Hardware(
    device=torch.device("cpu"), autocast_dtype=None, memory_format=torch.contiguous_format
)


def batch(identities: int = 2, *, side_px: int = 32, seed: int = 0) -> FaceBatch:
    """Return smooth random faces."""
    torch.manual_seed(seed)
    coarse = torch.rand(identities * 2, 3, 4, 4) * 2 - 1
    faces = torch.nn.functional.interpolate(coarse, size=(side_px, side_px), mode="bilinear")
    target = faces.unflatten(0, (identities, 2))
    mask = torch.rand(identities, 2, 1, side_px, side_px)
    return FaceBatch(warped=target, target=target, mask=mask)


def make_model(identities: int = 2, train: CycleGANTrainSettings = PAPER) -> CycleGAN:
    """Return untrained networks."""
    torch.manual_seed(7)
    return CycleGAN(NARROW, train, ("x", "y", "z")[:identities])


def no_update(group: str, loss: Tensor) -> None:
    """Do not train: stands in for the trainer's update."""
    del group, loss


def step_losses(model: CycleGAN, faces: FaceBatch) -> dict[str, Tensor]:
    """Return the losses of a step without updates."""
    return model.train_step(faces, no_update, TrainProgress(images_seen=0, max_images=None))


@pytest.mark.parametrize("beta", [5.0, 0.0])
def test_the_losses_are_the_papers(beta: float) -> None:
    """Section V-A, written out for two identities; beta 0 has no identity loss."""
    model = make_model(train=replace(PAPER, cycle_weight=10.0, identity_weight=beta))
    faces = batch()
    x, y = faces.target
    f, g = model.generators
    d_x, d_y = (lambda image, one=one: one(image)[0].scores for one in model.discriminators)

    def cycle_and_identity(
        forward: torch.nn.Module, back: torch.nn.Module, a: Tensor, b: Tensor
    ) -> Tensor:
        return 10 * (back(forward(a)) - a).abs().mean() + beta * (forward(b) - b).abs().mean()

    expected = {
        "generator_y": (1 - d_y(g(x))).square().mean() + cycle_and_identity(g, f, x, y),
        "generator_x": (1 - d_x(f(y))).square().mean() + cycle_and_identity(f, g, y, x),
        "discriminator_y": (1 - d_y(y)).square().mean() + d_y(g(x)).square().mean(),
        "discriminator_x": (1 - d_x(x)).square().mean() + d_x(f(y)).square().mean(),
    }
    losses = step_losses(model, faces)
    for name, value in expected.items():
        torch.testing.assert_close(value.detach(), losses[name])
    assert (beta > 0) == ("identity" in losses)


def test_losses_of_all_four_networks_are_reported() -> None:
    """Each network's loss by its identity, and the terms of the generators' losses."""
    names = {f"{kind}_{name}" for kind in ("generator", "discriminator") for name in ("x", "y")}
    assert names | {"adversarial", "cycle", "identity"} == set(step_losses(make_model(), batch()))


def test_each_group_has_its_own_learning_rate_and_validation_loss() -> None:
    """The discriminators' rate is a setting of its own; both groups have validation losses."""
    model = make_model(train=replace(PAPER, learning_rate=1e-3, d_learning_rate=4e-3))
    assert (1e-3, 4e-3) == (model.learning_rate(GENERATORS), model.learning_rate(DISCRIMINATORS))
    with torch.no_grad():
        losses = model.eval().validation_losses(batch())
    assert {GENERATORS, DISCRIMINATORS} == set(losses)
    assert not torch.equal(losses[GENERATORS], losses[DISCRIMINATORS])


def test_a_group_is_trained_by_its_own_loss_only() -> None:
    """With a learning rate of 0 for one group only the other changes."""
    for constant, trained in ((DISCRIMINATORS, GENERATORS), (GENERATORS, DISCRIMINATORS)):
        rates = {"learning_rate": 1e-3, "d_learning_rate": 1e-3}
        rates["d_learning_rate" if constant == DISCRIMINATORS else "learning_rate"] = 0.0
        train = replace(PAPER, **rates)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        before = {name: one.clone() for name, one in trainer.model.named_parameters()}
        trainer.step(batch(), TrainProgress(images_seen=0, max_images=None), lr_scale=1.0, images=4)
        changed = {
            name.split(".")[0]
            for name, one in trainer.model.named_parameters()
            if not torch.equal(one, before[name])
        }
        assert {trained} == changed


def test_three_identities_are_paired_in_turn() -> None:
    """Steps alternate between the next identity and the one after."""
    model, offsets = make_model(3), []
    generate = model.generate_all
    model.generate_all = lambda faces, offset: (  # type: ignore[method-assign]
        offsets.append(offset) or generate(faces, offset=offset)  # type: ignore[func-returns-value]
    )
    for step in range(4):
        progress = TrainProgress(images_seen=step * 6, max_images=None)
        model.train_step(batch(3), no_update, progress)
    assert [1, 2, 1, 2] == offsets


def test_the_outside_and_structure_losses_are_zero_for_a_copy() -> None:
    """Both terms exist if their weights are not 0."""
    train = replace(PAPER, outside_mask_weight=1.0, structure_weight=1.0)
    model = make_model(train=train)
    faces = batch()
    assert {"outside_mask", "structure"} <= set(step_losses(model, faces))
    generated = model.generate_all(faces, offset=1)
    copies = generated._replace(fake=faces.target.roll(1, 0))
    _, terms = model.generator_losses(faces, copies)
    assert 0 == terms["outside_mask"]
    assert 0 == pytest.approx(float(terms["structure"]), abs=1e-5)


def test_the_gradient_penalty_affects_the_discriminators_only() -> None:
    """It changes their step and not the generators'; with weight 0 it is not computed."""
    steps = {}
    for weight in (0.0, 1e4):
        train = replace(PAPER, r1_weight=weight)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        losses = trainer.step(
            batch(), TrainProgress(images_seen=0, max_images=None), lr_scale=1.0, images=4
        )
        assert (weight > 0) == ("r1" in losses)
        steps[weight] = {name: one.clone() for name, one in trainer.model.named_parameters()}
    changed = {
        name.split(".")[0]
        for name, one in steps[0.0].items()
        if not torch.equal(one, steps[1e4][name])
    }
    assert {"discriminators"} == changed


def test_the_gradient_penalty_lowers_the_gradient() -> None:
    """After some steps with the penalty it is smaller at real faces than without."""
    penalties = {}
    for weight in (0.0, 1e3):
        train = replace(PAPER, r1_weight=weight, d_learning_rate=1e-2)
        trainer = Trainer(make_model(train=train), train, PLAIN)
        for step in range(8):
            progress = TrainProgress(images_seen=4 * step, max_images=None)
            trainer.step(batch(), progress, lr_scale=1.0, images=4)
        assert isinstance(trainer.model, CycleGAN)
        penalties[weight] = float(torch.stack(trainer.model.r1_penalties(batch())).detach().sum())
    assert 2 * penalties[1e3] < penalties[0.0]


def test_training_only_parts_are_not_exported(tmp_path: Path) -> None:
    """Weights contain the generators only, and a loaded model swaps the same."""
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
    checkpoint.save_weights(
        path, trainer.export_weights(), recipe=recipe, identities=("x", "y"), images_seen=4
    )
    loaded = checkpoint.load_weights(path, torch.device("cpu")).model
    faces = batch().target[0]
    with trainer.ema_weights() as model, torch.no_grad():
        expected = model.swap(faces, "y").image
        torch.testing.assert_close(expected, loaded.swap(faces, "y").image, rtol=0, atol=5e-3)


def test_weights_that_lack_a_generator_are_refused(tmp_path: Path) -> None:
    """Only training-only parts may be missing in a file."""
    recipe = config.resolve("cyclegan", "debug", [])
    trainer = Trainer(build_model(recipe, ("x", "y"), PLAIN, seed=0), recipe.train, PLAIN)
    path = tmp_path / "weights.safetensors"
    trainer.model.training_only_prefixes = ("generators.0", "discriminators.", "pools.")
    checkpoint.save_weights(
        path, trainer.export_weights(), recipe=recipe, identities=("x", "y"), images_seen=4
    )
    with pytest.raises(CheckpointError, match="not a trained model that this version can read"):
        checkpoint.load_weights(path, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
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
def test_networks_that_cannot_be_built_are_refused(change: str, message: str) -> None:
    """With instance norm a five-layer discriminator would fail at 64 px."""
    with pytest.raises(ConfigurationError, match=message):
        config.resolve("cyclegan", "paper", [change])


def test_training_works_at_the_smallest_side() -> None:
    """Five layers at 128 px, two at 16; half the side is refused."""
    for channels, side in (((2, 2, 2, 2, 2), 128), ((2, 2), 16)):
        settings = CycleGANModelSettings(
            size_px=side, generator_channels=channels, discriminator_channels=channels
        )
        torch.manual_seed(0)
        model = CycleGAN(settings, PAPER, ("x", "y"))
        assert all(loss.isfinite() for loss in step_losses(model, batch(side_px=side)).values())
        with pytest.raises(ValueError, match="too small"):
            replace(settings, size_px=side // 2)
