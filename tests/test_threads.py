"""Training uses the number of threads in its settings, and restores it afterwards."""

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch

from faceswap_cli.core import config
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.hardware import limit_threads
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.stages import train as stage


def test_the_number_of_threads_is_limited_and_restored() -> None:
    """At most the current number; 0 does not limit; restored after an error too."""
    before = torch.get_num_threads()
    with limit_threads(1):
        assert 1 == torch.get_num_threads()
    with limit_threads(10_000):
        assert before == torch.get_num_threads()
    with limit_threads(0):
        assert before == torch.get_num_threads()
    with pytest.raises(RuntimeError, match="half way"), limit_threads(1):
        raise RuntimeError("half way")
    assert before == torch.get_num_threads()


def test_training_uses_the_number_of_threads_in_its_settings(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The `light` preset uses one thread."""
    seen: list[int] = []

    def build_session(*_: object, **__: object) -> NoReturn:
        seen.append(torch.get_num_threads())
        raise FaceswapError("far enough")

    monkeypatch.setattr(stage, "build_session", build_session)
    monkeypatch.setattr(stage, "check_sets", lambda *_: None)
    training = stage.TrainJob(
        sets=[],
        recipe=config.resolve("autoencoder", "light"),
        run=RunFolder(root=tmp_path / "run"),
        stop_criterion=stage.StopCriterion(max_images=8),
        device="cpu",
        seed=0,
    )
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        for preset in ("light", "original"):
            recipe = config.resolve("autoencoder", preset)
            with pytest.raises(FaceswapError, match="far enough"):
                stage.train(replace(training, recipe=recipe), report=Reporter())
    finally:
        torch.set_num_threads(before)
    assert [1, 2] == seen
