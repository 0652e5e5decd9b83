"""From what was seen in each frame to a value and a curve for each metric; looks at no picture."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Points
from faceswap_cli.evaluation.evaluation import Curve, MetricResult
from faceswap_cli.evaluation.metrics import identity, motion_fidelity, temporal
from faceswap_cli.evaluation.metrics.reconstruction import psnr_from_mse
from faceswap_cli.evaluation.metrics.registry import METRICS
from faceswap_cli.evaluation.metrics.temporal import TemporalResidual
from faceswap_cli.faces.head_pose import angle_errors_deg, pose_error_deg
from faceswap_cli.faces.types import expression_error

Array = npt.NDArray[np.float64]
Pose = tuple[float, float, float]

MIN_JITTER = 0.001
"""Least trembling, in eye distances, that another is compared with: landmarks are no finer."""
MIN_RESIDUAL_LEVELS = 0.3
"""Least residual that another is compared with: a picture of 8 bits is no finer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceFeatures:
    """A face in one frame."""

    landmarks: Points
    """float32 (478, 2), px."""
    pose: Pose
    """Yaw, pitch, roll in degrees."""
    blendshapes: Sequence[float]
    """52 coefficients."""
    embeddings: Mapping[str, Array] = field(default_factory=dict)
    """What networks that tell people apart make of it, by network."""
    pose_3ddfa: Pose | None = None
    """The pose by a second network."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameMeasurement:
    """What was seen in one frame of the original and the swapped footage."""

    time: float
    """Seconds."""
    original: FaceFeatures | None = None
    """The face in the original."""
    swapped: FaceFeatures | None = None
    """The face in its place in the swapped footage."""
    is_continuous: bool = False
    """Whether it is the face of the frame before, in the same shot."""
    is_changed: bool = False
    """Whether the face's pixels were changed at all."""
    residuals: tuple[TemporalResidual, TemporalResidual] | None = None
    """After motion compensation: the swapped footage's, and the original's."""
    artifacts: Mapping[str, float] = field(default_factory=dict)
    """Seam, colour and sharpness, by metric."""
    reconstruction: Mapping[str, float] = field(default_factory=dict)
    """Against the true swap: mean squared error and SSIM, and LPIPS in some frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityCentroids:
    """The centres of everyone's directions, by one network."""

    target: Array
    """float64 (D,)."""
    original: Array
    """float64 (D,)."""
    distractors: Array
    """float64 (P, D), without the two."""


def compute_metrics(
    frames: Sequence[FrameMeasurement],
    *,
    centroids: Mapping[str, IdentityCentroids],
    missing_reasons: Mapping[str, str],
) -> dict[str, MetricResult]:
    """Return every metric of the catalogue, in its order.

    Args:
        frames: The frames.
        centroids: Who is known to each network that tells people apart.
        missing_reasons: Why a metric has no value, by its name.
    """
    found: dict[str, MetricResult] = {}
    for judge, known in centroids.items():
        found |= _measure_identity(frames, judge, known)
    found |= _measure_motion(frames)
    found |= _measure_stability(frames)
    found |= _measure_artifacts(frames)
    found |= _measure_coverage(frames)
    found |= _measure_reconstruction(frames)
    return {name: _fill_missing_reason(found.get(name), name, missing_reasons) for name in METRICS}


def _fill_missing_reason(
    result: MetricResult | None, name: str, missing_reasons: Mapping[str, str]
) -> MetricResult:
    """Return a measure, or why there is none."""
    if result is not None and result.value is not None and not math.isnan(result.value):
        return result
    reason = missing_reasons.get(name, "no frame tells")
    return MetricResult(metric=METRICS[name], value=None, missing_reason=reason)


