"""Search of the batch size: what stops the doubling, and that a run remembers the result."""

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
    *, bytes_per_face: int, max_size: int = 10_000, fast_until: int = 10_000
) -> Callable[[int], BatchTrial | None]:
    """Return trials on a machine that holds `max_size` faces, and is fastest at `fast_until`."""

    def run_trial(size: int) -> BatchTrial | None:
        if size > max_size:
            return None
        speed = 10.0 * min(size, fast_until)
        return BatchTrial(images_per_second=speed, memory_bytes=size * bytes_per_face)

    return run_trial


@pytest.mark.parametrize(
    ("run_trial", "limits", "max_batch_size", "expected"),
    [
        (
            fake_machine(bytes_per_face=1, max_size=99),
            GPU,
            1000,
            (64, "128 would take too much memory"),
        ),
        (fake_machine(bytes_per_face=20), GPU, 1000, (32, "64 would take too much memory")),
        (
            fake_machine(bytes_per_face=1, fast_until=8),
            GPU,
            60,
            (32, "the smallest set has 60 training faces"),
        ),
        (fake_machine(bytes_per_face=1, fast_until=8), CPU, 1000, (8, "16 would be no faster")),
        (fake_machine(bytes_per_face=20), CPU, 1000, (32, "64 would take too much memory")),
        (fake_machine(bytes_per_face=1000), CPU, 1000, (1, "2 would take too much memory")),
    ],
)
def test_doubling_stops_where_it_should(
    run_trial: Callable[[int], BatchTrial | None],
    limits: SearchLimits,
    max_batch_size: int,
    expected: tuple[int, str],
) -> None:
    """Out of memory, its limit, no gain in speed, and the number of faces stop it."""
    assert expected == search_batch_size(run_trial, limits=limits, max_batch_size=max_batch_size)


def test_a_cpu_leaves_half_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs need memory too."""
    monkeypatch.setattr(estimate, "available_memory_bytes", lambda: 1000.0)
    assert SearchLimits(memory_bytes=500, min_speedup=0.1) == search_limits(torch.device("cpu"))


@pytest.fixture
def sets(make_set: Callable[..., FaceSet]) -> tuple[FaceSet, FaceSet]:
    """Return the sets of two identities."""
    return make_set("ada", 20, hue=0), make_set("bo", 24, hue=1)


@pytest.mark.slow
def test_the_batch_size_is_saved_in_the_recipe(
    sets: tuple[FaceSet, FaceSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are tried for a new run; a resumed one has the size that it started with."""
    run = RunFolder(root=sets[0].folder.parent.parent / "runs" / "r")
    recipe = config.resolve("autoencoder", "debug", ["model.latent_dim=8"])
    monkeypatch.setattr(
        stage, "search_limits", lambda _: SearchLimits(memory_bytes=float("inf"), min_speedup=-1)
    )

    stop = stage.StopCriterion(max_images=6)
    job = stage.TrainJob(
        sets=sets, recipe=recipe, run=run, stop_criterion=stop, device="cpu", seed=0
    )

    def resolve() -> config.Recipe:
        return stage.resolve_batch_size(job, report=Reporter()).recipe

    resolved = resolve()
    assert (16, config.FROM_AUTO_BATCH_SIZE) == (
        resolved.train.batch_size,
        resolved.sources["train.batch_size"],
    )
    assert "batch_size = 16" in resolved.to_toml()
    assert not run.root.exists()
    started = config.with_batch_size(recipe, 3)
    stage.train(replace(job, recipe=started), report=Reporter())
    assert started == resolve()


def test_several_processes_need_a_given_batch_size(
    sets: tuple[FaceSet, FaceSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process could find another size."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    recipe = config.resolve("autoencoder", "debug")
    run = RunFolder(root=sets[0].folder.parent / "r")
    job = stage.TrainJob(
        sets=sets,
        recipe=recipe,
        run=run,
        stop_criterion=stage.StopCriterion(),
        device="cpu",
        seed=0,
    )
    with pytest.raises(ConfigurationError, match="in one process, and there are several") as caught:
        stage.resolve_batch_size(job, report=Reporter())
    assert "--batch-size N" in caught.value.hint
