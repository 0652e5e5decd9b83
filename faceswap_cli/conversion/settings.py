"""How faces are laid into footage and how it is written: what may be chosen, checked as a whole."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from faceswap_cli.compositing.color_transfer import COLOR_TRANSFERS
from faceswap_cli.compositing.compositor import BLEND_MODES, Compositor
from faceswap_cli.compositing.postprocess import DEFAULT_POSTPROCESSING, Postprocessor
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.swapper import FaceSwapper
from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.faces.masks import MASK_MODES
from faceswap_cli.video.codecs import DEFAULT_QUALITY, check_codec


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """How faces are laid into the footage, and how it is written."""

    faces: tuple[str, ...] = ()
    """Whose faces are replaced, each `CHOICE` or `CHOICE=NAME`; none: the largest face."""
    color: str = "mkl"
    """How the swapped face takes the frame's colours: a name in `COLOR_TRANSFERS`."""
    blend: str = "alpha"
    """How it is mixed into the frame: a name in `BLEND_MODES`."""
    mask: str = "both"
    """Where the swap may show: a name in `MASKS`."""
    forehead: bool = True
    """Whether what lies above the brows is swapped."""
    mouth: bool = True
    """Whether what shows between the lips is swapped."""
    sharpen: float = DEFAULT_POSTPROCESSING.sharpen
    """How much of the swapped face's fine detail is added again, 0 to 2."""
    match_blur: bool = DEFAULT_POSTPROCESSING.match_blur
    """Blur the swapped face where the frame's is blurrier."""
    match_grain: bool = DEFAULT_POSTPROCESSING.match_grain
    """Give it the frame's grain."""
    feather: float = Compositor.feather
    """Width of the soft edge as a part of the side of the network's square."""
    shrink: float = Compositor.shrink
    """How far the mask's edge is drawn in, as a part of that side; negative grows it."""
    start_s: float = 0.0
    """Leave out what is shown before, seconds."""
    end_s: float | None = None
    """Leave out what is shown from then on, seconds; None: nothing."""
    side_by_side: bool = False
    """Put every frame as it was to the left of what it became."""
    codec: str | None = None
    """How the picture is encoded: a name in `CODECS`; None: as the output's form usually is."""
    quality: int = DEFAULT_QUALITY
    """0 is lossless, 18 hardly to be told from it, 51 the worst."""
    hwaccel: bool = True
    """Whether an encoder of the machine's may be taken."""
    visible_label: bool = False
    """Write into the picture that a face was swapped."""
    credentials: bool = True
    """Sign the output, and say in it and beside it what was done."""
    batch_size: int = 16
    """Frames that the network sees together; fewer where frames are very large."""

    def validate(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ConfigurationError: There is no such method, or a number is out of its range.
        """
        for kind, name, methods in (
            ("color", self.color, COLOR_TRANSFERS),
            ("blend", self.blend, BLEND_MODES),
            ("mask", self.mask, MASK_MODES),
        ):
            if name not in methods:
                raise ConfigurationError(
                    f'--{kind}: there is none called "{name}"', hint=did_you_mean(name, methods)
                )
        if not 0 <= self.feather <= 0.5 or not -0.5 <= self.shrink <= 0.5:
            raise ConfigurationError(
                f"feather {self.feather} and shrink {self.shrink} are parts of the face's side",
                hint="feather may be 0 to 0.5, shrink -0.5 to 0.5",
            )
        if not 0 <= self.sharpen <= 2:
            raise ConfigurationError(
                f"--sharpen {self.sharpen:g} is off the scale", hint="0 leaves it, 1 doubles detail"
            )
        check_codec(self.codec or "h264", self.quality)

    def build_swapper(self, model: FaceModel) -> FaceSwapper:
        """Return a network's faces, laid in as these settings say.

        Raises:
            ConfigurationError: They ask for a mask that the network did not learn.
        """
        if self.mask == "learned":
            blank = np.zeros((model.size_px, model.size_px, 3), np.uint8)
            (tried,) = model.infer([blank], model.identities[0])
            MASK_MODES[self.mask](np.ones((1, 1), np.float32), tried.mask)
        compositor = Compositor(
            feather=self.feather,
            shrink=self.shrink,
            color_transfer=COLOR_TRANSFERS[self.color],
            blend=BLEND_MODES[self.blend],
            postprocess=Postprocessor(
                sharpen=self.sharpen, match_blur=self.match_blur, match_grain=self.match_grain
            ),
        )
        return FaceSwapper(
            model=model,
            compositor=compositor,
            combine_masks=MASK_MODES[self.mask],
            forehead=self.forehead,
            mouth=self.mouth,
        )

    def render_settings(self) -> Mapping[str, Any]:
        """Return the settings that decide what the frames look like, as words and numbers."""
        kept = asdict(self)
        for name in ("faces", "credentials", "start_s", "end_s"):
            del kept[name]
        return kept
