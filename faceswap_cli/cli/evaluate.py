"""`faceswap evaluate`: how good a swap is."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
    parse_path,
)


def evaluate(
    swapped: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="SWAPPED", help="The swapped video.")
    ],
    original: Annotated[
        Path,
        typer.Option(
            "--source", parser=parse_path, metavar="ORIGINAL", help="The video it was made from."
        ),
    ],
    identity: Annotated[
        str, typer.Option("--identity", metavar="SET", help="The wanted person's set of faces.")
    ],
    distractors: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="SET", help="Somebody else to tell apart; repeatable."),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", parser=parse_path, metavar="FILE", help="The true swap, if there is one."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Where the page and the numbers go, if not beside SWAPPED.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say how good a swap is: who it is, how it follows, what gives it away.

    Leaves evaluation.json and evaluation.html in a folder beside SWAPPED.
    """
    with (
        command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        workspace_context(workspace) as space,
    ):
        from faceswap_cli.faces.dataset import FaceSet
        from faceswap_cli.stages import evaluate as stage
        from faceswap_cli.video.reader import probe

        for path in (swapped, original, *([ground_truth] if ground_truth else [])):
            probe(path)  # a slip in a file's name is told before a set's
        wanted, *rest = [
            FaceSet.from_folder(space.require_set(one)) for one in (identity, *(distractors or []))
        ]
        folder = output or swapped.with_name(f"{swapped.stem}-evaluation")
        with stage.output_folder(folder):
            found = stage.evaluate(
                swapped,
                source=original,
                identity=wanted,
                distractors=rest,
                truth=ground_truth,
                report=terminal,
            )
            files = stage.write_evaluation(found, folder)
        columns = ["", "value", "original's own", "unit", ""]
        terminal.print_table(f"{swapped.name} as {identity}", columns, found.rows())
        terminal.print_hints(found.missing_reasons())
        terminal.print_result(
            "the evaluation left", files if not as_json else {**found.json_values(), **files}
        )
