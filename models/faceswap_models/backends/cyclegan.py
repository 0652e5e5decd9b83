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

from faceswap_models.adversarial import (
    LEAST_GRID_PX,
    Critic,
    Generator,
    HistoryPool,
    Verdict,
    augmented,
    gradient_penalty,
    least_squares,
)
from faceswap_models.base import (
    FaceBatch,
    ModelSettings,
    Progress,
    SwapModel,
    Swapped,
    TrainSettings,
    Update,
)
from faceswap_models.losses import inside, weighted_l1, weighted_structure

GENERATORS, DISCRIMINATORS = "generators", "discriminators"
"""The parameter groups: two players of a game, each with its own learning rate."""


@dataclass(frozen=True, kw_only=True)
class CycleGANModel(ModelSettings):
    """What fixes the networks; the defaults are the paper's."""

    generator_widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each of a generator's halvings; there are as many doublings."""
    generator_stem: int = 0
    """Channels of one more convolution at each end of a generator, at full size; 0 has none."""
    discriminator_widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels after each of a discriminator's halvings."""
    discriminator_slope: float = 0.2
    """LeakyReLU's slope below zero in the discriminators; 0 is a plain ReLU."""
    discriminator_norm: str = "instance"
    """How discriminators are kept in bounds: `instance`, `spectral` or `none`."""
    resize_convolution: bool = False
    """Double by enlarging and then convolving, not by transposed convolution: no checkerboard."""
    skips: bool = False
    """Add what lies before a halving to what comes out of the doubling that undoes it."""
    history: int = 0
    """Generated pictures of each person kept to show the discriminators again; 0 keeps none."""

    def __post_init__(self) -> None:
        """Refuse networks that cannot be built.

        Raises:
            ValueError: The side is too small for so many layers, or a name is unknown.
        """
        depths = len(self.generator_widths), len(self.discriminator_widths)
        if not all(depths):
            raise ValueError("generator_widths and discriminator_widths need at least one width")
        if self.size_px % 2 ** max(depths):
            raise ValueError(f"size_px = {self.size_px} cannot be halved {max(depths)} times")
        least = max(2 * 2 ** depths[0], LEAST_GRID_PX * 2 ** depths[1])
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
class CycleGANTrain(TrainSettings):
    """What steers the training."""

    d_learning_rate: float = 4e-4
    """Step length of the discriminators' optimizer; `learning_rate` is the generators'."""
    cycle_weight: float = 10.0
    """Weight of the error there and back (the paper's alpha)."""
    identity_weight: float = 5.0
    """Weight of the error of a person's own face (the paper's beta); 0 leaves it out."""
    background_weight: float = 1.0
    """Weight of all losses outside the face's outline; 1 is the paper's plain mean."""
    mask_weight: float = 0.0
    """Weight of what a swap changes outside the face's outline: keeps the outline's place."""
    structure_weight: float = 0.0
    """Weight of what a swap changes of where light and dark lie in the face: keeps the pose."""
    d_augment: float = 0.0
    """Strength of the chance changes of what discriminators are shown; 1 is Zhao et al.'s."""
    r1_weight: float = 0.0
    """Weight of the squared slope of discriminators at real faces (R1's gamma); 0 leaves it out."""


class Drawn(NamedTuple):
    """What generators make of a batch, people first, each (P, B, 3, S, S)."""

    swaps: Tensor
    """Somebody else's faces as each person: `sources` of them."""
    own: Tensor | None
    """Each person's own faces as themselves; None where that is not asked."""
    back: Tensor
    """Each person's faces as somebody else and back again."""
    by: int
    """How many places on in the row of people a face's wearer is from its owner."""


