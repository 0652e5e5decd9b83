"""VGG16's first layers, out of the package that carries them; nothing of what they are used for."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# Where the numbers lie in vgg16.ckpt. It is a pickle of plain arrays; because a file counts only if
# its digest is the one known, they are read in place and nothing is unpickled.
LAYERS = (
    (0, 208, 7170, (3, 3, 3, 64)),
    (2, 7492, 154989, (3, 3, 64, 64)),
    (5, 155311, 450264, (3, 3, 64, 128)),
    (7, 450842, 1040707, (3, 3, 128, 128)),
    (10, 1041286, 2220976, (3, 3, 128, 256)),
    (12, 2222068, 4581406, (3, 3, 256, 256)),
)
"""Torchvision's number, offset of the kernel, of the bias, and the kernel's shape (height, width,
in, out): two convolutions of each of the first three blocks."""


def read_vgg16(path: Path) -> dict[str, Tensor]:
    """Read the first layers, by torchvision's names, of a file whose digest has been checked."""
    data = path.read_bytes()
    state = {}
    for number, kernel, bias, shape in LAYERS:
        weight = _read_floats(data, kernel, shape).permute(3, 2, 0, 1).contiguous()
        state[f"features.{number}.weight"] = weight
        state[f"features.{number}.bias"] = _read_floats(data, bias, shape[-1:])
    return state


def _read_floats(data: bytes, offset: int, shape: tuple[int, ...]) -> Tensor:
    """Return the little-endian floats at an offset."""
    values = np.frombuffer(data, dtype="<f4", count=int(np.prod(shape)), offset=offset)
    return torch.from_numpy(values.reshape(shape).copy())
