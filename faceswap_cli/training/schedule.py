"""Learning rate schedules: a factor for each position of a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import cos, pi

from faceswap_cli.core.errors import ConfigurationError, did_you_mean

PLATEAU_FACTOR = 0.1
"""Factor of the rate when validation has stopped improving."""
PLATEAU_PATIENCE = 2
"""Validations in a row that may fail to improve before that."""

Schedule = Callable[[float], float]
"""Progress of the run, 0 to 1 -> factor of the learning rate, 0 to 1."""


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
    "plateau": constant,  # driven by validation: see `PlateauState`
}


def get_schedule(name: str) -> Schedule:
    """Return the schedule called `name`.

    Raises:
        ConfigurationError: There is no such schedule.
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
    """The plateau schedule of one parameter group (torch's ReduceLROnPlateau)."""

    best_loss: float | None = None
    """The lowest validation loss so far."""
    num_bad_validations: int = 0
    """Validations in a row that did not go below it."""
    lr_scale: float = 1.0
    """Factor of the learning rate."""

    def step(self, loss: float) -> "PlateauState":
        """Return the state after one more validation."""
        if self.best_loss is None or loss < self.best_loss:
            return replace(self, best_loss=loss, num_bad_validations=0)
        if self.num_bad_validations < PLATEAU_PATIENCE:
            return replace(self, num_bad_validations=self.num_bad_validations + 1)
        return replace(self, num_bad_validations=0, lr_scale=self.lr_scale * PLATEAU_FACTOR)


def step_plateaus(
    plateaus: Mapping[str, PlateauState], losses: Mapping[str, float]
) -> dict[str, PlateauState]:
    """Return the states after one more validation, each by its own loss, by group."""
    return {group: plateaus.get(group, PlateauState()).step(loss) for group, loss in losses.items()}
