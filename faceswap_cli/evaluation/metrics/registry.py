"""The metrics of a swap: names, units and limits. The entry point is `METRICS`.

Other packages add theirs by entry points of the group `faceswap.metrics`, each a `CropMetric`.
Formulas and sources are in docs/reference/metrics.md under the same names.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint
from types import MappingProxyType
from typing import Literal

from faceswap_cli.core.errors import translate_plugin_errors
from faceswap_cli.core.types import Image, Mask
from faceswap_models import plugins
from faceswap_models.plugins import PluginError, describe_failure, find_plugins, load_plugin

Rating = Literal["good", "fair", "poor", ""]
Better = Literal["higher", "lower", "near one"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric of a swap."""

    name: str
    """Key in files and in `--json`; stays the same over versions."""
    title: str
    """Name in tables."""
    group: str
    unit: str
    better: Better
    good: float | None = None
    """Limit of good values; for `near one` the largest factor away from 1."""
    poor: float | None = None
    """Limit of poor values; without limits a metric is not rated."""

    def badness(self, value: float) -> float:
        """Return a number that is lower for better values."""
        if self.better == "near one":
            return max(value, 1 / max(value, 1e-6))
        return value if self.better == "lower" else -value

    def severity(self, value: float) -> float:
        """Return how bad a value is: 0 at the limit of good, 1 at the limit of poor.

        Raises:
            TypeError: The metric has no limits.
        """
        if self.good is None or self.poor is None:
            raise TypeError(f"{self.name} has no limits")
        if self.better == "near one":
            value = self.badness(value)
        return (value - self.good) / (self.poor - self.good)

    def rate(self, value: float) -> Rating:
        """Return the rating of a value; empty without limits."""
        if self.good is None or self.poor is None:
            return ""
        severity = self.severity(value)
        if severity <= 0:
            return "good"
        return "fair" if severity < 1 else "poor"


@dataclass(frozen=True, kw_only=True)
class CropMetric:
    """A metric of another package, measured on crops of the face, frame by frame."""

    metric: Metric
    """Its description; the group is one of `GROUPS`."""
    measure: Callable[[Image, Image, Mask], float]
    """`measure(swapped, original, mask)`: the value of a frame, NaN if it has none, of two aligned
    crops, uint8 (S, S, 3), and of the face's area in them, float32 (S, S) in 0 to 1. The value of a
    clip is the mean over its frames; with the unit `x original` the geometric one."""


def _identity_metrics(model: str, title: str, *, limits: tuple[float, float]) -> tuple[Metric, ...]:
    """Return the four metrics of one face recognition model."""
    return (
        _metric(
            "identity",
            f"identity_{model}",
            f"similarity to the target, {title}",
            "cosine",
            *limits,
            better="higher",
        ),
        _metric(
            "identity",
            f"original_similarity_{model}",
            f"similarity to the original, {title}",
            "cosine",
        ),
        _metric(
            "identity",
            f"identity_margin_{model}",
            f"identity margin, {title}",
            "cosine",
            0.0,
            -0.02,
            better="higher",
        ),
        _metric(
            "identity",
            f"id_retrieval_{model}",
            f"ID retrieval, {title}",
            "%",
            95,
            80,
            better="higher",
        ),
    )


def _metric(
    group: str,
    name: str,
    title: str,
    unit: str,
    good: float | None = None,
    poor: float | None = None,
    *,
    better: Better = "lower",
) -> Metric:
    return Metric(
        name=name,
        title=title,
        group=group,
        unit=unit,
        better=better,
        good=good,
        poor=poor,
    )


