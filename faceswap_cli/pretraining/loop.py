"""The loop of pretraining: step, status, score and save, preview."""

import time
from dataclasses import asdict, dataclass, replace

import torch

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag
from faceswap_cli.pretraining.loader import PairLoader
from faceswap_cli.pretraining.score import PairScore, render_pair_grid, score_pairs
from faceswap_cli.training.checkpoint import CheckpointWriter
from faceswap_cli.training.dataset import derive_seed
from faceswap_cli.training.estimate import TrainEstimate
from faceswap_cli.training.health import HealthMonitor
from faceswap_cli.training.loop import CHECKPOINT_MAX_S, crossed
from faceswap_cli.training.run_log import RunLog
from faceswap_cli.training.schedule import warmup_factor
from faceswap_cli.training.state import StopCriterion, TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import SwapModel, TrainProgress
from faceswap_models.modulated import ModulatedAutoencoder


@dataclass(frozen=True, kw_only=True)
class PretrainSummary:
    """What a session of pretraining achieved."""

    run: str
    """Name of the run."""
    weights_path: str
    """Path of the weights that new people start from."""
    stop_reason: str
    """Why it ended."""
    images_seen: int
    """Pairs shown, over all sessions."""
    people: int
    """People that have a vector."""
    ssim: float
    """See `PairScore`."""
    psnr: float

    def to_rows(self) -> dict[str, str]:
        """Return the summary as rows of a table, name to text."""
        return {
            "ended": self.stop_reason,
            "images seen": f"{self.images_seen:,}",
            "people": f"{self.people:,}",
            "swaps of new people": f"SSIM {self.ssim:.3f}, {self.psnr:.1f} dB to the truth",
            "weights": self.weights_path,
        }


def pretraining_loop(
    trainer: Trainer,
    loader: PairLoader,
    files: CheckpointWriter,
    *,
    state: TrainState,  # where to begin
    seed: int,
    stop: StopCriterion,
    interrupt: StopFlag,
    estimate: TrainEstimate,
    report: Reporter,
) -> PretrainSummary:
    """Train on pairs from `state` until `stop` or an interrupt ends it, and leave the run in order.

    As in training, every step and its batch follow from its position: a run limited by images ends
    the same however often it is stopped.

    Raises:
        FaceswapError: A loss is not a number any more, or has exploded.
    """
    run, train = files.run, trainer.train
    interval, images = train.checkpoint_interval_images, loader.images_per_step
    log = RunLog(run, report, start=state, estimate=estimate, stop=stop)
    health = HealthMonitor(trainer.model.opposed_losses)
    files.begin(state)
    log.begin()
    clock = time.monotonic()
    while not (reason := stop.reason(state, interrupt, interval=interval)):
        # Step.
        progress = TrainProgress(images_seen=state.images_seen, max_images=stop.max_images)
        lr_scale = trainer.schedule(stop.fraction_done(state))
        lr_scale *= warmup_factor(state.images_seen, train.warmup_images)
        batch = loader.batch(state.images_seen)
        torch.manual_seed(derive_seed(seed, state.images_seen, "step"))
        losses = trainer.step(batch, progress, lr_scale=lr_scale, images=images)
        clock, last = time.monotonic(), clock
        state = replace(
            state, images_seen=state.images_seen + images, seconds=state.seconds + clock - last
        )

        # Status.
        log.add(losses, trainer.group_losses)
        is_interval = crossed(state, images, interval)
        is_due = is_interval or files.seconds_since_save > CHECKPOINT_MAX_S
        if is_due or log.is_status_due():
            problem = health.check(*log.status(state, trainer))
            if problem:
                raise FaceswapError(
                    f"pretraining fails after {state.images_seen:,} images: {problem}",
                    hint="the last good state is saved; try a lower --set train.learning_rate",
                )

        # Score and save.
        if is_due:
            score = score_averaged(trainer, loader)
            log.scores(state, asdict(score))
            is_best = is_interval and is_highest(state, score)
            if is_best:
                state = with_best(state, score)
            files.save(state, is_best=is_best)

        # Preview.
        if crossed(state, images, train.preview_interval_images):
            write_pair_preview(trainer, loader, log, state, files)

    score = score_averaged(trainer, loader)
    if files.saved_images != state.images_seen:
        log.scores(state, asdict(score))
        files.save(state)
    if not interrupt.requested and is_highest(state, score):
        files.keep_as_best()
    files.wait()
    write_pair_preview(trainer, loader, log, state, files)
    log.finish(state, trainer.model, reason, is_interrupted=interrupt.requested)
    return PretrainSummary(
        run=run.name,
        weights_path=str(run.trained),
        stop_reason=reason,
        images_seen=state.images_seen,
        people=loader.num_people,
        ssim=score.ssim,
        psnr=score.psnr,
    )


def score_averaged(trainer: Trainer, loader: PairLoader) -> PairScore:
    """Score the averaged weights."""
    with trainer.ema_weights() as model:
        return score_pairs(as_modulated(model), loader)


def write_pair_preview(
    trainer: Trainer, loader: PairLoader, log: RunLog, state: TrainState, files: CheckpointWriter
) -> None:
    """Write the grid of some validation pairs, and show where it is."""
    path = files.run.preview_path(state.images_seen)
    with trainer.ema_weights() as model:
        image_io.write_png(path, render_pair_grid(as_modulated(model), loader))
    log.preview(state, path)


def as_modulated(model: SwapModel) -> ModulatedAutoencoder:
    """Return a trainer's model as what it is here."""
    assert isinstance(model, ModulatedAutoencoder)
    return model


def is_highest(state: TrainState, score: PairScore) -> bool:
    """Return whether a score is the highest so far."""
    best = state.health_baseline.best_error
    return best is None or 1 - score.ssim < best


def with_best(state: TrainState, score: PairScore) -> TrainState:
    """Return `state` after the highest score so far."""
    baseline = replace(state.health_baseline, best_error=1 - score.ssim)
    return replace(state, best_images=state.images_seen, health_baseline=baseline)
