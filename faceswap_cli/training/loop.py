"""The training loop: decide, grow, step, status, validate and save, preview.

`training_loop` is the whole life of a run on one page. Where several processes train together all
of them run it; the main one decides, logs and writes, and the others follow its decisions.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from faceswap_cli.core.errors import DeviceError, FaceswapError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag
from faceswap_cli.training import checkpoint
from faceswap_cli.training.checkpoint import CheckpointWriter
from faceswap_cli.training.dataset import derive_seed
from faceswap_cli.training.distributed import DistributedContext
from faceswap_cli.training.estimate import TrainEstimate
from faceswap_cli.training.health import HealthMonitor
from faceswap_cli.training.loader import BatchPrefetcher, FaceLoader
from faceswap_cli.training.preview import write_preview
from faceswap_cli.training.report import LiveReport, write_run_report
from faceswap_cli.training.run_log import RunLog, TrainSummary
from faceswap_cli.training.schedule import PlateauState, step_plateaus, warmup_factor
from faceswap_cli.training.state import StopCriterion, TrainState
from faceswap_cli.training.swap_metrics import SwapEvaluator, SwapMetrics
from faceswap_cli.training.trainer import StepOutOfMemoryError, Trainer
from faceswap_cli.training.validation import ValidationResult, validate
from faceswap_models.base import FaceBatch, SwapModel, TrainProgress
from faceswap_models.growing import GrowingModel

EARLY_IMAGES = (1_000, 3_000, 10_000)
"""Images seen at which a run is validated and previewed besides the regular intervals: short runs
need both, and the first preview should come soon."""
CHECKPOINT_MAX_S = 120.0
"""Time after which a checkpoint is written between the regular ones: with the time of writing, the
most that a power cut can cost. Validating takes about a second of it."""
ROLLBACK_LR_SCALE = 0.5
"""Factor of the learning rate after each rollback."""
MAX_ROLLBACKS = 3
"""Rollbacks without getting past a failure before training gives up."""
RECOVERY_INTERVALS = 3
"""Checkpoint intervals beyond the last failure after which it counts as overcome."""


def training_loop(
    trainer: Trainer,  # model, optimizers, averaged weights, precision
    loader: FaceLoader,
    files: CheckpointWriter,  # the run's folder
    *,
    state: TrainState,  # where to begin
    seed: int,
    stop: StopCriterion,
    interrupt: StopFlag,
    dist: DistributedContext,
    estimate: TrainEstimate,  # shown with the speed of the first seconds
    report: Reporter,
) -> TrainSummary:
    """Train from `state` until `stop` or an interrupt ends it, and leave the run in order.

    Every step is seeded from its position, and its batch follows from it: a run limited by images
    ends the same however often it is stopped.

    Raises:
        FaceswapError: Training failed `MAX_ROLLBACKS` times without getting past the failure.
    """
    run, train = files.run, trainer.train
    interval = train.checkpoint_interval_images
    images = loader.images_per_step
    log = RunLog(run, report, start=state, estimate=estimate, stop=stop)
    page = LiveReport(run, files.recipe)
    health = HealthMonitor(trainer.model.opposed_losses)
    swap_evaluator = SwapEvaluator(loader)
    batches = BatchPrefetcher(loader)
    result: ValidationResult | None = None  # the last one of this session
    if dist.is_main:
        files.begin(state)
        log.begin()
    clock = time.monotonic()
    while True:
        # Decide. What the main process says holds for all of them.
        reason = stop.reason(state, interrupt, interval=interval)
        progress = TrainProgress(images_seen=state.images_seen, max_images=stop.max_images)
        lr_scale = trainer.schedule(stop.fraction_done(state)) * state.lr_scale
        lr_scale *= warmup_factor(state.images_seen, train.warmup_images)
        plateaus = [
            state.plateaus.get(group, PlateauState()).lr_scale for group in trainer.parameter_groups
        ]
        is_over, images_seen, growth_step, lr_scale, *plateaus = dist.broadcast_scalars(
            [reason != "", state.images_seen, trainer.growth_due(progress), lr_scale, *plateaus]
        )
        if is_over:
            break
        if images_seen != state.images_seen:  # the main process has gone back
            state = checkpoint.restore(trainer, run)
            progress = replace(progress, images_seen=state.images_seen)

        # Grow.
        if growth_step != trainer.growth_step:
            if dist.is_main:
                if log.previewed_images != state.images_seen:
                    log.preview(state, write_preview(trainer, loader, run, state))
                log.growth(state, trainer.model)
            # The same seed in every process: the same new weights.
            torch.manual_seed(derive_seed(seed, state.images_seen, "growth"))
            trainer.grow(int(growth_step), progress)

        # Step.
        batch = batches.batch(state.images_seen)
        torch.manual_seed(derive_seed(seed, state.images_seen, f"step of process {dist.rank}"))
        group_lr_scales = dict(zip(trainer.parameter_groups, plateaus, strict=True))
        try:
            losses = trainer.step(
                batch, progress, lr_scale=lr_scale, images=images, group_lr_scales=group_lr_scales
            )
        except StepOutOfMemoryError:  # the step may have been taken in part
            state = retry_in_smaller_parts(trainer, files, batch, dist)
            parts = trainer.grad_accum_steps
            log.event(state, "out_of_memory", f"memory ran out: {parts} micro-batches a step now")
            continue
        batches.prefetch(state.images_seen + images)
        clock, last = time.monotonic(), clock
        state = replace(
            state, images_seen=state.images_seen + images, seconds=state.seconds + clock - last
        )
        if not dist.is_main:
            continue

        # Status.
        log.add(losses, trainer.group_losses)
        is_interval = crossed(state, images, interval)
        is_early = crossed_any(state, images, EARLY_IMAGES)
        is_due = is_interval or is_early or files.seconds_since_save > CHECKPOINT_MAX_S
        is_due = is_due or stop.reason(state, interrupt, interval=interval) != ""
        problem = ""
        if is_due or log.is_status_due():
            problem = health.check(*log.status(state, trainer))
            page.update()

        # Validate, check and save; or go back.
        if is_due and not problem:
            is_scored = is_interval or is_early
            with trainer.ema_weights() as model:
                result = validate(model, loader)
                swaps = swap_evaluator.evaluate(model) if is_scored else ""
            log.validation(state, result)
            log.swaps(state, swaps)
            problem = state.health_baseline.check(result)
            if not problem and not trainer.is_finite():
                problem = "weights or the optimizer's moments are no numbers any more"
            if not problem:
                is_best = is_scored and is_best_model(state, result, swaps, trainer.model)
                if is_scored:
                    state = record(state, result, swaps, trainer, is_interval=is_interval)
                files.save(state, is_best=is_best)
        if problem:
            state = roll_back(trainer, files, log, state, problem)  # time runs backwards here
            health = HealthMonitor(trainer.model.opposed_losses)
            continue

        # Preview.
        preview_interval = train.preview_interval_images
        if crossed(state, images, preview_interval) or (preview_interval and is_early):
            log.preview(state, write_preview(trainer, loader, run, state))

    if not dist.is_main:
        return log.summary(state, reason="the main process ended it")
    if files.saved_images != state.images_seen and trainer.is_finite():
        with trainer.ema_weights() as model:
            result = validate(model, loader)
        log.validation(state, result)
        files.save(state)
    if result is not None and log.measured_images != state.images_seen:
        with trainer.ema_weights() as model:
            swaps = swap_evaluator.evaluate(model)
        log.swaps(state, swaps)
        # Not recorded: a run that goes on from here must end as if it had not been here.
        if not interrupt.requested and is_best_model(state, result, swaps, trainer.model):
            files.keep_as_best()
    files.wait()
    if log.previewed_images != state.images_seen:
        log.preview(state, write_preview(trainer, loader, run, state))
    swap_evaluator.close()
    log.finish(state, trainer.model, reason, is_interrupted=interrupt.requested)
    write_run_report(run, files.recipe, is_training=False)
    return log.summary(state, reason=reason)


def retry_in_smaller_parts(
    trainer: Trainer, files: CheckpointWriter, batch: FaceBatch, dist: DistributedContext
) -> TrainState:
    """Have batches processed in smaller parts, and return to the last checkpoint.

    The step that failed may have stepped one network of two, and advanced buffers: taking it again
    from where it stopped would not be the same training.

    Raises:
        DeviceError: A part is one face already, or other processes wait for this one's gradients.
    """
    if dist.world_size > 1:
        raise DeviceError(
            f"memory ran out in process {dist.rank} of {dist.world_size}",
            hint="use a smaller batch (--batch-size N) or smaller networks (--set model.size_px=N)",
        )
    trainer.split_further(batch.target.shape[1])
    files.wait()
    return checkpoint.restore(trainer, files.run)


def roll_back(
    trainer: Trainer, files: CheckpointWriter, log: RunLog, state: TrainState, problem: str
) -> TrainState:
    """Return to the last good checkpoint with a lower learning rate.

    Raises:
        FaceswapError: That has been done in vain before.
    """
    log.event(state, "failure", problem, note=False)
    if state.rollbacks >= MAX_ROLLBACKS:
        lower = trainer.train.learning_rate * state.lr_scale * ROLLBACK_LR_SCALE
        raise FaceswapError(
            f"training fails again and again after {state.images_seen:,} images: {problem}",
            hint=f"the last good state is saved; try a lower --set train.learning_rate={lower:g}",
        )
    files.wait()
    good = checkpoint.restore(trainer, files.run)
    back = replace(
        good,
        lr_scale=state.lr_scale * ROLLBACK_LR_SCALE,
        rollbacks=state.rollbacks + 1,
        last_failure_images=max(state.images_seen, state.last_failure_images),
        seconds=state.seconds,
    )
    # At once, so that a run stopped before its next checkpoint does not forget the lower rate; and
    # whole, since other processes read it.
    files.save(back)
    files.wait()
    message = f"{problem}: back to {back.images_seen:,} images at {back.lr_scale:g} of the rate"
    log.event(back, "rollback", message)
    return back


def is_best_model(
    state: TrainState, result: ValidationResult, swaps: SwapMetrics | str, model: SwapModel
) -> bool:
    """Return whether a model's swaps, or without metrics its reconstructions, are the best so far.

    Networks that still grow are never the best: what they cannot show yet is not measured.
    """
    if isinstance(model, GrowingModel) and model.is_growing:
        return False
    if isinstance(swaps, SwapMetrics):
        return state.best_swap_error is None or swaps.error < state.best_swap_error
    best = state.health_baseline.best_error
    return state.best_swap_error is None and (best is None or result.error < best)


def record(
    state: TrainState,
    result: ValidationResult,
    swaps: SwapMetrics | str,
    trainer: Trainer,
    *,
    is_interval: bool,
) -> TrainState:
    """Return `state` after a healthy validation at a fixed position of the run.

    What is found at other positions is not recorded: a run that was stopped there must continue as
    if it had not been. Schedules count the validations at the regular interval only.
    """
    if is_best_model(state, result, swaps, trainer.model):
        error = swaps.error if isinstance(swaps, SwapMetrics) else None
        state = replace(state, best_images=state.images_seen, best_swap_error=error)
    if is_interval:
        if isinstance(trainer.model, GrowingModel):
            trainer.model.on_validation(result.error)
        if trainer.train.lr_schedule == "plateau":
            errors = {
                group: result.losses.get(group, result.error) for group in trainer.parameter_groups
            }
            state = replace(state, plateaus=step_plateaus(state.plateaus, errors))
    recovered = RECOVERY_INTERVALS * trainer.train.checkpoint_interval_images
    if state.images_seen > state.last_failure_images + recovered:
        state = replace(state, rollbacks=0)
    return replace(state, health_baseline=state.health_baseline.update(result))


def crossed(state: TrainState, images: int, interval: int) -> bool:
    """Return whether a step of `images` crossed a multiple of `interval`; 0 is never crossed."""
    before = state.images_seen - images
    return interval > 0 and before // interval < state.images_seen // interval


def crossed_any(state: TrainState, images: int, positions: Sequence[int]) -> bool:
    """Return whether a step of `images` crossed one of some positions."""
    return any(state.images_seen - images < one <= state.images_seen for one in positions)
