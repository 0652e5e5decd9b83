"""VGG's convolutions by torchvision's names: for encoders and for losses; knows no files.

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
"""Where VGG16 and VGG19 are alike, by name and shape: as far as losses look."""
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
"""Channels of each block."""
TORCHVISION_PREFIX = "features."
"""What torchvision's names of the convolutions begin with; the rest of a file is not looked at."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of the pictures it was trained on, RGB from 0 to 1."""
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageNetNormalize(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] -> what VGG was trained on: mean 0, deviation 1."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants: they move with the network, and are not saved with it.
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Normalise pictures."""
        return (images / 2 + 0.5 - self.mean) / self.deviation


def conv_layers(convs_per_block: Sequence[int]) -> nn.Sequential:
    """Return as many blocks as `convs_per_block` has numbers: (B, 3, S, S) -> (B, C, S', S'), S' = S/2^N."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in zip(BLOCK_CHANNELS, convs_per_block, strict=False):
        for _ in range(count):
            layers += [WinogradConv2d(channels, width, 3), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def load_torchvision_weights(
    layers: nn.Sequential, state: Mapping[str, Tensor], *, partial: bool = False
) -> int:
    """Put a state dict in torchvision's names into `layers`; return how many tensors were taken.

    Args:
        layers: From `convolutions`.
        state: Tensors by name; what does not begin with `features.` is passed over.
        partial: Whether layers that the state has nothing for may stay as they are.

    Raises:
        ValueError: A layer is missing, or a tensor has another shape; the layer is named.
    """
    wanted = layers.state_dict()
    for name, value in wanted.items():
        found = state.get(TORCHVISION_PREFIX + name)
        if found is None and not partial:
            raise ValueError(f"there is no {TORCHVISION_PREFIX}{name}")
        if found is not None and found.shape != value.shape:
            raise ValueError(
                f"{TORCHVISION_PREFIX}{name} is {tuple(found.shape)}, and should be {tuple(value.shape)}"
            )
    taken = {
        name: state[TORCHVISION_PREFIX + name]
        for name in wanted
        if TORCHVISION_PREFIX + name in state
    }
    if not taken:
        raise ValueError(f"there is no {TORCHVISION_PREFIX}0.weight")
    layers.load_state_dict(taken, strict=not partial)
    return len(taken)


class PerceptualLoss(nn.Module):
    """How far pictures are apart as VGG sees them; 0 for equal ones.

    Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", 2018,
    equation 1 with equal weights: the squared difference of features of unit length, here after
    each block's second convolution. Never learns.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Build it from the weights of VGG16 or VGG19, as `load` takes them."""
        super().__init__()
        self.normalize = ImageNetNormalize()
        self.layers = conv_layers(PERCEPTUAL_BLOCKS)
        load_torchvision_weights(self.layers, state)
        self.requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Compare pictures (B, 3, S, S) in [-1, 1]; return a scalar."""
        pairs = self.block_features(torch.cat([images, targets]))
        differences = [(one - other).square().sum(1).mean() for one, other in pairs]
        return torch.stack(differences).mean()

    def block_features(self, images: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Yield each block's normalised features of the first and of the second half."""
        features, since_pool = self.normalize(images), 0
        for layer in self.layers:
            features = layer(features)
            since_pool = 0 if isinstance(layer, nn.MaxPool2d) else since_pool + 1
            if since_pool == 4:  # two convolutions, each with its rectifier
                length = features.float().square().sum(1, keepdim=True).add(1e-8).sqrt()
                first, second = (features / length).chunk(2)
                yield first, second
