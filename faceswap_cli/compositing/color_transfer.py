"""How a swapped face takes on the colours of the face it covers; knows nothing of where it lies.

A method is two halves: it measures a face's colours, and it carries an image from one measure to
another. What is measured may be averaged over frames in between, so that colour does not flicker.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray, Image, Mask

ColorMoments: TypeAlias = npt.NDArray[np.float64]
"""What a method remembers of a face's colours: numbers that may be averaged over frames."""

ColorStatistics: TypeAlias = npt.NDArray[np.float64]
"""(2, 3, K): the moments of the swapped face and of the one it covers.

Averaging over frames is plain arithmetic: `match.apply(swap, (one + other) / 2)`.
"""

MAX_GAIN = 1.5
"""Contrast is stretched or squeezed by this factor at most: a flat face must not turn to noise."""

MOMENTS_PX = 16
"""Side of the square in which means and contrasts are compared: light and shade remain, features
do not. A face that a network left blurred is not stretched to make up for the detail it lacks."""

HISTOGRAM_PX = 128
"""Side of the square in which whole distributions are compared."""

MIN_STD = 1e-3
"""Below this a channel is flat, and its contrast cannot be compared with another's."""


@dataclass(frozen=True, kw_only=True)
class ColorTransfer:
    """A way to give one face the colours of another."""

    measure: Callable[[Image, Mask], ColorMoments]
    """`measure(image, mask)`: the colours where the mask, of the image's size, is above 1/2."""
    transfer: Callable[[Image, ColorMoments, ColorMoments], Image]
    """`transfer(image, own, wanted)`: the image, changed so that `own` becomes `wanted`."""
    side_px: int
    """Side of the squares in which colours are measured."""

    def compute_statistics(self, reference: Image, source: Image, mask: Mask) -> ColorStatistics:
        """Return what there is to know of two faces' colours, (2, 3, K): the swap's, the frame's.

        Args:
            reference: What the frame shows in the face's square, RGB uint8, of any size.
            source: The swapped face in the same square, of any size.
            mask: float32 (M, M) in [0, 1], of any size: where colours are compared.
        """
        # Only what lies wholly inside: an average over the edge would take in the background.
        whole = _resize((mask > 0.5).astype(np.float32), self.side_px) > 0.99
        inside = np.asarray(whole, dtype=np.float32)
        small = (
            np.asarray(_resize(one, self.side_px), dtype=np.uint8) for one in (source, reference)
        )
        return np.stack([self.measure(one, inside) for one in small])

    def apply(self, image: Image, statistics: ColorStatistics) -> Image:
        """Return the swapped face, uint8 (S, S, 3), with the frame's colours."""
        own, wanted = statistics
        return self.transfer(image, own, wanted)


def measure_lab(image: Image, mask: Mask) -> ColorMoments:
    """Return E[c] and E[c²] of L*, a* and b* inside the mask, (3, 2); zeros for an empty mask."""
    mean, deviation = cv2.meanStdDev(_to_lab(image), mask=_binarize(mask))
    return np.asarray(np.hstack([mean, mean**2 + deviation**2]), dtype=np.float64)


