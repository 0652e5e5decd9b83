"""A CycleGAN that begins with two layers a network and grows; knows no files or terminal.

"Face Swap using Autoencoders & image-to-image Translation Techniques", section VI, after Karras et
al., "Progressive Growing of GANs", 2018: each stage inserts one halving and one doubling at the
generators' bottleneck and one layer into the discriminators, and fades them in. Grown up, the
networks are the CycleGAN's of the same widths, layer by layer.
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
"""With growth by plateau, a stage is over when so many held-out scores in a row were no better."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveModelSettings(CycleGANModelSettings):
    """What fixes the networks they grow into."""

    grow_resolution: bool = False
    """Begin with small pictures whose side doubles with every stage, up to `size_px`."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveTrainSettings(CycleGANTrainSettings):
    """What steers the training."""

    growth_stage_images: tuple[int, ...] = (40_000,)
    """Length of each stage once its layers are in full, images; later ones repeat the last."""
    growth_fade_images: int = 20_000
    """Images over which new layers are faded in; 0 has them in full at once."""
    growth_trigger: str = "images"
    """What ends a stage: `images`, or `plateau` when held-out faces come out no better."""

    def __post_init__(self) -> None:
        """Refuse stages that nothing ends.

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
    """A CycleGAN whose networks are lengthened while they learn.

    Its structure is one number: even for a stage in full (0, 2, 4, ... for stages 1, 2, 3, ...),
    odd while the next stage's layers are faded in. It is a buffer, and so a part of every file.
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
        """What is built now."""
        return self._growth_step

    @property
    def final_growth_step(self) -> int:
        """What is built in the last stage, once it is in full."""
        return 2 * (self.num_growth_stages - 1)

    @property
    def num_growth_stages(self) -> int:
        """How many stages of growth there are."""
        model = self.model_settings
        return max(len(model.generator_channels), len(model.discriminator_channels))

    @property
    def growth_stage(self) -> int:
        """Which stage it is, from 1; one that is being faded in counts already."""
        return (self.growth_step + 1) // 2 + 1

    @property
    def is_fading(self) -> bool:
        """Whether the newest layers are not in full yet."""
        return self.growth_step % 2 == 1

    def growth_due(self, progress: TrainProgress) -> int:
        """Return what is to be built for the next step: at most one step on."""
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
        """Insert new layers, with fresh weights, or forget what they have replaced."""
        self._build_networks(growth_step)
        self.built.fill_(growth_step)
        self.began.fill_(progress.images_seen)
        self.fade.fill_(0.0 if self.is_fading else 1.0)
        self.best.fill_(torch.inf)
        self.waited.zero_()

    def on_validation(self, val_error: float) -> None:
        """Hear of a regular held-out score: growth by plateau goes by them."""
        if val_error < float(self.best):
            self.best.fill_(val_error)
            self.waited.zero_()
        else:
            self.waited.add_(1)

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Learn as a CycleGAN does, the newest layers in as far as they are due."""
        if self.is_fading:
            part = (progress.images_seen - int(self.began)) / self.train_settings.growth_fade_images
            self.fade.fill_(min(1.0, part))
        return super().train_step(batch, update, progress)

    def generate(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Redraw faces by one generator, at the side of the stage."""
        assert isinstance(generator, Generator)
        if not self.model_settings.grow_resolution:
            image: Tensor = generator(faces, self.fade.to(faces.dtype))
            return image
        depths = self._depths(len(self.model_settings.generator_channels))
        return self._blend(
            [
                _upsample_like(generator(_downsample(faces, side), depth=depth), faces)
                for side, depth in zip(self._image_sizes(), depths, strict=True)
            ]
        )

    def discriminate(self, discriminator: nn.Module, faces: Tensor) -> list[DiscriminatorOutput]:
        """Return what one discriminator says of faces, at the side of the stage."""
        assert isinstance(discriminator, PatchDiscriminator)
        fade = self.fade.to(faces.dtype)
        if not self.model_settings.grow_resolution:
            found: list[DiscriminatorOutput] = discriminator(faces, fade)
            return found
        depths = self._depths(len(self.model_settings.discriminator_channels))
        shares: list[Tensor | float] = [1 - fade, fade] if self.is_fading else [1.0]
        return [
            DiscriminatorOutput(
                weight=share, scores=discriminator(_downsample(faces, side), depth=depth)[0].scores
            )
            for share, side, depth in zip(shares, self._image_sizes(), depths, strict=True)
        ]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's own type is private
        """Take weights and buffers; the networks are first built as the state's are."""
        if "built" in state_dict:
            self._build_networks(int(state_dict["built"]))
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _build_networks(self, growth_step: int) -> None:
        """Make the networks those of `growth_step`, from whatever they are; what is new is fresh."""
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
        """Return the side of the pictures, px; while fading, of the stage before and of this."""
        smaller = self.model_settings.size_px >> (self.num_growth_stages - self.growth_stage)
        return [smaller // 2, smaller] if self.is_fading else [smaller]

    def _depths(self, max_depth: int) -> list[int]:
        """Return the depth of a network; while fading, of the stage before and of this."""
        stages = (
            [self.growth_stage - 1, self.growth_stage] if self.is_fading else [self.growth_stage]
        )
        return [min(stage, max_depth) for stage in stages]

    def _blend(self, both: Sequence[Tensor]) -> Tensor:
        """Mix the stage before with this one, while that is faded in."""
        if len(both) == 1:
            return both[0]
        fade = self.fade.to(both[0].dtype)
        return (1 - fade) * both[0] + fade * both[1]


def _downsample(faces: Tensor, size_px: int) -> Tensor:
    """Return faces (B, C, S, S) at a smaller side, a whole part of theirs."""
    if faces.shape[-1] == size_px:
        return faces
    return functional.avg_pool2d(faces, faces.shape[-1] // size_px)


def _upsample_like(image: Tensor, like: Tensor) -> Tensor:
    """Return images at the side of others; by repetition, so that enlarging twice is once."""
    if image.shape[-1] == like.shape[-1]:
        return image
    return functional.interpolate(image, scale_factor=like.shape[-1] // image.shape[-1])


BACKEND = Progressive
