"""Trainer: updates by group, averaged weights, schedules, micro-batches, bit-for-bit resume."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from faceswap_cli.core.errors import ConfigurationError, DeviceError
from faceswap_cli.core.hardware import Hardware, find_hardware, keep_freed_memory
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import dataset, schedule, trainer
from faceswap_cli.training.health import HealthBaseline
from faceswap_cli.training.loader import CpuLoader, FaceLoader
from faceswap_cli.training.run_log import RunningMean
from faceswap_cli.training.schedule import PlateauState, get_schedule, warmup_factor
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import MicroBatch, StepOutOfMemoryError, Tensors, Trainer
from faceswap_cli.training.validation import compute_validation_losses
from faceswap_models.base import (
    FaceBatch,
    ModelSettings,
    SwapModel,
    SwapOutput,
    TrainProgress,
    TrainSettings,
    UpdateFn,
)

CPU = torch.device("cpu")
PLAIN = Hardware(device=CPU, autocast_dtype=None, memory_format=torch.contiguous_format)
NATIVE = replace(PLAIN, autocast_dtype=torch.bfloat16)
TRAIN = TrainSettings(batch_size=2, learning_rate=0.01, ema_halflife_images=0)
BATCH = FaceBatch(
    warped=torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    target=torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    mask=torch.ones(2, 2, 1, 8, 8),
)


class ToyGan(SwapModel):
    """A generator and a discriminator of one layer each, with randomness in every step."""

    def __init__(self, train: TrainSettings = TRAIN) -> None:
        super().__init__(ModelSettings(size_px=8), train, ("ada", "bo"))
        torch.manual_seed(7)
        self.generator = nn.Conv2d(3, 3, 3, padding=1)
        self.discriminator = nn.Conv2d(3, 1, 3)

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return both networks' parameters."""
        return {
            "generator": self.generator.parameters(),
            "discriminator": self.discriminator.parameters(),
        }

    def learning_rate(self, group: str) -> float:
        """Return a higher rate for the discriminator."""
        return self.train_settings.learning_rate * (4 if group == "discriminator" else 1)

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Update the generator, then the discriminator."""
        fake = self.generator(batch.warped.flatten(0, 1) + 0.1 * torch.randn(4, 3, 8, 8))
        real = batch.target.flatten(0, 1)
        g_loss = -self.discriminator(fake).mean() + (fake - real).abs().mean()
        update("generator", g_loss)
        d_loss = (self.discriminator(fake.detach()) - self.discriminator(real)).mean()
        update("discriminator", d_loss)
        return {"generator": g_loss.detach(), "discriminator": d_loss.detach()}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the generator's output."""
        return SwapOutput(image=self.generator(faces), mask=None)


def make_trainer(train: TrainSettings = TRAIN, hardware: Hardware = PLAIN) -> Trainer:
    """Return a trainer of the toy GAN."""
    return Trainer(ToyGan(train), train, hardware)


def take_steps(target: Trainer, count: int, *, start: int = 0, factor: float = 1.0) -> None:
    """Train on `BATCH`, as the loop would."""
    for images_seen in range(start, start + count * 4, 4):
        torch.manual_seed(images_seen)
        target.step(
            BATCH,
            TrainProgress(images_seen=images_seen, max_images=None),
            lr_scale=factor,
            images=4,
        )


@pytest.fixture
def loader(make_set: Callable[..., FaceSet], tmp_path: Path) -> FaceLoader:
    """Return a loader of two identities."""
    datasets = [
        dataset.load_identity(make_set(name, 12), cache=tmp_path / "cache", side_px=12)
        for name in ("ada", "bo")
    ]
    return CpuLoader(datasets, model=ModelSettings(size_px=8), train=TRAIN, seed=0, device=CPU)


def update(toy: Trainer, group: str, loss: Tensor) -> None:
    """Update one group, as a backend does."""
    toy._update(MicroBatch(), group, loss)


def step_in_micro_batches(toy: Trainer, batch: FaceBatch, images: int) -> Tensors:
    """Take a step in as many micro-batches as memory needs."""
    progress = TrainProgress(images_seen=0, max_images=None)
    while True:
        try:
            return toy.step(batch, progress, lr_scale=1.0, images=images)
        except StepOutOfMemoryError:
            toy.split_further(batch.target.shape[1])


def train_to(
    toy: Trainer, loader: FaceLoader, images: int, state: TrainState | None = None
) -> TrainState:
    """Train until `images` are seen."""
    state = state or TrainState()
    schedule = get_schedule(toy.train.lr_schedule)
    while state.images_seen < images:
        progress = TrainProgress(images_seen=state.images_seen, max_images=100)
        lr_scale = schedule(state.images_seen / 100)
        lr_scale *= warmup_factor(state.images_seen, toy.train.warmup_images)
        torch.manual_seed(dataset.derive_seed(5, state.images_seen, "step"))
        step_images = loader.images_per_step
        toy.step(
            loader.batch(state.images_seen),
            progress,
            lr_scale=lr_scale,
            images=step_images,
            group_lr_scales={name: one.lr_scale for name, one in state.plateaus.items()},
        )
        state = replace(state, images_seen=state.images_seen + step_images)
    return state


