"""One encoder for everybody, a decoder for each person; knows no files, video or terminal.

The encoder learns what all faces share (pose, expression, light), a decoder what is its person's
own. Swapping is decoding one person's code with another's decoder. "Face Swap using Autoencoders
& image-to-image Translation Techniques", section IV, after the network that face swapping began
with; "Face Swapping with an Autoencoder Network", section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from faceswap_models.base import (
    FaceBatch,
    ModelSettings,
    Progress,
    SwapModel,
    Swapped,
    TrainSettings,
    Update,
)
from faceswap_models.layers import downscale, initialise, upscale
from faceswap_models.losses import inside, weighted_dssim, weighted_l1

GROUP = "autoencoder"
"""The one parameter group: encoder and decoders learn from one loss."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderModel(ModelSettings):
    """What fixes the networks; the defaults are the original layout."""

    grid_px: int = 7
    """The image is halved until its side is at most this: 64, 128 and 256 px all end at 4."""
    encoder_widths: tuple[int, ...] = (128, 256, 512, 1024)
    """Channels after each halving; a larger image repeats the last."""
    code_size: int = 1024
    """Numbers that describe a face between the two dense layers."""
    shared_width: int = 512
    """Channels after the first doubling, which belongs to the encoder."""
    decoder_widths: tuple[int, ...] = (256, 128, 64)
    """Channels after each of a decoder's doublings; a larger image goes on halving the last."""
    encoder_kernel_px: int = 5
    """Side of the encoder's convolutions."""
    decoder_kernel_px: int = 3
    """Side of the convolutions that double."""
    output_kernel_px: int = 5
    """Side of the last convolution, to RGB."""
    normalise_code: bool = False
    """Bring every face's code to mean 0 and deviation 1, so that nobody's is a scale apart."""
    learns_mask: bool = False
    """Draw the outline of the wanted person's face as a fourth channel, so that the converter
    keeps this person's hair and background out of the other's frame."""

    def __post_init__(self) -> None:
        """Refuse a layout that cannot be built.

        Raises:
            ValueError: The side cannot be halved so often, or a list of widths is empty.
        """
        if self.size_px % 2**self.halvings or self.halvings < 1:
            raise ValueError(
                f"size_px = {self.size_px} cannot be halved down to {self.grid_px} px or less"
            )
        if not self.encoder_widths or not self.decoder_widths:
            raise ValueError("encoder_widths and decoder_widths need at least one width each")

    @property
    def halvings(self) -> int:
        """How often the side is halved on the way to the code, and doubled on the way back."""
        count = 0
        while self.size_px >> count > self.grid_px:
            count += 1
        return count


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrain(TrainSettings):
    """What steers the training."""

    background_weight: float = 1.0
    """Weight of the loss outside the face's outline; 1 is the paper's plain mean."""
    dssim_weight: float = 0.0
    """Weight of the structural loss (1 - SSIM) / 2 beside the mean absolute error."""


class Encoder(nn.Module):
    """Any face -> what the decoders start from: (B, 3, S, S) -> (B, shared_width, 2G, 2G)."""

    def __init__(self, settings: AutoencoderModel) -> None:
        super().__init__()
        widths = _repeated(settings.encoder_widths, settings.halvings)
        grid_px = settings.size_px >> settings.halvings
        self.down = nn.Sequential(
            *(
                downscale(before, after, kernel_px=settings.encoder_kernel_px)
                for before, after in pairwise((3, *widths))
            )
        )
        # Two dense layers with nothing between them: the narrow one is what forgets the warp.
        self.code = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * grid_px**2, settings.code_size),
            *_code_norm(settings),
            nn.Linear(settings.code_size, widths[-1] * grid_px**2),
            nn.Unflatten(1, (widths[-1], grid_px, grid_px)),
        )
        self.up = upscale(widths[-1], settings.shared_width, kernel_px=settings.decoder_kernel_px)

    def forward(self, faces: Tensor) -> Tensor:
        """Describe faces (B, 3, S, S) in [-1, 1]."""
        features: Tensor = self.up(self.code(self.down(faces)))
        return features


