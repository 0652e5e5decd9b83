"""How stages report progress without printing: they call a `Reporter`; `Terminal` shows it."""

from collections.abc import Mapping
from pathlib import Path

Number = int | float | str


class Reporter:
    """Receives the progress of one task at a time. This one shows nothing; others override it."""

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Begin a task of `total` units (None: unknown), ending the one before."""

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Report that `done` units are finished in all; `numbers` are shown beside the bar."""

    def show_image(self, path: Path, caption: str) -> None:
        """Report that an image was written that the user may want to look at."""

    def note(self, text: str) -> None:
        """Report one line that should stay on the screen."""

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Report values by name that should stay on the screen."""


class PartReporter(Reporter):
    """Shows the tasks of several parts, such as the clips of one command, as one task.

    Args:
        report: Shows it.
        title: Of the one task.
        total: Units of all parts and their tasks; None: unknown.
        unit: What is counted.
    """

    def __init__(self, report: Reporter, *, title: str, total: float | None, unit: str) -> None:
        self._report = report
        self._part = ""
        self._start = self._done = 0.0
        report.start_task(title, total=total, unit=unit)

    def start_part(self, name: str, *, start: float) -> None:
        """Begin a part; those before it, done or left out, make up `start` units."""
        self._part = name
        self._start = self._done = start

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Begin the next task of the part, where the one before it ended."""
        del title, total, unit
        self._start = self._done
        self.update(0)

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Report the units of the part's present task as those of the whole."""
        self._done = self._start + done
        self._report.update(self._done, {"input": self._part, **(numbers or {})})

    def show_image(self, path: Path, caption: str) -> None:
        """Pass the image on."""
        self._report.show_image(path, caption)

    def note(self, text: str) -> None:
        """Pass the line on, with the part's name if it does not name it."""
        self._report.note(text if self._part in text else f"{self._part}: {text}")

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Pass the values on."""
        self._report.show_values(title, values)
