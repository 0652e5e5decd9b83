"""`faceswap evaluate`: measure the quality of a swap."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.cli.view.next_step import open_output
from faceswap_cli.core.fileio import fit_name


def evaluate(
    swapped: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="SWAPPED", help="Swapped video.")
    ],
    *,
    original: Annotated[
        Path,
        typer.Option(
            "--original",
            parser=parse_path,
            metavar="FILE",
            help="Video that SWAPPED was made from.",
        ),
    ],
    identity: Annotated[
        str, typer.Option("--identity", metavar="SET", help="Set of faces of the target identity.")
    ],
    distractors: Annotated[
        list[str] | None,
        typer.Option(
            "--distractor",
            metavar="SET",
            help="Another identity to distinguish from the target; repeatable.",
        ),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            "--ground-truth", parser=parse_path, metavar="FILE", help="Video of the true swap."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            "--mask",
            parser=parse_path,
            metavar="FILE",
            help="Video that is white where the face was swapped; default: inside its outline.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Folder of the results; default: beside SWAPPED.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Measure a swap: identity, motion fidelity, temporal stability, artifacts.

    Writes evaluation.json and evaluation.html to a folder beside SWAPPED.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages import evaluate as stage

        evaluation, files = stage.evaluate_and_write(
            swapped,
            original=original,
            identity=identity,
            distractors=distractors or (),
            ground_truth=ground_truth,
            mask=mask,
            output=output or swapped.with_name(fit_name(swapped.stem, "-evaluation")),
            workspace=space,
            report=terminal,
        )
        columns = ["", "value", "original's own", "unit", ""]
        terminal.print_table(f"{swapped.name} as {identity}", columns, evaluation.rows())
        terminal.print_hints(evaluation.missing_reasons())
        values = {**evaluation.json_values(), **files} if common.as_json else files
        terminal.print_result("results of the evaluation", values)
        terminal.print_next(open_output(space, Path(files["page"])))
