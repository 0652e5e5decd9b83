"""The sheet that training draws: the papers' triplets, for faces learnt from and held out."""

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
    """Paints everybody in the one colour of the person who is wanted."""

    def parameter_groups(self) -> Mapping[str, list[torch.nn.Parameter]]:
        """Return nothing to learn."""
        return {}

    def train_step(self, *_: object) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Paint."""
        return SwapOutput(image=torch.full_like(faces, LEVELS[identity]), mask=None)


@pytest.fixture
def loader_factory(
    make_set: Callable[..., FaceSet], tmp_path: Path
) -> Callable[[list[str]], FaceLoader]:
    """Return a function that makes a feed of some people."""

    def make(names: list[str]) -> FaceLoader:
        people = [
            load_identity(make_set(name, 24), cache=tmp_path / "cache", side_px=24)
            for name in names
        ]
        model = ModelSettings(size_px=16)
        device = torch.device("cpu")
        return CpuLoader(people, model=model, train=TrainSettings(), seed=0, device=device)

    return make


def captured_grid(
    names: list[str], feed: FaceLoader, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Image]], list[str], list[str]]:
    """Return what a sheet lays out: rows, captions of the columns, labels of the rows."""
    told: dict[str, list[str]] = {}
    laid: list[list[Image]] = []

    def lay_out(rows: list[list[Image]], **captions: list[str]) -> Image:
        laid.extend(rows)
        told.update(captions)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(image_io, "make_grid", lay_out)
    preview.render_preview_grid(FakeModel(feed.model, feed.train, names), feed)
    return laid, told["columns"], told["labels"]


def mean_level(image: Image) -> float:
    """Return the level of a picture of one colour, as the networks count."""
    assert len(np.unique(image)) == 1
    return float(image[0, 0, 0]) / 127.5 - 1


@pytest.mark.parametrize("names", [["ada"], ["ada", "bo"], ["ada", "bo", "cy"]])
def test_a_row_is_reference_own_decoder_and_the_other_decoders(
    names: list[str],
    loader_factory: Callable[[list[str]], FaceLoader],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The papers' triplet comes first, however many people; what is learnt comes after it."""
    feed = loader_factory(names)
    rows, columns, labels = captured_grid(names, feed, monkeypatch)
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


def test_every_person_has_faces_learnt_from_and_held_out(
    loader_factory: Callable[[list[str]], FaceLoader], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references of rows that say so were never learnt from."""
    feed = loader_factory(["ada", "bo"])
    rows, _, labels = captured_grid(["ada", "bo"], feed, monkeypatch)
    for person in feed.datasets:
        held_out = to_images(feed.clean_batch(person, person.val_indices).target[0])
        for row, label in zip(rows, labels, strict=True):
            if label.startswith(person.name):
                is_held_out = any(np.array_equal(row[0], one) for one in held_out)
                assert label.endswith("held out") == is_held_out
        assert f"{person.name}, learnt" in labels
        assert f"{person.name}, held out" in labels
