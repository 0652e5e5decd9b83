"""`faceswap convert`: footage -> the same footage with other faces."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from faceswap_cli.cli.context import command_context, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.core.errors import ConfigurationError

PREVIEW_PANEL = "Only a look"
COMPOSITING_PANEL = "How the face is laid in"
OUTPUT_PANEL = "The file"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            parser=parse_path, metavar="INPUT", help="A video, a picture or a folder of pictures."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="RUN|FILE|latest",
            help="A trained model: a run's name, or a file of weights.",
        ),
    ] = "latest",
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="NAME",
            help="Whose face to put in, if not the one of the model's people whom INPUT lacks.",
        ),
    ] = None,
    faces: Annotated[
        list[str] | None,
        typer.Option(
            "--face",
            metavar="CHOICE[=NAME]",
            help="Whose face is replaced: largest (taken if none is given), all, track:N or "
            "like:PHOTO; and by whose. Repeatable: --face like:a.jpg=bo --face like:b.jpg=ada "
            "swaps two people.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="PATH",
            help="Where the result goes, if not INPUT-swapped in the workspace's exports.",
        ),
    ] = None,
    start: Annotated[
        float, typer.Option("--start", metavar="S", min=0, help="Begin S seconds into the video.")
    ] = 0.0,
    end: Annotated[
        float | None,
        typer.Option("--end", metavar="S", min=0, help="End S seconds into the video."),
    ] = None,
    preview_count: Annotated[
        int | None,
        typer.Option(
            "--preview",
            metavar="N",
            min=1,
            help="Make one picture of N moments, and no video.",
            rich_help_panel=PREVIEW_PANEL,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Make one picture that compares blends and colours, and no video.",
            rich_help_panel=PREVIEW_PANEL,
        ),
    ] = False,
    color: Annotated[
        str,
        typer.Option(
            "--color",
            "--colour",
            metavar="NAME",
            help="How the face takes the frame's colours: mkl, lab, histogram or none.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = "mkl",
    blend: Annotated[
        str,
        typer.Option(
            "--blend",
            metavar="NAME",
            help="How it is mixed in: alpha, pyramid or poisson.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = "alpha",
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            metavar="NAME",
            help="Where it may show: learned, oval, or both at once.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = "both",
    shrink: Annotated[
        float,
        typer.Option(
            "--shrink",
            metavar="F",
            help="Draw the mask in by this part of the face's side, -0.5 to 0.5.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = 0.0,
    feather: Annotated[
        float,
        typer.Option(
            "--feather",
            metavar="F",
            help="Width of the mask's soft edge, as a part of the face's side, 0 to 0.5.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = 0.15,
    forehead: Annotated[
        bool,
        typer.Option(
            "--forehead/--no-forehead",
            help="Swap what is above the brows too.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = True,
    mouth: Annotated[
        bool,
        typer.Option(
            "--mouth/--own-mouth",
            help="Swap what shows between the lips too.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = True,
    sharpen: Annotated[
        float,
        typer.Option(
            "--sharpen",
            metavar="F",
            help="Add fine detail again, 0 to 2; 1 doubles it.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = 0.5,
    match_blur: Annotated[
        bool,
        typer.Option(
            "--match-blur/--no-match-blur",
            help="Blur the face as the frame is blurred.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = True,
    match_grain: Annotated[
        bool,
        typer.Option(
            "--match-grain/--no-match-grain",
            help="Give the face the frame's grain.",
            rich_help_panel=COMPOSITING_PANEL,
        ),
    ] = True,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side",
            help="Put the original to the left of the result.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="NAME",
            help="h264, h265, av1, prores or ffv1, if not what the file's ending usually has.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            "--quality",
            metavar="Q",
            help="0 is lossless, 18 looks the same, 51 is the worst.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = 18,
    hwaccel: Annotated[
        bool,
        typer.Option(
            "--hwaccel/--no-hwaccel",
            help="Encode on a GPU where there is one that can.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = True,
    visible_label: Annotated[
        bool,
        typer.Option(
            "--visible-label",
            "--label",
            help="Write into the picture that a face was swapped.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = False,
    credentials: Annotated[
        bool,
        typer.Option(
            "--credentials/--no-credentials",
            help="Say in the file, signed, that a face was swapped.",
            rich_help_panel=OUTPUT_PANEL,
        ),
    ] = True,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Put other faces into footage, keeping its sound, timing and everything else.

    Run the same command again to go on after an interruption.
    """
    with (
        command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        workspace_context(workspace) as space,
    ):
        from faceswap_cli.conversion.clip import Clip
        from faceswap_cli.conversion.settings import ConvertSettings

        Clip.open(
            source, start_s=start, end_s=end
        )  # a slip in the input is told before the model's
        settings = ConvertSettings(
            faces=tuple(faces or ()),
            color=color,
            blend=blend,
            mask=mask,
            shrink=shrink,
            feather=feather,
            forehead=forehead,
            mouth=mouth,
            sharpen=sharpen,
            match_blur=match_blur,
            match_grain=match_grain,
            start_s=start,
            end_s=end,
            side_by_side=side_by_side,
            codec=codec,
            quality=quality,
            hwaccel=hwaccel,
            visible_label=visible_label,
            credentials=credentials,
        )
        given: dict[str, Any] = {
            "weights": space.find_weights(model),
            "to": to,
            "device": device,
            "report": terminal,
            "settings": settings,
            "workspace": space,
        }
        if preview_count and grid:
            raise ConfigurationError(
                "--preview and --grid each make a picture of their own", hint="ask for one of them"
            )
        if preview_count or grid:
            from faceswap_cli.stages import preview as look

            what = "grid" if grid else "preview"
            picture = output or space.exports / f"{source.stem}-{what}.png"
            if grid:
                look.compare_settings(source, output=picture, **given)
                terminal.print_result("compared", {"output": str(picture)})
            else:
                shown = look.preview(source, output=picture, count=preview_count or 1, **given)
                terminal.print_result("preview", {"moments": shown, "output": str(picture)})
            return
        from faceswap_cli.conversion.output import default_output_name
        from faceswap_cli.stages.convert import convert as run_convert

        target = output or space.exports / default_output_name(source)
        summary = run_convert(source, output=target, **given)
        terminal.print_result("converted", dataclasses.asdict(summary))
