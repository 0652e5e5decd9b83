"""Building blocks of GANs: `Generator`, `PatchDiscriminator`, `ImagePool`, losses, augmentation.

Both networks can get more layers during training (`add_layer`): a generator at its bottleneck, a
discriminator before its last two layers.

Convention:
    Images are float32 (B, 3, S, S) in [-1, 1], masks (B, 1, S, S) in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from faceswap_models.tensors import from_levels, to_levels

KERNEL_SIZE = 4
"""Kernel size of strided and transposed convolutions and of a discriminator's last two (Isola et
al., "Image-to-Image Translation with Conditional Adversarial Networks", appendix 6.1)."""
RESIZE_KERNEL_SIZE = 3
"""Kernel size of convolutions that keep the side."""
INIT_STD = 0.02
"""Standard deviation of initial weights (Radford et al., "Unsupervised Representation Learning with
Deep Convolutional GANs", 2015, section 4)."""
MAX_CHANNEL_MULTIPLIER = 8
"""A discriminator's layers have at most this many times the channels of its first."""
MIN_PATCH_GRID_PX = 4
"""Minimum side of a discriminator's last downsampled layer: the two layers after it take a pixel
each, and instance norm has no variance over one."""


class Generator(nn.Module):
    """Translate images: (B, 3, S, S) -> the same shape, by downsampling, then upsampling layers.

    Depth n has n downsampling and n upsampling layers, as "Face Swap using Autoencoders &
    image-to-image Translation Techniques", section VI-A, counts them, the first pair outermost.

    Args:
        channels: Channels after each downsampling.
        stem_channels: Channels of one more convolution before and one after, at full size; 0 has
            none.
        resize_convolution: Upsample by resizing and then convolving, instead of by transposed
            convolution (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
        skip_connections: Add the input of each downsampling to the output of the upsampling of the
            same depth (Chaurasia and Culurciello, "LinkNet", 2017, section 3).
        depth: Pairs of layers to build at first; default: one per entry of `channels`.
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
        """Number of downsamplings."""
        return len(self.down)

    def add_layer(self) -> None:
        """Insert one more downsampling and upsampling at the bottleneck, with new weights."""
        index = self.depth
        outer = (self.stem_channels or 3) if index == 0 else self.channels[index - 1]
        inner = self.channels[index]
        down: list[nn.Module] = [nn.Conv2d(outer, inner, KERNEL_SIZE, stride=2, padding=1)]
        up: list[nn.Module] = [_upsample_layer(inner, outer, resize=self.resize_convolution)]
        if index > 0:  # the first downsampling is not normalized: it must see absolute colors
            down.append(nn.InstanceNorm2d(inner))
        if index > 0 or self.stem_channels:  # nor is the layer that outputs the image
            up += [nn.InstanceNorm2d(outer), nn.ReLU()]
        layers = nn.Sequential(*down, nn.ReLU()), nn.Sequential(*up)
        for layer in layers:
            layer.apply(normal_init)
        self.down.append(layers[0])
        self.up.append(layers[1])

    def remove_layer(self) -> None:
        """Remove the innermost pair of layers."""
        del self.down[-1], self.up[-1]

    def forward(
        self, faces: Tensor, fade: Tensor | float = 1.0, *, depth: int | None = None
    ) -> Tensor:
        """Translate images (B, 3, S, S).

        Args:
            faces: The images.
            fade: Weight of the innermost pair of layers: with 0 it has no effect.
            depth: Pairs of layers to use; default: all.
        """
        depth = self.depth if depth is None else depth
        features = self.enter(faces) if self.stem_channels else faces
        output = self._run_layers(features, 0, depth, fade)
        # In full precision: bfloat16 has 256 steps up to 1, too coarse near white.
        return torch.tanh((self.leave(output) if self.stem_channels else output).float())

    def _run_layers(self, features: Tensor, index: int, depth: int, fade: Tensor | float) -> Tensor:
        """Run features through the pairs of layers from `index` inwards; keep their shape."""
        if index == depth:
            return features
        inner = self._run_layers(self.down[index](features), index + 1, depth, fade)
        output: Tensor = self.up[index](inner)
        if index == 0 and not self.stem_channels:
            return output
        weight = fade if index == depth - 1 else 1.0
        skip_weight = 1.0 if self.skip_connections else 1 - weight
        return skip_weight * features + weight * output


class DiscriminatorOutput(NamedTuple):
    """Scores of one head of a discriminator."""

    weight: Tensor | float
    """Weight of these scores, 0 to 1; the weights of all heads add up to 1."""
    scores: Tensor
    """(B, 1, H, W), one per patch: 1 for real, 0 for generated."""


class PatchDiscriminator(nn.Module):
    """Score every patch of an image as real or generated: a PatchGAN of any number of layers.

    Isola et al., appendix 6.1.2: strided convolutions, then one of stride 1, then the scores. A
    patch is 16, 34, 70, 142 or 286 px for one to five downsamplings.

    Args:
        channels: Channels after each downsampling.
        slope: LeakyReLU's slope below zero; 0 is a plain ReLU.
        norm: `instance`, `spectral` (Miyato et al., "Spectral Normalization for Generative
            Adversarial Networks", 2018), or `none`.
        depth: Downsamplings to build at first; default: one per entry of `channels`.
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
        """Number of downsamplings."""
        return len(self.down)

    def add_layer(self) -> None:
        """Add one more downsampling, and a head for it in addition to the existing ones."""
        index = self.depth
        in_channels = 3 if index == 0 else self.channels[index - 1]
        self.down.append(
            self._make_layer(in_channels, self.channels[index], stride=2, is_first=index == 0)
        )
        self.set_heads([*map(int, self.ends), self.depth])

    def remove_layer(self) -> None:
        """Remove the last downsampling and its head."""
        del self.down[-1]
        self.set_heads([int(name) for name in self.ends if int(name) <= self.depth])

    def drop_old_heads(self) -> None:
        """Remove the heads of all depths but the last."""
        self.set_heads([self.depth])

    def set_heads(self, depths: Sequence[int]) -> None:
        """Have a head (the last two layers) at each of these depths only; new ones are random."""
        # Sorted: optimizers identify parameters by their index.
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
        """Score images (B, 3, S, S), by one output per head.

        Args:
            faces: The images.
            fade: Weight of the newest head while it fades in; the head of the depth before has the
                rest.
            depth: Use the head of this depth only.
        """
        depths = [int(name) for name in self.ends] if depth is None else [depth]
        outputs, features = [], faces
        for level, layer in enumerate(self.down[: max(depths)], start=1):
            features = layer(features)
            if level in depths:
                weight = fade if level == self.depth else 1 - fade
                scores = self.ends[str(level)](features).float()
                outputs.append(
                    DiscriminatorOutput(weight=weight if len(depths) > 1 else 1.0, scores=scores)
                )
        return outputs

    def _make_head(self, depth: int) -> nn.Sequential:
        """Return the last two layers for one depth."""
        in_channels = self.channels[depth - 1]
        hidden = min(2 * in_channels, MAX_CHANNEL_MULTIPLIER * self.channels[0])
        return nn.Sequential(
            self._make_layer(in_channels, hidden, stride=1),
            self._with_norm(init_conv(nn.Conv2d(hidden, 1, KERNEL_SIZE, padding=1))),
        )

    def _make_layer(
        self, in_channels: int, out_channels: int, *, stride: int, is_first: bool = False
    ) -> nn.Sequential:
        """Return a convolution with norm and LeakyReLU."""
        convolution = nn.Conv2d(in_channels, out_channels, KERNEL_SIZE, stride=stride, padding=1)
        parts: list[nn.Module] = [self._with_norm(init_conv(convolution))]
        if self.norm == "instance" and not is_first:
            parts.append(nn.InstanceNorm2d(out_channels))
        return nn.Sequential(*parts, nn.LeakyReLU(self.slope))

    def _with_norm(self, layer: nn.Module) -> nn.Module:
        """Return a layer with spectral norm, if that is the norm."""
        return spectral_norm(layer) if self.norm == "spectral" else layer


class ImagePool(nn.Module):
    """Generated images of earlier steps, so that a discriminator does not forget them.

    Shrivastava et al., "Learning from Simulated and Unsupervised Images", 2017, section 2.3: half
    of the images that the discriminator gets are old.

    Args:
        size: Number of images to store; 0 stores none.
        channels: Channels of an image; a mask may be one more.
        side_px: Side of an image.
    """

    stored: Tensor
    count: Tensor

    def __init__(self, size: int, *, channels: int, side_px: int) -> None:
        super().__init__()
        shape = (size, channels, side_px, side_px)
        self.register_buffer("stored", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def query(self, images: Tensor) -> Tensor:
        """Store images (B, C, S, S) in [-1, 1], and return as many, about half of them old."""
        size = len(self.stored)
        new, rest = images[:size], images[size:]
        if size == 0:
            return images
        # Without branches on tensors: nothing here synchronizes the device with the host.
        is_filling = self.count < size
        order = torch.arange(len(new), device=images.device)
        chosen = torch.randperm(size, device=images.device)[: len(new)]
        indices = torch.where(is_filling, (self.count + order) % size, chosen)
        is_old = (torch.rand(len(new), device=images.device) < 0.5) & ~is_filling
        old = self.stored[indices]
        is_stored = (is_old | is_filling)[:, None, None, None]
        self.stored[indices] = torch.where(is_stored, to_levels(new), old)
        self.count.copy_((self.count + len(new)).clamp(max=size))
        returned = torch.where(is_old[:, None, None, None], from_levels(old), new)
        return torch.cat([returned, rest])


def lsgan_loss(outputs: Sequence[DiscriminatorOutput], target: float, weight: Tensor) -> Tensor:
    """Return the mean squared difference of scores from `target`, weighted by patches.

    Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 2.

    Args:
        outputs: Output of a discriminator.
        target: 1 for real, 0 for generated.
        weight: (B, 1, S, S): weight of each pixel of the images.
    """
    losses = []
    for head_weight, scores in outputs:
        patches = functional.interpolate(weight, size=scores.shape[-2:], mode="area")
        error = (scores - target).square() * patches
        losses.append(head_weight * error.sum() / patches.sum().clamp(min=1e-6))
    return torch.stack(losses).sum()


def r1_penalty(
    discriminate: Callable[[Tensor], Sequence[DiscriminatorOutput]], faces: Tensor, weight: Tensor
) -> Tensor:
    """Return the R1 penalty: half the squared gradient of a discriminator's score at real faces.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9,
    without its weight: E[|dD/dx|^2] / 2. An image's score is its patches' mean, weighted as in
    `lsgan_loss`. Always in full precision: the gradients are small.

    Args:
        discriminate: The discriminator: faces -> its outputs.
        faces: Real faces, (B, 3, S, S).
        weight: (B, 1, S, S): weight of each pixel of the images.
    """
    with torch.autocast(faces.device.type, enabled=False), torch.enable_grad():
        inputs = faces.detach().float().requires_grad_()
        scores = torch.stack(
            [_mean_score(output, weight.float()) for output in discriminate(inputs)]
        ).sum()
        (gradient,) = torch.autograd.grad(scores, inputs, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean() / 2


def _mean_score(output: DiscriminatorOutput, weight: Tensor) -> Tensor:
    """Return the weighted mean score of one head, summed over the batch."""
    patches = functional.interpolate(weight, size=output.scores.shape[-2:], mode="area")
    means = (output.scores * patches).sum((1, 2, 3)) / patches.sum((1, 2, 3)).clamp(min=1e-6)
    return output.weight * means.sum()


def diff_augment(images: Tensor, strength: float) -> Tensor:
    """Augment a discriminator's input at random, differentiably: color, translation, cutout.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, section 4.1.
    It keeps the discriminator from memorizing a few real images; generated ones are augmented too,
    so that the augmentation does not leak into them.

    Args:
        images: (B, C, S, S), the first three channels an image in [-1, 1]; others, such as a mask,
            are translated and cut in the same way, and keep their values.
        strength: 1 is the paper's, 0 changes nothing.
    """
    if strength == 0:
        return images
    jittered = _jitter_color(images[:, :3], strength)
    return _cutout(_translate(torch.cat([jittered, images[:, 3:]], dim=1), strength), strength)


def _jitter_color(images: Tensor, strength: float) -> Tensor:
    """Change brightness by up to 0.5, saturation and contrast by up to 100 and 50 %."""
    change = (torch.rand(3, len(images), 1, 1, 1, device=images.device) - 0.5) * strength
    bright = images + change[0]
    gray = bright.mean(1, keepdim=True)
    saturated = (bright - gray) * (1 + 2 * change[1]) + gray
    mean = saturated.mean((1, 2, 3), keepdim=True)
    return (saturated - mean) * (1 + change[2]) + mean


def _translate(images: Tensor, strength: float) -> Tensor:
    """Translate images by up to an eighth of their side, padding with 0."""
    count, _, side, _ = images.shape
    reach = round(side / 8 * strength)
    shifts = torch.randint(-reach, reach + 1, (2, count, 1), device=images.device)
    y, x = (torch.arange(side, device=images.device) + shifts + 1).clamp(0, side + 1)
    padded = functional.pad(images, [1, 1, 1, 1]).permute(0, 2, 3, 1)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _cutout(images: Tensor, strength: float) -> Tensor:
    """Set a square of half the side to 0, at a random position."""
    count, _, side, _ = images.shape
    reach = side * strength / 4
    centers = torch.rand(2, count, 1, device=images.device) * side
    y, x = (torch.arange(side, device=images.device) + 0.5 - centers).abs() < reach
    is_outside: Tensor = ~(y[:, None, :, None] & x[:, None, None, :])
    return images * is_outside


def _same_size_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """Return a convolution that keeps the side."""
    return nn.Conv2d(in_channels, out_channels, RESIZE_KERNEL_SIZE, padding=RESIZE_KERNEL_SIZE // 2)


def _upsample_layer(in_channels: int, out_channels: int, *, resize: bool) -> nn.Module:
    """Return a layer (B, C, H, W) -> (B, C', 2H, 2W)."""
    if not resize:
        return nn.ConvTranspose2d(in_channels, out_channels, KERNEL_SIZE, stride=2, padding=1)
    # Nearest neighbor: as good as bilinear, and a quarter faster.
    return nn.Sequential(nn.Upsample(scale_factor=2), _same_size_conv(in_channels, out_channels))


def init_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with new weights; must come before its spectral norm."""
    normal_init(layer)
    return layer


def normal_init(layer: nn.Module) -> None:
    """Initialize a convolution's weights at random, biases to 0; for `nn.Module.apply`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, INIT_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
