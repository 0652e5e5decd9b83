"""Swapping the faces of one frame: `FaceSwapper`, and its set-up from `ConvertSettings`.

`pipeline` runs these steps over a clip and smooths between them.
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
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces import VISIBLE_MASK
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.masks import MASK_MODES, MASK_PX, face_mask, mouth_mask
from faceswap_cli.faces.occlusion import VisibleFaceModel, outline_face
from faceswap_cli.video.codecs import check_codec


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceTask:
    """A face in a frame, and the identity to swap in."""

    identity: str
    """Identity to swap in."""
    track: int
    """The same number for the same face as long as it is tracked, never across a cut."""
    landmarks: Points
    """float32 (478, 2), px in the frame."""
    alignment: FaceAlignment
    """Its position, smoothed over time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceCrop:
    """The model's input for one face of a frame."""

    identity: str
    track: int
    alignment: FaceAlignment
    """Position of the square that the model gets."""
    image: Image
    """The frame's pixels in it, uint8 (S, S, 3)."""
    face_mask: Mask
    """float32 (MASK_PX, MASK_PX): the landmarks' outline in that square."""
    protect_mask: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame is preserved."""
    occlusion_mask: Mask | None = None
    """float32 (MASK_PX, MASK_PX): 1 where something is in front of the face; None: not asked."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceLayer:
    """A swapped face with the masks and the statistics to composite it by."""

    track: int
    alignment: FaceAlignment
    swapped: Image
    """The model's output, uint8 (S, S, 3)."""
    mask: Mask
    """float32 (MASK_PX, MASK_PX): where the swap may show."""
    protect_mask: Mask | None
    """float32 (MASK_PX, MASK_PX): where the frame is preserved."""
    color_statistics: ColorStatistics
    """Measured on this frame, or smoothed over its neighbors."""
    occlusion_mask: Mask | None = None
    """float32 (MASK_PX, MASK_PX): 1 where something is in front of the face; None: not asked."""

    @property
    def preserved(self) -> Mask | None:
        """Where the frame is preserved, for either reason, float32 (MASK_PX, MASK_PX)."""
        if self.protect_mask is None or self.occlusion_mask is None:
            return self.occlusion_mask if self.protect_mask is None else self.protect_mask
        return np.maximum(self.protect_mask, self.occlusion_mask)


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceSwapper:
    """A model and a compositor: swaps the faces of a frame in the steps prepare, run, composite."""

    model: FaceModel
    compositor: Compositor
    combine_masks: Callable[[Mask, Mask | None], Mask] = MASK_MODES["both"]
    """Returns where the swap may show, given the outline and the model's own mask."""
    forehead: bool = True
    """Whether the area above the brows is swapped."""
    mouth: bool = True
    """Whether the opening between the lips is swapped."""
    occlusion: VisibleFaceModel | None = None
    """Finds what is in front of the face; None swaps it too."""

    def prepare(self, view: LazyImage, task: FaceTask) -> FaceCrop:
        """Crop the model's input for one face of a frame."""
        alignment = task.alignment.subsquare(self.model.coverage, self.model.center)
        image = view.to_partial_array(alignment.source_area())
        seen = self.occlusion.analyze(view, task.alignment) if self.occlusion else None
        occlusion_mask = None
        if seen is not None:
            outline = outline_face(task.landmarks, task.alignment)
            occlusion_mask = seen.find_occlusion(alignment, MASK_PX, outline)
        if seen is not None and self.forehead:
            face = seen.find_face(alignment, MASK_PX, task.landmarks)
        else:
            face = face_mask(task.landmarks, alignment, forehead=self.forehead)
        return FaceCrop(
            identity=task.identity,
            track=task.track,
            alignment=alignment,
            image=alignment.crop(image, self.model.size_px),
            face_mask=face,
            protect_mask=None if self.mouth else mouth_mask(task.landmarks, alignment),
            occlusion_mask=occlusion_mask,
        )

    def run(self, crops: Sequence[FaceCrop], *, batch_size: int = 16) -> list[FaceLayer]:
        """Run the model on crops, at most `batch_size` of one identity at a time."""
        swapped: dict[int, SwappedFace] = {}
        for identity in dict.fromkeys(crop.identity for crop in crops):
            indices = [index for index, crop in enumerate(crops) if crop.identity == identity]
            for start in range(0, len(indices), batch_size):
                batch = indices[start : start + batch_size]
                faces = self.model.infer([crops[index].image for index in batch], identity)
                swapped.update(zip(batch, faces, strict=True))
        return [self._make_layer(crop, swapped[index]) for index, crop in enumerate(crops)]

    def _make_layer(self, crop: FaceCrop, face: SwappedFace) -> FaceLayer:
        """Return the layer of a swapped face, its statistics measured on its own frame."""
        mask = self.combine_masks(crop.face_mask, face.mask)
        visible = mask if crop.occlusion_mask is None else mask * (1 - crop.occlusion_mask)
        return FaceLayer(
            track=crop.track,
            alignment=crop.alignment,
            swapped=face.image,
            mask=mask,
            protect_mask=crop.protect_mask,
            color_statistics=self.compositor.color_statistics(crop.image, face.image, visible),
            occlusion_mask=crop.occlusion_mask,
        )

    def composite(self, view: LazyImage, layers: Sequence[FaceLayer]) -> PatchedImage:
        """Return the frame with the swapped faces composited into it, one after the other."""
        patches: list[Patch] = []
        for layer in layers:
            patch = self.compositor.render_patch(
                PatchedImage(base=view, patches=patches),
                layer.swapped,
                layer.mask,
                layer.alignment,
                statistics=layer.color_statistics,
                protect_mask=layer.preserved,
            )
            patches.append(patch)
        return PatchedImage(base=view, patches=patches)

    def alpha_in_frame(self, size: tuple[int, int], layers: Sequence[FaceLayer]) -> Image:
        """Return how much of any swapped face a frame of (width, height) px shows, uint8 (H, W)."""
        visible = np.zeros(size[::-1], np.uint8)
        for layer in layers:
            alpha = self.compositor.alpha_in_frame(
                layer.mask, layer.alignment, size, protect_mask=layer.preserved
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
                f'--{kind} has no method "{name}"', hint=did_you_mean(name, methods)
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


def build_swapper(
    settings: ConvertSettings, model: FaceModel, workspace: Workspace | None = None
) -> FaceSwapper:
    """Return a swapper with the compositor and the masks of the settings.

    Args:
        settings: How faces are composited.
        model: The trained model.
        workspace: May have weights of its own for what covers a face.

    Raises:
        ConfigurationError: They ask for a learned mask, and the model predicts none.
        CheckpointError: The workspace's weights are damaged.
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
        occlusion=load_occlusion(settings, workspace),
    )


def load_occlusion(
    settings: ConvertSettings, workspace: Workspace | None
) -> VisibleFaceModel | None:
    """Return the network that finds what covers a face, if the settings ask for it.

    Raises:
        CheckpointError: The workspace's weights are damaged.
    """
    if settings.mask != VISIBLE_MASK:
        return None
    return VisibleFaceModel.load(workspace.visible_face_weights if workspace else None)
