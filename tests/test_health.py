"""The signs of trouble: each is seen, and a healthy run shows none."""

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
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings

GOOD = ValidationResult(
    reconstruction_error={"ada": 0.05, "bo": 0.05},
    cycle_error={"ada": 0.07, "bo": 0.07},
    swap_diversity=0.8,
    swap_change=0.2,
    recon_correlation=0.9,
)


class FakeModel(SwapModel):
    """Draws whatever it is told to."""

    def __init__(self, paint: Callable[[Tensor, str], Tensor]) -> None:
        super().__init__(ModelSettings(size_px=16), TrainSettings(), ("ada", "bo"))
        self.paint = paint

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return nothing to learn."""
        return {}

    def train_step(self, batch: object, update: object, progress: object) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Draw."""
        return SwapOutput(image=self.paint(faces, identity), mask=None)


def is_same_identity(faces: Tensor, to: str) -> bool:
    """Say whether faces are of the person they are to be shown as: each has its own colour."""
    return bool(faces.mean((0, 2, 3)).argmax() == ("ada", "bo").index(to))


@pytest.fixture
def feed(make_set: Callable[..., FaceSet], tmp_path: Path) -> FaceLoader:
    """Return a feed of two people with six held-out faces each."""
    people = [
        dataset.load_identity(make_set(name, 60, hue=hue), cache=tmp_path / "cache", side_px=24)
        for hue, name in enumerate(("ada", "bo"))
    ]
    settings = TrainSettings(batch_size=4)
    return CpuLoader(
        people, model=ModelSettings(size_px=16), train=settings, seed=0, device=torch.device("cpu")
    )


def test_a_perfect_copy_scores_nought(feed: FaceLoader) -> None:
    """Showing faces as they are: no error, all variety, no change, full likeness."""
    found = validate(FakeModel(lambda faces, _: faces), feed)
    assert (0.0, 0.0) == (found.error, found.swap_change)
    assert (1.0, 1.0) == pytest.approx((found.swap_diversity, found.recon_correlation))


def test_a_known_error_scores_what_it_is(feed: FaceLoader) -> None:
    """Everything a tenth of the range too bright scores 0.1, and 0.2 there and back."""
    found = validate(FakeModel(lambda faces, _: faces + 0.2), feed)
    assert {"ada": 0.1, "bo": 0.1} == pytest.approx(dict(found.reconstruction_error))
    assert {"ada": 0.2, "bo": 0.2} == pytest.approx(dict(found.cycle_error))
    assert 0.1 == pytest.approx(found.swap_change)


def test_only_the_inside_of_the_face_counts(feed: FaceLoader) -> None:
    """What is drawn in the crop's corners does not change the error."""

    def spoilt(faces: Tensor, _: str) -> Tensor:
        drawn = faces.clone()
        drawn[..., :2, :2] = 1
        return drawn

    assert 0.0 == validate(FakeModel(spoilt), feed).error


@pytest.mark.parametrize(
    ("paint", "sign"),
    [
        (lambda faces, _: faces * torch.nan, "come out as no numbers at all"),
        (lambda faces, _: -faces, "faces come out inverted"),
        (
            lambda faces, to: faces * (1 if is_same_identity(faces, to) else -1),
            "swaps come out inverted",
        ),
        (lambda faces, _: torch.zeros_like(faces), "different faces come out alike"),
        (lambda faces, _: faces, "copies of their input"),
        (lambda faces, _: 5 * faces, "validation error has exploded"),
    ],
)
def test_each_collapse_is_seen(
    feed: FaceLoader, paint: Callable[[Tensor, str], Tensor], sign: str
) -> None:
    """After a good score, outputs that no healthy network makes are named."""
    vitals = HealthBaseline().update(GOOD)
    assert "" == vitals.check(GOOD)
    assert sign in vitals.check(validate(FakeModel(paint), feed))


def test_a_run_that_has_not_learnt_yet_is_no_trouble(feed: FaceLoader) -> None:
    """Grey outputs, copies and negatives are how networks begin."""
    grey, copy, negative = torch.zeros_like, torch.clone, torch.neg
    for paint in (lambda faces, _: grey(faces), lambda f, _: copy(f), lambda f, _: negative(f)):
        assert "" == HealthBaseline().check(validate(FakeModel(paint), feed))


def test_a_little_worse_is_no_trouble() -> None:
    """Scores go up and down."""
    worse = replace(
        GOOD, reconstruction_error={"ada": 0.1}, cycle_error={"ada": 0.1}, swap_diversity=0.5
    )
    assert "" == HealthBaseline().update(GOOD).check(worse)


def test_losses_that_wander_are_no_trouble() -> None:
    """A loss may fall, rise tenfold from small, and change its sign."""
    watch = LossMonitor()
    for value in (0.5, 0.3, 0.1, 0.05, 0.02, 0.01, 0.2, -0.2, 0.9):
        assert "" == watch.check({"loss": value})


def test_a_loss_that_explodes_is_seen() -> None:
    """Twenty times the usual size, in either direction; and it does not become usual."""
    watch = LossMonitor()
    for value in (0.5, 0.4, 0.5, 0.6, 0.5):
        assert "" == watch.check({"loss": value, "other": 1.0})
    assert "the loss loss has exploded (30, usually 0.5)" == watch.check({"loss": 30.0})
    assert "exploded" in watch.check({"loss": -30.0})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_is_seen_at_once(value: float) -> None:
    """No readings are needed to know that."""
    assert "is not a number any more" in LossMonitor().check({"loss": value})


def test_a_dead_critic_is_seen() -> None:
    """A group whose loss stays at nought is named; one lively reading begins the count anew."""
    watch = DeadGroupMonitor()

    def sign(critic: float, reading: int) -> str:
        return watch.check({"critic": critic, "generator": 0.8 + 0.01 * reading})

    assert {""} == {sign(1e-5, reading) for reading in range(DEAD_GROUP_READINGS - 1)}
    assert "" == sign(-0.2, 0)
    assert {""} == {sign(-1e-5, reading) for reading in range(DEAD_GROUP_READINGS - 1)}
    assert "critic has nothing left to learn from" in sign(0.0, DEAD_GROUP_READINGS)


def test_a_critic_that_says_the_same_of_everything_is_seen() -> None:
    """A loss that no batch changes is no loss of what is shown; one that wanders a little is."""
    watch = DeadGroupMonitor()
    for reading in range(3 * DEAD_GROUP_READINGS + 1):
        assert "" == watch.check({"critic": 0.5 + 1e-4 * (reading % 2), "generator": 0.8 + reading})
    signs = [
        watch.check({"critic": 0.5, "generator": 0.8 + reading})
        for reading in range(DEAD_GROUP_READINGS)
    ]
    assert "critic gives the same output for every input (its loss stays 0.5)" == signs[-1]
    assert {""} == set(signs[:-1])
