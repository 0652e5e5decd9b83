"""The page of a run: its log read honestly, its sheets in order, nothing from outside."""

import json
from pathlib import Path

import numpy as np
import pytest

from faceswap_cli.core import config, image_io
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training import report

RECIPE = config.resolve("autoencoder", "debug", ["train.warp_strength=0.25"])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run of two readings, an event and a torn line."""
    made = RunFolder(root=tmp_path / "ada & bo")
    made.root.mkdir()
    rate = {"autoencoder": 1e-4}
    lines = [
        {"images_seen": 10, "losses": {"ada": 0.5, "bo": 0.4}, "learning_rate": rate},
        {"images_seen": 20, "losses": {"ada": 0.3, "bo": 0.2}, "learning_rate": rate},
        {"images_seen": 20, "held out": 0.1, "reconstruction": {"ada": 0.1}, "cycle": {"ada": 0.2}},
        {"images_seen": 20, "event": "the goal of 20 images is reached"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    made.log.write_text(text + '\n{"images_se')
    return made


def render(run: RunFolder, *, is_training: bool) -> str:
    """Return the page of a run."""
    report.write_run_report(run, RECIPE, is_training=is_training)
    return run.report.read_text(encoding="utf-8")


def test_a_page_needs_nothing_else(run: RunFolder) -> None:
    """Curves, events, settings and sheets are inside; no link leads out."""
    image_io.write_png(run.preview_path(20), np.zeros((4, 4, 3), np.uint8))
    html = render(run, is_training=True)
    for text in (
        "ada &amp; bo",
        "reconstruction ada",
        "cycle ada",
        "the goal of 20 images is reached",
        "after 20 images",
        "train.warp_strength",
        "0.25",
        "--set",
        'http-equiv="refresh"',
        "data:image/png;base64,",
    ):
        assert text in html
    assert 'src="http' not in html
    assert "href=" not in html


def test_what_networks_lose_and_its_parts_come_apart(run: RunFolder) -> None:
    """Losses with a person's name have one picture, their small parts another, if there are any."""
    assert "parts of losses" not in render(run, is_training=False)
    losses = {"generator ada": 3.0, "discriminator ada": 0.5, "cycle": 0.01}
    run.log.write_text(json.dumps({"images_seen": 8, "losses": losses}))
    networks, parts = render(run, is_training=False).split("<svg")[1:3]
    assert "parts of losses" in parts
    for name in losses:
        assert (name == "cycle") == (name in parts) != (name in networks)


def test_a_finished_run_does_not_load_itself_again(run: RunFolder) -> None:
    """Only while training goes on."""
    assert "http-equiv" not in render(run, is_training=False)


def test_a_run_without_a_log_has_a_page(tmp_path: Path) -> None:
    """There is nothing to show yet, and that is no error."""
    assert "no values yet" in render(RunFolder(root=tmp_path), is_training=True)


def test_what_was_trained_again_replaces_what_was_lost(tmp_path: Path) -> None:
    """After a kill or a rollback the curve goes on from where training did; events stay."""
    path = tmp_path / "log.jsonl"
    seen = [10, 20, 30, 40, 20, 30, 35]
    lines = [json.dumps({"images_seen": images, "turn": turn}) for turn, images in enumerate(seen)]
    lines.insert(4, json.dumps({"images_seen": 40, "event": "trouble"}))
    path.write_text("\n".join(lines))
    kept = list(report.read_log(path))
    assert [0, 1, 4, 5, 6] == [line["turn"] for line in kept if "turn" in line]
    assert 1 == sum("event" in line for line in kept)


def test_long_curves_are_thinned_by_means() -> None:
    """A million readings become as many points as can be seen, with the same mean."""
    points = [(float(x), float(x % 2)) for x in range(6000)]
    thin = report.downsample_curve(points)
    assert 600 == len(thin)
    assert {0.5} == {y for _, y in thin}
    assert points[:5] == report.downsample_curve(points[:5])


def test_the_newest_sheet_comes_first_and_few_are_shown(run: RunFolder) -> None:
    """Of twenty sheets six are shown: the last, the first, and some between."""
    for images in range(1000, 21000, 1000):
        image_io.write_png(run.preview_path(images), np.zeros((2, 2, 3), np.uint8))
    html = render(run, is_training=False)
    assert report.MAX_PREVIEWS == html.count("<figure>")
    assert html.index("after 20,000 images") < html.index("after 1,000 images")
