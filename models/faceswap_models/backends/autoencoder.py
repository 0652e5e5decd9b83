"""A shared encoder and one decoder per identity: `Autoencoder`.

The encoder learns what all faces share (pose, expression, light), a decoder the appearance of its
identity. Swapping decodes the latent of one identity with the decoder of another. "Face Swap using
Autoencoders & image-to-image Translation Techniques", section IV, after the original face-swap
network; "Face Swapping with an Autoencoder Network", section 3.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from faceswap_models import vgg
from faceswap_models.base import (
    MAX_LAYERS,
    FaceBatch,
    ModelSettings,
    SwapModel,
    SwapOutput,
    TrainProgress,
    TrainSettings,
    UpdateFn,
)
from faceswap_models.detail import COARSE_PX, DetailNetwork
from faceswap_models.identity_classifier import (
    IdentityClassifier,
    classification_loss,
    confusion_loss,
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
"""Group of the encoder and the decoders."""
DETAIL_GROUP = "detail"
"""Group of the detail networks."""
DETAIL_LEARNING_RATE = 1e-3
"""Their learning rate, whatever that of the autoencoder is: all of them are alike."""
CLASSIFIER_LOSS = "identity_classifier"
"""Name of the loss of the identity classifier, from which the encoder hides who it sees."""
DISCRIMINATORS = "critics"
"""Group of the discriminators of the adversarial phase, by its name in files: so is the attribute
`Autoencoder.critics`."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderModelSettings(ModelSettings):
    """Settings of the networks; the defaults are the original layout."""

    encoder: str = "conv"
    """`conv`: strided convolutions and a small latent; `vgg19`: VGG19's convolutions."""
    bottleneck_px: int = 7
    """The image is halved until its side is at most this: 64, 128 and 256 px all end at 4."""
    encoder_channels: tuple[int, ...] = (128, 256, 512, 1024)
    """Channels after each downsampling; a larger image repeats the last."""
    latent_dim: int = 1024
    """Size of the latent between the two dense layers."""
    shared_channels: int = 512
    """Channels after the first upsampling, which belongs to the encoder."""
    decoder_channels: tuple[int, ...] = (256, 128, 64)
    """Channels after each upsampling of a decoder; for a larger image the last is halved again and
    again."""
    learned_upsamples: int = 0
    """Number of a decoder's upsamplings that are learned, the others interpolate; 0 is all."""
    residual_blocks: int = 0
    """Residual blocks after each learned upsampling."""
    encoder_kernel_size: int = 5
    """Kernel size of the encoder's convolutions."""
    decoder_kernel_size: int = 3
    """Kernel size of the upsampling convolutions."""
    output_kernel_size: int = 5
    """Kernel size of the last convolution, to RGB."""
    normalize_latent: bool = False
    """Normalize every latent to mean 0 and deviation 1, so that identities have the same scale."""
    predict_mask: bool = False
    """Predict the outline of the target's face as a fourth channel, so that the converter keeps the
    target's hair and background out of the source's frame."""
    discriminator_base_channels: int = 0
    """Channels after a discriminator's first downsampling; 0 has no discriminators and no
    adversarial phase."""
    identity_classifier_dim: int = 0
    """Width of the classifier that tells identities apart by their latents, for the confusion loss;
    0 has none."""
    detail_px: int = 0
    """Side of the output of an identity's detail network, which adds what its decoder leaves out; 0
    has none."""
    detail_channels: int = 32
    """Channels of a detail network."""
    detail_blocks: int = 4
    """Residual blocks of a detail network."""
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {
        **ModelSettings.ranges,
        "bottleneck_px": (1, 4096),
        "residual_blocks": (0, MAX_LAYERS),
        "encoder_kernel_size": (1, MAX_LAYERS),
        "decoder_kernel_size": (1, MAX_LAYERS),
        "output_kernel_size": (1, MAX_LAYERS),
        "detail_px": (0, 4096),
        "detail_blocks": (0, MAX_LAYERS),
    }
    """Minimum and maximum by setting."""

    def __post_init__(self) -> None:
        """Check that the networks can be built.

        Raises:
            ValueError: The side cannot be halved that often, a list of channels is empty, the
                encoder is unknown, or the decoder is deeper than the side allows.
        """
        if self.encoder not in ENCODERS:
            raise ValueError(f"model.encoder is one of {', '.join(ENCODERS)}, not {self.encoder}")
        if self.size_px % 2**self.num_downsamples or self.num_downsamples < 1:
            raise ValueError(
                f"size_px = {self.size_px} cannot be halved down to {self.bottleneck_px} px or less"
                if self.encoder == "conv"
                else f"size_px = {self.size_px} cannot be halved five times, as {self.encoder} does"
            )
        if not self.encoder_channels or not self.decoder_channels:
            raise ValueError("encoder_channels and decoder_channels need at least one value each")
        if not 0 <= self.learned_upsamples <= self.num_upsamples:
            raise ValueError(
                f"learned_upsamples = {self.learned_upsamples}: a decoder for {self.size_px} px "
                f"upsamples {self.num_upsamples} times"
            )
        if self.identity_classifier_dim and self.encoder != "conv":
            raise ValueError(
                f"identity_classifier_dim = {self.identity_classifier_dim}: {self.encoder} has no "
                "latent that could be classified"
            )
        if self.detail_px and (self.detail_px < self.size_px or self.detail_px % COARSE_PX):
            raise ValueError(
                f"detail_px = {self.detail_px} is a multiple of {COARSE_PX}, at least size_px"
            )

    @property
    def output_px(self) -> int:
        """Side of the output with detail."""
        return self.detail_px or self.size_px

    @property
    def num_downsamples(self) -> int:
        """How often the encoder halves the side."""
        return ENCODERS[self.encoder].num_downsamples(self)

    @property
    def num_upsamples(self) -> int:
        """How often a decoder doubles the side."""
        return self.num_downsamples - ENCODERS[self.encoder].num_upsamples


