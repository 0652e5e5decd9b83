"""The loop: one clock, updates by group, averaged weights, schedules, and going on bit for bit."""

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
    """A generator and a critic of one layer each, with chance in every step."""

    def __init__(self, train: TrainSettings = TRAIN) -> None:
        super().__init__(ModelSettings(size_px=8), train, ("ada", "bo"))
        torch.manual_seed(7)
        self.generator = nn.Conv2d(3, 3, 3, padding=1)
        self.critic = nn.Conv2d(3, 1, 3)

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return both players."""
        return {"generator": self.generator.parameters(), "critic": self.critic.parameters()}

    def learning_rate(self, group: str) -> float:
        """Return a faster rate for the critic."""
        return self.train_settings.learning_rate * (4 if group == "critic" else 1)

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Fool the critic, then teach it."""
        made = self.generator(batch.warped.flatten(0, 1) + 0.1 * torch.randn(4, 3, 8, 8))
        fooling = -self.critic(made).mean() + (made - batch.target.flatten(0, 1)).abs().mean()
        update("generator", fooling)
        teaching = (self.critic(made.detach()) - self.critic(batch.target.flatten(0, 1))).mean()
        update("critic", teaching)
        return {"fooling": fooling.detach(), "teaching": teaching.detach()}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Show faces."""
        return SwapOutput(image=self.generator(faces), mask=None)


def make_trainer(train: TrainSettings = TRAIN, hardware: Hardware = PLAIN) -> Trainer:
    """Return a trainer of the duel."""
    return Trainer(ToyGan(train), train, hardware)


def take_steps(target: Trainer, count: int, *, start: int = 0, factor: float = 1.0) -> None:
    """Learn from the one batch, as the loop would."""
    for images_seen in range(start, start + count * 4, 4):
        torch.manual_seed(images_seen)
        target.step(
            BATCH,
            TrainProgress(images_seen=images_seen, max_images=None),
            lr_scale=factor,
            images=4,
        )


@pytest.fixture
def feed(make_set: Callable[..., FaceSet], tmp_path: Path) -> FaceLoader:
    """Return a feed of two people."""
    people = [
        dataset.load_identity(make_set(name, 12), cache=tmp_path / "cache", side_px=12)
        for name in ("ada", "bo")
    ]
    return CpuLoader(people, model=ModelSettings(size_px=8), train=TRAIN, seed=0, device=CPU)


def update(made: Trainer, group: str, loss: Tensor) -> None:
    """Step one group, as a backend does."""
    made._update(MicroBatch(), group, loss)


def step_until_it_fits(made: Trainer, batch: FaceBatch, images: int) -> Tensors:
    """Take a step in as many parts as memory needs."""
    progress = TrainProgress(images_seen=0, max_images=None)
    while True:
        try:
            return made.step(batch, progress, lr_scale=1.0, images=images)
        except StepOutOfMemoryError:
            made.split_further(batch.target.shape[1])


def train_to(
    made: Trainer, feed: FaceLoader, images: int, state: TrainState | None = None
) -> TrainState:
    """Train until so many images are seen."""
    state = state or TrainState()
    schedule = get_schedule(made.train.lr_schedule)
    while state.images_seen < images:
        progress = TrainProgress(images_seen=state.images_seen, max_images=100)
        lr_scale = schedule(state.images_seen / 100)
        lr_scale *= warmup_factor(state.images_seen, made.train.warmup_images)
        torch.manual_seed(dataset.derive_seed(5, state.images_seen, "step"))
        step_images = feed.images_per_step
        made.step(
            feed.batch(state.images_seen),
            progress,
            lr_scale=lr_scale,
            images=step_images,
            group_lr_scales={name: one.lr_scale for name, one in state.plateaus.items()},
        )
        state = replace(state, images_seen=state.images_seen + step_images)
    return state


@pytest.mark.parametrize("hardware", [PLAIN, NATIVE], ids=["float32", "bfloat16"])
def test_stopped_and_gone_on_equals_not_stopped(feed: FaceLoader, hardware: Hardware) -> None:
    """Weights, averages and moments are the same bit for bit after two stops."""
    settings = replace(TRAIN, ema_halflife_images=10, lr_schedule="linear", warmup_images=20)
    whole = make_trainer(settings, hardware)
    train_to(whole, feed, 48)
    parts = make_trainer(settings, hardware)
    state = train_to(parts, feed, 12)
    for images in (20, 48):
        gone_on = make_trainer(settings, hardware)
        gone_on.load_state_dict({name: value.clone() for name, value in parts.state_dict().items()})
        torch.rand(17)  # what else the process does with its generator does not matter
        state = train_to(gone_on, feed, images, state)
        parts = gone_on
    assert 48 == state.images_seen
    expected, found = whole.state_dict(), parts.state_dict()
    assert set(expected) == set(found)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name


def test_a_step_of_another_seed_is_another_step(feed: FaceLoader) -> None:
    """The test above would not pass for a loop without chance."""
    one, other = make_trainer(), make_trainer()
    train_to(one, feed, 8)
    feed.seed = 1
    train_to(other, feed, 8)
    assert not torch.equal(one.model.generator.weight, other.model.generator.weight)  # type: ignore[attr-defined, arg-type]


def test_update_touches_its_own_group_alone() -> None:
    """The generator's loss passes through the critic and leaves no gradient there."""
    made = make_trainer()
    model = made.model
    assert isinstance(model, ToyGan)
    before = model.critic.weight.detach().clone()
    update(made, "generator", model.critic(model.generator(torch.ones(1, 3, 8, 8))).mean())
    assert model.critic.weight.grad is None
    assert torch.equal(before, model.critic.weight)
    assert model.generator.weight.grad is not None


