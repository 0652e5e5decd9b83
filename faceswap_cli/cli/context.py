"""What every command does around its stage: show it, explain errors, open the workspace."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.errors import EXIT_INTERRUPTED, FaceswapError

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace


@contextmanager
def command_context(
    *, as_json: bool = False, quiet: bool = False, debug: bool = False
) -> Iterator[Terminal]:
    """Show a stage's work, and turn what goes wrong into one clear line and an exit code."""
    # Of several processes started together by torchrun, the first one speaks.
    follows = os.environ.get("RANK", "0") != "0"
    with Terminal(quiet=quiet or follows, as_json=as_json and not follows) as terminal:
        try:
            yield terminal
        except FaceswapError as error:
            if debug:
                raise
            terminal.print_error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            terminal.print_interrupted()
            raise typer.Exit(EXIT_INTERRUPTED) from stop


@contextmanager
def workspace_context(root: Path) -> Iterator["Workspace"]:
    """Give the workspace at `root`, which is made by what is written to it: a slip leaves none."""
    from faceswap_cli.core.workspace import Workspace

    space = Workspace.from_path(root)
    is_new = not root.exists()
    try:
        yield space
    finally:
        if is_new:
            space.remove_empty_folders()
        if space.has_content:
            Workspace.open(root)
