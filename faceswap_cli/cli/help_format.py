"""Layout of `--help`: paragraphs that fit every width, options under headings.

Plain lines without boxes or a column of types: they read the same on 40 columns, in a log, and in
an ASCII terminal.
"""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from typer.core import TyperCommand, TyperGroup

from faceswap_cli.cli.options import COMMON_PANEL, rename_old_options

MIN_COLUMNS, MAX_COLUMNS = 30, 100
"""Width of a line; shorter and longer ones are hard to read."""
HelpRow = tuple[str, str]
"""An option or argument, and its help text."""


def reflow(command: Callable[..., None]) -> str:
    """Return a command's docstring with each paragraph on one line."""
    text = inspect.getdoc(command) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def first_paragraph(command: Callable[..., None]) -> str:
    """Return the first paragraph of a command's docstring, for the list of commands."""
    return reflow(command).partition("\n\n")[0]


class Command(TyperCommand):
    """A command that groups its options under headings and accepts their old names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after replacing old names of options."""
        remaining: list[str] = super().parse_args(ctx, rename_old_options(self.name or "", args))
        return remaining

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line; only optional ones are in brackets."""
        words: list[str] = super().collect_usage_pieces(ctx)
        return [word.replace("{", "").replace("}", "") for word in words]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help at the width of the terminal."""
        fit_to_terminal(formatter)
        super().format_help(ctx, formatter)

    def format_help_text(self, _: Any, formatter: Any) -> None:
        """Write the paragraphs; names of options are not broken at hyphens."""
        for paragraph in (self.help or "").split("\n\n"):
            formatter.write_paragraph()
            lines = textwrap.wrap(paragraph, formatter.width - 2, break_on_hyphens=False)
            formatter.write(textwrap.indent("\n".join(lines), "  ") + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings, in the order of the command's parameters."""
        headings: dict[str, list[HelpRow]] = {}
        for parameter in self.get_params(ctx):
            title, line = describe_parameter(parameter, ctx)
            headings.setdefault(title, []).append(line)
        headings[COMMON_PANEL] = headings.pop(COMMON_PANEL)  # last, as they matter least
        for title, lines in headings.items():
            with formatter.section(title):
                formatter.write_dl(lines, col_max=formatter.width // 3)


class CommandGroup(TyperGroup):
    """The program; help lists its commands by purpose, in the order of a user's work."""

    purposes: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Names of commands by heading; `app` sets it."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help at the width of the terminal."""
        fit_to_terminal(formatter)
        super().format_help(ctx, formatter)

    def format_commands(self, _: Any, formatter: Any) -> None:
        """Write the commands under their headings, in columns that fit all of them."""
        column = max(map(len, self.commands))
        for title, names in self.purposes.items():
            rows = [
                (name.ljust(column), self.commands[name].get_short_help_str(200)) for name in names
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


def fit_to_terminal(formatter: Any) -> None:
    """Set the width of lines to that of the terminal."""
    formatter.width = max(MIN_COLUMNS, min(MAX_COLUMNS, shutil.get_terminal_size().columns)) - 1


def describe_parameter(parameter: Any, ctx: Any) -> tuple[str, HelpRow]:
    """Return the heading of an argument or an option, and its line."""
    if parameter.param_type_name == "argument":
        [name] = parameter.get_usage_pieces(ctx)
        return "Arguments", (re.sub(r"[][{}]", "", name), parameter.help)
    title = COMMON_PANEL if parameter.name == "help" else parameter.rich_help_panel
    return title or "Options", parameter.get_help_record(ctx)
