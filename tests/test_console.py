"""Output on the terminal and in logs: tables, bars, status lines, results."""

import errno
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.errors import InputError


def render_table(capsys: pytest.CaptureFixture[str], rows: list[list[str]]) -> list[list[str]]:
    """Return the cells of a table of three columns as printed, with their spaces."""
    Terminal().print_table("a table", ["name", "number", "text"], rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return [line.split("│")[1:-1] for line in lines]


def test_numbers_are_right_aligned_and_text_left_aligned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing number does not change the alignment."""
    rows = [["one", "1.25", "a b"], ["three", "-12", "a"], ["five", "n/a", "1 b"]]
    assert [
        [" one   ", "   1.25 ", " a b  "],
        [" three ", "    -12 ", " a    "],
        [" five  ", "    n/a ", " 1 b  "],
    ] == render_table(capsys, rows)


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_nothing_is_cut_off_on_a_narrow_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long cells are wrapped."""
    monkeypatch.setenv("COLUMNS", str(columns))
    row = ["autoencoder-original", "0123456789" * 4, "a/path/without/any/space.mp4"]
    cells = render_table(capsys, [row])
    assert row == ["".join(cell.strip() for cell in column) for column in zip(*cells, strict=True)]
    Terminal().print_result("summary", {"model": row[2]})
    assert row[2] in "".join(capsys.readouterr().out.split())


def test_a_bar_is_never_more_than_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may state too few frames: the total grows."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Terminal() as terminal:
        terminal.start_task("convert", total=12, unit="frames")
        terminal.update(12)
        terminal.update(13, {"fps": 1.0})
    assert "13/13" in capsys.readouterr().err


def test_a_narrow_bar_cuts_its_numbers_and_not_its_count(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is done is worth more than the fourth loss."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    losses = {f"recon_{name}": 0.0971 for name in ("ada", "bo", "cy", "di")}
    with Terminal() as terminal:
        terminal.start_task("training", total=220_000, unit="images")
        terminal.update(80_400, losses)
    shown = capsys.readouterr().err
    assert "80400/220000" in shown
    assert "recon_ada" in shown
    assert "recon_di" not in shown


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list with the time as its only element."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_a_log_gets_lines_of_status_ever_less_often(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first after two seconds, later one every half minute; numbers are remembered."""
    times = []
    with Terminal() as terminal:
        terminal.start_task("train a-b", total=5000, unit="images")
        for second in range(200):
            clock[0] = 100.0 + second
            terminal.update(20 * second, {"held out": 0.0123456} if second == 1 else None)
            if capsys.readouterr().err.startswith("images="):
                times.append(second)
        clock[0] += 30
        terminal.update(4000, {"loss": 0.25, "name": "a b"})
    assert [2, 6, 14, 30, 60, 90, 120, 150, 180] == times
    assert "images=4,000/5,000 loss=0.25 name=a b time=229s\n" == capsys.readouterr().err


def test_a_log_has_titles_and_status_on_stderr_only(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """With --json stdout has nothing but the result."""
    terminal = Terminal(as_json=True)
    for title in ("one", "two"):
        terminal.start_task(title, total=None, unit="faces")
        terminal.update(1)
        clock[0] += 5
        terminal.update(2, {"held out": 1})
    terminal.print_result("summary", {"a": 1})
    terminal.update(3)
    out, err = capsys.readouterr()
    assert {"a": 1} == json.loads(out)
    assert ["one", "faces=2 held_out=1 time=5s", "two", "faces=2 held_out=1 time=5s"] == (
        err.splitlines()
    )


def test_quiet_leaves_a_log_empty(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    """It gets neither titles nor status."""
    terminal = Terminal(quiet=True)
    terminal.start_task("train", total=10, unit="images")
    clock[0] += 100
    terminal.update(10)
    assert ("", "") == capsys.readouterr()


class _Full:
    """A stdout on a full disk."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_that_cannot_be_written_is_an_error(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is reported as such."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", _Full())
        with pytest.raises(InputError, match="could not be written: no space left"):
            Terminal(as_json=as_json).print_result("summary", {"a": 1})


def test_a_result_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Of any values; tables and hints are left out."""
    numbers: dict[str, Any] = {"a": 1, "b": [0.5, None], "c": "d [red]e"}
    terminal = Terminal(as_json=True)
    terminal.print_table("a table", ["name"], [["x"]])
    terminal.print_hints(["type this"])
    terminal.print_result("summary", numbers)
    assert numbers == json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("options", [{}, {"quiet": True}, {"as_json": True}])
def test_the_next_command_is_the_last_line_of_a_summary(
    options: dict[str, bool], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where a program reads the output, and not if there is none."""
    terminal = Terminal(**options)
    terminal.print_next("")
    assert "" == capsys.readouterr().out
    terminal.print_next("faceswap open a.mp4")
    expected = "" if options else "next: faceswap open a.mp4"
    assert expected == "".join(capsys.readouterr().out.splitlines()[-1:])


def test_a_verbose_terminal_shows_the_time_of_each_task(
    capsys: pytest.CaptureFixture[str], clock: list[float]
) -> None:
    """Of one that the next task ends, too."""
    with Terminal(verbose=True) as terminal:
        terminal.start_task("extract a.mp4", total=1, unit="frames")
        clock[0] += 2.5
        terminal.start_task("extract b.mp4", total=1, unit="frames")
        clock[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert ["extract a.mp4: 2.5 s", "extract b.mp4: 1.0 s"] == [one for one in lines if ": " in one]


@pytest.mark.parametrize(("variable", "is_colored"), [(None, True), ("NO_COLOR", False)])
def test_no_color_is_honored(
    variable: str | None,
    is_colored: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """https://no-color.org: set to anything, the variable turns colors off, not bold type."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    Terminal().print_error(InputError("gone", hint="look elsewhere"))
    shown = capsys.readouterr().err
    assert "gone" in shown
    assert is_colored == bool(re.search(r"\x1b\[[0-9;]*3[0-7]", shown))


def test_a_question_needs_somebody_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends at a terminal, and neither quiet nor for a program."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    assert not Terminal().can_ask, "stderr is a pipe here"
    monkeypatch.setenv("FORCE_COLOR", "1")  # as far as rich knows, a terminal
    assert Terminal().can_ask
    assert not Terminal(quiet=True).can_ask
    assert not Terminal(as_json=True).can_ask
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert not Terminal().can_ask


class ClosedStream:
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """Raise the system's error."""
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        """Raise it, too."""
        raise OSError(errno.EIO, "Input/output error")

    def isatty(self) -> bool:
        """Return that it is a terminal."""
        return True


def test_a_terminal_that_is_closed_under_a_bar_does_not_end_the_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it shows a bar, rich puts a stream of its own in the place of standard error."""
    monkeypatch.setattr(sys, "stderr", ClosedStream())
    with Terminal() as terminal:
        terminal.start_task("convert", total=12, unit="frames")
        terminal.update(3)
        terminal.note("a note")


def test_an_interrupted_command_shows_the_line_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    """Of any length on one line, so that it can be copied, and with no emoji for a name."""
    command = f"faceswap extract ':heart: {'a' * 200}.mp4'"
    Terminal().print_interrupted(command)
    assert f"  {command}" == capsys.readouterr().err.splitlines()[-1]


def test_what_nobody_reads_is_no_error_at_the_end() -> None:
    """A buffered line that could not be written is not tried again when Python ends."""
    script = """
import os
from faceswap_cli.cli.console import Terminal

reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 2)
Terminal().note("unheard")
"""
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run([sys.executable, "-c", script], check=False, env=surroundings)
    assert 0 == ended.returncode
