"""The one door into torch and the one out of it: pictures to tensors and back, nothing else."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from faceswap_cli.core.types import Image, Mask


def to_tensor(crops: Sequence[Image]) -> Tensor:
    """Return uint8 crops (S, S, 3) as float32 (B, 3, S, S) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(crops))  # (B, S, S, 3)
    return stacked.permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def to_images(faces: Tensor) -> list[Image]:
    """Return (B, 3, S, S) in [-1, 1] as uint8 images (S, S, 3); what lies beyond is cut off."""
    levels = ((faces.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).contiguous().cpu().numpy())


def to_masks(masks: Tensor) -> list[Mask]:
    """Return (B, 1, S, S) in [0, 1] as float32 masks (S, S)."""
    return list(masks[:, 0].float().clamp(0, 1).cpu().numpy())
