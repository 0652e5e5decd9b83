"""Reconstruction against a true image, inside a mask: PSNR, SSIM, and their scores over frames.

Convention:
    Images are RGB uint8 (H, W, 3) of equal shape; masks are float32 (H, W) in [0, 1] and weight
    each pixel.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from skimage.metrics import structural_similarity

from faceswap_cli.core.types import Image, Mask

PEAK = 255.0
SSIM_MARGIN_PX = 8
"""Margin around the mask that holds every pixel of SSIM's windows (radius 5 px)."""


def mean_squared_error(image: Image, truth: Image, mask: Mask) -> float:
    """Return the mean squared difference in levels squared, each pixel weighted by `mask`."""
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
    """Return the structural similarity, -1 to 1, of the color images averaged inside `mask`.

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


def cropped_ssim(image: Image, truth: Image, mask: Mask) -> float:
    """Return `ssim`, computed only as far around the mask as SSIM's windows reach."""
    window = mask_window(mask)
    return ssim(image[window], truth[window], mask[window])


def mask_window(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns of the mask's bounding box, with SSIM's margin.

    Raises:
        ValueError: The mask is empty.
    """
    rows, columns = (
        slice(max(int(one.min()) - SSIM_MARGIN_PX, 0), int(one.max()) + SSIM_MARGIN_PX + 1)
        for one in np.nonzero(mask)
    )
    return rows, columns


@dataclass(kw_only=True, eq=False)
class ReconstructionScores:
    """Scores of frames against the true ones, in the order they were added."""

    errors: list[float] = field(default_factory=list)
    """Mean squared errors inside the face, levels squared."""
    ssims: list[float] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def add(self, image: Image, truth: Image, mask: Mask, *, label: str = "") -> None:
        """Compare a frame with the true one inside the mask; an empty mask adds nothing."""
        if mask.max() <= 0:
            return
        self.errors.append(mean_squared_error(image, truth, mask))
        self.ssims.append(cropped_ssim(image, truth, mask))
        self.labels.append(label)

    @property
    def psnr(self) -> float:
        """PSNR of the mean error over the frames, dB."""
        return psnr_from_mse(float(np.mean(self.errors)))

    @property
    def ssim(self) -> float:
        """Mean over the frames."""
        return float(np.mean(self.ssims))

    def psnr_by_label(self) -> dict[str, float]:
        """Return the PSNR of each label's frames, dB, in the order the labels first came."""
        errors: dict[str, list[float]] = defaultdict(list)
        for label, error in zip(self.labels, self.errors, strict=True):
            errors[label].append(error)
        return {label: psnr_from_mse(float(np.mean(values))) for label, values in errors.items()}

    @classmethod
    def merge(cls, parts: Iterable["ReconstructionScores"]) -> "ReconstructionScores":
        """Return the scores of several clips as one."""
        merged = cls()
        for part in parts:
            merged.errors += part.errors
            merged.ssims += part.ssims
            merged.labels += part.labels
        return merged
