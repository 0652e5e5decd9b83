"""What every command does around its stage: show it, explain errors, open the workspace."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.errors import INTERRUPTED, FaceswapError

if TYPE_CHECKING:
    from faceswap_cli.workspace import Workspace


@contextmanager
def answering(
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
            terminal.error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            terminal.interrupted()
            raise typer.Exit(INTERRUPTED) from stop


@contextmanager
def working_in(root: Path) -> Iterator["Workspace"]:
    """Give the workspace at `root`, which is made by what is written to it: a slip leaves none."""
    from faceswap_cli.workspace import Workspace

    space = Workspace.at(root)
    is_new = not root.exists()
    try:
        yield space
    finally:
        if is_new:
            space.tidy()
        if space.is_used:
            Workspace.open(root)
