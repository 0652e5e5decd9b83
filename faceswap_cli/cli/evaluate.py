"""`faceswap evaluate`: how good a swap is."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.answering import answering, working_in
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
    path,
)


def evaluate(
    swapped: Annotated[
        Path, typer.Argument(parser=path, metavar="SWAPPED", help="The swapped video.")
    ],
    source: Annotated[
        Path,
        typer.Option(
            "--source", parser=path, metavar="ORIGINAL", help="The video it was made from."
        ),
    ],
    identity: Annotated[
        str, typer.Option("--identity", metavar="SET", help="The wanted person's set of faces.")
    ],
    others: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="SET", help="Somebody else to tell apart; repeatable."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth", parser=path, metavar="FILE", help="The true swap, if there is one."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=path,
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
        answering(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        working_in(workspace) as space,
    ):
        from faceswap_cli.faces.record import FaceSet
        from faceswap_cli.stages import evaluate as stage
        from faceswap_cli.video.reader import probe

        for path in (swapped, source, *([truth] if truth else [])):
            probe(path)  # a slip in a file's name is told before a set's
        wanted, *rest = [FaceSet.of(space.existing_set(one)) for one in (identity, *(others or []))]
        folder = output or swapped.with_name(f"{swapped.stem}-evaluation")
        with stage.filling(folder):
            found = stage.evaluate(
                swapped, source=source, identity=wanted, others=rest, truth=truth, report=terminal
            )
            files = stage.write_evaluation(found, folder)
        columns = ["", "value", "original's own", "unit", ""]
        terminal.table(f"{swapped.name} as {identity}", columns, found.rows())
        terminal.advice(found.reasons())
        terminal.result(
            "the evaluation left", files if not as_json else {**found.numbers(), **files}
        )
