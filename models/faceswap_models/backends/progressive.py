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

from faceswap_models.adversarial import Critic, Generator, Verdict
from faceswap_models.backends.cyclegan import CycleGAN, CycleGANModel, CycleGANTrain
from faceswap_models.base import FaceBatch, Progress, Update

PATIENCE = 2
"""With growth by plateau, a stage is over when so many held-out scores in a row were no better."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveModel(CycleGANModel):
    """What fixes the networks they grow into."""

    grow_resolution: bool = False
    """Begin with small pictures whose side doubles with every stage, up to `size_px`."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveTrain(CycleGANTrain):
    """What steers the training."""

    stage_images: tuple[int, ...] = (40_000,)
    """Length of each stage once its layers are in full, images; later ones repeat the last."""
    fade_images: int = 20_000
    """Images over which new layers are faded in; 0 has them in full at once."""
    stage_by: str = "images"
    """What ends a stage: `images`, or `plateau` when held-out faces come out no better."""

    def __post_init__(self) -> None:
        """Refuse stages that nothing ends.

        Raises:
            ValueError: There are no lengths, or a name is unknown.
        """
        if not self.stage_images:
            raise ValueError("stage_images needs at least one length")
        if self.stage_by not in ("images", "plateau"):
            raise ValueError(f'stage_by = "{self.stage_by}" is neither images nor plateau')


