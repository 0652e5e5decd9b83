"""`faceswap extract`: footage -> sets of faces."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import ask_consent, report_failed, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.cli.view.next_step import after_extract
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.parallel.settings import ParallelSettings


def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            parser=parse_path,
            metavar="INPUT",
            help="Videos, images, folders of either, patterns, a FaceForensics++ data set.",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Extract everything into one set of this name; default: one set per input.",
        ),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="KIND[: NOTE]",
            help="Record why you may use these faces: myself, written, synthetic or other.",
        ),
    ] = None,
    settings: ExtractSettings,
    parallel: ParallelSettings,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Extract the faces in footage as aligned square crops.

    Each video, and each folder of images, becomes a set named after it; with --name all become one
    set. Run the same command again to resume after an interruption. Of several sets, one that fails
    does not stop the others.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages import extract as stage

        batch = stage.extract_inputs(
            inputs,
            name=name,
            workspace=space,
            settings=settings,
            consent=consent,
            ask_consent=ask_consent(terminal),
            report=terminal,
            parallel=parallel,
        )
        if len(batch.extracted) == 1 and not batch.failed:
            values = dataclasses.asdict(batch.extracted[0])
            known = {key: value for key, value in values.items() if value is not None}
            terminal.print_result(f'set "{batch.extracted[0].name}"', known)
        else:
            terminal.print_table(*stage.summary_table(batch.extracted))
            if common.as_json:
                terminal.print_result("sets", batch.to_dict())
        terminal.print_next(after_extract(space, [one.name for one in batch.extracted]))
        report_failed(batch.failed, terminal)
