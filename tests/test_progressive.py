"""Growing networks: they end as the CycleGAN's, and growth preserves outputs, weights and state."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from faceswap_cli.core import config, image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.hardware import Hardware
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.train import (
    StopCriterion,
    TrainJob,
    TrainSummary,
    build_model,
    dry_run,
    estimate_without_speed,
    train,
)
from faceswap_cli.training import checkpoint, estimate
from faceswap_cli.training.trainer import Trainer
from faceswap_models import registry
from faceswap_models.backends.progressive import (
    Progressive,
    ProgressiveModelSettings,
    ProgressiveTrainSettings,
)
from faceswap_models.base import FaceBatch, ModelSettings, TrainProgress

pytestmark = pytest.mark.usefixtures("no_face_models")
PLAIN = Hardware(
    device=torch.device("cpu"), autocast_dtype=None, memory_format=torch.contiguous_format
)
MODEL = ProgressiveModelSettings(
    size_px=32,
    generator_channels=(4, 8, 8),
    discriminator_channels=(4, 8, 8),
    resize_convolution=True,
)
TRAIN = ProgressiveTrainSettings(
    batch_size=2, growth_stage_images=(8, 12), growth_fade_images=8, learning_rate=1e-3
)
RECIPE = config.resolve(
    "progressive", "debug", ["train.checkpoint_interval_images=32", "train.batch_size=2"]
)
"""Stage 1 for 24 images, 16 to fade the second in, 4 images a step."""
Sets = tuple[FaceSet, FaceSet]


@pytest.fixture
def sets(make_set: Callable[..., FaceSet]) -> Sets:
    """Return the sets of two identities."""
    return make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return an empty run."""
    return RunFolder(root=tmp_path / "runs" / "ada-bo")


def batch(seed: int = 0) -> FaceBatch:
    """Return two faces of each of two identities."""
    rng = torch.Generator().manual_seed(seed)
    faces = torch.rand(2, 2, 3, 32, 32, generator=rng) * 2 - 1
    return FaceBatch(warped=faces, target=faces, mask=torch.ones(2, 2, 1, 32, 32))


def make_trainer(**changes: object) -> Trainer:
    """Return a trainer of networks that have not grown."""
    torch.manual_seed(3)
    model = Progressive(replace(MODEL, **changes), TRAIN, ("x", "y"))  # type: ignore[arg-type]
    return Trainer(model.train(), TRAIN, PLAIN)


def progressive(made: Trainer) -> Progressive:
    """Return a trainer's model."""
    assert isinstance(made.model, Progressive)
    return made.model


def train_steps(made: Trainer, first: int, last: int) -> None:
    """Take steps of four images, growing when it is due, as the trainer does."""
    for step in range(first, last):
        progress = TrainProgress(images_seen=4 * step, max_images=None)
        due = progressive(made).growth_due(progress)
        torch.manual_seed(step)
        if due != progressive(made).growth_step:
            made.grow(due, progress)
        made.step(batch(step), progress, lr_scale=1.0, images=4)


def build_paper_networks(backend: str, identities: tuple[str, ...]) -> torch.nn.Module:
    """Build a backend's `paper` networks on the meta device."""
    preset = registry.presets(backend)["paper"]
    kind = registry.load(backend)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in preset.model.items()}
    with torch.device("meta"):
        return kind(kind.model_settings_type(**values), kind.train_settings_type(), identities)


def test_the_final_networks_are_the_cyclegans() -> None:
    """After five stages of the `paper` preset: the same names, types and shapes, layer by layer."""
    whole, small = (
        build_paper_networks("cyclegan", ("x", "y")),
        build_paper_networks("progressive", ("x", "y")),
    )
    assert isinstance(small, Progressive)
    counts = []
    with torch.device("meta"):
        for growth_step in range(9):
            if growth_step:
                small.grow(growth_step, TrainProgress(images_seen=0, max_images=None))
            generator, discriminator = small.generators[0], small.discriminators[0]
            if growth_step % 2 == 0:
                counts.append((len(generator.down), len(generator.up), len(discriminator.down)))  # type: ignore[arg-type]
    assert [(1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4), (5, 5, 5)] == counts
    for name in ("generators", "discriminators"):
        one, other = getattr(small, name), getattr(whole, name)
        assert [(key, str(module)) for key, module in other.named_modules()] == [
            (key, str(module)) for key, module in one.named_modules()
        ]
        assert [(key, value.shape) for key, value in other.named_parameters()] == [
            (key, value.shape) for key, value in one.named_parameters()
        ]


