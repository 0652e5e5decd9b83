"""Compiled networks: the same names, the same numbers, the same bits after going on."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import nn

from faceswap_cli import config
from faceswap_cli.errors import DeviceError
from faceswap_cli.learning import compiling
from faceswap_cli.learning.hardware import Hardware
from faceswap_cli.learning.trainer import Learner
from faceswap_cli.stages.train import new_model
from faceswap_models.base import FaceBatch, Progress

PLAIN = Hardware(device=torch.device("cpu"), autocast=None, memory_format=torch.contiguous_format)


@pytest.fixture
def compiled_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Trace as the compiler does, but write no code for it; count graphs as they are run."""
    calls: list[str] = []

    def traced(graph: torch.fx.GraphModule, inputs: object) -> object:
        del inputs

        def run(*arguments: object) -> object:
            calls.append("graph")
            return graph.forward(*arguments)

        return run

    monkeypatch.setattr(compiling, "COMPILER", traced)
    yield calls
    torch.compiler.reset()


def learner(backend: str, **changes: object) -> Learner:
    """Return a learner of toy networks, compiled unless that is changed."""
    recipe = config.resolve(backend, "debug", [])
    train = replace(recipe.train, **{"compile": True, "r1_weight": 0.0, **changes})
    recipe = replace(recipe, train=train)
    return Learner(new_model(recipe, ("x", "y"), PLAIN, seed=0), train, PLAIN)


def learn(made: Learner, first: int, last: int) -> None:
    """Take steps of eight images, growing when it is due."""
    for step in range(first, last):
        progress = Progress(images_seen=8 * step, goal=None)
        if (due := made.model.structure_due(progress)) != made.model.structure:
            torch.manual_seed(step)
            made.grow(due, progress)
        torch.manual_seed(step)
        faces = torch.rand(2, 4, 3, 32, 32) * 2 - 1
        batch = FaceBatch(warped=faces, target=faces, mask=torch.ones(2, 4, 1, 32, 32))
        made.step(batch, progress, factor=1.0, images=8)


def test_what_is_compiled_learns_the_same_under_the_same_names(compiled_calls: list[str]) -> None:
    """Weights after some steps are those of the networks as they are written."""
    made, plain = learner("cyclegan"), learner("cyclegan", compile=False)
    learn(plain, 0, 2)
    assert [] == compiled_calls
    learn(made, 0, 2)
    assert 0 < len(compiled_calls)
    assert list(plain.tensors()) == list(made.tensors())
    for name, value in plain.tensors().items():
        torch.testing.assert_close(value, made.tensors()[name], rtol=1e-4, atol=1e-4)


def test_going_on_compiled_equals_not_having_stopped(compiled_calls: list[str]) -> None:
    """Across growth too, which compiles what has grown up; bit for bit."""
    whole, first, second = (learner("progressive") for _ in range(3))
    learn(whole, 0, 7)
    learn(first, 0, 6)
    before = len(compiled_calls)
    second.restore(first.tensors())
    learn(second, 6, 7)
    assert before < len(compiled_calls)
    found = second.tensors()
    assert [] == [
        name for name, one in whole.tensors().items() if not torch.equal(one, found[name])
    ]


def test_networks_that_still_grow_are_not_compiled(compiled_calls: list[str]) -> None:
    """Each stage would be compiled anew."""
    made = learner("progressive")
    learn(made, 0, 5)
    assert (False, []) == (made.model.structure == made.model.final_structure, compiled_calls)
    learn(made, 5, 6)
    assert (True, 0) < (made.model.structure == made.model.final_structure, len(compiled_calls))


def test_judging_runs_networks_as_they_are_written(compiled_calls: list[str]) -> None:
    """Other sizes of batches would be compiled anew, each."""
    made = learner("cyclegan")
    with made.averaged() as model:
        model.swap(torch.zeros(3, 3, 32, 32), "x")
    assert [] == compiled_calls
    learn(made, 0, 1)
    assert [] != compiled_calls


def test_critics_under_a_gradient_penalty_are_not_compiled() -> None:
    """What is compiled has no slope of a slope."""
    kinds = {
        weight: [
            type(one).__name__ for one in learner("cyclegan", r1_weight=weight).model.networks()
        ]
        for weight in (0.0, 1.0)
    }
    assert ["Generator"] * 2 == kinds[1.0]
    assert ["Generator"] * 2 + ["Critic"] * 2 == kinds[0.0]


def test_a_compiler_that_is_not_there_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do instead."""

    def broken(graph: torch.fx.GraphModule, inputs: object) -> nn.Module:
        raise RuntimeError("no compiler far and wide")

    monkeypatch.setattr(compiling, "COMPILER", broken)
    with pytest.raises(DeviceError, match="no compiler far") as refused:
        learn(learner("cyclegan"), 0, 1)
    assert "cannot be compiled here" in str(refused.value)
    assert "train.compile" in str(refused.value.hint)
    torch.compiler.reset()
