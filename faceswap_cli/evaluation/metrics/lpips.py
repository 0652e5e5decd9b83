"""LPIPS: perceptual distance of two images, by the layers of AlexNet.

R. Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR
2018, version 0.1.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor

from faceswap_cli.core.model_files import find_model_file, read_array
from faceswap_cli.core.types import Image
from faceswap_models.tensors import from_levels

KERNELS = (
    (210, (11, 11, 3, 64)),
    (93510, (5, 5, 64, 192)),
    (1323186, (3, 3, 192, 384)),
    (3979040, (3, 3, 384, 256)),
    (7519118, (3, 3, 256, 256)),
)
"""In alexnet.ckpt: offset in bytes and shape (height, width, in, out) of each layer's kernel."""
BIAS_OFFSETS = (93188, 1322351, 3977436, 7518026, 9878456)
CHANNEL_WEIGHT_OFFSETS = (9879558, 9879892, 9880739, 9882354, 9883457)
"""Offsets of the channel weights of each layer."""
STRIDE_PADDING = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
"""Stride and padding of each layer."""
POOL_BEFORE = (1, 2)
"""Layers after a max pooling."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Normalization of images in [-1, 1] before the first layer."""


class Lpips:
    """The LPIPS network.

    Args:
        model: Its file.
    """

    def __init__(self, model: Path) -> None:
        data = model.read_bytes()
        read = partial(read_array, data)
        self._kernels = [
            torch.from_numpy(read(offset, shape)).permute(3, 2, 0, 1).contiguous()
            for offset, shape in KERNELS
        ]
        channels = [(shape[3],) for _, shape in KERNELS]
        self._biases = [
            torch.from_numpy(read(*it)) for it in zip(BIAS_OFFSETS, channels, strict=True)
        ]
        self._channel_weights = [
            torch.from_numpy(read(*it)) for it in zip(CHANNEL_WEIGHT_OFFSETS, channels, strict=True)
        ]

    @classmethod
    def open(cls) -> Self:
        """Load the network.

        Raises:
            InputError: Its file is not installed.
        """
        return cls(find_model_file("lpips_alexnet"))

    def __call__(self, image: Image, truth: Image) -> float:
        """Return the distance of two images (S, S, 3) of at least 32 px; 0 if equal."""
        with torch.inference_mode():
            both = torch.from_numpy(np.stack([image, truth]))
            total = 0.0
            layers = self._extract_features(from_levels(both.permute(0, 3, 1, 2)))
            for features, weights in zip(layers, self._channel_weights, strict=True):
                length = features.square().sum(dim=1, keepdim=True).sqrt()
                unit = features / (length + 1e-10)
                distance = (unit[0] - unit[1]).square()  # (C, H, W)
                total += float((distance * weights[:, None, None]).sum(dim=0).mean())
        return total

    def _extract_features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the features (2, C, H, W) of each layer, from images in [-1, 1]."""
        x = (images - torch.tensor(SHIFT)[:, None, None]) / torch.tensor(SCALE)[:, None, None]
        layers = zip(self._kernels, self._biases, STRIDE_PADDING, strict=True)
        for index, (kernel, bias, (stride, padding)) in enumerate(layers):
            if index in POOL_BEFORE:
                x = F.max_pool2d(x, 3, stride=2)
            x = F.relu(F.conv2d(x, kernel, bias, stride=stride, padding=padding))
            yield x
