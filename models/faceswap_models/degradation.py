"""Inputs as footage shows them: `degrade` changes light, colors, sharpness and grain.

Renderings are cleaner than footage, and one person's crops are all alike. A network that was taught
on them alone takes what is new in another face for a part of the pose, the expression or the
identity.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

MAX_LOG_GAMMA = 0.35
SATURATION = 0.4, 1.4
"""Range of the factor of saturation."""
SHADING_PROB, SHADING_STD, SHADING_NODES = 0.5, 0.25, 4
"""Smooth factors of brightness over the image: deviation, and nodes along a side."""
BLUR_PROB, MIN_BLUR_SCALE, MAX_BLUR_SCALE = 0.3, 0.35, 0.85
"""Loss of resolution: to this part of the side and back."""
NOISE_PROB, MAX_NOISE_STD = 0.5, 0.06
"""Noise, as a part of the full range."""


def degrade(images: Tensor, *, seed: int) -> Tensor:
    """Return images (B, 3, S, S) in [-1, 1], each changed at random.

    Args:
        images: The images.
        seed: Seed of the changes.
    """
    random = torch.Generator().manual_seed(seed)  # on the host, where its numbers are read
    count, side, device = len(images), images.shape[-1], images.device

    def uniform(low: float, high: float) -> Tensor:
        """Return a number for each image, (B, 1, 1, 1)."""
        return torch.rand(count, 1, 1, 1, generator=random) * (high - low) + low

    def chosen(probability: float) -> Tensor:
        return uniform(0, 1) < probability

    levels = ((images + 1) / 2).clamp(min=1e-4)
    levels = levels ** uniform(-MAX_LOG_GAMMA, MAX_LOG_GAMMA).exp().to(device)
    gray = levels.mean(1, keepdim=True)
    levels = gray + (levels - gray) * uniform(*SATURATION).to(device)
    shading = torch.where(chosen(SHADING_PROB), _shading(count, side, random), torch.ones(()))
    levels = levels * shading.to(device)
    is_blurred, scales = chosen(BLUR_PROB), uniform(MIN_BLUR_SCALE, MAX_BLUR_SCALE)
    scales = torch.where(is_blurred, scales, torch.ones(()))
    levels = reduce_resolution(levels, scales.flatten().tolist())
    deviation = torch.where(chosen(NOISE_PROB), uniform(0, MAX_NOISE_STD), torch.zeros(()))
    noise = deviation * torch.randn(levels.shape, generator=random)
    return ((levels + noise.to(device)) * 2 - 1).clamp(-1, 1)


def _shading(count: int, side: int, random: torch.Generator) -> Tensor:
    """Return smooth factors (B, 1, S, S) around 1."""
    nodes = torch.randn(count, 1, SHADING_NODES, SHADING_NODES, generator=random).clamp(-2, 2)
    return functional.interpolate(
        1 + SHADING_STD * nodes, size=(side, side), mode="bicubic", align_corners=False
    )


def reduce_resolution(images: Tensor, scales: Sequence[float]) -> Tensor:
    """Scale images (B, C, S, S) down to a part of their side, 0 to 1 each, and up again."""
    side, reduced = images.shape[-1], []
    for image, scale in zip(images, scales, strict=True):
        size = max(1, round(side * scale))
        if size < side:
            small = functional.interpolate(image[None], size=(size, size), mode="area")
            [image] = functional.interpolate(
                small, size=(side, side), mode="bilinear", align_corners=False
            )
        reduced.append(image)
    return torch.stack(reduced)
