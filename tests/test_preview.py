"""The preview grid: the papers' triplets, for training and validation faces."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import preview
from faceswap_cli.training.dataset import load_identity
from faceswap_cli.training.loader import CpuLoader, FaceLoader
from faceswap_models.base import ModelSettings, SwapModel, SwapOutput, TrainSettings
from faceswap_models.tensors import to_images

LEVELS = {"ada": -0.5, "bo": 0.0, "cy": 0.5}


class FakeModel(SwapModel):
    """Returns images of the target identity's gray level."""

    def parameter_groups(self) -> Mapping[str, list[torch.nn.Parameter]]:
        """Return no groups: there is nothing to train."""
        return {}

    def train_step(self, *_: object) -> dict[str, Tensor]:
        """Return no losses."""
        return {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Return the target's level for all pixels."""
        return SwapOutput(image=torch.full_like(faces, LEVELS[identity]), mask=None)


@pytest.fixture
def loader_factory(
    make_set: Callable[..., FaceSet], tmp_path: Path
) -> Callable[[list[str]], FaceLoader]:
    """Return a function that makes a loader of some identities."""

    def make(names: list[str]) -> FaceLoader:
        datasets = [
            load_identity(make_set(name, 24), cache=tmp_path / "cache", side_px=24)
            for name in names
        ]
        model = ModelSettings(size_px=16)
        device = torch.device("cpu")
        return CpuLoader(datasets, model=model, train=TrainSettings(), seed=0, device=device)

    return make


def captured_grid(
    names: list[str], loader: FaceLoader, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Image]], list[str], list[str]]:
    """Return the contents of a grid: rows, captions of the columns, labels of the rows."""
    texts: dict[str, list[str]] = {}
    images: list[list[Image]] = []

    def make_grid(rows: list[list[Image]], **captions: list[str]) -> Image:
        images.extend(rows)
        texts.update(captions)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(image_io, "make_grid", make_grid)
    preview.render_preview_grid(FakeModel(loader.model, loader.train, names), loader)
    return images, texts["columns"], texts["labels"]


def mean_level(image: Image) -> float:
    """Return the level of an image of a single color, -1 to 1."""
    assert len(np.unique(image)) == 1
    return float(image[0, 0, 0]) / 127.5 - 1


@pytest.mark.parametrize("names", [["ada"], ["ada", "bo"], ["ada", "bo", "cy"]])
def test_a_row_is_reference_own_decoder_and_the_other_decoders(
    names: list[str],
    loader_factory: Callable[[list[str]], FaceLoader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The papers' triplet comes first, for any number of identities; then the warped input."""
    loader = loader_factory(names)
    rows, columns, labels = captured_grid(names, loader, monkeypatch)
    assert ["reference", "own decoder"] == columns[:2]
    assert ["warped", "unwarped"] == columns[-2:]
    assert len(names) + 3 == len(columns) == len(rows[0])
    for row, label in zip(rows, labels, strict=True):
        own = label.partition(",")[0]
        others = [name for name in names if name != own]
        assert [LEVELS[own], *map(LEVELS.__getitem__, others)] == pytest.approx(
            [mean_level(image) for image in row[1 : 1 + len(names)]], abs=0.01
        )
        assert LEVELS[own] == pytest.approx(mean_level(row[-1]), abs=0.01)


def test_every_identity_has_training_and_validation_faces(
    loader_factory: Callable[[list[str]], FaceLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows labeled as validation have faces of the validation indices."""
    loader = loader_factory(["ada", "bo"])
    rows, _, labels = captured_grid(["ada", "bo"], loader, monkeypatch)
    for dataset in loader.datasets:
        validation = to_images(loader.clean_batch(dataset, dataset.val_indices).target[0])
        for row, label in zip(rows, labels, strict=True):
            if label.startswith(dataset.name):
                is_validation = any(np.array_equal(row[0], one) for one in validation)
                assert label.endswith("validation") == is_validation
        assert f"{dataset.name}, training" in labels
        assert f"{dataset.name}, validation" in labels