def transfer_lab(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Shift and stretch each of L*, a* and b* from one measure to another.

    Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", 2001, equations 10
    and 11, in CIE L*a*b* and with the gain held within `MAX_GAIN`.
    """
    gain = np.clip(_std(reference) / _std(source), 1 / MAX_GAIN, MAX_GAIN)
    offset = reference[:, 0] - gain * source[:, 0]
    return _to_rgb(cv2.transform(_to_lab(image), np.column_stack([np.diag(gain), offset])))


def measure_rgb(image: Image, mask: Mask) -> ColorMoments:
    """Return E[c] and E[c c'] of the colours c = (r, g, b) inside the mask, (3, 4)."""
    colours = image[mask > 0.5].astype(np.float64)  # (N, 3)
    count = max(len(colours), 1)
    return np.column_stack([colours.sum(axis=0) / count, colours.T @ colours / count])


def transfer_rgb(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Move every colour by the linear map that makes one covariance the other.

    Of all such maps the one that moves colours least: Pitié and Kokaram, "The Linear
    Monge-Kantorovitch Linear Colour Mapping for Example-Based Colour Transfer", 2007, equation 13.
    """
    root = _matrix_power(_covariance(source), 0.5)
    inverse_root = np.linalg.inv(root)
    middle = _matrix_power(root @ _covariance(reference) @ root, 0.5)
    gain = _clamp_gain(inverse_root @ middle @ inverse_root)
    offset = reference[:, 0] - gain @ source[:, 0]
    return np.asarray(cv2.transform(image, np.column_stack([gain, offset])), dtype=np.uint8)


def measure_histogram(image: Image, mask: Mask) -> ColorMoments:
    """Return how the levels of each channel are distributed inside the mask, (3, 256)."""
    inside = _binarize(mask)
    counts = [cv2.calcHist([image], [channel], inside, [256], [0, 256]) for channel in range(3)]
    total = max(int(inside.sum()), 1)
    return np.stack([count.ravel() / total for count in counts]).astype(np.float64)


def transfer_histogram(image: Image, source: ColorMoments, reference: ColorMoments) -> Image:
    """Give each channel the other's distribution of levels, by one table a channel."""
    tables = [_match_histogram(one, other) for one, other in zip(source, reference, strict=True)]
    return np.asarray(cv2.LUT(image, np.stack(tables, axis=1)[None]), dtype=np.uint8)


LAB = ColorTransfer(measure=measure_lab, transfer=transfer_lab, side_px=MOMENTS_PX)
"""Mean and contrast of each channel in CIE L*a*b*."""

MONGE_KANTOROVICH = ColorTransfer(measure=measure_rgb, transfer=transfer_rgb, side_px=MOMENTS_PX)
"""Mean and covariance of the RGB channels: channels that vary together stay together."""

HISTOGRAM = ColorTransfer(
    measure=measure_histogram, transfer=transfer_histogram, side_px=HISTOGRAM_PX
)
"""The whole distribution of each RGB channel."""

COLOR_TRANSFERS: Mapping[str, ColorTransfer | None] = {
    "lab": LAB,
    "mkl": MONGE_KANTOROVICH,
    "histogram": HISTOGRAM,
    "none": None,
}
"""The methods by the names a user types."""


def _covariance(moments: ColorMoments) -> ColorMoments:
    """Return the covariance (3, 3), never quite singular."""
    mean = moments[:, 0]
    floor = MIN_STD**2 * np.eye(3)
    return np.asarray(moments[:, 1:] - np.outer(mean, mean) + floor, dtype=np.float64)


def _matrix_power(symmetric: ColorMoments, exponent: float) -> ColorMoments:
    """Raise a symmetric positive matrix to a power."""
    values, vectors = np.linalg.eigh(symmetric)
    values = np.maximum(values, MIN_STD**2) ** exponent
    return np.asarray(vectors * values @ vectors.T, dtype=np.float64)


def _clamp_gain(gain: ColorMoments) -> ColorMoments:
    """Hold a symmetric map's stretch within `MAX_GAIN` in every direction."""
    values, vectors = np.linalg.eigh((gain + gain.T) / 2)
    values = np.clip(values, 1 / MAX_GAIN, MAX_GAIN)
    return np.asarray(vectors * values @ vectors.T, dtype=np.float64)


def _match_histogram(source: ColorMoments, reference: ColorMoments) -> Image:
    """Return the table (256,) that carries one distribution of levels to another.

    Levels of equal rank correspond. Between and beyond the levels that occur the table goes on
    straight, and nowhere steeper or flatter than `MAX_GAIN`.
    """
    there, goal = np.flatnonzero(source), np.flatnonzero(reference)
    levels = np.arange(256)
    if not (len(there) and len(goal)):
        return levels.astype(np.uint8)
    carried = np.interp(_midpoint_cdf(source)[there], _midpoint_cdf(reference)[goal], goal)
    steps = np.clip(np.diff(np.interp(levels, there, carried)), 1 / MAX_GAIN, MAX_GAIN)
    steps[: there[0]] = steps[there[-1] :] = 1
    table = np.concatenate([[0], np.cumsum(steps)])
    table += reference @ levels - source @ table
    return np.asarray(np.rint(np.clip(table, 0, 255)), dtype=np.uint8)


def _midpoint_cdf(distribution: ColorMoments) -> ColorMoments:
    """Return the part of all pixels that lies below the middle of each level."""
    return np.asarray(np.cumsum(distribution) - distribution / 2, dtype=np.float64)


def _resize(image: AnyArray, side_px: int) -> AnyArray:
    """Return the square image with `side_px` px; shrinking averages."""
    way = cv2.INTER_AREA if image.shape[0] > side_px else cv2.INTER_LINEAR
    return cv2.resize(image, (side_px, side_px), interpolation=way)


def _std(moments: ColorMoments) -> ColorMoments:
    """Return the standard deviation of each channel, never quite zero."""
    variance = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0)
    return np.asarray(np.sqrt(variance) + MIN_STD, dtype=np.float64)


def _binarize(mask: Mask) -> Image:
    """Return the mask OpenCV's statistics take: uint8, 1 inside."""
    return np.asarray(mask > 0.5, dtype=np.uint8)


def _to_lab(image: Image) -> AnyArray:
    """Return float32 L* in [0, 100], a* and b* in [-127, 127].

    Not OpenCV's 8-bit L*a*b*: that loses up to four levels there and back, which shows as bands
    on smooth skin, and since OpenCV's float route is vectorised it saves nothing worth having.
    """
    return cv2.cvtColor(image.astype(np.float32) * np.float32(1 / 255), cv2.COLOR_RGB2LAB)


def _to_rgb(lab: AnyArray) -> Image:
    """Return RGB uint8; colours outside of what RGB can show are moved to its edge."""
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    return np.asarray(cv2.convertScaleAbs(np.maximum(rgb, 0), alpha=255), dtype=np.uint8)
