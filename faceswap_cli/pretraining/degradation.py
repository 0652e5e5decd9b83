"""Inputs as footage shows them: `degrade` changes light, colors, sharpness and grain.

Renderings are cleaner than footage, and a network that was taught on them alone takes what is new
in real faces for a part of the pose, the expression or the identity.
"""

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
    random = torch.Generator().manual_seed(seed)  # on the host, where `_blur` reads its numbers
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
    levels = _blur(levels, chosen(BLUR_PROB), uniform(MIN_BLUR_SCALE, MAX_BLUR_SCALE))
    deviation = torch.where(chosen(NOISE_PROB), uniform(0, MAX_NOISE_STD), torch.zeros(()))
    noise = deviation * torch.randn(levels.shape, generator=random)
    return ((levels + noise.to(device)) * 2 - 1).clamp(-1, 1)


def _shading(count: int, side: int, random: torch.Generator) -> Tensor:
    """Return smooth factors (B, 1, S, S) around 1."""
    nodes = torch.randn(count, 1, SHADING_NODES, SHADING_NODES, generator=random).clamp(-2, 2)
    return functional.interpolate(
        1 + SHADING_STD * nodes, size=(side, side), mode="bicubic", align_corners=False
    )


def _blur(images: Tensor, is_chosen: Tensor, scales: Tensor) -> Tensor:
    """Scale the chosen images (B, 3, S, S) down and up again.

    Args:
        images: The images.
        is_chosen: Which of them, (B, 1, 1, 1).
        scales: To which part of the side, (B, 1, 1, 1).
    """
    side, blurred = images.shape[-1], []
    for image, is_blurred, scale in zip(
        images, is_chosen.flatten().tolist(), scales.flatten().tolist(), strict=True
    ):
        if is_blurred:
            size = round(side * scale)
            small = functional.interpolate(image[None], size=(size, size), mode="area")
            [image] = functional.interpolate(
                small, size=(side, side), mode="bilinear", align_corners=False
            )
        blurred.append(image)
    return torch.stack(blurred)
