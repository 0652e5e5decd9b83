"""Train: crops of two or more people -> networks that swap their faces.

`train` reads as a story: the session is built, then `training.loop` runs it. A dry run and the
search for a batch size build the same session and take a few of its steps.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from faceswap_cli.core.config import (
    FROM_AUTO_BATCH_SIZE,
    Recipe,
    read_preset,
    read_recipe_file,
    resolve,
    with_batch_size,
)
from faceswap_cli.core.errors import ConfigurationError, DeviceError, InputError
from faceswap_cli.core.fileio import check_disk_space, translate_removed_files
from faceswap_cli.core.hardware import (
    Hardware,
    limit_threads,
    release_cached_memory,
    set_up_hardware,
)
from faceswap_cli.core.lock import run_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.training import checkpoint
from faceswap_cli.training.checkpoint import CheckpointWriter
from faceswap_cli.training.dataset import (
    POOLED_IDENTITY,
    VALIDATION_FRACTION,
    IdentityDataset,
    cached_side_px,
    check_min_faces,
    crop_side_px,
    derive_seed,
    detail_side_px,
    load_identity,
    merge_sets,
    split_train_val,
)
from faceswap_cli.training.distributed import DistributedContext, init_distributed
from faceswap_cli.training.estimate import (
    BatchTrial,
    TrainEstimate,
    benchmark_steps,
    count_parameters,
    device_name,
    estimate_disk_bytes,
    grow_to_final,
    peak_memory_bytes,
    search_batch_size,
    search_limits,
    whole_peak_bytes,
)
from faceswap_cli.training.loader import FaceLoader, make_loader
from faceswap_cli.training.loop import training_loop
from faceswap_cli.training.pretrained import (
    InitConfig,
    freeze_parts,
    initialize_weights,
    load_perceptual_weights,
)
from faceswap_cli.training.run_log import TrainSummary
from faceswap_cli.training.state import StopCriterion, TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_models import registry
from faceswap_models.base import SwapModel
from faceswap_models.growing import GrowingModel

__all__ = [
    "InitConfig",
    "StopCriterion",
    "TrainJob",
    "TrainSummary",
    "dry_run",
    "resolve_batch_size",
    "resolve_recipe",
    "train",
]

RANDOM_INIT = InitConfig()
SINGLE_PROCESS = DistributedContext()
DRY_RUN_FACES = 64
"""Faces of each identity that a dry run decodes."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """What is trained, how, until when and where."""

    sets: Sequence[FaceSet]
    """Faces of one identity each; their names become the identities'."""
    recipe: Recipe
    run: RunFolder
    """Where everything goes."""
    stop_criterion: StopCriterion
    device: str
    """`auto`, `cpu`, `cuda` or `mps`."""
    seed: int
    """With the images seen it decides every random number of the run."""
    init: InitConfig = RANDOM_INIT
    """What a new run starts from."""

    @property
    def identities(self) -> list[str]:
        """Names of the identities that are trained: one a set, or one for all sets."""
        if self.init.pool_identities and len(self.sets) > 1:
            return [POOLED_IDENTITY]
        return [faces.name for faces in self.sets]


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a training session works with."""

    trainer: Trainer
    loader: FaceLoader
    state: TrainState
    """Where it starts."""
    estimate: TrainEstimate
    """What the whole training takes, without its speed."""


def resolve_recipe(
    backend: str,
    preset: str | None,
    overrides: Sequence[str],
    *,
    run: RunFolder,
    init: InitConfig,
) -> Recipe:
    """Return the recipe of a training.

    Without a `preset` it is the one that the run, or the run it starts from, was trained with; for
    a new run, the default. A run goes on with what its preset was when it began.

    Raises:
        ConfigurationError: A name is unknown, or a value does not fit its setting.
    """
    if init.init_from is not None and not run.recipe.exists():
        stored = checkpoint.read_recipe(init.init_from, backend)
        started_with = stored.preset if stored else None
    else:
        stored = checkpoint.read_run_recipe(run, backend)
        started_with = read_preset(run.recipe, backend, stored=stored)
    if preset is None:
        preset = started_with
    return resolve(backend, preset or None, overrides, stored=stored)


@translate_removed_files()
def train(job: TrainJob, *, report: Reporter) -> TrainSummary:
    """Train on two or more sets, resuming where the run stopped.

    Raises:
        ConfigurationError: The sets, or a setting, do not fit.
        NoFacesError: A set has too few faces.
        DeviceError: The device is not there, or its memory is too small.
        CheckpointError: The run is damaged, or was trained with other networks or identities.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was finished and everything saved.
    """
    check_sets(job)
    with ExitStack() as stack:
        dist = stack.enter_context(init_distributed(job.recipe.train.batch_size))
        hardware = set_up_hardware(job.device, index=dist.local_rank)
        stack.enter_context(limit_threads(job.recipe.train.num_threads))
        if dist.is_main:
            stack.enter_context(run_lock(job.run.root))
        else:
            report = Reporter()
        interrupt = stack.enter_context(graceful_interrupt())
        session = build_session(job, hardware, dist=dist, report=report)
        if dist.world_size > 1:
            synchronize(session, dist)
        files = CheckpointWriter(
            job.run,
            session.trainer,
            session.loader,
            recipe=job.recipe,
            origins=checkpoint.read_origins(job.sets),
        )
        summary = training_loop(
            session.trainer,
            session.loader,
            stack.enter_context(files),
            state=session.state,
            seed=job.seed,
            stop=job.stop_criterion,
            interrupt=interrupt,
            dist=dist,
            estimate=session.estimate,
            report=report,
        )
    interrupt.raise_if_requested()
    return summary


def dry_run(job: TrainJob, *, report: Reporter) -> TrainEstimate:
    """Take some steps and return what a training takes (`--dry-run`); the run is not changed.

    Raises:
        FaceswapError: Whatever `train` would refuse to start with.
    """
    check_sets(job)
    hardware = set_up_hardware(job.device)
    with limit_threads(job.recipe.train.num_threads), TemporaryDirectory() as folder:
        session = build_session(
            job, hardware, cache=Path(folder), max_faces=DRY_RUN_FACES, report=report
        )
        grow_to_final(session.trainer)
        report.start_task("measuring some steps", total=None, unit="images")
        state, estimate = session.state, session.estimate
        speed, _ = benchmark_steps(session.trainer, session.loader, start_images=state.images_seen)
        del session  # a mapped file cannot be deleted everywhere
    images, seconds = job.stop_criterion.remaining(state, images_per_second=speed)
    return replace(
        estimate,
        images_per_second=speed,
        memory_bytes=whole_peak_bytes(hardware.device),
        remaining_images=images,
        remaining_seconds=seconds,
    )


def resolve_batch_size(job: TrainJob, *, report: Reporter) -> TrainJob:
    """Return the training with the largest batch that fits the device (`--batch-size auto`).

    A run that was started so keeps the size it found: the same command must resume it.

    Raises:
        ConfigurationError: Several processes train together.
        FaceswapError: Whatever `train` would refuse to start with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "--batch-size auto tries sizes in one process, and there are several",
            hint="give the batch size of all processes together: --batch-size N",
        )
    check_sets(job)
    saved = checkpoint.load_checkpoint(job.run)
    if saved is not None and saved.recipe.sources.get("train.batch_size") == FROM_AUTO_BATCH_SIZE:
        return replace(job, recipe=with_batch_size(job.recipe, saved.recipe.train.batch_size))
    hardware = set_up_hardware(job.device)
    with TemporaryDirectory() as folder:
        report.start_task("trying batch sizes", total=None, unit="faces")
        size, stopped_by = search_batch_size(
            partial(
                try_batch_size,
                job=job,
                hardware=hardware,
                cache=Path(folder),
                baseline_bytes=peak_memory_bytes(hardware.device),
            ),
            limits=search_limits(hardware.device),
            max_batch_size=min(
                len(split_train_val(len(faces), VALIDATION_FRACTION)[0]) for faces in job.sets
            ),
        )
    report.note(f"batches of {size} faces of each person: {stopped_by}")
    return replace(job, recipe=with_batch_size(job.recipe, size))


