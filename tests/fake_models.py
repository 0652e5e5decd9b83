"""Fake trained models for tests: `Echo` returns its input; `use_model` makes `convert` load it."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from faceswap_cli.conversion import model as loading
from faceswap_cli.core.config import Recipe
from faceswap_cli.training.checkpoint import TrainedModel
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings


class Echo(SwapModel):
    """A model that returns its input."""

    def __init__(self) -> None:
        super().__init__(ModelSettings(size_px=64), TrainSettings(), ("ada", "bo"))
        self.nothing = nn.Parameter(torch.zeros(1))

    def parameter_groups(self) -> Mapping[str, list[nn.Parameter]]:
        """Return one unused parameter."""
        return {"all": [self.nothing]}

    def train_step(self, *_: object) -> dict[str, Tensor]:
        """Do no training."""
        return {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the faces."""
        return SwapOutput(faces, None)


def as_trained(model: SwapModel) -> TrainedModel:
    """Return a model as if it had been read from a file."""
    recipe = Recipe(
        backend="fake",
        preset="",
        model=model.model_settings,
        train=model.train_settings,
        sources={},
    )
    return TrainedModel(
        model=model.eval(), recipe=recipe, identities=model.identities, images_seen=0
    )


def use_model(monkeypatch: pytest.MonkeyPatch, model: Echo) -> Echo:
    """Make the stage load `model`."""
    trained = as_trained(model)
    monkeypatch.setattr(loading, "load_weights", lambda *_: trained)
    return model