class CycleGAN(SwapModel):
    """A generator and a discriminator for each of any number of people."""

    Model = CycleGANModel
    Train = CycleGANTrain
    training_only: ClassVar[tuple[str, ...]] = ("discriminators.", "pools.")
    model_settings: CycleGANModel
    train_settings: CycleGANTrain

    def __init__(
        self, model: CycleGANModel, train: CycleGANTrain, identities: Sequence[str]
    ) -> None:
        super().__init__(model, train, identities)
        self.generators = nn.ModuleList(
            Generator(
                model.generator_widths,
                stem=model.generator_stem,
                resize=model.resize_convolution,
                skips=model.skips,
                depth=self.first_depth(len(model.generator_widths)),
            )
            for _ in self.identities
        )
        self.discriminators = nn.ModuleList(
            Critic(
                model.discriminator_widths,
                slope=model.discriminator_slope,
                norm=model.discriminator_norm,
                depth=self.first_depth(len(model.discriminator_widths)),
            )
            for _ in self.identities
        )
        self.pools = nn.ModuleList(
            HistoryPool(model.history, channels=4, side_px=model.size_px) for _ in self.identities
        )

    def first_depth(self, depth: int) -> int:
        """Return how many layers networks of `depth` begin with."""
        return depth

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return both players' parameters."""
        return {
            GENERATORS: self.generators.parameters(),
            DISCRIMINATORS: self.discriminators.parameters(),
        }

    def networks(self) -> Sequence[nn.Module]:
        """Return the networks that may be compiled; what is compiled has no slope of a slope."""
        compiled = (*self.generators, *self.discriminators)
        return tuple(self.generators) if self.train_settings.r1_weight else compiled

    def learning_rate(self, group: str) -> float:
        """Return the base learning rate of a group."""
        train = self.train_settings
        return train.d_learning_rate if group == DISCRIMINATORS else train.learning_rate

    def train_step(self, batch: FaceBatch, update: Update, progress: Progress) -> dict[str, Tensor]:
        """Let the generators learn, then the discriminators from what was drawn.

        Returns each network's loss by its person's name, and the generators' parts.
        """
        people = len(self.identities)
        turn = progress.images_seen // (people * self.train_settings.batch_size)
        drawn = self.draw(batch, by=1 + turn % max(1, people - 1))
        losses, parts = self.generator_losses(batch, drawn)
        update(GENERATORS, torch.stack(losses).sum())
        critics = self.discriminator_losses(batch, drawn, is_learning=True)
        loss = torch.stack(critics).sum()
        if self.train_settings.r1_weight:
            parts["slope"] = torch.stack(self.slopes(batch)).mean()
            loss = loss + self.train_settings.r1_weight * people * parts["slope"]
        update(DISCRIMINATORS, loss)
        told = {f"generator {name}": one for name, one in zip(self.identities, losses, strict=True)}
        told |= {
            f"discriminator {name}": one for name, one in zip(self.identities, critics, strict=True)
        }
        return {name: loss.detach() for name, loss in (told | parts).items()}

    def held_out_losses(self, batch: FaceBatch) -> Mapping[str, Tensor]:
        """Return both players' losses on faces never learnt from, for the plateau schedule.

        Section V-B, Training Details: "Respective generator and discriminator validation losses
        were fed to their schedulers."
        """
        drawn = self.draw(batch, by=1)
        losses, _ = self.generator_losses(batch, drawn)
        critics = self.discriminator_losses(batch, drawn, is_learning=False)
        return {
            GENERATORS: torch.stack(losses).sum(),
            DISCRIMINATORS: torch.stack(critics).sum(),
        }

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Redraw `faces` (B, 3, S, S) by the generator of the person called `to`.

        Raises:
            KeyError: Nobody of that name was trained.
        """
        generator = dict(zip(self.identities, self.generators, strict=True))[to]
        return Swapped(image=self.seen_by(generator, faces), mask=None)

    def seen_by(self, generator: nn.Module, faces: Tensor) -> Tensor:
        """Redraw faces by one generator."""
        image: Tensor = generator(faces)
        return image

    def verdicts_of(self, critic: nn.Module, faces: Tensor) -> list[Verdict]:
        """Return what one discriminator says of faces."""
        found: list[Verdict] = critic(faces)
        return found

    def judged_by(self, critic: nn.Module, faces: Tensor, weight: Tensor, wanted: float) -> Tensor:
        """Return how far one discriminator's verdicts on faces are from `wanted`."""
        return least_squares(self.verdicts_of(critic, faces), wanted, weight)

    def draw(self, batch: FaceBatch, *, by: int) -> Drawn:
        """Show everybody's faces as the one `by` places on, as themselves, and there and back.

        Whatever one generator draws of what is there at the same time is one batch.
        """
        sources = batch.target.roll(by, 0)
        asks_own = self.train_settings.identity_weight > 0
        shown = torch.cat([sources, batch.warped], dim=1) if asks_own else sources
        drawn = self._each(shown)
        swaps, own = drawn.chunk(2, dim=1) if asks_own else (drawn, None)
        return Drawn(swaps=swaps, own=own, back=self._each(swaps.roll(-by, 0)), by=by)

    def generator_losses(
        self, batch: FaceBatch, drawn: Drawn
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
            "outside": train.mask_weight,
            "structure": train.structure_weight,
        }
        every = [self.generator_parts(place, batch, drawn) for place in range(len(self.identities))]
        losses = [
            torch.stack([weights[name] * part for name, part in parts.items()]).sum()
            for parts in every
        ]
        means = {name: torch.stack([parts[name] for parts in every]).mean() for name in every[0]}
        return losses, means

    def generator_parts(self, place: int, batch: FaceBatch, drawn: Drawn) -> dict[str, Tensor]:
        """Return what one generator's loss is made of, before it is weighted."""
        train = self.train_settings
        owner = (place - drawn.by) % len(self.identities)
        source, mask, swaps = batch.target[owner], batch.mask[owner], drawn.swaps[place]
        weight = inside(mask, background=train.background_weight)
        shown = augmented(torch.cat([swaps, weight], dim=1), train.d_augment)
        critic = self.discriminators[place]
        parts = {
            "adversarial": self.judged_by(critic, shown[:, :3], shown[:, 3:], 1.0),
            "cycle": weighted_l1(drawn.back[owner], source, weight),
        }
        if drawn.own is not None:
            weight = inside(batch.mask[place], background=train.background_weight)
            parts["identity"] = weighted_l1(drawn.own[place], batch.target[place], weight)
        if train.mask_weight:
            parts["outside"] = weighted_l1(swaps, source, 1 - mask)
        if train.structure_weight:
            parts["structure"] = weighted_structure(swaps, source, mask)
        return parts

    def discriminator_losses(
        self, batch: FaceBatch, drawn: Drawn, *, is_learning: bool
    ) -> list[Tensor]:
        """Return each discriminator's loss: section V-A, L_GAN: E[(1 - D(y))^2] + E[D(G(x))^2]."""
        train = self.train_settings
        weight = inside(batch.mask, background=train.background_weight)
        real = torch.cat([batch.target, weight], dim=2)
        fake = torch.cat([drawn.swaps.detach(), weight.roll(drawn.by, 0)], dim=2)
        losses = []
        for place, critic in enumerate(self.discriminators):
            drawn_now = fake[place]
            if is_learning:
                drawn_now = self._from_history(place, drawn_now)
            shown = torch.cat([real[place], drawn_now])
            if is_learning:
                shown = augmented(shown, train.d_augment)
            ours, theirs = shown.chunk(2)
            losses.append(
                self.judged_by(critic, ours[:, :3], ours[:, 3:], 1.0)
                + self.judged_by(critic, theirs[:, :3], theirs[:, 3:], 0.0)
            )
        return losses

    def slopes(self, batch: FaceBatch) -> list[Tensor]:
        """Return the gradient penalty of each discriminator, without its weight."""
        train = self.train_settings
        weight = inside(batch.mask, background=train.background_weight)
        found = []
        for place, critic in enumerate(self.discriminators):
            real = torch.cat([batch.target[place], weight[place]], dim=1)
            shown = augmented(real, train.d_augment)
            judge = partial(self.verdicts_of, critic)
            found.append(gradient_penalty(judge, shown[:, :3], shown[:, 3:]))
        return found

    def _from_history(self, place: int, drawn: Tensor) -> Tensor:
        """Exchange some of one person's swaps for earlier ones; their weights come along."""
        pool = self.pools[place]
        assert isinstance(pool, HistoryPool)
        given = pool.exchange(torch.cat([drawn[:, :3], 2 * drawn[:, 3:] - 1], dim=1))
        return torch.cat([given[:, :3], (given[:, 3:] + 1) / 2], dim=1)

    def _each(self, faces: Tensor) -> Tensor:
        """Redraw (P, B, 3, S, S), each person's share by the person's own generator."""
        return torch.stack(
            [
                self.seen_by(generator, share)
                for generator, share in zip(self.generators, faces, strict=True)
            ]
        )


BACKEND = CycleGAN
