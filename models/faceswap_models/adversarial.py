"""Networks that redraw pictures, networks that tell drawn from real, and what keeps both alive.

Knows pictures and layers; refuses to know whose faces they are and when who learns. Both kinds of
network are a row of layers that can be lengthened while they learn (`deepen`): a translation
network grows at its bottleneck, a critic before its last two layers.

Convention:
    Pictures are float32 (B, 3, S, S) in [-1, 1], masks (B, 1, S, S) in [0, 1].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

KERNEL_PX = 4
"""Side of all convolutions that halve, that double by transposition, and of a critic's last two
(Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks", appendix 6.1)."""
RESIZED_KERNEL_PX = 3
"""Side of a convolution that keeps the size."""
INITIAL_DEVIATION = 0.02
"""Standard deviation of fresh weights (Radford et al., "Unsupervised Representation Learning with
Deep Convolutional GANs", 2015, section 4)."""
WIDEST = 8
"""A critic's layers are at most this many times as wide as its first."""
LEAST_GRID_PX = 4
"""A critic's last halved layer must be at least this large: the two layers after it take a pixel
each, and instance norm has no variance over one."""


class Generator(nn.Module):
    """A picture -> the picture redrawn: layers that halve, then as many that double.

    Two layers a depth, as "Face Swap using Autoencoders & image-to-image Translation Techniques",
    section VI-A, counts them: the first halving is outermost, as is the last doubling.

    Args:
        widths: Channels after each halving.
        stem: Channels of one more convolution before and one after, at full size; 0 has none.
        resize: Double by enlarging and then convolving, instead of by transposed convolution
            (Odena et al., "Deconvolution and Checkerboard Artifacts", 2016).
        skips: Add what lies before a halving to what comes out of the doubling that undoes it
            (Chaurasia and Culurciello, "LinkNet", 2017, section 3).
        depth: How many of the widths are built at first; all of them when left out.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        stem: int = 0,
        resize: bool,
        skips: bool,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.widths, self.stem, self.resize, self.skips = tuple(widths), stem, resize, skips
        if stem:
            self.enter = nn.Sequential(initialised(_full_size(3, stem)), nn.ReLU())
            self.leave = initialised(_full_size(stem, 3))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for _ in range(len(self.widths) if depth is None else depth):
            self.deepen()

    @property
    def depth(self) -> int:
        """How many halvings there are."""
        return len(self.down)

    def deepen(self) -> None:
        """Insert one more halving and one more doubling at the bottleneck, with fresh weights."""
        place = self.depth
        outside = (self.stem or 3) if place == 0 else self.widths[place - 1]
        inside = self.widths[place]
        down: list[nn.Module] = [nn.Conv2d(outside, inside, KERNEL_PX, stride=2, padding=1)]
        up: list[nn.Module] = [_doubling(inside, outside, resize=self.resize)]
        if place > 0:  # the first halving is not normalised: a picture's colours are what it shows
            down.append(nn.InstanceNorm2d(inside))
        if place > 0 or self.stem:  # nor is what becomes the picture
            up += [nn.InstanceNorm2d(outside), nn.ReLU()]
        layers = nn.Sequential(*down, nn.ReLU()), nn.Sequential(*up)
        for layer in layers:
            layer.apply(initialise)
        self.down.append(layers[0])
        self.up.append(layers[1])

    def shorten(self) -> None:
        """Take the innermost pair of layers away."""
        del self.down[-1], self.up[-1]

    def forward(
        self, faces: Tensor, fade: Tensor | float = 1.0, *, depth: int | None = None
    ) -> Tensor:
        """Redraw pictures (B, 3, S, S).

        Args:
            faces: The pictures.
            fade: How much the innermost pair of layers counts: 0 is as if it were not there.
            depth: Use only so many pairs of layers.
        """
        depth = self.depth if depth is None else depth
        entered = self.enter(faces) if self.stem else faces
        drawn = self._redrawn(entered, 0, depth, fade)
        # In full precision: sixteen-bit numbers have 256 steps to 1, too coarse near white.
        return torch.tanh((self.leave(drawn) if self.stem else drawn).float())

    def _redrawn(self, features: Tensor, place: int, depth: int, fade: Tensor | float) -> Tensor:
        """Return what becomes of features by the layers from `place` inwards, in their shape."""
        if place == depth:
            return features
        inner = self._redrawn(self.down[place](features), place + 1, depth, fade)
        drawn: Tensor = self.up[place](inner)
        if place == 0 and not self.stem:
            return drawn
        share = fade if place == depth - 1 else 1.0
        kept = 1.0 if self.skips else 1 - share
        return kept * features + share * drawn


class Verdict(NamedTuple):
    """What a critic says of pictures, as it counts."""

    share: Tensor | float
    """How much it counts, 0 to 1; the shares of all verdicts on a picture add up to 1."""
    scores: Tensor
    """(B, 1, H, W): 1 for real, 0 for drawn, patch by patch."""


class Critic(nn.Module):
    """Pictures -> how real each patch of them looks: a PatchGAN of any number of layers.

    Isola et al., appendix 6.1.2: convolutions that halve, then one that does not, then the scores.
    A patch is 16, 34, 70, 142 or 286 px for one to five halvings.

    Args:
        widths: Channels after each halving.
        slope: LeakyReLU's below zero; 0 is a plain ReLU.
        norm: `instance`, `spectral` (Miyato et al., "Spectral Normalization for Generative
            Adversarial Networks", 2018), or `none`.
        depth: How many of the widths are built at first; all of them when left out.
    """

    def __init__(
        self, widths: Sequence[int], *, slope: float, norm: str, depth: int | None = None
    ) -> None:
        super().__init__()
        self.widths, self.slope, self.norm = tuple(widths), slope, norm
        self.down, self.ends = nn.ModuleList(), nn.ModuleDict()
        for _ in range(len(self.widths) if depth is None else depth):
            self.deepen()
            self.settle()

    @property
    def depth(self) -> int:
        """How many halvings there are."""
        return len(self.down)

    def deepen(self) -> None:
        """Add one more halving, and two last layers for it beside those there are."""
        place = self.depth
        before, width = 3 if place == 0 else self.widths[place - 1], self.widths[place]
        self.down.append(self._layer(before, width, stride=2, is_first=place == 0))
        self.end_at([*map(int, self.ends), self.depth])

    def shorten(self) -> None:
        """Take the newest halving away, and its last layers."""
        del self.down[-1]
        self.end_at([int(name) for name in self.ends if int(name) <= self.depth])

    def settle(self) -> None:
        """Forget the last layers of the depths before."""
        self.end_at([self.depth])

    def end_at(self, depths: Sequence[int]) -> None:
        """Have last layers at these depths and no others; those that are missing are fresh."""
        # In order: optimizers know parameters by their place.
        self.ends = nn.ModuleDict(
            {
                str(depth): self.ends[str(depth)] if str(depth) in self.ends else self._end(depth)
                for depth in sorted(set(depths))
            }
        )

    def forward(
        self, faces: Tensor, fade: Tensor | float = 1.0, *, depth: int | None = None
    ) -> list[Verdict]:
        """Judge pictures (B, 3, S, S); while the newest layer fades in, so do its verdicts.

        Args:
            faces: The pictures.
            fade: How much the newest layer's verdict counts beside the one of the depth before.
            depth: Give the verdict of this depth alone.
        """
        wanted = [int(name) for name in self.ends] if depth is None else [depth]
        verdicts, features = [], faces
        for place, layer in enumerate(self.down[: max(wanted)], start=1):
            features = layer(features)
            if place in wanted:
                share = fade if place == self.depth else 1 - fade
                scores = self.ends[str(place)](features).float()
                verdicts.append(Verdict(share=share if len(wanted) > 1 else 1.0, scores=scores))
        return verdicts

    def _end(self, depth: int) -> nn.Sequential:
        """Return the last two layers of one depth."""
        width = self.widths[depth - 1]
        last = min(2 * width, WIDEST * self.widths[0])
        return nn.Sequential(
            self._layer(width, last, stride=1),
            self._normalised(initialised(nn.Conv2d(last, 1, KERNEL_PX, padding=1))),
        )

    def _layer(
        self, before: int, width: int, *, stride: int, is_first: bool = False
    ) -> nn.Sequential:
        """Return a convolution with its norm and its LeakyReLU."""
        convolution = nn.Conv2d(before, width, KERNEL_PX, stride=stride, padding=1)
        parts: list[nn.Module] = [self._normalised(initialised(convolution))]
        if self.norm == "instance" and not is_first:
            parts.append(nn.InstanceNorm2d(width))
        return nn.Sequential(*parts, nn.LeakyReLU(self.slope))

    def _normalised(self, layer: nn.Module) -> nn.Module:
        """Bound what a layer can amplify, where that is the norm."""
        return spectral_norm(layer) if self.norm == "spectral" else layer


class HistoryPool(nn.Module):
    """Drawn pictures of earlier steps, so that a critic does not forget what it has seen through.

    Shrivastava et al., "Learning from Simulated and Unsupervised Images", 2017, section 2.3: half
    of what the critic is shown is old.

    Args:
        size: Pictures kept; 0 keeps none.
        channels: Of a picture; a mask may come along as one more.
        side_px: Of a picture.
    """

    stored: Tensor
    count: Tensor

    def __init__(self, size: int, *, channels: int, side_px: int) -> None:
        super().__init__()
        shape = (size, channels, side_px, side_px)
        self.register_buffer("stored", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def exchange(self, drawn: Tensor) -> Tensor:
        """Store pictures (B, C, S, S) in [-1, 1], and return as many, about half of them old."""
        size = len(self.stored)
        fresh, rest = drawn[:size], drawn[size:]
        if size == 0:
            return drawn
        # By indices and choices alone: nothing here makes a device wait for its host.
        is_filling = self.count < size
        order = torch.arange(len(fresh), device=drawn.device)
        chosen = torch.randperm(size, device=drawn.device)[: len(fresh)]
        places = torch.where(is_filling, (self.count + order) % size, chosen)
        is_old = (torch.rand(len(fresh), device=drawn.device) < 0.5) & ~is_filling
        held = self.stored[places]
        is_stored = (is_old | is_filling)[:, None, None, None]
        levels = ((fresh + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        self.stored[places] = torch.where(is_stored, levels, held)
        self.count.copy_((self.count + len(fresh)).clamp(max=size))
        given = torch.where(is_old[:, None, None, None], held / 127.5 - 1, fresh)
        return torch.cat([given, rest])


def least_squares(verdicts: Sequence[Verdict], wanted: float, weight: Tensor) -> Tensor:
    """Return how far scores are from `wanted`: squared, the mean weighted by patches.

    Mao et al., "Least Squares Generative Adversarial Networks", 2017, equation 2.

    Args:
        verdicts: Of a critic.
        wanted: 1 for real, 0 for drawn.
        weight: (B, 1, S, S): how much each place of the pictures counts.
    """
    losses = []
    for share, scores in verdicts:
        patches = functional.interpolate(weight, size=scores.shape[-2:], mode="area")
        error = (scores - wanted).square() * patches
        losses.append(share * error.sum() / patches.sum().clamp(min=1e-6))
    return torch.stack(losses).sum()


def gradient_penalty(
    judge: Callable[[Tensor], Sequence[Verdict]], faces: Tensor, weight: Tensor
) -> Tensor:
    """Return half the squared slope of a critic's score at real faces: R1, to be learnt down.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?", 2018, equation 9,
    without its weight: E[|dD/dx|^2] / 2. A picture's score is its patches' mean, weighted as
    `least_squares` weights them. In full precision whatever surrounds it: slopes are small.

    Args:
        judge: Faces -> the critic's verdicts.
        faces: Real ones, (B, 3, S, S).
        weight: (B, 1, S, S): how much each place of the pictures counts.
    """
    with torch.autocast(faces.device.type, enabled=False), torch.enable_grad():
        shown = faces.detach().float().requires_grad_()
        scores = torch.stack([_score(one, weight.float()) for one in judge(shown)]).sum()
        (slope,) = torch.autograd.grad(scores, shown, create_graph=True)
        return slope.square().sum((1, 2, 3)).mean() / 2


def _score(verdict: Verdict, weight: Tensor) -> Tensor:
    """Return a verdict's part in the pictures' scores, added up over the batch."""
    patches = functional.interpolate(weight, size=verdict.scores.shape[-2:], mode="area")
    means = (verdict.scores * patches).sum((1, 2, 3)) / patches.sum((1, 2, 3)).clamp(min=1e-6)
    return verdict.share * means.sum()


def augmented(pictures: Tensor, strength: float) -> Tensor:
    """Change what a critic is shown by chance, so that gradients pass: colour, place, a hole.

    Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", 2020, section 4.1.
    It is not to learn the few real pictures by heart, and what is drawn is changed alike, so
    changes do not leak into it.

    Args:
        pictures: (B, C, S, S), the first three channels a picture in [-1, 1]; others, such as a
            mask, are moved and cut alike, and keep their values.
        strength: 1 is that paper's, 0 nothing.
    """
    if strength == 0:
        return pictures
    colours = _recoloured(pictures[:, :3], strength)
    return _cut(_moved(torch.cat([colours, pictures[:, 3:]], dim=1), strength), strength)


def _recoloured(pictures: Tensor, strength: float) -> Tensor:
    """Change brightness by up to 0.5, saturation and contrast by up to 100 and 50 %."""
    chance = (torch.rand(3, len(pictures), 1, 1, 1, device=pictures.device) - 0.5) * strength
    bright = pictures + chance[0]
    grey = bright.mean(1, keepdim=True)
    saturated = (bright - grey) * (1 + 2 * chance[1]) + grey
    mean = saturated.mean((1, 2, 3), keepdim=True)
    return (saturated - mean) * (1 + chance[2]) + mean


def _moved(pictures: Tensor, strength: float) -> Tensor:
    """Move pictures by up to an eighth of their side; what comes in is 0."""
    count, _, side, _ = pictures.shape
    reach = round(side / 8 * strength)
    moves = torch.randint(-reach, reach + 1, (2, count, 1), device=pictures.device)
    y, x = (torch.arange(side, device=pictures.device) + moves + 1).clamp(0, side + 1)
    padded = functional.pad(pictures, [1, 1, 1, 1]).permute(0, 2, 3, 1)
    which = torch.arange(count, device=pictures.device)[:, None, None]
    return padded[which, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _cut(pictures: Tensor, strength: float) -> Tensor:
    """Cut a square of half the side out of pictures, at any place."""
    count, _, side, _ = pictures.shape
    reach = side * strength / 4
    centres = torch.rand(2, count, 1, device=pictures.device) * side
    y, x = (torch.arange(side, device=pictures.device) + 0.5 - centres).abs() < reach
    kept: Tensor = ~(y[:, None, :, None] & x[:, None, None, :])
    return pictures * kept


def _full_size(before: int, after: int) -> nn.Conv2d:
    """Return a convolution that keeps the size."""
    return nn.Conv2d(before, after, RESIZED_KERNEL_PX, padding=RESIZED_KERNEL_PX // 2)


def _doubling(before: int, after: int, *, resize: bool) -> nn.Module:
    """Return a layer (B, C, H, W) -> (B, C', 2H, 2W)."""
    if not resize:
        return nn.ConvTranspose2d(before, after, KERNEL_PX, stride=2, padding=1)
    # By repetition: as good as bilinear, and a quarter faster.
    return nn.Sequential(nn.Upsample(scale_factor=2), _full_size(before, after))


def initialised(layer: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with fresh weights, before anything is hung on it."""
    initialise(layer)
    return layer


def initialise(layer: nn.Module) -> None:
    """Draw a convolution's weights anew; for `apply`."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, INITIAL_DEVIATION)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
