"""Settings of an extraction: `ExtractSettings`.

Imports nothing heavy: the command line makes its options from it. `stages.extract` checks the
values.
"""

from dataclasses import dataclass
from typing import Annotated

from faceswap_cli.core.option import Option
from faceswap_cli.faces import DEFAULT_DETECTOR

SELECTION = "Selection"
CROPS = "Crops"
AUTO_SIZE_PX = 0
"""Crops are as large as the faces are in the footage: `--size auto`."""


def parse_size(text: str | int) -> int:
    """Return a size as it is entered: a number of pixels, or `auto`.

    Raises:
        ValueError: It is neither.
    """
    if text == "auto":
        return AUTO_SIZE_PX
    if not str(text).isdecimal():
        raise ValueError(f'"{text}" is neither a number of pixels nor auto')
    return int(text)


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """Which faces are extracted and how crops are made; fixed for the life of a set."""

    size_px: Annotated[
        int,
        Option(
            "Side of the crops, in pixels; auto: as large as the faces in the footage, to 512.",
            flags="--size",
            metavar="PX|auto",
            panel=CROPS,
            parser=parse_size,
        ),
    ] = 256
    framing: Annotated[
        str,
        Option(
            "What a crop contains: the face, or the whole head.", metavar="face|head", panel=CROPS
        ),
    ] = "face"
    format: Annotated[str, Option("File format of the crops.", metavar="png|jpeg", panel=CROPS)] = (
        "png"
    )
    every: Annotated[
        int, Option("Use every N-th frame only.", metavar="N", panel=SELECTION, minimum=1)
    ] = 1
    fps: Annotated[
        float | None, Option("Use at most F frames a second.", metavar="F", panel=SELECTION)
    ] = None
    start_s: Annotated[
        float,
        Option(
            "Begin S seconds into each video.",
            flags="--start",
            metavar="S",
            panel=SELECTION,
            minimum=0,
        ),
    ] = 0.0
    end_s: Annotated[
        float | None,
        Option(
            "End S seconds into each video.",
            flags="--end",
            metavar="S",
            panel=SELECTION,
            minimum=0,
        ),
    ] = None
    max_faces: Annotated[
        int | None,
        Option("Stop when a set has N faces.", metavar="N", panel=SELECTION, minimum=1),
    ] = None
    faces: Annotated[
        str,
        Option(
            "Faces to keep: largest, all, track:N or match:PHOTO.",
            flags="--face",
            metavar="CHOICE",
            panel=SELECTION,
        ),
    ] = "largest"
    detector: Annotated[str, Option("Face detector.", metavar="litert|mediapipe")] = (
        DEFAULT_DETECTOR
    )
