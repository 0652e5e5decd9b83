"""Detects diverging training, from logged losses (`HealthMonitor`) and from validation.

Each `check` returns what is wrong, or an empty text; the loop rolls back.
"""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from statistics import median

from faceswap_cli.training.validation import ValidationResult

EXPLOSION_FACTOR = 20.0
"""A loss this many times its usual size has exploded."""
MIN_USUAL_LOSS = 0.05
"""Usual sizes below this count as this: small losses may jump."""
LOSS_HISTORY = 30
"""Readings whose median is the usual size."""
MIN_READINGS = 5
"""Readings before there is a usual size."""
DEAD_LOSS = 1e-3
"""A group whose loss is this close to 0 gets no useful gradient."""
DEAD_LOSS_RANGE = 1e-5
"""A group whose loss changes by less than this from batch to batch ignores its input."""
DEAD_GROUP_READINGS = 15
"""Readings in a row after which a group is dead."""
COLLAPSE_FRACTION = 0.2
"""Below this part of its best diversity or change a network has collapsed."""
LEARNED_DIVERSITY = 0.3
"""Diversity, as a part of the faces' own, that a network must have reached to lose it."""
LEARNED_CHANGE = 0.03
"""Change by a swap, as a part of the full range, that it must have reached to lose it."""
INVERTED_CORRELATION = -0.3
"""Correlation of faces with outputs below which colors are inverted."""
LEARNED_CORRELATION = 0.3
"""Correlation that a network must have reached before it can count as inverted."""
ERROR_EXPLOSION_FACTOR = 3.0
"""A validation error this many times the best has exploded."""
MIN_BEST_ERROR = 0.03
"""Best errors below this count as this."""


class LossMonitor:
    """Finds losses that are not finite or have exploded, against their usual sizes.

    Args:
        opposed: Names of losses that may jump: `SwapModel.opposed_losses`.
    """

    def __init__(self, opposed: Collection[str] = ()) -> None:
        self._opposed = frozenset(opposed)
        self._sizes: dict[str, deque[float]] = {}

    def check(self, losses: Mapping[str, float]) -> str:
        """Return what is wrong with some losses; record them if nothing is."""
        for name, value in losses.items():
            if not isfinite(value):
                return f"the loss {name} is not a number any more ({value})"
            if name in self._opposed:
                continue
            before = self._sizes.get(name, ())
            usual = max(median(before), MIN_USUAL_LOSS) if len(before) >= MIN_READINGS else None
            if usual is not None and abs(value) > EXPLOSION_FACTOR * usual:
                return f"the loss {name} has exploded ({value:.3g}, usually {usual:.3g})"
        for name, value in losses.items():
            self._sizes.setdefault(name, deque(maxlen=LOSS_HISTORY)).append(abs(value))
        return ""


class DeadGroupMonitor:
    """Finds parameter groups that no longer learn, such as a discriminator that has won.

    A group is dead when its loss stays at 0, or is the same for every batch.
    """

    def __init__(self) -> None:
        self._readings: dict[str, deque[float]] = {}

    def check(self, group_losses: Mapping[str, float]) -> str:
        """Return which group is dead, given what each minimizes; record the losses."""
        for group, value in group_losses.items():
            last = self._readings.setdefault(group, deque(maxlen=DEAD_GROUP_READINGS))
            last.append(value)
            if len(last) < DEAD_GROUP_READINGS:
                continue
            if max(map(abs, last)) < DEAD_LOSS:
                return f"{group} has nothing left to learn from (its loss is {value:.2g})"
            if max(last) - min(last) < DEAD_LOSS_RANGE:
                return f"{group} gives the same output for every input (its loss stays {value:.3g})"
        return ""


class HealthMonitor:
    """Checks the losses that training logs; `HealthBaseline.check` checks validation.

    Args:
        opposed: As of `LossMonitor`.
    """

    def __init__(self, opposed: Collection[str] = ()) -> None:
        self._losses = LossMonitor(opposed)
        self._groups = DeadGroupMonitor()

    def check(self, losses: Mapping[str, float], group_losses: Mapping[str, float]) -> str:
        """Return what is wrong with some mean losses, or an empty text.

        Args:
            losses: By name.
            group_losses: What each parameter group minimizes. A single group has no opponent
                that could win, and its loss may be 0.
        """
        problem = self._losses.check(losses)
        if problem or len(group_losses) < 2:
            return problem
        return self._groups.check(group_losses)


@dataclass(frozen=True, kw_only=True)
class HealthBaseline:
    """The best values that validation has shown so far, which collapse is measured against."""

    swap_diversity: float = 0.0
    """Largest `ValidationResult.swap_diversity`."""
    swap_change: float = 0.0
    """Largest `ValidationResult.swap_change`."""
    recon_correlation: float = 0.0
    """Largest `ValidationResult.recon_correlation`."""
    swap_correlation: float = 0.0
    """Largest `ValidationResult.swap_correlation`."""
    best_error: float | None = None
    """Smallest validation error."""

    def update(self, result: ValidationResult) -> "HealthBaseline":
        """Return the baseline after one more healthy validation.

        Only what is learned can be lost: the outputs of initial weights are diverse by chance.
        """
        best = self.best_error
        error = result.error if best is None else min(best, result.error)
        if not result.is_learned:
            return replace(self, best_error=error)
        return HealthBaseline(
            swap_diversity=max(self.swap_diversity, result.swap_diversity),
            swap_change=max(self.swap_change, result.swap_change),
            recon_correlation=max(self.recon_correlation, result.recon_correlation),
            swap_correlation=max(self.swap_correlation, result.swap_correlation),
            best_error=error,
        )

    def check(self, result: ValidationResult) -> str:
        """Return what is wrong with a validation, given better ones before it.

        Diversity, change and the sign of the correlation count as lost only after they were there:
        every network begins by giving the same face for every input.
        """
        if not isfinite(result.error):
            return "validation faces come out as no numbers at all"
        if is_inverted(result.recon_correlation, best=self.recon_correlation):
            return f"faces come out inverted (correlation {result.recon_correlation:.2f})"
        if is_inverted(result.swap_correlation, best=self.swap_correlation):
            return f"swaps come out inverted (correlation {result.swap_correlation:.2f})"
        diversity, change = result.swap_diversity, result.swap_change
        if is_lost(diversity, best=self.swap_diversity, learned=LEARNED_DIVERSITY):
            before = self.swap_diversity
            values = f"diversity {diversity:.2f}, before {before:.2f}"
            return f"swaps of different faces are the same ({values})"
        if is_lost(change, best=self.swap_change, learned=LEARNED_CHANGE):
            before = self.swap_change
            return f"swaps are copies of their input (change {change:.3f}, before {before:.3f})"
        best = self.best_error
        if best is not None and result.error > ERROR_EXPLOSION_FACTOR * max(best, MIN_BEST_ERROR):
            return f"the validation error has exploded ({result.error:.3f}, before {best:.3f})"
        return ""


def is_inverted(correlation: float, *, best: float) -> bool:
    """Return whether a correlation is clearly negative after it was clearly positive."""
    return best > LEARNED_CORRELATION and correlation < INVERTED_CORRELATION


def is_lost(value: float, *, best: float, learned: float) -> bool:
    """Return whether a value fell to a small part of its best, which was above `learned`."""
    return best > learned and value < COLLAPSE_FRACTION * best
