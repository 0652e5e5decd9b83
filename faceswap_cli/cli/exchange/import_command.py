"""`faceswap import`: aligned faces of another program -> a set of faces."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import ask_consent, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.cli.view.next_step import after_extract
from faceswap_cli.faces.settings import ExtractSettings


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            parser=parse_path, metavar="DIR|FILE", help="A folder of images of faces, or one image."
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of the set; default: the name of the folder."
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
    size_px: Annotated[
        int, typer.Option("--size", metavar="PX", help="Side of the crops, in pixels.")
    ] = ExtractSettings.size_px,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Import the faces that another program extracted, or photos of one person.

    Reads folders of faceswap (PNG) and DeepFaceLab (JPEG). Each face is found again and aligned as
    here; images without a face are counted and named. Run the same command again to resume.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages import import_faces as stage

        summary = stage.import_faces(
            path,
            name=name,
            workspace=space,
            settings=ExtractSettings(size_px=size_px),
            consent=consent,
            ask_consent=ask_consent(terminal),
            report=terminal,
        )
        values = dataclasses.asdict(summary)
        if not common.as_json:
            values["not_found"] = len(summary.not_found)
        terminal.print_result(f'set "{summary.name}"', values)
        terminal.print_next(after_extract(space, [summary.name]))
