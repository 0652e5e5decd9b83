"""A training of 2,000 steps with a fault in about every hundred ends like one without any."""

import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import pytest
from fault_figures import FaultCount
from faults.conftest import Undisturbed
from faults.environments import LibraryFails
from faults.injection import (
    Fault,
    KillAtOperation,
    Loss,
    PowerCut,
    StopAtOperation,
    replace_folder,
    run_in_process,
)
from faults.workloads import SOAK, SOAK_STEPS, Inputs

STEPS_PER_FAULT = 100
"""Steps from a start to a fault, on average."""
SEED = 20
MIN_FAULTS = 10
"""Of which fewer would be a strange chance."""


@pytest.mark.long
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9")
@pytest.mark.fault("one of many faults in a training of 2,000 steps")
def test_soak(
    inputs: Inputs,
    undisturbed: Mapping[str, Undisturbed],
    tmp_path: Path,
    fault_count: FaultCount,
) -> None:
    """After each fault all files are whole, and at most two save intervals are lost."""
    expected, rng, folder = undisturbed[SOAK.name], random.Random(SEED), tmp_path / "work"
    per_fault = expected.operations * STEPS_PER_FAULT // SOAK_STEPS
    makes: list[Callable[[int], Fault]] = [
        lambda at: KillAtOperation(report=tmp_path / "report", at=at),
        lambda at: StopAtOperation(report=tmp_path / "report", at=at),
        lambda at: PowerCut(
            report=tmp_path / "report",
            at=at,
            disk=tmp_path / "disk",
            loss=rng.choice(get_args(Loss)),
            seed=at,
        ),
        lambda at: LibraryFails(
            report=tmp_path / "report", at=at * STEPS_PER_FAULT // per_fault + 1
        ),
    ]
    while True:
        fault = rng.choice(makes)(rng.randint(1, 2 * per_fault))
        ended = run_in_process(SOAK.name, inputs, folder, fault=fault)
        if isinstance(fault, PowerCut) and fault.disk.exists():
            replace_folder(folder, fault.disk)
        if ended.exit_code == 0:
            break
        with fault_count.one():
            SOAK.check_files(folder)
    assert fault_count.numbers[0] >= MIN_FAULTS
    assert expected.result == SOAK.read_result(folder)
    assert not list(folder.rglob(".*.safetensors")), "temporary files are left"
