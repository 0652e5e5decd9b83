"""The sheet that training draws: the papers' triplets, for faces learnt from and held out."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from faceswap_cli import pictures
from faceswap_cli.arrays import Image
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.learning import preview
from faceswap_cli.learning.data import load_person
from faceswap_cli.learning.doors import to_images
from faceswap_cli.learning.feed import Feed, RemapFeed
from faceswap_models.base import ModelSettings, SwapModel, Swapped, TrainSettings

LEVELS = {"ada": -0.5, "bo": 0.0, "cy": 0.5}


class Painter(SwapModel):
    """Paints everybody in the one colour of the person who is wanted."""

    def parameter_groups(self) -> Mapping[str, list[torch.nn.Parameter]]:
        """Return nothing to learn."""
        return {}

    def train_step(self, *_: object) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Paint."""
        return Swapped(image=torch.full_like(faces, LEVELS[to]), mask=None)


@pytest.fixture
def feed_of(make_set: Callable[..., FaceSet], tmp_path: Path) -> Callable[[list[str]], Feed]:
    """Return a function that makes a feed of some people."""

    def make(names: list[str]) -> Feed:
        people = [
            load_person(make_set(name, 24), cache=tmp_path / "cache", side_px=24) for name in names
        ]
        model = ModelSettings(size_px=16)
        device = torch.device("cpu")
        return RemapFeed(people, model=model, train=TrainSettings(), seed=0, device=device)

    return make


def drawn(
    names: list[str], feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[list[Image]], list[str], list[str]]:
    """Return what a sheet lays out: rows, captions of the columns, labels of the rows."""
    told: dict[str, list[str]] = {}
    laid: list[list[Image]] = []

    def lay_out(rows: list[list[Image]], **captions: list[str]) -> Image:
        laid.extend(rows)
        told.update(captions)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(pictures, "sheet", lay_out)
    preview.preview_sheet(Painter(feed.model, feed.train, names), feed)
    return laid, told["columns"], told["labels"]


def level(image: Image) -> float:
    """Return the level of a picture of one colour, as the networks count."""
    assert len(np.unique(image)) == 1
    return float(image[0, 0, 0]) / 127.5 - 1


@pytest.mark.parametrize("names", [["ada"], ["ada", "bo"], ["ada", "bo", "cy"]])
def test_a_row_is_reference_own_decoder_and_the_other_decoders(
    names: list[str], feed_of: Callable[[list[str]], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The papers' triplet comes first, however many people; what is learnt comes after it."""
    feed = feed_of(names)
    rows, columns, labels = drawn(names, feed, monkeypatch)
    assert ["reference", "own decoder"] == columns[:2]
    assert ["warped", "unwarped"] == columns[-2:]
    assert len(names) + 3 == len(columns) == len(rows[0])
    for row, label in zip(rows, labels, strict=True):
        own = label.partition(",")[0]
        others = [name for name in names if name != own]
        assert [LEVELS[own], *map(LEVELS.__getitem__, others)] == pytest.approx(
            [level(image) for image in row[1 : 1 + len(names)]], abs=0.01
        )
        assert LEVELS[own] == pytest.approx(level(row[-1]), abs=0.01)


def test_every_person_has_faces_learnt_from_and_held_out(
    feed_of: Callable[[list[str]], Feed], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The references of rows that say so were never learnt from."""
    feed = feed_of(["ada", "bo"])
    rows, _, labels = drawn(["ada", "bo"], feed, monkeypatch)
    for person in feed.people:
        held_out = to_images(feed.plain(person, person.held_out).target[0])
        for row, label in zip(rows, labels, strict=True):
            if label.startswith(person.name):
                is_held_out = any(np.array_equal(row[0], one) for one in held_out)
                assert label.endswith("held out") == is_held_out
        assert f"{person.name}, learnt" in labels
        assert f"{person.name}, held out" in labels
