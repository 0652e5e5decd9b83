"""One encoder for everybody, a decoder for each person; knows no files, video or terminal.

The encoder learns what all faces share (pose, expression, light), a decoder what is its person's
own. Swapping is decoding one person's code with another's decoder. "Face Swap using Autoencoders
& image-to-image Translation Techniques", section IV, after the network that face swapping began
with; "Face Swapping with an Autoencoder Network", section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from faceswap_models import vgg
from faceswap_models.base import (
    FaceBatch,
    ModelSettings,
    Progress,
    SwapModel,
    Swapped,
    TrainSettings,
    Update,
)
from faceswap_models.layers import Residual, downscale, initialise, patch_critic, upscale
from faceswap_models.losses import inside, weighted_dssim, weighted_l1

GROUP = "autoencoder"
"""Encoder and decoders learn from one loss."""
CRITICS = "critics"
"""The critics of the adversarial phase, which learn from another."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderModel(ModelSettings):
    """What fixes the networks; the defaults are the original layout."""

    encoder: str = "halvings"
    """`halvings`: convolutions and a narrow code; `vgg19`: VGG19's convolutions."""
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
    decoder_depth: int = 0
    """How many of a decoder's doublings are learnt, the others interpolate; 0 is all."""
    residual_blocks: int = 0
    """Residual blocks after each learnt doubling."""
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
    critic_width: int = 0
    """Channels after a patch critic's first halving; 0 has no critics, and no adversarial phase."""

    def __post_init__(self) -> None:
        """Refuse a layout that cannot be built.

        Raises:
            ValueError: The side cannot be halved so often, a list of widths is empty, the encoder
                is unknown, or the decoder is deeper than the side allows.
        """
        if self.encoder not in ENCODERS:
            raise ValueError(f"model.encoder is one of {', '.join(ENCODERS)}, not {self.encoder}")
        if self.size_px % 2**self.halvings or self.halvings < 1:
            raise ValueError(
                f"size_px = {self.size_px} cannot be halved down to {self.grid_px} px or less"
                if self.encoder == "halvings"
                else f"size_px = {self.size_px} cannot be halved five times, as {self.encoder} does"
            )
        if not self.encoder_widths or not self.decoder_widths:
            raise ValueError("encoder_widths and decoder_widths need at least one width each")
        if not 0 <= self.decoder_depth <= self.doublings:
            raise ValueError(
                f"decoder_depth = {self.decoder_depth}: a decoder for {self.size_px} px has "
                f"{self.doublings} doublings"
            )

    @property
    def halvings(self) -> int:
        """How often the side is halved on the way to the code."""
        return ENCODERS[self.encoder].halvings(self)

    @property
    def doublings(self) -> int:
        """How often a decoder doubles the side."""
        return self.halvings - ENCODERS[self.encoder].doublings


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrain(TrainSettings):
    """What steers the training."""

    background_weight: float = 1.0
    """Weight of the loss outside the face's outline; 1 is the paper's plain mean."""
    feature_weight: float = 0.0
    """Weight of the loss on eyes and mouth, beyond that of the rest of the face."""
    dssim_weight: float = 0.0
    """Weight of the structural loss (1 - SSIM) / 2 beside the mean absolute error."""
    perceptual_weight: float = 0.0
    """Weight of the difference that VGG sees inside the face; 0 does without VGG."""
    perceptual_file: str = ""
    """VGG16 or VGG19 by torchvision's names, for that; empty finds VGG16 where it is installed."""
    adversarial_weight: float = 0.0
    """Weight of the critics' verdict (least squares); 0 has no adversarial phase."""
    adversarial_after: int = 0
    """Images after which the adversarial phase begins."""
    unfreeze_after: int = 0
    """Images after which the encoder learns too."""


class Encoder(nn.Module):
    """Any face -> what the decoders start from: (B, 3, S, S) -> (B, shared_width, 2G, 2G)."""

    doublings = 1
    """How often it doubles the side itself, behind the code."""

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
        self.width = settings.shared_width

    @staticmethod
    def halvings(settings: AutoencoderModel) -> int:
        """Return how often the side is halved until it is `grid_px` at most."""
        count = 0
        while settings.size_px >> count > settings.grid_px:
            count += 1
        return count

    def forward(self, faces: Tensor) -> Tensor:
        """Describe faces (B, 3, S, S) in [-1, 1]."""
        features: Tensor = self.up(self.code(self.down(faces)))
        return features


