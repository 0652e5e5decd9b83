"""A training computes on as many threads as its settings say, and leaves the rest as it was."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from faceswap_cli import config
from faceswap_cli.learning.hardware import on_threads
from faceswap_cli.report import Silent
from faceswap_cli.stages import train as stage
from faceswap_cli.workspace import RunFolder


def test_threads_are_held_and_given_back() -> None:
    """Never more than there are; 0 is all; also after an error."""
    before = torch.get_num_threads()
    with on_threads(1):
        assert 1 == torch.get_num_threads()
    with on_threads(10_000):
        assert before == torch.get_num_threads()
    with on_threads(0):
        assert before == torch.get_num_threads()
    with pytest.raises(RuntimeError, match="half way"), on_threads(1):
        raise RuntimeError("half way")
    assert before == torch.get_num_threads()


def test_a_training_takes_its_threads_from_its_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The preset for laptops keeps to one."""
    seen: list[int] = []

    def sit_down(*_: object, **__: object) -> None:
        seen.append(torch.get_num_threads())

    monkeypatch.setattr(stage, "sit_down", sit_down)
    monkeypatch.setattr(stage, "check_sets", lambda *_, **__: None)
    training = stage.Training(
        sets=[],
        recipe=config.resolve("autoencoder", "light"),
        run=RunFolder(root=tmp_path / "run"),
        goal=stage.Goal(images=8),
        device="cpu",
        seed=0,
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        stage.train(training, report=Silent())
        every = replace(training, recipe=config.resolve("autoencoder", "original"))
        stage.train(every, report=Silent())
    finally:
        torch.set_num_threads(before)
    assert [1, 2] == seen