def test_what_each_group_minimised_is_known() -> None:
    """The trainer can see a critic die: it keeps the last loss of each group, on its device."""
    made = make_trainer()
    update(made, "critic", made.model.critic(torch.ones(1, 3, 8, 8)).mean() * 0)  # type: ignore[operator]
    assert {"critic": 0.0} == {name: float(loss) for name, loss in made.group_losses.items()}


def test_each_group_has_its_own_rate() -> None:
    """Adam's first step is the learning rate long: four times as long for the critic."""
    made = make_trainer()
    model = made.model
    assert isinstance(model, ToyGan)
    before = [layer.weight.detach().clone() for layer in (model.generator, model.critic)]
    take_steps(made, 1, factor=0.5)
    moved = [
        float((layer.weight.detach() - was).abs().median())
        for layer, was in zip((model.generator, model.critic), before, strict=True)
    ]
    assert pytest.approx([0.005, 0.02], rel=1e-3) == moved


def test_gradients_are_clipped_by_group() -> None:
    """A clipped group's gradient has the norm that the settings allow."""
    made = make_trainer(replace(TRAIN, grad_clip_norm=0.01))
    take_steps(made, 1)
    for parameters in made.parameter_groups.values():
        norm = torch.stack([one.grad.norm() for one in parameters if one.grad is not None]).norm()
        assert pytest.approx(0.01, rel=1e-3) == float(norm)


def test_autocast_copies_of_weights_are_not_used_again_after_a_step() -> None:
    """A forward pass after `update` sees the new weights, in bfloat16 too."""
    made = make_trainer(replace(TRAIN, learning_rate=1.0), NATIVE)
    model = made.model
    assert isinstance(model, ToyGan)
    ones = torch.ones(1, 3, 8, 8)
    with made._autocast():
        first = model.generator(ones)
        update(made, "generator", first.mean())
        assert (model.generator(ones) - first).abs().max() > 0.5


def test_averaged_weights_follow_by_their_half_life() -> None:
    """With a half-life of one step's images, each step halves the distance."""
    made = make_trainer(replace(TRAIN, ema_halflife_images=4))
    take_steps(made, 3, start=4000)
    before = made.ema["generator.weight"].clone()
    take_steps(made, 1, start=4012)
    now = made.model.get_parameter("generator.weight")
    assert torch.allclose((before + now) / 2, made.ema["generator.weight"], atol=1e-6)


def test_the_first_average_is_the_first_weights() -> None:
    """At the start the average forgets at once, so random weights do not linger."""
    made = make_trainer(replace(TRAIN, ema_halflife_images=1000))
    take_steps(made, 1)
    assert torch.equal(made.model.get_parameter("generator.weight"), made.ema["generator.weight"])