class VGGEncoder(nn.Module):
    """VGG19's convolutions as an encoder: (B, 3, S, S) -> (B, 512, S/32, S/32).

    "Face Swapping with an Autoencoder Network", section 3.2.
    """

    doublings = 0
    """It only halves."""

    def __init__(self, settings: AutoencoderModel) -> None:
        super().__init__()
        del settings
        self.normalise = vgg.Normalise()
        self.features = vgg.convolutions(vgg.VGG19)
        self.width = vgg.WIDTHS[-1]

    @staticmethod
    def halvings(settings: AutoencoderModel) -> int:
        """Return how often the side is halved: once a block."""
        del settings
        return len(vgg.VGG19)

    def forward(self, faces: Tensor) -> Tensor:
        """Describe faces (B, 3, S, S) in [-1, 1]."""
        features: Tensor = self.features(self.normalise(faces))
        return features


ENCODERS: Mapping[str, type[Encoder] | type[VGGEncoder]] = {
    "halvings": Encoder,
    "vgg19": VGGEncoder,
}


class Decoder(nn.Module):
    """What the encoder found -> one person's face: (B, C, G, G) -> (B, 3, S, S).

    And, where it learns masks, where in the picture the face is: (B, 1, S, S).
    """

    def __init__(self, settings: AutoencoderModel, width: int) -> None:
        """Build a decoder for features of `width` channels."""
        super().__init__()
        depth = settings.decoder_depth or settings.doublings
        widths = (width, *_halved(settings.decoder_widths, depth))
        self.up = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (
                    upscale(before, after, kernel_px=settings.decoder_kernel_px),
                    *(Residual(after) for _ in range(settings.residual_blocks)),
                )
            ),
            *_interpolation(settings.doublings - depth),
        )
        self.output = nn.Conv2d(
            widths[-1],
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
    model_settings: AutoencoderModel
    train_settings: AutoencoderTrain

    def __init__(
        self, model: AutoencoderModel, train: AutoencoderTrain, identities: Sequence[str]
    ) -> None:
        super().__init__(model, train, identities)
        self.encoder = ENCODERS[model.encoder](model)
        self.decoders = nn.ModuleList(Decoder(model, self.encoder.width) for _ in self.identities)
        count = len(self.identities) if model.critic_width else 0
        self.critics = nn.ModuleList(patch_critic(3, model.critic_width) for _ in range(count))
        self.apply(initialise)
        # In a list, which hides it from torch: it is neither learnt nor saved with the model.
        self._judge: list[vgg.Perceptual] = []

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return encoder and decoders as one group, and the critics if there are any."""
        groups = {GROUP: [*self.encoder.parameters(), *self.decoders.parameters()]}
        return groups | ({CRITICS: [*self.critics.parameters()]} if self.critics else {})

    def train_step(self, batch: FaceBatch, update: Update, progress: Progress) -> dict[str, Tensor]:
        """Undo the warp of everybody's faces; return each person's loss by name.

        The paper's loss (section IV-B): the mean absolute error between what the person's own
        decoder made of a warped face and the face before the warp. Optionally weighted by the
        face's outline, its eyes and its mouth, with a structural part, with what VGG sees, and at
        the end of training with a critic's verdict.
        """
        shown = batch.warped.flatten(0, 1)  # (P*B, 3, S, S): the encoder knows nobody
        is_open = progress.images_seen >= self.train_settings.unfreeze_after
        with nullcontext() if is_open else torch.no_grad():
            features = self.encoder(shown).unflatten(0, batch.warped.shape[:2])
        drawn: list[Swapped] = [
            decoder(face) for decoder, face in zip(self.decoders, features, strict=True)
        ]
        everybody = zip(drawn, batch.target, batch.mask, batch.features, strict=True)
        losses = [self._loss(*one) for one in everybody]
        if self._is_adversarial(progress):
            fooled = self._fooled(drawn, batch.mask)
            update(GROUP, torch.stack([a + b for a, b in zip(losses, fooled, strict=True)]).mean())
            critics = self._doubt(drawn, batch)
            update(CRITICS, critics)
        else:
            update(GROUP, torch.stack(losses).mean())
            critics = losses[0].new_zeros(())
        told = {name: loss.detach() for name, loss in zip(self.identities, losses, strict=True)}
        return told | ({CRITICS: critics.detach()} if self.critics else {})

    def swap(self, faces: Tensor, to: str) -> Swapped:
        """Describe `faces` (B, 3, S, S), draw them with the decoder of the person called `to`.

        Raises:
            KeyError: Nobody of that name was trained.
        """
        swapped: Swapped = self._decoder_of(to)(self.encoder(faces))
        return swapped

    @property
    def begins_with(self) -> str:
        """Name of the file that VGG19's convolutions begin with; empty for other encoders."""
        return self.model_settings.encoder if isinstance(self.encoder, VGGEncoder) else ""

    def take_weights(self, state: Mapping[str, Tensor], *, partial: bool = False) -> None:
        """Put VGG19's weights, by torchvision's names, into the encoder.

        Args:
            state: Tensors by name.
            partial: Whether layers that it has nothing for may stay random.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        assert isinstance(self.encoder, VGGEncoder)
        vgg.load(self.encoder.features, state, partial=partial)

    def begin_with(self, other: SwapModel) -> None:
        """Take over a trained encoder, and the decoders of people who are in both.

        Somebody new begins with the decoder of everybody where the other model has only that one.

        Raises:
            ValueError: The networks are built differently.
        """
        if not isinstance(other, Autoencoder):
            return super().begin_with(other)
        try:
            self.encoder.load_state_dict(other.encoder.state_dict())
            for name in self.identities:
                if name in other.identities or len(other.identities) == 1:
                    known = name if name in other.identities else other.identities[0]
                    self._decoder_of(name).load_state_dict(other._decoder_of(known).state_dict())
        except RuntimeError as error:
            raise ValueError("the networks are built differently") from error
        return None

    @property
    def judge_file(self) -> str:
        """What the perceptual loss looks through, where it weighs anything."""
        train = self.train_settings
        return (train.perceptual_file or "vgg16") if train.perceptual_weight else ""

    def take_judge(self, state: Mapping[str, Tensor]) -> None:
        """Build the perceptual loss of VGG16's or VGG19's weights, by torchvision's names.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        device = next(self.parameters()).device
        self._judge[:] = [vgg.Perceptual(state).to(device)]

    def _decoder_of(self, name: str) -> nn.Module:
        return dict(zip(self.identities, self.decoders, strict=True))[name]

    def _loss(self, drawn: Swapped, target: Tensor, mask: Tensor, features: Tensor) -> Tensor:
        """Compare faces (B, 3, S, S), and masks where they are learnt, with what they should be."""
        train = self.train_settings
        weight = inside(mask, background=train.background_weight)
        weight = weight * (1 + train.feature_weight * features)
        loss = weighted_l1(drawn.image, target, weight)
        if train.dssim_weight:
            loss = loss + train.dssim_weight * weighted_dssim(drawn.image, target, weight)
        if train.perceptual_weight:
            # On the target's background, so that only the face can differ.
            seen = mask * drawn.image + (1 - mask) * target
            loss = loss + train.perceptual_weight * self._judge[0](seen, target)
        if drawn.mask is not None:
            loss = loss + (drawn.mask - mask).abs().mean()
        return loss

    def _is_adversarial(self, progress: Progress) -> bool:
        """Say whether the adversarial phase has begun."""
        train = self.train_settings
        has_begun = progress.images_seen >= train.adversarial_after
        return bool(self.critics) and train.adversarial_weight > 0 and has_begun

    def _fooled(self, drawn: Sequence[Swapped], masks: Tensor) -> list[Tensor]:
        """Return how far each person's critic is from taking the drawn faces for real ones.

        Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 9, a = 0, b = 1.
        """
        weight = self.train_settings.adversarial_weight
        return [
            weight * (critic(face.image * mask) - 1).square().mean()
            for critic, face, mask in zip(self.critics, drawn, masks, strict=True)
        ]

    def _doubt(self, drawn: Sequence[Swapped], batch: FaceBatch) -> Tensor:
        """Return how badly the critics tell real faces from drawn ones (equation 9 again)."""
        losses = []
        for critic, face, target, mask in zip(
            self.critics, drawn, batch.target, batch.mask, strict=True
        ):
            both = torch.cat([target * mask, face.image.detach() * mask])
            real, made = critic(both).chunk(2)
            losses.append(((real - 1).square().mean() + made.square().mean()) / 2)
        return torch.stack(losses).mean()


def _code_norm(settings: AutoencoderModel) -> list[nn.Module]:
    """Return the layer that normalises codes, or none."""
    if not settings.normalise_code:
        return []
    # Without weights of its own: the dense layer after it has them all.
    return [nn.LayerNorm(settings.code_size, elementwise_affine=False)]


def _interpolation(doublings: int) -> list[nn.Module]:
    """Return the layer that doubles the side so often without learning anything, or none."""
    if not doublings:
        return []
    return [nn.Upsample(scale_factor=2**doublings, mode="bilinear", align_corners=False)]


def _repeated(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last repeated where there are too few."""
    return (*widths, *[widths[-1]] * (count - len(widths)))[:count]


def _halved(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last halved again and again where there are too few."""
    extra = (max(1, widths[-1] >> step) for step in range(1, count - len(widths) + 1))
    return (*widths, *extra)[:count]


BACKEND = Autoencoder
