"""A network for each person that redraws anybody as this person; knows no files or terminal.

"Face Swap using Autoencoders & image-to-image Translation Techniques", section V, after Zhu et
al., "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks", 2017. With
two people x and y, the generator of y is the paper's G and that of x its F; a critic for each
person is D_Y and D_X. More people take turns in pairs.
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
"""The parameter groups: two players of a game, each with its own learning rate."""


@dataclass(frozen=True, kw_only=True)
class CycleGANModelSettings(ModelSettings):
    """What fixes the networks; the defaults are the paper's."""

    generator_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each of a generator's halvings; there are as many doublings."""
    stem_channels: int = 0
    """Channels of one more convolution at each end of a generator, at full size; 0 has none."""
    discriminator_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each of a discriminator's halvings."""
    discriminator_slope: float = 0.2
    """LeakyReLU's slope below zero in the discriminators; 0 is a plain ReLU."""
    discriminator_norm: str = "instance"
    """How discriminators are kept in bounds: `instance`, `spectral` or `none`."""
    resize_convolution: bool = False
    """Double by enlarging and then convolving, not by transposed convolution: no checkerboard."""
    skip_connections: bool = False
    """Add what lies before a halving to what comes out of the doubling that undoes it."""
    image_pool_size: int = 0
    """Generated pictures of each person kept to show the discriminators again; 0 keeps none."""

    def __post_init__(self) -> None:
        """Refuse networks that cannot be built.

        Raises:
            ValueError: The side is too small for so many layers, or a name is unknown.
        """
        depths = len(self.generator_channels), len(self.discriminator_channels)
        if not all(depths):
            raise ValueError(
                "generator_channels and discriminator_channels need at least one width"
            )
        if self.size_px % 2 ** max(depths):
            raise ValueError(f"size_px = {self.size_px} cannot be halved {max(depths)} times")
        least = max(2 * 2 ** depths[0], MIN_PATCH_GRID_PX * 2 ** depths[1])
        if self.size_px < least:
            raise ValueError(
                f"size_px = {self.size_px} is too small for {depths[0]} generator and {depths[1]} "
                f"discriminator layers, which need {least}: use fewer widths or a larger side"
            )
        if self.discriminator_norm not in ("instance", "spectral", "none"):
            raise ValueError(
                f'discriminator_norm = "{self.discriminator_norm}" is none of instance, spectral, '
                "none"
            )


@dataclass(frozen=True, kw_only=True)
class CycleGANTrainSettings(TrainSettings):
    """What steers the training."""

    d_learning_rate: float = 4e-4
    """Step length of the discriminators' optimizer; `learning_rate` is the generators'."""
    cycle_weight: float = 10.0
    """Weight of the error there and back (the paper's alpha)."""
    identity_weight: float = 5.0
    """Weight of the error of a person's own face (the paper's beta); 0 leaves it out."""
    background_weight: float = 1.0
    """Weight of all losses outside the face's outline; 1 is the paper's plain mean."""
    outside_mask_weight: float = 0.0
    """Weight of what a swap changes outside the face's outline: keeps the outline's place."""
    structure_weight: float = 0.0
    """Weight of what a swap changes of where light and dark lie in the face: keeps the pose."""
    diffaug_strength: float = 0.0
    """Strength of the chance changes of what discriminators are shown; 1 is Zhao et al.'s."""
    r1_weight: float = 0.0
    """Weight of the squared slope of discriminators at real faces (R1's gamma); 0 leaves it out."""


class GeneratedFaces(NamedTuple):
    """What generators make of a batch, people first, each (P, B, 3, S, S)."""

    fake: Tensor
    """Somebody else's faces as each person: `sources` of them."""
    identity_mapped: Tensor | None
    """Each person's own faces as themselves; None where that is not asked."""
    reconstructed: Tensor
    """Each person's faces as somebody else and back again."""
    offset: int
    """How many places on in the row of people a face's wearer is from its owner."""


