"""What is measured of a swap: each metric's name, unit and limits; nothing of how.

Formulas and sources stand in docs/metrics.md under the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Rating = Literal["good", "fair", "poor", ""]
Better = Literal["higher", "lower", "near one"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a swap."""

    name: str
    """What programs call it; stays the same over versions."""
    title: str
    """What people call it."""
    group: str
    unit: str
    better: Better
    good: float | None = None
    """Limit of what is good; for `near one` the largest factor away from 1."""
    poor: float | None = None
    """Limit of what is poor; without limits nothing is judged."""

    def severity(self, value: float) -> float:
        """Return how bad a value is: 0 at the limit of good, 1 at the limit of poor.

        Raises:
            TypeError: The metric has no limits.
        """
        if self.good is None or self.poor is None:
            raise TypeError(f"{self.name} has no limits")
        if self.better == "near one":
            value = max(value, 1 / max(value, 1e-6))
        return (value - self.good) / (self.poor - self.good)

    def rate(self, value: float) -> Rating:
        """Return what to think of a value."""
        if self.good is None or self.poor is None:
            return ""
        excess = self.severity(value)
        if excess <= 0:
            return "good"
        return "fair" if excess < 1 else "poor"


def _identity_metrics(model: str, title: str, *, limits: tuple[float, float]) -> tuple[Metric, ...]:
    """Return the four numbers of one network that tells people apart."""
    return (
        Metric(
            name=f"identity_{model}",
            title=f"likeness to the wanted person, {title}",
            group="identity",
            unit="cosine",
            better="higher",
            good=limits[0],
            poor=limits[1],
        ),
        Metric(
            name=f"residue_{model}",
            title=f"likeness to the original person, {title}",
            group="identity",
            unit="cosine",
            better="lower",
        ),
        Metric(
            name=f"margin_{model}",
            title=f"wanted over original, {title}",
            group="identity",
            unit="cosine",
            better="higher",
            good=0.0,
            poor=-0.02,
        ),
        Metric(
            name=f"retrieval_{model}",
            title=f"frames nearest to the wanted person, {title}",
            group="identity",
            unit="%",
            better="higher",
            good=95,
            poor=80,
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
    """Return a metric."""
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
    _metric("following", "pose", "pose error", "degrees", 5, 9),
    _metric("following", "yaw", "yaw error", "degrees", 3, 5),
    _metric("following", "pitch", "pitch error", "degrees", 3, 5),
    _metric("following", "roll", "roll error", "degrees", 2, 5),
    _metric("following", "pose_3ddfa", "pose error, 3DDFA-V2", "degrees", 6, 11),
    _metric("following", "expression", "expression error, 52 coefficients", "0 to 1"),
    _metric(
        "following",
        "expression_motion",
        "the same without its constant part",
        "0 to 1",
        0.035,
        0.045,
    ),
    _metric("following", "eyes", "eyes' openness", "of width", 0.022, 0.035),
    _metric("following", "mouth", "mouth's openness", "of width", 0.045, 0.10),
    _metric("following", "gaze", "gaze error", "degrees", 4, 8),
    _metric("stillness", "jitter", "landmark jitter", "x original", 1.25, 2),
    _metric("stillness", "flicker", "flicker, face over surroundings", "x original", 1.4, 2),
    _metric("surface", "seam_gradient", "edge along the border", "delta E / px", 0.4, 0.55),
    _metric("surface", "seam_colour", "colour step at the border", "delta E", 4, 8),
    _metric("surface", "colour_gap", "colour of the face against its rim", "delta E", 4, 8),
    _metric("surface", "sharpness", "detail in the face", "x original", 1.45, 2, better="near one"),
    _metric("coverage", "coverage", "faces swapped", "%", 99, 95, better="higher"),
    _metric("coverage", "unswapped", "faces passed through unswapped", "frames", 0, 1),
    _metric("coverage", "lost", "faces no longer found", "frames", 0, 1),
    _metric("truth", "psnr", "PSNR in the face", "dB", better="higher"),
    _metric("truth", "ssim", "SSIM in the face", "", better="higher"),
    _metric("truth", "lpips", "LPIPS in the face, AlexNet", ""),
)

METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _METRICS})
"""Every metric by name, in the order they are shown."""

GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "identity": "Who it is",
        "following": "Following the performance",
        "stillness": "Stillness",
        "surface": "Seam, colour, sharpness",
        "coverage": "Coverage",
        "truth": "Against the true swap",
    }
)
"""What a group is called."""
