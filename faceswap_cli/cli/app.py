"""The `faceswap` program: its commands in the order of help, and `main`."""

import sys
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Annotated

import typer

from faceswap_cli import __version__
from faceswap_cli.cli.benchmark import benchmark
from faceswap_cli.cli.checks.doctor import doctor
from faceswap_cli.cli.checks.verify import verify
from faceswap_cli.cli.compare import compare
from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.convert import convert
from faceswap_cli.cli.demo import demo
from faceswap_cli.cli.evaluate import evaluate
from faceswap_cli.cli.exchange.export import export
from faceswap_cli.cli.exchange.import_command import import_
from faceswap_cli.cli.extract import extract
from faceswap_cli.cli.faces import faces
from faceswap_cli.cli.help_format import Command, CommandGroup, first_paragraph, reflow
from faceswap_cli.cli.jobs import jobs
from faceswap_cli.cli.options import expand_options
from faceswap_cli.cli.presets import presets
from faceswap_cli.cli.pretrain import pretrain
from faceswap_cli.cli.train import train
from faceswap_cli.cli.view.greeting import greeting
from faceswap_cli.cli.view.open_command import open_
from faceswap_cli.core.errors import ConfigurationError

COMMANDS: Mapping[str, tuple[Callable[..., None], ...]] = {
    "Without footage": (demo,),
    "The three stages": (extract, faces, train, convert),
    "What came out": (open_, evaluate, compare, verify),
    "Many clips, other programs": (jobs, import_, export),
    "Models and this computer": (doctor, presets, benchmark, pretrain),
}
"""The commands by purpose, in the order of help."""

app = typer.Typer(
    name="faceswap",
    cls=CommandGroup,
    help="Swap faces in video with models you train on your own footage.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Swap faces in video with models you train on your own footage."""
    if version:
        typer.echo(f"faceswap {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(greeting())


def command_name(command: Callable[..., None]) -> str:
    """Return the name of a command: its function's, without what keeps it from being Python's."""
    return command.__name__.removesuffix("_")  # `import` is a keyword, `open` a function


for command in chain.from_iterable(COMMANDS.values()):
    app.command(
        name=command_name(command),
        cls=Command,
        help=reflow(command),
        short_help=first_paragraph(command),
    )(expand_options(command))
CommandGroup.purposes = {
    title: [command_name(one) for one in commands] for title, commands in COMMANDS.items()
}


def main() -> None:
    """Run the command line; a usage error is one line, or JSON, like every other error."""
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as exception:
        error = usage_error(exception)
        terminal = Terminal(as_json="--json" in sys.argv)
        terminal.print_error(error, as_result=True)
        code = error.exit_code
    sys.exit(code)


def usage_error(exception: typer.TyperException) -> ConfigurationError:
    """Return the error for a command line that cannot be parsed, with its help as the hint."""
    context = getattr(exception, "ctx", None)
    message = exception.format_message().rstrip(".")
    path = context.command_path if context else "faceswap"
    return ConfigurationError(message[:1].lower() + message[1:], hint=f"{path} --help")
