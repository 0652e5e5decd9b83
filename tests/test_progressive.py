"""Growing networks: the final ones are the CycleGAN's, and growing loses and changes nothing."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from faceswap_cli.core import config, image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import ConfigurationError, InputError
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
from faceswap_cli.training import checkpoint, estimate, loop
from faceswap_cli.training.swap_metrics import FaceAnalyzer, SwapEvaluator
from faceswap_cli.training.trainer import Trainer
from faceswap_models import registry
from faceswap_models.backends.progressive import (
    Progressive,
    ProgressiveModelSettings,
    ProgressiveTrainSettings,
)
from faceswap_models.base import FaceBatch, ModelSettings, TrainProgress

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


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread, and nobody reads the faces of these sets, which are none."""
    torch.set_num_threads(1)

    def shut(held: ExitStack) -> FaceAnalyzer:
        raise InputError("the readers are not here")

    monkeypatch.setattr(loop, "SwapEvaluator", partial(SwapEvaluator, load_analyzer=shut))


@pytest.fixture
def sets(make_set: Callable[..., FaceSet]) -> Sets:
    """Return two people's sets."""
    return make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return an empty run."""
    return RunFolder(root=tmp_path / "runs" / "ada-bo")


def batch(seed: int = 0) -> FaceBatch:
    """Return two faces each of two people."""
    chance = torch.Generator().manual_seed(seed)
    faces = torch.rand(2, 2, 3, 32, 32, generator=chance) * 2 - 1
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


def build_paper_networks(backend: str, people: tuple[str, ...]) -> torch.nn.Module:
    """Build a backend's `paper` networks, without memory for their weights."""
    preset = registry.presets(backend)["paper"]
    kind = registry.load(backend)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in preset.model.items()}
    with torch.device("meta"):
        return kind(kind.model_settings_type(**values), kind.train_settings_type(), people)


def test_the_final_networks_are_the_cyclegans() -> None:
    """Grown in five stages, layer by layer: names, kinds and shapes, as the `paper` presets are."""
    whole, small = (
        build_paper_networks("cyclegan", ("x", "y")),
        build_paper_networks("progressive", ("x", "y")),
    )
    assert isinstance(small, Progressive)
    counts = []
    with torch.device("meta"):
        for structure in range(9):
            if structure:
                small.grow(structure, TrainProgress(images_seen=0, max_images=None))
            generator, critic = small.generators[0], small.discriminators[0]
            if structure % 2 == 0:
                counts.append((len(generator.down), len(generator.up), len(critic.down)))  # type: ignore[arg-type]
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
@pytest.mark.parametrize("skips", [False, True])
def test_growing_changes_nothing_at_first(grow_resolution: bool, skips: bool) -> None:
    """At every boundary swaps and losses stay what they are; and after fading, at its end."""
    made = make_trainer(grow_resolution=grow_resolution, skip_connections=skips)
    model = made.model
    assert isinstance(model, Progressive)
    faces = batch().target[0]
    for structure in range(1, 5):
        train_steps(made, 4 * structure, 4 * structure + 2) if model.is_fading else None
        if structure % 2 == 0:
            model.fade.fill_(1.0)
        with torch.no_grad():
            before = model.swap(faces, "y").image
            told = model.validation_losses(batch())
            made.grow(structure, TrainProgress(images_seen=1_000_000 * structure, max_images=None))
            after = model.swap(faces, "y").image
            torch.testing.assert_close(before, after, rtol=0, atol=1e-6)
            for group, loss in model.validation_losses(batch()).items():
                torch.testing.assert_close(told[group], loss, rtol=1e-5, atol=0)


def test_layers_that_stay_keep_weights_moments_and_averages() -> None:
    """Growing leaves what was there bit for bit; what is new begins without moments."""
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
    """Train on the CPU."""
    goal = StopCriterion(max_images=images, max_minutes=None)
    training = TrainJob(
        sets=sets, recipe=recipe, run=run, stop_criterion=goal, device="cpu", seed=1
    )
    return train(training, report=Reporter())


