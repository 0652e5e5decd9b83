"""When training has gone wrong: losses and held-out faces that no healthy run shows.

Knows the signs; refuses to know the cure. A sign is a text that says what was seen; an empty text
means that all is well.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from statistics import median

from faceswap_cli.learning.score import Score

EXPLODED = 20.0
"""A loss this many times its usual size has exploded."""
SMALL_LOSS = 0.05
"""Usual sizes below this count as this: small losses may jump."""
REMEMBERED = 30
"""Readings that make up what is usual."""
ENOUGH_READINGS = 5
"""Readings before anything is usual."""
STILL = 1e-3
"""A group whose loss is this near to nought gives no gradient worth the name."""
SAME = 1e-5
"""A group whose loss changes by less than this from batch to batch does not look at them."""
STILL_READINGS = 15
"""So many readings in a row, and one player of a game has won it."""
LOST = 0.2
"""A swap that keeps less than this part of the variety or change it had has lost it."""
FOUND_DIVERSITY = 0.3
"""Variety, as a part of the faces' own, below which a network has not learnt any yet."""
FOUND_CHANGE = 0.03
"""Change, as a part of the full range, below which a network has not learnt to swap yet."""
INVERTED = -0.3
"""Correlation of faces with what is drawn of them below which colours are inverted."""
FOUND_LIKENESS = 0.3
"""Correlation below which a network has not learnt yet which way round colours are."""
WORSE = 3.0
"""A held-out error this many times the best has exploded."""
SMALL_ERROR = 0.03
"""Best errors below this count as this."""


class LossWatch:
    """Remembers what losses are usual."""

    def __init__(self) -> None:
        self.sizes: dict[str, deque[float]] = {}

    def sign(self, losses: Mapping[str, float]) -> str:
        """Say what is wrong with one reading of the losses, and remember it when nothing is."""
        for name, value in losses.items():
            if not isfinite(value):
                return f"the loss {name} is not a number any more ({value})"
            before = self.sizes.get(name, ())
            usual = max(median(before), SMALL_LOSS) if len(before) >= ENOUGH_READINGS else None
            if usual is not None and abs(value) > EXPLODED * usual:
                return f"the loss {name} has exploded ({value:.3g}, usually {usual:.3g})"
        for name, value in losses.items():
            self.sizes.setdefault(name, deque(maxlen=REMEMBERED)).append(abs(value))
        return ""


class StillWatch:
    """Remembers whether groups of parameters still have something to learn: a dead critic has not.

    It is dead when it has seen through everything, or when it says the same of whatever it is
    shown: then its loss is nought, or is the same for every batch.
    """

    def __init__(self) -> None:
        self.readings: dict[str, deque[float]] = {}

    def sign(self, losses: Mapping[str, float]) -> str:
        """Say which group has learnt nothing for long, from one reading of what each minimises."""
        for group, value in losses.items():
            last = self.readings.setdefault(group, deque(maxlen=STILL_READINGS))
            last.append(value)
            if len(last) < STILL_READINGS:
                continue
            if max(map(abs, last)) < STILL:
                return f"{group} has nothing left to learn from (its loss is {value:.2g})"
            if max(last) - min(last) < SAME:
                return f"{group} says the same whatever it is shown (its loss stays {value:.3g})"
        return ""


@dataclass(frozen=True, kw_only=True)
class Vitals:
    """The best that held-out faces have shown so far."""

    diversity: float = 0.0
    """Largest variety of swaps: see `Score.diversity`."""
    change: float = 0.0
    """Largest change by a swap: see `Score.change`."""
    likeness: float = 0.0
    """Largest correlation of faces with their reconstructions: see `Score.likeness`."""
    swap_likeness: float = 0.0
    """Largest correlation of faces with their swaps: see `Score.swap_likeness`."""
    error: float | None = None
    """Smallest held-out error."""

    def after(self, found: Score) -> "Vitals":
        """Return the vitals after one more healthy score."""
        return Vitals(
            diversity=max(self.diversity, found.diversity),
            change=max(self.change, found.change),
            likeness=max(self.likeness, found.likeness),
            swap_likeness=max(self.swap_likeness, found.swap_likeness),
            error=found.error if self.error is None else min(self.error, found.error),
        )

    def sign(self, found: Score) -> str:
        """Say what is wrong with a score, in the light of better ones before it.

        Variety, change and the right way round count as lost only after they were there: every
        network begins by drawing the same face whatever it is shown.
        """
        if not isfinite(found.error):
            return "held-out faces come out as no numbers at all"
        if self.likeness > FOUND_LIKENESS and found.likeness < INVERTED:
            return f"held-out faces come out inverted (correlation {found.likeness:.2f})"
        if self.swap_likeness > FOUND_LIKENESS and found.swap_likeness < INVERTED:
            return f"swaps come out inverted (correlation {found.swap_likeness:.2f})"
        if self.diversity > FOUND_DIVERSITY and found.diversity < LOST * self.diversity:
            return (
                "different faces come out alike "
                f"(variety {found.diversity:.2f}, before {self.diversity:.2f})"
            )
        if self.change > FOUND_CHANGE and found.change < LOST * self.change:
            return (
                "swaps have become copies of their input "
                f"(change {found.change:.3f}, before {self.change:.3f})"
            )
        if self.error is not None and found.error > WORSE * max(self.error, SMALL_ERROR):
            return f"the held-out error has exploded ({found.error:.3f}, before {self.error:.3f})"
        return ""
