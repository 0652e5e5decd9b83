"""Color transfer: methods that match a swapped face's colors to the face it covers.

A `ColorTransfer` measures the colors of both faces and maps one measurement to the other. The
measurements may be averaged over frames in between, so that color does not flicker.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray, Image, Mask

ColorMoments: TypeAlias = npt.NDArray[np.float64]
"""What a method measures of a face's colors: numbers that may be averaged over frames."""

ColorStatistics: TypeAlias = npt.NDArray[np.float64]
"""(2, 3, K): the moments of the swapped face and of the original one.

Averaging over frames is plain arithmetic: `transfer.apply(swap, (one + other) / 2)`.
"""

MAX_GAIN = 1.5
"""Contrast changes by this factor at most: a flat face must not turn to noise."""

MOMENTS_PX = 16
"""Side of the square in which means and contrasts are measured: shading remains, features do not.
So the contrast of a blurry swap is not stretched to make up for the detail it lacks."""

HISTOGRAM_PX = 128
"""Side of the square in which histograms are measured."""

MIN_STD = 1e-3
"""Below this a channel is flat, and has no contrast to compare."""


@dataclass(frozen=True, kw_only=True)
class ColorTransfer:
    """A method that gives one face the colors of another."""

    measure: Callable[[Image, Mask], ColorMoments]
    """`measure(image, mask)`: the colors where the mask, of the image's size, is above 1/2."""
    transfer: Callable[[Image, ColorMoments, ColorMoments], Image]
    """`transfer(image, source, reference)`: the image, `source` mapped to `reference`."""
    side_px: int
    """Side of the squares in which colors are measured."""

    def compute_statistics(self, reference: Image, source: Image, mask: Mask) -> ColorStatistics:
        """Return the moments of both faces, (2, 3, K): the swapped one's, the original one's.

        Args:
            reference: The frame's crop of the face's square, RGB uint8, of any size.
            source: The swapped face in the same square, of any size.
            mask: float32 (M, M) in [0, 1], of any size: where colors are measured.
        """
        # Only pixels wholly inside: an average over the edge would include the background.
        is_inside = _resize((mask > 0.5).astype(np.float32), self.side_px) > 0.99
        inside = np.asarray(is_inside, dtype=np.float32)
        small = (
            np.asarray(_resize(image, self.side_px), dtype=np.uint8)
            for image in (source, reference)
        )
        return np.stack([self.measure(image, inside) for image in small])

    def apply(self, image: Image, statistics: ColorStatistics) -> Image:
        """Return the swapped face, uint8 (S, S, 3), with the frame's colors."""
        source, reference = statistics
        return self.transfer(image, source, reference)


def measure_lab(image: Image, mask: Mask) -> ColorMoments:
    """Return E[c] and E[c²] of L*, a* and b* inside the mask, (3, 2); zeros for an empty mask."""
    mean, deviation = cv2.meanStdDev(_to_lab(image), mask=_binarize(mask))
    return np.asarray(np.hstack([mean, mean**2 + deviation**2]), dtype=np.float64)


