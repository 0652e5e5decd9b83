"""How well a face follows the performance it was put on: pose, expression, eyes, mouth, gaze.

Convention:
    Arrays have a frame in each row; landmarks are MediaPipe's 478, (T, 478, 2) px. What has no
    value is NaN and stays so.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""float64; see each function for the shape."""

EYE_CORNERS = ((33, 133), (362, 263))
"""Corners of the eyes, each from image left to image right: the image's left eye first."""
EYELID_PAIRS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))
"""Pairs of points on the upper and the lower lid of each eye."""
INNER_LIPS, MOUTH_CORNERS = (13, 14), (78, 308)
"""Middles of the upper and lower lip's inner edge, and the inner corners of the mouth."""
IRIS_CENTERS = (468, 473)
"""Centres of the irises, in the order of `EYES`."""

EYEBALL_RADIUS = 0.4
"""Radius of the eyeball, 12 mm, over the width of the open lids, 30 mm."""
MIN_EYE_OPENNESS = 0.12
"""Openness below which nobody can say where an eye looks."""


def expression_motion_error(blendshapes: Array, driving: Array) -> Array:
    """Return `expression_error` without the constant difference of two faces at rest, (T,).

    Of each coefficient's difference the median over time is taken off first: a smaller mouth is
    identity, a mouth that does not move along is not.
    """
    return np.asarray(np.abs(_remove_median(blendshapes - driving)).mean(axis=1))


def openness_error(openness: Array, driving: Array) -> Array:
    """Return the absolute difference of two openness curves (T,) without its constant part."""
    return np.abs(_remove_median(openness - driving))


def eye_openness(landmarks: Array) -> Array:
    """Return how far the eyes are open over their width, the mean of both, (T,).

    The eye aspect ratio of T. Soukupova and J. Cech, "Real-time eye blink detection using facial
    landmarks", CVWW 2016, with three pairs of points on the lids instead of two.
    """
    return np.asarray(_each_eye_openness(landmarks).mean(axis=1))


def mouth_openness(landmarks: Array) -> Array:
    """Return how far the lips are apart over the inner width of the mouth, (T,)."""
    return _landmark_distance(landmarks, *INNER_LIPS) / _landmark_distance(
        landmarks, *MOUTH_CORNERS
    )


def estimate_gaze(landmarks: Array) -> Array:
    """Return where the eyes look against the head, degrees to image right and up, (T, 2).

    The iris's way from the middle between the corners of the eye, over the radius of the eyeball,
    is the sine of the angle; the mean of both eyes. NaN where an eye is shut.
    """
    turned = []
    for (left, right), iris in zip(EYE_CORNERS, IRIS_CENTERS, strict=True):
        axis = landmarks[:, right] - landmarks[:, left]
        width = np.linalg.norm(axis, axis=1, keepdims=True)
        across = axis / width
        up = np.stack([across[:, 1], -across[:, 0]], axis=1)
        away = landmarks[:, iris] - (landmarks[:, left] + landmarks[:, right]) / 2
        sines = np.stack([(away * across).sum(axis=1), (away * up).sum(axis=1)], axis=1)
        turned.append(np.degrees(np.arcsin(np.clip(sines / (EYEBALL_RADIUS * width), -1, 1))))
    angles: Array = np.mean(turned, axis=0)
    angles[_each_eye_openness(landmarks).min(axis=1) < MIN_EYE_OPENNESS] = np.nan
    return angles


def gaze_error(angles: Array, driving: Array) -> Array:
    """Return the angle between two gazes (T, 2), without its constant part, degrees (T,)."""
    return np.asarray(np.linalg.norm(_remove_median(angles - driving), axis=1))


def _each_eye_openness(landmarks: Array) -> Array:
    """Return the openness of each eye (T, 2)."""
    eyes = []
    for lids, corners in zip(EYELID_PAIRS, EYE_CORNERS, strict=True):
        gaps = np.mean([_landmark_distance(landmarks, *pair) for pair in lids], axis=0)
        eyes.append(gaps / _landmark_distance(landmarks, *corners))
    return np.stack(eyes, axis=1)


def _landmark_distance(landmarks: Array, one: int, other: int) -> Array:
    """Return the distance between two landmarks, px (T,)."""
    return np.asarray(np.linalg.norm(landmarks[:, one] - landmarks[:, other], axis=1))


def _remove_median(differences: Array) -> Array:
    """Return differences less their median over time."""
    if not np.isfinite(differences).any():
        return differences
    return np.asarray(differences - np.nanmedian(differences, axis=0))