@dataclass(frozen=True, kw_only=True)
class AutoencoderTrainSettings(TrainSettings):
    """Settings of the training."""

    background_weight: float = 1.0
    """Weight of the loss outside the face's outline; 1 is the paper's plain mean."""
    eyes_mouth_weight: float = 0.0
    """Additional weight of the loss on eyes and mouth."""
    dssim_weight: float = 0.0
    """Weight of the structural loss (1 - SSIM) / 2, added to the mean absolute error."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual loss (VGG) inside the face; 0 does not load VGG."""
    perceptual_file: str = ""
    """File of VGG16 or VGG19 weights by torchvision's names; empty uses the installed VGG16."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss (least squares); 0 has no adversarial phase."""
    adversarial_start_images: int = 0
    """Images after which the adversarial phase starts."""
    unfreeze_start_images: int = 0
    """Images after which the encoder is trained too."""
    confusion_weight: float = 0.0
    """Weight of the confusion loss, which takes the identity out of the latent."""
    confusion_end_images: int = 0
    """Images after which the confusion loss is off: from half of them on it fades. 0 keeps it."""


class Encoding(NamedTuple):
    """Output of an encoder for a batch of faces."""

    features: Tensor
    """(B, C, G, G): what decoders decode."""
    latent: Tensor | None
    """(B, latent_dim); None of an encoder without a bottleneck."""