@pytest.mark.parametrize("hardware", [PLAIN, NATIVE], ids=["float32", "bfloat16"])
def test_a_resumed_training_equals_one_that_was_not_stopped(
    loader: FaceLoader, hardware: Hardware
) -> None:
    """Weights, averages and moments are the same bit for bit after two stops."""
    settings = replace(TRAIN, ema_halflife_images=10, lr_schedule="linear", warmup_images=20)
    whole = make_trainer(settings, hardware)
    train_to(whole, loader, 48)
    parts = make_trainer(settings, hardware)
    state = train_to(parts, loader, 12)
    for images in (20, 48):
        resumed = make_trainer(settings, hardware)
        resumed.load_state_dict({name: value.clone() for name, value in parts.state_dict().items()})
        torch.rand(17)  # other uses of the global generator do not matter
        state = train_to(resumed, loader, images, state)
        parts = resumed
    assert 48 == state.images_seen
    expected, found = whole.state_dict(), parts.state_dict()
    assert set(expected) == set(found)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_another_seed_gives_another_step(loader: FaceLoader) -> None:
    """The test above is not trivial: steps are random."""
    one, other = make_trainer(), make_trainer()
    train_to(one, loader, 8)
    loader.seed = 1
    train_to(other, loader, 8)
    assert not torch.equal(one.model.generator.weight, other.model.generator.weight)  # type: ignore[attr-defined, arg-type]


def test_update_changes_only_its_own_group() -> None:
    """The generator's loss leaves no gradient in the discriminator."""
    toy = make_trainer()
    model = toy.model
    assert isinstance(model, ToyGan)
    before = model.discriminator.weight.detach().clone()
    update(toy, "generator", model.discriminator(model.generator(torch.ones(1, 3, 8, 8))).mean())
    assert model.discriminator.weight.grad is None
    assert torch.equal(before, model.discriminator.weight)
    assert model.generator.weight.grad is not None


def test_group_losses_are_recorded() -> None:
    """The trainer records each group's last loss, to detect a dead discriminator."""
    toy = make_trainer()
    update(toy, "discriminator", toy.model.discriminator(torch.ones(1, 3, 8, 8)).mean() * 0)  # type: ignore[operator]
    assert {"discriminator": 0.0} == {name: float(loss) for name, loss in toy.group_losses.items()}


def test_each_group_has_its_own_rate() -> None:
    """Adam's first step has the size of the learning rate: four times for the discriminator."""
    toy = make_trainer()
    model = toy.model
    assert isinstance(model, ToyGan)
    before = [layer.weight.detach().clone() for layer in (model.generator, model.discriminator)]
    take_steps(toy, 1, factor=0.5)
    moved = [
        float((layer.weight.detach() - old).abs().median())
        for layer, old in zip((model.generator, model.discriminator), before, strict=True)
    ]
    assert pytest.approx([0.005, 0.02], rel=1e-3) == moved


def test_gradients_are_clipped_by_group() -> None:
    """A clipped group's gradient has the norm that the settings allow."""
    toy = make_trainer(replace(TRAIN, grad_clip_norm=0.01))
    take_steps(toy, 1)
    for parameters in toy.parameter_groups.values():
        norm = torch.stack([one.grad.norm() for one in parameters if one.grad is not None]).norm()
        assert pytest.approx(0.01, rel=1e-3) == float(norm)


def test_autocast_copies_of_weights_are_not_reused_after_a_step() -> None:
    """A forward pass after `update` uses the new weights, in bfloat16 too."""
    toy = make_trainer(replace(TRAIN, learning_rate=1.0), NATIVE)
    model = toy.model
    assert isinstance(model, ToyGan)
    ones = torch.ones(1, 3, 8, 8)
    with toy._autocast():
        first = model.generator(ones)
        update(toy, "generator", first.mean())
        assert (model.generator(ones) - first).abs().max() > 0.5


def test_averaged_weights_follow_with_their_half_life() -> None:
    """With a half-life of one step's images, each step halves the distance."""
    toy = make_trainer(replace(TRAIN, ema_halflife_images=4))
    take_steps(toy, 3, start=4000)
    before = toy.ema["generator.weight"].clone()
    take_steps(toy, 1, start=4012)
    now = toy.model.get_parameter("generator.weight")
    assert torch.allclose((before + now) / 2, toy.ema["generator.weight"], atol=1e-6)