def try_batch_size(
    size: int, *, job: TrainJob, hardware: Hardware, cache: Path, baseline_bytes: int
) -> BatchTrial | None:
    """Train on some batches of `size` faces of each identity; None if memory runs out.

    Args:
        size: The batch size.
        job: What is trained.
        hardware: On what.
        cache: Folder of the decoded crops, shared by all trials.
        baseline_bytes: Peak memory before the first trial: on a CPU the peak never falls.
    """
    release_cached_memory(hardware.device)
    if hardware.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(hardware.device)
    if hardware.device.type != "cpu":
        baseline_bytes = 0
    trial = replace(job, recipe=with_batch_size(job.recipe, size))
    try:
        session = build_session(
            trial, hardware, cache=cache, max_faces=DRY_RUN_FACES, report=Reporter()
        )
        grow_to_final(session.trainer)
        speed, memory = benchmark_steps(session.trainer, session.loader)
    except (DeviceError, torch.OutOfMemoryError):
        return None
    if session.trainer.grad_accum_steps > 1:  # memory ran out on the way
        return None
    return BatchTrial(images_per_second=speed, memory_bytes=memory - baseline_bytes)


def build_session(
    job: TrainJob,
    hardware: Hardware,
    *,
    dist: DistributedContext = SINGLE_PROCESS,
    cache: Path | None = None,
    max_faces: int | None = None,
    report: Reporter,
) -> Session:
    """Build networks and loader, and restore the last checkpoint of a run that has one.

    Args:
        job: What is trained.
        hardware: On what.
        dist: This process among those that train together.
        cache: Folder of the decoded crops; None for the run's own, whose disk is then checked.
        max_faces: Faces of each identity that are decoded, for a trial.
        report: Shows how many crops are read.

    Raises:
        FaceswapError: See `train`.
    """
    recipe, identities = job.recipe, job.identities
    saved = checkpoint.load_checkpoint(job.run)
    if saved is not None:
        checkpoint.check_compatible(saved, recipe=recipe, identities=identities, run=job.run)
        try:
            read_recipe_file(job.run.recipe)
        except InputError as error:
            report.note(f"{error}: it is written anew")
        for name in saved.recipe.ignored:
            report.note(f"{name}, which the run was trained with, is not a setting here: ignored")
        identities = list(saved.identities)
    model = build_model(recipe, identities, hardware, seed=job.seed)
    if saved is None:
        with dist.main_first():  # a file that it downloads the others then find
            start = initialize_weights(model, job.init, recipe=recipe)
        report.note(start)
    weight = dist.shard_weight(recipe.train.batch_size)
    reduce = partial(dist.all_reduce, shard_weight=weight) if dist.world_size > 1 else None
    trainer = Trainer(model, recipe.train, hardware, all_reduce=reduce)
    state = TrainState()
    if saved is not None:
        state = checkpoint.restore_from(trainer, saved, run=job.run)
    estimate = estimate_without_speed(trainer, job)
    if dist.is_main and cache is None:
        check_disk_space(job.run.root, needed_bytes=estimate.disk_bytes)
    with dist.main_first():  # the others map its cache
        datasets = load_datasets(
            job,
            identities,
            cache=cache or job.run.cache,
            max_faces=max_faces,
            val_files=saved.validation_files if saved else {},
            report=report,
        )
    loader = make_loader(
        datasets,
        model=recipe.model,
        train=recipe.train,
        seed=job.seed,
        device=hardware.device,
        rank=dist.rank,
        world_size=dist.world_size,
    )
    return Session(trainer=trainer, loader=loader, state=state, estimate=estimate)


