"""Pretraining: whom it draws, what a batch pairs, what is folded, and resume bit for bit."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from faceswap_cli import synthetic
from faceswap_cli.cli.app import app
from faceswap_cli.core import config
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, InputError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads import head_cast
from faceswap_cli.pretraining import drawing
from faceswap_cli.pretraining import loader as loader_module
from faceswap_cli.pretraining.loader import PairLoader
from faceswap_cli.pretraining.mesh_groups import draw_mesh_person, draw_mesh_scenes
from faceswap_cli.pretraining.pairs import (
    SEED_OFFSET,
    VALIDATION_OFFSET,
    Group,
    JoinedCrops,
    PairSettings,
    SwapPairs,
    derive_pair_seed,
)
from faceswap_cli.pretraining.score import score_pairs
from faceswap_cli.stages import pretrain as stage
from faceswap_cli.stages.pretrain import PretrainJob, StopCriterion, pretrain
from faceswap_cli.training import checkpoint
from faceswap_cli.training.dataset import FACE_LEVEL, IdentityDataset
from faceswap_models.backends.autoencoder import Autoencoder
from faceswap_models.base import SwapOutput
from faceswap_models.degradation import degrade
from faceswap_models.modulated import ModulatedAutoencoder

CPU = torch.device("cpu")
SETTINGS = PairSettings(groups=3, validation_groups=2, moments=6, side_px=60)
RECIPE = config.resolve(
    "autoencoder",
    "debug",
    ["train.batch_size=4", "model.predict_mask=true", "train.checkpoint_interval_images=16"],
)


def level(number: int) -> int:
    """Return a level for the number of a person or group: above 100 for those of validation."""
    return 1 + number if number < VALIDATION_OFFSET else 101 + number % 100


def fake_group(settings: PairSettings, group: int, _: object) -> Group:
    """Return crops whose red says the person, green the moment of its group, and blue the group.

    Somebody is missing in one moment.
    """
    shape = (settings.moments, settings.people, settings.side_px, settings.side_px, 4)
    crops = np.zeros(shape, np.uint8)
    for column, person in enumerate(settings.person_numbers(group)):
        crops[:, column, ..., 0] = level(person)
        crops[:, column, ..., 2] = level(group)
    crops[..., 1] = np.arange(settings.moments)[:, None, None, None] * 40
    crops[..., 3] = FACE_LEVEL
    crops[2, 1] = 0
    return crops


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of fake groups, whose inputs stay as they are; more are drawn as quickly."""
    monkeypatch.setattr(drawing, "draw_group", fake_group)
    monkeypatch.setattr(loader_module, "degrade", lambda images, *, seed: images)  # noqa: ARG005
    assert list(drawing.draw_groups(SETTINGS, tmp_path / "pairs")) == list(range(6))
    return tmp_path / "pairs"


def make_loader(
    folder: Path,
    *,
    settings: PairSettings = SETTINGS,
    sets: Sequence[IdentityDataset] = (),
    **train: float,
) -> PairLoader:
    """Return a loader without color jitter, so that colors say who is who."""
    return PairLoader(
        SwapPairs.load(settings, folder),
        model=RECIPE.model,
        train=replace(RECIPE.train, input_color_jitter=0.0, **train),  # type: ignore[arg-type]
        seed=0,
        device=CPU,
        identity="everybody",
        sets=sets,
    )