def test_a_run_resumed_across_growth_equals_one_that_was_not(
    sets: Sets, run: RunFolder, tmp_path: Path
) -> None:
    """Stopped before, at, within and after the fading of a stage: all bit for bit."""
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
    """What is exported while a stage fades in is read back as it was built then."""
    run_training(sets, run, 32)
    trained = checkpoint.load_weights(run.weights, torch.device("cpu")).model
    assert isinstance(trained, Progressive)
    assert (1, True) == (trained.growth_step, trained.is_fading)
    assert 0.25 == trained.fade  # 28 images had been seen before the last step
    assert 2 == len(trained.generators[0].down)  # type: ignore[arg-type]
    image = trained.swap(batch().target[0], "bo").image
    assert image.shape == batch().target[0].shape


def test_trouble_goes_back_across_growth() -> None:
    """A state from before a stage is taken up by networks that have grown beyond it."""
    made, kept = make_trainer(), {}
    for step in range(1, 10):
        train_steps(made, step - 1, step)
        kept[step] = {name: value.clone() for name, value in made.state_dict().items()}
    assert progressive(made).growth_step == 3
    for step in (8, 6, 3, 2, 7):  # back and forth, into stages in full and half faded in
        made.load_state_dict(kept[step])
        now = made.state_dict()
        assert set(kept[step]) == set(now)
        assert [] == [name for name, one in kept[step].items() if not torch.equal(one, now[name])]
        train_steps(made, step, step + 1)
        now, expected = made.state_dict(), kept[step + 1]
        assert [] == [name for name, one in expected.items() if not torch.equal(one, now[name])]


def test_stages_follow_their_lengths() -> None:
    """8 images, 8 to fade, then the last length again and again; the last stage never ends."""
    made, seen = make_trainer(), []
    for step in range(20):
        train_steps(made, step, step + 1)
        seen.append((progressive(made).growth_step, progressive(made).growth_stage))
    expected = [(0, 1)] * 2 + [(1, 2)] * 2 + [(2, 2)] * 3 + [(3, 3)] * 2 + [(4, 3)] * 11
    assert expected == seen


def test_new_layers_are_faded_in_by_images() -> None:
    """From 0 at the boundary, in a straight line, to 1."""
    made, fades = make_trainer(), []
    for step in range(7):
        train_steps(made, step, step + 1)
        fades.append(float(progressive(made).fade))
    assert [1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0] == fades


def test_growth_by_plateau_goes_by_held_out_scores() -> None:
    """Two scores in a row that were no better end a stage; what was heard is in the state."""
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


def test_a_run_grows_by_plateau(sets: Sets, run: RunFolder) -> None:
    """Through the trainer: with a rate of nearly nought no score gets better, and stages end."""
    changes = [
        "train.growth_trigger=plateau",
        "train.learning_rate=1e-30",
        "train.checkpoint_interval_images=8",
    ]
    recipe = config.resolve("progressive", "debug", [*changes, "train.batch_size=2"])
    run_training(sets, run, 48, recipe)
    assert int(load_file(run.resume)["model/built"]) > 0


def test_sheets_after_each_progression_and_a_strip_of_all(sets: Sets, run: RunFolder) -> None:
    """Every stage ends with a sheet, and leaves a column on the strip."""
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
    ("change", "told"),
    [
        ("train.growth_stage_images=[]", "growth_stage_images needs at least one length"),
        ("train.growth_trigger=luck", '"luck" is neither images nor plateau'),
        ("model.size_px=64", "too small for 5 generator and 5 discriminator layers"),
    ],
)
def test_stages_that_cannot_be_are_refused(change: str, told: str) -> None:
    """In the settings' own words."""
    with pytest.raises(ConfigurationError, match=told):
        config.resolve("progressive", "paper", [change])


def test_every_stage_works_at_the_smallest_side() -> None:
    """Growing pictures too: from 8 px on, nothing is too small for a norm."""
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