def synchronize(session: Session, dist: DistributedContext) -> None:
    """Give all processes the same weights, and as many micro-batches as the neediest one.

    Once they train, a process that runs out of memory can no longer change its number: the others
    wait for its gradients. So each takes some steps alone first, which are then undone.
    """
    trainer = session.trainer
    dist.broadcast_tensors(trainer.state_dict())
    before = {name: one.detach().to("cpu", copy=True) for name, one in trainer.state_dict().items()}
    reduce, trainer.all_reduce = trainer.all_reduce, None
    grow_to_final(trainer)
    benchmark_steps(trainer, session.loader, start_images=session.state.images_seen, seconds=0.0)
    trainer.grad_accum_steps = dist.largest(trainer.grad_accum_steps)
    trainer.all_reduce = reduce
    trainer.load_state_dict(before)


def check_sets(job: TrainJob) -> None:
    """Refuse sets that cannot be trained on.

    Raises:
        ConfigurationError: There are too few, or one is named twice.
        NoFacesError: One has too few faces.
    """
    names = [faces.name for faces in job.sets]
    if len(names) < job.init.min_identities:
        raise ConfigurationError(
            f"training needs the faces of at least two people, and got {len(names)}",
            hint="for example: faceswap train --model autoencoder A B",
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f'the set "{twice[0]}" is named twice',
            hint="a swap needs two different people: name two different sets",
        )
    for faces in job.sets:
        check_min_faces(faces)


