"""`faceswap extract`: footage -> sets of faces."""

import dataclasses
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

SELECTION_PANEL = "Which frames and faces"
CROPS_PANEL = "The crops"


def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            parser=parse_path,
            metavar="INPUT",
            help="Videos, pictures, folders of either, patterns, a FaceForensics++ data set.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Put everything into one set of this name; else each input becomes its own.",
        ),
    ] = None,
    faces: Annotated[
        str,
        typer.Option(
            "--face",
            metavar="CHOICE",
            help="Which faces to keep: largest, all, track:N or like:PHOTO.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = "largest",
    every: Annotated[
        int,
        typer.Option(
            "--every",
            metavar="N",
            min=1,
            help="Look at every N-th frame only.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = 1,
    fps: Annotated[
        float | None,
        typer.Option(
            "--fps",
            metavar="F",
            help="Look at F frames a second at most.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = None,
    start: Annotated[
        float,
        typer.Option(
            "--start",
            metavar="S",
            min=0,
            help="Begin S seconds into each video.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = 0.0,
    end: Annotated[
        float | None,
        typer.Option(
            "--end",
            metavar="S",
            min=0,
            help="End S seconds into each video.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = None,
    max_faces: Annotated[
        int | None,
        typer.Option(
            "--max-faces",
            metavar="N",
            min=1,
            help="Stop when a set has N faces.",
            rich_help_panel=SELECTION_PANEL,
        ),
    ] = None,
    size: Annotated[
        int,
        typer.Option(
            "--size",
            metavar="PX",
            help="Side of the crops, in pixels.",
            rich_help_panel=CROPS_PANEL,
        ),
    ] = 256,
    framing: Annotated[
        str,
        typer.Option(
            "--framing",
            metavar="face|head",
            help="How much is in a crop: the face, or the whole head.",
            rich_help_panel=CROPS_PANEL,
        ),
    ] = "face",
    image_format: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="png|jpeg",
            help="How crops are written.",
            rich_help_panel=CROPS_PANEL,
        ),
    ] = "png",
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="KIND[: NOTE]",
            help="Record on what ground you may use these faces: myself, written, synthetic or "
            "other.",
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", metavar="litert|mediapipe", help="What finds the faces.")
    ] = "litert",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the faces in footage and keep them as aligned square crops.

    Each video, and each folder of pictures, becomes a set named after it; with --name all become
    one set. Run the same command again to go on after an interruption.
    """
    with (
        command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        workspace_context(workspace) as space,
    ):
        from faceswap_cli.core.workspace import SetFolder, validate_name
        from faceswap_cli.faces.settings import ExtractSettings
        from faceswap_cli.provenance.consent import CONSENT_SECTION, consent_reminder, parse_consent
        from faceswap_cli.stages import extract as stage
        from faceswap_cli.video.source import find_sources

        said = {} if consent is None else {CONSENT_SECTION: parse_consent(consent).to_dict()}
        settings = ExtractSettings(
            size_px=size,
            framing=framing,
            format=image_format,
            every=every,
            fps=fps,
            start_s=start,
            end_s=end,
            max_faces=max_faces,
            faces=faces,
            detector=detector,
        )
        names = None if name is None else [validate_name(name)]
        footage = find_sources(inputs)
        names = names or stage.set_names(footage)
        folders = [space.set_folder(each) for each in names]
        if name is not None:
            [folder] = folders
            done = [
                stage.extract(
                    footage, folder=folder, settings=settings, report=terminal, extra_sections=said
                )
            ]
        else:
            done = stage.extract_each(
                footage, folders=folders, settings=settings, report=terminal, extra_sections=said
            )
        if note := consent_reminder({one.name: SetFolder(root=one.folder).source for one in done}):
            terminal.note(note)
        if len(done) == 1:
            numbers = dataclasses.asdict(done[0])
            shown = {key: value for key, value in numbers.items() if value is not None}
            terminal.print_result(f'set "{done[0].name}"', shown)
        else:
            terminal.print_table(*stage.summary_table(done))
            if as_json:
                terminal.print_result("sets", {one.name: dataclasses.asdict(one) for one in done})
