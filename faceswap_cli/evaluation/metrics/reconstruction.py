"""How close a picture comes to the truth, inside a mask: PSNR and SSIM.

Convention:
    Images are RGB uint8 (H, W, 3) of equal shape; masks are float32 (H, W) in [0, 1] and weigh
    each pixel.
"""

import math

import numpy as np
from skimage.metrics import structural_similarity

from faceswap_cli.core.types import Image, Mask

PEAK = 255.0


def mean_squared_error(image: Image, truth: Image, mask: Mask) -> float:
    """Return the mean squared difference in levels squared, each pixel weighed by `mask`."""
    difference = image.astype(np.float32) - truth.astype(np.float32)
    per_pixel = np.mean(difference * difference, axis=2)
    return float(np.sum(per_pixel * mask, dtype=np.float64) / np.sum(mask, dtype=np.float64))


def psnr(image: Image, truth: Image, mask: Mask) -> float:
    """Return the peak signal-to-noise ratio in dB inside `mask`; infinite when equal there."""
    return psnr_from_mse(mean_squared_error(image, truth, mask))


def psnr_from_mse(mse: float) -> float:
    """Return the PSNR in dB of a mean squared error in levels squared."""
    return 10 * math.log10(PEAK**2 / mse) if mse > 0 else math.inf


def ssim(image: Image, truth: Image, mask: Mask) -> float:
    """Return the structural similarity, -1 to 1, of the colour images averaged inside `mask`.

    Windows and constants are those of Wang, Bovik, Sheikh and Simoncelli (2004), "Image quality
    assessment: from error visibility to structural similarity": Gaussian, sigma 1.5.
    """
    _, per_pixel = structural_similarity(
        image,
        truth,
        channel_axis=2,
        data_range=PEAK,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = np.sum(per_pixel.mean(axis=2) * mask, dtype=np.float64)
    return float(inside / np.sum(mask, dtype=np.float64))
