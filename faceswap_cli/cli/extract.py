"""`faceswap extract`: footage -> sets of faces."""

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
from faceswap_cli.faces.settings import ExtractSettings


def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            parser=parse_path,
            metavar="INPUT",
            help="Videos, pictures, folders of either, patterns, a FaceForensics++ data set.",
        ),
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Put everything into one set of this name; else each input becomes its own.",
        ),
    ] = None,
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="KIND[: NOTE]",
            help="Record on what ground you may use these faces: myself, written, synthetic or "
            "other.",
        ),
    ] = None,
    settings: ExtractSettings,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Find the faces in footage and keep them as aligned square crops.

    Each video, and each folder of pictures, becomes a set named after it; with --name all become
    one set. Run the same command again to go on after an interruption.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.core.workspace import SetFolder, validate_name
        from faceswap_cli.provenance.consent import CONSENT_SECTION, consent_reminder, parse_consent
        from faceswap_cli.stages import extract as stage
        from faceswap_cli.video.source import find_sources

        said = {} if consent is None else {CONSENT_SECTION: parse_consent(consent).to_dict()}
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
            if common.as_json:
                terminal.print_result("sets", {one.name: dataclasses.asdict(one) for one in done})
