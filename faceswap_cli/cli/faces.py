"""`faceswap faces`: inspect and clean a set of faces."""

import dataclasses
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
)
from faceswap_cli.cli.view.next_step import after_extract
from faceswap_cli.core.errors import ConfigurationError

RENAMED_OUTLIERS = {"stranger": "other-person"}
"""Old names of kinds of outliers, still accepted."""


def faces(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of a set of faces.")],
    other: Annotated[
        str | None, typer.Argument(metavar="SET2", help="Another set to compare with.")
    ] = None,
    *,
    reject: Annotated[
        str | None,
        typer.Option(
            "--reject",
            metavar="KIND,...",
            help="Move outliers out of SET: blurry, duplicate, cut-off, other-person.",
        ),
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Move all rejected crops back.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Inspect a set of faces, and compare the poses and expressions of two sets.

    Writes a page of all faces that can be sorted by sharpness, pose, expression and similarity.
    Rejected crops are moved to the set's folder `rejected`, never deleted; a crop that you delete
    by hand leaves the set too.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages import faces as stage

        if (reject is not None or restore) and (other or (reject is not None and restore)):
            raise ConfigurationError(
                "--reject and --restore change one set at a time, and exclude each other",
                hint=f"faceswap faces {name} --reject blurry",
            )
        if restore:
            count = stage.restore_faces(space.require_set(name), report=terminal)
            terminal.note(f"{count} crops moved back")
        if reject is not None:
            kinds = [kind.strip() for kind in reject.split(",") if kind.strip()]
            kinds = [RENAMED_OUTLIERS.get(kind, kind) for kind in kinds]
            count = stage.reject_faces(space.require_set(name), kinds, report=terminal)
            terminal.note(f"{count} crops moved out; --restore moves them back")
        summary = stage.inspect_sets(
            [name, *([other] if other else [])], workspace=space, report=terminal
        )
        if common.as_json:
            terminal.print_result("faces", dataclasses.asdict(summary))
            return
        for title, columns, rows in summary.tables():
            terminal.print_table(title, columns, rows)
        terminal.print_hints([*summary.hints(), f"all faces: {summary.page}"])
        terminal.print_next(after_extract(space, [name, *([other] if other else [])]))