def build_model(
    recipe: Recipe, identities: Sequence[str], hardware: Hardware, *, seed: int
) -> SwapModel:
    """Build the networks with the random weights that belong to the seed.

    Raises:
        ConfigurationError: There is no part of those to be frozen.
        InputError: A file that a loss needs is missing.
    """
    torch.manual_seed(derive_seed(seed, 0, "first weights"))
    model = registry.load(recipe.backend)(recipe.model, recipe.train, identities)
    model.to(memory_format=hardware.memory_format)  # type: ignore[call-overload]  # not in its stub
    freeze_parts(model, recipe.train.freeze)
    model.to(hardware.device).train()
    load_perceptual_weights(model)
    return model


def load_datasets(
    job: TrainJob,
    identities: Sequence[str],
    *,
    cache: Path,
    max_faces: int | None,
    val_files: Mapping[str, Collection[str]],
    report: Reporter,
) -> list[IdentityDataset]:
    """Decode the crops of all identities, in the order in which the networks know them."""
    sets = [replace(faces, records=faces.records[:max_faces]) for faces in job.sets]
    by_name = {faces.name: faces for faces in sets}
    if list(identities) == [POOLED_IDENTITY] and POOLED_IDENTITY not in by_name:
        by_name = {POOLED_IDENTITY: merge_sets(sets, name=POOLED_IDENTITY)}
    report.start_task("reading crops", total=sum(map(len, sets)), unit="faces")
    datasets: list[IdentityDataset] = []
    for name in identities:
        side_px, detail_px = cache_sides_px(by_name[name], job.recipe)
        dataset = load_identity(
            by_name[name],
            cache=cache,
            side_px=side_px,
            detail_side_px=detail_px,
            val_files=val_files.get(name, ()),
        )
        datasets.append(dataset)
        report.update(sum(len(one.pixels) for one in datasets))
    return datasets


def cache_sides_px(faces: FaceSet, recipe: Recipe) -> tuple[int, int]:
    """Return the sides of a set's decoded crops, px: the network's, and those for detail or 0."""
    crop_px = crop_side_px(faces)
    return cached_side_px(recipe.model, crop_px), detail_side_px(recipe.model, crop_px)


def estimate_without_speed(trainer: Trainer, job: TrainJob) -> TrainEstimate:
    """Return what a training takes that can be known before its first step."""
    final = trainer
    if isinstance(trainer.model, GrowingModel) and trainer.model.is_growing:
        model = build_model(job.recipe, trainer.model.identities, trainer.hardware, seed=job.seed)
        final = Trainer(model, job.recipe.train, trainer.hardware)
        grow_to_final(final)
    faces = {faces.name: len(faces) for faces in job.sets}
    cache_bytes = sum(
        4 * side**2 * len(faces) for faces in job.sets for side in cache_sides_px(faces, job.recipe)
    )
    if job.identities == [POOLED_IDENTITY]:
        faces = {POOLED_IDENTITY: sum(faces.values())}
    return TrainEstimate(
        device=device_name(trainer.hardware.device),
        precision=trainer.hardware.precision,
        parameters=count_parameters(final),
        faces_per_identity=faces,
        images_per_step=job.recipe.train.batch_size * len(job.identities),
        disk_bytes=estimate_disk_bytes(final, cache_bytes=cache_bytes),
    )
