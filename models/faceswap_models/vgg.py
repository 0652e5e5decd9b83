"""VGG's convolutions by torchvision's names, for encoders, and `PerceptualLoss`.

Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015,
table 1, columns D and E without the dense layers. Torchvision's `features.N` is layer N here.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from faceswap_models.layers import WinogradConv2d

VGG19_BLOCKS = (2, 2, 4, 4, 4)
"""3x3 convolutions in each of the five blocks; a max-pooling ends each."""
PERCEPTUAL_BLOCKS = (2, 2, 2)
"""The blocks that VGG16 and VGG19 share by name and shape; the loss uses these."""
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
"""Channels of each block."""
TORCHVISION_PREFIX = "features."
"""Prefix of the convolutions in torchvision's names; other tensors are ignored."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the images it was trained on, RGB from 0 to 1."""
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageNetNormalize(nn.Module):
    """Normalize images (B, 3, H, W) in [-1, 1] as VGG's training images: mean 0, deviation 1."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants: they move with the network, and are not saved with it.
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalize images."""
        return (images / 2 + 0.5 - self.mean) / self.std


def conv_layers(convs_per_block: Sequence[int]) -> nn.Sequential:
    """Return VGG's first N = len(convs_per_block) blocks: (B, 3, S, S) -> (B, C, S/2^N, S/2^N)."""
    layers: list[nn.Module] = []
    channels = 3
    for block_channels, count in zip(BLOCK_CHANNELS, convs_per_block, strict=False):
        for _ in range(count):
            layers += [WinogradConv2d(channels, block_channels, 3), nn.ReLU()]
            channels = block_channels
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def load_torchvision_weights(
    layers: nn.Sequential, state: Mapping[str, Tensor], *, partial: bool = False
) -> int:
    """Copy a state dict with torchvision's names into `layers`; return the number of tensors.

    Args:
        layers: From `conv_layers`.
        state: Tensors by name; names without the prefix `features.` are ignored.
        partial: Whether layers that are not in `state` may stay as they are.

    Raises:
        ValueError: A layer is missing, or a tensor has another shape; the layer is named.
    """
    expected = layers.state_dict()
    for name, value in expected.items():
        key = TORCHVISION_PREFIX + name
        if key not in state and not partial:
            raise ValueError(f"{key} is missing")
        if key in state and state[key].shape != value.shape:
            raise ValueError(
                f"{key} is {tuple(state[key].shape)} and should be {tuple(value.shape)}"
            )
    loaded = {
        name: state[TORCHVISION_PREFIX + name]
        for name in expected
        if TORCHVISION_PREFIX + name in state
    }
    if not loaded:
        raise ValueError(f"{TORCHVISION_PREFIX}0.weight is missing")
    layers.load_state_dict(loaded, strict=not partial)
    return len(loaded)


class PerceptualLoss(nn.Module):
    """Distance of images in VGG's feature space; 0 for equal images.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018,
    equation 1 with equal weights: the squared difference of features of unit length, here after
    each block's second convolution. Its weights are fixed.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Build it from the weights of VGG16 or VGG19: see `load_torchvision_weights`."""
        super().__init__()
        self.normalize = ImageNetNormalize()
        self.layers = conv_layers(PERCEPTUAL_BLOCKS)
        load_torchvision_weights(self.layers, state)
        self.requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the mean distance of images (B, 3, S, S) in [-1, 1] to their targets, a scalar."""
        pairs = self.block_features(torch.cat([images, targets]))
        differences = [(one - other).square().sum(1).mean() for one, other in pairs]
        return torch.stack(differences).mean()

    def block_features(self, images: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield each block's features, of unit length, of the first and of the second half."""
        features, since_pool = self.normalize(images), 0
        for layer in self.layers:
            features = layer(features)
            since_pool = 0 if isinstance(layer, nn.MaxPool2d) else since_pool + 1
            if since_pool == 4:  # two convolutions, each with its activation
                length = features.float().square().sum(1, keepdim=True).add(1e-8).sqrt()
                first, second = (features / length).chunk(2)
                yield first, second
