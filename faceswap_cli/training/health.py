"""When training has gone wrong: losses and held-out faces that no healthy run shows.

Knows the signs; refuses to know the cure. A sign is a text that says what was seen; an empty text
means that all is well.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import median

from faceswap_cli.training.validation import ValidationResult

EXPLOSION_FACTOR = 20.0
"""A loss this many times its usual size has exploded."""
MIN_USUAL_LOSS = 0.05
"""Usual sizes below this count as this: small losses may jump."""
LOSS_HISTORY = 30
"""Readings that make up what is usual."""
MIN_READINGS = 5
"""Readings before anything is usual."""
DEAD_LOSS = 1e-3
"""A group whose loss is this near to nought gives no gradient worth the name."""
DEAD_LOSS_RANGE = 1e-5
"""A group whose loss changes by less than this from batch to batch does not look at them."""
DEAD_GROUP_READINGS = 15
"""So many readings in a row, and one player of a game has won it."""
COLLAPSE_FRACTION = 0.2
"""A swap that keeps less than this part of the variety or change it had has lost it."""
LEARNED_DIVERSITY = 0.3
"""Variety, as a part of the faces' own, below which a network has not learnt any yet."""
LEARNED_CHANGE = 0.03
"""Change, as a part of the full range, below which a network has not learnt to swap yet."""
INVERTED_CORRELATION = -0.3
"""Correlation of faces with what is drawn of them below which colours are inverted."""
LEARNED_CORRELATION = 0.3
"""Correlation below which a network has not learnt yet which way round colours are."""
ERROR_EXPLOSION_FACTOR = 3.0
"""A held-out error this many times the best has exploded."""
MIN_BEST_ERROR = 0.03
"""Best errors below this count as this."""


class LossMonitor:
    """Remembers what losses are usual."""

    def __init__(self) -> None:
        self.history: dict[str, deque[float]] = {}

    def check(self, losses: Mapping[str, float]) -> str:
        """Say what is wrong with one reading of the losses, and remember it when nothing is."""
        for name, value in losses.items():
            if not isfinite(value):
                return f"the loss {name} is not a number any more ({value})"
            before = self.history.get(name, ())
            usual = max(median(before), MIN_USUAL_LOSS) if len(before) >= MIN_READINGS else None
            if usual is not None and abs(value) > EXPLOSION_FACTOR * usual:
                return f"the loss {name} has exploded ({value:.3g}, usually {usual:.3g})"
        for name, value in losses.items():
            self.history.setdefault(name, deque(maxlen=LOSS_HISTORY)).append(abs(value))
        return ""


class DeadGroupMonitor:
    """Remembers whether groups of parameters still have something to learn: a dead critic has not.

    It is dead when it has seen through everything, or when it says the same of whatever it is
    shown: then its loss is nought, or is the same for every batch.
    """

    def __init__(self) -> None:
        self.readings: dict[str, deque[float]] = {}

    def check(self, group_losses: Mapping[str, float]) -> str:
        """Say which group has learnt nothing for long, from one reading of what each minimises."""
        for group, value in group_losses.items():
            last = self.readings.setdefault(group, deque(maxlen=DEAD_GROUP_READINGS))
            last.append(value)
            if len(last) < DEAD_GROUP_READINGS:
                continue
            if max(map(abs, last)) < DEAD_LOSS:
                return f"{group} has nothing left to learn from (its loss is {value:.2g})"
            if max(last) - min(last) < DEAD_LOSS_RANGE:
                return f"{group} says the same whatever it is shown (its loss stays {value:.3g})"
        return ""


@dataclass(frozen=True, kw_only=True)
class HealthBaseline:
    """The best that held-out faces have shown so far."""

    diversity: float = 0.0
    """Largest variety of swaps: see `Score.diversity`."""
    change: float = 0.0
    """Largest change by a swap: see `Score.change`."""
    likeness: float = 0.0
    """Largest correlation of faces with their reconstructions: see `Score.likeness`."""
    swap_likeness: float = 0.0
    """Largest correlation of faces with their swaps: see `Score.swap_correlation`."""
    error: float | None = None
    """Smallest held-out error."""

    def update(self, result: ValidationResult) -> "HealthBaseline":
        """Return the vitals after one more healthy score."""
        return HealthBaseline(
            diversity=max(self.diversity, result.swap_diversity),
            change=max(self.change, result.swap_change),
            likeness=max(self.likeness, result.recon_correlation),
            swap_likeness=max(self.swap_likeness, result.swap_correlation),
            error=result.error if self.error is None else min(self.error, result.error),
        )

    def check(self, result: ValidationResult) -> str:
        """Say what is wrong with a score, in the light of better ones before it.

        Variety, change and the right way round count as lost only after they were there: every
        network begins by drawing the same face whatever it is shown.
        """
        if not isfinite(result.error):
            return "held-out faces come out as no numbers at all"
        if self.likeness > LEARNED_CORRELATION and result.recon_correlation < INVERTED_CORRELATION:
            return f"held-out faces come out inverted (correlation {result.recon_correlation:.2f})"
        if (
            self.swap_likeness > LEARNED_CORRELATION
            and result.swap_correlation < INVERTED_CORRELATION
        ):
            return f"swaps come out inverted (correlation {result.swap_correlation:.2f})"
        if (
            self.diversity > LEARNED_DIVERSITY
            and result.swap_diversity < COLLAPSE_FRACTION * self.diversity
        ):
            return (
                "different faces come out alike "
                f"(variety {result.swap_diversity:.2f}, before {self.diversity:.2f})"
            )
        if self.change > LEARNED_CHANGE and result.swap_change < COLLAPSE_FRACTION * self.change:
            return (
                "swaps have become copies of their input "
                f"(change {result.swap_change:.3f}, before {self.change:.3f})"
            )
        if self.error is not None and result.error > ERROR_EXPLOSION_FACTOR * max(
            self.error, MIN_BEST_ERROR
        ):
            return f"the held-out error has exploded ({result.error:.3f}, before {self.error:.3f})"
        return ""
