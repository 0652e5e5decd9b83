"""How large a batch may be: what stops the doubling, and that a run remembers what was found."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages import train as stage
from faceswap_cli.training import estimate
from faceswap_cli.training.estimate import (
    BatchTrial,
    SearchLimits,
    search_batch_size,
    search_limits,
)

GPU = SearchLimits(memory_bytes=900, min_speedup=-1.0)
CPU = SearchLimits(memory_bytes=900, min_speedup=0.1)


def fake_machine(
    *, bytes_a_face: int, gone_at: int = 10_000, fast_until: int = 10_000
) -> Callable[[int], BatchTrial | None]:
    """Return a machine that runs out at `gone_at` and gets no faster beyond `fast_until`."""

    def attempt(size: int) -> BatchTrial | None:
        if size >= gone_at:
            return None
        speed = 10.0 * min(size, fast_until)
        return BatchTrial(images_per_second=speed, memory_bytes=size * bytes_a_face)

    return attempt


@pytest.mark.parametrize(
    ("attempt", "limits", "most", "expected"),
    [
        (
            fake_machine(bytes_a_face=1, gone_at=100),
            GPU,
            1000,
            (64, "128 would take too much memory"),
        ),
        (fake_machine(bytes_a_face=20), GPU, 1000, (32, "64 would take too much memory")),
        (
            fake_machine(bytes_a_face=1, fast_until=8),
            GPU,
            60,
            (32, "the smallest set has 60 faces to learn from"),
        ),
        (fake_machine(bytes_a_face=1, fast_until=8), CPU, 1000, (8, "16 would be no faster")),
        (fake_machine(bytes_a_face=20), CPU, 1000, (32, "64 would take too much memory")),
        (fake_machine(bytes_a_face=1000), CPU, 1000, (1, "2 would take too much memory")),
    ],
)
def test_doubling_stops_where_it_should(
    attempt: Callable[[int], BatchTrial | None],
    limits: SearchLimits,
    most: int,
    expected: tuple[int, str],
) -> None:
    """Memory that runs out, its head-room, no gain in speed, and the number of faces stop it."""
    assert expected == search_batch_size(attempt, limits=limits, max_batch_size=most)


def test_a_cpu_keeps_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs live in the same memory."""
    monkeypatch.setattr(estimate, "available_memory_bytes", lambda: 1000.0)
    assert SearchLimits(memory_bytes=500, min_speedup=0.1) == search_limits(torch.device("cpu"))


def test_a_machine_has_free_memory() -> None:
    """The figure is one of bytes, not of pages or kilobytes: more than 16 MiB."""
    assert estimate.available_memory_bytes() > 16 * 2**20


@pytest.fixture
def sets(make_set: Callable[..., FaceSet]) -> tuple[FaceSet, FaceSet]:
    """Return two people's sets."""
    return make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)


def test_what_was_found_is_in_the_recipe_and_is_kept(
    sets: tuple[FaceSet, FaceSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are tried for a new run; one that goes on has the size it was begun with."""
    run = RunFolder(root=sets[0].folder.parent.parent / "runs" / "r")
    recipe = config.resolve("autoencoder", "debug", ["model.latent_dim=8"])
    monkeypatch.setattr(
        stage, "search_limits", lambda _: SearchLimits(memory_bytes=float("inf"), min_speedup=-1)
    )

    goal = stage.StopCriterion(max_images=6)
    training = stage.TrainJob(
        sets=sets, recipe=recipe, run=run, stop_criterion=goal, device="cpu", seed=0
    )

    def fitted() -> config.Recipe:
        return stage.resolve_batch_size(training, report=Reporter()).recipe

    found = fitted()
    assert (16, config.FROM_AUTO_BATCH_SIZE) == (
        found.train.batch_size,
        found.sources["train.batch_size"],
    )
    assert "batch_size = 16" in found.to_toml()
    assert not run.root.exists()
    begun = config.with_batch_size(recipe, 3)
    stage.train(replace(training, recipe=begun), report=Reporter())
    assert begun == fitted()


def test_several_processes_are_told_to_say_the_size(
    sets: tuple[FaceSet, FaceSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each would find alone need not be the same."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = config.resolve("autoencoder", "debug")
    run = RunFolder(root=sets[0].folder.parent / "r")
    training = stage.TrainJob(
        sets=sets,
        recipe=recipe,
        run=run,
        stop_criterion=stage.StopCriterion(),
        device="cpu",
        seed=0,
    )
    with pytest.raises(ConfigurationError, match="in one process, and there are several") as caught:
        stage.resolve_batch_size(training, report=Reporter())
    assert "--batch-size N" in caught.value.hint