def colors(images: torch.Tensor) -> list[tuple[int, ...]]:
    """Return the levels of the middle of each image (1, B, 3, S, S)."""
    side = images.shape[-1]
    middle = (images[0, :, :, side // 2, side // 2] + 1) * 127.5
    return [tuple(values) for values in middle.round().int().tolist()]


def make_model(*, people: int = 12, seed: int = 0) -> ModulatedAutoencoder:
    """Return untrained networks."""
    torch.manual_seed(seed)
    return ModulatedAutoencoder(RECIPE.model, RECIPE.train, ("everybody",), num_people=people)  # type: ignore[arg-type]


def test_nobody_who_is_judged_on_is_in_the_pairs() -> None:
    """Seeds of people and scenes are far from those of the demo, the benchmark and the studies."""
    numbers = (*range(12), VALIDATION_OFFSET * 4)
    people = [
        draw(SETTINGS, n) for draw in (drawing.draw_person, draw_mesh_person) for n in numbers
    ]
    cast = [*synthetic.CAST.values(), *head_cast().values()]
    assert not set(map(repr, people)) & set(map(repr, cast))
    seeds = [
        derive_pair_seed(0, purpose, n)
        for purpose in ("person", "scenes", "mesh person", "mesh scenes")
        for n in range(500)
    ]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= SEED_OFFSET


def test_validation_shows_new_people_and_known_ones_in_new_moments() -> None:
    """Half of a validation group is in a training group, the other half nowhere else."""
    trained = {n for group in range(3) for n in SETTINGS.person_numbers(group)}
    assert trained == set(range(12))
    new: list[int] = []
    for group in (VALIDATION_OFFSET, VALIDATION_OFFSET + 1):
        people = SETTINGS.person_numbers(group)
        assert len(trained & set(people)) == 2
        new += set(people) - trained
        for draw in (drawing.draw_scenes, draw_mesh_scenes):
            assert draw(SETTINGS, group) != draw(SETTINGS, group - VALIDATION_OFFSET)
    assert len(set(new)) == 4
    # What is in a group does not depend on how many others there are.
    more = replace(SETTINGS, groups=50)
    for group in SETTINGS.group_numbers:
        assert SETTINGS.person_numbers(group) == more.person_numbers(group)
    with pytest.raises(ValueError, match="no group 3"):
        SETTINGS.person_numbers(3)


def test_groups_are_of_both_kinds_of_people_by_turns() -> None:
    """Validation groups, which have people of a training group, are of the kind of that one."""
    kinds = [SETTINGS.is_mesh_group(group) for group in range(4)]
    assert kinds == [False, True, False, True]
    later = [SETTINGS.is_mesh_group(VALIDATION_OFFSET + group) for group in range(4)]
    assert kinds == later


def test_every_other_moment_of_a_mesh_group_has_few_strong_blendshapes() -> None:
    """Those between mix any of them."""
    scenes = draw_mesh_scenes(replace(SETTINGS, moments=50), 1)
    mixed, strong = ([np.array(one.blendshapes) for one in scenes[at::2]] for at in (0, 1))
    jaw = BLENDSHAPE_NAMES.index("jawOpen")
    assert max(one[jaw] for one in strong) > 0.9
    assert np.mean([(one > 0).sum() for one in strong]) < 12
    assert len({tuple(np.flatnonzero(one)) for one in mixed}) > 20


def test_more_groups_keep_those_that_are_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn is not drawn again; another size is."""
    drawn: list[int] = []

    def count(settings: PairSettings, group: int, detector: object) -> Group:
        drawn.append(group)
        return fake_group(settings, group, detector)

    monkeypatch.setattr(drawing, "draw_group", count)
    assert list(drawing.draw_groups(SETTINGS, folder)) == [5]
    assert list(drawing.draw_groups(replace(SETTINGS, groups=4), folder)) == [5, 6]
    assert drawn == [3]
    assert list(drawing.draw_groups(replace(SETTINGS, side_px=16), folder))[-1] == 5
    assert len(drawn) == 6


@pytest.mark.parametrize("content", [b"", b"no array", "short"])
def test_a_damaged_file_is_named(folder: Path, content: "bytes | str") -> None:
    """One line says which file to delete; then it is drawn again."""
    path = sorted(folder.rglob("*.npy"))[1]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] if isinstance(content, str) else content)
    with pytest.raises(InputError, match=r"000001\.npy is damaged") as caught:
        SwapPairs.load(SETTINGS, folder)
    assert "delete it" in caught.value.hint
    path.unlink()
    assert list(drawing.draw_groups(SETTINGS, folder)) == [4, 5]
    assert len(SwapPairs.load(SETTINGS, folder).groups) == 5


def test_joined_crops_are_the_parts_one_after_the_other() -> None:
    """By index, by indices, and as a whole."""
    parts = [np.random.default_rng(n).integers(0, 255, (n, 2, 2, 4), np.uint8) for n in (3, 1, 4)]
    joined, expected = JoinedCrops(parts), np.concatenate(parts)
    assert (len(joined), joined.shape, joined.nbytes) == (8, expected.shape, expected.nbytes)
    assert all(np.array_equal(joined[index], expected[index]) for index in range(8))
    assert np.array_equal(joined[np.array([7, 0, 3])], expected[[7, 0, 3]])
    assert np.array_equal(np.array(joined), expected)


def test_a_pair_is_two_people_in_one_moment(folder: Path) -> None:
    """Same group and same moment; the number is that of the target; validation is never shown."""
    loader = make_loader(folder)
    seen: set[tuple[int, int]] = set()
    for step in range(60):
        batch = loader.batch(step * 4)
        sources, targets = colors(batch.warped), colors(batch.target)
        for source, target, person in zip(sources, targets, batch.people[0].tolist(), strict=True):
            assert source[1:] == target[1:]
            assert target[0] == 1 + person
            assert target[2] <= 3
            seen.add((source[0], target[0]))
    # Everybody to everybody of the same group, themselves included.
    assert seen == {
        (1 + 4 * g + a, 1 + 4 * g + b) for g in range(3) for a in range(4) for b in range(4)
    }


def test_sets_are_a_part_of_every_batch(folder: Path) -> None:
    """Each has a number of its own, and in turn all its training faces, as input and as target."""
    sets = []
    for number in range(2):
        pixels = np.full((5, 60, 60, 4), FACE_LEVEL, np.uint8)
        pixels[..., 0], pixels[..., 1] = 200 + number, np.arange(5)[:, None, None] * 10
        train, val = np.arange(4), np.array([4])
        sets.append(
            IdentityDataset(name=f"{number}", pixels=pixels, train_indices=train, val_indices=val)
        )
    faces = make_loader(folder, sets=sets)
    assert faces.num_people == 12 + 2
    seen = set()
    for step in range(8):
        batch = faces.batch(step * 4)
        found = zip(
            colors(batch.warped), colors(batch.target), batch.people[0].tolist(), strict=True
        )
        real = [one for one in found if one[2] >= 12]
        assert len(real) == 1
        [(source, target, person)] = real
        assert source == target
        assert target[0] == 200 + person - 12
        seen.add((person, target[1]))
    assert seen == {(12 + number, face * 10) for number in range(2) for face in range(4)}


def test_a_batch_follows_from_its_position_alone(folder: Path) -> None:
    """As for any training: a run that was stopped shows what it would have shown."""
    one, other = make_loader(folder), make_loader(folder)
    one.batch(0)
    for name, value in vars(one.batch(8)).items():
        assert torch.equal(value, getattr(other.batch(8), name))


def test_degraded_inputs_are_the_same_faces() -> None:
    """Changes follow from the seed, stay within the range, and move nothing."""
    rng = torch.Generator().manual_seed(0)
    shapes = torch.rand(64, 3, 6, 6, generator=rng) * 2 - 1
    images = functional.interpolate(shapes, size=(48, 48), mode="bilinear", align_corners=False)
    changed = degrade(images, seed=1)
    assert torch.equal(changed, degrade(images, seed=1))
    assert not torch.equal(changed, degrade(images, seed=2))
    assert changed.abs().max() <= 1
    pairs_of_values = torch.stack([images.flatten(1), changed.flatten(1)], dim=1)
    correlations = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs_of_values])
    assert correlations.min() > 0.6
    assert correlations.median() > 0.9
    assert (changed - images).flatten(1).abs().mean(1).min() > 0.005  # none is left as it was


def test_only_what_is_trained_on_is_degraded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs of training are; targets, and all of validation, are not."""
    monkeypatch.setattr(loader_module, "degrade", lambda images, *, seed: images * 0)  # noqa: ARG005
    faces = make_loader(folder)
    batch = faces.batch(0)
    assert not batch.warped.any()
    assert batch.target.any()
    assert faces.validation_batch(faces.validation_pairs[:2]).warped.any()


def test_validation_pairs_are_new_people_to_known_ones(folder: Path) -> None:
    """Inputs are not warped, the truth is the same moment, the reference is the person wanted."""
    loader = make_loader(folder)
    # Two groups of six moments, 2 x 2 pairs each, less those of who is missing once.
    assert len(loader.validation_pairs) == 2 * (6 * 4 - 2)
    batch = loader.validation_batch(loader.validation_pairs)
    known = {1 + n for n in range(12)}
    for source, target in zip(colors(batch.warped), colors(batch.target), strict=True):
        assert source[1:] == target[1:]
        assert source[0] not in known
        assert target[0] in known
    pixels = np.array(loader.dataset.pixels)
    for pair in loader.validation_pairs:
        assert pixels[pair.reference][0, 0, 0] == 1 + pair.person


def test_the_mean_person_is_folded_into_a_plain_decoder() -> None:
    """The exported weights are an autoencoder's, and swap as the mean of all vectors does."""
    model = make_model()
    with torch.no_grad():
        for one in model.modulations.parameters():
            one.add_(torch.randn_like(one) * 0.3)
    plain = Autoencoder(RECIPE.model, RECIPE.train, ("everybody",))  # type: ignore[arg-type]
    plain.load_state_dict(model.select_exported(model.state_dict()))
    side = RECIPE.model.size_px
    faces = torch.rand(3, 3, side, side) * 2 - 1
    with torch.no_grad():
        expected, found = model.swap(faces, "everybody"), plain.swap(faces, "everybody")
        assert expected.mask is not None
        assert found.mask is not None
        torch.testing.assert_close(found.image, expected.image, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.mask, expected.mask, atol=1e-4, rtol=0)
        ada, bo = (model.swap_to(faces, torch.full((3,), n)).image for n in (0, 1))
        assert (ada - bo).abs().max() > 1e-3
        torch.testing.assert_close(model.swap_to(faces, torch.tensor([0, 1, 0])).image[1], bo[1])


def test_the_truth_scores_best(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that gives the truth has a structural similarity of 1; the input has less."""
    loader, model = make_loader(folder), make_model()
    answers = iter(
        loader.validation_batch(loader.validation_pairs[start : start + 4]).target[0]
        for start in range(0, len(loader.validation_pairs), 4)
    )

    def truth(*_: object) -> SwapOutput:
        return SwapOutput(image=next(answers), mask=None)

    monkeypatch.setattr(model, "swap_to", truth)
    assert score_pairs(model, loader).ssim == pytest.approx(1.0)
    monkeypatch.setattr(model, "swap_to", lambda faces, _: SwapOutput(image=faces, mask=None))
    assert score_pairs(model, loader).ssim < 0.999


def run_pretraining(folder: Path, run: RunFolder, images: int, *, groups: int = 3) -> None:
    """Pretrain on the fake groups."""
    job = PretrainJob(
        recipe=RECIPE,
        run=run,
        pairs_folder=folder,
        groups=groups,
        stop_criterion=StopCriterion(max_images=images),
        device="cpu",
        seed=0,
    )
    pretrain(job, report=Reporter())


@pytest.fixture
def small_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the stage draw what the tests have drawn."""
    monkeypatch.setattr(PretrainJob, "pair_settings", SETTINGS)


@pytest.mark.slow
@pytest.mark.usefixtures("small_pairs")
def test_an_interrupted_pretraining_ends_as_an_uninterrupted_one(
    folder: Path, tmp_path: Path
) -> None:
    """Weights, averages, moments and the exported model, bit for bit."""
    # The schedule follows the limit, so that both have to have the same one.
    runs = [RunFolder(root=tmp_path / name) for name in ("whole", "stopped")]
    run_pretraining(folder, runs[0], 48)
    with pytest.MonkeyPatch.context() as patch:
        reasons = iter(["", "", "", "", "interrupted", "interrupted"])
        patch.setattr(StopCriterion, "reason", lambda *_, **__: next(reasons))
        run_pretraining(folder, runs[1], 48)
    stopped = checkpoint.read_checkpoint(runs[1].resume)
    assert stopped.state.images_seen == 16
    run_pretraining(folder, runs[1], 48)
    one, other = (checkpoint.read_checkpoint(run.resume) for run in runs)
    assert one.state.images_seen == other.state.images_seen == 48
    assert_equal_tensors(one.tensors, other.tensors)
    assert_equal_tensors(*(checkpoint.read_safetensors(run.weights)[0] for run in runs))


@pytest.mark.usefixtures("small_pairs")
def test_a_run_keeps_its_people(folder: Path, tmp_path: Path) -> None:
    """Another number of people is refused before any is drawn, and says how many there were."""
    run = RunFolder(root=tmp_path / "base")
    run_pretraining(folder, run, 8)
    with pytest.raises(CheckpointError, match="knows 12 people, and would now have 16"):
        run_pretraining(folder, run, 16, groups=4)


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_run_goes_on_with_its_own_settings(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored of the run is read, whether the run was named or has the default name."""
    runs, jobs = [], []

    def resolve(*_: object, run: RunFolder | None = None) -> config.Recipe:
        runs.append(run)
        return RECIPE

    monkeypatch.setattr(stage, "resolve_pretrain_recipe", resolve)
    monkeypatch.setattr(stage, "pretrain", lambda job, **_: jobs.append(job))
    options = ["--name", name] if name else []
    CliRunner().invoke(app, ["pretrain", *options, "--workspace", str(tmp_path / "space")])
    assert runs[-1] is not None
    assert runs[-1] == jobs[0].run
    assert (name or "base-debug") == runs[-1].name


@pytest.mark.slow
@pytest.mark.usefixtures("small_pairs")
def test_what_is_pretrained_is_an_ordinary_model(folder: Path, tmp_path: Path) -> None:
    """It loads as any trained model, and two new people start from its decoder."""
    run = RunFolder(root=tmp_path / "base")
    run_pretraining(folder, run, 32)
    trained = checkpoint.load_weights(run.weights, CPU)
    assert trained.identities == ("everybody",)
    assert run.best.exists()
    assert list(run.previews.glob("*.png"))
    torch.manual_seed(1)
    fresh = Autoencoder(RECIPE.model, RECIPE.train, ("ada", "bo"))  # type: ignore[arg-type]
    fresh.init_from(trained.model)
    faces = torch.rand(1, 3, RECIPE.model.size_px, RECIPE.model.size_px)
    expected = trained.model.swap(faces, "everybody").image
    assert all(torch.equal(fresh.swap(faces, name).image, expected) for name in ("ada", "bo"))


def test_an_encoder_with_published_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """There is nothing to teach it; the run is not begun."""
    job = PretrainJob(
        recipe=config.resolve("autoencoder", "vgg19", []),
        run=RunFolder(root=tmp_path / "runs" / "base"),
        pairs_folder=folder,
        groups=3,
        stop_criterion=StopCriterion(max_images=8),
        device="cpu",
        seed=0,
    )
    with pytest.raises(ConfigurationError, match="vgg19 has published weights"):
        pretrain(job, report=Reporter())
    assert not job.run.root.exists()


@pytest.mark.slow
def test_drawn_people_are_in_the_same_moment(tmp_path: Path) -> None:
    """Crops of two people in one scene: faces in the same place, of other looks."""
    settings = PairSettings(groups=2, validation_groups=1, people=2, moments=2, side_px=60)
    assert list(drawing.draw_groups(settings, tmp_path))[-1] == 3
    for group in SwapPairs.load(settings, tmp_path).groups:
        faces = group[..., 3] >= FACE_LEVEL / 2
        assert (faces.mean((2, 3)) > 0.15).all()
        shared = (faces[:, 0] & faces[:, 1]).sum((1, 2)) / (faces[:, 0] | faces[:, 1]).sum((1, 2))
        assert (shared > 0.75).all()
        difference = np.abs(group[:, 0, ..., :3].astype(int) - group[:, 1, ..., :3])
        assert (difference.mean((1, 2, 3)) > 4).all()


def assert_equal_tensors(
    some: "dict[str, torch.Tensor]", others: "dict[str, torch.Tensor]"
) -> None:
    """Assert that two sets of tensors have the same names and the same bits."""
    assert set(some) == set(others)
    names: Iterable[str] = some
    assert all(torch.equal(some[name], others[name]) for name in names)
