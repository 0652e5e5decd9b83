"""What every command does around its stage: show progress, report errors, open the workspace."""

import errno
import logging
import os
import shlex
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.options import CommonOptions
from faceswap_cli.core.errors import (
    EXIT_INTERRUPTED,
    ConfigurationError,
    DeviceError,
    FaceswapError,
    is_memory_error,
)
from faceswap_cli.core.fileio import name_too_long_error
from faceswap_cli.core.signals import interrupt_on_signals

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace
    from faceswap_cli.provenance.consent import AskConsent


@contextmanager
def command_context(common: CommonOptions) -> Iterator[Terminal]:
    """Yield the terminal; an error becomes a message of one line and an exit code.

    With `--json` the error is the result, too.
    """
    # Of several processes started together by torchrun, only the first one prints.
    is_main = os.environ.get("RANK", "0") == "0"
    with (
        nullcontext() if common.verbose or common.debug else quiet_libraries(),
        Terminal(
            quiet=common.quiet or not is_main,
            as_json=common.as_json and is_main,
            verbose=common.verbose,
        ) as terminal,
    ):
        try:
            if common.quiet and common.verbose:
                raise ConfigurationError(
                    "--quiet and --verbose exclude each other", hint="choose one of them"
                )
            with interrupt_on_signals(), _name_errors():
                yield terminal
        except FaceswapError as error:
            if common.debug:
                raise
            terminal.print_error(error, as_result=True)
            raise typer.Exit(error.exit_code) from error
        except Exception as error:  # each library has one of its own
            if common.debug or not is_memory_error(error):
                raise
            traceback.clear_frames(error.__traceback__)  # what they hold is needed for the message
            full = DeviceError(
                "the memory of this computer is full, or limited (ulimit)",
                hint="close other programs; of train, --dry-run says how much it takes",
            )
            terminal.print_error(full, as_result=True)
            raise typer.Exit(full.exit_code) from error
        except KeyboardInterrupt as stop:
            terminal.print_interrupted(_typed_line())
            raise typer.Exit(EXIT_INTERRUPTED) from stop


def _typed_line() -> str:
    """Return the command line of this process, ready to copy."""
    words = ["faceswap", *sys.argv[1:]]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings and log lines of libraries off the screen; errors of ours are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


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


def ask_consent(terminal: Terminal) -> "AskConsent | None":
    """Return a function that asks for a workspace's consent; None where nobody can answer."""
    if not terminal.can_ask:
        return None
    from faceswap_cli.provenance.consent import CONSENT_KINDS, Consent, parse_consent

    def ask() -> Consent | None:
        kinds = [f"  {kind:<10} {meaning}" for kind, meaning in CONSENT_KINDS.items()]
        lines = [
            "On what ground may the faces in this workspace be used? It is asked once, and holds",
            "for sets without a --consent of their own.",
            *kinds,
            'with a note if you like ("written: contract of 3 May"); nothing: not stated',
        ]
        while answer := terminal.ask(lines, "consent:"):
            try:
                return parse_consent(answer)
            except FaceswapError as error:
                terminal.print_error(error)
                lines = []
        return None

    return ask


@contextmanager
def workspace_context(root: Path, common: CommonOptions) -> Iterator[tuple[Terminal, "Workspace"]]:
    """Yield the terminal and the workspace at `root`, which a failed command does not create."""
    with command_context(common) as terminal:
        from faceswap_cli.core.workspace import use_workspace

        with use_workspace(root) as space:
            yield terminal, space


def report_failed(failed: Mapping[str, FaceswapError], terminal: Terminal) -> None:
    """Print why inputs failed, by their names, and end with the exit code of the first.

    Raises:
        typer.Exit: One failed.
    """
    for name, error in failed.items():
        terminal.print_error(FaceswapError(error.describe(name), hint=error.hint))
    if failed:
        raise typer.Exit(next(iter(failed.values())).exit_code)
