"""`DetailNetwork`: what a decoder leaves out of a person's face, at more pixels.

A decoder draws the mean of what it cannot tell apart: pores, lashes and teeth are smeared. The
detail network of a person gets the decoder's faces and learns from that person's own crops, in full
size, what belongs there. It works at a quarter of the output's side, where convolutions are cheap
(Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016, section 3).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from faceswap_models.degradation import reduce_resolution
from faceswap_models.layers import LEAKY_SLOPE, kaiming_init
from faceswap_models.losses import weighted_dssim, weighted_l1

GRID_PX = 4
"""Side of the output's square that a position of the convolutions' grid stands for, px."""
COARSE_PX = 8
"""Side of the squares of the output whose means stay as the decoder drew them, px. Positions of
parts are multiples of it."""
INITIAL_SCALE = 0.1
"""Initial factor of the weights before every sum: a new network adds next to nothing."""
EYES_MOUTH_WEIGHT = 2.0
"""Additional weight of the loss on eyes and mouth: what people look at."""
MAX_RESOLUTION_LOSS = 0.3
"""In training the decoder's faces lose up to this part of their resolution: faces that are swapped
are blurrier than the reconstructions that can be learned from. It is what makes swaps sharp."""


class _Residual(nn.Module):
    """Two 3x3 convolutions added to their input, without an activation after the sum.

    Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", 2017, figure 2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape, (B, C, H, W)."""
        inner = functional.leaky_relu(self.first(features), LEAKY_SLOPE)
        output: Tensor = features + self.last(inner)
        return output


def _enlarge_twice(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) as (B, C, 2H, 2W)."""
    size = [2 * side for side in images.shape[-2:]]
    return functional.interpolate(images, size=size, mode="bicubic", align_corners=False)


def _coarse(images: Tensor) -> Tensor:
    """Return what of images (B, C, H, W) is left of means over squares of `COARSE_PX`."""
    return functional.interpolate(
        functional.avg_pool2d(images, COARSE_PX),
        size=images.shape[-2:],
        mode="bilinear",
        align_corners=False,
    )


class DetailNetwork(nn.Module):
    """Adds detail to the faces of one person: (B, 3, S, S) -> (B, 3, D, D).

    Args:
        output_px: D, a multiple of `COARSE_PX`.
        channels: Channels of the convolutions.
        blocks: Number of residual blocks.
    """

    def __init__(self, output_px: int, *, channels: int, blocks: int) -> None:
        super().__init__()
        self.output_px = output_px
        self.input = nn.Conv2d(12, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(_Residual(channels) for _ in range(blocks)))
        self.output = nn.Conv2d(channels, 3 * GRID_PX**2, 3, padding=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new random weights: of a network that adds next to nothing."""
        self.apply(kaiming_init)
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, _Residual):
                    module.last.weight.mul_(INITIAL_SCALE)
            self.output.weight.mul_(INITIAL_SCALE)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (B, 3, S, S) in [-1, 1] with detail, (B, 3, D, D)."""
        enlarged = self.enlarge(images)
        detail = self.detail(enlarged)
        # Learned is all that reconstructions lack. Of a swap only the fine part of it is right.
        return _enlarge_twice(enlarged) + detail - _coarse(detail)

    def enlarge(self, images: Tensor) -> Tensor:
        """Return images (B, 3, S, S) at half the output's side: (B, 3, D/2, D/2)."""
        side = self.output_px // 2
        return functional.interpolate(
            images, size=(side, side), mode="bicubic", align_corners=False
        )

    def refine(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) at half the output's scale with detail: (B, 3, 2H, 2W)."""
        return _enlarge_twice(images) + self.detail(images)

    def detail(self, images: Tensor) -> Tensor:
        """Return the detail of images (B, 3, H, W) at half the output's scale: (B, 3, 2H, 2W)."""
        features = functional.leaky_relu(
            self.input(functional.pixel_unshuffle(images, 2)), LEAKY_SLOPE
        )
        return functional.pixel_shuffle(self.output(self.blocks(features)), GRID_PX)

    def loss(self, images: Tensor, target: Tensor, position: Tensor) -> Tensor:
        """Return the loss of parts of the output: mean absolute error and structure, in the face.

        Args:
            images: The decoder's faces, (B, 3, S, S) in [-1, 1].
            target: `FaceBatch.detail_target` of this person, (B, 5, Q, Q).
            position: `FaceBatch.detail_position`, (B, 2).
        """
        image, mask, feature_mask = target[:, :3], target[:, 3:4], target[:, 4:]
        half = target.shape[-1] // 2
        # On the host, so that its numbers may be read without waiting for the device.
        scales = 1 - MAX_RESOLUTION_LOSS * torch.rand(len(images))
        blurred = reduce_resolution(images.float(), scales.tolist())
        parts = torch.stack(
            [
                one[:, top // 2 : top // 2 + half, left // 2 : left // 2 + half]
                for one, (top, left) in zip(self.enlarge(blurred), position.tolist(), strict=True)
            ]
        )
        output = self.refine(parts).float()
        weight = mask * (1 + EYES_MOUTH_WEIGHT * feature_mask)
        return weighted_l1(output, image, weight) + weighted_dssim(output, image, weight)
