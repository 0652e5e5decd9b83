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

from faceswap_cli.errors import InputError
from faceswap_cli.metrics.catalogue import GROUPS, METRICS, Metric, Verdict

Curve = npt.NDArray[np.float64]
"""float64 (T,): a value a frame, NaN where there is none."""

FORMAT = 1
"""Version of evaluation.json."""
MOMENTS = 20
"""Worst moments shown."""
MOST_OF_ONE = 8
"""Of them, those that one metric may name."""
APART_S = 0.4
"""They are at least so far from each other, in a clip long enough: neighbours look alike."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One metric of one swap."""

    metric: Metric
    value: float | None
    """None: not available."""
    original: float | None = None
    """The same of the original footage, where that says something."""
    curve: Curve | None = None
    """By frame, for those that have a value in each."""
    missing: str = ""
    """Why there is no value."""

    @property
    def verdict(self) -> Verdict:
        """What to think of it."""
        return "" if self.value is None else self.metric.verdict(self.value)

    def shown(self) -> str:
        """Return the value as the table shows it."""
        return "n/a" if self.value is None else number(self.value)


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """One of the worst moments."""

    index: int
    """Of the frame."""
    time: float
    """Seconds."""
    metric: Metric
    """What is worst there."""
    value: float
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    """JPEG files by what they show: original, swapped, and the truth if there is one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How good a swap is."""

    swapped: str
    """Name of the file."""
    source: str
    identity: str
    """Name of the wanted person's set."""
    frames: int
    """Frames compared."""
    faces: int
    """Of them, frames with a face in the original."""
    times: Curve
    """When each frame is shown, seconds."""
    measures: Mapping[str, Measure]
    """By name, in the order they are shown."""
    moments: Sequence[Moment] = ()
    """The worst, worst first."""

    @property
    def values(self) -> dict[str, float]:
        """Every value there is, by name."""
        return {
            name: measure.value
            for name, measure in self.measures.items()
            if measure.value is not None
        }

    def numbers(self) -> dict[str, float | str | None]:
        """Return the values as JSON can hold them: an infinite one is the word `inf`."""
        return {name: _rounded(value) for name, value in self.values.items()}

    def rows(self) -> list[list[str]]:
        """Return the table for people: metric, value, the original's own, unit, verdict."""
        return [
            [
                measure.metric.title,
                measure.shown(),
                "" if measure.original is None else number(measure.original),
                "" if measure.value is None else measure.metric.unit,
                measure.verdict,
            ]
            for measure in self.measures.values()
        ]

    def reasons(self) -> list[str]:
        """Return why values are not available, a line for each reason."""
        names: dict[str, list[str]] = {}
        for name, measure in self.measures.items():
            if measure.value is None:
                names.setdefault(measure.missing, []).append(name)
        return [f"n/a: {', '.join(each)}: {reason}" for reason, each in names.items()]

    def to_json(self) -> str:
        """Return everything but the pictures as a JSON document."""
        document = {
            "format": FORMAT,
            "swapped": self.swapped,
            "source": self.source,
            "identity": self.identity,
            "frames": self.frames,
            "faces": self.faces,
            "metrics": {name: _described(one) for name, one in self.measures.items()},
            "worst_moments": [
                {
                    "frame": moment.index,
                    "time": round(moment.time, 3),
                    "metric": moment.metric.name,
                    "value": _rounded(moment.value),
                }
                for moment in self.moments
            ],
            "times": _listed(self.times),
            "curves": {
                name: _listed(one.curve)
                for name, one in self.measures.items()
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


def worst(measures: Mapping[str, Measure], times: Curve) -> list[tuple[int, Metric, float]]:
    """Return the worst frames: index, the metric that is bad there, and its value.

    Each metric's curve is measured by its own limits, so that they compare. No two frames are
    nearer to each other than `APART_S`, or than a short clip allows, and no metric names more than
    `MOST_OF_ONE`: what is bad all the time would hide everything else.
    """
    judged = [
        one
        for one in measures.values()
        if one.curve is not None and one.metric.good is not None and one.value is not None
    ]
    if not judged:
        return []
    excess = np.stack([_excesses(one) for one in judged])
    apart = min(APART_S, float(times[-1] - times[0]) / (2 * MOMENTS))
    found: list[tuple[int, Metric, float]] = []
    for place in np.argsort(-excess, axis=None, kind="stable"):
        row, index = (int(part) for part in np.unravel_index(place, excess.shape))
        one = judged[row]
        if excess[row, index] <= 0 or len(found) == MOMENTS:
            break
        is_near = any(abs(times[index] - times[other]) < apart for other, _, _ in found)
        if is_near or sum(metric is one.metric for _, metric, _ in found) == MOST_OF_ONE:
            continue
        assert one.curve is not None
        found.append((index, one.metric, float(one.curve[index])))
    return found


def _excesses(measure: Measure) -> Curve:
    """Return how far beyond good each frame is, 0 where there is no value."""
    assert measure.curve is not None
    return np.array(
        [measure.metric.excess(value) if math.isfinite(value) else 0.0 for value in measure.curve]
    )


def number(value: float) -> str:
    """Return a number with the digits that count."""
    if abs(value) >= 100 or value == round(value):
        return f"{value:,.0f}" if math.isfinite(value) else str(value)
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def clock(seconds: float) -> str:
    """Return a time code: minutes, seconds and hundredths."""
    hundredths = round(seconds * 100)
    return f"{hundredths // 6000}:{hundredths // 100 % 60:02d}.{hundredths % 100:02d}"


def _described(measure: Measure) -> dict[str, object]:
    """Return a measure as JSON holds it."""
    limits = {"good": measure.metric.good, "poor": measure.metric.poor}
    return {
        "value": _rounded(measure.value),
        "original": _rounded(measure.original),
        "unit": measure.metric.unit,
        "better": measure.metric.is_better,
        "verdict": measure.verdict,
        **({} if measure.metric.good is None else limits),
        **({"missing": measure.missing} if measure.missing else {}),
    }


def _rounded(value: float | None) -> float | str | None:
    """Return a value with six digits; JSON knows no infinity, a PSNR of equal pictures does."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _listed(curve: Curve) -> list[float | str | None]:
    """Return a curve as JSON holds it."""
    return [_rounded(float(value)) for value in curve]


__all__ = ["GROUPS", "METRICS", "Evaluation", "Measure", "Moment", "read_values", "worst"]
