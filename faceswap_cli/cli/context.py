"""What every command does around its stage: show progress, report errors, open the workspace."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.options import CommonOptions
from faceswap_cli.core.errors import EXIT_INTERRUPTED, FaceswapError
from faceswap_cli.core.fileio import name_too_long_error

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace


@contextmanager
def command_context(common: CommonOptions) -> Iterator[Terminal]:
    """Yield the terminal; an error becomes a message of one line and an exit code.

    With `--json` the error is the result, too.
    """
    # Of several processes started together by torchrun, only the first one prints.
    is_main = os.environ.get("RANK", "0") == "0"
    with Terminal(
        quiet=common.quiet or not is_main, as_json=common.as_json and is_main
    ) as terminal:
        try:
            with _name_errors():
                yield terminal
        except FaceswapError as error:
            if common.debug:
                raise
            terminal.print_error(error, as_result=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            terminal.print_interrupted()
            raise typer.Exit(EXIT_INTERRUPTED) from stop


@contextmanager
def _name_errors() -> Iterator[None]:
    """Translate the error for a name on the command line that no file can have.

    Any question about such a path raises it, even whether the file exists.

    Raises:
        InputError: A name is too long.
    """
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise name_too_long_error(str(error.filename or error)) from error
        raise


@contextmanager
def workspace_context(root: Path, common: CommonOptions) -> Iterator[tuple[Terminal, "Workspace"]]:
    """Yield the terminal and the workspace at `root`, which a failed command does not create."""
    with command_context(common) as terminal:
        from faceswap_cli.core.workspace import use_workspace

        with use_workspace(root) as space:
            yield terminal, space
