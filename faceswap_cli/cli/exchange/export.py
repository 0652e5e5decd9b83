"""`faceswap export`: a trained model, or a set of faces, as files for other programs."""

import dataclasses
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
from faceswap_cli.core.errors import ConfigurationError


def export(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN", help="Trained model: a run's name, a file of weights; default: latest."
        ),
    ] = None,
    *,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="onnx|dfm",
            help="Format of the file; default: as the name of --output says, or onnx.",
        ),
    ] = None,
    identity: Annotated[
        str | None,
        typer.Option(
            "--identity", metavar="NAME", help="Identity to swap in; default: the last trained one."
        ),
    ] = None,
    faces: Annotated[
        str | None,
        typer.Option(
            "--faces",
            metavar="SET",
            help="Export a set of faces, not a model: images, and a line of JSON for each.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="PATH",
            help="Output file, or folder of faces; default: in the workspace's exports.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Export a trained model, or a set of faces, for other programs.

    An .onnx file is the network itself, a .dfm file runs in DeepFaceLive and FaceFusion. Either
    swaps in one identity, and is checked against the network before it is written.
    """
    with workspace_context(workspace, common) as (terminal, space):
        if faces is not None:
            from faceswap_cli.stages.export_faces import default_faces_path, export_faces

            if model or to or identity:
                raise ConfigurationError(
                    "--faces exports a set of faces, RUN, --to and --identity are for a model",
                    hint=f"faceswap export --faces {faces}",
                )
            exported = export_faces(
                space.require_set(faces), output=output or default_faces_path(space, faces)
            )
            terminal.print_result("exported", dataclasses.asdict(exported))
            return
        from faceswap_cli.stages import export as stage

        weights = space.find_weights(model or "latest")
        summary = stage.export_model(
            weights,
            to=to or stage.format_from_name(output),
            identity=identity,
            output=output,
            workspace=space,
            report=terminal,
        )
        terminal.print_result("exported", dataclasses.asdict(summary))
