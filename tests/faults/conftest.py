"""Fixtures of the faults: the inputs and the uninterrupted results.

`pytest tests/faults --long` tries the long lists; `--figures FILE` writes how many faults of each
kind were tried and survived, which docs/reference/reliability.md is made of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from faults.injection import RunOnly, run_in_process
from faults.workloads import Inputs, find_workload

SHORT = 2
"""Cases of a long list that the ordinary suite tries."""


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A workload that nothing happened to."""

    result: Mapping[str, str]
    operations: int
    """File operations that it took."""
    seconds: float


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test with a `seed` the seeds of its list."""
    if "seed" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("seeds")
        assert mark is not None
        count = mark.args[0] if metafunc.config.getoption("--long") else SHORT
        metafunc.parametrize("seed", range(count))


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """What the user has; it is still there, unchanged, after all faults."""
    made = Inputs(root=tmp_path_factory.mktemp("inputs"))
    made.make()
    before = made.digests()
    yield made
    assert before == made.digests()


@pytest.fixture(scope="session")
def undisturbed(
    inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Undisturbed]:
    """The uninterrupted workloads, by name; as they are asked for."""
    return _Undisturbed(inputs, tmp_path_factory.mktemp("undisturbed"))


class _Undisturbed(dict[str, Undisturbed]):
    """Runs a workload when it is first asked for."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self._inputs, self._folder = inputs, folder

    def __missing__(self, name: str) -> Undisturbed:
        """Run a workload and keep its result."""
        report, folder = self._folder / f"{name}.txt", self._folder / name
        ended = run_in_process(name, self._inputs, folder, fault=RunOnly(report=report))
        assert 0 == ended.exit_code
        self[name] = Undisturbed(
            result=find_workload(name).read_result(folder),
            operations=int(report.read_text()),
            seconds=ended.seconds,
        )
        return self[name]
