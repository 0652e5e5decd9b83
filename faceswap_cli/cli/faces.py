"""`faceswap faces`: what a set of faces holds."""

import dataclasses
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
)
from faceswap_cli.core.errors import ConfigurationError


def faces(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of a set of faces.")],
    other: Annotated[
        str | None, typer.Argument(metavar="SET2", help="Another set, to compare with.")
    ] = None,
    reject: Annotated[
        str | None,
        typer.Option(
            "--drop",
            metavar="FLAW,...",
            help="Move crops with these flaws out of SET: blurry, duplicate, cut-off, stranger.",
        ),
    ] = None,
    restore: Annotated[bool, typer.Option("--undo", help="Bring all dropped crops back.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a face set holds, and what one shows that another never does.

    Leaves a page with all faces, to be sorted by sharpness, pose, expression, likeness. Dropped
    crops are moved to the set's folder `rejected`, never deleted; a crop that you delete by hand
    is out of the set too.
    """
    with (
        command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        workspace_context(workspace) as space,
    ):
        from faceswap_cli.stages import faces as stage

        drops = reject is not None
        if (drops or restore) and (other or (drops and restore)):
            raise ConfigurationError(
                "--drop and --undo change one set at a time, one of them at a time",
                hint=f"faceswap faces {name} --drop blurry",
            )
        if restore:
            back = stage.restore_faces(space.require_set(name), report=terminal)
            terminal.note(f"{back} crops came back")
        if reject is not None:
            flaws = [flaw.strip() for flaw in reject.split(",") if flaw.strip()]
            moved = stage.reject_faces(space.require_set(name), flaws, report=terminal)
            terminal.note(f"{moved} crops moved out; --undo brings them back")
        summary = stage.inspect_sets(
            [name, *([other] if other else [])], workspace=space, report=terminal
        )
        if as_json:
            terminal.print_result("faces", dataclasses.asdict(summary))
            return
        for title, columns, rows in summary.tables():
            terminal.print_table(title, columns, rows)
        terminal.print_hints([*summary.advice(), f"look through them: {summary.page}"])
