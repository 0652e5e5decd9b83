"""What trembles and flickers in a face, measured against what moves in the original footage.

Convention:
    Crops of two frames in a row are cut at the same place, so what moves between them moves.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Image, Mask

Array = npt.NDArray[np.float64]

JITTER_LANDMARKS = (33, 133, 362, 263, 1, 61, 291, 105, 334, 152, 10)
"""Landmarks whose trembling is seen first: eyes, nose, mouth's corners, brows, chin, forehead."""
MAX_FLOW_ERROR_LEVELS = 20.0
"""Where the original itself differs more than this after motion compensation, the flow is wrong."""


def landmark_jitter(landmarks: Array, scale: Array, is_continuous: npt.NDArray[np.bool_]) -> Array:
    """Return the root mean square of the landmarks' second difference over the face's scale (T,).

    The second difference leaves out all steady motion. The first and last frame of each run of
    frames have none, nor has one beside a gap: NaN.

    Args:
        landmarks: (T, K, 2) px; NaN where there is no face.
        scale: Distance between the outer corners of the eyes, px (T,).
        is_continuous: Whether a frame goes on with the face of the one before, (T,).
    """
    bend = np.full(landmarks.shape, np.nan)
    bend[1:-1] = landmarks[:-2] - 2 * landmarks[1:-1] + landmarks[2:]
    bend[:-1][~is_continuous[1:]] = np.nan
    bend[~is_continuous] = np.nan
    return np.asarray(np.sqrt((bend**2).sum(axis=2).mean(axis=1)) / scale)


def root_mean_square(values: Array) -> float:
    """Return the root of the mean square of those values that are."""
    return float(np.sqrt(np.nanmean(values**2)))


@dataclass(frozen=True, kw_only=True)
class TemporalResidual:
    """What motion compensation leaves over from one frame to the next, mean levels of 255."""

    inside: float
    """In the face."""
    outside: float
    """Just outside it."""


class MotionCompensation:
    """The motion between two frames of the original, by which any like picture is compensated.

    Dense inverse search: T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV
    2016, as OpenCV has it.

    Args:
        previous: Crop of the original's frame before, uint8 (S, S, 3).
        current: The same place in its next frame.
    """

    def __init__(self, previous: Image, current: Image) -> None:
        flow = _estimate_flow(_to_gray(current), _to_gray(previous))
        rows, columns = np.mgrid[: current.shape[0], : current.shape[1]].astype(np.float32)
        self._columns, self._rows = columns + flow[..., 0], rows + flow[..., 1]
        self._is_reliable = self._compensated_difference(previous, current) < MAX_FLOW_ERROR_LEVELS

    def compute_residual(
        self, previous: Image, current: Image, *, face: Mask, surroundings: Mask
    ) -> TemporalResidual:
        """Return what is left over between two crops that move as the original does.

        Args:
            previous: The frame before, uint8 (S, S, 3).
            current: The next one.
            face: What counts as inside, float32 (S, S).
            surroundings: What counts as just outside.
        """
        left = self._compensated_difference(previous, current)
        inside, outside = face * self._is_reliable, surroundings * self._is_reliable
        return TemporalResidual(
            inside=_weighted_mean(left, inside), outside=_weighted_mean(left, outside)
        )

    def _compensated_difference(self, previous: Image, current: Image) -> npt.NDArray[np.float32]:
        """Return how far `current` is from `previous` moved along, mean of the channels (S, S)."""
        moved = cv2.remap(
            previous,
            self._columns,
            self._rows,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(cv2.absdiff(current, moved).mean(axis=2, dtype=np.float32))


def _estimate_flow(current: Image, previous: Image) -> npt.NDArray[np.float32]:
    """Return where each pixel (H, W) of `current` was before, as a shift (H, W, 2) px."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # OpenCV has no types for an output it makes itself.
    return np.asarray(search.calc(current, previous, None), dtype=np.float32)  # type: ignore[call-overload]


def _to_gray(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _weighted_mean(values: npt.NDArray[np.float32], weights: Mask) -> float:
    """Return the weighted mean, NaN where nothing weighs."""
    total = float(weights.sum(dtype=np.float64))
    return float((values * weights).sum(dtype=np.float64)) / total if total > 0 else float("nan")
