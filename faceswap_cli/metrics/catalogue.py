"""What is measured of a swap: each metric's name, unit and limits; nothing of how.

Formulas and sources stand in docs/metrics.md under the same names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Verdict = Literal["good", "fair", "poor", ""]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a swap."""

    name: str
    """What programs call it; stays the same over versions."""
    title: str
    """What people call it."""
    group: str
    unit: str
    is_better: Literal["higher", "lower", "near one"]
    good: float | None = None
    """Limit of what is good; for `near one` the largest factor away from 1."""
    poor: float | None = None
    """Limit of what is poor; without limits nothing is judged."""

    def excess(self, value: float) -> float:
        """Return how bad a value is: 0 at the limit of good, 1 at the limit of poor.

        Raises:
            TypeError: The metric has no limits.
        """
        if self.good is None or self.poor is None:
            raise TypeError(f"{self.name} has no limits")
        if self.is_better == "near one":
            value = max(value, 1 / max(value, 1e-6))
        return (value - self.good) / (self.poor - self.good)

    def verdict(self, value: float) -> Verdict:
        """Return what to think of a value."""
        if self.good is None or self.poor is None:
            return ""
        excess = self.excess(value)
        if excess <= 0:
            return "good"
        return "fair" if excess < 1 else "poor"


def _identity(judge: str, title: str, *, likeness: tuple[float, float]) -> tuple[Metric, ...]:
    """Return the four numbers of one network that tells people apart."""
    return (
        Metric(
            name=f"identity_{judge}",
            title=f"likeness to the wanted person, {title}",
            group="identity",
            unit="cosine",
            is_better="higher",
            good=likeness[0],
            poor=likeness[1],
        ),
        Metric(
            name=f"residue_{judge}",
            title=f"likeness to the original person, {title}",
            group="identity",
            unit="cosine",
            is_better="lower",
        ),
        Metric(
            name=f"margin_{judge}",
            title=f"wanted over original, {title}",
            group="identity",
            unit="cosine",
            is_better="higher",
            good=0.0,
            poor=-0.02,
        ),
        Metric(
            name=f"retrieval_{judge}",
            title=f"frames nearest to the wanted person, {title}",
            group="identity",
            unit="%",
            is_better="higher",
            good=95,
            poor=80,
        ),
    )


def _metrics() -> tuple[Metric, ...]:
    """Return all metrics in the order they are shown."""

    def error(
        name: str, title: str, unit: str, good: float | None = None, poor: float | None = None
    ) -> Metric:
        return Metric(
            name=name,
            title=title,
            group="following",
            unit=unit,
            is_better="lower",
            good=good,
            poor=poor,
        )

    def against_truth(name: str, title: str, unit: str, *, falls: bool = False) -> Metric:
        better: Literal["higher", "lower"] = "lower" if falls else "higher"
        return Metric(name=name, title=title, group="truth", unit=unit, is_better=better)

    def surface(
        name: str,
        title: str,
        unit: str,
        is_better: Literal["higher", "lower", "near one"],
        limits: tuple[float, float],
        group: str = "surface",
    ) -> Metric:
        return Metric(
            name=name,
            title=title,
            group=group,
            unit=unit,
            is_better=is_better,
            good=limits[0],
            poor=limits[1],
        )

    return (
        *_identity("dlib", "dlib", likeness=(0.94, 0.91)),
        *_identity("sface", "SFace", likeness=(0.55, 0.36)),
        error("pose", "pose error", "degrees", 5, 9),
        error("yaw", "yaw error", "degrees", 3, 5),
        error("pitch", "pitch error", "degrees", 3, 5),
        error("roll", "roll error", "degrees", 2, 5),
        error("pose_3ddfa", "pose error, 3DDFA-V2", "degrees", 6, 11),
        error("expression", "expression error, 52 coefficients", "0 to 1"),
        error("expression_motion", "the same without its constant part", "0 to 1", 0.035, 0.055),
        error("eyes", "eyes' openness", "of width", 0.022, 0.035),
        error("mouth", "mouth's openness", "of width", 0.045, 0.10),
        error("gaze", "gaze error", "degrees", 4, 8),
        surface("jitter", "landmark jitter", "x original", "lower", (1.25, 2), "stillness"),
        surface(
            "flicker",
            "flicker, face over surroundings",
            "x original",
            "lower",
            (1.4, 2),
            "stillness",
        ),
        surface(
            "seam_gradient", "edge along the mask's border", "x original", "lower", (1.35, 1.6)
        ),
        surface("seam_colour", "colour step at the border", "delta E", "lower", (4, 8)),
        surface("colour_gap", "colour of face against its rim", "delta E", "lower", (5, 9)),
        surface("sharpness", "detail in the face", "x original", "near one", (2.5, 5)),
        surface("coverage", "faces swapped", "%", "higher", (99, 95), "coverage"),
        surface(
            "unswapped", "faces passed through unswapped", "frames", "lower", (0, 1), "coverage"
        ),
        surface("lost", "faces no longer found", "frames", "lower", (0, 1), "coverage"),
        against_truth("psnr", "PSNR in the face", "dB"),
        against_truth("ssim", "SSIM in the face", ""),
        against_truth("lpips", "LPIPS in the face, AlexNet", "", falls=True),
    )


METRICS: Mapping[str, Metric] = MappingProxyType({metric.name: metric for metric in _metrics()})
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
