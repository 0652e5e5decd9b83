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
    SwapModel,
    SwapOutput,
    TrainProgress,
    TrainSettings,
    UpdateFn,
)
from faceswap_models.layers import (
    ResidualBlock,
    downscale,
    kaiming_init,
    patch_discriminator,
    upscale,
)
from faceswap_models.losses import pixel_weights, weighted_dssim, weighted_l1
from faceswap_models.pretrained import PretrainedModel

AUTOENCODER_GROUP = "autoencoder"
"""Encoder and decoders learn from one loss."""
DISCRIMINATORS = "critics"
"""The critics of the adversarial phase, which learn from another."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderModelSettings(ModelSettings):
    """What fixes the networks; the defaults are the original layout."""

    encoder: str = "halvings"
    """`halvings`: convolutions and a narrow code; `vgg19`: VGG19's convolutions."""
    bottleneck_px: int = 7
    """The image is halved until its side is at most this: 64, 128 and 256 px all end at 4."""
    encoder_channels: tuple[int, ...] = (128, 256, 512, 1024)
    """Channels after each halving; a larger image repeats the last."""
    latent_dim: int = 1024
    """Numbers that describe a face between the two dense layers."""
    shared_channels: int = 512
    """Channels after the first doubling, which belongs to the encoder."""
    decoder_channels: tuple[int, ...] = (256, 128, 64)
    """Channels after each of a decoder's doublings; a larger image goes on halving the last."""
    learned_upsamples: int = 0
    """How many of a decoder's doublings are learnt, the others interpolate; 0 is all."""
    residual_blocks: int = 0
    """Residual blocks after each learnt doubling."""
    encoder_kernel_size: int = 5
    """Side of the encoder's convolutions."""
    decoder_kernel_size: int = 3
    """Side of the convolutions that double."""
    output_kernel_size: int = 5
    """Side of the last convolution, to RGB."""
    normalize_latent: bool = False
    """Bring every face's code to mean 0 and deviation 1, so that nobody's is a scale apart."""
    predict_mask: bool = False
    """Draw the outline of the wanted person's face as a fourth channel, so that the converter
    keeps this person's hair and background out of the other's frame."""
    discriminator_base_channels: int = 0
    """Channels after a patch critic's first halving; 0 has no critics, and no adversarial phase."""

    def __post_init__(self) -> None:
        """Refuse a layout that cannot be built.

        Raises:
            ValueError: The side cannot be halved so often, a list of widths is empty, the encoder
                is unknown, or the decoder is deeper than the side allows.
        """
        if self.encoder not in ENCODERS:
            raise ValueError(f"model.encoder is one of {', '.join(ENCODERS)}, not {self.encoder}")
        if self.size_px % 2**self.num_downsamples or self.num_downsamples < 1:
            raise ValueError(
                f"size_px = {self.size_px} cannot be halved down to {self.bottleneck_px} px or less"
                if self.encoder == "halvings"
                else f"size_px = {self.size_px} cannot be halved five times, as {self.encoder} does"
            )
        if not self.encoder_channels or not self.decoder_channels:
            raise ValueError("encoder_channels and decoder_channels need at least one width each")
        if not 0 <= self.learned_upsamples <= self.num_upsamples:
            raise ValueError(
                f"learned_upsamples = {self.learned_upsamples}: a decoder for {self.size_px} px has "
                f"{self.num_upsamples} doublings"
            )

    @property
    def num_downsamples(self) -> int:
        """How often the side is halved on the way to the code."""
        return ENCODERS[self.encoder].num_downsamples(self)

    @property
    def num_upsamples(self) -> int:
        """How often a decoder doubles the side."""
        return self.num_downsamples - ENCODERS[self.encoder].num_upsamples


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainSettings(TrainSettings):
    """What steers the training."""

    background_weight: float = 1.0
    """Weight of the loss outside the face's outline; 1 is the paper's plain mean."""
    eyes_mouth_weight: float = 0.0
    """Weight of the loss on eyes and mouth, beyond that of the rest of the face."""
    dssim_weight: float = 0.0
    """Weight of the structural loss (1 - SSIM) / 2 beside the mean absolute error."""
    perceptual_weight: float = 0.0
    """Weight of the difference that VGG sees inside the face; 0 does without VGG."""
    perceptual_file: str = ""
    """VGG16 or VGG19 by torchvision's names, for that; empty finds VGG16 where it is installed."""
    adversarial_weight: float = 0.0
    """Weight of the critics' verdict (least squares); 0 has no adversarial phase."""
    adversarial_start_images: int = 0
    """Images after which the adversarial phase begins."""
    unfreeze_start_images: int = 0
    """Images after which the encoder learns too."""