def test_the_averaged_model_is_lent_and_given_back() -> None:
    """Inside, the model holds the average and is judging; after an error too it learns again."""
    made = make_trainer(replace(TRAIN, ema_halflife_images=1000))
    take_steps(made, 2, start=100_000)
    raw = made.model.get_parameter("generator.weight").detach().clone()
    average = made.ema["generator.weight"].clone()
    assert not torch.equal(raw, average)
    with pytest.raises(ZeroDivisionError), made.ema_weights() as model:
        assert torch.equal(average, model.get_parameter("generator.weight"))
        assert not model.training
        raise ZeroDivisionError
    assert torch.equal(raw, made.model.get_parameter("generator.weight"))
    assert made.model.training
    assert torch.equal(average, made.export_weights()["generator.weight"])


def test_without_averaging_the_raw_weights_are_exported() -> None:
    """A half-life of 0 keeps no second set of weights."""
    made = make_trainer()
    take_steps(made, 1)
    assert {} == made.ema
    assert torch.equal(
        made.model.get_parameter("critic.bias"), made.export_weights()["critic.bias"]
    )


def test_the_schedules_hold_their_ends() -> None:
    """All start at 1; linear falls in the second half; linear and cosine end at 0."""
    at = (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [1, 1, 1, 1, 1] == [schedule.constant(done) for done in at]
    assert [1, 1, 1, 0.5, 0] == [schedule.linear(done) for done in at]
    assert pytest.approx([1, 0.854, 0.5, 0.146, 0], abs=1e-3) == [
        schedule.cosine(done) for done in at
    ]


def test_the_warm_up_rises_to_one() -> None:
    """The first step is small but not 0; none is needed after `warmup_images`."""
    assert 0 < schedule.warmup_factor(0, 100) < 0.02
    assert 1.0 == schedule.warmup_factor(100, 100) == schedule.warmup_factor(0, 0)


def test_a_plateau_lowers_the_rate_after_its_patience() -> None:
    """Two scores may fail; the third lowers the rate tenfold and patience begins anew."""
    seen = PlateauState()
    factors = []
    for score in (0.5, 0.4, 0.4, 0.41, 0.4, 0.39, 0.5, 0.5, 0.5):
        seen = seen.step(score)
        factors.append(seen.lr_scale)
    assert pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01]) == factors


def test_a_plateau_is_of_one_group_alone() -> None:
    """A group whose score stands still is slowed; one that gets better is not."""
    seen: Mapping[str, PlateauState] = {}
    for score in (0.5, 0.4, 0.3, 0.2):
        seen = schedule.step_plateaus(seen, {"generator": score, "critic": 0.7})
    assert [1, 0.1] == [seen["generator"].lr_scale, seen["critic"].lr_scale]


def test_a_slowed_group_stays_slowed_after_going_on(feed: FaceLoader) -> None:
    """Each group steps at its own rate and its own plateau's factor, as the state remembers."""
    made = make_trainer(replace(TRAIN, lr_schedule="plateau"))
    state = TrainState(plateaus={"critic": PlateauState(lr_scale=0.1)})
    train_to(made, feed, 4, TrainState.from_dict(json.loads(json.dumps(state.to_dict()))))
    assert pytest.approx({"generator": 0.01, "critic": 0.004}) == made.learning_rates()


