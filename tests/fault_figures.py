"""Counts faults that were tried and survived, for docs/reference/reliability.md.

A test counts if it has the mark `fault`, with the kind of fault. It is one fault, or as many as it
counts itself with the fixture `fault_count`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class FaultCount:
    """How many faults one test tried and survived."""

    def __init__(self) -> None:
        self.numbers = [0, 0]
        """Tried and survived: plain numbers, which a report can carry between processes."""

    def add(self, *, survived: bool) -> None:
        """Count a fault."""
        self.numbers[0] += 1
        self.numbers[1] += survived

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a fault, which is survived if the block raises nothing."""
        survived = False
        try:
            yield
            survived = True
        finally:
            self.add(survived=survived)


class Figures:
    """Plugin that writes the counts of each kind to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[str, dict[str, int]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one test; its set-up only if that failed."""
        properties = dict(report.user_properties)
        kind = properties.get("fault")
        if kind is None or report.skipped or (report.when != "call" and report.passed):
            return
        tried, survived = properties.get("fault_count", (0, 0))  # type: ignore[misc]
        if not tried:
            tried, survived = 1, int(report.passed)
        total = self._counts.setdefault(str(kind), {"tried": 0, "survived": 0})
        total["tried"] += tried
        total["survived"] += survived
        self._write()

    def _write(self) -> None:
        """Write the counts beside those of earlier sessions, which they replace kind by kind."""
        known = json.loads(self._path.read_text()) if self._path.exists() else {}
        text = json.dumps(known | self._counts, indent=1, ensure_ascii=False, sort_keys=True)
        self._path.write_text(text + "\n")


def note_kind(item: pytest.Item) -> None:
    """Keep the kind of fault of a test with its outcome."""
    if mark := item.get_closest_marker("fault"):
        values = getattr(item, "callspec").params if hasattr(item, "callspec") else {}  # noqa: B009
        item.user_properties.append(("fault", mark.args[0].format(**values)))
