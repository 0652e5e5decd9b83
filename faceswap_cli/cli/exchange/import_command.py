"""`faceswap import`: aligned faces of another program, or a data set -> sets of faces."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import ask_consent, workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
    make_parser,
    parse_path,
)
from faceswap_cli.cli.view.next_step import after_extract
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.faces.settings import ExtractSettings, parse_size
from faceswap_cli.video.faceforensics import is_faceforensics


def import_(
    path: Annotated[
        Path,
        typer.Argument(
            parser=parse_path,
            metavar="DIR|FILE",
            help="A folder of images of faces, one image, or a FaceForensics++ data set.",
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
        int,
        typer.Option(
            "--size",
            metavar="PX|auto",
            help="Side of the crops, in pixels; auto: as large as the faces are, to 512.",
            parser=make_parser(parse_size),
        ),
    ] = ExtractSettings.size_px,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="FaceForensics++: the method whose masks are imported; default: Deepfakes.",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="train|val|test",
            help="FaceForensics++: only the pairs of this list; default: all.",
        ),
    ] = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Import the faces that another program extracted, or photos of one person.

    Reads folders of faceswap (PNG) and DeepFaceLab (JPEG). Each face is found again and aligned as
    here; images without a face are counted and named. Of a FaceForensics++ data set, each person
    of a pair becomes a set, with masks. Run the same command again to resume.
    """
    with workspace_context(workspace, common) as (terminal, space):
        if is_faceforensics(path):
            from faceswap_cli.stages.imports import import_faceforensics as data_set

            if name is not None:
                raise ConfigurationError(
                    "a data set becomes many sets, which --name cannot name",
                    hint="leave --name out: sets are called by their videos",
                )
            people = data_set.import_faceforensics(
                path,
                method=method,
                split=split,
                workspace=space,
                settings=ExtractSettings(size_px=size_px),
                consent=consent,
                ask_consent=ask_consent(terminal),
                report=terminal,
            )
            terminal.print_table(*data_set.people_table(people))
            if common.as_json:
                by_name = {one.name: dataclasses.asdict(one) for one in people}
                terminal.print_result("sets", by_name)
            terminal.print_next(after_extract(space, [people[0].name, people[0].partner]))
            return
        if method or split:
            raise ConfigurationError(
                "--method and --split are for a FaceForensics++ data set",
                hint=f"leave them out: faceswap import {path}",
            )
        from faceswap_cli.stages.imports import import_faces as stage

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