def test_the_first_average_is_the_first_weights() -> None:
    """At the start the half-life is short, so that random weights are soon forgotten."""
    toy = make_trainer(replace(TRAIN, ema_halflife_images=1000))
    take_steps(toy, 1)
    assert torch.equal(toy.model.get_parameter("generator.weight"), toy.ema["generator.weight"])


def test_ema_weights_are_swapped_in_and_out() -> None:
    """Inside, the model has averaged weights and is in evaluation mode; then it is restored."""
    toy = make_trainer(replace(TRAIN, ema_halflife_images=1000))
    take_steps(toy, 2, start=100_000)
    raw = toy.model.get_parameter("generator.weight").detach().clone()
    average = toy.ema["generator.weight"].clone()
    assert not torch.equal(raw, average)
    with pytest.raises(ZeroDivisionError), toy.ema_weights() as model:
        assert torch.equal(average, model.get_parameter("generator.weight"))
        assert not model.training
        raise ZeroDivisionError
    assert torch.equal(raw, toy.model.get_parameter("generator.weight"))
    assert toy.model.training
    assert torch.equal(average, toy.export_weights()["generator.weight"])


def test_without_averaging_the_raw_weights_are_exported() -> None:
    """A half-life of 0 has no second set of weights."""
    toy = make_trainer()
    take_steps(toy, 1)
    assert {} == toy.ema
    assert torch.equal(
        toy.model.get_parameter("discriminator.bias"), toy.export_weights()["discriminator.bias"]
    )


def test_schedules_have_their_end_values() -> None:
    """All start at 1; linear falls in the second half; linear and cosine end at 0."""
    positions = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [1, 1, 1, 1, 1] == [schedule.constant(done) for done in positions]
    assert [1, 1, 1, 0.5, 0] == [schedule.linear(done) for done in positions]
    assert pytest.approx([1, 0.854, 0.5, 0.146, 0], abs=1e-3) == [
        schedule.cosine(done) for done in positions
    ]


def test_the_warm_up_rises_to_one() -> None:
    """The first step is small but not 0; the factor is 1 after `warmup_images`."""
    assert 0 < schedule.warmup_factor(0, 100) < 0.02
    assert 1.0 == schedule.warmup_factor(100, 100) == schedule.warmup_factor(0, 0)


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    """Two validations may fail; the third lowers the rate tenfold, and patience starts again."""
    state = PlateauState()
    factors = []
    for loss in (0.5, 0.4, 0.4, 0.41, 0.4, 0.39, 0.5, 0.5, 0.5):
        state = state.step(loss)
        factors.append(state.lr_scale)
    assert pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01]) == factors


def test_each_group_has_its_own_plateau() -> None:
    """A group whose loss does not improve is slowed; one that improves is not."""
    plateaus: Mapping[str, PlateauState] = {}
    for loss in (0.5, 0.4, 0.3, 0.2):
        losses = {"generator": loss, "discriminator": 0.7}
        plateaus = schedule.step_plateaus(plateaus, losses)
    scales = [plateaus[name].lr_scale for name in ("generator", "discriminator")]
    assert [1, 0.1] == scales


def test_a_slowed_group_stays_slowed_after_a_resume(loader: FaceLoader) -> None:
    """Each group has its own rate and its own plateau's factor, which are in the state."""
    toy = make_trainer(replace(TRAIN, lr_schedule="plateau"))
    state = TrainState(plateaus={"discriminator": PlateauState(lr_scale=0.1)})
    train_to(toy, loader, 4, TrainState.from_dict(json.loads(json.dumps(state.to_dict()))))
    assert pytest.approx({"generator": 0.01, "discriminator": 0.004}) == toy.learning_rates()


class ToyGanWithValidationLosses(ToyGan):
    """A toy GAN with a random validation loss of its discriminator."""

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return the discriminator's loss."""
        faces = batch.warped.flatten(0, 1)
        fake = self.generator(faces + 0.1 * torch.randn_like(faces))
        real = self.discriminator(batch.target.flatten(0, 1))
        return {"discriminator": (self.discriminator(fake) - real).mean()}


def test_validation_losses_are_of_the_groups_that_have_one(loader: FaceLoader) -> None:
    """They are the same every time, though the loss is random."""
    with torch.no_grad():
        one, other = (
            compute_validation_losses(ToyGanWithValidationLosses(), loader) for _ in range(2)
        )
        assert {} == compute_validation_losses(ToyGan(), loader)
    assert {"discriminator"} == set(one)
    assert one == other


def test_the_state_is_read_back_as_written() -> None:
    """Its JSON values give the same state."""
    state = TrainState(
        images_seen=5,
        plateaus={"discriminator": PlateauState(best_loss=0.2, num_bad_validations=1)},
        health_baseline=HealthBaseline(swap_diversity=0.5),
    )
    assert state == TrainState.from_dict(state.to_dict())


