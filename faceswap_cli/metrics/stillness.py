"""What trembles and flickers in a face, measured against what moves in the original footage.

Convention:
    Crops of two frames in a row are cut at the same place, so what moves between them moves.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.arrays import Image, Mask

Array = npt.NDArray[np.float64]

STEADY_POINTS = (33, 133, 362, 263, 1, 61, 291, 105, 334, 152, 10)
"""Landmarks whose trembling is seen first: eyes, nose, mouth's corners, brows, chin, forehead."""
LOST_LEVELS = 20.0
"""Where the original itself differs more than this after motion compensation, the flow is wrong."""


def trembling(landmarks: Array, scale: Array, joined: npt.NDArray[np.bool_]) -> Array:
    """Return the root mean square of the landmarks' second difference over the face's scale (T,).

    The second difference leaves out all steady motion. The first and last frame of each run of
    frames have none, nor has one beside a gap: NaN.

    Args:
        landmarks: (T, K, 2) px; NaN where there is no face.
        scale: Distance between the outer corners of the eyes, px (T,).
        joined: Whether a frame goes on with the face of the one before, (T,).
    """
    bend = np.full(landmarks.shape, np.nan)
    bend[1:-1] = landmarks[:-2] - 2 * landmarks[1:-1] + landmarks[2:]
    bend[:-1][~joined[1:]] = np.nan
    bend[~joined] = np.nan
    return np.asarray(np.sqrt((bend**2).sum(axis=2).mean(axis=1)) / scale)


def root_mean_square(values: Array) -> float:
    """Return the root of the mean square of those values that are."""
    return float(np.sqrt(np.nanmean(values**2)))


@dataclass(frozen=True, kw_only=True)
class Residual:
    """What motion compensation leaves over from one frame to the next, mean levels of 255."""

    inside: float
    """In the face."""
    outside: float
    """Just outside it."""


class Compensation:
    """The motion between two frames of the original, by which any like picture is compensated.

    Dense inverse search: T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV
    2016, as OpenCV has it.

    Args:
        before: Crop of the original's frame before, uint8 (S, S, 3).
        now: The same place in its next frame.
    """

    def __init__(self, before: Image, now: Image) -> None:
        flow = _flow(_grey(now), _grey(before))
        rows, columns = np.mgrid[: now.shape[0], : now.shape[1]].astype(np.float32)
        self._columns, self._rows = columns + flow[..., 0], rows + flow[..., 1]
        self._followed = self._difference(before, now) < LOST_LEVELS

    def residual(self, before: Image, now: Image, *, face: Mask, around: Mask) -> Residual:
        """Return what is left over between two crops that move as the original does.

        Args:
            before: The frame before, uint8 (S, S, 3).
            now: The next one.
            face: What counts as inside, float32 (S, S).
            around: What counts as just outside.
        """
        left = self._difference(before, now)
        inside, outside = face * self._followed, around * self._followed
        return Residual(inside=_mean(left, inside), outside=_mean(left, outside))

    def _difference(self, before: Image, now: Image) -> npt.NDArray[np.float32]:
        """Return how far `now` is from `before` moved along, mean of the channels (S, S)."""
        moved = cv2.remap(
            before,
            self._columns,
            self._rows,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(cv2.absdiff(now, moved).mean(axis=2, dtype=np.float32))


def _flow(now: Image, before: Image) -> npt.NDArray[np.float32]:
    """Return where each pixel (H, W) of `now` was before, as a shift (H, W, 2) px."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # OpenCV has no types for an output it makes itself.
    return np.asarray(search.calc(now, before, None), dtype=np.float32)  # type: ignore[call-overload]


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _mean(values: npt.NDArray[np.float32], weights: Mask) -> float:
    """Return the weighted mean, NaN where nothing weighs."""
    total = float(weights.sum(dtype=np.float64))
    return float((values * weights).sum(dtype=np.float64)) / total if total > 0 else float("nan")
