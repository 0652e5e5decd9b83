"""Postprocessing of a swapped face: sharpening, and the frame's blur and grain.

`Postprocessor` runs before the face is blended, on a rectangle of the frame at its own scale.

Convention:
    `foreground` is the swapped face warped to the frame, `background` the frame's own pixels, both
    RGB uint8 (H, W, 3); `alpha` is uint8 (H, W), 255 where the swapped face shows.
"""

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray, Image

INTERIOR_ALPHA = 250
"""From this alpha on a pixel shows the face alone."""
MIN_INTERIOR_PX = 64
"""With fewer pixels inside, nothing is measured or changed."""

_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_NOISE_KERNEL_NORM = 6.0
"""Square root of the sum of the squares above: white noise of 1 comes out as this."""
_NORMAL_MEDIAN_ABS = 0.6745
"""Median of |x| of a normal distribution with a deviation of 1."""

DETAIL_SIGMA_PX = 1.0
"""Detail is what a Gaussian blur of this sigma removes."""
_DETAIL_NOISE_FRACTION = 0.76
"""Part of the variance of white noise that counts as detail."""
BLUR_CANDIDATES_PX = (0.0, 0.6, 1.0, 1.6, 2.5)
"""Blurs that are tried; between them the result is interpolated."""
MIN_BLUR_PX = 0.35
"""A weaker blur is not visible."""

MEASURE_WINDOW_PX = 160
"""Side of the central part of a face in which blur and grain are measured."""
GRAIN_TILE_PX = 1024
MAX_GRAIN = 12.0
"""Levels; more is a pattern mistaken for grain."""
MIN_GRAIN = 0.4
"""Levels; less is lost in rounding."""


@dataclass(frozen=True, kw_only=True)
class Postprocessor:
    """Matches a swapped face's sharpness, blur and grain to the frame."""

    sharpen: float = 0.0
    """Amount of the unsharp mask; 0 changes nothing, 1 doubles fine detail."""
    match_blur: bool = False
    """Blur it if the original face is blurrier: out of focus, or in fast motion. The blur is
    isotropic."""
    match_grain: bool = False
    """Add the grain that the original face has and the swapped one lacks."""

    def __call__(self, foreground: Image, background: Image, alpha: Image) -> Image:
        """Return the postprocessed foreground."""
        if self.sharpen > 0:
            foreground = unsharp_mask(foreground, self.sharpen)
        inside = np.asarray(alpha >= INTERIOR_ALPHA, dtype=np.uint8)
        if not (self.match_blur or self.match_grain) or cv2.countNonZero(inside) < MIN_INTERIOR_PX:
            return foreground
        if self.match_blur:
            foreground = gaussian_blur(foreground, estimate_blur_px(foreground, background, inside))
        if self.match_grain:
            target, own = estimate_grain(background, inside), estimate_grain(foreground, inside)
            missing = float(np.sqrt(max(target**2 - own**2, 0)))
            foreground = add_grain(
                foreground, min(missing, MAX_GRAIN), seed=_image_seed(background)
            )
        return foreground


NO_POSTPROCESSING = Postprocessor()
"""Changes nothing."""


def unsharp_mask(image: Image, amount: float) -> Image:
    """Add `amount` times the detail that a blur of `DETAIL_SIGMA_PX` removes."""
    coarse = cv2.GaussianBlur(image, (0, 0), DETAIL_SIGMA_PX)
    return np.asarray(cv2.addWeighted(image, 1 + amount, coarse, -amount, 0), dtype=np.uint8)


def gaussian_blur(image: Image, sigma_px: float) -> Image:
    """Blur by a Gaussian; return the image itself below `MIN_BLUR_PX`."""
    if sigma_px < MIN_BLUR_PX:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), dtype=np.uint8)


