"""Results of an evaluation: a value and a curve for each metric, and the worst frames.

`Evaluation` holds them and turns them into rows and JSON; `read_values` reads evaluation.json.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import DamagedFileError, read_document
from faceswap_cli.evaluation.metrics.registry import Metric, Rating, current_name

Curve = npt.NDArray[np.float64]
"""float64 (T,): one value per frame, NaN where it is missing."""

FORMAT = 2
"""Version of evaluation.json; `read_values` reads all versions."""
MAX_WORST_FRAMES = 20
"""Number of worst frames."""
MAX_PER_METRIC = 8
"""Number of worst frames of one metric."""
MIN_GAP_S = 0.4
"""Least distance of two worst frames, in clips that are long enough: neighbors are similar."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MetricResult:
    """Value and curve of one metric."""

    metric: Metric
    value: float | None
    """None: missing."""
    original: float | None = None
    """The metric of the original video, for identity metrics."""
    curve: Curve | None = None
    """Values by frame, for metrics of single frames."""
    missing_reason: str = ""
    """Why `value` is None."""

    @property
    def rating(self) -> Rating:
        """Rating of the value; empty if it is missing or the metric has no limits."""
        return "" if self.value is None else self.metric.rate(self.value)

    def format_value(self) -> str:
        """Return the value for a table."""
        return "n/a" if self.value is None else format_number(self.value)


@dataclass(frozen=True, kw_only=True, eq=False)
class WorstFrame:
    """One of the worst frames."""

    index: int
    time: float
    """Seconds."""
    metric: Metric
    """The metric whose value is bad."""
    value: float
    images: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG files by name: original, swapped, and truth if it is known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """Results of one evaluation."""

    swapped: str
    """Name of the swapped video."""
    source: str
    """Name of the original video."""
    identity: str
    """Name of the target identity's set."""
    frame_count: int
    """Frames evaluated."""
    face_count: int
    """Frames with a face in the original."""
    times: Curve
    """Time of each frame, seconds."""
    results: Mapping[str, MetricResult]
    """By metric, in the order of tables."""
    worst_frames: Sequence[WorstFrame] = ()
    """Worst first."""

    @property
    def values(self) -> dict[str, float]:
        """All values that are not missing, by metric."""
        return {
            name: result.value for name, result in self.results.items() if result.value is not None
        }

    def json_values(self) -> dict[str, float | str | None]:
        """Return the values for JSON: an infinite value becomes the string `inf`."""
        return {name: _round_value(value) for name, value in self.values.items()}

    def rows(self) -> list[list[str]]:
        """Return the rows of the table: metric, value, value of the original, unit, rating."""
        return [
            [
                result.metric.title,
                result.format_value(),
                "" if result.original is None else format_number(result.original),
                "" if result.value is None else result.metric.unit,
                result.rating,
            ]
            for result in self.results.values()
        ]

    def missing_reasons(self) -> list[str]:
        """Return why values are missing, one line per reason."""
        names: dict[str, list[str]] = {}
        for name, result in self.results.items():
            if result.value is None:
                names.setdefault(result.missing_reason, []).append(name)
        return [f"n/a: {', '.join(each)}: {reason}" for reason, each in names.items()]

    def to_dict(self) -> dict[str, object]:
        """Return everything but the images, for JSON."""
        return {
            "format": FORMAT,
            "swapped": self.swapped,
            "source": self.source,
            "identity": self.identity,
            "frames": self.frame_count,
            "faces": self.face_count,
            "metrics": {name: _result_to_dict(result) for name, result in self.results.items()},
            "worst_frames": [
                {
                    "frame": frame.index,
                    "time": round(frame.time, 3),
                    "metric": frame.metric.name,
                    "value": _round_value(frame.value),
                }
                for frame in self.worst_frames
            ],
            "times": _curve_to_list(self.times),
            "curves": {
                name: _curve_to_list(result.curve)
                for name, result in self.results.items()
                if result.curve is not None
            },
        }


_AGAIN_HINT = "make it again: faceswap evaluate"


def read_values(path: Path) -> dict[str, float]:
    """Return the values in an evaluation.json, by metric.

    Raises:
        InputError: The file cannot be read, has changed since it was written, or is no evaluation.
    """
    try:
        metrics = read_document(path)["metrics"].items()
        return {
            current_name(name): float(result["value"])
            for name, result in metrics
            if result["value"] is not None
        }
    except FileNotFoundError as error:
        raise InputError(f"there is no {path}", hint=_AGAIN_HINT) from error
    except DamagedFileError as error:
        raise DamagedFileError(path, hint=_AGAIN_HINT) from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is not an evaluation", hint=_AGAIN_HINT) from error


def find_worst_frames(
    results: Mapping[str, MetricResult], times: Curve
) -> list[tuple[int, Metric, float]]:
    """Return the worst frames: index, the metric that is bad there, and its value.

    Metrics are compared by their severities. No two frames are nearer to each other than
    `MIN_GAP_S`, or than a short clip allows, and no metric names more than `MAX_PER_METRIC`: a
    metric that is bad throughout would hide everything else.
    """
    rated = [
        result
        for result in results.values()
        if result.curve is not None and result.metric.good is not None and result.value is not None
    ]
    if not rated:
        return []
    severities = np.stack([_compute_severities(result) for result in rated])
    gap_s = min(MIN_GAP_S, float(times[-1] - times[0]) / (2 * MAX_WORST_FRAMES))
    worst: list[tuple[int, Metric, float]] = []
    for flat_index in np.argsort(-severities, axis=None, kind="stable"):
        row, index = (int(part) for part in np.unravel_index(flat_index, severities.shape))
        result = rated[row]
        if severities[row, index] <= 0 or len(worst) == MAX_WORST_FRAMES:
            break
        is_near = any(abs(times[index] - times[other]) < gap_s for other, _, _ in worst)
        if is_near or sum(metric is result.metric for _, metric, _ in worst) == MAX_PER_METRIC:
            continue
        assert result.curve is not None
        worst.append((index, result.metric, float(result.curve[index])))
    return worst


def _compute_severities(result: MetricResult) -> Curve:
    """Return the severity of each frame, 0 where there is no value."""
    assert result.curve is not None
    return np.array(
        [result.metric.severity(value) if math.isfinite(value) else 0.0 for value in result.curve]
    )


def format_number(value: float) -> str:
    """Return a number for people: whole from 100 on, with two decimals from 1 on, else three."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def format_time(seconds: float) -> str:
    """Return a time code: minutes, seconds, hundredths."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _result_to_dict(result: MetricResult) -> dict[str, object]:
    """Return a result for JSON."""
    limits = {"good": result.metric.good, "poor": result.metric.poor}
    return {
        "value": _round_value(result.value),
        "original": _round_value(result.original),
        "unit": result.metric.unit,
        "better": result.metric.better,
        "rating": result.rating,
        **({} if result.metric.good is None else limits),
        **({"missing": result.missing_reason} if result.missing_reason else {}),
    }


def _round_value(value: float | None) -> float | str | None:
    """Return a value for JSON, with six digits; infinity, a PSNR of equal images, as a string."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _curve_to_list(curve: Curve) -> list[float | str | None]:
    """Return a curve for JSON."""
    return [_round_value(float(value)) for value in curve]
