"""`RunLog`: the numbers of a run in `log.jsonl`, in TensorBoard and on the console."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from faceswap_cli.core import image_io
from faceswap_cli.core.fileio import append_json
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training.estimate import TrainEstimate, peak_memory_bytes, whole_peak_bytes
from faceswap_cli.training.state import StopCriterion, TrainState
from faceswap_cli.training.swap_metrics import SwapMetrics
from faceswap_cli.training.trainer import Trainer
from faceswap_cli.training.validation import ValidationResult
from faceswap_models.base import SwapModel
from faceswap_models.growing import GrowingModel

STATUS_INTERVAL_S = 2.0
"""Time between two status lines: reading losses more often makes a GPU wait."""
ESTIMATE_AFTER_S = 3.0
"""Training time of a session after which its speed is used to estimate the rest."""


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a training session achieved."""

    run: str
    """Name of the run."""
    weights_path: str
    """Path of the trained model."""
    stop_reason: str
    """Why training ended."""
    images_seen: int
    """Crops shown, over all sessions."""
    seconds: float
    """Length of this session."""
    images_per_second: float
    """Speed of this session."""
    losses: dict[str, float] = field(default_factory=dict)
    """The last losses."""
    val_error: float | None = None
    """Error on validation faces, as a part of the full range: see `ValidationResult.error`."""
    swap_metrics: dict[str, float | None] | str = ""
    """`SwapMetrics` of validation faces; a text says why there are none."""

    def to_rows(self) -> dict[str, str]:
        """Return the summary as rows of a table, name to text; empty rows are left out."""
        losses = ", ".join(f"{name} {value:.3g}" for name, value in self.losses.items())
        swaps = self.swap_metrics
        rows = {
            "model": self.weights_path,
            "ended": self.stop_reason,
            "images seen": f"{self.images_seen:,}, {self.images_per_second:,.0f} a second",
            "time": f"{self.seconds / 60:.1f} minutes",
            "losses": losses,
            "validation error": "" if self.val_error is None else f"{self.val_error:.1%}",
            "swaps": swaps if isinstance(swaps, str) else str(SwapMetrics(**swaps)),  # type: ignore[arg-type]
        }
        return {name: text for name, text in rows.items() if text}


