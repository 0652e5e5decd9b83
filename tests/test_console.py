"""What stands on the terminal: tables that lose nothing, and a word when they cannot be written."""

import json
import sys
from typing import Any

import pytest

from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.errors import InputError


def render_table(capsys: pytest.CaptureFixture[str], rows: list[list[str]]) -> list[list[str]]:
    """Return the cells of a table of three columns as they are printed, spaces and all."""
    Terminal().print_table("a table", ["name", "number", "text"], rows)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return [line.split("│")[1:-1] for line in lines]


def test_numbers_stand_to_the_right_and_words_to_the_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where a number is missing."""
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
    """What is too long goes on in the next line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    row = ["autoencoder-original", "0123456789" * 4, "a/path/without/any/space.mp4"]
    cells = render_table(capsys, [row])
    assert row == ["".join(cell.strip() for cell in column) for column in zip(*cells, strict=True)]
    Terminal().print_result("facts", {"model": row[2]})
    assert row[2] in "".join(capsys.readouterr().out.split())


def test_a_bar_is_never_more_than_full(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may state fewer frames than it holds."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with Terminal() as terminal:
        terminal.start_task("convert", total=12, unit="frames")
        terminal.update(12)
        terminal.update(13, {"fps": 1.0})
    assert "13/13" in capsys.readouterr().err


class _Full:
    """Takes the place of an output on a disk that is full."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("as_json", [True, False])
def test_a_result_that_cannot_be_written_is_an_error(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sends it to a full disk hears of that, not of a bug."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", _Full())
        with pytest.raises(InputError, match="could not be written: no space left"):
            Terminal(as_json=as_json).print_result("facts", {"a": 1})


def test_a_result_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its values are; tables and advice stay out of it."""
    numbers: dict[str, Any] = {"a": 1, "b": [0.5, None], "c": "d [red]e"}
    terminal = Terminal(as_json=True)
    terminal.print_table("a table", ["name"], [["x"]])
    terminal.print_hints(["type this"])
    terminal.print_result("facts", numbers)
    assert numbers == json.loads(capsys.readouterr().out)