class CycleGAN(SwapModel):
    """A generator and a discriminator for each of any number of people."""

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
        """Return how many layers networks of `depth` begin with."""
        return depth

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return both players' parameters."""
        return {
            GENERATORS: self.generators.parameters(),
            DISCRIMINATORS: self.discriminators.parameters(),
        }

    def compilable_networks(self) -> Sequence[nn.Module]:
        """Return the networks that may be compiled; what is compiled has no slope of a slope."""
        compiled = (*self.generators, *self.discriminators)
        return tuple(self.generators) if self.train_settings.r1_weight else compiled

    def learning_rate(self, group: str) -> float:
        """Return the base learning rate of a group."""
        train = self.train_settings
        return train.d_learning_rate if group == DISCRIMINATORS else train.learning_rate

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Let the generators learn, then the discriminators from what was drawn.

        Returns each network's loss by its person's name, and the generators' parts.
        """
        people = len(self.identities)
        turn = progress.images_seen // (people * self.train_settings.batch_size)
        drawn = self.generate_all(batch, offset=1 + turn % max(1, people - 1))
        losses, parts = self.generator_losses(batch, drawn)
        update(GENERATORS, torch.stack(losses).sum())
        critics = self.discriminator_losses(batch, drawn, is_training=True)
        loss = torch.stack(critics).sum()
        if self.train_settings.r1_weight:
            parts["slope"] = torch.stack(self.r1_penalties(batch)).mean()
            loss = loss + self.train_settings.r1_weight * people * parts["slope"]
        update(DISCRIMINATORS, loss)
        told = {f"generator {name}": one for name, one in zip(self.identities, losses, strict=True)}
        told |= {
            f"discriminator {name}": one for name, one in zip(self.identities, critics, strict=True)
        }
        return {name: loss.detach() for name, loss in (told | parts).items()}

    def validation_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return both players' losses on faces never learnt from, for the plateau schedule.

        Section V-B, Training Details: "Respective generator and discriminator validation losses
        were fed to their schedulers."
        """
        drawn = self.generate_all(batch, offset=1)
        losses, _ = self.generator_losses(batch, drawn)
        critics = self.discriminator_losses(batch, drawn, is_training=False)
        return {
            GENERATORS: torch.stack(losses).sum(),
            DISCRIMINATORS: torch.stack(critics).sum(),
        }

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Redraw `faces` (B, 3, S, S) by the generator of the person called `identity`.

        Raises:
            KeyError: Nobody of that name was trained.
        """
        generator = dict(zip(self.identities, self.generators, strict=True))[identity]
        return SwapOutput(image=self.generate(generator, faces), mask=None)

    def generate(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Redraw faces by one generator."""
        image: Tensor = generator(faces)
        return image

    def discriminate(self, discriminator: nn.Module, faces: Tensor) -> list[DiscriminatorOutput]:
        """Return what one discriminator says of faces."""
        found: list[DiscriminatorOutput] = discriminator(faces)
        return found

    def adversarial_loss(
        self, discriminator: nn.Module, faces: Tensor, weight: Tensor, target: float
    ) -> Tensor:
        """Return how far one discriminator's verdicts on faces are from `target`."""
        return lsgan_loss(self.discriminate(discriminator, faces), target, weight)

    def generate_all(self, batch: FaceBatch, *, offset: int) -> GeneratedFaces:
        """Show everybody's faces as the one `offset` places on, as themselves, and there and back.

        Whatever one generator draws of what is there at the same time is one batch.
        """
        sources = batch.target.roll(offset, 0)
        asks_own = self.train_settings.identity_weight > 0
        shown = torch.cat([sources, batch.warped], dim=1) if asks_own else sources
        drawn = self._generate_each(shown)
        swaps, own = drawn.chunk(2, dim=1) if asks_own else (drawn, None)
        return GeneratedFaces(
            fake=swaps,
            identity_mapped=own,
            reconstructed=self._generate_each(swaps.roll(-offset, 0)),
            offset=offset,
        )

    def generator_losses(
        self, batch: FaceBatch, generated: GeneratedFaces
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Return each generator's loss: section V-A, Full Objective; and the mean of its parts.

        A generator's cycle is the one its own swaps begin: y's is |F(G(x)) - x|, section V-A,
        Cyclic Loss. So the sum over people is the full objective. The adversarial part wants 1 of
        the discriminator, where the paper's formula has the generator raise D(G(x))^2 without
        bound: Mao et al., 2017, equation 2, as Zhu et al. do.
        """
        train = self.train_settings
        weights = {
            "adversarial": 1.0,
            "cycle": train.cycle_weight,
            "identity": train.identity_weight,
            "outside": train.outside_mask_weight,
            "structure": train.structure_weight,
        }
        every = [
            self.generator_loss_terms(place, batch, generated)
            for place in range(len(self.identities))
        ]
        losses = [
            torch.stack([weights[name] * part for name, part in parts.items()]).sum()
            for parts in every
        ]
        means = {name: torch.stack([parts[name] for parts in every]).mean() for name in every[0]}
        return losses, means

    def generator_loss_terms(
        self, index: int, batch: FaceBatch, generated: GeneratedFaces
    ) -> dict[str, Tensor]:
        """Return what one generator's loss is made of, before it is weighted."""
        train = self.train_settings
        owner = (index - generated.offset) % len(self.identities)
        source, mask, swaps = batch.target[owner], batch.mask[owner], generated.fake[index]
        weight = pixel_weights(mask, background=train.background_weight)
        shown = diff_augment(torch.cat([swaps, weight], dim=1), train.diffaug_strength)
        critic = self.discriminators[index]
        parts = {
            "adversarial": self.adversarial_loss(critic, shown[:, :3], shown[:, 3:], 1.0),
            "cycle": weighted_l1(generated.reconstructed[owner], source, weight),
        }
        if generated.identity_mapped is not None:
            weight = pixel_weights(batch.mask[index], background=train.background_weight)
            parts["identity"] = weighted_l1(
                generated.identity_mapped[index], batch.target[index], weight
            )
        if train.outside_mask_weight:
            parts["outside"] = weighted_l1(swaps, source, 1 - mask)
        if train.structure_weight:
            parts["structure"] = weighted_structure(swaps, source, mask)
        return parts

    def discriminator_losses(
        self, batch: FaceBatch, generated: GeneratedFaces, *, is_training: bool
    ) -> list[Tensor]:
        """Return each discriminator's loss: section V-A, L_GAN: E[(1 - D(y))^2] + E[D(G(x))^2]."""
        train = self.train_settings
        weight = pixel_weights(batch.mask, background=train.background_weight)
        real = torch.cat([batch.target, weight], dim=2)
        fake = torch.cat([generated.fake.detach(), weight.roll(generated.offset, 0)], dim=2)
        losses = []
        for place, critic in enumerate(self.discriminators):
            drawn_now = fake[place]
            if is_training:
                drawn_now = self._query_pool(place, drawn_now)
            shown = torch.cat([real[place], drawn_now])
            if is_training:
                shown = diff_augment(shown, train.diffaug_strength)
            ours, theirs = shown.chunk(2)
            losses.append(
                self.adversarial_loss(critic, ours[:, :3], ours[:, 3:], 1.0)
                + self.adversarial_loss(critic, theirs[:, :3], theirs[:, 3:], 0.0)
            )
        return losses

    def r1_penalties(self, batch: FaceBatch) -> list[Tensor]:
        """Return the gradient penalty of each discriminator, without its weight."""
        train = self.train_settings
        weight = pixel_weights(batch.mask, background=train.background_weight)
        found = []
        for place, critic in enumerate(self.discriminators):
            real = torch.cat([batch.target[place], weight[place]], dim=1)
            shown = diff_augment(real, train.diffaug_strength)
            judge = partial(self.discriminate, critic)
            found.append(r1_penalty(judge, shown[:, :3], shown[:, 3:]))
        return found

    def _query_pool(self, index: int, images: Tensor) -> Tensor:
        """Exchange some of one person's swaps for earlier ones; their weights come along."""
        pool = self.pools[index]
        assert isinstance(pool, ImagePool)
        given = pool.query(torch.cat([images[:, :3], 2 * images[:, 3:] - 1], dim=1))
        return torch.cat([given[:, :3], (given[:, 3:] + 1) / 2], dim=1)

    def _generate_each(self, faces: Tensor) -> Tensor:
        """Redraw (P, B, 3, S, S), each person's share by the person's own generator."""
        return torch.stack(
            [
                self.generate(generator, share)
                for generator, share in zip(self.generators, faces, strict=True)
            ]
        )


BACKEND = CycleGAN
