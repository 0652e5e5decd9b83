"""`faceswap compare`: runs beside each other."""

import dataclasses
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
)


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Names of two runs or more.")],
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Lay runs beside each other: settings, curves, scores, and the same faces swapped by each.

    Leaves one page in the workspace. The faces are those kept out of training.
    """
    with (
        command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        workspace_context(workspace) as space,
    ):
        from faceswap_cli.stages.compare import compare as run_compare

        summary = run_compare(runs, workspace=space, device=device, report=terminal)
        for title, columns, rows in summary.tables():
            terminal.print_table(title, columns, rows)
        if as_json:
            terminal.print_result("comparison", dataclasses.asdict(summary))
        else:
            terminal.print_hints([f"look at it: {summary.page}"])
