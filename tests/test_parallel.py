"""Many inputs at a time: the pools of one machine, and the plans that they work through."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import parallel_tasks
import pytest
from fakes import RecordingReporter

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.parallel import pools
from faceswap_cli.parallel.pools import TaskNeeds, open_pool, parse_ray_address
from faceswap_cli.parallel.processes import MAX_ATTEMPTS, InProcessPool, ProcessPool, visible_gpu
from faceswap_cli.parallel.scheduler import Outcomes, Pool, run_plans
from faceswap_cli.parallel.settings import ParallelSettings
from faceswap_cli.parallel.tasks import Plan, Task, single_task

NEEDS = TaskNeeds(memory_bytes=1.0)


def make_task(run: Callable[..., Any], *values: object, units: float = 0) -> Task[Any]:
    """Return a task that calls a function of `parallel_tasks`."""
    return Task(name="x.mp4", units=units, run=partial(run, *values))


def run_all(
    plans: Mapping[str, Plan[Any]], pool: Pool, *, total: float | None = None
) -> tuple[Outcomes[Any], RecordingReporter]:
    """Work through plans; return how they ended and what was reported."""
    report = RecordingReporter()
    with pool:
        outcomes = run_plans(plans, pool, report=report, title="work", total=total, unit="steps")
    return outcomes, report


@pytest.fixture(params=[InProcessPool, partial(ProcessPool, workers=2)], ids=["in process", "two"])
def pool(request: pytest.FixtureRequest) -> Pool:
    """Return each pool of this machine."""
    made: Pool = request.param()
    return made


def test_results_and_notes_are_the_same_in_every_pool(pool: Pool) -> None:
    """Results are by input in the order of the inputs, notes say which input they are about."""
    plans = {
        str(number): single_task(
            Task(name=f"{number}.mp4", units=10, run=partial(parallel_tasks.square, number))
        )
        for number in range(5)
    }
    outcomes, report = run_all(plans, pool, total=50)
    assert {str(number): number**2 for number in range(5)} == dict(outcomes.results)
    assert list(plans) == list(outcomes.results)
    assert {f"{one}.mp4: the number is {one}" for one in range(5)} == set(report.notes)
    assert report.done == sorted(report.done)
    assert 50 == report.done[-1]


def test_one_that_fails_does_not_stop_the_others(pool: Pool) -> None:
    """Its error is by its input, and noted at once."""
    plans = {
        "bad.mp4": single_task(make_task(parallel_tasks.fail)),
        "good.mp4": single_task(make_task(parallel_tasks.square, 3)),
    }
    outcomes, report = run_all(plans, pool)
    assert {"good.mp4": 9} == dict(outcomes.results)
    error = outcomes.failed["bad.mp4"]
    assert isinstance(error, InputError)
    assert ("it is damaged", "make it anew") == (error.message, error.hint)
    assert "failed: bad.mp4: it is damaged" in report.notes


def test_a_file_removed_meanwhile_is_an_error_of_its_input(pool: Pool, tmp_path: Path) -> None:
    """Named in one line, as it is where there are no tasks."""
    gone = tmp_path / "gone.png"
    task = make_task(parallel_tasks.read_missing, gone)
    outcomes, _ = run_all({"a": single_task(task)}, pool)
    assert isinstance(outcomes.failed["a"], InputError)
    assert f"{gone} is gone" in outcomes.failed["a"].message
    assert outcomes.failed["a"].hint


def test_a_plan_gets_the_results_of_its_tasks_in_order(pool: Pool) -> None:
    """Also of tasks that run at the same time, and before its next ones are submitted."""

    def work() -> Plan[list[int]]:
        first = yield [make_task(parallel_tasks.square, number) for number in (2, 3, 4)]
        second = yield [make_task(parallel_tasks.square, sum(first))]
        return [*first, *second]

    outcomes, _ = run_all({"a": work(), "b": work()}, pool)
    assert {"a": [4, 9, 16, 841], "b": [4, 9, 16, 841]} == dict(outcomes.results)


def test_a_failure_is_raised_in_the_plan_when_none_of_its_tasks_runs(pool: Pool) -> None:
    """So the plan can release what its tasks used."""
    released: list[str] = []

    def work() -> Plan[None]:
        try:
            yield [make_task(parallel_tasks.fail), make_task(parallel_tasks.square, 2)]
        finally:
            released.append("lock")

    outcomes, report = run_all({"a": work()}, pool)
    assert ["a"] == list(outcomes.failed)
    assert ["lock"] == released
    assert "x.mp4: the number is 2" in report.notes


def test_a_bug_fails_one_input_of_many_and_is_raised_in_one_process() -> None:
    """In this process there is a traceback to see; elsewhere the others go on."""
    with pytest.raises(ZeroDivisionError):
        run_all({"a": single_task(make_task(parallel_tasks.crash))}, InProcessPool())
    plans = {
        "a": single_task(make_task(parallel_tasks.crash)),
        "b": single_task(make_task(parallel_tasks.square, 2)),
    }
    outcomes, _ = run_all(plans, ProcessPool(workers=2))
    assert "internal error: ZeroDivisionError: a bug" in outcomes.failed["a"].message
    assert {"b": 4} == dict(outcomes.results)


def test_processes_are_used_again() -> None:
    """Two processes for six tasks: libraries and models are loaded twice, not six times."""
    plans = {str(number): single_task(make_task(parallel_tasks.process_of)) for number in range(6)}
    outcomes, _ = run_all(plans, ProcessPool(workers=2))
    assert {os.getpid()}.isdisjoint(outcomes.results.values())
    assert len(set(outcomes.results.values())) <= 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9")
@pytest.mark.parametrize("times", [1, MAX_ATTEMPTS])
def test_a_task_whose_process_dies_is_tried_again(times: int, tmp_path: Path) -> None:
    """Once is not noticed; what kills every process that tries it fails, and the others go on."""
    plans = {
        "a": single_task(make_task(parallel_tasks.die, tmp_path, times)),
        "b": single_task(make_task(parallel_tasks.square, 2)),
    }
    outcomes, _ = run_all(plans, ProcessPool(workers=2))
    assert 4 == outcomes.results["b"]
    if times < MAX_ATTEMPTS:
        assert times == outcomes.results["a"]
    else:
        assert "x.mp4: the process that worked on it died" in outcomes.failed["a"].message
    assert min(times, MAX_ATTEMPTS) == len(list(tmp_path.iterdir()))


def test_a_signal_stops_all_and_lets_them_save(tmp_path: Path) -> None:
    """SIGTERM to the command: the processes get the time to save, and are gone then."""

    def stop_soon() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_soon)
    thread.start()
    plans = {"a": single_task(make_task(parallel_tasks.work_until_stopped, tmp_path))}
    with pytest.raises(KeyboardInterrupt):
        run_all(plans, ProcessPool(workers=2))
    thread.join()
    assert (tmp_path / "saved").exists()


def test_the_number_of_processes_is_by_cores_memory_and_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two cores each, half of the free memory, and one process for each GPU that is used."""
    monkeypatch.setattr(pools, "count_cores", lambda: 16)
    monkeypatch.setattr(pools, "available_memory_bytes", lambda: 64.0)
    sizes = [
        pools.default_worker_count(TaskNeeds(memory_bytes=memory, gpus=gpus))
        for memory, gpus in ((1, 0), (8, 0), (1, 4), (16, 4), (100, 0))
    ]
    assert [8, 4, 4, 2, 1] == sizes
    monkeypatch.setattr(pools, "available_memory_bytes", lambda: float("inf"))
    assert 8 == pools.default_worker_count(TaskNeeds(memory_bytes=1))