class ConvEncoder(nn.Module):
    """Any face -> what the decoders start from: (B, 3, S, S) -> (B, shared_channels, 2G, 2G)."""

    num_upsamples = 1
    """How often it doubles the side itself, behind the code."""

    def __init__(self, settings: AutoencoderModelSettings) -> None:
        super().__init__()
        widths = _repeat_last(settings.encoder_channels, settings.num_downsamples)
        bottleneck_px = settings.size_px >> settings.num_downsamples
        self.down = nn.Sequential(
            *(
                downscale(before, after, kernel_px=settings.encoder_kernel_size)
                for before, after in pairwise((3, *widths))
            )
        )
        # Two dense layers with nothing between them: the narrow one is what forgets the warp.
        self.code = nn.Sequential(
            nn.Flatten(),
            nn.Linear(widths[-1] * bottleneck_px**2, settings.latent_dim),
            *_latent_norm(settings),
            nn.Linear(settings.latent_dim, widths[-1] * bottleneck_px**2),
            nn.Unflatten(1, (widths[-1], bottleneck_px, bottleneck_px)),
        )
        self.up = upscale(
            widths[-1], settings.shared_channels, kernel_px=settings.decoder_kernel_size
        )
        self.out_channels = settings.shared_channels

    @staticmethod
    def num_downsamples(settings: AutoencoderModelSettings) -> int:
        """Return how often the side is halved until it is `bottleneck_px` at most."""
        count = 0
        while settings.size_px >> count > settings.bottleneck_px:
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

    num_upsamples = 0
    """It only halves."""

    def __init__(self, settings: AutoencoderModelSettings) -> None:
        super().__init__()
        del settings
        self.normalize = vgg.ImageNetNormalize()
        self.features = vgg.conv_layers(vgg.VGG19_BLOCKS)
        self.out_channels = vgg.BLOCK_CHANNELS[-1]

    @staticmethod
    def num_downsamples(settings: AutoencoderModelSettings) -> int:
        """Return how often the side is halved: once a block."""
        del settings
        return len(vgg.VGG19_BLOCKS)

    def forward(self, faces: Tensor) -> Tensor:
        """Describe faces (B, 3, S, S) in [-1, 1]."""
        features: Tensor = self.features(self.normalize(faces))
        return features


ENCODERS: Mapping[str, type[ConvEncoder] | type[VGGEncoder]] = {
    "halvings": ConvEncoder,
    "vgg19": VGGEncoder,
}


class Decoder(nn.Module):
    """What the encoder found -> one person's face: (B, C, G, G) -> (B, 3, S, S).

    And, where it learns masks, where in the picture the face is: (B, 1, S, S).
    """

    def __init__(self, settings: AutoencoderModelSettings, in_channels: int) -> None:
        """Build a decoder for features of `in_channels` channels."""
        super().__init__()
        depth = settings.learned_upsamples or settings.num_upsamples
        widths = (in_channels, *_halve_last(settings.decoder_channels, depth))
        self.up = nn.Sequential(
            *(
                layer
                for before, after in pairwise(widths)
                for layer in (
                    upscale(before, after, kernel_px=settings.decoder_kernel_size),
                    *(ResidualBlock(after) for _ in range(settings.residual_blocks)),
                )
            ),
            *_interpolation_layers(settings.num_upsamples - depth),
        )
        self.output = nn.Conv2d(
            widths[-1],
            3 + settings.predict_mask,
            settings.output_kernel_size,
            padding=settings.output_kernel_size // 2,
        )

    def forward(self, features: Tensor) -> SwapOutput:
        """Draw faces (B, 3, S, S) in [-1, 1], and masks (B, 1, S, S) where they are learnt."""
        # In full precision: sixteen-bit numbers have 256 steps to 1, too coarse near white.
        drawn = torch.sigmoid(self.output(self.up(features)).float())
        mask = drawn[:, 3:]
        return SwapOutput(image=2 * drawn[:, :3] - 1, mask=mask if mask.shape[1] else None)