class Decoder(nn.Module):
    """What the encoder found -> one person's face: (B, shared_width, 2G, 2G) -> (B, 3, S, S).

    And, where it learns masks, where in the picture the face is: (B, 1, S, S).
    """

    def __init__(self, settings: AutoencoderModel) -> None:
        super().__init__()
        widths = _halved(settings.decoder_widths, settings.halvings - 1)
        self.up = nn.Sequential(
            *(
                upscale(before, after, kernel_px=settings.decoder_kernel_px)
                for before, after in pairwise((settings.shared_width, *widths))
            )
        )
        self.output = nn.Conv2d(
            (settings.shared_width, *widths)[-1],
            3 + settings.learns_mask,
            settings.output_kernel_px,
            padding=settings.output_kernel_px // 2,
        )

    def forward(self, features: Tensor) -> Swapped:
        """Draw faces (B, 3, S, S) in [-1, 1], and masks (B, 1, S, S) where they are learnt."""
        # In full precision: sixteen-bit numbers have 256 steps to 1, too coarse near white.
        drawn = torch.sigmoid(self.output(self.up(features)).float())
        mask = drawn[:, 3:]
        return Swapped(image=2 * drawn[:, :3] - 1, mask=mask if mask.shape[1] else None)


class Autoencoder(SwapModel):
    """A shared encoder and a decoder for each of any number of people."""

    Model = AutoencoderModel
    Train = AutoencoderTrain
    train_settings: AutoencoderTrain

    def __init__(
        self, model: AutoencoderModel, train: AutoencoderTrain, identities: Sequence[str]
    ) -> None:
        super().__init__(model, train, identities)
        self.encoder = Encoder(model)
        self.decoders = nn.ModuleList(Decoder(model) for _ in self.identities)
        self.apply(initialise)

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return the one group there is."""
        return {GROUP: self.parameters()}

    def train_step(self, batch: FaceBatch, update: Update, progress: Progress) -> dict[str, Tensor]:
        """Undo the warp of everybody's faces; return each person's loss by name.

        The paper's loss (section IV-B): the mean absolute error between what the person's own
        decoder made of a warped face and the face before the warp. Optionally weighted by the
        face's outline, and with a structural part.
        """
        del progress
        shown = batch.warped.flatten(0, 1)  # (P*B, 3, S, S): the encoder knows nobody
        features = self.encoder(shown).unflatten(0, batch.warped.shape[:2])
        losses = [
            self._loss(decoder(face), target, mask)
            for decoder, face, target, mask in zip(
                self.decoders, features, batch.target, batch.mask, strict=True
            )
        ]
        update(GROUP, torch.stack(losses).mean())
        return {name: loss.detach() for name, loss in zip(self.identities, losses, strict=True)}

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Describe `faces` (B, 3, S, S), draw them with the decoder of the person called `to`.

        Raises:
            KeyError: Nobody of that name was trained.
        """
        decoder = dict(zip(self.identities, self.decoders, strict=True))[to]
        swapped: Swapped = decoder(self.encoder(faces))
        return swapped

    def _loss(self, drawn: Swapped, target: Tensor, mask: Tensor) -> Tensor:
        """Compare faces (B, 3, S, S), and masks where they are learnt, with what they should be."""
        weight = inside(mask, background=self.train_settings.background_weight)
        loss = weighted_l1(drawn.image, target, weight)
        if self.train_settings.dssim_weight:
            dssim = weighted_dssim(drawn.image, target, weight)
            loss = loss + self.train_settings.dssim_weight * dssim
        if drawn.mask is not None:
            loss = loss + (drawn.mask - mask).abs().mean()
        return loss


def _code_norm(settings: AutoencoderModel) -> list[nn.Module]:
    """Return the layer that normalises codes, or none."""
    if not settings.normalise_code:
        return []
    # Without weights of its own: the dense layer after it has them all.
    return [nn.LayerNorm(settings.code_size, elementwise_affine=False)]


def _repeated(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last repeated where there are too few."""
    return (*widths, *[widths[-1]] * (count - len(widths)))[:count]


def _halved(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last halved again and again where there are too few."""
    extra = (max(1, widths[-1] >> step) for step in range(1, count - len(widths) + 1))
    return (*widths, *extra)[:count]


BACKEND = Autoencoder
