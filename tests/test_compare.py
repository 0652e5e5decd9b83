"""Laws of laying runs beside each other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.stages.compare import CompareSummary, compare, find_differences, metric_rows
from faceswap_cli.stages.train import StopCriterion, TrainJob, train

MakeSet = Callable[..., FaceSet]


def train_run(space: Workspace, sets: list[FaceSet], name: str, *changes: str) -> None:
    """Train a run for a moment."""
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
def two(make_set: MakeSet, tmp_path: Path) -> Workspace:
    """A workspace with two runs that differ in one setting, and the sets they learnt from."""
    space = Workspace.open(tmp_path)
    sets = [make_set("a", hue=0), make_set("b", hue=1)]
    for faces in sets:
        lines = [record.to_json() + "\n" for record in faces.records]
        space.set_folder(faces.name).records.write_text("".join(lines))
    train_run(space, sets, "slow")
    train_run(space, sets, "quick", "train.learning_rate=0.004")
    return space


@pytest.mark.slow
def test_runs_stand_beside_each_other_on_one_page(two: Workspace) -> None:
    """What differs, curves, and the same faces as each swaps them; less if the sets are gone."""

    def compared() -> tuple[CompareSummary, str]:
        found = compare(["slow", "quick"], workspace=two, device="cpu", report=Reporter())
        return found, found.page.read_text()

    summary, html = compared()
    assert ["train.learning_rate"] == list(summary.differences)
    assert "0.004" == summary.differences["train.learning_rate"][1]
    assert "held-out error, last" in html
    assert "<svg" in html
    # A picture for each direction, though no judge finds a face in blots of colour.
    assert 2 == html.count("data:image/jpeg")
    assert "a as b" in html
    assert "b as a" in html
    two.set_folder("a").records.unlink()
    summary, html = compared()
    assert {} == summary.evaluations
    assert 0 == html.count("data:image/jpeg")
    assert "<svg" in html


def test_a_setting_that_a_run_lacks_differs() -> None:
    """Backends have settings of their own."""
    found = find_differences(
        [{"backend": "x", "one": "1"}, {"backend": "y", "two": "2", "same": "3"}]
    )
    assert {
        "backend": ["x", "y"],
        "one": ["1", "-"],
        "two": ["-", "2"],
        "same": ["-", "3"],
    } == found
    assert {} == find_differences([{"one": "1"}, {"one": "1"}])


def test_a_delta_says_which_is_better_by_the_metric() -> None:
    """More PSNR is better, more pose error is worse, sharpness is best near one."""
    rows = metric_rows(
        {"psnr": [20.0, 22.0], "pose": [5.0, 6.0], "sharpness": [2.0, 0.9], "lpips": [None, None]}
    )
    told = {row[0].partition(",")[0]: row[2] for row in rows}
    assert told["PSNR in the face"].endswith("(+2, better)")
    assert told["pose error"].endswith("(+1, worse)")
    assert told["sharpness"].endswith("(-1.100, better)")
    assert 3 == len(rows)


def test_a_comparison_needs_two_runs(tmp_path: Path) -> None:
    """The same one twice is no comparison; an unknown one is named."""
    space = Workspace.open(tmp_path)
    with pytest.raises(ConfigurationError, match="two different runs"):
        compare(["slow", "slow"], workspace=space, device="cpu", report=Reporter())
    with pytest.raises(ConfigurationError, match='"slo"'):
        compare(["slo", "quick"], workspace=space, device="cpu", report=Reporter())
