"""What an evaluation came to: a value and a curve for each metric, and the worst moments.

It holds numbers and can say them; how they were measured is the stage's business.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.evaluation.metrics.registry import GROUPS, METRICS, Metric, Rating

Curve = npt.NDArray[np.float64]
"""float64 (T,): a value a frame, NaN where there is none."""

FORMAT = 1
"""Version of evaluation.json."""
MAX_WORST_FRAMES = 20
"""Worst moments shown."""
MAX_PER_METRIC = 8
"""Of them, those that one metric may name."""
MIN_GAP_S = 0.4
"""They are at least so far from each other, in a clip long enough: neighbours look alike."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricResult:
    """One metric of one swap."""

    metric: Metric
    value: float | None
    """None: not available."""
    original: float | None = None
    """The same of the original footage, where that says something."""
    curve: Curve | None = None
    """By frame, for those that have a value in each."""
    missing_reason: str = ""
    """Why there is no value."""

    @property
    def rating(self) -> Rating:
        """What to think of it."""
        return "" if self.value is None else self.metric.rate(self.value)

    def format_value(self) -> str:
        """Return the value as the table shows it."""
        return "n/a" if self.value is None else format_number(self.value)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorstFrame:
    """One of the worst moments."""

    index: int
    """Of the frame."""
    time: float
    """Seconds."""
    metric: Metric
    """What is worst there."""
    value: float
    images: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG files by what they show: original, swapped, and the truth if there is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How good a swap is."""

    swapped: str
    """Name of the file."""
    source: str
    identity: str
    """Name of the wanted person's set."""
    frame_count: int
    """Frames compared."""
    face_count: int
    """Of them, frames with a face in the original."""
    times: Curve
    """When each frame is shown, seconds."""
    results: Mapping[str, MetricResult]
    """By name, in the order they are shown."""
    worst_frames: Sequence[WorstFrame] = ()
    """The worst, worst first."""

    @property
    def values(self) -> dict[str, float]:
        """Every value there is, by name."""
        return {
            name: measure.value
            for name, measure in self.results.items()
            if measure.value is not None
        }

    def json_values(self) -> dict[str, float | str | None]:
        """Return the values as JSON can hold them: an infinite one is the word `inf`."""
        return {name: _round_value(value) for name, value in self.values.items()}

    def rows(self) -> list[list[str]]:
        """Return the table for people: metric, value, the original's own, unit, verdict."""
        return [
            [
                measure.metric.title,
                measure.format_value(),
                "" if measure.original is None else format_number(measure.original),
                "" if measure.value is None else measure.metric.unit,
                measure.rating,
            ]
            for measure in self.results.values()
        ]

    def missing_reasons(self) -> list[str]:
        """Return why values are not available, a line for each reason."""
        names: dict[str, list[str]] = {}
        for name, measure in self.results.items():
            if measure.value is None:
                names.setdefault(measure.missing_reason, []).append(name)
        return [f"n/a: {', '.join(each)}: {reason}" for reason, each in names.items()]

    def to_json(self) -> str:
        """Return everything but the pictures as a JSON document."""
        document = {
            "format": FORMAT,
            "swapped": self.swapped,
            "source": self.source,
            "identity": self.identity,
            "frames": self.frame_count,
            "faces": self.face_count,
            "metrics": {name: _result_to_dict(one) for name, one in self.results.items()},
            "worst_moments": [
                {
                    "frame": moment.index,
                    "time": round(moment.time, 3),
                    "metric": moment.metric.name,
                    "value": _round_value(moment.value),
                }
                for moment in self.worst_frames
            ],
            "times": _curve_to_list(self.times),
            "curves": {
                name: _curve_to_list(one.curve)
                for name, one in self.results.items()
                if one.curve is not None
            },
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"


def read_values(path: Path) -> dict[str, float]:
    """Return the values in an evaluation.json, by name.

    Raises:
        InputError: It cannot be read, or is something else.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        metrics = document["metrics"].items()
        return {name: float(one["value"]) for name, one in metrics if one["value"] is not None}
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not an evaluation", hint="make it again: faceswap evaluate"
        ) from error


def find_worst_frames(
    results: Mapping[str, MetricResult], times: Curve
) -> list[tuple[int, Metric, float]]:
    """Return the worst frames: index, the metric that is bad there, and its value.

    Each metric's curve is measured by its own limits, so that they compare. No two frames are
    nearer to each other than `MIN_GAP_S`, or than a short clip allows, and no metric names more than
    `MAX_PER_METRIC`: what is bad all the time would hide everything else.
    """
    judged = [
        one
        for one in results.values()
        if one.curve is not None and one.metric.good is not None and one.value is not None
    ]
    if not judged:
        return []
    excess = np.stack([_compute_severities(one) for one in judged])
    apart = min(MIN_GAP_S, float(times[-1] - times[0]) / (2 * MAX_WORST_FRAMES))
    found: list[tuple[int, Metric, float]] = []
    for place in np.argsort(-excess, axis=None, kind="stable"):
        row, index = (int(part) for part in np.unravel_index(place, excess.shape))
        one = judged[row]
        if excess[row, index] <= 0 or len(found) == MAX_WORST_FRAMES:
            break
        is_near = any(abs(times[index] - times[other]) < apart for other, _, _ in found)
        if is_near or sum(metric is one.metric for _, metric, _ in found) == MAX_PER_METRIC:
            continue
        assert one.curve is not None
        found.append((index, one.metric, float(one.curve[index])))
    return found


def _compute_severities(result: MetricResult) -> Curve:
    """Return how far beyond good each frame is, 0 where there is no value."""
    assert result.curve is not None
    return np.array(
        [result.metric.severity(value) if math.isfinite(value) else 0.0 for value in result.curve]
    )


def format_number(value: float) -> str:
    """Return a number with the digits that count."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def format_time(seconds: float) -> str:
    """Return a time code: minutes, seconds and hundredths."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _result_to_dict(result: MetricResult) -> dict[str, object]:
    """Return a measure as JSON holds it."""
    limits = {"good": result.metric.good, "poor": result.metric.poor}
    return {
        "value": _round_value(result.value),
        "original": _round_value(result.original),
        "unit": result.metric.unit,
        "better": result.metric.better,
        "verdict": result.rating,
        **({} if result.metric.good is None else limits),
        **({"missing": result.missing_reason} if result.missing_reason else {}),
    }


def _round_value(value: float | None) -> float | str | None:
    """Return a value with six digits; JSON knows no infinity, a PSNR of equal pictures does."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _curve_to_list(curve: Curve) -> list[float | str | None]:
    """Return a curve as JSON holds it."""
    return [_round_value(float(value)) for value in curve]


__all__ = [
    "GROUPS",
    "METRICS",
    "Evaluation",
    "MetricResult",
    "WorstFrame",
    "find_worst_frames",
    "read_values",
]
