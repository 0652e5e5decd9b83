"""`Terminal`: progress, results and errors on the terminal. The only file that imports rich."""

import errno
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from faceswap_cli.core.errors import FaceswapError, InputError
from faceswap_cli.core.progress import Number, Reporter

NUMERIC_CELL = re.compile(r"[-+]?\d|n/a$|$")
"""Start of a table's cell that is aligned to the right."""
FIRST_STATUS_S, MAX_STATUS_S = 2.0, 30.0
"""Seconds between two lines of status in a log: those before the first, doubled each time, at most
so many."""


class Terminal(Reporter):
    """Shows progress on stderr: a bar, or lines of status if stderr is a file or a pipe.

    Results go to stdout, as a table or as JSON.

    Args:
        quiet: Show errors and results only.
        as_json: Print results as one JSON object.
        verbose: Show the time of each task.
    """

    def __init__(
        self, *, quiet: bool = False, as_json: bool = False, verbose: bool = False
    ) -> None:
        self._quiet = quiet
        self._as_json = as_json
        self._verbose = verbose
        self._timed: tuple[str, float] | None = None
        # Without emoji: rich would put one for a name such as `:heart:`.
        self._stderr = Console(file=_LastingStderr(), highlight=False, emoji=False)  # type: ignore[arg-type]
        self._stdout = Console(highlight=False, emoji=False)
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._status: _StatusLog | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_progress()

    def start_task(self, title: str, *, total: float | None, unit: str) -> None:
        """Start a bar; in a log print the title."""
        self._stop_progress()
        if self._quiet:
            return
        self._timed = (title, time.monotonic()) if self._verbose else None
        if not self._stderr.is_terminal:
            self.note(title)
            self._status = _StatusLog(total=total, unit=unit)
            return
        self._progress = Progress(*_progress_columns(total, unit), console=self._stderr)
        self._task = self._progress.add_task(escape(title), total=total, numbers="")
        self._progress.start()

    def update(self, done: float, numbers: Mapping[str, Number] | None = None) -> None:
        """Move the bar, or print a line of status if one is due."""
        if self._status is not None and (line := self._status.update(done, numbers)):
            self.note(line)
        if self._progress is None:
            return
        total = self._progress.tasks[0].total
        if total is not None and done > total:  # a container may state too few frames
            self._progress.update(self._task, total=done)
        if numbers is None:
            self._progress.update(self._task, completed=done)
        else:
            text = "  ".join(f"{name} {_format_number(value)}" for name, value in numbers.items())
            self._progress.update(self._task, completed=done, numbers=text)

    def show_image(self, path: Path, caption: str) -> None:
        """Print the path of an image above the bar."""
        self.note(f"{caption}: {path}")

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        if not self._quiet:
            self._stderr.print(escape(text), soft_wrap=True)

    def show_values(self, title: str, values: Mapping[str, str]) -> None:
        """Print a table of two columns above the bar."""
        if not self._quiet:
            self._stderr.print(_key_value_table(title, values), soft_wrap=True)

    def print_result(self, title: str, values: Mapping[str, object]) -> None:
        """Print the result of a command: a table of two columns, or one JSON object."""
        self._stop_progress()
        with _explain_write_errors():
            if self._as_json:
                print(json.dumps(_to_json(values), allow_nan=False), flush=True)  # noqa: T201
            elif not self._quiet:
                self._stdout.print(_key_value_table(title, values), soft_wrap=True)

    def print_table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Print a table with headings; nothing with `--json` or `--quiet`."""
        self._stop_progress()
        if self._as_json or self._quiet:
            return
        table = Table(title=escape(title), title_justify="left")
        for index, column in enumerate(columns):
            is_numeric = index > 0 and all(NUMERIC_CELL.match(row[index]) for row in rows)
            justify: Literal["left", "right"] = "right" if is_numeric else "left"
            table.add_column(escape(column), justify=justify, overflow="fold")
        for row in rows:
            table.add_row(*map(escape, row))
        with _explain_write_errors():
            self._stdout.print(table)

    def print_hints(self, lines: list[str]) -> None:
        """Print what to type next, ready to copy; nothing with `--json` or `--quiet`."""
        if self._as_json or self._quiet:
            return
        with _explain_write_errors():
            for line in lines:
                self._stdout.print(escape(line), soft_wrap=True)

    def print_next(self, command: str) -> None:
        """Print the command to type next, the last line of a summary."""
        if command:
            self.print_hints(["", f"next: {command}"])

    @property
    def can_ask(self) -> bool:
        """Whether somebody is at the terminal to answer a question."""
        is_shown = not (self._quiet or self._as_json)
        return is_shown and self._stderr.is_terminal and sys.stdin.isatty()

    def ask(self, lines: list[str], prompt: str) -> str:
        """Return the answer to a question; empty without one.

        Args:
            lines: The question.
            prompt: What stands before the answer.
        """
        self._stop_progress()
        for line in lines:
            self.note(line)
        try:
            return self._stderr.input(f"{escape(prompt)} ").strip()
        except EOFError:
            return ""

    def print_error(self, error: FaceswapError, *, as_result: bool = False) -> None:
        """Print an error and its hint; as the result of the command also as JSON if asked for."""
        if as_result and self._as_json:
            self.print_result("error", error.to_dict())
        self._stop_progress()
        self._stderr.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
        if error.hint:
            self._stderr.print(f"  [bold]try:[/] {escape(error.hint)}", soft_wrap=True)

    def print_interrupted(self, command: str) -> None:
        """Print that the command was interrupted, and the line to type to resume it."""
        self._stop_progress()
        self._stderr.print("stopped; finished work is saved. To resume:")
        self._stderr.print(f"  {escape(command)}", soft_wrap=True)

    def _stop_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._status = None
        if self._timed is not None:
            title, started = self._timed
            self._timed = None
            self.note(f"{title}: {time.monotonic() - started:.1f} s")


class _LastingStderr:
    """The standard error stream; once nobody reads it any more, what is written is dropped.

    A closed terminal (SIGHUP) or pipe (`| head`) must not end the work, of which this only tells.
    """

    @property
    def rich_proxied_file(self) -> Self:
        """What rich writes to while it shows a bar; it would take the stream itself."""
        return self

    def write(self, text: str) -> int:
        """Write text if there is someone to read it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Write to nowhere from now on, if nobody reads any more.

        Python keeps what it could not write, and tries again when the program ends: that would be
        an error of the program.
        """
        if error.errno in (errno.EPIPE, errno.EIO):
            with suppress(OSError, AttributeError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever rich asks of a stream
        return getattr(self._stream, name)

    @property
    def _stream(self) -> Any:  # noqa: ANN401
        """Standard error itself: while it shows a bar, rich puts a stream in its place."""
        return getattr(sys.stderr, "rich_proxied_file", sys.stderr)


class _StatusLog:
    """Lines of status of one task for a log file, ever less often."""

    def __init__(self, *, total: float | None, unit: str) -> None:
        self._total = total
        self._unit = unit
        self._numbers: Mapping[str, Number] = {}
        self._start = time.monotonic()
        self._interval_s = FIRST_STATUS_S
        self._due = self._start + self._interval_s

    def update(self, done: float, numbers: Mapping[str, Number] | None) -> str:
        """Return a line such as `images=640/2,000 loss=0.05 time=12s`; empty until one is due."""
        self._numbers = self._numbers if numbers is None else dict(numbers)
        now = time.monotonic()
        if now < self._due:
            return ""
        self._interval_s = min(2 * self._interval_s, MAX_STATUS_S)
        self._due = now + self._interval_s
        progress = f"{done:,.0f}" if self._total is None else f"{done:,.0f}/{self._total:,.0f}"
        values = {self._unit: progress, **self._numbers, "time": f"{now - self._start:,.0f}s"}
        return " ".join(
            f"{name.replace(' ', '_')}={_format_number(value)}" for name, value in values.items()
        )


@contextmanager
def _explain_write_errors() -> Iterator[None]:
    """Turn an error of writing to stdout into a message; a closed pipe stays what it is.

    Raises:
        InputError: The result cannot be written, for example to a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"the result could not be written: {(error.strerror or str(error)).lower()}",
            hint="the work is done; redirect the output to another disk",
        ) from error


