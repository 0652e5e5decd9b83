"""Temporal stability: landmark jitter, and flicker as residual after motion compensation.

Convention:
    Crops of two consecutive frames have the same alignment, so they keep all motion.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Image, Mask

Array = npt.NDArray[np.float64]

JITTER_LANDMARKS = (33, 133, 362, 263, 1, 61, 291, 105, 334, 152, 10)
"""Landmarks whose jitter is most visible: eyes, nose, mouth corners, brows, chin, forehead."""
MAX_FLOW_ERROR_LEVELS = 20.0
"""The flow is unreliable where the original itself has a larger residual."""


def landmark_jitter(landmarks: Array, scale: Array, is_continuous: npt.NDArray[np.bool_]) -> Array:
    """Return the RMS of the landmarks' second difference over the face's scale (T,).

    The second difference removes constant motion. It is NaN at both ends of each run of continuous
    frames.

    Args:
        landmarks: (T, K, 2) px; NaN where there is no face.
        scale: Distance between the outer corners of the eyes, px (T,).
        is_continuous: Whether the previous frame has the same face, (T,).
    """
    second = np.full(landmarks.shape, np.nan)
    second[1:-1] = landmarks[:-2] - 2 * landmarks[1:-1] + landmarks[2:]
    second[:-1][~is_continuous[1:]] = np.nan
    second[~is_continuous] = np.nan
    return np.asarray(np.sqrt((second**2).sum(axis=2).mean(axis=1)) / scale)


def root_mean_square(values: Array) -> float:
    """Return the RMS of the values that are not NaN."""
    return float(np.sqrt(np.nanmean(values**2)))


@dataclass(frozen=True, kw_only=True)
class TemporalResidual:
    """Mean absolute difference of consecutive frames after motion compensation, levels."""

    inside: float
    """In the face."""
    outside: float
    """Just outside it."""


class MotionCompensation:
    """The motion between two frames of the original, which also compensates the swapped ones.

    Dense inverse search: T. Kroeger et al., "Fast optical flow using dense inverse search", ECCV
    2016, as OpenCV has it.

    Args:
        previous: Crop of the original, uint8 (S, S, 3).
        current: The same crop of its next frame.
    """

    def __init__(self, previous: Image, current: Image) -> None:
        flow = _estimate_flow(_to_gray(current), _to_gray(previous))
        rows, columns = np.mgrid[: current.shape[0], : current.shape[1]].astype(np.float32)
        self._columns, self._rows = columns + flow[..., 0], rows + flow[..., 1]
        self._is_reliable = self._compensated_difference(previous, current) < MAX_FLOW_ERROR_LEVELS

    def compute_residual(
        self, previous: Image, current: Image, *, face: Mask, surroundings: Mask
    ) -> TemporalResidual:
        """Return the residual between two crops that move like the original.

        Args:
            previous: Crop of the previous frame, uint8 (S, S, 3).
            current: Crop of the current frame.
            face: Weights of the pixels inside, float32 (S, S).
            surroundings: Weights of the pixels just outside.
        """
        difference = self._compensated_difference(previous, current)
        inside, outside = face * self._is_reliable, surroundings * self._is_reliable
        return TemporalResidual(
            inside=_weighted_mean(difference, inside), outside=_weighted_mean(difference, outside)
        )

    def _compensated_difference(self, previous: Image, current: Image) -> npt.NDArray[np.float32]:
        """Return |current - warped previous|, mean of the channels (S, S)."""
        warped = cv2.remap(
            previous,
            self._columns,
            self._rows,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(cv2.absdiff(current, warped).mean(axis=2, dtype=np.float32))


def _estimate_flow(current: Image, previous: Image) -> npt.NDArray[np.float32]:
    """Return the flow (H, W, 2) from each pixel of `current` to its position in `previous`, px."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    # OpenCV's stubs do not allow None for the output.
    return np.asarray(search.calc(current, previous, None), dtype=np.float32)  # type: ignore[call-overload]


def _to_gray(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def _weighted_mean(values: npt.NDArray[np.float32], weights: Mask) -> float:
    """Return the weighted mean, NaN if all weights are 0."""
    total = float(weights.sum(dtype=np.float64))
    return float((values * weights).sum(dtype=np.float64)) / total if total > 0 else float("nan")