class RunLog:
    """Writes what happens in a run; `begin` opens it, only in the main process.

    Args:
        run: Its folder.
        report: Shows progress.
        start: Where this session begins.
        estimate: What training takes, without its speed.
        stop: When training ends.
    """

    def __init__(
        self,
        run: RunFolder,
        report: Reporter,
        *,
        start: TrainState,
        estimate: TrainEstimate,
        stop: StopCriterion,
    ) -> None:
        self.previewed_images = start.images_seen
        self._run = run
        self._report = report
        self._start = start
        self._estimate = estimate
        self._stop = stop
        self._losses, self._group_losses = RunningMean(), RunningMean()
        self._last_losses: dict[str, float] = {}
        self._status_values: dict[str, Number] = {}
        self._validation: ValidationResult | None = None
        self._swap_metrics: SwapMetrics | str = ""
        self.measured_images = -1
        self._status_time, self._status_images = time.monotonic(), start.images_seen
        self._is_estimate_written = False
        self._tensorboard: TensorBoard | None = None

    def begin(self) -> None:
        """Open the log and start the progress bar."""
        self._tensorboard = open_tensorboard(self._run.tensorboard, self._start.images_seen)
        self._report.start_task(
            f"train {self._run.name}",
            total=self._stop.progress_total,
            unit=self._stop.progress_unit,
        )

    def add(self, losses: Mapping[str, Tensor], group_losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step, without reading them from the device."""
        self._losses.update(losses)
        self._group_losses.update(group_losses)

    def is_status_due(self) -> bool:
        """Return whether it is time for the next status."""
        return time.monotonic() - self._status_time >= STATUS_INTERVAL_S

    def status(
        self, state: TrainState, trainer: Trainer
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Write mean losses, speed and learning rates since the last status.

        Returns:
            The losses by name, and the losses by parameter group.
        """
        now = time.monotonic()
        speed = (state.images_seen - self._status_images) / max(now - self._status_time, 1e-9)
        self._status_time, self._status_images = now, state.images_seen
        self._last_losses = self._losses.compute() or self._last_losses
        rates = trainer.learning_rates()
        if self._stop.progress_unit != "images":
            self._status_values["images"] = state.images_seen
        self._status_values |= {"images/s": round(speed, 1), **_round(self._last_losses)}
        self._report.update(self._stop.progress(state), self._status_values)
        self._write(
            state,
            images_per_second=round(speed, 1),
            losses=_round(self._last_losses),
            learning_rate=rates,
        )
        self._add_scalars(state, "loss", self._last_losses)
        self._add_scalars(state, "lr", rates)
        if (
            not self._is_estimate_written
            and state.seconds - self._start.seconds >= ESTIMATE_AFTER_S
        ):
            self._show_estimate(state, trainer, speed)
        return self._last_losses, self._group_losses.compute()

    def validation(self, state: TrainState, result: ValidationResult) -> None:
        """Write errors and losses on validation faces."""
        self._validation = result
        self._status_values["val error"] = round(result.error, 5)
        self._report.update(self._stop.progress(state), self._status_values)
        self._write(
            state,
            val_error=round(result.error, 6),
            val_reconstruction=_round(result.reconstruction_error),
            val_cycle=_round(result.cycle_error),
            val_losses=_round(result.losses),
        )
        self._add_scalars(state, "val/recon", result.reconstruction_error)
        self._add_scalars(state, "val/cycle", result.cycle_error)
        self._add_scalars(state, "val/loss", result.losses)

    def swaps(self, state: TrainState, metrics: SwapMetrics | str) -> None:
        """Write the metrics of swaps, or once why there are none; an empty text measured none."""
        if isinstance(metrics, SwapMetrics):
            values = {name: one for name, one in asdict(metrics).items() if one is not None}
            self._write(state, swap_metrics=_round(values))
            self._add_scalars(state, "swap", values)
            self.measured_images = state.images_seen
        elif metrics and metrics != self._swap_metrics:
            self.event(state, "no_swap_metrics", f"no swap metrics: {metrics}")
        self._swap_metrics = metrics or self._swap_metrics

    def preview(self, state: TrainState, path: Path) -> None:
        """Show where a preview is, with the metrics of its swaps if they were just measured."""
        self.previewed_images = state.images_seen
        caption = f"after {state.images_seen:,} images"
        if self.measured_images == state.images_seen:
            caption += f": {self._swap_metrics}"
        if self._tensorboard is not None:
            self._tensorboard.add_image(image_io.read_image(path), state.images_seen)
        self._report.show_image(path, caption)

    def scores(self, state: TrainState, scores: Mapping[str, float]) -> None:
        """Write scores of swaps against their truth, where it is known."""
        self._status_values |= _round(scores)
        self._report.update(self._stop.progress(state), self._status_values)
        self._write(state, swap_truth=_round(scores))
        self._add_scalars(state, "swap/truth", scores)

    def growth(self, state: TrainState, model: SwapModel) -> None:
        """Write that a stage of growth, or its fading, is over."""
        if isinstance(model, GrowingModel):
            end = ": its layers are faded in" if model.is_fading else " is over: the networks grow"
            stage = f"stage {model.growth_stage} of {model.num_growth_stages}"
            self.event(state, "growth", f"{stage}{end}", note=False)

    def event(self, state: TrainState, code: str, message: str, *, note: bool = True) -> None:
        """Write an event: a code for programs, a message for people.

        Args:
            state: Where it happened; after a rollback, where training is now.
            code: `growth`, `failure`, `rollback`, `out_of_memory`, `no_swap_metrics` or `end`.
            message: One line.
            note: Whether to show it on the console as well.
        """
        self._status_images = min(self._status_images, state.images_seen)
        self._write(state, event=code, message=message)
        if note:
            self._report.note(message)

    def finish(
        self, state: TrainState, model: SwapModel, reason: str, *, is_interrupted: bool
    ) -> None:
        """Write why training ended, and close the log."""
        self.event(state, "end", reason, note=False)
        if self._tensorboard is not None:
            self._tensorboard.close()
        self._report.note(f"{reason}; {state.images_seen:,} images seen")
        if isinstance(model, GrowingModel) and model.is_growing:
            stage = f"stage {model.growth_stage} of {model.num_growth_stages}"
            self._report.note(f"the networks are still growing: {stage}")
        if is_interrupted:
            self._report.note("everything is saved; run the same command again to continue")

    def summary(self, state: TrainState, *, reason: str) -> TrainSummary:
        """Return what this session achieved."""
        seconds = state.seconds - self._start.seconds
        images = state.images_seen - self._start.images_seen
        swaps = self._swap_metrics
        return TrainSummary(
            run=self._run.name,
            weights_path=str(self._run.trained),
            stop_reason=reason,
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=images / max(seconds, 1e-9),
            losses=self._last_losses,
            val_error=self._validation.error if self._validation else None,
            swap_metrics=swaps if isinstance(swaps, str) else asdict(swaps),
        )

    def _show_estimate(self, state: TrainState, trainer: Trainer, speed: float) -> None:
        """Show what training takes, now that its speed is known."""
        self._is_estimate_written = True
        images, seconds = self._stop.remaining(state, images_per_second=speed)
        peak_bytes = peak_memory_bytes if self._swap_metrics else whole_peak_bytes
        estimate = replace(
            self._estimate,
            images_per_second=speed,
            memory_bytes=peak_bytes(trainer.hardware.device),
            remaining_images=images,
            remaining_seconds=seconds,
        )
        self._report.show_values(f"what {self._run.name} takes", estimate.to_rows())

    def _write(self, state: TrainState, **values: object) -> None:
        """Add one line to `log.jsonl`."""
        append_json(self._run.log, {"images_seen": state.images_seen, **values})

    def _add_scalars(self, state: TrainState, group: str, values: Mapping[str, float]) -> None:
        if self._tensorboard is not None:
            self._tensorboard.add_scalars(values, group=group, images_seen=state.images_seen)


class RunningMean:
    """Means of losses that are summed on their device and read only when asked for."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._total: Tensor | None = None
        self._steps = 0

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step."""
        if not losses:
            return
        if self._names != tuple(losses):  # a phase began, and with it another loss
            self._names, self._total, self._steps = tuple(losses), None, 0
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        self._total = values if self._total is None else self._total + values
        self._steps += 1

    def compute(self) -> dict[str, float]:
        """Return the mean of each loss since the last call, and start again."""
        if self._total is None:
            return {}
        means = (self._total / self._steps).tolist()
        self._total, self._steps = None, 0
        return dict(zip(self._names, means, strict=True))


class TensorBoard:
    """Writes TensorBoard's event files.

    Args:
        folder: Where they go.
        start_images: Images seen at the start of this session: events beyond, which a killed
            session wrote after its last checkpoint, are hidden.
    """

    def __init__(self, folder: Path, *, start_images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes two seconds

        self._writer: Any = SummaryWriter(str(folder), purge_step=start_images)

    def add_scalars(self, scalars: Mapping[str, float], *, group: str, images_seen: int) -> None:
        """Write numbers that are shown together under `group`."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"{group}/{name}", value, images_seen)

    def add_image(self, image: Image, images_seen: int) -> None:
        """Write a preview."""
        self._writer.add_image("preview", image, images_seen, dataformats="HWC")

    def close(self) -> None:
        """Flush everything to the disk."""
        self._writer.close()


def open_tensorboard(folder: Path, start_images: int) -> TensorBoard | None:
    """Return a writer to `folder` if TensorBoard is installed."""
    installed = find_spec("tensorboard") is not None
    return TensorBoard(folder, start_images=start_images) if installed else None


def _round(values: Mapping[str, float]) -> dict[str, Number]:
    """Return numbers as they are shown and logged."""
    return {name: round(value, 6) for name, value in values.items()}
