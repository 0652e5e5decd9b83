"""Compiled networks: the same names and results, and bit-for-bit resume."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from faceswap_cli.core import config
from faceswap_cli.core.errors import DeviceError
from faceswap_cli.core.hardware import Hardware
from faceswap_cli.stages.train import build_model
from faceswap_cli.training import trainer
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import FaceBatch, TrainProgress
from faceswap_models.growing import GrowingModel

PLAIN = Hardware(
    device=torch.device("cpu"), autocast_dtype=None, memory_format=torch.contiguous_format
)


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Trace as the compiler does, but generate no code; record the runs of graphs."""
    calls: list[str] = []

    def trace_only(graph: torch.fx.GraphModule, inputs: object) -> object:
        del inputs

        def run(*arguments: object) -> object:
            calls.append("graph")
            return graph.forward(*arguments)

        return run

    monkeypatch.setattr(trainer, "COMPILE_BACKEND", trace_only)
    yield calls
    torch.compiler.reset()


def make_trainer(backend: str, **changes: object) -> Trainer:
    """Return a trainer of small networks, compiled by default."""
    recipe = config.resolve(backend, "debug", [])
    no_penalty = {"r1_weight": 0.0} if hasattr(recipe.train, "r1_weight") else {}
    train = replace(recipe.train, **{"compile": True, **no_penalty, **changes})
    recipe = replace(recipe, train=train)
    return Trainer(build_model(recipe, ("x", "y"), PLAIN, seed=0), train, PLAIN)


def train_steps(trained: Trainer, first: int, last: int) -> None:
    """Take steps of eight images, growing when it is due."""
    for step in range(first, last):
        progress = TrainProgress(images_seen=8 * step, max_images=None)
        model = trained.model
        if isinstance(model, GrowingModel) and model.growth_due(progress) != model.growth_step:
            torch.manual_seed(step)
            trained.grow(model.growth_due(progress), progress)
        torch.manual_seed(step)
        faces = torch.rand(2, 4, 3, 32, 32) * 2 - 1
        batch = FaceBatch(warped=faces, target=faces, mask=torch.ones(2, 4, 1, 32, 32))
        trained.step(batch, progress, lr_scale=1.0, images=8)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["autoencoder", "cyclegan"])
def test_compiled_networks_train_the_same(backend: str, compiled_calls: list[str]) -> None:
    """Weights after some steps, and their names, are those of the networks in eager mode."""
    compiled, plain = make_trainer(backend), make_trainer(backend, compile=False)
    train_steps(plain, 0, 2)
    assert [] == compiled_calls
    train_steps(compiled, 0, 2)
    assert 0 < len(compiled_calls)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, compiled.state_dict()[name], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_compiled_run_resumes_bit_for_bit(compiled_calls: list[str]) -> None:
    """Also across growth, after which the final networks are compiled."""
    whole, first, second = (make_trainer("progressive") for _ in range(3))
    train_steps(whole, 0, 7)
    train_steps(first, 0, 6)
    before = len(compiled_calls)
    second.load_state_dict(first.state_dict())
    train_steps(second, 6, 7)
    assert before < len(compiled_calls)
    found = second.state_dict()
    assert [] == [
        name for name, one in whole.state_dict().items() if not torch.equal(one, found[name])
    ]


@pytest.mark.slow
def test_growing_networks_are_not_compiled(compiled_calls: list[str]) -> None:
    """Each stage would have to be compiled."""
    trained = make_trainer("progressive")
    assert isinstance(trained.model, GrowingModel)
    train_steps(trained, 0, 5)
    assert (True, []) == (trained.model.is_growing, compiled_calls)
    train_steps(trained, 5, 6)
    assert not trained.model.is_growing
    assert 0 < len(compiled_calls)


@pytest.mark.slow
def test_evaluation_runs_in_eager_mode(compiled_calls: list[str]) -> None:
    """Every other batch size would have to be compiled."""
    trained = make_trainer("cyclegan")
    with trained.ema_weights() as model:
        model.swap(torch.zeros(3, 3, 32, 32), "x")
    assert [] == compiled_calls
    train_steps(trained, 0, 1)
    assert [] != compiled_calls


@pytest.mark.slow
def test_discriminators_with_a_gradient_penalty_are_not_compiled() -> None:
    """Compiled networks have no second derivative."""
    kinds = {
        weight: [
            type(one).__name__
            for one in make_trainer("cyclegan", r1_weight=weight).model.compilable_networks()
        ]
        for weight in (0.0, 1.0)
    }
    assert ["Generator"] * 2 == kinds[1.0]
    assert ["Generator"] * 2 + ["PatchDiscriminator"] * 2 == kinds[0.0]


def test_a_missing_compiler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint says how to train without it."""

    def broken(graph: torch.fx.GraphModule, inputs: object) -> nn.Module:
        raise RuntimeError("no compiler found")

    monkeypatch.setattr(trainer, "COMPILE_BACKEND", broken)
    with pytest.raises(DeviceError, match="no compiler found") as caught:
        train_steps(make_trainer("cyclegan"), 0, 1)
    assert "cannot be compiled here" in str(caught.value)
    assert "train.compile" in str(caught.value.hint)
    torch.compiler.reset()