def estimate_blur_px(foreground: Image, background: Image, interior: Image) -> float:
    """Return the blur, px, after which `foreground` has no more detail than `background`."""
    target = np.sqrt(
        max(
            _detail_variance(_luma(background), interior)
            - _DETAIL_NOISE_FRACTION * estimate_grain(background, interior) ** 2,
            0,
        )
    )
    luma = _luma(foreground)
    details = [np.sqrt(_detail_variance(luma, interior))]
    for sigma in BLUR_CANDIDATES_PX[1:]:
        if details[-1] <= target:
            break
        details.append(np.sqrt(_detail_variance(cv2.GaussianBlur(luma, (0, 0), sigma), interior)))
    # np.interp needs increasing values, and detail decreases with blur.
    return float(np.interp(target, details[::-1], BLUR_CANDIDATES_PX[: len(details)][::-1]))


def _luma(image: Image) -> Image:
    """Return an image's luma, uint8 (H, W)."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _detail_variance(luma: AnyArray, interior: Image) -> float:
    """Return the variance of an image's fine detail, in levels squared."""
    fine = cv2.subtract(luma, cv2.GaussianBlur(luma, (0, 0), DETAIL_SIGMA_PX), dtype=cv2.CV_16S)
    _, deviation = cv2.meanStdDev(fine, mask=interior)
    return float(deviation[0, 0]) ** 2


def estimate_grain(image: Image, interior: Image) -> float:
    """Return the deviation, in levels, of an image's noise where `interior` is not 0.

    J. Immerkær, "Fast Noise Variance Estimation", 1996: a kernel that ignores edges and slopes; but
    with the median for the mean, so that hair and lashes do not count.
    """
    window = _center_window(interior)
    response = np.abs(cv2.filter2D(_luma(image[window]), cv2.CV_16S, _NOISE_KERNEL))[
        interior[window] > 0
    ]
    if not response.size:
        return 0.0
    # The median of whole levels is a whole level: interpolate within it by the share below.
    shares = np.bincount(response, minlength=1) / response.size
    level = int(np.searchsorted(np.cumsum(shares), 0.5))
    within = (0.5 - shares[:level].sum()) / shares[level]
    exact = level - 0.5 + within if level else within / 2
    return float(exact / _NORMAL_MEDIAN_ABS / _NOISE_KERNEL_NORM)


def _center_window(interior: Image) -> tuple[slice, slice]:
    """Return the center of the interior's box, at most `MEASURE_WINDOW_PX` wide and high."""
    left, top, width, height = cv2.boundingRect(interior)
    x, y = (
        left + max(0, width - MEASURE_WINDOW_PX) // 2,
        top + max(0, height - MEASURE_WINDOW_PX) // 2,
    )
    return slice(y, y + min(height, MEASURE_WINDOW_PX)), slice(x, x + min(width, MEASURE_WINDOW_PX))


def add_grain(image: Image, sigma: float, *, seed: int) -> Image:
    """Add grain of `sigma` levels, the same in all three channels, as film grain mostly is."""
    if sigma < MIN_GRAIN:
        return image
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    y, x = (int(rng.integers(0, max(1, GRAIN_TILE_PX - side))) for side in (height, width))
    tile = _noise_tile()[y : y + height, x : x + width]
    if tile.shape != (height, width):  # a face larger than the tile: the noise repeats
        padding = [(0, side - had) for side, had in zip((height, width), tile.shape, strict=True)]
        tile = np.pad(tile, padding, mode="wrap")
    gray = np.rint(tile * np.float32(sigma)).astype(np.int16)
    noise = cv2.merge([gray] * 3)
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)


@cache
def _noise_tile() -> npt.NDArray[np.float32]:
    """Return Gaussian noise to crop grain from."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((GRAIN_TILE_PX, GRAIN_TILE_PX)).astype(np.float32)


def _image_seed(image: AnyArray) -> int:
    """Return a seed that depends on the pixels: grain must differ from frame to frame."""
    return int(image[::4, ::4].astype(np.uint32).sum())
