"""Reconstruction losses between images, weighted by masks.

Convention:
    Images are float32 (..., C, H, W) in [-1, 1], weights (..., 1, H, W) at least 0. Every loss
    is a scalar, 0 for equal images: the mean over the faces of each face's own weighted mean. So
    a batch's gradient is the mean of its parts' gradients, however large the masks in each are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SSIM_WINDOW_PX = 7
"""Side of the uniform window, as in scikit-image's default; `_sums_along` is made for it."""


def pixel_weights(mask: Tensor, *, background: float) -> Tensor:
    """Return pixel weights: 1 where `mask` is 1, `background` where it is 0."""
    return background + (1 - background) * mask


def weighted_l1(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean absolute error; with equal weights, the papers' plain one."""
    error = (image - target).abs().mean(dim=-3, keepdim=True)
    return _mean_per_face(error, weight)


def weighted_dssim(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of (1 - SSIM) / 2, in [0, 1].

    SSIM: Wang et al., "Image Quality Assessment", 2004, equation 13, each channel by itself. It is
    defined for levels from 0: its luminance term compares means by their ratio.
    """
    levels, target_levels = (one.flatten(0, -4) + 1 for one in (image, target))
    dissimilarity = (1 - _ssim(levels, target_levels)) / 2
    weight = _local_means(weight.flatten(0, -4))
    return _mean_per_face(dissimilarity.mean(dim=1, keepdim=True), weight)


def weighted_structure(image: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted mean of the structural difference of two images, in [0, 1].

    That is (1 - s) / 2 of the structure s of Wang et al., equation 10: the correlation of windows,
    invariant to brightness, contrast and tint. Computed on gray images at half the side, so that
    it compares the positions of eyes and mouth, not their edges.
    """
    images = torch.stack([image, target]).float().mean(-3, keepdim=True).flatten(0, -4)
    coarse = functional.avg_pool2d(images, 2)
    a, b = coarse.chunk(2)
    mean_a, mean_b, square_a, square_b, product = _local_means(
        torch.cat([a, b, a * a, b * b, a * b])
    ).chunk(5)
    spread = (square_a - mean_a**2).clamp(min=0) * (square_b - mean_b**2).clamp(min=0)
    floor = (0.03 * 2) ** 2 / 2
    # The gradient of a root is infinite at 0, where an image is flat.
    structure = (product - mean_a * mean_b + floor) / ((spread + 1e-10).sqrt() + floor)
    window_weights = _local_means(functional.avg_pool2d(weight.float().flatten(0, -4), 2))
    return _mean_per_face((1 - structure) / 2, window_weights)


def _mean_per_face(error: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over faces of each face's weighted mean, of maps (..., 1, H, W)."""
    plane = (-3, -2, -1)
    # A face without any weight counts as error-free.
    area = weight.mean(dim=plane).clamp(min=torch.finfo(weight.dtype).tiny)
    return ((error * weight).mean(dim=plane) / area).mean()


def _ssim(a: Tensor, b: Tensor) -> Tensor:
    """Return the map of SSIM (B, C, H', W'), H' = H + 1 - window, of images in [0, 2]."""
    range_ = 2.0
    c1, c2 = (0.01 * range_) ** 2, (0.03 * range_) ** 2
    # Separately, since only terms of the generated image `a` have a gradient.
    mean_a, square_a, product = _local_means(torch.cat([a, a * a, a * b])).chunk(3)
    mean_b, square_b = _local_means(torch.cat([b, b * b])).chunk(2)
    covariance = product - mean_a * mean_b
    variances = square_a - mean_a**2 + square_b - mean_b**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return luminance * (2 * covariance + c2) / (variances + c2)


def _local_means(images: Tensor) -> Tensor:
    """Return the mean of every window (B, C, S', S') of (B, C, S, S), S' = S + 1 - window.

    In full precision, which `float` keeps under autocast: variances are small differences of
    large numbers.
    """
    sums: Tensor = _WindowSums.apply(images.float())  # type: ignore[no-untyped-call]
    return sums / SSIM_WINDOW_PX**2


class _WindowSums(torch.autograd.Function):
    """Sums of every window, along one axis and then the other.

    Adding shifted images is fastest on a CPU: at 96 px, forward and backward, twice as fast as
    products with a band matrix, which are many times as fast as pooling.
    """

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:  # noqa: ANN401
        """Return the sums (..., S', S') of images (..., S, S)."""
        del context
        return _sums_along(_sums_along(images, -1), -2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        """Add every window's gradient to all of its pixels: window sums of the padded gradient."""
        del context
        border = SSIM_WINDOW_PX - 1
        padded = functional.pad(gradient, [border] * 4)
        return _sums_along(_sums_along(padded, -2), -1)


def _sums_along(images: Tensor, axis: int) -> Tensor:
    """Return the sums of `SSIM_WINDOW_PX` neighbors along an axis, from sums of 2, 3 and 4."""
    count = images.shape[axis]
    of_two = images.narrow(axis, 0, count - 1) + images.narrow(axis, 1, count - 1)
    of_three = of_two.narrow(axis, 0, count - 2) + images.narrow(axis, 2, count - 2)
    size = count + 1 - SSIM_WINDOW_PX
    of_four = of_two.narrow(axis, 0, size) + of_two.narrow(axis, 2, size)
    return of_four.add_(of_three.narrow(axis, 4, size))
