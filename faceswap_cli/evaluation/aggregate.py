"""Aggregation: `compute_metrics` turns measurements of frames into values and curves of metrics."""

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
from faceswap_cli.evaluation.metrics.teeth import teeth_error
from faceswap_cli.evaluation.metrics.temporal import TemporalResidual
from faceswap_cli.faces.head_pose import angle_errors_deg, pose_error_deg
from faceswap_cli.faces.types import expression_error

Array = npt.NDArray[np.float64]
Pose = tuple[float, float, float]

MIN_JITTER = 0.001
"""Lower bound of the original's jitter, in eye distances: the resolution of landmarks."""
MIN_RESIDUAL_LEVELS = 0.3
"""Lower bound of residuals in ratios: the resolution of 8-bit images."""


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
    """By face recognition model, of those that ran on this frame."""
    pose_3ddfa: Pose | None = None
    """The pose by a second model."""
    teeth: float = math.nan
    """Area of the visible teeth, see `teeth_area`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameMeasurement:
    """Measurements of one frame of the original and the swapped video."""

    time: float
    """Seconds."""
    original: FaceFeatures | None = None
    """The face in the original."""
    swapped: FaceFeatures | None = None
    """The face at its position in the swapped video."""
    is_continuous: bool = False
    """Whether the previous frame has the same face, in the same shot."""
    is_changed: bool = False
    """Whether the face was swapped rather than passed through."""
    residuals: tuple[TemporalResidual, TemporalResidual] | None = None
    """After motion compensation: swapped, original."""
    artifacts: Mapping[str, float] = field(default_factory=dict)
    """Seam, color and sharpness, by metric."""
    reconstruction: Mapping[str, float] = field(default_factory=dict)
    """Against the true swap: `mean_squared_error`, `ssim`, and in some frames `lpips`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityCentroids:
    """Centroids of the identities' embeddings, by one face recognition model."""

    target: Array
    """float64 (D,)."""
    original: Array
    """float64 (D,)."""
    distractors: Array
    """float64 (P, D), of the other identities."""


def compute_metrics(
    frames: Sequence[FrameMeasurement],
    *,
    centroids: Mapping[str, IdentityCentroids],
    missing_reasons: Mapping[str, str],
) -> dict[str, MetricResult]:
    """Return the results of all `METRICS`, in their order.

    Args:
        frames: Measurements of all frames.
        centroids: By face recognition model.
        missing_reasons: Why metrics have no value, by metric.
    """
    results: dict[str, MetricResult] = {}
    for model, model_centroids in centroids.items():
        results |= _measure_identity(frames, model, model_centroids)
    results |= _measure_motion(frames)
    results |= _measure_stability(frames)
    results |= _measure_artifacts(frames)
    results |= _measure_coverage(frames)
    results |= _measure_reconstruction(frames)
    return {
        name: _fill_missing_reason(results.get(name), name, missing_reasons) for name in METRICS
    }


def _fill_missing_reason(
    result: MetricResult | None, name: str, missing_reasons: Mapping[str, str]
) -> MetricResult:
    """Return a result, or one with the reason for its missing value."""
    if result is not None and result.value is not None and not math.isnan(result.value):
        return result
    reason = missing_reasons.get(name, "no measured frame has a value")
    return MetricResult(metric=METRICS[name], value=None, missing_reason=reason)


def _measure_identity(
    frames: Sequence[FrameMeasurement], model: str, centroids: IdentityCentroids
) -> dict[str, MetricResult]:
    """Return the metrics of one face recognition model."""
    swapped = _stack_embeddings([frame.swapped for frame in frames], model, centroids)
    original = _stack_embeddings([frame.original for frame in frames], model, centroids)
    others = np.vstack([centroids.original, centroids.distractors])

    def target_similarity(faces: Array) -> Curve:
        return identity.cosine_similarity(faces, centroids.target)

    def original_similarity(faces: Array) -> Curve:
        return identity.cosine_similarity(faces, centroids.original)

    def margin(faces: Array) -> Curve:
        return target_similarity(faces) - original_similarity(faces)

    def retrieval_percent(faces: Array) -> Curve:
        return 100 * identity.retrieval_hits(faces, centroids.target, others)

    functions = {
        f"identity_{model}": target_similarity,
        f"original_similarity_{model}": original_similarity,
        f"identity_margin_{model}": margin,
        f"id_retrieval_{model}": retrieval_percent,
    }
    return {
        name: _make_result(name, function(swapped), original=_nan_mean(function(original)))
        for name, function in functions.items()
    }


def _stack_embeddings(
    faces: Sequence[FaceFeatures | None], model: str, centroids: IdentityCentroids
) -> Array:
    """Return the faces' embeddings (T, D), NaN where the model did not run."""
    missing = np.full_like(centroids.target, np.nan)
    return np.stack(
        [missing if face is None else face.embeddings.get(model, missing) for face in faces]
    )