_METRICS = (
    *_identity_metrics("dlib", "dlib", limits=(0.94, 0.91)),
    *_identity_metrics("sface", "SFace", limits=(0.55, 0.36)),
    _metric("motion", "pose", "pose error", "degrees", 5, 9),
    _metric("motion", "yaw", "yaw error", "degrees", 3, 5),
    _metric("motion", "pitch", "pitch error", "degrees", 3, 5),
    _metric("motion", "roll", "roll error", "degrees", 2, 5),
    _metric("motion", "pose_3ddfa", "pose error, 3DDFA-V2", "degrees", 6, 11),
    _metric("motion", "expression", "expression error", "0 to 1"),
    _metric("motion", "expression_motion", "expression motion error", "0 to 1", 0.035, 0.045),
    _metric("motion", "eyes", "eye openness error", "of width", 0.022, 0.035),
    _metric("motion", "mouth", "mouth openness error", "of width", 0.045, 0.10),
    _metric("motion", "teeth", "teeth in one video only", "%", 5, 15),
    _metric("motion", "gaze", "gaze error", "degrees", 4, 8),
    _metric("stability", "jitter", "landmark jitter", "x original", 1.25, 2),
    _metric("stability", "flicker", "flicker, face over surroundings", "x original", 1.4, 2),
    _metric("artifacts", "seam_gradient", "gradient along the seam", "delta E / px", 0.4, 0.55),
    _metric("artifacts", "seam_color", "color step across the seam", "delta E", 4, 8),
    _metric("artifacts", "color_offset", "color offset of the face", "delta E", 4, 8),
    _metric("artifacts", "sharpness", "sharpness", "x original", 1.45, 2, better="near one"),
    _metric("artifacts", "painted_over", "painted over what is in front", "%", 15, 50),
    _metric("coverage", "coverage", "faces swapped", "%", 99, 95, better="higher"),
    _metric("coverage", "unswapped", "faces not swapped", "frames", 0, 1),
    _metric("coverage", "undetected", "faces no longer detected", "frames", 0, 1),
    _metric("reconstruction", "psnr", "PSNR in the face", "dB", better="higher"),
    _metric("reconstruction", "ssim", "SSIM in the face", "", better="higher"),
    _metric("reconstruction", "lpips", "LPIPS in the face, AlexNet", ""),
)


@cache
def crop_metrics() -> Mapping[str, CropMetric]:
    """Return the metrics of other packages, by name.

    Raises:
        ConfigurationError: One of them cannot be used.
    """
    with translate_plugin_errors():
        metrics = [_load_metric(one) for one in find_plugins(plugins.METRICS).values()]
    return {one.metric.name: one for one in metrics}


def _load_metric(entry_point: EntryPoint) -> CropMetric:
    """Import a metric of another package.

    Raises:
        PluginError: It is none, or has a name or a group that it cannot have.
    """
    found = load_plugin(entry_point)
    if not isinstance(found, CropMetric):
        raise PluginError(describe_failure(entry_point, "it is no CropMetric"))
    if found.metric.name != entry_point.name or entry_point.name in _OWN_METRICS:
        raise PluginError(describe_failure(entry_point, "its name is not its own"))
    if found.metric.group not in GROUPS:
        groups = ", ".join(GROUPS)
        raise PluginError(describe_failure(entry_point, f"its group is none of {groups}"))
    return found


class _Metrics(Mapping[str, Metric]):
    """Our metrics, then those of other packages, which are imported when they are first used."""

    def __getitem__(self, name: str) -> Metric:
        return _OWN_METRICS[name] if name in _OWN_METRICS else crop_metrics()[name].metric

    def __iter__(self) -> Iterator[str]:
        return iter((*_OWN_METRICS, *crop_metrics()))

    def __len__(self) -> int:
        return len(_OWN_METRICS) + len(crop_metrics())


_OWN_METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _METRICS}
METRICS: Mapping[str, Metric] = _Metrics()
"""Every metric by name, in the order of tables."""

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "Identity",
        "motion": "Motion fidelity",
        "stability": "Temporal stability",
        "artifacts": "Seam, color, sharpness",
        "coverage": "Coverage",
        "reconstruction": "Against the true swap",
    }
)
"""Titles of the groups."""

_OLD_NAMES: Mapping[str, str] = MappingProxyType(
    {
        **{
            f"{old}_{model}": f"{new}_{model}"
            for old, new in (
                ("residue", "original_similarity"),
                ("margin", "identity_margin"),
                ("retrieval", "id_retrieval"),
            )
            for model in ("dlib", "sface")
        },
        "seam_colour": "seam_color",
        "colour_gap": "color_offset",
        "lost": "undetected",
    }
)
"""Names in files of evaluation format 1 and in old results of the benchmark -> current names."""


def current_name(name: str) -> str:
    """Return the current name of a metric that is read from a file, which may be an old one."""
    return _OLD_NAMES.get(name, name)
