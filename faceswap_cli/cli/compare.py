"""`faceswap compare`: compare trained runs."""

import dataclasses
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    WorkspaceOption,
)
from faceswap_cli.cli.view.next_step import open_output


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Names of two or more runs.")],
    *,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Compare runs: settings, loss curves, scores, and the same faces swapped by each.

    Writes one page to the workspace. The faces are the validation faces.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages.compare import compare as run_compare

        summary = run_compare(runs, workspace=space, device=device, report=terminal)
        for title, columns, rows in summary.tables():
            terminal.print_table(title, columns, rows)
        if common.as_json:
            terminal.print_result("comparison", dataclasses.asdict(summary))
        else:
            terminal.print_hints([f"report: {summary.page}"])
            terminal.print_next(open_output(space, summary.page))