class ConvEncoder(nn.Module):
    """Encode faces of any identity: (B, 3, S, S) -> (B, shared_channels, 2G, 2G)."""

    num_upsamples = 1
    """How often the encoder doubles the side after the latent."""

    def __init__(self, settings: AutoencoderModelSettings) -> None:
        super().__init__()
        channels = _repeat_last(settings.encoder_channels, settings.num_downsamples)
        bottleneck_px = settings.size_px >> settings.num_downsamples
        self.down = nn.Sequential(
            *(
                downscale(before, after, kernel_size=settings.encoder_kernel_size)
                for before, after in pairwise((3, *channels))
            )
        )
        # Two dense layers with no activation between them: the bottleneck discards the warp.
        self.code = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1] * bottleneck_px**2, settings.latent_dim),
            *_latent_norm(settings),
            nn.Linear(settings.latent_dim, channels[-1] * bottleneck_px**2),
            nn.Unflatten(1, (channels[-1], bottleneck_px, bottleneck_px)),
        )
        self.up = upscale(
            channels[-1], settings.shared_channels, kernel_size=settings.decoder_kernel_size
        )
        self.out_channels = settings.shared_channels

    @staticmethod
    def num_downsamples(settings: AutoencoderModelSettings) -> int:
        """Return how often the side is halved until it is `bottleneck_px` at most."""
        count = 0
        while settings.size_px >> count > settings.bottleneck_px:
            count += 1
        return count

    def forward(self, faces: Tensor) -> Encoding:
        """Encode faces (B, 3, S, S) in [-1, 1]."""
        latent = self.code[:-2](self.down(faces))
        return Encoding(features=self.up(self.code[-2:](latent)), latent=latent)


class VGGEncoder(nn.Module):
    """VGG19's convolutions as an encoder: (B, 3, S, S) -> (B, 512, S/32, S/32).

    "Face Swapping with an Autoencoder Network", section 3.2.
    """

    num_upsamples = 0
    """How often the encoder doubles the side after the latent: it has no dense layers."""

    def __init__(self, settings: AutoencoderModelSettings) -> None:
        super().__init__()
        del settings
        self.normalize = vgg.ImageNetNormalize()
        self.features = vgg.conv_layers(vgg.VGG19_BLOCKS)
        self.out_channels = vgg.BLOCK_CHANNELS[-1]

    @staticmethod
    def num_downsamples(settings: AutoencoderModelSettings) -> int:
        """Return how often the side is halved: once per block."""
        del settings
        return len(vgg.VGG19_BLOCKS)

    def forward(self, faces: Tensor) -> Encoding:
        """Encode faces (B, 3, S, S) in [-1, 1]."""
        return Encoding(features=self.features(self.normalize(faces)), latent=None)


ENCODERS: Mapping[str, type[ConvEncoder] | type[VGGEncoder]] = {
    "conv": ConvEncoder,
    "vgg19": VGGEncoder,
}


class Decoder(nn.Module):
    """Decode features to faces of one identity: (B, C, G, G) -> (B, 3, S, S).

    With `predict_mask` also to the mask of the face: (B, 1, S, S).
    """

    def __init__(self, settings: AutoencoderModelSettings, in_channels: int) -> None:
        """Build a decoder for features of `in_channels` channels."""
        super().__init__()
        depth = settings.learned_upsamples or settings.num_upsamples
        channels = (in_channels, *_halve_last(settings.decoder_channels, depth))
        self.up = nn.Sequential(
            *(
                layer
                for before, after in pairwise(channels)
                for layer in (
                    upscale(before, after, kernel_size=settings.decoder_kernel_size),
                    *(ResidualBlock(after) for _ in range(settings.residual_blocks)),
                )
            ),
            *_interpolation_layers(settings.num_upsamples - depth),
        )
        self.output = nn.Conv2d(
            channels[-1],
            3 + settings.predict_mask,
            settings.output_kernel_size,
            padding=settings.output_kernel_size // 2,
        )

    def forward(self, features: Tensor) -> SwapOutput:
        """Return faces (B, 3, S, S) in [-1, 1], and masks (B, 1, S, S) if they are predicted."""
        # In full precision: bfloat16 has 256 steps up to 1, too coarse near white.
        output = torch.sigmoid(self.output(self.up(features)).float())
        mask = output[:, 3:]
        return SwapOutput(image=2 * output[:, :3] - 1, mask=mask if mask.shape[1] else None)


