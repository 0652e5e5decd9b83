"""`faceswap convert`: footage -> the same footage with other faces."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from faceswap_cli.cli.answering import answering, working_in
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    DebugOption,
    DeviceOption,
    JsonOption,
    QuietOption,
    WorkspaceOption,
    path,
)
from faceswap_cli.errors import ConfigurationError

LOOK = "Only a look"
LAID_IN = "How the face is laid in"
FILE = "The file"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            parser=path, metavar="INPUT", help="A video, a picture or a folder of pictures."
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
            parser=path,
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
    moments: Annotated[
        int | None,
        typer.Option(
            "--preview",
            metavar="N",
            min=1,
            help="Make one picture of N moments, and no video.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    grid: Annotated[
        bool,
        typer.Option(
            "--grid",
            help="Make one picture that compares blends and colours, and no video.",
            rich_help_panel=LOOK,
        ),
    ] = False,
    colour: Annotated[
        str,
        typer.Option(
            "--colour",
            metavar="NAME",
            help="How the face takes the frame's colours: mkl, lab, histogram or none.",
            rich_help_panel=LAID_IN,
        ),
    ] = "mkl",
    blend: Annotated[
        str,
        typer.Option(
            "--blend",
            metavar="NAME",
            help="How it is mixed in: alpha, pyramid or poisson.",
            rich_help_panel=LAID_IN,
        ),
    ] = "alpha",
    mask: Annotated[
        str,
        typer.Option(
            "--mask",
            metavar="NAME",
            help="Where it may show: learned, oval, or both at once.",
            rich_help_panel=LAID_IN,
        ),
    ] = "both",
    shrink: Annotated[
        float,
        typer.Option(
            "--shrink",
            metavar="F",
            help="Draw the mask in by this part of the face's side, -0.5 to 0.5.",
            rich_help_panel=LAID_IN,
        ),
    ] = 0.0,
    feather: Annotated[
        float,
        typer.Option(
            "--feather",
            metavar="F",
            help="Width of the mask's soft edge, as a part of the face's side, 0 to 0.5.",
            rich_help_panel=LAID_IN,
        ),
    ] = 0.15,
    forehead: Annotated[
        bool,
        typer.Option(
            "--forehead/--no-forehead",
            help="Swap what is above the brows too.",
            rich_help_panel=LAID_IN,
        ),
    ] = True,
    mouth: Annotated[
        bool,
        typer.Option(
            "--mouth/--own-mouth",
            help="Swap what shows between the lips too.",
            rich_help_panel=LAID_IN,
        ),
    ] = True,
    sharpen: Annotated[
        float,
        typer.Option(
            "--sharpen",
            metavar="F",
            help="Add fine detail again, 0 to 2; 1 doubles it.",
            rich_help_panel=LAID_IN,
        ),
    ] = 0.5,
    match_blur: Annotated[
        bool,
        typer.Option(
            "--match-blur/--no-match-blur",
            help="Blur the face as the frame is blurred.",
            rich_help_panel=LAID_IN,
        ),
    ] = True,
    match_grain: Annotated[
        bool,
        typer.Option(
            "--match-grain/--no-match-grain",
            help="Give the face the frame's grain.",
            rich_help_panel=LAID_IN,
        ),
    ] = True,
    side_by_side: Annotated[
        bool,
        typer.Option(
            "--side-by-side",
            help="Put the original to the left of the result.",
            rich_help_panel=FILE,
        ),
    ] = False,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            metavar="NAME",
            help="h264, h265, av1, prores or ffv1, if not what the file's ending usually has.",
            rich_help_panel=FILE,
        ),
    ] = None,
    quality: Annotated[
        int,
        typer.Option(
            "--quality",
            metavar="Q",
            help="0 is lossless, 18 looks the same, 51 is the worst.",
            rich_help_panel=FILE,
        ),
    ] = 18,
    hardware: Annotated[
        bool,
        typer.Option(
            "--hardware/--software",
            help="Encode on a GPU where there is one that can.",
            rich_help_panel=FILE,
        ),
    ] = True,
    label: Annotated[
        bool,
        typer.Option(
            "--label",
            help="Write into the picture that a face was swapped.",
            rich_help_panel=FILE,
        ),
    ] = False,
    credentials: Annotated[
        bool,
        typer.Option(
            "--credentials/--no-credentials",
            help="Say in the file, signed, that a face was swapped.",
            rich_help_panel=FILE,
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
        answering(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        working_in(workspace) as space,
    ):
        from faceswap_cli.swap.clip import Clip
        from faceswap_cli.swap.settings import ConvertSettings

        Clip.of(source, start_s=start, end_s=end)  # a slip in the input is told before the model's
        settings = ConvertSettings(
            faces=tuple(faces or ()),
            colour=colour,
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
            hardware=hardware,
            label=label,
            credentials=credentials,
        )
        given: dict[str, Any] = {
            "weights": space.weights(model),
            "to": to,
            "device": device,
            "report": terminal,
            "settings": settings,
            "workspace": space,
        }
        if moments and grid:
            raise ConfigurationError(
                "--preview and --grid each make a picture of their own", hint="ask for one of them"
            )
        if moments or grid:
            from faceswap_cli.stages import preview as look

            what = "grid" if grid else "preview"
            picture = output or space.exports / f"{source.stem}-{what}.png"
            if grid:
                look.grid(source, output=picture, **given)
                terminal.result("compared", {"output": str(picture)})
            else:
                shown = look.preview(source, output=picture, moments=moments or 1, **given)
                terminal.result("preview", {"moments": shown, "output": str(picture)})
            return
        from faceswap_cli.stages.convert import convert as run_convert
        from faceswap_cli.swap.output import usual_name

        target = output or space.exports / usual_name(source)
        summary = run_convert(source, output=target, **given)
        terminal.result("converted", dataclasses.asdict(summary))
