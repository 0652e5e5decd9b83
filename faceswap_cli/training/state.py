"""What training changes besides tensors (`TrainState`), and when it ends (`StopCriterion`)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from faceswap_cli.core.signals import StopFlag
from faceswap_cli.training.health import HealthBaseline
from faceswap_cli.training.schedule import PlateauState

PATIENCE_VALIDATIONS = 6
"""Without a limit, training ends when so many validations in a row were no better..."""
PATIENCE_FRACTION = 0.2
"""...and when they span at least this part of all images seen."""


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """All that changes during training besides weights and optimizer moments."""

    images_seen: int = 0
    """Crops shown so far, over all identities: the clock."""
    seconds: float = 0.0
    """Time spent training, over all sessions."""
    lr_scale: float = 1.0
    """What rollbacks have left of the learning rate, 0 to 1."""
    rollbacks: int = 0
    """Rollbacks since training last got well past a failure."""
    last_failure_images: int = 0
    """Images seen at the last failure."""
    best_images: int = 0
    """Images seen when the model was best: see `loop.is_best_model`."""
    best_swap_error: float | None = None
    """`SwapMetrics.error` of that model; None if no swaps were measured."""
    health_baseline: HealthBaseline = field(default_factory=HealthBaseline)
    """The best values that validation has shown."""
    plateaus: Mapping[str, PlateauState] = field(default_factory=dict)
    """State of the plateau schedule, by parameter group."""

    def to_dict(self) -> dict[str, Any]:
        """Return the state in plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "TrainState":
        """Read a state back, of this version or an earlier one; unknown keys are dropped."""
        known = _known_fields(cls, table)
        known["health_baseline"] = HealthBaseline(
            **_known_fields(HealthBaseline, known.get("health_baseline", {}))
        )
        known["plateaus"] = {
            group: PlateauState(**_known_fields(PlateauState, one))
            for group, one in known.get("plateaus", {}).items()
        }
        return cls(**known)


RENAMED_STATE: Mapping[type, Mapping[str, str]] = {
    TrainState: {
        "rate_factor": "lr_scale",
        "trouble_images": "last_failure_images",
        "vitals": "health_baseline",
    },
    HealthBaseline: {
        "diversity": "swap_diversity",
        "change": "swap_change",
        "likeness": "recon_correlation",
        "swap_likeness": "swap_correlation",
        "error": "best_error",
    },
    PlateauState: {"best": "best_loss", "waited": "num_bad_validations", "factor": "lr_scale"},
}
"""Class -> key in checkpoints of format 1 -> field now."""


@dataclass(frozen=True, kw_only=True)
class StopCriterion:
    """When training ends; with neither limit, when the validation error stops improving."""

    max_images: int | None = None
    """Images seen, over all sessions."""
    max_minutes: float | None = None
    """Training time, over all sessions."""

    def reason(self, state: TrainState, interrupt: StopFlag, *, interval: int) -> str:
        """Return why training is over; an empty text while it is not.

        Args:
            state: How far training is.
            interrupt: Set by Ctrl-C and the like.
            interval: Images between two regular checkpoints.
        """
        if interrupt.requested:
            return "interrupted"
        if self.max_images is not None and state.images_seen >= self.max_images:
            return f"reached {self.max_images:,} images"
        if self.max_minutes is not None and state.seconds >= self.max_minutes * 60:
            return f"reached {self.max_minutes:g} minutes"
        if self == StopCriterion() and _stopped_improving(state, interval):
            return "validation has stopped improving"
        return ""

    def fraction_done(self, state: TrainState) -> float:
        """Return how far training is, 0 to 1; 0 throughout without a limit."""
        done = 0.0
        if self.max_images is not None:
            done = state.images_seen / self.max_images
        elif self.max_minutes is not None:
            done = state.seconds / (self.max_minutes * 60)
        return min(1.0, done)

    def remaining(
        self, state: TrainState, *, images_per_second: float
    ) -> tuple[int | None, float | None]:
        """Return the images and the seconds that are left; None where they are not limited."""
        images = None if self.max_images is None else max(0, self.max_images - state.images_seen)
        ends = [] if images is None else [images / images_per_second]
        if self.max_minutes is not None:
            ends.append(max(0.0, self.max_minutes * 60 - state.seconds))
        return images, min(ends, default=None)

    def progress(self, state: TrainState) -> float:
        """Return how far a progress bar is: seconds if only time is limited, else images."""
        return state.seconds if self.progress_unit == "s" else state.images_seen

    @property
    def progress_unit(self) -> str:
        """Unit of the progress bar, `images` or `s`."""
        return "s" if self.max_images is None and self.max_minutes is not None else "images"

    @property
    def progress_total(self) -> float | None:
        """End of the progress bar; None without a limit."""
        if self.max_images is None and self.max_minutes is not None:
            return self.max_minutes * 60
        return self.max_images


def _stopped_improving(state: TrainState, interval: int) -> bool:
    """Return whether no model was better than the best for long."""
    since_best = state.images_seen - state.best_images
    return (
        state.health_baseline.best_error is not None
        and since_best // max(interval, 1) >= PATIENCE_VALIDATIONS
        and since_best >= PATIENCE_FRACTION * state.images_seen
    )


def _known_fields(kind: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a stored table that are fields of `kind`, by their names now."""
    names = {one.name for one in fields(kind)}
    renamed = RENAMED_STATE.get(kind, {})
    current = {renamed.get(key, key): value for key, value in table.items()}
    return {key: value for key, value in current.items() if key in names}