def test_losses_are_averaged_between_readings() -> None:
    """A reading is the mean of all steps since the last one."""
    mean = RunningMean()
    for value in (1.0, 2.0, 6.0):
        mean.update({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert {"a": 3.0, "b": -3.0} == mean.compute()
    assert {} == mean.compute()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adm"}, 'train.optimizer: there is no optimizer called "adm"'),
        ({"lr_schedule": "linaer"}, 'train.lr_schedule: there is no schedule called "linaer"'),
    ],
)
def test_unknown_names_in_the_settings_are_refused(
    changes: Mapping[str, str], message: str
) -> None:
    """The optimizer and the schedule are checked before anything is trained."""
    with pytest.raises(ConfigurationError) as caught:
        make_trainer(replace(TRAIN, **changes))  # type: ignore[arg-type]
    assert message == caught.value.message
    assert "did you mean" in caught.value.hint


def test_weight_decay_is_for_adamw_only() -> None:
    """Adam does not change a weight without gradient; AdamW shrinks it."""
    sizes = {}
    for name in ("adam", "adamw"):
        weight = nn.Parameter(torch.ones(3))
        settings = replace(TRAIN, optimizer=name, weight_decay=0.5)
        optimizer = trainer.create_optimizer([weight], settings, lr=0.1)
        weight.grad = torch.zeros(3)
        optimizer.step()
        sizes[name] = weight[0].item()
    assert pytest.approx({"adam": 1.0, "adamw": 0.95}) == sizes


def test_a_missing_device_is_an_error() -> None:
    """The hint for a missing GPU says what to type instead; a typo is another error."""
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cuda") as caught:
            find_hardware("cuda")
        assert "--device auto" in caught.value.hint
    with pytest.raises(ConfigurationError, match='"gpu" is not a device'):
        find_hardware("gpu")
    assert "cpu" == find_hardware("cpu").device.type


def test_freed_memory_is_kept_with_glibc() -> None:
    """The setting works with glibc, and repeating it is harmless."""
    import platform

    expected = platform.libc_ver()[0] == "glibc"
    assert expected == keep_freed_memory() == keep_freed_memory()


@pytest.mark.parametrize("largest", [1, 2, 3, 5])
def test_out_of_memory_splits_the_batch(largest: int) -> None:
    """A device that holds few faces takes the same step in micro-batches."""
    settings = replace(TRAIN, batch_size=5, grad_clip_norm=1.0)
    whole, small = Regression(settings), Regression(settings, largest=largest)
    trainers = [Trainer(model, settings, PLAIN) for model in (whole, small)]
    faces = torch.rand(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = FaceBatch(warped=faces, target=1 - faces, mask=faces[:, :, :1])
    errors = [step_in_micro_batches(toy, batch, 10)["error"] for toy in trainers for _ in range(3)]
    expected = {1: 5, 2: 4, 3: 2, 5: 1}[largest]
    assert (1, expected) == (trainers[0].grad_accum_steps, trainers[1].grad_accum_steps)
    assert torch.allclose(whole.layer.weight, small.layer.weight, atol=1e-6)
    assert torch.allclose(torch.stack(errors[:3]), torch.stack(errors[3:]), atol=1e-6)


def test_too_little_memory_for_one_face_is_an_error() -> None:
    """A single face cannot be split: the hint says what to choose."""
    toy = Trainer(Regression(TRAIN, largest=0), TRAIN, PLAIN)
    with pytest.raises(DeviceError, match="too small for one face of each person") as caught:
        step_in_micro_batches(toy, BATCH, 4)
    assert "lighter preset" in caught.value.hint


def test_other_errors_do_not_split_the_batch() -> None:
    """A faulty network is not tried again in micro-batches."""
    toy = Trainer(Regression(TRAIN), TRAIN, PLAIN)
    with pytest.raises(RuntimeError, match="channels"):
        toy.step(
            replace(BATCH, warped=BATCH.mask),
            TrainProgress(images_seen=0, max_images=None),
            lr_scale=1,
            images=4,
        )
    assert 1 == toy.grad_accum_steps


class Regression(SwapModel):
    """One layer trained by regression, on a device that holds at most `largest` faces."""

    def __init__(self, train: TrainSettings, *, largest: int = 99) -> None:
        super().__init__(ModelSettings(size_px=8), train, ("ada", "bo"))
        torch.manual_seed(7)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.largest = largest

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the parameters of the layer."""
        return {"all": self.parameters()}

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Minimize the mean squared error."""
        if batch.target.shape[1] > self.largest:
            raise torch.OutOfMemoryError("planted")
        output = self.layer(batch.warped.flatten(0, 1))
        error = (output - batch.target.flatten(0, 1)).square().mean()
        update("all", error)
        return {"error": error}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the layer's output."""
        return SwapOutput(image=self.layer(faces), mask=None)
