"""`faceswap convert`: footage -> the same footage with swapped faces."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import fit_name

PREVIEW_PANEL = "Preview"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            parser=parse_path, metavar="INPUT", help="A video, an image or a folder of images."
        ),
    ],
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="RUN|FILE|latest",
            help="Trained model: a run's name, or a file of weights.",
        ),
    ] = "latest",
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="NAME",
            help="Identity to swap in; default: the trained identity that is not in INPUT.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="PATH",
            help="Output file; default: INPUT-swapped in the workspace's exports.",
        ),
    ] = None,
    preview_count: Annotated[
        int | None,
        typer.Option(
            "--preview",
            metavar="N",
            min=1,
            help="Write one image of N frames, and no video.",
            rich_help_panel=PREVIEW_PANEL,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Write one image that compares blends and color transfers, and no video.",
            rich_help_panel=PREVIEW_PANEL,
        ),
    ] = False,
    settings: ConvertSettings,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Swap faces in footage, keeping its sound, timing and everything else.

    Run the same command again to resume after an interruption.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.conversion.clip import Clip
        from faceswap_cli.conversion.output import default_output_name
        from faceswap_cli.stages import preview
        from faceswap_cli.stages.convert import convert as run_convert

        # An error in the input is reported before one in the model.
        clip = Clip.open(source, start_s=settings.start_s, end_s=settings.end_s)
        weights = space.find_weights(model)
        if preview_count and grid:
            raise ConfigurationError(
                "--preview and --grid each write an image of their own", hint="choose one of them"
            )
        if grid:
            image = output or space.exports / fit_name(clip.source.stem, "-grid.png")
            preview.compare_settings(
                source,
                weights=weights,
                to=to,
                output=image,
                device=device,
                report=terminal,
                settings=settings,
                workspace=space,
            )
            terminal.print_result("compared", {"output": str(image)})
        elif preview_count:
            image = output or space.exports / fit_name(clip.source.stem, "-preview.png")
            times = preview.preview(
                source,
                weights=weights,
                to=to,
                output=image,
                count=preview_count,
                device=device,
                report=terminal,
                settings=settings,
                workspace=space,
            )
            terminal.print_result("preview", {"moments": times, "output": str(image)})
        else:
            summary = run_convert(
                source,
                weights=weights,
                to=to,
                output=output or space.exports / default_output_name(clip.source),
                device=device,
                report=terminal,
                settings=settings,
                workspace=space,
            )
            terminal.print_result("converted", dataclasses.asdict(summary))
