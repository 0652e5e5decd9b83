"""Failures of training: each is detected, and a healthy run shows none."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import dataset
from faceswap_cli.training.health import (
    DEAD_GROUP_READINGS,
    DeadGroupMonitor,
    HealthBaseline,
    LossMonitor,
)
from faceswap_cli.training.loader import CpuLoader, FaceLoader
from faceswap_cli.training.validation import ValidationResult, validate
from faceswap_models.backends.autoencoder import Autoencoder
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings

GOOD = ValidationResult(
    reconstruction_error={"ada": 0.05, "bo": 0.05},
    cycle_error={"ada": 0.07, "bo": 0.07},
    swap_diversity=0.8,
    swap_change=0.2,
    recon_correlation=0.9,
)


class FakeModel(SwapModel):
    """Swaps by a given function of faces and target identity."""

    def __init__(self, generate: Callable[[Tensor, str], Tensor]) -> None:
        super().__init__(ModelSettings(size_px=16), TrainSettings(), ("ada", "bo"))
        self.generate = generate

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return no groups: there is nothing to train."""
        return {}

    def train_step(self, batch: object, update: object, progress: object) -> dict[str, Tensor]:
        """Return no losses."""
        return {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return what the function makes of faces."""
        return SwapOutput(image=self.generate(faces, identity), mask=None)


def is_same_identity(faces: Tensor, target: str) -> bool:
    """Return whether faces are of the target identity already: each has its own color."""
    return bool(faces.mean((0, 2, 3)).argmax() == ("ada", "bo").index(target))


@pytest.fixture
def loader(make_set: Callable[..., FaceSet], tmp_path: Path) -> FaceLoader:
    """Return a loader of two identities with six validation faces each."""
    datasets = [
        dataset.load_identity(make_set(name, 60, hue=hue), cache=tmp_path / "cache", side_px=24)
        for hue, name in enumerate(("ada", "bo"))
    ]
    settings = TrainSettings(batch_size=4)
    return CpuLoader(
        datasets,
        model=ModelSettings(size_px=16),
        train=settings,
        seed=0,
        device=torch.device("cpu"),
    )


def test_perfect_copies_have_no_error(loader: FaceLoader) -> None:
    """Outputs that equal the inputs: no error, full diversity, no change, full correlation."""
    result = validate(FakeModel(lambda faces, _: faces), loader)
    assert (0.0, 0.0) == (result.error, result.swap_change)
    assert (1.0, 1.0) == pytest.approx((result.swap_diversity, result.recon_correlation))


def test_errors_are_fractions_of_the_full_range(loader: FaceLoader) -> None:
    """Outputs a tenth of the range too bright have an error of 0.1, and a cycle error of 0.2."""
    result = validate(FakeModel(lambda faces, _: faces + 0.2), loader)
    assert {"ada": 0.1, "bo": 0.1} == pytest.approx(dict(result.reconstruction_error))
    assert {"ada": 0.2, "bo": 0.2} == pytest.approx(dict(result.cycle_error))
    assert 0.1 == pytest.approx(result.swap_change)


def test_only_the_inside_of_the_face_counts(loader: FaceLoader) -> None:
    """The corners of the crop do not change the error."""

    def spoil_corner(faces: Tensor, _: str) -> Tensor:
        output = faces.clone()
        output[..., :2, :2] = 1
        return output

    assert 0.0 == validate(FakeModel(spoil_corner), loader).error


@pytest.mark.parametrize("is_random", [True, False])
def test_healthy_faces_with_an_unconstrained_background_stay_healthy(
    loader: FaceLoader, is_random: bool
) -> None:
    """Diversity and correlation are of the face: backgrounds may be random, or all inverted."""
    [dataset, _] = loader.datasets
    mask = loader.clean_batch(dataset, dataset.val_indices[:1]).mask[0]  # the same oval for all

    def generate(faces: Tensor, target: str) -> Tensor:
        mixed = (faces + faces[:, [1, 0, 2]]) / 2
        swaps = faces if is_same_identity(faces * mask, target) else mixed
        background = 20 * torch.rand_like(faces) - 10 if is_random else -9 * faces
        return torch.where(mask > 0, swaps, background)

    torch.manual_seed(0)
    result = validate(FakeModel(generate), loader)
    assert "" == HealthBaseline().update(GOOD).check(result)
    assert 0.9 < result.recon_correlation
    assert 0.5 < result.swap_diversity < 1.0


@pytest.mark.parametrize(
    ("generate", "problem"),
    [
        (lambda faces, _: faces * torch.nan, "come out as no numbers at all"),
        (lambda faces, _: -faces, "faces come out inverted"),
        (
            lambda faces, target: faces * (1 if is_same_identity(faces, target) else -1),
            "swaps come out inverted",
        ),
        (lambda faces, _: torch.zeros_like(faces), "swaps of different faces are the same"),
        (lambda faces, _: faces, "copies of their input"),
        (lambda faces, _: 5 * faces, "validation error has exploded"),
    ],
)
def test_each_collapse_is_detected(
    loader: FaceLoader, generate: Callable[[Tensor, str], Tensor], problem: str
) -> None:
    """After a good validation, outputs that no healthy network makes are named."""
    baseline = HealthBaseline().update(GOOD)
    assert "" == baseline.check(GOOD)
    assert problem in baseline.check(validate(FakeModel(generate), loader))


def test_only_what_is_learned_can_be_lost(loader: FaceLoader) -> None:
    """Initial weights may give diverse faces by chance; that they no longer do is no collapse."""
    flat = validate(FakeModel(lambda faces, _: torch.zeros_like(faces)), loader)
    early = replace(GOOD, reconstruction_error={"ada": 0.3, "bo": 0.3}, mean_face_error=0.3)
    late = replace(GOOD, mean_face_error=0.3)
    assert "" == HealthBaseline().update(early).check(flat)
    assert "swaps of different faces are the same" in HealthBaseline().update(late).check(flat)


def test_the_mean_face_is_not_learned_and_copies_are(loader: FaceLoader) -> None:
    """A network has learned when its reconstructions are better than one face for all."""
    assert validate(FakeModel(lambda faces, _: faces), loader).is_learned
    mean = {
        one.name: loader.clean_batch(one, one.val_indices).target[0].mean(0, keepdim=True)
        for one in loader.datasets
    }
    result = validate(FakeModel(lambda faces, target: mean[target].expand_as(faces)), loader)
    assert not result.is_learned
    errors = result.reconstruction_error.values()
    assert result.mean_face_error == pytest.approx(sum(errors) / len(errors))


@pytest.mark.parametrize("generate", [torch.zeros_like, torch.clone, torch.neg])
def test_untrained_networks_are_not_failures(
    loader: FaceLoader, generate: Callable[[Tensor], Tensor]
) -> None:
    """Gray outputs, copies and negatives are how networks begin."""
    assert "" == HealthBaseline().check(
        validate(FakeModel(lambda faces, _: generate(faces)), loader)
    )


def test_slightly_worse_validations_are_not_failures() -> None:
    """Validation goes up and down."""
    worse = replace(
        GOOD, reconstruction_error={"ada": 0.1}, cycle_error={"ada": 0.1}, swap_diversity=0.5
    )
    assert "" == HealthBaseline().update(GOOD).check(worse)


def test_varying_losses_are_not_failures() -> None:
    """A loss may fall, rise tenfold from small, and change its sign."""
    monitor = LossMonitor()
    for value in (0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.2, -0.2, 0.9):
        assert "" == monitor.check({"loss": value})


def test_exploding_losses_are_detected() -> None:
    """Twenty times the usual size, in either direction; and it does not become usual."""
    monitor = LossMonitor()
    for value in (0.5, 0.4, 0.5, 0.6, 0.5):
        assert "" == monitor.check({"loss": value, "other": 1.0})
    assert "the loss loss has exploded (30, usually 0.5)" == monitor.check({"loss": 30.0})
    assert "exploded" in monitor.check({"loss": -30.0})


def test_a_loss_with_an_opponent_may_jump() -> None:
    """The classifier is fooled: that is what the encoder is for. No number is still a failure."""
    monitor = LossMonitor(Autoencoder.opposed_losses)
    for value in (0.05, 0.02, 0.03, 0.01, 0.02, 0.01, 1.5, 0.02):
        assert "" == monitor.check({"identity_classifier": value})
    assert "is not a number any more" in monitor.check({"identity_classifier": math.nan})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_losses_that_are_not_finite_are_detected_at_once(value: float) -> None:
    """That needs no earlier readings."""
    assert "is not a number any more" in LossMonitor().check({"loss": value})


def test_dead_discriminators_are_detected() -> None:
    """A group whose loss stays at 0 is named; one larger reading starts the count again."""
    monitor = DeadGroupMonitor()

    def check(discriminator: float, reading: int) -> str:
        return monitor.check({"discriminators": discriminator, "generator": 0.8 + 0.01 * reading})

    assert {""} == {check(1e-5, reading) for reading in range(DEAD_GROUP_READINGS - 1)}
    assert "" == check(-0.2, 0)
    assert {""} == {check(-1e-5, reading) for reading in range(DEAD_GROUP_READINGS - 1)}
    assert "discriminators has nothing left to learn from" in check(0.0, DEAD_GROUP_READINGS)


def test_constant_discriminators_are_detected() -> None:
    """A loss that is the same for every batch ignores its input; a little variation is enough."""
    monitor = DeadGroupMonitor()
    for reading in range(3 * DEAD_GROUP_READINGS + 1):
        losses = {"discriminators": 0.5 + 1e-4 * (reading % 2), "generator": 0.8 + reading}
        assert "" == monitor.check(losses)
    problems = [
        monitor.check({"discriminators": 0.5, "generator": 0.8 + reading})
        for reading in range(DEAD_GROUP_READINGS)
    ]
    expected = "discriminators gives the same output for every input (its loss stays 0.5)"
    assert expected == problems[-1]
    assert {""} == set(problems[:-1])
