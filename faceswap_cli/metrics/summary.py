"""From what was seen in each frame to a value and a curve for each metric; looks at no picture."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from faceswap_cli.arrays import Points
from faceswap_cli.metrics import following, identity, stillness
from faceswap_cli.metrics.catalogue import METRICS
from faceswap_cli.metrics.evaluation import Curve, Measure
from faceswap_cli.metrics.reconstruction import decibels
from faceswap_cli.metrics.stillness import Residual

Array = npt.NDArray[np.float64]
Pose = tuple[float, float, float]

STILL = 0.001
"""Least trembling, in eye distances, that another is compared with: landmarks are no finer."""
QUIET_LEVELS = 0.3
"""Least residual that another is compared with: a picture of 8 bits is no finer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """A face in one frame."""

    landmarks: Points
    """float32 (478, 2), px."""
    pose: Pose
    """Yaw, pitch, roll in degrees."""
    expression: Sequence[float]
    """52 coefficients."""
    directions: Mapping[str, Array] = field(default_factory=dict)
    """What networks that tell people apart make of it, by network."""
    other_pose: Pose | None = None
    """The pose by a second network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sight:
    """What was seen in one frame of the original and the swapped footage."""

    time: float
    """Seconds."""
    driving: Features | None = None
    """The face in the original."""
    swapped: Features | None = None
    """The face in its place in the swapped footage."""
    is_joined: bool = False
    """Whether it is the face of the frame before, in the same shot."""
    is_changed: bool = False
    """Whether the face's pixels were changed at all."""
    residuals: tuple[Residual, Residual] | None = None
    """After motion compensation: the swapped footage's, and the original's."""
    surface: Mapping[str, float] = field(default_factory=dict)
    """Seam, colour and sharpness, by metric."""
    truth: Mapping[str, float] = field(default_factory=dict)
    """Against the true swap: mean squared error and SSIM, and LPIPS in some frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class People:
    """The centres of everyone's directions, by one network."""

    wanted: Array
    """float64 (D,)."""
    original: Array
    """float64 (D,)."""
    others: Array
    """float64 (P, D), without the two."""


def measures(
    sights: Sequence[Sight], *, people: Mapping[str, People], missing: Mapping[str, str]
) -> dict[str, Measure]:
    """Return every metric of the catalogue, in its order.

    Args:
        sights: The frames.
        people: Who is known to each network that tells people apart.
        missing: Why a metric has no value, by its name.
    """
    found: dict[str, Measure] = {}
    for judge, known in people.items():
        found |= _identity(sights, judge, known)
    found |= _following(sights)
    found |= _stillness(sights)
    found |= _surface(sights)
    found |= _coverage(sights)
    found |= _truth(sights)
    return {name: _explained(found.get(name), name, missing) for name in METRICS}


def _explained(measure: Measure | None, name: str, missing: Mapping[str, str]) -> Measure:
    """Return a measure, or why there is none."""
    if measure is not None and measure.value is not None and not math.isnan(measure.value):
        return measure
    reason = missing.get(name, "no frame tells")
    return Measure(metric=METRICS[name], value=None, missing=reason)


def _identity(sights: Sequence[Sight], judge: str, people: People) -> dict[str, Measure]:
    """Return what one network says about whose face it is."""
    swapped = _directions([sight.swapped for sight in sights], judge, people)
    original = _directions([sight.driving for sight in sights], judge, people)
    others = np.vstack([people.original, people.others])

    def both(of: Callable[[Array], Curve], name: str, factor: float = 1.0) -> Measure:
        curve = of(swapped) * factor
        own = _mean(of(original)) * factor
        return _measure(f"{name}_{judge}", curve, original=own)

    def to_wanted(faces: Array) -> Curve:
        return identity.likeness(faces, people.wanted)

    def to_original(faces: Array) -> Curve:
        return identity.likeness(faces, people.original)

    def retrieved(faces: Array) -> Curve:
        return identity.retrieved(faces, people.wanted, others)

    made = (
        both(to_wanted, "identity"),
        both(to_original, "residue"),
        both(lambda faces: to_wanted(faces) - to_original(faces), "margin"),
        both(retrieved, "retrieval", factor=100),
    )
    return {one.metric.name: one for one in made}


def _directions(faces: Sequence[Features | None], judge: str, people: People) -> Array:
    """Return the faces' directions (T, D), NaN where the network did not look."""
    nothing = np.full_like(people.wanted, np.nan)
    return np.stack(
        [nothing if face is None else face.directions.get(judge, nothing) for face in faces]
    )


def _following(sights: Sequence[Sight]) -> dict[str, Measure]:
    """Return how well pose, expression and gaze follow."""
    pairs = [(sight.swapped, sight.driving) for sight in sights]
    swapped, driving = (_Track.of([pair[side] for pair in pairs]) for side in (0, 1))
    angles = following.angle_errors(swapped.poses, driving.poses)
    eyes = [following.eye_openness(track.landmarks) for track in (swapped, driving)]
    mouths = [following.mouth_openness(track.landmarks) for track in (swapped, driving)]
    gazes = [following.gaze(track.landmarks) for track in (swapped, driving)]
    curves = {
        "pose": following.pose_error(swapped.poses, driving.poses),
        **{name: angles[:, axis] for axis, name in enumerate(("yaw", "pitch", "roll"))},
        "pose_3ddfa": following.pose_error(swapped.other_poses, driving.other_poses),
        "expression": following.expression_error(swapped.expressions, driving.expressions),
        "expression_motion": following.expression_motion_error(
            swapped.expressions, driving.expressions
        ),
        "eyes": following.openness_error(*eyes),
        "mouth": following.openness_error(*mouths),
        "gaze": following.gaze_error(*gazes),
    }
    return {name: _measure(name, curve) for name, curve in curves.items()}


