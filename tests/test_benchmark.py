"""`faceswap benchmark`: one table, and no row is computed twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.lock import folder_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.evaluation.trials import TRIALS
from faceswap_cli.stages import benchmark as stage
from faceswap_cli.stages.benchmark import (
    BenchmarkRow,
    BenchmarkSize,
    StopCriterion,
    benchmark,
    make_run_name,
)

RECIPE = config.resolve("autoencoder", "debug", [])


def test_run_name_depends_on_settings_limit_and_seed() -> None:
    """Other settings, another limit or another seed are another row."""
    names = {
        make_run_name(RECIPE, StopCriterion(max_images=640), 0),
        make_run_name(RECIPE, StopCriterion(max_images=650), 0),
        make_run_name(RECIPE, StopCriterion(max_minutes=2.0), 0),
        make_run_name(RECIPE, StopCriterion(max_images=640), 1),
        make_run_name(config.resolve("autoencoder", "light", []), StopCriterion(max_images=640), 0),
        make_run_name(
            config.resolve("autoencoder", "debug", ["train.learning_rate=0.1"]),
            StopCriterion(max_images=640),
            0,
        ),
    }
    assert 6 == len(names)
    assert "autoencoder-debug-640-images" in names


def test_one_person_is_refused(tmp_path: Path) -> None:
    """The error comes before anything is rendered."""
    with pytest.raises(ConfigurationError, match="two people"):
        benchmark(
            tmp_path,
            recipe=RECIPE,
            stop_criterion=StopCriterion(max_images=64),
            num_identities=1,
            device="cpu",
            seed=0,
            report=Reporter(),
        )
    assert [] == list(tmp_path.iterdir())


def test_a_folder_is_written_by_one_benchmark_at_a_time(tmp_path: Path) -> None:
    """A second benchmark of the same clips is refused before anything is rendered."""
    folder = tmp_path / BenchmarkSize().folder_name(2)
    with folder_lock(folder):
        before = list(folder.iterdir())
        with pytest.raises(InputError, match="is being written by process"):
            benchmark(
                tmp_path,
                recipe=RECIPE,
                stop_criterion=StopCriterion(max_images=64),
                device="cpu",
                seed=0,
                report=Reporter(),
            )
        assert before == list(folder.iterdir())


def test_rows_with_old_keys_are_read() -> None:
    """Results of earlier versions stay in the table."""
    row = BenchmarkRow.from_dict(
        {
            "name": "old",
            "psnr": 20.0,
            "ssim": 0.7,
            "trials": {},
            "metrics": {"margin_dlib": 0.04, "pose": 2.0},
            "settings": {"images": 64, "processor_minutes": 0.5},
        }
    )
    assert {"identity_margin_dlib": 0.04, "pose": 2.0} == row.metrics
    assert {"images": 64, "cpu_minutes": 0.5} == row.settings


@pytest.mark.slow
def test_bounds_and_swap_are_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper bound is above all other rows; a second run computes none of them again."""
    size = BenchmarkSize(side_px=160, seconds=0.9, frames=2)

    def run() -> stage.BenchmarkSummary:
        return benchmark(
            tmp_path,
            recipe=RECIPE,
            stop_criterion=StopCriterion(max_images=64),
            device="cpu",
            seed=0,
            report=Reporter(),
            size=size,
        )

    first = run()
    names = [row.name for row in first.rows]
    assert [*stage.BASELINES, "autoencoder-debug-64-images", "true swap at 32 px"] == names
    upper_bound = first.rows[-1]
    assert all(upper_bound.psnr > row.psnr + 1 for row in first.rows[:-1])
    assert all(list(TRIALS) == list(row.trials) for row in first.rows)
    shown = {"lpips", *stage.TABLE_METRICS, *stage.EYES_MOUTH_METRICS}
    assert all(shown == row.metrics.keys() for row in first.rows)
    assert 64 == first.rows[3].settings["images"]
    html = first.page.read_text()
    assert 2 * len(names) == html.count("data:image/png")
    stored = json.loads((first.page.parent / "results.json").read_text())
    assert names == [BenchmarkRow.from_dict(row).name for row in stored["rows"]][:3] + names[3:]

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(stage, "evaluate_frames", fail)
    monkeypatch.setattr(stage, "train", fail)
    assert first == replace(run(), page=first.page)