@pytest.mark.parametrize("grow_resolution", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_a_growth_step_does_not_change_the_output(grow_resolution: bool, skip: bool) -> None:
    """At the start and at the end of fading, swaps and losses are the same before and after."""
    made = make_trainer(grow_resolution=grow_resolution, skip_connections=skip)
    model = made.model
    assert isinstance(model, Progressive)
    faces = batch().target[0]
    for growth_step in range(1, 5):
        train_steps(made, 4 * growth_step, 4 * growth_step + 2) if model.is_fading else None
        if growth_step % 2 == 0:
            model.fade.fill_(1.0)
        with torch.no_grad():
            before = model.swap(faces, "y").image
            losses = model.validation_losses(batch())
            made.grow(
                growth_step, TrainProgress(images_seen=1_000_000 * growth_step, max_images=None)
            )
            after = model.swap(faces, "y").image
            torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
            for group, loss in model.validation_losses(batch()).items():
                torch.testing.assert_close(losses[group], loss, rtol=1e-5, atol=0)


def test_growth_preserves_weights_moments_and_averages() -> None:
    """Existing ones are unchanged, bit for bit; new layers start without moments."""
    made = make_trainer()
    train_steps(made, 0, 2)
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    average = {name: value.clone() for name, value in made.ema.items()}
    moments = {
        name: {key: value.clone() for key, value in made.optimizers[group].state[one].items()}
        for group in made.parameter_groups
        for name, one in made.model.named_parameters()
        if one in made.optimizers[group].state
    }
    made.grow(1, TrainProgress(images_seen=8, max_images=None))
    buffers = {"built", "began", "fade", "best", "waited"}
    after = made.model.state_dict()
    assert set(before) < set(after)
    assert all(
        torch.equal(value, after[key]) for key, value in before.items() if key not in buffers
    )
    assert all(torch.equal(value, made.ema[name]) for name, value in average.items())
    assert {name for name, _ in made.model.named_parameters()} == set(made.ema)
    for group, parameters in made.parameter_groups.items():
        state = made.optimizers[group].state
        assert parameters == made.optimizers[group].param_groups[0]["params"]
        for name, one in made.model.named_parameters():
            if any(one is other for other in parameters):
                assert (name in moments) == (one in state)
                for key, value in moments.get(name, {}).items():
                    assert torch.equal(value, state[one][key]), name
    assert 0 < len(moments) < len(list(made.model.parameters()))
    train_steps(made, 2, 3)
    assert all(
        one in made.optimizers[g].state
        for g, group in made.parameter_groups.items()
        for one in group
    )


def run_training(sets: Sets, run: RunFolder, images: int, recipe: Recipe = RECIPE) -> TrainSummary:
    """Train a run on the CPU."""
    stop_criterion = StopCriterion(max_images=images, max_minutes=None)
    job = TrainJob(
        sets=sets, recipe=recipe, run=run, stop_criterion=stop_criterion, device="cpu", seed=1
    )
    return train(job, report=Reporter())


@pytest.mark.slow
def test_a_run_resumed_across_growth_equals_one_that_was_not(
    sets: Sets, run: RunFolder, tmp_path: Path
) -> None:
    """Stopped before, at, during and after the fading of a stage: all bit for bit."""
    whole = RunFolder(root=tmp_path / "runs" / "whole")
    run_training(sets, whole, 56)
    for images in (20, 24, 32, 40, 44, 56):
        run_training(sets, run, images)
    expected, found = load_file(whole.resume), load_file(run.resume)
    assert set(expected) == set(found)
    assert any(name.startswith("model/generators.0.down.1") for name in found)
    assert [] == [name for name, value in expected.items() if not torch.equal(value, found[name])]
    exported, again = load_file(whole.weights), load_file(run.weights)
    assert [] == [name for name, value in exported.items() if not torch.equal(value, again[name])]


def test_a_half_grown_network_swaps_from_its_file(sets: Sets, run: RunFolder) -> None:
    """Weights exported while a stage fades in are loaded into networks of that growth step."""
    run_training(sets, run, 32)
    trained = checkpoint.load_weights(run.weights, torch.device("cpu")).model
    assert isinstance(trained, Progressive)
    assert (1, True) == (trained.growth_step, trained.is_fading)
    assert 0.25 == trained.fade  # 28 images had been seen before the last step
    assert 2 == len(trained.generators[0].down)  # type: ignore[arg-type]
    image = trained.swap(batch().target[0], "bo").image
    assert image.shape == batch().target[0].shape


def test_a_rollback_works_across_growth() -> None:
    """Networks that have grown load a state from before that growth."""
    made, states = make_trainer(), {}
    for step in range(1, 10):
        train_steps(made, step - 1, step)
        states[step] = {name: value.clone() for name, value in made.state_dict().items()}
    assert progressive(made).growth_step == 3
    for step in (8, 6, 3, 2, 7):  # back and forth, into stages in full and half faded in
        made.load_state_dict(states[step])
        now = made.state_dict()
        assert set(states[step]) == set(now)
        assert [] == [name for name, one in states[step].items() if not torch.equal(one, now[name])]
        train_steps(made, step, step + 1)
        now, expected = made.state_dict(), states[step + 1]
        assert [] == [name for name, one in expected.items() if not torch.equal(one, now[name])]


def test_stages_follow_their_lengths() -> None:
    """8 images, 8 to fade, then 12 each, the last length; the last stage does not end."""
    made, steps = make_trainer(), []
    for step in range(20):
        train_steps(made, step, step + 1)
        steps.append((progressive(made).growth_step, progressive(made).growth_stage))
    expected = [(0, 1)] * 2 + [(1, 2)] * 2 + [(2, 2)] * 3 + [(3, 3)] * 2 + [(4, 3)] * 11
    assert expected == steps


def test_new_layers_are_faded_in_by_images() -> None:
    """Linearly from 0 to 1."""
    made, fades = make_trainer(), []
    for step in range(7):
        train_steps(made, step, step + 1)
        fades.append(float(progressive(made).fade))
    assert [1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0] == fades


def test_growth_by_plateau_depends_on_validation_errors() -> None:
    """Two validations in a row without improvement end a stage; the record is in the state."""
    made = make_trainer()
    made.model.train_settings = replace(TRAIN, growth_trigger="plateau")
    for error, due in ((0.5, 0), (0.6, 0), (0.4, 0), (0.4, 0)):
        progressive(made).on_validation(error)
        assert due == progressive(made).growth_due(
            TrainProgress(images_seen=10**6, max_images=None)
        )
    other = make_trainer()
    other.model.train_settings = made.model.train_settings
    other.load_state_dict(made.state_dict())
    progressive(other).on_validation(0.7)
    assert 1 == progressive(other).growth_due(TrainProgress(images_seen=10**6, max_images=None))
    other.grow(1, TrainProgress(images_seen=0, max_images=None))
    assert torch.inf == progressive(other).best


@pytest.mark.slow
def test_a_run_grows_by_plateau(sets: Sets, run: RunFolder) -> None:
    """With a learning rate near 0 no validation error improves, and the stage ends."""
    changes = [
        "train.growth_trigger=plateau",
        "train.learning_rate=1e-30",
        "train.checkpoint_interval_images=8",
    ]
    recipe = config.resolve("progressive", "debug", [*changes, "train.batch_size=2"])
    run_training(sets, run, 48, recipe)
    assert int(load_file(run.resume)["model/built"]) > 0


@pytest.mark.slow
def test_every_stage_has_a_preview_and_a_column_on_the_strip(sets: Sets, run: RunFolder) -> None:
    """The strip shows all stages side by side."""
    run_training(sets, run, 24)
    narrow = image_io.read_image(run.growth_strip).shape
    run_training(sets, run, 48)
    assert run.preview_path(24).exists()
    assert ["1.png", "2.png"] == sorted(path.name for path in run.growth_stages.iterdir())
    wide = image_io.read_image(run.growth_strip).shape
    assert (narrow[0], narrow[1] + 132) == wide[:2]
    page = run.report.read_text(encoding="utf-8")
    assert "all stages of growth" in page
    assert "stage 1 of 2 is over: the networks grow" in page
    assert "stage 2 of 2: its layers are faded in" in page


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.growth_stage_images=[]", "growth_stage_images needs at least one length"),
        ("train.growth_trigger=luck", '"luck" is neither images nor plateau'),
        ("model.size_px=64", "too small for 5 generator and 5 discriminator layers"),
    ],
)
def test_invalid_growth_settings_are_refused(change: str, message: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigurationError, match=message):
        config.resolve("progressive", "paper", [change])


