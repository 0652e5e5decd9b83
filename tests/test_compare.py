"""`faceswap compare`: differences, metrics and the page."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.fileio import DamagedFileError, append_json, write_text
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.compare import (
    CompareSummary,
    RunInfo,
    compare,
    find_differences,
    metric_rows,
)
from faceswap_cli.stages.train import StopCriterion, TrainJob, train

MakeSet = Callable[..., FaceSet]


def train_run(space: Workspace, sets: list[FaceSet], name: str, *changes: str) -> None:
    """Train a run for 64 images."""
    recipe = config.resolve("autoencoder", "debug", changes)
    train(
        TrainJob(
            sets=sets,
            recipe=recipe,
            run=space.run_folder(name),
            stop_criterion=StopCriterion(max_images=64),
            device="cpu",
            seed=0,
        ),
        report=Reporter(),
    )


@pytest.fixture
def two_runs(make_set: MakeSet, tmp_path: Path) -> Workspace:
    """Return a workspace with two runs that differ in one setting, and their sets."""
    space = Workspace.open(tmp_path)
    sets = [make_set("a", hue=0), make_set("b", hue=1)]
    for faces in sets:
        lines = [record.to_json() + "\n" for record in faces.records]
        space.set_folder(faces.name).records.write_text("".join(lines))
    train_run(space, sets, "slow")
    train_run(space, sets, "quick", "train.learning_rate=0.004")
    return space


@pytest.mark.slow
def test_page_has_differences_curves_and_swaps(two_runs: Workspace) -> None:
    """Without the sets, it has differences and curves alone."""

    def run_compare() -> tuple[CompareSummary, str]:
        summary = compare(["slow", "quick"], workspace=two_runs, device="cpu", report=Reporter())
        return summary, summary.page.read_text()

    summary, html = run_compare()
    assert ["train.learning_rate"] == list(summary.differences)
    assert "0.004" == summary.differences["train.learning_rate"][1]
    assert "validation error, last" in html
    assert 'class="chart"' in html
    # A grid for each direction, though no face is detected in blots of color.
    assert 2 == html.count("data:image/jpeg")
    assert "a as b" in html
    assert "b as a" in html
    two_runs.set_folder("a").records.unlink()
    summary, html = run_compare()
    assert {} == summary.evaluations
    assert 0 == html.count("data:image/jpeg")
    assert 'class="chart"' in html

    # A second comparison of the same runs at a time is refused.
    with (
        output_lock(two_runs.runs_page(*two_runs.run_names())),
        pytest.raises(InputError, match=r"\.html is being written by process"),
    ):
        compare(two_runs.run_names(), workspace=two_runs, device="cpu", report=Reporter())


def test_damaged_files_are_said(tmp_path: Path) -> None:
    """A recipe is an error with its name; of a log the lines that are left out are said."""
    run = Workspace.open(tmp_path).run_folder("run")
    write_text(run.recipe, config.resolve("autoencoder", "debug").to_toml())
    append_json(run.log, {"images_seen": 10, "val_error": 0.5})
    run.log.write_text(run.log.read_text().replace("0.5", "0.4"))
    assert ["damaged"] == [line["event"] for line in RunInfo.load(run).lines]
    run.recipe.write_text(run.recipe.read_text().replace("debug", "delug"))
    with pytest.raises(DamagedFileError, match=r"recipe\.toml is damaged"):
        RunInfo.load(run)


def test_setting_that_a_run_lacks_differs() -> None:
    """Backends have settings of their own."""
    differences = find_differences(
        [{"backend": "x", "one": "1"}, {"backend": "y", "two": "2", "same": "3"}]
    )
    assert {
        "backend": ["x", "y"],
        "one": ["1", "-"],
        "two": ["-", "2"],
        "same": ["-", "3"],
    } == differences
    assert {} == find_differences([{"one": "1"}, {"one": "1"}])


def test_differences_are_better_or_worse_by_the_metric() -> None:
    """More PSNR is better, more pose error is worse, sharpness is best near one."""
    rows = metric_rows(
        {"psnr": [20.0, 22.0], "pose": [5.0, 6.0], "sharpness": [2.0, 0.9], "lpips": [None, None]}
    )
    cells = {row[0].partition(",")[0]: row[2] for row in rows}
    assert cells["PSNR in the face"].endswith("(+2, better)")
    assert cells["pose error"].endswith("(+1, worse)")
    assert cells["sharpness"].endswith("(-1.100, better)")
    assert 3 == len(rows)


def test_comparison_needs_two_runs(tmp_path: Path) -> None:
    """The same run twice is refused; an unknown one is named."""
    space = Workspace.open(tmp_path)
    with pytest.raises(ConfigurationError, match="two different runs"):
        compare(["slow", "slow"], workspace=space, device="cpu", report=Reporter())
    with pytest.raises(ConfigurationError, match='"slo"'):
        compare(["slo", "quick"], workspace=space, device="cpu", report=Reporter())