def test_a_single_process_is_this_one() -> None:
    """No other is started for one input, however many could be."""
    assert isinstance(open_pool(ParallelSettings(workers=8), NEEDS, max_tasks=1), InProcessPool)
    assert isinstance(open_pool(ParallelSettings(workers=1), NEEDS, max_tasks=9), InProcessPool)
    many = open_pool(ParallelSettings(workers=8), NEEDS, max_tasks=3)
    assert isinstance(many, ProcessPool)
    assert 3 == many.workers


def test_each_process_has_a_gpu_of_those_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turn; a choice that was made outside is respected."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert ["0", "1", "0"] == [visible_gpu(worker, 2) for worker in range(3)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a")
    assert ["3", "GPU-a", "3"] == [visible_gpu(worker, 2) for worker in range(3)]


def test_free_memory_is_in_bytes() -> None:
    """Not in pages or kilobytes: more than 16 MiB."""
    assert pools.available_memory_bytes() > 16 * 2**20


def test_the_address_of_a_cluster() -> None:
    """`ray` is the cluster of this machine, `ray:ADDRESS` another; nothing else is a cluster."""
    assert parse_ray_address("ray") is None
    assert "10.0.0.1:6379" == parse_ray_address("ray:10.0.0.1:6379")
    assert "ray://head:10001" == parse_ray_address("ray:ray://head:10001")
    for wrong in ("slurm", "ray:", "rays", ""):
        with pytest.raises(ConfigurationError, match="is not a cluster"):
            parse_ray_address(wrong)


def test_plans_are_closed_when_the_work_is_interrupted() -> None:
    """What they hold, such as the lock of an output, is released."""
    released: list[str] = []

    def work() -> Plan[None]:
        try:
            yield [make_task(parallel_tasks.crash)]
        finally:
            released.append("lock")

    with pytest.raises(ZeroDivisionError):
        run_all({"a": work()}, InProcessPool())
    assert ["lock"] == released


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the extra of the package is not installed."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="not installed") as caught:
        open_pool(ParallelSettings(on="ray"), NEEDS, max_tasks=2)
    assert "faceswap-cli[cluster]" in caught.value.hint
