"""Motion fidelity: expression, eyes, mouth and gaze of the swap against the driving face.

Errors of single frames are `faces.head_pose.pose_error_deg` and `faces.types.expression_error`.

Convention:
    The first axis is time; landmarks are MediaPipe's 478, (T, 478, 2) px. Missing values are NaN
    and propagate.
"""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""float64; see each function for the shape."""

EYE_CORNERS = ((33, 133), (362, 263))
"""Corners of the eyes from image left to image right, the image's left eye first."""
EYELID_PAIRS = (((160, 144), (159, 145), (158, 153)), ((385, 380), (386, 374), (387, 373)))
"""Pairs of points on the upper and the lower lid of each eye."""
INNER_LIPS, MOUTH_CORNERS = (13, 14), (78, 308)
"""Middles of the upper and lower lip's inner edge, and the inner corners of the mouth."""
IRIS_CENTERS = (468, 473)
"""Centers of the irises, in the order of `EYE_CORNERS`."""

EYEBALL_RADIUS = 0.4
"""Radius of the eyeball, 12 mm, over the width of the open lids, 30 mm."""
MIN_EYE_OPENNESS = 0.12
"""Openness below which gaze is undefined."""


def expression_motion_error(blendshapes: Array, driving: Array) -> Array:
    """Return `expression_error` without the constant difference of two faces at rest, (T,).

    The median over time of each coefficient's difference is subtracted first: a smaller mouth is
    identity, a mouth that does not move is an error.
    """
    return np.asarray(np.abs(_remove_median(blendshapes - driving)).mean(axis=1))


def openness_error(openness: Array, driving: Array) -> Array:
    """Return the absolute differences (T,) of two openness curves less their median."""
    return np.abs(_remove_median(openness - driving))


def eye_openness(landmarks: Array) -> Array:
    """Return the openness of the eyes over their width, mean of both, (T,).

    The eye aspect ratio of T. Soukupova and J. Cech, "Real-time eye blink detection using facial
    landmarks", CVWW 2016, with three pairs of points on the lids instead of two.
    """
    return np.asarray(_each_eye_openness(landmarks).mean(axis=1))


def mouth_openness(landmarks: Array) -> Array:
    """Return the gap of the inner lips over the inner width of the mouth, (T,)."""
    return _landmark_distance(landmarks, *INNER_LIPS) / _landmark_distance(
        landmarks, *MOUTH_CORNERS
    )


def estimate_gaze(landmarks: Array) -> Array:
    """Return the gaze relative to the head, degrees to image right and up, (T, 2).

    The sine of the angle is the offset of the iris from the middle of the eye's corners over the
    radius of the eyeball; the mean of both eyes. NaN where an eye is closed.
    """
    eye_angles = []
    for (left, right), iris in zip(EYE_CORNERS, IRIS_CENTERS, strict=True):
        axis = landmarks[:, right] - landmarks[:, left]
        width = np.linalg.norm(axis, axis=1, keepdims=True)
        across = axis / width
        up = np.stack([across[:, 1], -across[:, 0]], axis=1)
        offset = landmarks[:, iris] - (landmarks[:, left] + landmarks[:, right]) / 2
        sines = np.stack([(offset * across).sum(axis=1), (offset * up).sum(axis=1)], axis=1)
        eye_angles.append(np.degrees(np.arcsin(np.clip(sines / (EYEBALL_RADIUS * width), -1, 1))))
    angles: Array = np.mean(eye_angles, axis=0)
    angles[_each_eye_openness(landmarks).min(axis=1) < MIN_EYE_OPENNESS] = np.nan
    return angles


def gaze_error(angles: Array, driving: Array) -> Array:
    """Return the angles (T,) between two gazes (T, 2) without their median difference, degrees."""
    return np.asarray(np.linalg.norm(_remove_median(angles - driving), axis=1))


def _each_eye_openness(landmarks: Array) -> Array:
    """Return the openness of each eye (T, 2)."""
    eyes = []
    for lids, corners in zip(EYELID_PAIRS, EYE_CORNERS, strict=True):
        gaps = np.mean([_landmark_distance(landmarks, *pair) for pair in lids], axis=0)
        eyes.append(gaps / _landmark_distance(landmarks, *corners))
    return np.stack(eyes, axis=1)


def _landmark_distance(landmarks: Array, first: int, second: int) -> Array:
    """Return the distance between two landmarks, px (T,)."""
    return np.asarray(np.linalg.norm(landmarks[:, first] - landmarks[:, second], axis=1))


def _remove_median(differences: Array) -> Array:
    """Subtract the median over time from differences."""
    if not np.isfinite(differences).any():
        return differences
    return np.asarray(differences - np.nanmedian(differences, axis=0))
