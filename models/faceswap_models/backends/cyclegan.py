"""A generator per identity that translates any face to that identity: `CycleGAN`.

"Face Swap using Autoencoders & image-to-image Translation Techniques", section V, after Zhu et
al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017. With
two identities x and y, the generator of y is the paper's G and that of x its F; their
discriminators are D_Y and D_X. More identities are paired in turn.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from faceswap_models.base import (
    FaceBatch,
    ModelSettings,
    SwapModel,
    SwapOutput,
    TrainProgress,
    TrainSettings,
    UpdateFn,
)
from faceswap_models.gan import (
    MIN_PATCH_GRID_PX,
    DiscriminatorOutput,
    Generator,
    ImagePool,
    PatchDiscriminator,
    diff_augment,
    lsgan_loss,
    r1_penalty,
)
from faceswap_models.losses import pixel_weights, weighted_l1, weighted_structure

GENERATORS, DISCRIMINATORS = "generators", "discriminators"
"""The parameter groups, each with its own learning rate."""


@dataclass(frozen=True, kw_only=True)
class CycleGANModelSettings(ModelSettings):
    """Settings of the networks; the defaults are the paper's."""

    generator_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each downsampling of a generator; it upsamples as often."""
    stem_channels: int = 0
    """Channels of one more convolution at each end of a generator, at full size; 0 has none."""
    discriminator_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each downsampling of a discriminator."""
    discriminator_slope: float = 0.2
    """LeakyReLU's slope below zero in the discriminators; 0 is a plain ReLU."""
    discriminator_norm: str = "instance"
    """Normalization in the discriminators: `instance`, `spectral` or `none`."""
    resize_convolution: bool = False
    """Upsample by resizing and then convolving, not by transposed convolution: no checkerboard."""
    skip_connections: bool = False
    """Add the input of each downsampling to the output of the upsampling of the same depth."""
    image_pool_size: int = 0
    """Generated images per identity that are stored for the discriminators; 0 stores none."""

    def __post_init__(self) -> None:
        """Check that the networks can be built.

        Raises:
            ValueError: The side is too small for so many layers, or a name is unknown.
        """
        depths = len(self.generator_channels), len(self.discriminator_channels)
        if not all(depths):
            raise ValueError(
                "generator_channels and discriminator_channels need at least one value each"
            )
        if self.size_px % 2 ** max(depths):
            raise ValueError(f"size_px = {self.size_px} cannot be halved {max(depths)} times")
        least = max(2 * 2 ** depths[0], MIN_PATCH_GRID_PX * 2 ** depths[1])
        if self.size_px < least:
            raise ValueError(
                f"size_px = {self.size_px} is too small for {depths[0]} generator and {depths[1]} "
                f"discriminator layers, which need {least}: use fewer channels or a larger side"
            )
        if self.discriminator_norm not in ("instance", "spectral", "none"):
            raise ValueError(
                f'discriminator_norm = "{self.discriminator_norm}" is none of instance, spectral, '
                "none"
            )


@dataclass(frozen=True, kw_only=True)
class CycleGANTrainSettings(TrainSettings):
    """Settings of the training."""

    d_learning_rate: float = 4e-4
    """Learning rate of the discriminators; `learning_rate` is the generators'."""
    cycle_weight: float = 10.0
    """Weight of the cycle loss (the paper's alpha)."""
    identity_weight: float = 5.0
    """Weight of the identity loss (the paper's beta); 0 disables it."""
    background_weight: float = 1.0
    """Weight of all losses outside the face's outline; 1 is the paper's plain mean."""
    outside_mask_weight: float = 0.0
    """Weight of a swap's changes outside the face's outline: preserves the outline."""
    structure_weight: float = 0.0
    """Weight of a swap's changes of the structure (SSIM) of the face: preserves the pose."""
    diffaug_strength: float = 0.0
    """Strength of the augmentation of the discriminators' input; 1 is Zhao et al.'s."""
    r1_weight: float = 0.0
    """Weight of the discriminators' gradient penalty at real faces (R1's gamma); 0 disables it."""


class GeneratedFaces(NamedTuple):
    """The generators' outputs for a batch, each (P, B, 3, S, S)."""

    fake: Tensor
    """Faces of another identity translated to each identity."""
    identity_mapped: Tensor | None
    """Faces of each identity translated to itself; None without the identity loss."""
    reconstructed: Tensor
    """Faces of each identity translated to another one and back."""
    offset: int
    """Identity i is translated to identity (i + offset) % P."""