class Autoencoder(PretrainedModel):
    """A shared encoder and a decoder for each of any number of identities."""

    model_settings_type = AutoencoderModelSettings
    train_settings_type = AutoencoderTrainSettings
    training_only_prefixes = ("critics.", "identity_classifier.")
    opposed_losses = (CLASSIFIER_LOSS,)
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
        self.identity_classifier = (
            IdentityClassifier(model.latent_dim, model.identity_classifier_dim, count)
            if model.identity_classifier_dim and (count := len(self.identities)) > 1
            else None
        )
        self.apply(kaiming_init)
        # After `apply`, which would undo their own initialization.
        self.detail_networks = nn.ModuleList(
            DetailNetwork(
                model.detail_px, channels=model.detail_channels, blocks=model.detail_blocks
            )
            for _ in self.identities
            if model.detail_px
        )
        # In a list, which hides it from torch: it is neither trained nor saved with the model.
        self._perceptual: list[vgg.PerceptualLoss] = []

    def parameter_groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Return detail networks and discriminators as groups if there are any, and all else."""
        parts: list[nn.Module] = [self.encoder, self.decoders]
        parts += [self.identity_classifier] if self.identity_classifier else []
        groups = {AUTOENCODER_GROUP: [one for part in parts for one in part.parameters()]}
        if self.detail_networks:
            groups[DETAIL_GROUP] = [*self.detail_networks.parameters()]
        if self.critics:
            groups[DISCRIMINATORS] = [*self.critics.parameters()]
        return groups

    def learning_rate(self, group: str) -> float:
        """Return the learning rate of a group."""
        return DETAIL_LEARNING_RATE if group == DETAIL_GROUP else super().learning_rate(group)

    def compilable_networks(self) -> Sequence[nn.Module]:
        """Return the encoder, the decoders, and the discriminators if there are any."""
        return [self.encoder, *self.decoders, *self.critics]

    def train_step(
        self, batch: FaceBatch, update: UpdateFn, progress: TrainProgress
    ) -> dict[str, Tensor]:
        """Train to undo the warp; return each identity's loss, such as `recon_ada`.

        The paper's loss (section IV-B): the mean absolute error between the output of the
        identity's own decoder for a warped face and the face before the warp. Optionally weighted
        by the face's outline, its eyes and its mouth, with a structural, a perceptual and, at the
        end of training, an adversarial term; and with a confusion loss for the latents.
        """
        warped = batch.warped.flatten(0, 1)  # (P*B, 3, S, S): the encoder is shared
        is_encoder_trained = progress.images_seen >= self.train_settings.unfreeze_start_images
        with nullcontext() if is_encoder_trained else torch.no_grad():
            encoding: Encoding = self.encoder(warped)
        shape = batch.warped.shape[:2]
        features = encoding.features.view(*shape, *encoding.features.shape[1:])
        outputs: list[SwapOutput] = [
            decoder(face) for decoder, face in zip(self.decoders, features, strict=True)
        ]
        by_identity = zip(outputs, batch.target, batch.mask, batch.feature_mask, strict=True)
        losses = [self.reconstruction_loss(*one) for one in by_identity]
        named = {f"recon_{k}": one.detach() for k, one in zip(self.identities, losses, strict=True)}
        total = torch.stack(losses).mean()
        confusion_weight = self.confusion_weight(progress)
        if self.identity_classifier is not None and confusion_weight:
            assert encoding.latent is not None
            latents = encoding.latent.view(*shape, -1)
            confusion = confusion_loss(self.identity_classifier, latents)
            classification = classification_loss(self.identity_classifier, latents)
            total = total + confusion_weight * confusion + classification
            named[CLASSIFIER_LOSS] = classification.detach()
        if self._is_adversarial(progress):
            adversarial = self._adversarial_losses(outputs, batch.mask)
            update(AUTOENCODER_GROUP, total + torch.stack(adversarial).mean())
            discriminator_loss = self._discriminator_loss(outputs, batch)
            update(DISCRIMINATORS, discriminator_loss)
        else:
            update(AUTOENCODER_GROUP, total)
            discriminator_loss = total.new_zeros(())
        if self.detail_networks and batch.detail_target.shape[-1]:
            loss = self._detail_loss(outputs, batch)
            update(DETAIL_GROUP, loss)
            named["detail"] = loss.detach()
        return named | ({"discriminator": discriminator_loss.detach()} if self.critics else {})

    def confusion_weight(self, progress: TrainProgress) -> float:
        """Return the weight of the confusion loss: constant, then falling to 0 in a line."""
        train = self.train_settings
        if not train.confusion_end_images:
            return train.confusion_weight
        left = 2 * (1 - progress.images_seen / train.confusion_end_images)
        return train.confusion_weight * min(1.0, max(0.0, left))

    def _detail_loss(self, outputs: Sequence[SwapOutput], batch: FaceBatch) -> Tensor:
        """Return the loss of the detail networks, each for the faces of its own decoder."""
        losses = [
            network.loss(output.image.detach(), target, position)
            for network, output, target, position in zip(
                self._detail_by_name().values(),
                outputs,
                batch.detail_target,
                batch.detail_position,
                strict=True,
            )
        ]
        return torch.stack(losses).mean()

    def add_detail(self, images: Tensor, identity: str) -> Tensor:
        """Return swapped faces with the detail of `identity`; without detail networks, as they are.

        Raises:
            KeyError: `identity` was not trained.
        """
        if not self.detail_networks:
            return images
        detailed: Tensor = self._detail_by_name()[identity](images.float())
        return detailed

    def _detail_by_name(self) -> dict[str, DetailNetwork]:
        """Return the detail networks by identity; empty if there are none."""
        networks = [one for one in self.detail_networks if isinstance(one, DetailNetwork)]
        return dict(zip(self.identities, networks, strict=True)) if networks else {}

    def swap(self, faces: Tensor, identity: str) -> SwapOutput:
        """Encode `faces` (B, 3, S, S) and decode them with the decoder of `identity`.

        Raises:
            KeyError: `identity` was not trained.
        """
        output: SwapOutput = self._decoder_for(identity)(self.encoder(faces).features)
        return output

    @property
    def pretrained_file(self) -> str:
        """Name of the file of VGG19's trained weights; empty for other encoders."""
        return self.model_settings.encoder if isinstance(self.encoder, VGGEncoder) else ""

    def load_pretrained(self, state: Mapping[str, Tensor], *, partial: bool = False) -> None:
        """Copy VGG19's weights, by torchvision's names, into the encoder.

        Args:
            state: Tensors by name.
            partial: Whether layers that are not in `state` may stay random.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        assert isinstance(self.encoder, VGGEncoder)
        vgg.load_torchvision_weights(self.encoder.features, state, partial=partial)

    def init_from(self, other: SwapModel) -> None:
        """Copy a trained encoder, and the decoders and detail of identities that both models have.

        A new identity starts from the other model's first decoder: of whatever person, it knows
        what a face is, and this encoder's latents.

        Raises:
            ValueError: The networks are built differently.
        """
        if not isinstance(other, Autoencoder):
            raise ValueError(f"these networks cannot start from those of {type(other).__name__}")
        parts = [(self.encoder, other.encoder), (self.decoders[0], other.decoders[0])]
        # Before anything is copied: torch copies what fits and then refuses the rest.
        if any(_shapes(ours) != _shapes(theirs) for ours, theirs in parts):
            raise ValueError("the networks are built differently")
        self.encoder.load_state_dict(other.encoder.state_dict())
        ours, theirs = self._detail_by_name(), other._detail_by_name()
        for name in self.identities:
            known = name if name in other.identities else other.identities[0]
            self._decoder_for(name).load_state_dict(other._decoder_for(known).state_dict())
            if ours and theirs and _shapes(ours[name]) == _shapes(theirs[known]):
                ours[name].load_state_dict(theirs[known].state_dict())

    @property
    def perceptual_file(self) -> str:
        """Name or path of the VGG weights of the perceptual loss; empty without that loss."""
        train = self.train_settings
        return (train.perceptual_file or "vgg16") if train.perceptual_weight else ""

    def load_perceptual(self, state: Mapping[str, Tensor]) -> None:
        """Build the perceptual loss from VGG16's or VGG19's weights, by torchvision's names.

        Raises:
            ValueError: A tensor is missing, or has another shape.
        """
        device = next(self.parameters()).device
        self._perceptual[:] = [vgg.PerceptualLoss(state).to(device)]

    def _decoder_for(self, name: str) -> nn.Module:
        return dict(zip(self.identities, self.decoders, strict=True))[name]

    def reconstruction_loss(
        self, output: SwapOutput, target: Tensor, mask: Tensor, feature_mask: Tensor
    ) -> Tensor:
        """Return the loss of faces (B, 3, S, S), and of their masks if they are predicted."""
        train = self.train_settings
        weight = pixel_weights(mask, background=train.background_weight)
        weight = weight * (1 + train.eyes_mouth_weight * feature_mask)
        loss = weighted_l1(output.image, target, weight)
        if train.dssim_weight:
            loss = loss + train.dssim_weight * weighted_dssim(output.image, target, weight)
        if train.perceptual_weight:
            # On the target's background, so that only the face can differ.
            composite = mask * output.image + (1 - mask) * target
            loss = loss + train.perceptual_weight * self._perceptual[0](composite, target)
        if output.mask is not None:
            loss = loss + (output.mask - mask).abs().mean()
        return loss

    def _is_adversarial(self, progress: TrainProgress) -> bool:
        """Return whether the adversarial phase has started."""
        train = self.train_settings
        has_started = progress.images_seen >= train.adversarial_start_images
        return bool(self.critics) and train.adversarial_weight > 0 and has_started

    def _adversarial_losses(self, outputs: Sequence[SwapOutput], masks: Tensor) -> list[Tensor]:
        """Return each identity's adversarial loss: its discriminator should say 1 (real).

        Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 9, a = 0, b = 1.
        """
        weight = self.train_settings.adversarial_weight
        return [
            weight * (discriminator(output.image * mask) - 1).square().mean()
            for discriminator, output, mask in zip(self.critics, outputs, masks, strict=True)
        ]

    def _discriminator_loss(self, outputs: Sequence[SwapOutput], batch: FaceBatch) -> Tensor:
        """Return the discriminators' loss on real and generated faces (equation 9 again)."""
        losses = []
        for discriminator, output, target, mask in zip(
            self.critics, outputs, batch.target, batch.mask, strict=True
        ):
            both = torch.cat([target * mask, output.image.detach() * mask])
            real, fake = discriminator(both).chunk(2)
            losses.append(((real - 1).square().mean() + fake.square().mean()) / 2)
        return torch.stack(losses).mean()


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of a module's tensors, by name."""
    return {name: value.shape for name, value in module.state_dict().items()}


def _latent_norm(settings: AutoencoderModelSettings) -> list[nn.Module]:
    """Return the layer that normalizes latents, or none."""
    if not settings.normalize_latent:
        return []
    # Without an affine part of its own: the dense layer after it has one.
    return [nn.LayerNorm(settings.latent_dim, elementwise_affine=False)]


def _interpolation_layers(upsamples: int) -> list[nn.Module]:
    """Return the layer that doubles the side `upsamples` times by interpolation, or none."""
    if not upsamples:
        return []
    return [nn.Upsample(scale_factor=2**upsamples, mode="bilinear", align_corners=False)]


def _repeat_last(channels: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` numbers of channels, the last repeated if there are too few."""
    return (*channels, *[channels[-1]] * (count - len(channels)))[:count]


def _halve_last(channels: Sequence[int], count: int) -> tuple[int, ...]:
    """Return `count` numbers of channels, the last halved again and again if there are too few."""
    extra = (max(1, channels[-1] >> step) for step in range(1, count - len(channels) + 1))
    return (*channels, *extra)[:count]


BACKEND = Autoencoder
