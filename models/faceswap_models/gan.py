"""Networks that redraw pictures, networks that tell drawn from real, and what keeps both alive.

Knows pictures and layers; refuses to know whose faces they are and when who learns. Both kinds of
network are a row of layers that can be lengthened while they learn (`deepen`): a translation
network grows at its bottleneck, a critic before its last two layers.

Convention:
    Pictures are float32 (B, 3, S, S) in [-1, 1], masks (B, 1, S, S) in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from faceswap_models.tensors import from_levels, to_levels

KERNEL_SIZE = 4
"""Side of all convolutions that halve, that double by transposition, and of a critic's last two
(Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", appendix 6.1)."""
RESIZE_KERNEL_SIZE = 3
"""Side of a convolution that keeps the size."""
INIT_STD = 0.02
"""Standard deviation of fresh weights (Radford et al., "Unsupervised Representation Learning with
Deep Convolutional GANs", 2015, section 4)."""
MAX_CHANNEL_MULTIPLIER = 8
"""A critic's layers are at most this many times as wide as its first."""
MIN_PATCH_GRID_PX = 4
"""A critic's last halved layer must be at least this large: the two layers after it take a pixel
each, and instance norm has no variance over one."""


class Generator(nn.Module):
    """A picture -> the picture redrawn: layers that halve, then as many that double.

    Two layers a depth, as "Face Swap using Autoencoders & image-to-image Translation Techniques",
    section VI-A, counts them: the first halving is outermost, as is the last doubling.

    Args:
        channels: Channels after each halving.
        stem_channels: Channels of one more convolution before and one after, at full size; 0 has none.
        resize_convolution: Double by enlarging and then convolving, instead of by transposed convolution
            (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
        skip_connections: Add what lies before a halving to what comes out of the doubling that undoes it
            (Chaurasia and Culurciello, "LinkNet", 2017, section 3).
        depth: How many of the widths are built at first; all of them when left out.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        stem_channels: int = 0,
        resize_convolution: bool,
        skip_connections: bool,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.stem_channels, self.resize_convolution, self.skip_connections = (
            tuple(channels),
            stem_channels,
            resize_convolution,
            skip_connections,
        )
        if stem_channels:
            self.enter = nn.Sequential(init_conv(_same_size_conv(3, stem_channels)), nn.ReLU())
            self.leave = init_conv(_same_size_conv(stem_channels, 3))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for _ in range(len(self.channels) if depth is None else depth):
            self.add_layer()

    @property
    def depth(self) -> int:
        """How many halvings there are."""
        return len(self.down)

    def add_layer(self) -> None:
        """Insert one more halving and one more doubling at the bottleneck, with fresh weights."""
        place = self.depth
        outside = (self.stem_channels or 3) if place == 0 else self.channels[place - 1]
        inside = self.channels[place]
        down: list[nn.Module] = [nn.Conv2d(outside, inside, KERNEL_SIZE, stride=2, padding=1)]
        up: list[nn.Module] = [_upsample_layer(inside, outside, resize=self.resize_convolution)]
        if place > 0:  # the first halving is not normalised: a picture's colours are what it shows
            down.append(nn.InstanceNorm2d(inside))
        if place > 0 or self.stem_channels:  # nor is what becomes the picture
            up += [nn.InstanceNorm2d(outside), nn.ReLU()]
        layers = nn.Sequential(*down, nn.ReLU()), nn.Sequential(*up)
        for layer in layers:
            layer.apply(normal_init)
        self.down.append(layers[0])
        self.up.append(layers[1])

    def remove_layer(self) -> None:
        """Take the innermost pair of layers away."""
        del self.down[-1], self.up[-1]

    def forward(
        self, faces: Tensor, fade: Tensor | float = 1.0, *, depth: int | None = None
    ) -> Tensor:
        """Redraw pictures (B, 3, S, S).

        Args:
            faces: The pictures.
            fade: How much the innermost pair of layers counts: 0 is as if it were not there.
            depth: Use only so many pairs of layers.
        """
        depth = self.depth if depth is None else depth
        entered = self.enter(faces) if self.stem_channels else faces
        drawn = self._run_layers(entered, 0, depth, fade)
        # In full precision: sixteen-bit numbers have 256 steps to 1, too coarse near white.
        return torch.tanh((self.leave(drawn) if self.stem_channels else drawn).float())

    def _run_layers(self, features: Tensor, index: int, depth: int, fade: Tensor | float) -> Tensor:
        """Return what becomes of features by the layers from `index` inwards, in their shape."""
        if index == depth:
            return features
        inner = self._run_layers(self.down[index](features), index + 1, depth, fade)
        drawn: Tensor = self.up[index](inner)
        if index == 0 and not self.stem_channels:
            return drawn
        share = fade if index == depth - 1 else 1.0
        kept = 1.0 if self.skip_connections else 1 - share
        return kept * features + share * drawn


class DiscriminatorOutput(NamedTuple):
    """What a critic says of pictures, as it counts."""

    weight: Tensor | float
    """How much it counts, 0 to 1; the shares of all verdicts on a picture add up to 1."""
    scores: Tensor
    """(B, 1, H, W): 1 for real, 0 for drawn, patch by patch."""


class PatchDiscriminator(nn.Module):
    """Pictures -> how real each patch of them looks: a PatchGAN of any number of layers.

    Isola et al., appendix 6.1.2: convolutions that halve, then one that does not, then the scores.
    A patch is 16, 34, 70, 142 or 286 px for one to five halvings.

    Args:
        channels: Channels after each halving.
        slope: LeakyReLU's below zero; 0 is a plain ReLU.
        norm: `instance`, `spectral` (Miyato et al., "Spectral Normalization for Generative
            Adversarial Networks", 2018), or `none`.
        depth: How many of the widths are built at first; all of them when left out.
    """

    def __init__(
        self, channels: Sequence[int], *, slope: float, norm: str, depth: int | None = None
    ) -> None:
        super().__init__()
        self.channels, self.slope, self.norm = tuple(channels), slope, norm
        self.down, self.ends = nn.ModuleList(), nn.ModuleDict()
        for _ in range(len(self.channels) if depth is None else depth):
            self.add_layer()
            self.drop_old_heads()

    @property
    def depth(self) -> int:
        """How many halvings there are."""
        return len(self.down)

    def add_layer(self) -> None:
        """Add one more halving, and two last layers for it beside those there are."""
        place = self.depth
        before, width = 3 if place == 0 else self.channels[place - 1], self.channels[place]
        self.down.append(self._make_layer(before, width, stride=2, is_first=place == 0))
        self.set_heads([*map(int, self.ends), self.depth])

    def remove_layer(self) -> None:
        """Take the newest halving away, and its last layers."""
        del self.down[-1]
        self.set_heads([int(name) for name in self.ends if int(name) <= self.depth])

    def drop_old_heads(self) -> None:
        """Forget the last layers of the depths before."""
        self.set_heads([self.depth])

    def set_heads(self, depths: Sequence[int]) -> None:
        """Have last layers at these depths and no others; those that are missing are fresh."""
        # In order: optimizers know parameters by their place.
        self.ends = nn.ModuleDict(
            {
                str(depth): self.ends[str(depth)]
                if str(depth) in self.ends
                else self._make_head(depth)
                for depth in sorted(set(depths))
            }
        )

    def forward(
        self, faces: Tensor, fade: Tensor | float = 1.0, *, depth: int | None = None
    ) -> list[DiscriminatorOutput]:
        """Judge pictures (B, 3, S, S); while the newest layer fades in, so do its verdicts.

        Args:
            faces: The pictures.
            fade: How much the newest layer's verdict counts beside the one of the depth before.
            depth: Give the verdict of this depth alone.
        """
        wanted = [int(name) for name in self.ends] if depth is None else [depth]
        verdicts, features = [], faces
        for place, layer in enumerate(self.down[: max(wanted)], start=1):
            features = layer(features)
            if place in wanted:
                share = fade if place == self.depth else 1 - fade
                scores = self.ends[str(place)](features).float()
                verdicts.append(
                    DiscriminatorOutput(weight=share if len(wanted) > 1 else 1.0, scores=scores)
                )
        return verdicts

    def _make_head(self, depth: int) -> nn.Sequential:
        """Return the last two layers of one depth."""
        width = self.channels[depth - 1]
        last = min(2 * width, MAX_CHANNEL_MULTIPLIER * self.channels[0])
        return nn.Sequential(
            self._make_layer(width, last, stride=1),
            self._with_norm(init_conv(nn.Conv2d(last, 1, KERNEL_SIZE, padding=1))),
        )

    def _make_layer(
        self, in_channels: int, out_channels: int, *, stride: int, is_first: bool = False
    ) -> nn.Sequential:
        """Return a convolution with its norm and its LeakyReLU."""
        convolution = nn.Conv2d(in_channels, out_channels, KERNEL_SIZE, stride=stride, padding=1)
        parts: list[nn.Module] = [self._with_norm(init_conv(convolution))]
        if self.norm == "instance" and not is_first:
            parts.append(nn.InstanceNorm2d(out_channels))
        return nn.Sequential(*parts, nn.LeakyReLU(self.slope))

    def _with_norm(self, layer: nn.Module) -> nn.Module:
        """Bound what a layer can amplify, where that is the norm."""
        return spectral_norm(layer) if self.norm == "spectral" else layer


class ImagePool(nn.Module):
    """Drawn pictures of earlier steps, so that a critic does not forget what it has seen through.

    Shrivastava et al., "Learning from Simulated and Unsupervised Images", 2017, section 2.3: half
    of what the critic is shown is old.

    Args:
        size: Pictures kept; 0 keeps none.
        channels: Of a picture; a mask may come along as one more.
        side_px: Of a picture.
    """

    stored: Tensor
    count: Tensor

    def __init__(self, size: int, *, channels: int, side_px: int) -> None:
        super().__init__()
        shape = (size, channels, side_px, side_px)
        self.register_buffer("stored", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def query(self, images: Tensor) -> Tensor:
        """Store pictures (B, C, S, S) in [-1, 1], and return as many, about half of them old."""
        size = len(self.stored)
        fresh, rest = images[:size], images[size:]
        if size == 0:
            return images
        # By indices and choices alone: nothing here makes a device wait for its host.
        is_filling = self.count < size
        order = torch.arange(len(fresh), device=images.device)
        chosen = torch.randperm(size, device=images.device)[: len(fresh)]
        places = torch.where(is_filling, (self.count + order) % size, chosen)
        is_old = (torch.rand(len(fresh), device=images.device) < 0.5) & ~is_filling
        held = self.stored[places]
        is_stored = (is_old | is_filling)[:, None, None, None]
        self.stored[places] = torch.where(is_stored, to_levels(fresh), held)
        self.count.copy_((self.count + len(fresh)).clamp(max=size))
        given = torch.where(is_old[:, None, None, None], from_levels(held), fresh)
        return torch.cat([given, rest])


def lsgan_loss(outputs: Sequence[DiscriminatorOutput], target: float, weight: Tensor) -> Tensor:
    """Return how far scores are from `target`: squared, the mean weighted by patches.

    Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 2.

    Args:
        outputs: Of a critic.
        target: 1 for real, 0 for drawn.
        weight: (B, 1, S, S): how much each place of the pictures counts.
    """
    losses = []
    for share, scores in outputs:
        patches = functional.interpolate(weight, size=scores.shape[-2:], mode="area")
        error = (scores - target).square() * patches
        losses.append(share * error.sum() / patches.sum().clamp(min=1e-6))
    return torch.stack(losses).sum()


def r1_penalty(
    discriminate: Callable[[Tensor], Sequence[DiscriminatorOutput]], faces: Tensor, weight: Tensor
) -> Tensor:
    """Return half the squared slope of a critic's score at real faces: R1, to be learnt down.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9,
    without its weight: E[|dD/dx|^2] / 2. A picture's score is its patches' mean, weighted as
    `lsgan_loss` weights them. In full precision whatever surrounds it: slopes are small.

    Args:
        discriminate: Faces -> the critic's verdicts.
        faces: Real ones, (B, 3, S, S).
        weight: (B, 1, S, S): how much each place of the pictures counts.
    """
    with torch.autocast(faces.device.type, enabled=False), torch.enable_grad():
        shown = faces.detach().float().requires_grad_()
        scores = torch.stack(
            [_mean_score(one, weight.float()) for one in discriminate(shown)]
        ).sum()
        (slope,) = torch.autograd.grad(scores, shown, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean() / 2


def _mean_score(output: DiscriminatorOutput, weight: Tensor) -> Tensor:
    """Return a verdict's part in the pictures' scores, added up over the batch."""
    patches = functional.interpolate(weight, size=output.scores.shape[-2:], mode="area")
    means = (output.scores * patches).sum((1, 2, 3)) / patches.sum((1, 2, 3)).clamp(min=1e-6)
    return output.weight * means.sum()


def diff_augment(images: Tensor, strength: float) -> Tensor:
    """Change what a critic is shown by chance, so that gradients pass: colour, place, a hole.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, section 4.1.
    It is not to learn the few real pictures by heart, and what is drawn is changed alike, so
    changes do not leak into it.

    Args:
        images: (B, C, S, S), the first three channels a picture in [-1, 1]; others, such as a
            mask, are moved and cut alike, and keep their values.
        strength: 1 is that paper's, 0 nothing.
    """
    if strength == 0:
        return images
    colours = _jitter_color(images[:, :3], strength)
    return _cutout(_translate(torch.cat([colours, images[:, 3:]], dim=1), strength), strength)


def _jitter_color(images: Tensor, strength: float) -> Tensor:
    """Change brightness by up to 0.5, saturation and contrast by up to 100 and 50 %."""
    chance = (torch.rand(3, len(images), 1, 1, 1, device=images.device) - 0.5) * strength
    bright = images + chance[0]
    grey = bright.mean(1, keepdim=True)
    saturated = (bright - grey) * (1 + 2 * chance[1]) + grey
    mean = saturated.mean((1, 2, 3), keepdim=True)
    return (saturated - mean) * (1 + chance[2]) + mean


def _translate(images: Tensor, strength: float) -> Tensor:
    """Move pictures by up to an eighth of their side; what comes in is 0."""
    count, _, side, _ = images.shape
    reach = round(side / 8 * strength)
    moves = torch.randint(-reach, reach + 1, (2, count, 1), device=images.device)
    y, x = (torch.arange(side, device=images.device) + moves + 1).clamp(0, side + 1)
    padded = functional.pad(images, [1, 1, 1, 1]).permute(0, 2, 3, 1)
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _cutout(images: Tensor, strength: float) -> Tensor:
    """Cut a square of half the side out of pictures, at any place."""
    count, _, side, _ = images.shape
    reach = side * strength / 4
    centres = torch.rand(2, count, 1, device=images.device) * side
    y, x = (torch.arange(side, device=images.device) + 0.5 - centres).abs() < reach
    kept: Tensor = ~(y[:, None, :, None] & x[:, None, None, :])
    return images * kept


def _same_size_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, RESIZE_KERNEL_SIZE, padding=RESIZE_KERNEL_SIZE // 2)


def _upsample_layer(in_channels: int, out_channels: int, *, resize: bool) -> nn.Module:
    """Return a layer (B, C, H, W) -> (B, C', 2H, 2W)."""
    if not resize:
        return nn.ConvTranspose2d(in_channels, out_channels, KERNEL_SIZE, stride=2, padding=1)
    # By repetition: as good as bilinear, and a quarter faster.
    return nn.Sequential(nn.Upsample(scale_factor=2), _same_size_conv(in_channels, out_channels))


def init_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with fresh weights, before anything is hung on it."""
    normal_init(layer)
    return layer


def normal_init(layer: nn.Module) -> None:
    """Draw a convolution's weights anew; for `apply`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, INIT_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
