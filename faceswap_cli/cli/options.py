"""The options that several commands share, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_models import registry

COMMON_PANEL = "Common options"
"""The heading under which help shows what nearly every command takes."""


def parse_path(text: str) -> Path:
    """Read a path that was typed.

    Raises:
        BadParameter: It is empty, as a variable of the shell is that nobody has set; to Python an
            empty path is the current folder.
    """
    if not str(text):
        raise typer.BadParameter('an empty word is no path ("." is this folder)')
    return Path(text)


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        parser=parse_path,
        metavar="DIR",
        help="Folder that holds sets, runs and results.",
        rich_help_panel=COMMON_PANEL,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        help="Where to compute; auto takes a GPU if there is one.",
        rich_help_panel=COMMON_PANEL,
    ),
]
ModelOption = Annotated[
    str,
    typer.Option(
        "--model", metavar="NAME", help=f"Kind of network: {', '.join(registry.names())}."
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Named settings; `faceswap presets` lists them."),
]
SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change one setting, such as train.batch_size=8; repeatable.",
    ),
]
MaxImagesOption = Annotated[
    int | None,
    typer.Option(
        "--images", metavar="N", min=1, help="Train until N images are seen, of all people."
    ),
]
MaxMinutesOption = Annotated[
    float | None, typer.Option("--minutes", metavar="M", min=0.01, help="Train for M minutes.")
]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", metavar="N", min=0, help="Where random numbers begin: the same N, the same run."
    ),
]
JsonOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print the result as one JSON object.", rich_help_panel=COMMON_PANEL
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show errors only.", rich_help_panel=COMMON_PANEL)
]
DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show where an error came from.", rich_help_panel=COMMON_PANEL),
]

DEFAULT_WORKSPACE = Path("workspace")
