"""`VisibleFaceNet`: a crop of a face -> which of its pixels show the face.

A U-Net (Ronneberger et al., 2015) of separable convolutions (Chollet, "Xception", 2017), small
enough for a few milliseconds on a CPU core. It is trained here and run by `faces.occlusion`, which
needs numpy only: `fold` returns the weights that it reads.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE_PX = 128
"""Side of input and output."""
CHANNELS = (20, 56, 128, 192, 256)
"""Of the feature maps of 64, 32, 16, 8 and 4 px."""
BLOCKS = 2
"""Separable convolutions at each size on the way down; one on the way up."""
OUTSIDE_WEIGHT = 0.15
"""Weight of what is not the face."""
OVERLAP_WEIGHT, OVERLAP_PX = 0.3, 60.0
"""Weight of the overlap (soft intersection over union), and pixels that steady it where little is
hidden."""


class Separable(nn.Module):
    """A depthwise 3x3 convolution, a pointwise one, normalization and ReLU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output; if equal, the input is added.
        stride: 2 halves the side.
        is_folded: Without normalization: its scales are in the weights.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, is_folded: bool) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            inputs, inputs, 3, stride=stride, padding=1, groups=inputs, bias=False
        )
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=is_folded)
        self.norm = nn.Identity() if is_folded else nn.BatchNorm2d(outputs)
        self.is_residual = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, outputs, H', W') of (B, inputs, H, W)."""
        y = functional.relu(self.norm(self.pointwise(self.depthwise(x))))
        return x + y if self.is_residual else y


class VisibleFaceNet(nn.Module):
    """The network.

    Args:
        is_folded: Without normalization, as it is stored and as it is taught further: few crops
            give no statistics.
    """

    def __init__(self, *, is_folded: bool = False) -> None:
        super().__init__()
        first, *deeper = CHANNELS
        self.stem = nn.Conv2d(3, first, 3, stride=2, padding=1, bias=is_folded)
        self.stem_norm = nn.Identity() if is_folded else nn.BatchNorm2d(first)
        self.down = nn.ModuleList(
            nn.Sequential(
                *(
                    Separable(
                        inputs if index == 0 else outputs,
                        outputs,
                        stride=2 if index == 0 else 1,
                        is_folded=is_folded,
                    )
                    for index in range(BLOCKS)
                )
            )
            for inputs, outputs in zip(CHANNELS, deeper, strict=False)
        )
        self.entry = Separable(first, first, stride=1, is_folded=is_folded)
        pairs = list(zip(reversed(deeper), reversed(CHANNELS[:-1]), strict=True))
        self.reduce = nn.ModuleList(nn.Conv2d(inputs, outputs, 1) for inputs, outputs in pairs)
        self.up = nn.ModuleList(
            Separable(outputs, outputs, stride=1, is_folded=is_folded) for _, outputs in pairs
        )
        self.head = nn.Conv2d(first, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (B, 1, S, S) of images (B, 3, S, S) in [-1, 1]."""
        x = self.entry(functional.relu(self.stem_norm(self.stem(images))))
        skips = [x]
        for stage in self.down:
            skips.append(stage(skips[-1]))
        x = skips.pop()
        for reduce, up in zip(self.reduce, self.up, strict=True):
            x = up(functional.interpolate(reduce(x), scale_factor=2.0) + skips.pop())
        return functional.pixel_shuffle(self.head(x), 2)

    def fold(self) -> dict[str, Tensor]:
        """Return the weights of the same function without normalization (`is_folded`)."""
        state = {
            name: value.detach().clone()
            for name, value in self.state_dict().items()
            if "norm" not in name
        }
        for name, module in self.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                folded = (
                    name.removesuffix("_norm")
                    if name == "stem_norm"
                    else (name.removesuffix("norm") + "pointwise")
                )
                scale, shift = _scale_and_shift(module)
                state[f"{folded}.weight"] *= scale[:, None, None, None]
                state[f"{folded}.bias"] = shift
        return state


def load_folded(state: Mapping[str, Tensor]) -> VisibleFaceNet:
    """Return the network of weights from `fold`.

    Raises:
        RuntimeError: They are of another network.
    """
    net = VisibleFaceNet(is_folded=True)
    net.load_state_dict({name: value.float() for name, value in state.items()})
    return net


def mask_loss(
    logits: Tensor, visible: Tensor, face: Tensor, *, overlap_weight: float = OVERLAP_WEIGHT
) -> Tensor:
    """Return the loss of predicted masks: cross-entropy, and overlap of what is hidden.

    Args:
        logits: (B, 1, S, S).
        visible: (B, 1, S, S) in [0, 1]: the truth.
        face: (B, 1, S, S) in [0, 1]: where the face is, seen or not; the rest counts little, since
            its outline is known from landmarks.
        overlap_weight: Weight of the overlap.
    """
    weight = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * face
    entropy = functional.binary_cross_entropy_with_logits(logits, visible, reduction="none")
    plane = (-3, -2, -1)
    entropy = (entropy * weight).sum(plane) / weight.sum(plane)
    shown = logits.sigmoid()
    hidden, found = (face * (1 - visible)), (face * (1 - shown))
    both, either = (hidden * found).sum(plane), (hidden + found - hidden * found).sum(plane)
    overlap = (both + OVERLAP_PX) / (either + OVERLAP_PX)
    return (entropy + overlap_weight * (1 - overlap)).mean()


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return what a normalization multiplies by and adds."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias.detach() - norm.running_mean * scale
