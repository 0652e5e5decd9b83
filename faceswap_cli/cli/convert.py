"""`faceswap convert`: footage -> the same footage with swapped faces."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.context import report_failed, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.cli.view.next_step import open_output
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import fit_name
from faceswap_cli.parallel.settings import ParallelSettings

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace

PREVIEW_PANEL = "Preview"


def convert(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            parser=parse_path,
            metavar="INPUT",
            help="Videos, images, folders of either, patterns.",
        ),
    ],
    *,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="RUN|FILE|latest",
            help="Trained model: a run's name, a file of weights, an .onnx or a .dfm file.",
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
            help="Output file, or folder of several; default: INPUT-swapped in the workspace's "
            "exports.",
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
    parallel: ParallelSettings,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Swap faces in footage, keeping its sound, timing and everything else.

    Run the same command again to resume after an interruption: what is finished is not made again.
    Of several inputs, one that fails does not stop the others.
    """
    with workspace_context(workspace, common) as (terminal, space):
        if preview_count and grid:
            raise ConfigurationError(
                "--preview and --grid each write an image of their own", hint="choose one of them"
            )
        if preview_count or grid:
            title, values = write_preview(
                inputs,
                model=model,
                to=to,
                output=output,
                count=preview_count,
                device=device,
                terminal=terminal,
                settings=settings,
                space=space,
            )
            terminal.print_result(title, values)
            return
        from faceswap_cli.stages import convert as stage

        batch = stage.convert_inputs(
            inputs,
            model=model,
            to=to,
            output=output,
            device=device,
            report=terminal,
            settings=settings,
            workspace=space,
            parallel=parallel,
        )
        if len(batch.converted) + len(batch.failed) == 1:
            [summary] = batch.converted.values()
            terminal.print_result("converted", dataclasses.asdict(summary))
            terminal.print_next(open_output(space, summary.output))
            return
        terminal.print_table(*batch.table())
        if common.as_json:
            terminal.print_result("converted", batch.to_dict())
        report_failed(batch.failed, terminal)


def write_preview(
    inputs: Sequence[Path],
    *,
    model: str,
    to: str | None,
    output: Path | None,
    count: int | None,
    device: str,
    terminal: Terminal,
    settings: ConvertSettings,
    space: "Workspace",
) -> tuple[str, dict[str, object]]:
    """Write an image of `count` frames, or of all settings if it is None; return the result.

    Raises:
        ConfigurationError: There is more than one input.
        FaceswapError: As `stages.preview` does.
    """
    from faceswap_cli.conversion.clip import Clip
    from faceswap_cli.stages import preview

    if len(inputs) > 1:
        raise ConfigurationError(
            "--preview and --grid show one input", hint=f"name one, such as {inputs[0]}"
        )
    # An error in the input is reported before one in the model.
    clip = Clip.open(inputs[0], start_s=settings.start_s, end_s=settings.end_s)
    suffix = "-preview.png" if count else "-grid.png"
    image = output or space.exports / fit_name(clip.source.stem, suffix)
    render = partial(preview.preview, count=count) if count else preview.compare_settings
    frames = render(
        inputs[0],
        weights=space.find_weights(model),
        to=to,
        output=image,
        device=device,
        report=terminal,
        settings=settings,
        workspace=space,
    )
    if count:
        return "preview", {"moments": frames, "output": str(image)}
    return "compared", {"output": str(image)}