def _measure_motion(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return the errors of pose, expression, eyes, mouth, teeth and gaze."""
    swapped, driving = _stack_faces(frames)
    angles = angle_errors_deg(swapped.poses, driving.poses)
    pair = (swapped, driving)
    eyes = [motion_fidelity.eye_openness(series.landmarks) for series in pair]
    mouths = [motion_fidelity.mouth_openness(series.landmarks) for series in pair]
    gazes = [motion_fidelity.estimate_gaze(series.landmarks) for series in pair]
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
        "teeth": 100 * teeth_error(swapped.teeth, driving.teeth),
        "gaze": motion_fidelity.gaze_error(*gazes),
    }
    return {name: _make_result(name, curve) for name, curve in curves.items()}


def _measure_stability(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return jitter and flicker."""
    is_continuous = np.array([frame.is_continuous for frame in frames])
    swapped, driving = _stack_faces(frames)
    points = list(temporal.JITTER_LANDMARKS)
    left, right = motion_fidelity.EYE_CORNERS[0][0], motion_fidelity.EYE_CORNERS[1][1]
    scale = np.linalg.norm(driving.landmarks[:, right] - driving.landmarks[:, left], axis=1)
    new, old = (
        temporal.landmark_jitter(series.landmarks[:, points], scale, is_continuous)
        for series in (swapped, driving)
    )
    # Only frames with both values are compared.
    old = np.where(np.isfinite(new), old, np.nan)
    results = {}
    if np.isfinite(new).any():
        reference = max(temporal.root_mean_square(old), MIN_JITTER)
        results["jitter"] = _make_result(
            "jitter", new / reference, value=temporal.root_mean_square(new) / reference
        )
    ratios = np.array([_flicker_ratio(frame.residuals) for frame in frames])
    results["flicker"] = _make_result("flicker", ratios)
    return results


def _flicker_ratio(residuals: tuple[TemporalResidual, TemporalResidual] | None) -> float:
    """Return (residual in the face over residual around it), swapped over original."""
    if residuals is None:
        return math.nan
    swapped, original = (
        max(residual.inside, MIN_RESIDUAL_LEVELS) / max(residual.outside, MIN_RESIDUAL_LEVELS)
        for residual in residuals
    )
    return swapped / original


def _measure_artifacts(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return seam, color and sharpness; ratios are averaged by their logarithms."""
    names = dict.fromkeys(name for frame in frames for name in frame.artifacts)
    results = {}
    for name in names:
        curve = np.array([frame.artifacts.get(name, math.nan) for frame in frames])
        is_ratio = METRICS[name].unit == "x original"
        value = float(np.exp(_nan_mean(np.log(np.maximum(curve, 1e-6))))) if is_ratio else None
        results[name] = _make_result(name, curve, value=value)
    return results


def _measure_coverage(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return how many faces were swapped and are still detected."""
    has_face = np.array([frame.original is not None for frame in frames])
    if not has_face.any():
        return {}
    unswapped = has_face & ~np.array([frame.is_changed for frame in frames])
    undetected = has_face & np.array([frame.swapped is None for frame in frames])
    good_count = (has_face & ~unswapped & ~undetected).sum()
    percent = 100 * float(good_count) / float(has_face.sum())
    results = {"coverage": MetricResult(metric=METRICS["coverage"], value=percent)}
    for name, flags in (("unswapped", unswapped), ("undetected", undetected)):
        curve = np.where(has_face, flags.astype(np.float64), np.nan)
        results[name] = _make_result(name, curve, value=float(flags.sum()))
    return results


def _measure_reconstruction(frames: Sequence[FrameMeasurement]) -> dict[str, MetricResult]:
    """Return PSNR, SSIM and LPIPS against the true swap."""
    errors, ssims, distances = (
        np.array([frame.reconstruction.get(name, math.nan) for frame in frames])
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
    """Faces over time, NaN where there is no face."""

    landmarks: Array
    """float64 (T, 478, 2)."""
    poses: Array
    """float64 (T, 3)."""
    poses_3ddfa: Array
    blendshapes: Array
    """float64 (T, 52)."""
    teeth: Array
    """float64 (T,)."""

    @classmethod
    def from_faces(cls, faces: Sequence[FaceFeatures | None]) -> "_FaceSeries":
        """Stack the features of faces, one for each frame."""

        def stack(get: Callable[[FaceFeatures], object], shape: tuple[int, ...]) -> Array:
            missing = np.full(shape, np.nan)
            values = [None if face is None else get(face) for face in faces]
            rows = [missing if value is None else np.asarray(value) for value in values]
            return np.stack(rows).astype(np.float64)

        return cls(
            landmarks=stack(lambda face: face.landmarks, (478, 2)),
            poses=stack(lambda face: face.pose, (3,)),
            poses_3ddfa=stack(lambda face: face.pose_3ddfa, (3,)),
            blendshapes=stack(lambda face: face.blendshapes, (52,)),
            teeth=stack(lambda face: face.teeth, ()),
        )


def _stack_faces(frames: Sequence[FrameMeasurement]) -> tuple[_FaceSeries, _FaceSeries]:
    """Return the faces over time: swapped, original."""
    return (
        _FaceSeries.from_faces([frame.swapped for frame in frames]),
        _FaceSeries.from_faces([frame.original for frame in frames]),
    )


def _make_result(
    name: str, curve: Curve, *, value: float | None = None, original: float | None = None
) -> MetricResult:
    """Return a result; its value is the curve's mean unless given."""
    return MetricResult(
        metric=METRICS[name],
        value=_nan_mean(curve) if value is None else value,
        original=None if original is None or math.isnan(original) else original,
        curve=curve,
    )


def _nan_mean(curve: Curve) -> float:
    """Return the mean of the values that are not NaN; NaN without any."""
    values = curve[~np.isnan(curve)]
    return float(values.mean()) if values.size else math.nan
