"""Killed, stopped or without power at any moment, the same command ends with the same result."""

import random
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

import pytest
from faults.conftest import Undisturbed
from faults.injection import (
    KillAtOperation,
    Loss,
    PowerCut,
    replace_folder,
    run_in_process,
)
from faults.workloads import WORKLOADS, Inputs

MAX_KILLS = 2
"""Kills before a workload may finish."""

pytestmark = [
    pytest.mark.slow,  # together: each waits for processes that end and begin again
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9"),
    pytest.mark.parametrize("name", WORKLOADS),
]
Results = Mapping[str, Undisturbed]


@pytest.mark.fault("kill -9 of {name}")
@pytest.mark.seeds(100)
def test_kill(name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path) -> None:
    """Once or twice, by the clock or just before a file operation.

    After each kill what has its final name is whole; in the end the result is the uninterrupted
    one: the same set, weights, frames.
    """
    workload, rng, folder = WORKLOADS[name], random.Random(f"{name} {seed}"), tmp_path / "work"
    expected = undisturbed[name]
    for _ in range(rng.randint(1, MAX_KILLS)):
        if rng.random() < 0.5:
            moment = rng.uniform(0, expected.seconds)
            ended = run_in_process(name, inputs, folder, kill_after_s=moment)
        else:
            at = rng.randint(1, expected.operations)
            fault = KillAtOperation(report=tmp_path / "operations", at=at)
            ended = run_in_process(name, inputs, folder, fault=fault)
        if ended.exit_code == 0:  # it had less left to do
            break
        assert -signal.SIGKILL == ended.exit_code
        workload.check_files(folder)
    _check_resume(name, inputs, folder, expected)


@pytest.mark.fault("power cut during {name}")
@pytest.mark.seeds(30)
def test_power_cut(
    name: str, seed: int, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """What was not flushed to the disk is lost, in three ways, and the rest is enough to resume.

    Not a real cut: the system's calls are watched, and the disk is written as a file system may
    leave it that keeps only what it promised to keep.
    """
    workload, rng, folder = WORKLOADS[name], random.Random(f"{name} {seed}"), tmp_path / "work"
    expected = undisturbed[name]
    cut = PowerCut(
        report=tmp_path / "operations",
        at=rng.randint(1, 9 * expected.operations // 10),  # their number varies a little
        disk=tmp_path / "disk",
        loss=get_args(Loss)[seed % 3],
        seed=seed,
    )
    ended = run_in_process(name, inputs, folder, fault=cut)
    assert -signal.SIGKILL == ended.exit_code
    replace_folder(folder, tmp_path / "disk")
    workload.check_files(folder)
    _check_resume(name, inputs, folder, expected)


@pytest.mark.fault("{number} to {name}")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signal(
    name: str, number: str, inputs: Inputs, undisturbed: Results, tmp_path: Path
) -> None:
    """The current unit is finished and saved, with the exit code of an interruption."""
    folder, expected = tmp_path / "work", undisturbed[name]
    ended = run_in_process(
        name,
        inputs,
        folder,
        kill_after_s=0.5 * expected.seconds,
        signal_number=getattr(signal, number),
    )
    assert ended.exit_code in (0, 130)
    WORKLOADS[name].check_files(folder)
    _check_resume(name, inputs, folder, expected)


def _check_resume(name: str, inputs: Inputs, folder: Path, expected: Undisturbed) -> None:
    """Resume a workload and check that it ends as if nothing had happened."""
    assert 0 == run_in_process(name, inputs, folder).exit_code
    result = WORKLOADS[name].read_result(folder)
    assert expected.result == result
    hidden = [path for path in folder.rglob(".*") if path.name != ".faceswap-finished.jsonl"]
    assert [] == hidden, "temporary files are left"