class CycleGAN(SwapModel):
    """A generator and a discriminator for each of any number of identities."""

    model_settings_type = CycleGANModelSettings
    train_settings_type = CycleGANTrainSettings
    training_only_prefixes: ClassVar[tuple[str, ...]] = ("discriminators.", "pools.")
    model_settings: CycleGANModelSettings
    train_settings: CycleGANTrainSettings

    def __init__(
        self, model: CycleGANModelSettings, train: CycleGANTrainSettings, identities: Sequence[str]
    ) -> None:
        super().__init__(model, train, identities)
        self.generators = nn.ModuleList(
            Generator(
                model.generator_channels,
                stem_channels=model.stem_channels,
                resize_convolution=model.resize_convolution,
                skip_connections=model.skip_connections,
                depth=self.initial_depth(len(model.generator_channels)),
            )
            for _ in self.identities
        )
        self.discriminators = nn.ModuleList(
            PatchDiscriminator(
                model.discriminator_channels,
                slope=model.discriminator_slope,
                norm=model.discriminator_norm,
                depth=self.initial_depth(len(model.discriminator_channels)),
            )
            for _ in self.identities
        )
        self.pools = nn.ModuleList(
            ImagePool(model.image_pool_size, channels=4, side_px=model.size_px)
            for _ in self.identities
        )

    def initial_depth(self, depth: int) -> int:
        """Return the number of layers at the start of training of networks of `depth`."""
        return depth

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the parameters of the generators and of the discriminators."""
        return {
            GENERATORS: self.generators.parameters(),
            DISCRIMINATORS: self.discriminators.parameters(),
        }

    def compilable_networks(self) -> Sequence[nn.Module]:
        """Return the networks that may be compiled: compiled ones have no second derivative."""
        networks = (*self.generators, *self.discriminators)
        return tuple(self.generators) if self.train_settings.r1_weight else networks

    def learning_rate(self, group: str) -> float:
        """Return the base learning rate of a group."""
        train = self.train_settings
        return train.d_learning_rate if group == DISCRIMINATORS else train.learning_rate

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Update the generators, then the discriminators on the generated faces.

        Returns each network's loss, such as `generator_ada` and `discriminator_ada`, and the terms
        of the generators' losses.
        """
        count = len(self.identities)
        step = progress.images_seen // (count * self.train_settings.batch_size)
        generated = self.generate_all(batch, offset=1 + step % max(1, count - 1))
        g_losses, terms = self.generator_losses(batch, generated)
        update(GENERATORS, torch.stack(g_losses).sum())
        d_losses = self.discriminator_losses(batch, generated, is_training=True)
        d_loss = torch.stack(d_losses).sum()
        if self.train_settings.r1_weight:
            terms["r1"] = torch.stack(self.r1_penalties(batch)).mean()
            d_loss = d_loss + self.train_settings.r1_weight * count * terms["r1"]
        update(DISCRIMINATORS, d_loss)
        losses = {f"generator_{k}": one for k, one in zip(self.identities, g_losses, strict=True)}
        losses |= {
            f"discriminator_{k}": one for k, one in zip(self.identities, d_losses, strict=True)
        }
        return {name: loss.detach() for name, loss in (losses | terms).items()}

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return both groups' losses on validation faces, for the plateau schedule.

        Section V-B, Training Details: "Respective generator and discriminator validation losses
        were fed to their schedulers."
        """
        generated = self.generate_all(batch, offset=1)
        g_losses, _ = self.generator_losses(batch, generated)
        d_losses = self.discriminator_losses(batch, generated, is_training=False)
        return {
            GENERATORS: torch.stack(g_losses).sum(),
            DISCRIMINATORS: torch.stack(d_losses).sum(),
        }

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Translate `faces` (B, 3, S, S) by the generator of `identity`.

        Raises:
            KeyError: `identity` was not trained.
        """
        generator = dict(zip(self.identities, self.generators, strict=True))[identity]
        return SwapOutput(image=self.generate(generator, faces), mask=None)

    def generate(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Translate faces by one generator."""
        image: Tensor = generator(faces)
        return image

    def discriminate(self, discriminator: nn.Module, faces: Tensor) -> list[DiscriminatorOutput]:
        """Return one discriminator's scores of faces, by head."""
        outputs: list[DiscriminatorOutput] = discriminator(faces)
        return outputs

    def adversarial_loss(
        self, discriminator: nn.Module, faces: Tensor, weight: Tensor, target: float
    ) -> Tensor:
        """Return the loss of one discriminator's scores of faces against `target`."""
        return lsgan_loss(self.discriminate(discriminator, faces), target, weight)

    def generate_all(self, batch: FaceBatch, *, offset: int) -> GeneratedFaces:
        """Translate all faces to the identity `offset` further on, back, and to their own.

        Inputs that a generator can translate together are one batch.
        """
        sources = batch.target.roll(offset, 0)
        has_identity_loss = self.train_settings.identity_weight > 0
        inputs = torch.cat([sources, batch.warped], dim=1) if has_identity_loss else sources
        outputs = self._generate_each(inputs)
        fake, identity_mapped = outputs.chunk(2, dim=1) if has_identity_loss else (outputs, None)
        return GeneratedFaces(
            fake=fake,
            identity_mapped=identity_mapped,
            reconstructed=self._generate_each(fake.roll(-offset, 0)),
            offset=offset,
        )

    def generator_losses(
        self, batch: FaceBatch, generated: GeneratedFaces
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return each generator's loss (section V-A, Full Objective), and the mean of its terms.

        A generator's cycle is the one that starts with its own output: y's is |F(G(x)) - x|,
        section V-A, Cyclic Loss, so the sum over identities is the full objective. The target of
        the adversarial term is 1, where the paper's formula lets the generator raise D(G(x))^2
        without bound: Mao et al., 2017, equation 2, as Zhu et al. do.
        """
        train = self.train_settings
        weights = {
            "adversarial": 1.0,
            "cycle": train.cycle_weight,
            "identity": train.identity_weight,
            "outside_mask": train.outside_mask_weight,
            "structure": train.structure_weight,
        }
        all_terms = [
            self.generator_loss_terms(index, batch, generated)
            for index in range(len(self.identities))
        ]
        losses = [
            torch.stack([weights[name] * term for name, term in terms.items()]).sum()
            for terms in all_terms
        ]
        means = {
            name: torch.stack([terms[name] for terms in all_terms]).mean() for name in all_terms[0]
        }
        return losses, means

    def generator_loss_terms(
        self, index: int, batch: FaceBatch, generated: GeneratedFaces
    ) -> dict[str, Tensor]:
        """Return the unweighted terms of one generator's loss."""
        train = self.train_settings
        source_index = (index - generated.offset) % len(self.identities)
        source, mask = batch.target[source_index], batch.mask[source_index]
        fake = generated.fake[index]
        weight = pixel_weights(mask, background=train.background_weight)
        inputs = diff_augment(torch.cat([fake, weight], dim=1), train.diffaug_strength)
        terms = {
            "adversarial": self.adversarial_loss(
                self.discriminators[index], inputs[:, :3], inputs[:, 3:], 1.0
            ),
            "cycle": weighted_l1(generated.reconstructed[source_index], source, weight),
        }
        if generated.identity_mapped is not None:
            weight = pixel_weights(batch.mask[index], background=train.background_weight)
            terms["identity"] = weighted_l1(
                generated.identity_mapped[index], batch.target[index], weight
            )
        if train.outside_mask_weight:
            terms["outside_mask"] = weighted_l1(fake, source, 1 - mask)
        if train.structure_weight:
            terms["structure"] = weighted_structure(fake, source, mask)
        return terms

    def discriminator_losses(
        self, batch: FaceBatch, generated: GeneratedFaces, *, is_training: bool
    ) -> list[Tensor]:
        """Return each discriminator's loss: section V-A, L_GAN: E[(1 - D(y))^2] + E[D(G(x))^2]."""
        train = self.train_settings
        weight = pixel_weights(batch.mask, background=train.background_weight)
        real = torch.cat([batch.target, weight], dim=2)
        fake = torch.cat([generated.fake.detach(), weight.roll(generated.offset, 0)], dim=2)
        losses = []
        for index, discriminator in enumerate(self.discriminators):
            generated_now = fake[index]
            if is_training:
                generated_now = self._query_pool(index, generated_now)
            inputs = torch.cat([real[index], generated_now])
            if is_training:
                inputs = diff_augment(inputs, train.diffaug_strength)
            reals, fakes = inputs.chunk(2)
            losses.append(
                self.adversarial_loss(discriminator, reals[:, :3], reals[:, 3:], 1.0)
                + self.adversarial_loss(discriminator, fakes[:, :3], fakes[:, 3:], 0.0)
            )
        return losses

    def r1_penalties(self, batch: FaceBatch) -> list[Tensor]:
        """Return the gradient penalty of each discriminator, without its weight."""
        train = self.train_settings
        weight = pixel_weights(batch.mask, background=train.background_weight)
        penalties = []
        for index, discriminator in enumerate(self.discriminators):
            real = torch.cat([batch.target[index], weight[index]], dim=1)
            inputs = diff_augment(real, train.diffaug_strength)
            discriminate = partial(self.discriminate, discriminator)
            penalties.append(r1_penalty(discriminate, inputs[:, :3], inputs[:, 3:]))
        return penalties

    def _query_pool(self, index: int, images: Tensor) -> Tensor:
        """Exchange some fakes of one identity (B, 4, S, S), image and weight, for earlier ones."""
        pool = self.pools[index]
        assert isinstance(pool, ImagePool)
        mixed = pool.query(torch.cat([images[:, :3], 2 * images[:, 3:] - 1], dim=1))
        return torch.cat([mixed[:, :3], (mixed[:, 3:] + 1) / 2], dim=1)

    def _generate_each(self, faces: Tensor) -> Tensor:
        """Translate (P, B, 3, S, S), each of the P entries by its own generator."""
        return torch.stack(
            [
                self.generate(generator, inputs)
                for generator, inputs in zip(self.generators, faces, strict=True)
            ]
        )


BACKEND = CycleGAN
