"""How help is laid out: paragraphs that flow at every width, options under headings.

Plain lines, neither boxes nor a column of types: they read the same on 40 columns, in a log, and
in a terminal that knows ASCII only.
"""

import inspect
import re
import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from typer.core import TyperCommand, TyperGroup

from faceswap_cli.cli.options import COMMON_PANEL, rename_old_options

MIN_COLUMNS, MAX_COLUMNS = 30, 100
"""Columns: what is shorter or longer is hard to read."""
HelpRow = tuple[str, str]
"""What may be typed, and what it does."""


def reflow(command: Callable[..., None]) -> str:
    """Return a command's docstring with a line for each paragraph."""
    text = inspect.getdoc(command) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def first_paragraph(command: Callable[..., None]) -> str:
    """Return what the list of commands says of a command: its docstring's first paragraph."""
    return reflow(command).partition("\n\n")[0]


class Command(TyperCommand):
    """A command whose options stand under their headings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what was typed, in which options may have their old names."""
        rest: list[str] = super().parse_args(ctx, rename_old_options(self.name or "", args))
        return rest

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the pieces of the usage line; only what may be left out stands in brackets."""
        pieces: list[str] = super().collect_usage_pieces(ctx)
        return [piece.replace("{", "").replace("}", "") for piece in pieces]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        fit_to_terminal(formatter)
        super().format_help(ctx, formatter)

    def format_help_text(self, _: Any, formatter: Any) -> None:
        """Write the paragraphs; the name of an option is one word, hyphens and all."""
        for paragraph in (self.help or "").split("\n\n"):
            formatter.write_paragraph()
            lines = textwrap.wrap(paragraph, formatter.width - 2, break_on_hyphens=False)
            formatter.write(textwrap.indent("\n".join(lines), "  ") + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write every heading with its lines, in the order of the command's arguments."""
        headings: dict[str, list[HelpRow]] = {}
        for parameter in self.get_params(ctx):
            title, line = describe_parameter(parameter, ctx)
            headings.setdefault(title, []).append(line)
        headings[COMMON_PANEL] = headings.pop(COMMON_PANEL)  # the least interesting ones last
        for title, lines in headings.items():
            with formatter.section(title):
                formatter.write_dl(lines, col_max=formatter.width // 3)


class CommandGroup(TyperGroup):
    """The program: its commands, in the order of a user's work."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help."""
        fit_to_terminal(formatter)
        super().format_help(ctx, formatter)


def fit_to_terminal(formatter: Any) -> None:
    """Let lines be as wide as the terminal is."""
    formatter.width = max(MIN_COLUMNS, min(MAX_COLUMNS, shutil.get_terminal_size().columns)) - 1


def describe_parameter(parameter: Any, ctx: Any) -> tuple[str, HelpRow]:
    """Return the heading that an argument or an option stands under, and its line."""
    if parameter.param_type_name == "argument":
        [name] = parameter.get_usage_pieces(ctx)
        return "Arguments", (re.sub(r"[][{}]", "", name), parameter.help)
    title = COMMON_PANEL if parameter.name == "help" else parameter.rich_help_panel
    return title or "Options", parameter.get_help_record(ctx)
