"""Layers that several networks share; each says where it comes from, none knows a backend."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceswap_models.cpu import winograd

LEAKY_SLOPE = 0.1
"""LeakyReLU's slope below zero in the encoder and decoder of the original face-swap network."""


def downscale(channels_in: int, channels_out: int, *, kernel_px: int) -> nn.Sequential:
    """Return a stride-2 convolution with LeakyReLU: (B, C, H, W) -> (B, C', H/2, W/2)."""
    return nn.Sequential(
        WinogradConv2d(channels_in, channels_out, kernel_px, stride=2),
        nn.LeakyReLU(LEAKY_SLOPE),
    )


def upscale(channels_in: int, channels_out: int, *, kernel_px: int) -> nn.Sequential:
    """Return a sub-pixel convolution with LeakyReLU: (B, C, H, W) -> (B, C', 2H, 2W).

    The convolution makes four pixels' worth of channels, which are then laid out as a square
    (Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016, section 3.2).
    """
    return nn.Sequential(
        WinogradConv2d(channels_in, 4 * channels_out, kernel_px),
        nn.LeakyReLU(LEAKY_SLOPE),
        PixelShuffle(),
    )


_WINOGRAD_KERNELS = {(3, 1): (winograd.conv3x3, 2), (5, 2): (winograd.conv5x5_stride2, 4)}
"""Kernel px, stride: what computes the same of fewer products, and what must divide the sides."""


class WinogradConv2d(nn.Conv2d):
    """A convolution with a border of zeros that a CPU makes of fewer products where it is wide.

    Its weights are those of `nn.Conv2d`: a checkpoint does not know which of the two it came from.
    """

    MIN_CHANNELS = 256
    MIN_ELEMENTS = 1 << 17
    """Where fewer products begin to outweigh the sums that they cost, by measurement: channels in,
    and these times the places of a batch's output. Below, preparing the weights costs too much."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_px: int, *, stride: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel_px, stride, padding=kernel_px // 2)
        self.winograd_kernel = _WINOGRAD_KERNELS.get((kernel_px, stride))

    def forward(self, images: Tensor) -> Tensor:
        """Convolve images (B, C, H, W)."""
        if self.winograd_kernel is None or not self._should_use_winograd(
            images, self.winograd_kernel[1]
        ):
            return super().forward(images)
        is_mixed = torch.is_autocast_enabled("cpu")
        kind = torch.get_autocast_dtype("cpu") if is_mixed else images.dtype
        convolved = self.winograd_kernel[0](images.to(kind), self.weight)
        return convolved if self.bias is None else convolved + self.bias.to(kind)[:, None, None]

    def _should_use_winograd(self, images: Tensor, multiple_px: int) -> bool:
        """Whether the device, the width and the sides are as a shortcut wants them."""
        count, channels, height, width = images.shape
        places = count * (height // self.stride[0]) * (width // self.stride[1])
        is_large = channels >= self.MIN_CHANNELS and places * channels >= self.MIN_ELEMENTS
        return images.is_cpu and is_large and not (height % multiple_px or width % multiple_px)


class PixelShuffle(nn.Module):
    """Lay four channels out as a square of pixels: (B, 4 C, H, W) -> (B, C, 2H, 2W).

    The same numbers as `functional.pixel_shuffle`, which takes a CPU four times as long there and
    three times as long back: it copies pixel by pixel, this row by row.
    """

    def forward(self, channels: Tensor) -> Tensor:
        """Lay out channels (B, 4 C, H, W)."""
        if not channels.is_cpu:
            return functional.pixel_shuffle(channels, 2)
        count, _, height, width = channels.shape
        left, right = channels.reshape(count, -1, 2, 2, height, width).unbind(3)
        rows = torch.stack((left, right), dim=-1).transpose(2, 3)  # (B, C, H, 2, W, 2)
        return rows.reshape(count, -1, 2 * height, 2 * width)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a way around them: (B, C, H, W) -> the same.

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
        """Add what the convolutions find."""
        changed: Tensor = self.activation(features + self.inner(features))
        return changed


def patch_discriminator(channels_in: int, base_channels: int) -> nn.Sequential:
    """Return a network that says of every patch how real it is: (B, C, S, S) -> (B, 1, S/8, S/8).

    Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", 2017,
    section 3.2.2, a little smaller than theirs: a patch is 45 px.
    """
    return nn.Sequential(
        downscale(channels_in, base_channels, kernel_px=5),
        downscale(base_channels, 2 * base_channels, kernel_px=5),
        downscale(2 * base_channels, 4 * base_channels, kernel_px=5),
        nn.Conv2d(4 * base_channels, 1, 3, padding=1),
    )


def kaiming_init(module: nn.Module) -> None:
    """Draw a layer's weights so that it keeps the size of what passes through; for `apply`.

    K. He et al., "Delving Deep into Rectifiers", 2015, equation 14: the variance is 2 over the
    inputs and over 1 + slope^2. Dense layers here have no rectifier after them: a slope of 1.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(
            module.weight, a=LEAKY_SLOPE if isinstance(module, nn.Conv2d) else 1
        )
        if module.bias is not None:
            nn.init.zeros_(module.bias)
