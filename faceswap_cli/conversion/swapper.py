"""Other faces in one frame: what the network is shown of it, and how its answer is laid back.

Nothing here knows of files, or of the frames before and after; `swap.flow` does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from faceswap_cli.compositing.color_transfer import COLOR_TRANSFERS, ColorStatistics
from faceswap_cli.compositing.compositor import BLEND_MODES, Compositor
from faceswap_cli.compositing.postprocess import Postprocessor
from faceswap_cli.conversion.model import FaceModel, SwappedFace
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.core.lazy_image import LazyImage, Patch, PatchedImage
from faceswap_cli.core.types import Image, Mask, Points
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.masks import MASK_MODES, face_mask, mouth_mask
from faceswap_cli.video.codecs import check_codec


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTask:
    """A face in a frame that is to become another person's."""

    identity: str
    """Whose it becomes."""
    track: int
    """The same number for the same face as long as it is followed, never across a cut."""
    landmarks: Points
    """float32 (478, 2), px in the frame."""
    alignment: FaceAlignment
    """Where the face lies, held steady over time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCrop:
    """What is cut out of a frame for one face."""

    identity: str
    track: int
    alignment: FaceAlignment
    """The place of the square that the network sees."""
    image: Image
    """What it sees there, uint8 (S, S, 3)."""
    face_mask: Mask
    """float32 (MASK_PX, MASK_PX): the face's outline in that square."""
    protect_mask: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame shows all the same."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceLayer:
    """A drawn face, and how it is to be laid over the one in the frame."""

    track: int
    alignment: FaceAlignment
    swapped: Image
    """What the network made of it, uint8 (S, S, 3)."""
    mask: Mask
    """float32 (MASK_PX, MASK_PX): where it may show."""
    protect_mask: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame shows all the same."""
    color_statistics: ColorStatistics
    """What its colours are matched by."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSwapper:
    """A network and a compositor: from the faces in a frame to the frame with other faces."""

    model: FaceModel
    compositor: Compositor
    combine_masks: Callable[[Mask, Mask | None], Mask] = MASK_MODES["both"]
    """Of the face's outline and the mask the network learned: where the swap may show."""
    forehead: bool = True
    """Whether what lies above the brows is swapped."""
    mouth: bool = True
    """Whether what shows between the lips is swapped."""

    def prepare(self, view: LazyImage, task: FaceTask) -> FaceCrop:
        """Cut out what the network is to see of a face in a frame."""
        alignment = task.alignment.center_crop(self.model.coverage)
        image = view.to_partial_array(alignment.source_area())
        return FaceCrop(
            identity=task.identity,
            track=task.track,
            alignment=alignment,
            image=alignment.crop(image, self.model.size_px),
            face_mask=face_mask(task.landmarks, alignment, forehead=self.forehead),
            protect_mask=None if self.mouth else mouth_mask(task.landmarks, alignment),
        )

    def run(self, crops: Sequence[FaceCrop], *, batch_size: int = 16) -> list[FaceLayer]:
        """Let the network draw what was cut out, `batch_size` faces of a person at most."""
        drawn: dict[int, SwappedFace] = {}
        for person in dict.fromkeys(target.identity for target in crops):
            whose = [number for number, target in enumerate(crops) if target.identity == person]
            for first in range(0, len(whose), batch_size):
                some = whose[first : first + batch_size]
                faces = self.model.infer([crops[number].image for number in some], person)
                drawn.update(zip(some, faces, strict=True))
        return [self._make_layer(target, drawn[number]) for number, target in enumerate(crops)]

    def _make_layer(self, crop: FaceCrop, face: SwappedFace) -> FaceLayer:
        """Return how a drawn face is to be laid, going by its own frame alone."""
        mask = self.combine_masks(crop.face_mask, face.mask)
        return FaceLayer(
            track=crop.track,
            alignment=crop.alignment,
            swapped=face.image,
            mask=mask,
            protect_mask=crop.protect_mask,
            color_statistics=self.compositor.color_statistics(crop.image, face.image, mask),
        )

    def render_patches(self, view: LazyImage, layers: Sequence[FaceLayer]) -> list[Patch]:
        """Return what changes in a frame when the faces are laid over it one after the other."""
        patches: list[Patch] = []
        for layer in layers:
            patch = self.compositor.render_patch(
                PatchedImage(base=view, patches=patches),
                layer.swapped,
                layer.mask,
                layer.alignment,
                statistics=layer.color_statistics,
                protect_mask=layer.protect_mask,
            )
            patches.append(patch)
        return patches

    def composite(self, view: LazyImage, layers: Sequence[FaceLayer]) -> PatchedImage:
        """Return the frame with the faces laid over it."""
        return PatchedImage(base=view, patches=self.render_patches(view, layers))

    def alpha_in_frame(self, size: tuple[int, int], layers: Sequence[FaceLayer]) -> Image:
        """Return how much of any swapped face a frame of (width, height) px shows, uint8 (H, W)."""
        visible = np.zeros(size[::-1], np.uint8)
        for layer in layers:
            alpha = self.compositor.alpha_in_frame(
                layer.mask, layer.alignment, size, protect_mask=layer.protect_mask
            )
            visible = np.maximum(visible, alpha)
        return visible


def validate_settings(settings: ConvertSettings) -> None:
    """Check the settings.

    Raises:
        ConfigurationError: A name is unknown, or a number out of its range.
    """
    for kind, name, methods in (
        ("color", settings.color, COLOR_TRANSFERS),
        ("blend", settings.blend, BLEND_MODES),
        ("mask", settings.mask, MASK_MODES),
    ):
        if name not in methods:
            raise ConfigurationError(
                f'--{kind}: there is none called "{name}"', hint=did_you_mean(name, methods)
            )
    if not 0 <= settings.feather <= 0.5 or not -0.5 <= settings.shrink <= 0.5:
        raise ConfigurationError(
            f"feather {settings.feather} and shrink {settings.shrink} are parts of the face's side",
            hint="feather may be 0 to 0.5, shrink -0.5 to 0.5",
        )
    if not 0 <= settings.sharpen <= 2:
        raise ConfigurationError(
            f"--sharpen {settings.sharpen:g} is off the scale", hint="0 leaves it, 1 doubles detail"
        )
    check_codec(settings.codec or "h264", settings.quality)


def build_compositor(settings: ConvertSettings) -> Compositor:
    """Return the compositor of the settings."""
    return Compositor(
        feather=settings.feather,
        shrink=settings.shrink,
        color_transfer=COLOR_TRANSFERS[settings.color],
        blend=BLEND_MODES[settings.blend],
        postprocess=Postprocessor(
            sharpen=settings.sharpen,
            match_blur=settings.match_blur,
            match_grain=settings.match_grain,
        ),
    )


def build_swapper(settings: ConvertSettings, model: FaceModel) -> FaceSwapper:
    """Return a swapper with the compositor and the masks of the settings.

    Raises:
        ConfigurationError: They ask for a learned mask, and the model predicts none.
    """
    if settings.mask == "learned":
        blank = np.zeros((model.size_px, model.size_px, 3), np.uint8)
        (tried,) = model.infer([blank], model.identities[0])
        MASK_MODES[settings.mask](np.ones((1, 1), np.float32), tried.mask)
    return FaceSwapper(
        model=model,
        compositor=build_compositor(settings),
        combine_masks=MASK_MODES[settings.mask],
        forehead=settings.forehead,
        mouth=settings.mouth,
    )
