"""One sitting at a run: hears every step, tells, shows, judges, saves, and goes back on trouble.

Knows when things are due and what they say; refuses to know how a step is taken.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.fileio import translate_os_errors, write_text
from faceswap_cli.core.progress import Number, Reporter
from faceswap_cli.core.signals import StopFlag
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.provenance.consent import Origin
from faceswap_cli.training import checkpoint
from faceswap_cli.training.health import DeadGroupMonitor, LossMonitor
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.preview import (
    render_growth_column,
    render_growth_strip,
    render_preview_grid,
)
from faceswap_cli.training.report import render_run_report
from faceswap_cli.training.schedule import step_plateaus
from faceswap_cli.training.swap_metrics import SwapEvaluator, SwapMetrics
from faceswap_cli.training.tensorboard import MetricWriter, NullMetricWriter, open_metric_writer
from faceswap_cli.training.trainer import RunningMean, Tensors, Trainer, TrainState
from faceswap_cli.training.validation import ValidationResult, validate
from faceswap_models.base import SwapModel
from faceswap_models.growing import GrowingModel

EARLY_PREVIEW_IMAGES = (1_000, 3_000, 10_000)
"""Images after which there is a sheet besides the regular ones: nobody likes to wait for the
first."""
MAX_CHECKPOINT_INTERVAL_S = 120.0
"""Time after which a state is saved besides the regular ones, where images come slowly: all that a
power cut can cost. Judging and saving take about a second of it."""
STATUS_INTERVAL_S = 2.0
"""Time between two readings of the losses: reading more often makes a GPU wait."""
ROLLBACK_LR_FACTOR = 0.5
"""What the learning rate is multiplied by when training goes back after trouble."""
MAX_ROLLBACKS = 3
"""How often training goes back without getting past the trouble before it gives up."""
RECOVERY_INTERVALS = 3
"""Save intervals beyond the last trouble after which it is over."""
PATIENCE_VALIDATIONS = 6
"""Without a goal, training ends when so many held-out scores in a row were no better..."""
PATIENCE_FRACTION = 0.2
"""...and when that was at least this part of all images seen."""


@dataclass(frozen=True, kw_only=True)
class StopCriterion:
    """When training ends; with neither, when the held-out score stops improving."""

    max_images: int | None = None
    """Images seen in all, of all sittings together."""
    max_minutes: float | None = None
    """Length of this sitting."""


@dataclass(frozen=True, kw_only=True)
class TrainSummary:
    """What a sitting came to."""

    run: str
    """Name of the run."""
    weights: str
    """Path of the trained model."""
    ended: str
    """Why training ended."""
    images_seen: int
    """Crops shown, of all sittings together."""
    seconds: float
    """Length of this sitting."""
    images_per_second: float
    """Speed of this sitting."""
    losses: dict[str, float] = field(default_factory=dict)
    """The last losses."""
    held_out: float | None = None
    """Error on held-out faces, as a part of the full range: see `Score.error`."""
    kept: dict[str, float | None] | str = ""
    """What swaps of held-out faces keep and move: see `Kept`; a text says why nobody knows."""

    def facts(self) -> dict[str, str]:
        """Return it as a person reads it."""
        losses = ", ".join(f"{name} {value:.3g}" for name, value in self.losses.items())
        kept = self.kept if isinstance(self.kept, str) else str(SwapMetrics(**self.kept))  # type: ignore[arg-type]
        facts = {
            "model": self.weights,
            "ended": self.ended,
            "images seen": f"{self.images_seen:,}, {self.images_per_second:,.0f} a second",
            "time": f"{self.seconds / 60:.1f} minutes",
            "losses": losses,
            "held-out faces": "" if self.held_out is None else f"off by {self.held_out:.1%}",
            "their swaps": kept,
        }
        return {name: fact for name, fact in facts.items() if fact}


class TrainingSession:
    """One sitting at a run: hears every step, tells, shows, judges, saves.

    Args:
        trainer: What learns.
        loader: Where its faces come from.
        recipe: What it learns with.
        run: Where everything goes.
        stop_criterion: When to end.
        interrupt: Whether somebody asked to stop.
        start_state: Where this sitting began.
        report: Hears of progress.
        origins: What the trained model tells of the sets it learns from.
    """

    def __init__(
        self,
        trainer: Trainer,
        loader: FaceLoader,
        *,
        recipe: Recipe,
        run: RunFolder,
        stop_criterion: StopCriterion,
        interrupt: StopFlag,
        start_state: TrainState,
        report: Reporter,
        origins: Sequence[Origin] = (),
    ) -> None:
        self.trainer = trainer
        self.feed = loader
        self.recipe = recipe
        self.run = run
        self.stop_criterion = stop_criterion
        self.interrupt = interrupt
        self.start_state = start_state
        self.report = report
        self.origins = origins
        self.step_losses, self.group_losses = RunningMean(), RunningMean()
        self.loss_monitor, self.dead_group_monitor = LossMonitor(), DeadGroupMonitor()
        self.grad_accum_steps = trainer.grad_accum_steps
        self.losses: dict[str, float] = {}
        self.numbers: dict[str, Number] = {}
        self.last_validation: ValidationResult | None = None
        self.swap_metrics: SwapMetrics | None = None
        self.swap_evaluator = SwapEvaluator(loader)
        self.swap_metrics_note = ""
        self.last_save_images = start_state.images_seen if run.weights.exists() else -1
        self.last_preview_images = start_state.images_seen
        self.start_time = self.last_status_time = self.last_save_time = time.monotonic()
        self.last_status_images = start_state.images_seen
        self.metric_writer: MetricWriter = NullMetricWriter()
        self.progress_value: Callable[[TrainState], float] = self._images_seen
        self.progress_total: float | None = stop_criterion.max_images
        self.progress_unit = "images"
        if stop_criterion.max_images is None and stop_criterion.max_minutes is not None:
            self.progress_value, self.progress_total, self.progress_unit = (
                self._elapsed_seconds,
                stop_criterion.max_minutes * 60,
                "s",
            )

    def is_over(self, state: TrainState) -> bool:
        """Say whether training is over."""
        return self.stop_reason(state) != ""

    def stop_reason(self, state: TrainState) -> str:
        """Say why training is over; an empty text while it is not."""
        if self.interrupt.requested:
            return "stopped as asked"
        if (
            self.stop_criterion.max_images is not None
            and state.images_seen >= self.stop_criterion.max_images
        ):
            return f"the goal of {self.stop_criterion.max_images:,} images is reached"
        if (
            self.stop_criterion.max_minutes is not None
            and self._elapsed_seconds(state) >= self.stop_criterion.max_minutes * 60
        ):
            return f"{self.stop_criterion.max_minutes:g} minutes have passed"
        if self.stop_criterion == StopCriterion() and self._stopped_improving(state):
            return "held-out faces have stopped getting better"
        return ""

    def fraction_done(self, state: TrainState) -> float:
        """Return which part of the run is done, 0 to 1; 0 throughout where nobody can know."""
        if self.stop_criterion.max_images is not None:
            return min(1.0, state.images_seen / self.stop_criterion.max_images)
        if self.stop_criterion.max_minutes is not None:
            return min(1.0, self._elapsed_seconds(state) / (self.stop_criterion.max_minutes * 60))
        return 0.0

    def on_step_end(self, state: TrainState, losses: Tensors) -> TrainState:
        """Hear of one step, and do what is due; on trouble return an earlier state."""
        self.step_losses.update(losses)
        # With one group there is no game to win, and a loss of nought is a fine thing.
        self.group_losses.update(
            self.trainer.group_losses if len(self.trainer.parameter_groups) > 1 else {}
        )
        self._log_grad_accum(state)
        is_shown = self._preview_is_due(state)
        if self._crossed_interval(state, self.recipe.train.checkpoint_interval_images):
            settled = self.validate_and_save(state, is_regular=True)
        elif (
            self.is_over(state)
            or time.monotonic() - self.last_save_time >= MAX_CHECKPOINT_INTERVAL_S
        ):
            settled = self.validate_and_save(state, is_regular=False)
        else:
            settled = self.log_status(state) if self._status_is_due() else state
        if is_shown and settled.images_seen == state.images_seen:
            self.write_preview(settled)
        return settled

    def log_status(self, state: TrainState) -> TrainState:
        """Read the losses off, and tell and log them; on trouble return an earlier state."""
        now = time.monotonic()
        speed = (state.images_seen - self.last_status_images) / max(
            now - self.last_status_time, 1e-9
        )
        self.last_status_time, self.last_status_images = now, state.images_seen
        self.losses = self.step_losses.compute() or self.losses
        self.numbers |= {"images/s": round(speed, 1), **_round_values(self.losses)}
        self.report.update(self.progress_value(state), self.numbers)
        self.log(
            {
                "images_seen": state.images_seen,
                "images/s": self.numbers["images/s"],
                "losses": _round_values(self.losses),
                "learning_rate": self.trainer.learning_rates(),
            }
        )
        self.metric_writer.add_scalars(self.losses, group="loss", images_seen=state.images_seen)
        self.metric_writer.add_scalars(
            self.trainer.learning_rates(), group="learning rate", images_seen=state.images_seen
        )
        sign = self.loss_monitor.check(self.losses) or self.dead_group_monitor.check(
            self.group_losses.compute()
        )
        return self.roll_back(state, sign) if sign else state

    def validate_and_save(self, state: TrainState, *, is_regular: bool) -> TrainState:
        """Make sure that all is well, then save; on trouble return an earlier state.

        What is found at a save between the regular ones is not remembered: a run that was stopped
        there must go on as if it had not been.
        """
        healthy = self.log_status(state)
        if healthy is not state:
            return healthy
        found = self.validate(state)
        if sign := state.vitals.check(found):
            return self.roll_back(state, sign)
        if is_regular:
            state = self.update_best(state, found)
        self.save(state)
        return state

    def validate(self, state: TrainState) -> ValidationResult:
        """Score the averaged weights on held-out faces."""
        with self.trainer.ema_weights() as model:
            found = validate(model, self.feed)
        self.last_validation = found
        for about, values in (
            ("held out", found.reconstruction_error),
            ("there and back", found.cycle_error),
            ("held-out loss", found.losses),
        ):
            self.metric_writer.add_scalars(values, group=about, images_seen=state.images_seen)
        self.numbers["held out"] = round(found.error, 5)
        self.report.update(self.progress_value(state), self.numbers)
        self.log(
            {
                "images_seen": state.images_seen,
                "held out": round(found.error, 6),
                "reconstruction": _round_values(found.reconstruction_error),
                "cycle": _round_values(found.cycle_error),
                "held-out losses": _round_values(found.losses),
            }
        )
        return found

    def update_best(self, state: TrainState, result: ValidationResult) -> TrainState:
        """Return `state` after one more healthy score; keep the weights when it is the best."""
        before = state.vitals.error
        if before is None or result.error < before:
            state = replace(state, best_images=state.images_seen)
            self._save_weights(self.run.best, state)
        model = self.trainer.model
        if isinstance(model, GrowingModel):
            model.on_validation(result.error)
        if self.recipe.train.lr_schedule == "plateau":
            scores = {
                group: result.losses.get(group, result.error)
                for group in self.trainer.parameter_groups
            }
            state = replace(state, plateaus=step_plateaus(state.plateaus, scores))
        if (
            state.images_seen
            > state.trouble_images
            + RECOVERY_INTERVALS * self.recipe.train.checkpoint_interval_images
        ):
            state = replace(state, rollbacks=0)
        return replace(state, vitals=state.vitals.update(result))

    def roll_back(self, state: TrainState, problem: str) -> TrainState:
        """Go back to the last good state with a lower learning rate.

        Raises:
            FaceswapError: That has been done in vain before.
        """
        self.log({"images_seen": state.images_seen, "event": f"trouble: {problem}"})
        if state.rollbacks >= MAX_ROLLBACKS:
            raise FaceswapError(
                f"training fails again and again after {state.images_seen:,} images: {problem}",
                hint="the last good state is kept; try a lower --set train.learning_rate="
                f"{self.recipe.train.learning_rate * state.rate_factor * ROLLBACK_LR_FACTOR:g}",
            )
        good = checkpoint.load_checkpoint(self.run)
        assert good is not None  # the state of the beginning was saved
        self.trainer.load_state_dict(good.tensors)
        back = replace(
            good.state,
            rate_factor=state.rate_factor * ROLLBACK_LR_FACTOR,
            rollbacks=state.rollbacks + 1,
            trouble_images=max(state.images_seen, state.trouble_images),
            seconds=state.seconds,
        )
        # At once, so that a run stopped before its next save does not forget the lower rate.
        self.save(back)
        self.step_losses, self.group_losses = RunningMean(), RunningMean()
        self.loss_monitor, self.dead_group_monitor = LossMonitor(), DeadGroupMonitor()
        self.losses, self.last_status_images = {}, back.images_seen
        told = f"{problem}: back to {back.images_seen:,} images at {back.rate_factor:g} of the rate"
        self.report.note(told)
        self.log({"images_seen": back.images_seen, "event": told})
        return back

    def start(self, state: TrainState) -> None:
        """Write the recipe, and the beginning of a new run: it is there to go back to."""
        write_text(self.run.recipe, self.recipe.to_toml())
        self.metric_writer = open_metric_writer(self.run.tensorboard, purge_step=state.images_seen)
        if not self.run.resume.exists():
            self._save_checkpoint(state)

    def save(self, state: TrainState) -> None:
        """Write everything needed to go on, and what `convert` reads."""
        self._save_checkpoint(state)
        self._save_weights(self.run.weights, state)
        self.last_save_images, self.last_save_time = state.images_seen, time.monotonic()

    def write_preview(self, state: TrainState) -> None:
        """Draw a sheet with the averaged weights; at the regular ones, read faces as well."""
        path = self.run.preview_path(state.images_seen)
        is_early = not (
            self._crossed_interval(state, self.recipe.train.preview_interval_images)
            or self.is_over(state)
        )
        with self.trainer.ema_weights() as model:
            sheet = render_preview_grid(model, self.feed)
            if isinstance(model, GrowingModel):
                self.write_growth_strip(model)
            told = "" if is_early else self.evaluate_swaps(model, state)
        image_io.write_png(path, sheet)
        self.metric_writer.add_image(sheet, images_seen=state.images_seen)
        self.last_preview_images = state.images_seen
        self.write_report(is_training=True)
        self.report.show_image(path, f"after {state.images_seen:,} images{told}")

    def on_growth(self, state: TrainState) -> None:
        """Show what a stage has come to before the next one begins, all stages side by side."""
        if self.last_preview_images != state.images_seen:
            self.write_preview(state)
        model = self.trainer.model
        assert isinstance(model, GrowingModel)
        told = f"stage {model.growth_stage} of {model.num_growth_stages}"
        told += ": its layers are in full" if model.is_fading else " is over: the networks grow"
        self.log({"images_seen": state.images_seen, "event": told})

    def write_growth_strip(self, model: GrowingModel) -> None:
        """Renew this stage's column of the strip."""
        image_io.write_png(
            self.run.growth_stages / f"{model.growth_stage}.png",
            render_growth_column(model, self.feed),
        )
        columns = {
            int(path.stem): image_io.read_image(path)
            for path in self.run.growth_stages.glob("[0-9]*.png")
            if int(path.stem) <= model.growth_stage
        }
        image_io.write_png(self.run.growth_strip, render_growth_strip(columns, self.feed))

    def evaluate_swaps(self, model: SwapModel, state: TrainState) -> str:
        """Look at what swaps keep; return it as the end of a caption, or say once why not."""
        self.swap_metrics = self.swap_evaluator.evaluate(model)
        if self.swap_metrics is not None:
            numbers = {
                name: one for name, one in asdict(self.swap_metrics).items() if one is not None
            }
            self.metric_writer.add_scalars(numbers, group="kept", images_seen=state.images_seen)
            self.log({"images_seen": state.images_seen, "kept": _round_values(numbers)})
            return f": {self.swap_metrics}"
        if not self.swap_metrics_note:
            self.swap_metrics_note = f"what swaps keep is not known: {self.swap_evaluator.failure}"
            self.report.note(self.swap_metrics_note)
            self.log({"images_seen": state.images_seen, "event": self.swap_metrics_note})
        return ""

    def write_report(self, *, is_training: bool) -> None:
        """Write the page that shows the run in a browser."""
        write_text(
            self.run.report, render_run_report(self.run, self.recipe, is_training=is_training)
        )

    def finish(self, state: TrainState) -> TrainSummary:
        """Leave the run as it should be found."""
        ended = self.stop_reason(state)
        seconds = self._elapsed_seconds(state)
        if state.images_seen != self.last_save_images:
            state = self.validate_and_save(state, is_regular=False)
        if state.images_seen != self.last_preview_images:
            self.write_preview(state)
        self.log({"images_seen": state.images_seen, "event": ended})
        self.write_report(is_training=False)
        self.metric_writer.close()
        self.swap_evaluator.close()
        self.report.note(f"{ended}; {state.images_seen:,} images seen")
        model = self.trainer.model
        if isinstance(model, GrowingModel) and model.is_growing:
            self.report.note(
                f"the networks are still growing: stage {model.growth_stage} of {model.num_growth_stages}"
            )
        if self.interrupt.requested:
            self.report.note("everything is saved; run the same command again to go on")
        return TrainSummary(
            run=self.run.name,
            weights=str(self.run.weights),
            ended=ended,
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=(state.images_seen - self.start_state.images_seen)
            / max(seconds, 1e-9),
            losses=self.losses,
            held_out=self.last_validation.error if self.last_validation else None,
            kept=asdict(self.swap_metrics) if self.swap_metrics else self.swap_metrics_note,
        )

    def log(self, numbers: Mapping[str, object]) -> None:
        """Add one line to the run's log."""
        append_line(self.run.log, json.dumps(numbers, ensure_ascii=False))

    def _save_checkpoint(self, state: TrainState) -> None:
        """Write what it takes to go on."""
        checkpoint.save_checkpoint(
            self.run,
            self.trainer,
            recipe=self.recipe,
            identities=self.trainer.model.identities,
            state=state,
        )

    def _save_weights(self, path: Path, state: TrainState) -> None:
        """Write what `convert` reads."""
        checkpoint.save_weights(
            path,
            self.trainer,
            recipe=self.recipe,
            identities=self.trainer.model.identities,
            images_seen=state.images_seen,
            origins=self.origins,
        )

    def _log_grad_accum(self, state: TrainState) -> None:
        """Say so when memory made the trainer take batches in more parts than before."""
        if self.trainer.grad_accum_steps == self.grad_accum_steps:
            return
        self.grad_accum_steps = self.trainer.grad_accum_steps
        told = f"memory ran out: each batch is now learnt from in {self.grad_accum_steps} parts"
        self.report.note(told)
        self.log({"images_seen": state.images_seen, "event": told})

    def _status_is_due(self) -> bool:
        """Say whether it is time to read the losses again."""
        return time.monotonic() - self.last_status_time >= STATUS_INTERVAL_S

    def _preview_is_due(self, state: TrainState) -> bool:
        """Say whether a sheet is due; where sheets are turned off, none is."""
        interval = self.recipe.train.preview_interval_images
        before = state.images_seen - self.feed.images_per_step
        is_early = any(before < images <= state.images_seen for images in EARLY_PREVIEW_IMAGES)
        return self._crossed_interval(state, interval) or (interval > 0 and is_early)

    def _crossed_interval(self, state: TrainState, interval: int) -> bool:
        """Say whether the last step crossed a multiple of `interval` images; 0 is never."""
        before = state.images_seen - self.feed.images_per_step
        return interval > 0 and before // interval < state.images_seen // interval

    def _stopped_improving(self, state: TrainState) -> bool:
        """Say whether held-out faces have not got better for long."""
        since = state.images_seen - state.best_images
        scores = since // max(self.recipe.train.checkpoint_interval_images, 1)
        return (
            state.vitals.error is not None
            and scores >= PATIENCE_VALIDATIONS
            and since >= PATIENCE_FRACTION * state.images_seen
        )

    def _images_seen(self, state: TrainState) -> float:
        """Return the images seen."""
        return state.images_seen

    def _elapsed_seconds(self, state: TrainState) -> float:
        """Return the length of this sitting so far."""
        del state
        return time.monotonic() - self.start_time


class WorkerSession(TrainingSession):
    """A sitting in a process that does not lead: it neither writes nor tells."""

    def start(self, state: TrainState) -> None:
        """Write nothing."""

    def on_growth(self, state: TrainState) -> None:
        """Show nothing."""

    def on_step_end(self, state: TrainState, losses: Tensors) -> TrainState:
        """Go on: the leader judges."""
        del losses
        return state

    def finish(self, state: TrainState) -> TrainSummary:
        """Leave nothing; return what this process knows."""
        seconds = self._elapsed_seconds(state)
        return TrainSummary(
            run=self.run.name,
            weights=str(self.run.weights),
            ended="the leader ended it",
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=(state.images_seen - self.start_state.images_seen)
            / max(seconds, 1e-9),
        )


def count_parameters(model: SwapModel) -> int:
    """Return how many numbers a model learns."""
    return sum(one.numel() for one in model.parameters())


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file; a line torn by a crash before it is closed first."""
    with translate_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")


def _round_values(numbers: Mapping[str, float]) -> dict[str, Number]:
    """Return numbers as they are shown and logged."""
    return {name: round(value, 6) for name, value in numbers.items()}
