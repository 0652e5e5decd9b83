"""How stages report progress without printing: they call a `Reporter`; `Terminal` shows it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

Number = int | float | str


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a task is."""

    task: str
    """What is done, such as `extract a.mp4`."""
    done: float
    """Units that are finished."""
    total: float | None
    """Units in all; None: unknown. A file may state too few."""
    unit: str
    """What is counted: `frames`, `images`, `s`."""
    numbers: Mapping[str, Number] = field(default_factory=dict)
    """Values at this point, such as the loss."""


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


class CallbackReporter(Reporter):
    """Passes progress and notes on to functions.

    Args:
        on_progress: Called when a task begins, and often while it goes on.
        on_note: Called with a line of text.
    """

    def __init__(
        self,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._on_note = on_note
        self._progress = Progress(task="", done=0, total=None, unit="")

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Report the task with nothing done."""
        self._progress = Progress(task=title, done=0, total=total, unit=unit)
        self.update(0)

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Report how far the task is; without `numbers` the last ones stay."""
        numbers = self._progress.numbers if numbers is None else dict(numbers)
        self._progress = replace(self._progress, done=done, numbers=numbers)
        if self._on_progress is not None:
            self._on_progress(self._progress)

    def show_image(self, path: Path, caption: str) -> None:
        """Report an image as a note."""
        self.note(f"{caption}: {path}")

    def note(self, text: str) -> None:
        """Pass a line on."""
        if self._on_note is not None:
            self._on_note(text)

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Report values as a note."""
        listed = ", ".join(f"{name} {value}" for name, value in values.items())
        self.note(f"{title}: {listed}")


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