@pytest.mark.slow
def test_every_stage_works_at_the_smallest_side() -> None:
    """Also with growing resolution: from 8 px on, no layer is too small for its norm."""
    settings = ProgressiveModelSettings(
        size_px=32,
        generator_channels=(2, 2, 2),
        discriminator_channels=(2, 2, 2),
        grow_resolution=True,
    )
    torch.manual_seed(0)
    made = Trainer(Progressive(settings, TRAIN, ("x", "y")), TRAIN, PLAIN)
    sides: list[Tensor] = []
    for step in range(12):
        train_steps(made, step, step + 1)
        assert all(value.isfinite().all() for value in made.model.parameters())
        sides.append(torch.tensor(progressive(made)._image_sizes()))
    assert [8] == sides[0].tolist()
    assert [32] == sides[-1].tolist()
    assert isinstance(settings, ModelSettings)


def test_an_estimate_counts_the_final_networks(sets: Sets, run: RunFolder) -> None:
    """Parameters and disk are those of the last stage, for a dry run and for a training."""
    job = TrainJob(
        sets=sets,
        recipe=RECIPE,
        run=run,
        stop_criterion=StopCriterion(max_images=100),
        device="cpu",
        seed=1,
    )
    found = dry_run(job, report=Reporter())
    small, grown = (
        Trainer(build_model(RECIPE, ("ada", "bo"), PLAIN, seed=1), RECIPE.train, PLAIN)
        for _ in range(2)
    )
    estimate.grow_to_final(grown)
    counts = [estimate.count_parameters(one) for one in (small, grown)]
    disks = [estimate.estimate_disk_bytes(one, cache_bytes=0) for one in (small, grown)]
    assert counts[0] < counts[1] == found.parameters
    before = estimate_without_speed(small, job)
    assert (found.parameters, found.disk_bytes) == (before.parameters, before.disk_bytes)
    assert disks[0] < disks[1] < before.disk_bytes
    assert 0 == progressive(small).growth_step