class Autoencoder(PretrainedModel):
    """A shared encoder and a decoder for each of any number of people."""

    model_settings_type = AutoencoderModelSettings
    train_settings_type = AutoencoderTrainSettings
    training_only_prefixes = ("critics.",)
    model_settings: AutoencoderModelSettings
    train_settings: AutoencoderTrainSettings

    def __init__(
        self,
        model: AutoencoderModelSettings,
        train: AutoencoderTrainSettings,
        identities: Sequence[str],
    ) -> None:
        super().__init__(model, train, identities)
        self.encoder = ENCODERS[model.encoder](model)
        self.decoders = nn.ModuleList(
            Decoder(model, self.encoder.out_channels) for _ in self.identities
        )
        count = len(self.identities) if model.discriminator_base_channels else 0
        self.critics = nn.ModuleList(
            patch_discriminator(3, model.discriminator_base_channels) for _ in range(count)
        )
        self.apply(kaiming_init)
        # In a list, which hides it from torch: it is neither learnt nor saved with the model.
        self._perceptual: list[vgg.PerceptualLoss] = []

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return encoder and decoders as one group, and the critics if there are any."""
        groups = {AUTOENCODER_GROUP: [*self.encoder.parameters(), *self.decoders.parameters()]}
        return groups | ({DISCRIMINATORS: [*self.critics.parameters()]} if self.critics else {})

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Undo the warp of everybody's faces; return each person's loss by name.

        The paper's loss (section IV-B): the mean absolute error between what the person's own
        decoder made of a warped face and the face before the warp. Optionally weighted by the
        face's outline, its eyes and its mouth, with a structural part, with what VGG sees, and at
        the end of training with a critic's verdict.
        """
        shown = batch.warped.flatten(0, 1)  # (P*B, 3, S, S): the encoder knows nobody
        is_open = progress.images_seen >= self.train_settings.unfreeze_start_images
        with nullcontext() if is_open else torch.no_grad():
            features = self.encoder(shown).unflatten(0, batch.warped.shape[:2])
        drawn: list[SwapOutput] = [
            decoder(face) for decoder, face in zip(self.decoders, features, strict=True)
        ]
        everybody = zip(drawn, batch.target, batch.mask, batch.feature_mask, strict=True)
        losses = [self._reconstruction_loss(*one) for one in everybody]
        if self._is_adversarial(progress):
            fooled = self._adversarial_losses(drawn, batch.mask)
            update(
                AUTOENCODER_GROUP,
                torch.stack([a + b for a, b in zip(losses, fooled, strict=True)]).mean(),
            )
            critics = self._discriminator_loss(drawn, batch)
            update(DISCRIMINATORS, critics)
        else:
            update(AUTOENCODER_GROUP, torch.stack(losses).mean())
            critics = losses[0].new_zeros(())
        told = {name: loss.detach() for name, loss in zip(self.identities, losses, strict=True)}
        return told | ({DISCRIMINATORS: critics.detach()} if self.critics else {})

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Describe `faces` (B, 3, S, S), draw them with the decoder of the person called `identity`.

        Raises:
            KeyError: Nobody of that name was trained.
        """
        swapped: SwapOutput = self._decoder_for(identity)(self.encoder(faces))
        return swapped

    @property
    def pretrained_file(self) -> str:
        """Name of the file that VGG19's convolutions begin with; empty for other encoders."""
        return self.model_settings.encoder if isinstance(self.encoder, VGGEncoder) else ""

    def load_pretrained(self, state: Mapping[str, Tensor], *, partial: bool = False) -> None:
        """Put VGG19's weights, by torchvision's names, into the encoder.

        Args:
            state: Tensors by name.
            partial: Whether layers that it has nothing for may stay random.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        assert isinstance(self.encoder, VGGEncoder)
        vgg.load_torchvision_weights(self.encoder.features, state, partial=partial)

    def init_from(self, other: SwapModel) -> None:
        """Take over a trained encoder, and the decoders of people who are in both.

        Somebody new begins with the decoder of everybody where the other model has only that one.

        Raises:
            ValueError: The networks are built differently.
        """
        if not isinstance(other, Autoencoder):
            raise ValueError(f"these networks cannot start from those of {type(other).__name__}")
        try:
            self.encoder.load_state_dict(other.encoder.state_dict())
            for name in self.identities:
                if name in other.identities or len(other.identities) == 1:
                    known = name if name in other.identities else other.identities[0]
                    self._decoder_for(name).load_state_dict(other._decoder_for(known).state_dict())
        except RuntimeError as error:
            raise ValueError("the networks are built differently") from error

    @property
    def perceptual_file(self) -> str:
        """What the perceptual loss looks through, where it weighs anything."""
        train = self.train_settings
        return (train.perceptual_file or "vgg16") if train.perceptual_weight else ""

    def load_perceptual(self, state: Mapping[str, Tensor]) -> None:
        """Build the perceptual loss of VGG16's or VGG19's weights, by torchvision's names.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        device = next(self.parameters()).device
        self._perceptual[:] = [vgg.PerceptualLoss(state).to(device)]

    def _decoder_for(self, name: str) -> nn.Module:
        return dict(zip(self.identities, self.decoders, strict=True))[name]

    def _reconstruction_loss(
        self, output: SwapOutput, target: Tensor, mask: Tensor, feature_mask: Tensor
    ) -> Tensor:
        """Compare faces (B, 3, S, S), and masks where they are learnt, with what they should be."""
        train = self.train_settings
        weight = pixel_weights(mask, background=train.background_weight)
        weight = weight * (1 + train.eyes_mouth_weight * feature_mask)
        loss = weighted_l1(output.image, target, weight)
        if train.dssim_weight:
            loss = loss + train.dssim_weight * weighted_dssim(output.image, target, weight)
        if train.perceptual_weight:
            # On the target's background, so that only the face can differ.
            seen = mask * output.image + (1 - mask) * target
            loss = loss + train.perceptual_weight * self._perceptual[0](seen, target)
        if output.mask is not None:
            loss = loss + (output.mask - mask).abs().mean()
        return loss

    def _is_adversarial(self, progress: TrainProgress) -> bool:
        """Say whether the adversarial phase has begun."""
        train = self.train_settings
        has_begun = progress.images_seen >= train.adversarial_start_images
        return bool(self.critics) and train.adversarial_weight > 0 and has_begun

    def _adversarial_losses(self, outputs: Sequence[SwapOutput], masks: Tensor) -> list[Tensor]:
        """Return how far each person's critic is from taking the drawn faces for real ones.

        Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 9, a = 0, b = 1.
        """
        weight = self.train_settings.adversarial_weight
        return [
            weight * (critic(face.image * mask) - 1).square().mean()
            for critic, face, mask in zip(self.critics, outputs, masks, strict=True)
        ]

    def _discriminator_loss(self, outputs: Sequence[SwapOutput], batch: FaceBatch) -> Tensor:
        """Return how badly the critics tell real faces from drawn ones (equation 9 again)."""
        losses = []
        for critic, face, target, mask in zip(
            self.critics, outputs, batch.target, batch.mask, strict=True
        ):
            both = torch.cat([target * mask, face.image.detach() * mask])
            real, made = critic(both).chunk(2)
            losses.append(((real - 1).square().mean() + made.square().mean()) / 2)
        return torch.stack(losses).mean()


def _latent_norm(settings: AutoencoderModelSettings) -> list[nn.Module]:
    """Return the layer that normalises codes, or none."""
    if not settings.normalize_latent:
        return []
    # Without weights of its own: the dense layer after it has them all.
    return [nn.LayerNorm(settings.latent_dim, elementwise_affine=False)]


def _interpolation_layers(upsamples: int) -> list[nn.Module]:
    """Return the layer that doubles the side so often without learning anything, or none."""
    if not upsamples:
        return []
    return [nn.Upsample(scale_factor=2**upsamples, mode="bilinear", align_corners=False)]


def _repeat_last(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last repeated where there are too few."""
    return (*widths, *[widths[-1]] * (count - len(widths)))[:count]


def _halve_last(widths: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` widths, the last halved again and again where there are too few."""
    extra = (max(1, widths[-1] >> step) for step in range(1, count - len(widths) + 1))
    return (*widths, *extra)[:count]


BACKEND = Autoencoder
