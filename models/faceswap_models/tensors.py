"""Conversion between uint8 images and tensors in [-1, 1]: `to_tensor` and `to_images`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


def to_tensor(images: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Return uint8 images (S, S, 3) as float32 (B, 3, S, S) in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images))  # (B, S, S, 3)
    return from_levels(stacked.permute(0, 3, 1, 2).contiguous())


def to_images(tensor: Tensor) -> list[npt.NDArray[np.uint8]]:
    """Return (B, 3, S, S) in [-1, 1] as uint8 images (S, S, 3)."""
    return list(to_levels(tensor).permute(0, 2, 3, 1).contiguous().cpu().numpy())


def to_masks(tensor: Tensor) -> list[npt.NDArray[np.float32]]:
    """Return (B, 1, S, S) in [0, 1] as float32 masks (S, S)."""
    return list(tensor[:, 0].float().clamp(0, 1).cpu().numpy())


def from_levels(levels: Tensor) -> Tensor:
    """Return levels from 0 to 255, of any shape and layout, as float32 in [-1, 1]."""
    return (levels / 127.5).sub_(1)


def to_levels(tensor: Tensor) -> Tensor:
    """Return values in [-1, 1], of any shape, rounded to uint8; values beyond are clipped."""
    return ((tensor.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