def _to_json(value: object) -> object:
    """Return a value as JSON can hold it: NaN as null, infinity and unknown types as text."""
    if isinstance(value, Mapping):
        return {str(name): _to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _key_value_table(title: str, values: Mapping[str, object]) -> Table:
    """Return a table of names and values without headings."""
    table = Table(title=escape(title), show_header=False, title_justify="left", box=None)
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    for name, value in values.items():
        table.add_row(escape(name.replace("_", " ")), escape(_format_value(value)))
    return table


class _NumbersColumn(ProgressColumn):
    """The numbers besides a count; on a narrow terminal they are cut, and the count is not."""

    def render(self, task: Task) -> Text:
        """Return one line; a column that may wrap, as this one, is the first to be narrowed."""
        return Text(task.fields["numbers"], no_wrap=True, overflow="ellipsis")


def _progress_columns(total: float | None, unit: str) -> list[ProgressColumn]:
    """Return the columns of a bar; without a total, of a count without bar and time left."""
    numbers = _NumbersColumn()
    title = TextColumn("{task.description}")
    if total is None:
        count = TextColumn(f"{{task.completed:,.0f}} {unit}")
        return [SpinnerColumn(), title, count, numbers, TimeElapsedColumn()]
    if unit == "s":
        # A task with a time limit: the time left says it all.
        return [title, BarColumn(bar_width=24), numbers, TimeRemainingColumn()]
    return [
        title,
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn(unit),
        numbers,
        TimeRemainingColumn(),
    ]


def _format_number(value: Number) -> str:
    """Return a number with four significant digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


def _format_value(value: object) -> str:
    """Return a value of a result as readable text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_value(inner)}" for name, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_value, value))
    return _format_number(value) if isinstance(value, int | float | str) else str(value)