def transfer_lab(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Shift and scale each of L*, a* and b* from one mean and deviation to another.

    Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", 2001, equations 10
    and 11, in CIE L*a*b* and with the gain held within `MAX_GAIN`.
    """
    gain = np.clip(_std(reference) / _std(source), 1 / MAX_GAIN, MAX_GAIN)
    offset = reference[:, 0] - gain * source[:, 0]
    return _to_rgb(cv2.transform(_to_lab(image), np.column_stack([np.diag(gain), offset])))


def measure_rgb(image: Image, mask: Mask) -> ColorMoments:
    """Return E[c] and E[c c'] of the colors c = (r, g, b) inside the mask, (3, 4)."""
    colors = image[mask > 0.5].astype(np.float64)  # (N, 3)
    count = max(len(colors), 1)
    return np.column_stack([colors.sum(axis=0) / count, colors.T @ colors / count])


def transfer_rgb(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Map colors linearly so that one covariance becomes the other.

    Of all such maps, the one that moves colors least: Pitié and Kokaram, "The Linear
    Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer", 2007, equation 13.
    """
    root = _matrix_power(_covariance(source), 0.5)
    inverse_root = np.linalg.inv(root)
    middle = _matrix_power(root @ _covariance(reference) @ root, 0.5)
    gain = _clamp_gain(inverse_root @ middle @ inverse_root)
    offset = reference[:, 0] - gain @ source[:, 0]
    return np.asarray(cv2.transform(image, np.column_stack([gain, offset])), dtype=np.uint8)


def measure_histogram(image: Image, mask: Mask) -> ColorMoments:
    """Return the normalized histogram of each channel inside the mask, (3, 256)."""
    inside = _binarize(mask)
    counts = [cv2.calcHist([image], [channel], inside, [256], [0, 256]) for channel in range(3)]
    total = max(int(inside.sum()), 1)
    return np.stack([count.ravel() / total for count in counts]).astype(np.float64)


def transfer_histogram(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Match the histogram of each channel by a look-up table."""
    tables = [_match_histogram(one, other) for one, other in zip(source, reference, strict=True)]
    return np.asarray(cv2.LUT(image, np.stack(tables, axis=1)[None]), dtype=np.uint8)


LAB = ColorTransfer(measure=measure_lab, transfer=transfer_lab, side_px=MOMENTS_PX)
"""Mean and contrast of each channel in CIE L*a*b*."""

MONGE_KANTOROVICH = ColorTransfer(measure=measure_rgb, transfer=transfer_rgb, side_px=MOMENTS_PX)
"""Mean and covariance of the RGB channels: correlations between channels are matched too."""

HISTOGRAM = ColorTransfer(
    measure=measure_histogram, transfer=transfer_histogram, side_px=HISTOGRAM_PX
)
"""The histogram of each RGB channel."""

COLOR_TRANSFERS: Mapping[str, ColorTransfer | None] = {
    "lab": LAB,
    "mkl": MONGE_KANTOROVICH,
    "histogram": HISTOGRAM,
    "none": None,
}
"""Methods by the names a user types."""


def _covariance(moments: ColorMoments) -> ColorMoments:
    """Return the covariance (3, 3), never singular."""
    mean = moments[:, 0]
    floor = MIN_STD**2 * np.eye(3)
    return np.asarray(moments[:, 1:] - np.outer(mean, mean) + floor, dtype=np.float64)


def _matrix_power(symmetric: ColorMoments, exponent: float) -> ColorMoments:
    """Raise a symmetric positive matrix to a power."""
    values, vectors = np.linalg.eigh(symmetric)
    values = np.maximum(values, MIN_STD**2) ** exponent
    return np.asarray(vectors * values @ vectors.T, dtype=np.float64)


def _clamp_gain(gain: ColorMoments) -> ColorMoments:
    """Clamp a symmetric map's gain to `MAX_GAIN` in every direction."""
    values, vectors = np.linalg.eigh((gain + gain.T) / 2)
    values = np.clip(values, 1 / MAX_GAIN, MAX_GAIN)
    return np.asarray(vectors * values @ vectors.T, dtype=np.float64)


def _match_histogram(source: ColorMoments, reference: ColorMoments) -> Image:
    """Return the look-up table (256,) that maps one histogram to another.

    Levels of equal rank correspond. The table is linear between and beyond the levels that occur,
    and its slope is within `MAX_GAIN`.
    """
    occurring, targets = np.flatnonzero(source), np.flatnonzero(reference)
    levels = np.arange(256)
    if not (len(occurring) and len(targets)):
        return levels.astype(np.uint8)
    mapped = np.interp(_midpoint_cdf(source)[occurring], _midpoint_cdf(reference)[targets], targets)
    steps = np.clip(np.diff(np.interp(levels, occurring, mapped)), 1 / MAX_GAIN, MAX_GAIN)
    steps[: occurring[0]] = steps[occurring[-1] :] = 1
    table = np.concatenate([[0], np.cumsum(steps)])
    table += reference @ levels - source @ table
    return np.asarray(np.rint(np.clip(table, 0, 255)), dtype=np.uint8)


def _midpoint_cdf(distribution: ColorMoments) -> ColorMoments:
    """Return the part of all pixels below the middle of each level."""
    return np.asarray(np.cumsum(distribution) - distribution / 2, dtype=np.float64)


def _resize(image: AnyArray, side_px: int) -> AnyArray:
    """Return the square image with `side_px` px; shrinking averages."""
    interpolation = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_LINEAR
    return cv2.resize(image, (side_px, side_px), interpolation=interpolation)


def _std(moments: ColorMoments) -> ColorMoments:
    """Return the standard deviation of each channel, never zero."""
    variance = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0)
    return np.asarray(np.sqrt(variance) + MIN_STD, dtype=np.float64)


def _binarize(mask: Mask) -> Image:
    """Return the mask as OpenCV's statistics take it: uint8, 1 inside."""
    return np.asarray(mask > 0.5, dtype=np.uint8)


def _to_lab(image: Image) -> AnyArray:
    """Return float32 L* in [0, 100], a* and b* in [-127, 127].

    Not OpenCV's 8-bit L*a*b*, which loses up to four levels in a round trip, visible as banding on
    smooth skin; OpenCV's float conversion is vectorized and hardly slower.
    """
    return cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)


def _to_rgb(lab: AnyArray) -> Image:
    """Return RGB uint8; colors outside the RGB gamut are clipped."""
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(cv2.convertScaleAbs(np.maximum(rgb, 0), alpha=255), dtype=np.uint8)