def _measure_identity(
    frames: Sequence[FrameMeasurement], model: str, centroids: IdentityCentroids
) -> dict[str, MetricResult]:
    """Return what one network says about whose face it is."""
    swapped = _stack_embeddings([sight.swapped for sight in frames], model, centroids)
    original = _stack_embeddings([sight.original for sight in frames], model, centroids)
    others = np.vstack([centroids.original, centroids.distractors])

    def both(of: Callable[[Array], Curve], name: str, factor: float = 1.0) -> MetricResult:
        curve = of(swapped) * factor
        own = _nan_mean(of(original)) * factor
        return _make_result(f"{name}_{model}", curve, original=own)

    def to_wanted(faces: Array) -> Curve:
        return identity.cosine_similarity(faces, centroids.target)

    def to_original(faces: Array) -> Curve:
        return identity.cosine_similarity(faces, centroids.original)

    def retrieved(faces: Array) -> Curve:
        return identity.retrieval_hits(faces, centroids.target, others)

    made = (
        both(to_wanted, "identity"),
        both(to_original, "residue"),
        both(lambda faces: to_wanted(faces) - to_original(faces), "margin"),
        both(retrieved, "retrieval", factor=100),
    )
    return {one.metric.name: one for one in made}


def _stack_embeddings(
    faces: Sequence[FaceFeatures | None], model: str, centroids: IdentityCentroids
) -> Array:
    """Return the faces' directions (T, D), NaN where the network did not look."""
    nothing = np.full_like(centroids.target, np.nan)
    return np.stack(
        [nothing if face is None else face.embeddings.get(model, nothing) for face in faces]
    )


