"""Settings of a conversion: `ConvertSettings`.

Imports nothing heavy: the command line makes its options from it. `swapper.validate_settings`
checks the values, `swapper.build_swapper` applies them.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from faceswap_cli.compositing import DEFAULT_FEATHER
from faceswap_cli.core.option import Option
from faceswap_cli.faces import VISIBLE_MASK
from faceswap_cli.video import DEFAULT_QUALITY

COMPOSITING = "Compositing"
OUTPUT = "Output"


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """How faces are composited into the frames, and how the result is encoded."""

    faces: Annotated[
        tuple[str, ...],
        Option(
            "Face to replace: largest (the default), all, track:N or match:PHOTO, and the identity "
            "it gets. Repeatable: --face match:a.jpg=bo --face match:b.jpg=ada swaps two faces.",
            flags="--face",
            metavar="CHOICE[=NAME]",
        ),
    ] = ()
    color: Annotated[
        str,
        Option(
            "How the face's colors are matched to the frame: mkl, lab, histogram or none.",
            metavar="NAME",
            panel=COMPOSITING,
        ),
    ] = "mkl"
    blend: Annotated[
        str,
        Option(
            "How the face is blended in: alpha, pyramid or poisson.",
            metavar="NAME",
            panel=COMPOSITING,
        ),
    ] = "alpha"
    mask: Annotated[
        str,
        Option(
            "Mask of the face: visible, without what is in front of it; or both, oval or learned, "
            "which swap that too.",
            metavar="NAME",
            panel=COMPOSITING,
        ),
    ] = VISIBLE_MASK
    forehead: Annotated[bool, Option("Swap the forehead too.", panel=COMPOSITING)] = True
    mouth: Annotated[bool, Option("Swap the inside of the mouth too.", panel=COMPOSITING)] = True
    sharpen: Annotated[
        float,
        Option(
            "Amount of the unsharp mask, 0 to 2; 1 doubles fine detail.",
            metavar="F",
            panel=COMPOSITING,
        ),
    ] = 0.5
    match_blur: Annotated[
        bool, Option("Blur the face where the frame is blurred.", panel=COMPOSITING)
    ] = True
    match_grain: Annotated[
        bool, Option("Add the frame's grain to the face.", panel=COMPOSITING)
    ] = True
    feather: Annotated[
        float,
        Option(
            "Width of the mask's soft edge as a part of the face's side, 0 to 0.5.",
            metavar="F",
            panel=COMPOSITING,
        ),
    ] = DEFAULT_FEATHER
    shrink: Annotated[
        float,
        Option(
            "Shrink the mask by this part of the face's side, -0.5 to 0.5; negative grows it.",
            metavar="F",
            panel=COMPOSITING,
        ),
    ] = 0.0
    start_s: Annotated[
        float, Option("Begin S seconds into the video.", flags="--start", metavar="S", minimum=0)
    ] = 0.0
    end_s: Annotated[
        float | None,
        Option("End S seconds into the video.", flags="--end", metavar="S", minimum=0),
    ] = None
    side_by_side: Annotated[
        bool, Option("Show the original to the left of the result.", panel=OUTPUT)
    ] = False
    codec: Annotated[
        str | None,
        Option(
            "h264, h265, av1, prores or ffv1; default: the usual one for the file extension.",
            metavar="NAME",
            panel=OUTPUT,
        ),
    ] = None
    quality: Annotated[
        int,
        Option("0 is lossless, 18 looks the same, 51 is the worst.", metavar="Q", panel=OUTPUT),
    ] = DEFAULT_QUALITY
    hwaccel: Annotated[bool, Option("Encode on a GPU if one supports the codec.", panel=OUTPUT)] = (
        True
    )
    visible_label: Annotated[
        bool, Option("Write into the image that a face was swapped.", panel=OUTPUT)
    ] = False
    credentials: Annotated[
        bool,
        Option("Sign the output as a face swap.", panel=OUTPUT),
    ] = True
    batch_size: int = 16
    """Frames in one forward pass; fewer where frames are very large."""

    def render_settings(self) -> Mapping[str, Any]:
        """Return the settings that affect the pixels, by name, as JSON can hold them."""
        values = asdict(self)
        for name in ("faces", "credentials", "start_s", "end_s"):
            del values[name]
        return values