class ToyGanWithValidationLosses(ToyGan):
    """A duel that tells how its critic does, with chance in it."""

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Teach the critic, without learning."""
        faces = batch.warped.flatten(0, 1)
        made = self.generator(faces + 0.1 * torch.randn_like(faces))
        real = self.critic(batch.target.flatten(0, 1))
        return {"critic": (self.critic(made) - real).mean()}


def test_held_out_losses_are_of_the_groups_that_tell(feed: FaceLoader) -> None:
    """They are the same whenever asked, and the mean over all faces however they are divided."""
    with torch.no_grad():
        one, other = (
            compute_validation_losses(ToyGanWithValidationLosses(), feed) for _ in range(2)
        )
        assert {} == compute_validation_losses(ToyGan(), feed)
    assert {"critic"} == set(one)
    assert one == other


def test_the_state_there_and_back() -> None:
    """What a header carries gives the same state."""
    state = TrainState(
        images_seen=5,
        plateaus={"critic": PlateauState(best_loss=0.2, num_bad_validations=1)},
        health_baseline=HealthBaseline(swap_diversity=0.5),
    )
    assert state == TrainState.from_dict(state.to_dict())


def test_losses_are_averaged_between_readings() -> None:
    """A reading is the mean of all steps since the last one."""
    tally = RunningMean()
    for value in (1.0, 2.0, 6.0):
        tally.update({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert {"a": 3.0, "b": -3.0} == tally.compute()
    assert {} == tally.compute()


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


def test_weight_decay_is_for_adamw_alone() -> None:
    """Adam leaves a weight without gradient where it is; AdamW shrinks it."""
    sizes = {}
    for name in ("adam", "adamw"):
        weight = nn.Parameter(torch.ones(3))
        settings = replace(TRAIN, optimizer=name, weight_decay=0.5)
        optimizer = trainer.create_optimizer([weight], settings, lr=0.1)
        weight.grad = torch.zeros(3)
        optimizer.step()
        sizes[name] = weight[0].item()
    assert pytest.approx({"adam": 1.0, "adamw": 0.95}) == sizes


def test_a_device_that_is_not_there_is_an_error() -> None:
    """A missing GPU is said, with what to type instead; a typo is another error."""
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="--device cuda") as caught:
            find_hardware("cuda")
        assert "--device auto" in caught.value.hint
    with pytest.raises(ConfigurationError, match='"gpu" is not a device'):
        find_hardware("gpu")
    assert "cpu" == find_hardware("cpu").device.type


def test_memory_is_kept_where_glibc_is() -> None:
    """The tuning takes hold on glibc, and asking twice is harmless."""
    import platform

    expected = platform.libc_ver()[0] == "glibc"
    assert expected == keep_freed_memory() == keep_freed_memory()


@pytest.mark.parametrize("largest", [1, 2, 3, 5])
def test_out_of_memory_is_learnt_from_in_parts(largest: int) -> None:
    """A device that holds few faces gets the same step in parts, and the loop goes on."""
    settings = replace(TRAIN, batch_size=5, grad_clip_norm=1.0)
    whole, small = Regression(settings), Regression(settings, largest=largest)
    makers = [Trainer(model, settings, PLAIN) for model in (whole, small)]
    faces = torch.rand(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = FaceBatch(warped=faces, target=1 - faces, mask=faces[:, :, :1])
    errors: list[Tensor] = []
    for made in makers:
        for _ in range(3):
            errors.append(step_until_it_fits(made, batch, 10)["error"])
    expected = {1: 5, 2: 4, 3: 2, 5: 1}[largest]
    assert (1, expected) == (makers[0].grad_accum_steps, makers[1].grad_accum_steps)
    assert torch.allclose(whole.layer.weight, small.layer.weight, atol=1e-6)
    assert torch.allclose(torch.stack(errors[:3]), torch.stack(errors[3:]), atol=1e-6)


def test_too_little_memory_for_one_face_is_an_error() -> None:
    """There is nothing left to halve: the message says what to choose."""
    made = Trainer(Regression(TRAIN, largest=0), TRAIN, PLAIN)
    with pytest.raises(DeviceError, match="too small for one face of each person") as caught:
        step_until_it_fits(made, BATCH, 4)
    assert "lighter preset" in caught.value.hint


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    """A broken network is not tried again in parts."""
    made = Trainer(Regression(TRAIN), TRAIN, PLAIN)
    with pytest.raises(RuntimeError, match="channels"):
        made.step(
            replace(BATCH, warped=BATCH.mask),
            TrainProgress(images_seen=0, max_images=None),
            lr_scale=1,
            images=4,
        )
    assert 1 == made.grad_accum_steps


class Regression(SwapModel):
    """One layer that learns by plain means, on a device that holds at most `largest` faces."""

    def __init__(self, train: TrainSettings, *, largest: int = 99) -> None:
        super().__init__(ModelSettings(size_px=8), train, ("ada", "bo"))
        torch.manual_seed(7)
        self.layer = nn.Conv2d(3, 3, 3, padding=1)
        self.largest = largest

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the one layer."""
        return {"all": self.parameters()}

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Learn by the mean squared error."""
        if batch.target.shape[1] > self.largest:
            raise torch.OutOfMemoryError("planted")
        made = self.layer(batch.warped.flatten(0, 1))
        error = (made - batch.target.flatten(0, 1)).square().mean()
        update("all", error)
        return {"error": error}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Show faces."""
        return SwapOutput(image=self.layer(faces), mask=None)
