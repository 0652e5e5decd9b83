"""Layers that several backends share, each with its source."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceswap_models.cpu import winograd

LEAKY_SLOPE = 0.1
"""LeakyReLU's slope below zero in the encoder and decoder of the original face-swap network."""


def downscale(in_channels: int, out_channels: int, *, kernel_size: int) -> nn.Sequential:
    """Return a stride-2 convolution with LeakyReLU: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return nn.Sequential(
        WinogradConv2d(in_channels, out_channels, kernel_size, stride=2),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


def upscale(in_channels: int, out_channels: int, *, kernel_size: int) -> nn.Sequential:
    """Return a sub-pixel convolution with LeakyReLU: (B, C, H, W) -> (B, C', 2H, 2W).

    The convolution outputs four times the channels, which are then rearranged into 2x2 pixels
    (Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016, section 3.2).
    """
    return nn.Sequential(
        WinogradConv2d(in_channels, 4 * out_channels, kernel_size),
        nn.LeakyReLU(LEAKY_SLOPE),
        PixelShuffle(),
    )


_WINOGRAD_KERNELS = {(3, 1): (winograd.conv3x3, 2), (5, 2): (winograd.conv5x5_stride2, 4)}
"""By kernel size and stride: the equivalent Winograd kernel, and what must divide the sides."""


class WinogradConv2d(nn.Conv2d):
    """A zero-padded convolution that uses Winograd's algorithm on a CPU where that is faster.

    Its weights are those of `nn.Conv2d`, so checkpoints are interchangeable.
    """

    MIN_CHANNELS = 256
    MIN_ELEMENTS = 1 << 17
    """Where Winograd's algorithm is faster, by measurement: input channels, and these times the
    pixels of a batch's output. Below, transforming the weights costs too much."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2)
        self.winograd_kernel = _WINOGRAD_KERNELS.get((kernel_size, stride))

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images (B, C, H, W)."""
        if self.winograd_kernel is None or not self._should_use_winograd(
            images, self.winograd_kernel[1]
        ):
            return super().forward(images)
        is_mixed = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_mixed else images.dtype
        convolved = self.winograd_kernel[0](images.to(dtype), self.weight)
        return convolved if self.bias is None else convolved + self.bias.to(dtype)[:, None, None]

    def _should_use_winograd(self, images: Tensor, multiple_px: int) -> bool:
        """Return whether the device, the channels and the sides suit the Winograd kernel.

        An exported graph has plain convolutions: it runs on other devices and in other programs.
        """
        if torch.compiler.is_exporting():
            return False
        count, channels, height, width = images.shape
        pixels = count * (height // self.stride[0]) * (width // self.stride[1])
        is_large = channels >= self.MIN_CHANNELS and pixels * channels >= self.MIN_ELEMENTS
        return images.is_cpu and is_large and not (height % multiple_px or width % multiple_px)


class PixelShuffle(nn.Module):
    """Rearrange four channels into 2x2 pixels: (B, 4 C, H, W) -> (B, C, 2H, 2W).

    The same result as `functional.pixel_shuffle`, which on a CPU takes four times as long forward
    and three times as long backward: it copies pixel by pixel, this row by row.
    """

    def forward(self, channels: Tensor) -> Tensor:
        """Rearrange channels (B, 4 C, H, W)."""
        if not channels.is_cpu or torch.compiler.is_exporting():
            return functional.pixel_shuffle(channels, 2)
        count, _, height, width = channels.shape
        left, right = channels.reshape(count, -1, 2, 2, height, width).unbind(3)
        rows = torch.stack((left, right), dim=-1).transpose(2, 3)  # (B, C, H, 2, W, 2)
        return rows.reshape(count, -1, 2 * height, 2 * width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection: (B, C, H, W) -> the same shape.

    K. He et al., "Deep Residual Learning for Image Recognition", 2015, figure 2, without norms.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        self.activation = nn.LeakyReLU(LEAKY_SLOPE)

    def forward(self, features: Tensor) -> Tensor:
        """Add the convolutions' output to the features."""
        output: Tensor = self.activation(features + self.inner(features))
        return output


def patch_discriminator(in_channels: int, base_channels: int) -> nn.Sequential:
    """Return a PatchGAN discriminator, one score per patch: (B, C, S, S) -> (B, 1, S/8, S/8).

    Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017,
    section 3.2.2, a little smaller than theirs: a patch is 45 px.
    """
    return nn.Sequential(
        downscale(in_channels, base_channels, kernel_size=5),
        downscale(base_channels, 2 * base_channels, kernel_size=5),
        downscale(2 * base_channels, 4 * base_channels, kernel_size=5),
        nn.Conv2d(4 * base_channels, 1, 3, padding=1),
    )


def kaiming_init(module: nn.Module) -> None:
    """Initialize a layer's weights at random, biases to 0; for `nn.Module.apply`.

    K. He et al., "Delving Deep into Rectifiers", 2015, equation 14: the variance is 2 over the
    inputs and over 1 + slope^2. Dense layers here have no activation after them: a slope of 1.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(
            module.weight, a=LEAKY_SLOPE if isinstance(module, nn.Conv2d) else 1
        )
        if module.bias is not None:
            nn.init.zeros_(module.bias)
