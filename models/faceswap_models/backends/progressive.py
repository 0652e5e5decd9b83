"""A CycleGAN whose networks start small and grow during training: `Progressive`.

"Face Swap using Autoencoders & image-to-image Translation Techniques", section VI, after Karras et
al., "Progressive Growing of GANs", 2018: each stage inserts one downsampling and one upsampling at
the generators' bottleneck and one layer into the discriminators, and fades them in. The complete
networks are those of a CycleGAN with the same channels, layer by layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceswap_models.backends.cyclegan import CycleGAN, CycleGANModelSettings, CycleGANTrainSettings
from faceswap_models.base import FaceBatch, TrainProgress, UpdateFn
from faceswap_models.gan import DiscriminatorOutput, Generator, PatchDiscriminator
from faceswap_models.growing import GrowingModel

PLATEAU_PATIENCE = 2
"""With growth by plateau, a stage ends after this many validations in a row without improvement."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveModelSettings(CycleGANModelSettings):
    """Settings of the complete networks."""

    grow_resolution: bool = False
    """Start with small images whose side doubles with every stage, up to `size_px`."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveTrainSettings(CycleGANTrainSettings):
    """Settings of the training."""

    growth_stage_images: tuple[int, ...] = (40_000,)
    """Length of each stage after fading in, images; later stages repeat the last."""
    growth_fade_images: int = 20_000
    """Images over which new layers are faded in; 0 uses them fully at once."""
    growth_trigger: str = "images"
    """What ends a stage: `images`, or `plateau` of the validation error."""

    def __post_init__(self) -> None:
        """Check that every stage ends.

        Raises:
            ValueError: There are no lengths, or a name is unknown.
        """
        if not self.growth_stage_images:
            raise ValueError("growth_stage_images needs at least one length")
        if self.growth_trigger not in ("images", "plateau"):
            raise ValueError(
                f'growth_trigger = "{self.growth_trigger}" is neither images nor plateau'
            )


class Progressive(GrowingModel, CycleGAN):
    """A CycleGAN whose networks get more layers during training.

    Its growth step is even for a stage in full (0, 2, 4, ... for stages 1, 2, 3, ...), odd while
    the next stage's layers are faded in. The buffer `built` stores it in every file; the attribute
    `_growth_step` is the same number without a device synchronization.
    """

    model_settings_type = ProgressiveModelSettings
    train_settings_type = ProgressiveTrainSettings
    model_settings: ProgressiveModelSettings
    train_settings: ProgressiveTrainSettings
    built: Tensor
    began: Tensor
    fade: Tensor
    best: Tensor
    waited: Tensor

    def __init__(
        self,
        model: ProgressiveModelSettings,
        train: ProgressiveTrainSettings,
        identities: Sequence[str],
    ) -> None:
        super().__init__(model, train, identities)
        self.register_buffer("built", torch.zeros((), dtype=torch.int64))
        self.register_buffer("began", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fade", torch.ones((), dtype=torch.float64))
        self.register_buffer("best", torch.full((), torch.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))
        self._growth_step = 0

    def initial_depth(self, depth: int) -> int:
        """Return 1: section VI-A, "one downsampling layer and one upsampling layer"."""
        del depth
        return 1

    @property
    def growth_step(self) -> int:
        """Number of growth steps taken."""
        return self._growth_step

    @property
    def final_growth_step(self) -> int:
        """The growth step of the last stage in full."""
        return 2 * (self.num_growth_stages - 1)

    @property
    def num_growth_stages(self) -> int:
        """Number of stages: one per layer of the deeper network."""
        model = self.model_settings
        return max(len(model.generator_channels), len(model.discriminator_channels))

    @property
    def growth_stage(self) -> int:
        """Number of the current stage, from 1; a stage that is faded in counts already."""
        return (self.growth_step + 1) // 2 + 1

    @property
    def is_fading(self) -> bool:
        """Whether the newest layers are still being faded in."""
        return self.growth_step % 2 == 1

    def growth_due(self, progress: TrainProgress) -> int:
        """Return the growth step that the next training step needs: at most one more."""
        if not self.is_growing:
            return self.growth_step
        train, since = self.train_settings, progress.images_seen - int(self.began)
        if self.is_fading:
            is_over = since >= train.growth_fade_images
        elif train.growth_trigger == "plateau":
            is_over = int(self.waited) >= PLATEAU_PATIENCE
        else:
            lengths = train.growth_stage_images
            is_over = since >= lengths[min(self.growth_stage, len(lengths)) - 1]
        return self.growth_step + is_over

    def grow(self, growth_step: int, progress: TrainProgress) -> None:
        """Insert new layers, with new weights, or remove the heads that they have replaced."""
        self._build_networks(growth_step)
        self.built.fill_(growth_step)
        self.began.fill_(progress.images_seen)
        self.fade.fill_(0.0 if self.is_fading else 1.0)
        self.best.fill_(torch.inf)
        self.waited.zero_()

    def on_validation(self, val_error: float) -> None:
        """Record the error of a scheduled validation, for growth by plateau."""
        if val_error < float(self.best):
            self.best.fill_(val_error)
            self.waited.zero_()
        else:
            self.waited.add_(1)

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Train as a CycleGAN, with the newest layers faded in by the images seen."""
        if self.is_fading:
            fade = (progress.images_seen - int(self.began)) / self.train_settings.growth_fade_images
            self.fade.fill_(min(1.0, fade))
        return super().train_step(batch, update, progress)

    def generate(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Translate faces by one generator, at the stage's resolution."""
        assert isinstance(generator, Generator)
        if not self.model_settings.grow_resolution:
            image: Tensor = generator(faces, self.fade.to(faces.dtype))
            return image
        depths = self._depths(len(self.model_settings.generator_channels))
        return self._blend(
            [
                _upsample_like(generator(_downsample(faces, size_px), depth=depth), faces)
                for size_px, depth in zip(self._image_sizes(), depths, strict=True)
            ]
        )

    def discriminate(self, discriminator: nn.Module, faces: Tensor) -> list[DiscriminatorOutput]:
        """Return one discriminator's scores of faces, at the stage's resolution."""
        assert isinstance(discriminator, PatchDiscriminator)
        fade = self.fade.to(faces.dtype)
        if not self.model_settings.grow_resolution:
            outputs: list[DiscriminatorOutput] = discriminator(faces, fade)
            return outputs
        depths = self._depths(len(self.model_settings.discriminator_channels))
        weights: list[Tensor | float] = [1 - fade, fade] if self.is_fading else [1.0]
        return [
            DiscriminatorOutput(
                weight=weight,
                scores=discriminator(_downsample(faces, size_px), depth=depth)[0].scores,
            )
            for weight, size_px, depth in zip(weights, self._image_sizes(), depths, strict=True)
        ]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's own type is private
        """Load weights and buffers, after building the networks of their growth step."""
        if "built" in state_dict:
            self._build_networks(int(state_dict["built"]))
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _build_networks(self, growth_step: int) -> None:
        """Add or remove layers until the networks are those of `growth_step`."""
        self._growth_step = growth_step
        device = self.built.device
        for network in (*self.generators, *self.discriminators):
            assert isinstance(network, Generator | PatchDiscriminator)
            depth = min(self.growth_stage, len(network.channels))
            while network.depth > depth:
                network.remove_layer()
            while network.depth < depth:
                network.add_layer()
            if isinstance(network, PatchDiscriminator):
                network.set_heads(self._depths(len(network.channels)))
            network.to(device)

    def _image_sizes(self) -> list[int]:
        """Return the side of the images, px; while fading, of the previous and of this stage."""
        size_px = self.model_settings.size_px >> (self.num_growth_stages - self.growth_stage)
        return [size_px // 2, size_px] if self.is_fading else [size_px]

    def _depths(self, max_depth: int) -> list[int]:
        """Return the depth of a network; while fading, of the previous and of this stage."""
        stages = (
            [self.growth_stage - 1, self.growth_stage] if self.is_fading else [self.growth_stage]
        )
        return [min(stage, max_depth) for stage in stages]

    def _blend(self, images: Sequence[Tensor]) -> Tensor:
        """Blend the images of the previous and of this stage, while this one is faded in."""
        if len(images) == 1:
            return images[0]
        fade = self.fade.to(images[0].dtype)
        return (1 - fade) * images[0] + fade * images[1]


def _downsample(faces: Tensor, size_px: int) -> Tensor:
    """Return faces (B, C, S, S) at a side that divides theirs."""
    if faces.shape[-1] == size_px:
        return faces
    return functional.avg_pool2d(faces, faces.shape[-1] // size_px)


def _upsample_like(image: Tensor, like: Tensor) -> Tensor:
    """Return images at the side of `like`, by nearest neighbor: upsampling twice equals once."""
    if image.shape[-1] == like.shape[-1]:
        return image
    return functional.interpolate(image, scale_factor=like.shape[-1] // image.shape[-1])


BACKEND = Progressive