class Progressive(CycleGAN):
    """A CycleGAN whose networks are lengthened while they learn.

    Its structure is one number: even for a stage in full (0, 2, 4, ... for stages 1, 2, 3, ...),
    odd while the next stage's layers are faded in. It is a buffer, and so a part of every file.
    """

    Model = ProgressiveModel
    Train = ProgressiveTrain
    model_settings: ProgressiveModel
    train_settings: ProgressiveTrain
    built: Tensor
    began: Tensor
    fade: Tensor
    best: Tensor
    waited: Tensor

    def __init__(
        self, model: ProgressiveModel, train: ProgressiveTrain, identities: Sequence[str]
    ) -> None:
        super().__init__(model, train, identities)
        self.register_buffer("built", torch.zeros((), dtype=torch.int64))
        self.register_buffer("began", torch.zeros((), dtype=torch.int64))
        self.register_buffer("fade", torch.ones((), dtype=torch.float64))
        self.register_buffer("best", torch.full((), torch.inf, dtype=torch.float64))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))
        self._structure = 0

    def first_depth(self, depth: int) -> int:
        """Return 1: section VI-A, "one downsampling layer and one upsampling layer"."""
        del depth
        return 1

    @property
    def structure(self) -> int:
        """What is built now."""
        return self._structure

    @property
    def final_structure(self) -> int:
        """What is built in the last stage, once it is in full."""
        return 2 * (self.stages - 1)

    @property
    def stages(self) -> int:
        """How many stages of growth there are."""
        model = self.model_settings
        return max(len(model.generator_widths), len(model.discriminator_widths))

    @property
    def stage(self) -> int:
        """Which stage it is, from 1; one that is being faded in counts already."""
        return (self.structure + 1) // 2 + 1

    @property
    def is_fading(self) -> bool:
        """Whether the newest layers are not in full yet."""
        return self.structure % 2 == 1

    def structure_due(self, progress: Progress) -> int:
        """Return what is to be built for the next step: at most one step on."""
        if self.structure == self.final_structure:
            return self.structure
        train, since = self.train_settings, progress.images_seen - int(self.began)
        if self.is_fading:
            is_over = since >= train.fade_images
        elif train.stage_by == "plateau":
            is_over = int(self.waited) >= PATIENCE
        else:
            lengths = train.stage_images
            is_over = since >= lengths[min(self.stage, len(lengths)) - 1]
        return self.structure + is_over

    def grow(self, structure: int, progress: Progress) -> None:
        """Insert new layers, with fresh weights, or forget what they have replaced."""
        self._build(structure)
        self.built.fill_(structure)
        self.began.fill_(progress.images_seen)
        self.fade.fill_(0.0 if self.is_fading else 1.0)
        self.best.fill_(torch.inf)
        self.waited.zero_()

    def judged(self, error: float) -> None:
        """Hear of a regular held-out score: growth by plateau goes by them."""
        if error < float(self.best):
            self.best.fill_(error)
            self.waited.zero_()
        else:
            self.waited.add_(1)

    def train_step(self, batch: FaceBatch, update: Update, progress: Progress) -> dict[str, Tensor]:
        """Learn as a CycleGAN does, the newest layers in as far as they are due."""
        if self.is_fading:
            part = (progress.images_seen - int(self.began)) / self.train_settings.fade_images
            self.fade.fill_(min(1.0, part))
        return super().train_step(batch, update, progress)

    def seen_by(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Redraw faces by one generator, at the side of the stage."""
        assert isinstance(generator, Generator)
        if not self.model_settings.grow_resolution:
            image: Tensor = generator(faces, self.fade.to(faces.dtype))
            return image
        depths = self._depths(len(self.model_settings.generator_widths))
        return self._faded(
            [
                _enlarged(generator(_reduced(faces, side), depth=depth), faces)
                for side, depth in zip(self._sides(), depths, strict=True)
            ]
        )

    def verdicts_of(self, critic: nn.Module, faces: Tensor) -> list[Verdict]:
        """Return what one discriminator says of faces, at the side of the stage."""
        assert isinstance(critic, Critic)
        fade = self.fade.to(faces.dtype)
        if not self.model_settings.grow_resolution:
            found: list[Verdict] = critic(faces, fade)
            return found
        depths = self._depths(len(self.model_settings.discriminator_widths))
        shares: list[Tensor | float] = [1 - fade, fade] if self.is_fading else [1.0]
        return [
            Verdict(share=share, scores=critic(_reduced(faces, side), depth=depth)[0].scores)
            for share, side, depth in zip(shares, self._sides(), depths, strict=True)
        ]

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:  # noqa: ANN401 - torch's own type is private
        """Take weights and buffers; the networks are first built as the state's are."""
        if "built" in state_dict:
            self._build(int(state_dict["built"]))
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def _build(self, structure: int) -> None:
        """Make the networks those of `structure`, from whatever they are; what is new is fresh."""
        self._structure = structure
        device = self.built.device
        for network in (*self.generators, *self.discriminators):
            assert isinstance(network, Generator | Critic)
            depth = min(self.stage, len(network.widths))
            while network.depth > depth:
                network.shorten()
            while network.depth < depth:
                network.deepen()
            if isinstance(network, Critic):
                network.end_at(self._depths(len(network.widths)))
            network.to(device)

    def _sides(self) -> list[int]:
        """Return the side of the pictures, px; while fading, of the stage before and of this."""
        smaller = self.model_settings.size_px >> (self.stages - self.stage)
        return [smaller // 2, smaller] if self.is_fading else [smaller]

    def _depths(self, most: int) -> list[int]:
        """Return the depth of a network; while fading, of the stage before and of this."""
        stages = [self.stage - 1, self.stage] if self.is_fading else [self.stage]
        return [min(stage, most) for stage in stages]

    def _faded(self, both: Sequence[Tensor]) -> Tensor:
        """Mix the stage before with this one, while that is faded in."""
        if len(both) == 1:
            return both[0]
        fade = self.fade.to(both[0].dtype)
        return (1 - fade) * both[0] + fade * both[1]


def _reduced(faces: Tensor, side_px: int) -> Tensor:
    """Return faces (B, C, S, S) at a smaller side, a whole part of theirs."""
    if faces.shape[-1] == side_px:
        return faces
    return functional.avg_pool2d(faces, faces.shape[-1] // side_px)


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    """Return images at the side of others; by repetition, so that enlarging twice is once."""
    if image.shape[-1] == like.shape[-1]:
        return image
    return functional.interpolate(image, scale_factor=like.shape[-1] // image.shape[-1])


BACKEND = Progressive