def _measure_motion(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return how well pose, expression and gaze follow."""
    pairs = [(sight.swapped, sight.original) for sight in frames]
    swapped, driving = (_FaceSeries.from_faces([pair[side] for pair in pairs]) for side in (0, 1))
    angles = angle_errors_deg(swapped.poses, driving.poses)
    eyes = [motion_fidelity.eye_openness(track.landmarks) for track in (swapped, driving)]
    mouths = [motion_fidelity.mouth_openness(track.landmarks) for track in (swapped, driving)]
    gazes = [motion_fidelity.estimate_gaze(track.landmarks) for track in (swapped, driving)]
    curves = {
        "pose": pose_error_deg(swapped.poses, driving.poses),
        **{name: angles[:, axis] for axis, name in enumerate(("yaw", "pitch", "roll"))},
        "pose_3ddfa": pose_error_deg(swapped.poses_3ddfa, driving.poses_3ddfa),
        "expression": expression_error(swapped.blendshapes, driving.blendshapes),
        "expression_motion": motion_fidelity.expression_motion_error(
            swapped.blendshapes, driving.blendshapes
        ),
        "eyes": motion_fidelity.openness_error(*eyes),
        "mouth": motion_fidelity.openness_error(*mouths),
        "gaze": motion_fidelity.gaze_error(*gazes),
    }
    return {name: _make_result(name, curve) for name, curve in curves.items()}


def _measure_stability(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return what trembles and flickers."""
    joined = np.array([sight.is_continuous for sight in frames])
    swapped, driving = (
        _FaceSeries.from_faces(faces)
        for faces in ([one.swapped for one in frames], [one.original for one in frames])
    )
    points = list(temporal.JITTER_LANDMARKS)
    left, right = motion_fidelity.EYE_CORNERS[0][0], motion_fidelity.EYE_CORNERS[1][1]
    scale = np.linalg.norm(driving.landmarks[:, right] - driving.landmarks[:, left], axis=1)
    new, old = (
        temporal.landmark_jitter(track.landmarks[:, points], scale, joined)
        for track in (swapped, driving)
    )
    # Only frames in which both can be told are compared.
    old = np.where(np.isfinite(new), old, np.nan)
    found = {}
    if np.isfinite(new).any():
        floor = max(temporal.root_mean_square(old), MIN_JITTER)
        found["jitter"] = _make_result(
            "jitter", new / floor, value=temporal.root_mean_square(new) / floor
        )
    ratios = np.array([_flicker_ratio(sight.residuals) for sight in frames])
    found["flicker"] = _make_result("flicker", ratios)
    return found


def _flicker_ratio(residuals: tuple[TemporalResidual, TemporalResidual] | None) -> float:
    """Return the residual in the face over that around it, against the original's own."""
    if residuals is None:
        return math.nan
    swapped, original = (
        max(residual.inside, MIN_RESIDUAL_LEVELS) / max(residual.outside, MIN_RESIDUAL_LEVELS)
        for residual in residuals
    )
    return swapped / original


def _measure_artifacts(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return seam, colour and sharpness; ratios are averaged by their logarithms."""
    names = dict.fromkeys(name for sight in frames for name in sight.artifacts)
    found = {}
    for name in names:
        curve = np.array([sight.artifacts.get(name, math.nan) for sight in frames])
        is_ratio = METRICS[name].unit == "x original"
        value = float(np.exp(_nan_mean(np.log(np.maximum(curve, 1e-6))))) if is_ratio else None
        found[name] = _make_result(name, curve, value=value)
    return found


def _measure_coverage(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return how many faces were swapped."""
    there = np.array([sight.original is not None for sight in frames])
    unswapped = there & ~np.array([sight.is_changed for sight in frames])
    lost = there & np.array([sight.swapped is None for sight in frames])
    if not there.any():
        return {}
    share = 100 * float((there & ~unswapped & ~lost).sum()) / float(there.sum())
    return {
        "coverage": MetricResult(metric=METRICS["coverage"], value=share),
        **{
            name: _make_result(
                name, np.where(there, flags.astype(np.float64), np.nan), value=float(flags.sum())
            )
            for name, flags in (("unswapped", unswapped), ("lost", lost))
        },
    }


def _measure_reconstruction(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return how close the swap is to the truth."""
    errors, ssims, distances = (
        np.array([sight.reconstruction.get(name, math.nan) for sight in frames])
        for name in ("mean_squared_error", "ssim", "lpips")
    )
    if not np.isfinite(errors).any():
        return {}
    curve = np.array([psnr_from_mse(error) if error >= 0 else math.nan for error in errors])
    return {
        "psnr": _make_result("psnr", curve, value=psnr_from_mse(_nan_mean(errors))),
        "ssim": _make_result("ssim", ssims),
        "lpips": _make_result("lpips", distances),
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class _FaceSeries:
    """Faces over time, NaN where there is none."""

    landmarks: Array
    """float64 (T, 478, 2)."""
    poses: Array
    """float64 (T, 3)."""
    poses_3ddfa: Array
    blendshapes: Array
    """float64 (T, 52)."""

    @classmethod
    def from_faces(cls, faces: Sequence[FaceFeatures | None]) -> "_FaceSeries":
        def stacked(of: Callable[[FaceFeatures], object], shape: tuple[int, ...]) -> Array:
            nothing = np.full(shape, np.nan)
            rows = [None if face is None else of(face) for face in faces]
            return np.stack([nothing if row is None else np.asarray(row) for row in rows]).astype(
                np.float64
            )

        return cls(
            landmarks=stacked(lambda face: face.landmarks, (478, 2)),
            poses=stacked(lambda face: face.pose, (3,)),
            poses_3ddfa=stacked(lambda face: face.pose_3ddfa, (3,)),
            blendshapes=stacked(lambda face: face.blendshapes, (52,)),
        )


def _make_result(
    name: str, curve: Curve, *, value: float | None = None, original: float | None = None
) -> MetricResult:
    """Return a measure; its value is the curve's mean unless given."""
    return MetricResult(
        metric=METRICS[name],
        value=_nan_mean(curve) if value is None else value,
        original=None if original is None or math.isnan(original) else original,
        curve=curve,
    )


def _nan_mean(curve: Curve) -> float:
    """Return the mean of the values there are, NaN without any."""
    there = curve[~np.isnan(curve)]
    return float(there.mean()) if there.size else math.nan
