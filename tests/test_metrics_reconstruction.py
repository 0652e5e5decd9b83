import math
from collections.abc import Callable

import numpy as np
import pytest

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.evaluation.metrics.reconstruction import psnr, psnr_from_mse, ssim


def image_and_mask(seed: int = 0) -> tuple[Image, Mask]:
    """Return an image with structure at several scales, and a mask of its middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:64, 0:64]
    waves = 110 + 60 * np.sin(x / 5)[..., None] + 40 * np.cos(y[..., None] / [3, 4, 7])
    image = np.clip(waves + rng.normal(0, 8, (64, 64, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1
    return image, mask


def test_equal_images_are_perfect() -> None:
    """No difference: infinite PSNR and an SSIM of one."""
    image, mask = image_and_mask()
    assert math.inf == psnr(image, image, mask)
    assert pytest.approx(1.0) == ssim(image, image, mask)


def test_psnr_counts_errors_inside_the_mask() -> None:
    """A difference of ten levels counts inside, and does not outside."""
    image, mask = image_and_mask()
    flat = np.full_like(image, 100)
    inside, outside = flat.copy(), flat.copy()
    inside[mask == 1] += 10
    outside[mask == 0] += 10
    assert pytest.approx(10 * math.log10(255**2 / 100), abs=1e-4) == psnr(inside, flat, mask)
    assert math.inf == psnr(outside, flat, mask)


def test_psnr_from_mse() -> None:
    """A mean squared error of 100 is 28.13 dB."""
    assert pytest.approx(28.1308, abs=1e-3) == psnr_from_mse(100)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_more_noise_scores_lower(metric: Callable[[Image, Image, Mask], float]) -> None:
    """Both metrics fall as noise grows."""
    image, mask = image_and_mask()
    noise = np.random.default_rng(1).normal(0, 1, image.shape)
    noisy = [np.clip(image + k * noise, 0, 255).astype(np.uint8) for k in (2, 6, 18, 54)]
    scores = [metric(one, image, mask) for one in noisy]
    assert sorted(scores, reverse=True) == scores
    assert scores[0] > scores[-1]
