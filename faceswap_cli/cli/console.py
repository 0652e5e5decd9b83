"""How it looks: progress, results and errors on the terminal. The only file that imports rich."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from faceswap_cli.errors import FaceswapError, InputError
from faceswap_cli.report import Number

NUMBER = re.compile(r"[-+]?\d|n/a$|$")
"""How a table's cell begins that stands under the others to the right."""


class Terminal:
    """A Reporter that draws on stderr; results go to stdout, as a table or as JSON.

    Args:
        quiet: Show errors and results only.
        as_json: Print results as one JSON object.
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self._quiet = quiet
        self._as_json = as_json
        self._errors = Console(stderr=True, highlight=False)
        self._results = Console(highlight=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finish()

    def stage(self, title: str, *, total: float | None, unit: str) -> None:
        """Begin a bar."""
        self._finish()
        if self._quiet:
            return
        if not self._errors.is_terminal:
            # A log file wants one line a stage, not a thousand redrawn bars.
            self._errors.print(escape(title))
            return
        self._progress = Progress(*_columns(total, unit), console=self._errors)
        self._task = self._progress.add_task(escape(title), total=total, numbers="")
        self._progress.start()

    def advance(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Move the bar."""
        if self._progress is None:
            return
        total = self._progress.tasks[0].total
        if total is not None and done > total:  # the count that a container states may be too low
            self._progress.update(self._task, total=done)
        if numbers is None:
            self._progress.update(self._task, completed=done)
        else:
            shown = "  ".join(f"{name} {_short(value)}" for name, value in numbers.items())
            self._progress.update(self._task, completed=done, numbers=escape(shown))

    def picture(self, path: Path, caption: str) -> None:
        """Say where a picture is."""
        self.note(f"{caption}: {path}")

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        if not self._quiet:
            self._errors.print(escape(text), soft_wrap=True)

    def facts(self, title: str, facts: Mapping[str, str]) -> None:
        """Print a table of two columns above the bar."""
        if not self._quiet:
            self._errors.print(_two_columns(title, facts), soft_wrap=True)

    def result(self, title: str, numbers: Mapping[str, object]) -> None:
        """Print what a command came to: a table of two columns, or one JSON object."""
        self._finish()
        with _written():
            if self._as_json:
                print(json.dumps(dict(numbers), default=str), flush=True)  # noqa: T201
            elif not self._quiet:
                self._results.print(_two_columns(title, numbers), soft_wrap=True)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table with headings; nothing with `--json` or `--quiet`."""
        self._finish()
        if self._as_json or self._quiet:
            return
        table = Table(title=escape(title), title_justify="left")
        for index, column in enumerate(columns):
            counts = index > 0 and all(NUMBER.match(row[index]) for row in rows)
            justify: Literal["left", "right"] = "right" if counts else "left"
            table.add_column(escape(column), justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        with _written():
            self._results.print(table)

    def advice(self, lines: list[str]) -> None:
        """Print what to type next, ready to be copied."""
        if self._as_json or self._quiet:
            return
        with _written():
            for line in lines:
                self._results.print(escape(line), soft_wrap=True)

    def error(self, error: FaceswapError) -> None:
        """Print what happened, and what to type about it."""
        self._finish()
        self._errors.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
        if error.hint:
            self._errors.print(f"  [bold]try:[/] {escape(error.hint)}", soft_wrap=True)

    def interrupted(self) -> None:
        """Say that stopping was heard, and how to go on."""
        self._finish()
        self._errors.print("stopped; finished work is kept: run the same command again to go on")

    def _finish(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


@contextmanager
def _written() -> Iterator[None]:
    """Explain why a result could not be written; a reader that has gone needs no word of it.

    Raises:
        InputError: The disk that the output is sent to is full, or the like.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"the result could not be written: {(error.strerror or str(error)).lower()}",
            hint="the work itself is done; send the output somewhere else",
        ) from error


def _two_columns(title: str, values: Mapping[str, object]) -> Table:
    """Return names and values as a table."""
    table = Table(title=escape(title), show_header=False, title_justify="left", box=None)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(escape(name.replace("_", " ")), escape(_shown(value)))
    return table


def _columns(total: float | None, unit: str) -> list[ProgressColumn]:
    """Return the columns of a bar; without a total there is neither bar nor time left."""
    numbers = TextColumn("{task.fields[numbers]}")
    title = TextColumn("{task.description}")
    if total is None:
        counted = TextColumn(f"{{task.completed:,.0f}} {unit}")
        return [SpinnerColumn(), title, counted, numbers, TimeElapsedColumn()]
    if unit == "s":
        # Work that ends by the clock: the time left says it all.
        return [title, BarColumn(bar_width=24), numbers, TimeRemainingColumn()]
    return [
        title,
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        numbers,
        TimeRemainingColumn(),
    ]


def _short(value: Number) -> str:
    """Return a number with four digits that count."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _shown(value: object) -> str:
    """Return a value of a result as a person writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return _short(value) if isinstance(value, int | float | str) else str(value)