def _stillness(sights: Sequence[Sight]) -> dict[str, Measure]:
    """Return what trembles and flickers."""
    joined = np.array([sight.is_joined for sight in sights])
    swapped, driving = (
        _Track.of(faces)
        for faces in ([one.swapped for one in sights], [one.driving for one in sights])
    )
    points = list(stillness.STEADY_POINTS)
    left, right = following.EYES[0][0], following.EYES[1][1]
    scale = np.linalg.norm(driving.landmarks[:, right] - driving.landmarks[:, left], axis=1)
    new, old = (
        stillness.trembling(track.landmarks[:, points], scale, joined)
        for track in (swapped, driving)
    )
    # Only frames in which both can be told are compared.
    old = np.where(np.isfinite(new), old, np.nan)
    found = {}
    if np.isfinite(new).any():
        floor = max(stillness.root_mean_square(old), STILL)
        found["jitter"] = _measure(
            "jitter", new / floor, value=stillness.root_mean_square(new) / floor
        )
    ratios = np.array([_flicker(sight.residuals) for sight in sights])
    found["flicker"] = _measure("flicker", ratios)
    return found


def _flicker(residuals: tuple[Residual, Residual] | None) -> float:
    """Return the residual in the face over that around it, against the original's own."""
    if residuals is None:
        return math.nan
    swapped, original = (
        max(residual.inside, QUIET_LEVELS) / max(residual.outside, QUIET_LEVELS)
        for residual in residuals
    )
    return swapped / original


def _surface(sights: Sequence[Sight]) -> dict[str, Measure]:
    """Return seam, colour and sharpness; ratios are averaged by their logarithms."""
    names = dict.fromkeys(name for sight in sights for name in sight.surface)
    found = {}
    for name in names:
        curve = np.array([sight.surface.get(name, math.nan) for sight in sights])
        is_ratio = METRICS[name].unit == "x original"
        value = float(np.exp(_mean(np.log(np.maximum(curve, 1e-6))))) if is_ratio else None
        found[name] = _measure(name, curve, value=value)
    return found


def _coverage(sights: Sequence[Sight]) -> dict[str, Measure]:
    """Return how many faces were swapped."""
    there = np.array([sight.driving is not None for sight in sights])
    unswapped = there & ~np.array([sight.is_changed for sight in sights])
    lost = there & np.array([sight.swapped is None for sight in sights])
    if not there.any():
        return {}
    share = 100 * float((there & ~unswapped & ~lost).sum()) / float(there.sum())
    return {
        "coverage": Measure(metric=METRICS["coverage"], value=share),
        **{
            name: _measure(
                name, np.where(there, flags.astype(np.float64), np.nan), value=float(flags.sum())
            )
            for name, flags in (("unswapped", unswapped), ("lost", lost))
        },
    }


def _truth(sights: Sequence[Sight]) -> dict[str, Measure]:
    """Return how close the swap is to the truth."""
    errors, ssims, distances = (
        np.array([sight.truth.get(name, math.nan) for sight in sights])
        for name in ("mean_squared_error", "ssim", "lpips")
    )
    if not np.isfinite(errors).any():
        return {}
    curve = np.array([decibels(error) if error >= 0 else math.nan for error in errors])
    return {
        "psnr": _measure("psnr", curve, value=decibels(_mean(errors))),
        "ssim": _measure("ssim", ssims),
        "lpips": _measure("lpips", distances),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _Track:
    """Faces over time, NaN where there is none."""

    landmarks: Array
    """float64 (T, 478, 2)."""
    poses: Array
    """float64 (T, 3)."""
    other_poses: Array
    expressions: Array
    """float64 (T, 52)."""

    @classmethod
    def of(cls, faces: Sequence[Features | None]) -> "_Track":
        def stacked(of: Callable[[Features], object], shape: tuple[int, ...]) -> Array:
            nothing = np.full(shape, np.nan)
            rows = [None if face is None else of(face) for face in faces]
            return np.stack([nothing if row is None else np.asarray(row) for row in rows]).astype(
                np.float64
            )

        return cls(
            landmarks=stacked(lambda face: face.landmarks, (478, 2)),
            poses=stacked(lambda face: face.pose, (3,)),
            other_poses=stacked(lambda face: face.other_pose, (3,)),
            expressions=stacked(lambda face: face.expression, (52,)),
        )


def _measure(
    name: str, curve: Curve, *, value: float | None = None, original: float | None = None
) -> Measure:
    """Return a measure; its value is the curve's mean unless given."""
    return Measure(
        metric=METRICS[name],
        value=_mean(curve) if value is None else value,
        original=None if original is None or math.isnan(original) else original,
        curve=curve,
    )


def _mean(curve: Curve) -> float:
    """Return the mean of the values there are, NaN without any."""
    there = curve[~np.isnan(curve)]
    return float(there.mean()) if there.size else math.nan
