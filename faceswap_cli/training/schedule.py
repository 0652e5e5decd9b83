"""How the learning rate goes: a factor for each position of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import cos, pi

from faceswap_cli.core.errors import ConfigurationError, did_you_mean

PLATEAU_FACTOR = 0.1
"""What the rate is multiplied by when the held-out score has stopped improving."""
PLATEAU_PATIENCE = 2
"""How many scores in a row may fail to improve before that."""

Schedule = Callable[[float], float]
"""Part of the run that is done, 0 to 1 -> factor of the learning rate, 0 to 1."""


def constant(progress: float) -> float:
    """Return 1."""
    del progress
    return 1.0


def linear(progress: float) -> float:
    """Return 1 for the first half, then fall to 0 in a straight line (CycleGAN, appendix 7.1)."""
    return min(1.0, 2 * (1 - progress))


def cosine(progress: float) -> float:
    """Return half a cosine from 1 to 0 (SGDR, equation 5, without restarts)."""
    return (1 + cos(pi * progress)) / 2


SCHEDULES: Mapping[str, Schedule] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
    "plateau": constant,  # the held-out scores drive it: see `Plateau`
}


def get_schedule(name: str) -> Schedule:
    """Return the schedule called `name`.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name in SCHEDULES:
        return SCHEDULES[name]
    raise ConfigurationError(
        f'train.lr_schedule: there is no schedule called "{name}"',
        hint=did_you_mean(name, SCHEDULES),
    )


def warmup_factor(images_seen: int, warmup_images: int) -> float:
    """Return the factor of the warm-up: from 0 at the start to 1 after `warmup_images`."""
    return min(1.0, (images_seen + 1) / warmup_images) if warmup_images > 0 else 1.0


@dataclass(frozen=True, kw_only=True)
class PlateauState:
    """What the plateau schedule remembers of one group's scores; lower scores are better."""

    best: float | None = None
    """The best score so far."""
    waited: int = 0
    """How many scores in a row failed to beat it."""
    factor: float = 1.0
    """What the learning rate is multiplied by."""

    def step(self, score: float) -> "PlateauState":
        """Return what is remembered after one more score."""
        if self.best is None or score < self.best:
            return replace(self, best=score, waited=0)
        if self.waited < PLATEAU_PATIENCE:
            return replace(self, waited=self.waited + 1)
        return replace(self, waited=0, factor=self.factor * PLATEAU_FACTOR)


def step_plateaus(
    plateaus: Mapping[str, PlateauState], scores: Mapping[str, float]
) -> dict[str, PlateauState]:
    """Return what is remembered of each group after one more score of its own, by group."""
    return {group: plateaus.get(group, PlateauState()).step(one) for group, one in scores.items()}
