"""The page of a run: curves from its log, its previews in order, no outside links."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_checkpoint import make_trainer, save_trained_weights

from faceswap_cli.core import config, image_io
from faceswap_cli.core.fileio import append_json
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training import report

RECIPE = config.resolve("autoencoder", "debug", ["train.warp_strength=0.25"])


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run whose log, of format 1, has two readings, an event and a torn line."""
    run = RunFolder(root=tmp_path / "ada & bo")
    run.root.mkdir()
    rate = {"autoencoder": 1e-4}
    lines = [
        {"images_seen": 10, "losses": {"ada": 0.5, "bo": 0.4}, "learning_rate": rate},
        {"images_seen": 20, "losses": {"ada": 0.3, "bo": 0.2}, "learning_rate": rate},
        {"images_seen": 20, "held out": 0.1, "reconstruction": {"ada": 0.1, "bo": 0.1}},
        {"images_seen": 20, "cycle": {"ada": 0.2, "bo": 0.2}},
        {"images_seen": 20, "event": "the goal of 20 images is reached"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    run.log.write_text(text + '\n{"images_se')
    return run


def render(run: RunFolder, *, is_training: bool) -> str:
    """Return the page of a run."""
    report.write_run_report(run, RECIPE, is_training=is_training)
    return run.report.read_text(encoding="utf-8")


def test_page_is_self_contained(run: RunFolder) -> None:
    """Curves, events, settings and previews are inside; no link leads out."""
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


@pytest.mark.parametrize("separator", ["_", " "])
def test_losses_and_their_terms_have_separate_charts(run: RunFolder, separator: str) -> None:
    """Losses of whole networks are in one chart, their small terms in another, if there are any."""
    assert "terms of losses" not in render(run, is_training=False)
    losses = {f"generator{separator}ada": 3.0, f"discriminator{separator}ada": 0.5, "cycle": 0.01}
    run.log.write_text(json.dumps({"images_seen": 8, "losses": losses}))
    networks, terms = render(run, is_training=False).split('class="chart"')[1:3]
    assert "terms of losses" in terms
    for name in ("generator_ada", "discriminator_ada", "cycle"):
        assert (name == "cycle") == (name in terms) != (name in networks)


def test_losses_of_old_logs_continue_under_their_names_now(tmp_path: Path) -> None:
    """Losses were named by identity alone, and by words with spaces."""
    path = tmp_path / "log.jsonl"
    lines = [
        {"losses": {"ada": 0.5, "critics": 0.1}},
        {"val_reconstruction": {"ada": 0.1}},
        {"losses": {"recon_ada": 0.4, "discriminator": 0.2}},
        {"losses": {"generator ada": 3.0, "ada": 0.1}},
    ]
    path.write_text("\n".join(json.dumps({"images_seen": 8, **line}) for line in lines))
    losses = [line["losses"] for line in report.read_log(path) if "losses" in line]
    assert [
        {"recon_ada": 0.5, "discriminator": 0.1},
        {"recon_ada": 0.4, "discriminator": 0.2},
        {"generator_ada": 3.0, "ada": 0.1},
    ] == losses


def test_the_page_is_written_with_the_first_status_and_in_a_small_part_of_the_time(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing that takes 0.1 s is repeated after 5 s at the soonest; the log grows meanwhile."""
    now = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    written = []

    def write(*_: object, is_training: bool) -> None:
        written.append((round(now[0], 1), is_training))
        now[0] += 0.1

    monkeypatch.setattr(report, "write_run_report", write)
    page = report.LiveReport(run, RECIPE)
    for _ in range(12):
        page.update()
        now[0] += 1.0
    (first, is_live), (second, _), *_ = written
    assert (100.0, True) == (first, is_live)
    assert second - first > 0.1 / report.MAX_TIME_SHARE - 1e-6
    assert 0.1 * len(written) <= report.MAX_TIME_SHARE * 12 + 0.1


def test_page_of_a_finished_run_does_not_reload(run: RunFolder) -> None:
    """The page reloads itself only during training."""
    assert 'http-equiv="refresh"' not in render(run, is_training=False)


def test_run_without_a_log_has_a_page(tmp_path: Path) -> None:
    """The page says that there are no values yet."""
    assert "no values yet" in render(RunFolder(root=tmp_path), is_training=True)


def test_positions_trained_again_replace_the_earlier_ones(tmp_path: Path) -> None:
    """After a kill or a rollback the curve continues from where training did; events stay."""
    path = tmp_path / "log.jsonl"
    positions = [10, 20, 30, 40, 20, 30, 35]
    lines = [
        json.dumps({"images_seen": images, "number": number})
        for number, images in enumerate(positions)
    ]
    lines.insert(4, json.dumps({"images_seen": 40, "event": "failure"}))
    path.write_text("\n".join(lines))
    entries = list(report.read_log(path))
    assert [0, 1, 4, 5, 6] == [line["number"] for line in entries if "number" in line]
    assert 1 == sum("event" in line for line in entries)


def test_long_curves_are_downsampled_by_means() -> None:
    """A million readings become as many points as are visible, with the same mean."""
    points = [(float(x), float(x % 2)) for x in range(6000)]
    curve = report.downsample_curve(points)
    assert 600 == len(curve)
    assert {0.5} == {y for _, y in curve}
    assert points[:5] == report.downsample_curve(points[:5])


def test_newest_preview_comes_first_and_only_some_are_included(run: RunFolder) -> None:
    """Of twenty previews the page has six: the last, the first, and some between."""
    for images in range(1000, 21000, 1000):
        image_io.write_png(run.preview_path(images), np.zeros((2, 2, 3), np.uint8))
    html = render(run, is_training=False)
    assert report.MAX_PREVIEWS == html.count('<figure class="picture">')
    assert html.index("after 20,000 images") < html.index("after 1,000 images")


def test_lines_that_are_damaged_or_missing_are_said(tmp_path: Path) -> None:
    """In the last event of the page."""
    run = RunFolder(root=tmp_path / "run")
    append_json(run.log, {"images_seen": 10, "val_error": 0.5})
    save_trained_weights(run.weights, make_trainer(0), images_seen=10)
    assert [10] == [line["images_seen"] for line in report.read_run_log(run)]
    save_trained_weights(run.weights, make_trainer(0), images_seen=1000)
    assert "ends after 10 of 1,000 images" in report.read_run_log(run)[-1]["message"]
    run.log.write_text(run.log.read_text().replace("0.5", "0.4"))
    assert "1 line of log.jsonl" in report.read_run_log(run)[0]["message"]
