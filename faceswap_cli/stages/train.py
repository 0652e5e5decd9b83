"""Train: crops of two or more people -> networks that swap their faces.

Reads as a story: what a sitting at a run begins with, and the loop; `learning.sitting` is what
happens along the way.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch

from faceswap_cli.core.config import FROM_AUTO_BATCH_SIZE, Recipe, read_preset, with_batch_size
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, DeviceError
from faceswap_cli.core.lock import run_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import StopFlag, graceful_interrupt
from faceswap_cli.core.workspace import RunFolder, SetFolder
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.provenance.consent import Origin, read_origin
from faceswap_cli.training import checkpoint
from faceswap_cli.training.auto_batch_size import BatchTrial, search_batch_size, search_limits
from faceswap_cli.training.checkpoint import Checkpoint
from faceswap_cli.training.dataset import (
    VALIDATION_FRACTION,
    IdentityDataset,
    cached_side_px,
    check_min_faces,
    crop_side_px,
    derive_seed,
    load_identity,
    merge_sets,
    split_train_val,
)
from faceswap_cli.training.distributed import DistributedContext, init_distributed
from faceswap_cli.training.estimate import (
    TrainEstimate,
    benchmark_step,
    check_disk_space,
    device_name,
    estimate_disk_bytes,
    peak_memory_bytes,
)
from faceswap_cli.training.hardware import (
    Hardware,
    find_hardware,
    keep_freed_memory,
    limit_threads,
    use_fast_kernels,
)
from faceswap_cli.training.loader import FaceLoader, make_loader
from faceswap_cli.training.pretrained import (
    InitConfig,
    freeze,
    initialize_weights,
    load_perceptual_weights,
)
from faceswap_cli.training.session import (
    StopCriterion,
    TrainingSession,
    TrainSummary,
    WorkerSession,
    count_parameters,
)
from faceswap_cli.training.trainer import Trainer, TrainState, training_loop
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
    "train",
]

Result = TypeVar("Result")

POOLED_IDENTITY = "everybody"
"""What the one person is called that all sets together make up."""
RANDOM_INIT = InitConfig()
DRY_RUN_FACES = 64
"""Faces of each person that a rehearsal decodes."""


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """What is to be learnt, how, until when and where."""

    sets: Sequence[FaceSet]
    """One person's faces each; their names become the people's."""
    recipe: Recipe
    run: RunFolder
    """Where everything goes."""
    stop_criterion: StopCriterion
    device: str
    """`auto`, `cpu`, `cuda` or `mps`."""
    seed: int
    """With the images seen it decides every chance of the run."""
    init: InitConfig = RANDOM_INIT
    """What a new run begins with."""

    @property
    def identity_names(self) -> list[str]:
        """The names of the people that are learnt: everybody's, or one for all."""
        if self.init.pool_identities and len(self.sets) > 1:
            return [POOLED_IDENTITY]
        return [faces.name for faces in self.sets]

    @property
    def subset(self) -> list[FaceSet]:
        """The sets with as many faces as are enough to try some steps with."""
        return [replace(faces, records=faces.records[:DRY_RUN_FACES]) for faces in self.sets]


def train(job: TrainJob, *, report: Reporter) -> TrainSummary:
    """Train on two or more sets, going on where the run stopped.

    Raises:
        ConfigurationError: The sets, or a setting, do not fit.
        NoFacesError: A set has too few faces.
        DeviceError: The device is not there.
        CheckpointError: The run is damaged, or was trained with other networks or people.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was finished and everything saved.
    """
    check_sets(job.sets, min_sets=job.init.min_identities)
    keep_freed_memory()
    with ExitStack() as held:
        team = held.enter_context(init_distributed(job.recipe.train.batch_size))
        hardware = find_hardware(job.device, index=team.local_rank)
        use_fast_kernels(hardware.device)
        held.enter_context(limit_threads(job.recipe.train.num_threads))
        if team.is_main:
            held.enter_context(run_lock(job.run.root))
        stop = held.enter_context(graceful_interrupt())
        summary = run_training(
            job,
            hardware=hardware,
            dist=team,
            interrupt=stop,
            report=report if team.is_main else Reporter(),
        )
    if stop.requested:
        raise KeyboardInterrupt
    return summary


def run_training(
    job: TrainJob,
    *,
    hardware: Hardware,
    dist: DistributedContext,
    interrupt: StopFlag,
    report: Reporter,
) -> TrainSummary:
    """Train for one sitting, as one of a team of processes."""
    sets, recipe, run = job.sets, job.recipe, job.run
    goal, seed = job.stop_criterion, job.seed
    resume = checkpoint.load_checkpoint(run)
    names = job.identity_names
    if resume is not None:
        checkpoint.check_compatible(resume, recipe=recipe, identities=names, run=run)
        names = list(resume.identities)
    model = build_model(recipe, names, hardware, seed=seed)
    if resume is None:
        main_process_first(dist, lambda: initialize_weights(model, job.init))
    trainer = Trainer(
        model,
        recipe.train,
        hardware,
        all_reduce=partial(
            dist.all_reduce, shard_weight=dist.shard.weight(recipe.train.batch_size)
        ),
    )
    state = restore_trainer(trainer, resume, run=run) if resume else TrainState()
    grown = fully_grown(trainer, recipe=recipe, seed=seed)
    disk, parameters = (
        estimate_disk_bytes(grown, cache_bytes=estimate_cache_bytes(sets, recipe)),
        count_parameters(grown.model),
    )
    del grown
    if dist.is_main:
        check_disk_space(run.root, needed_bytes=disk)
    people = main_process_first(
        dist, lambda: load_identities(sets, names, recipe=recipe, run=run, report=report)
    )
    dist.broadcast_tensors(trainer.state_dict())
    feed = make_loader(
        people,
        model=recipe.model,
        train=recipe.train,
        seed=seed,
        device=hardware.device,
        shard=dist.shard,
    )
    plan = estimate_training(
        trainer, feed, stop_criterion=goal, state=state, disk_bytes=disk, report=report
    )
    report.show_values(f"what {run.name} takes", replace(plan, parameters=parameters).facts())
    sitting = (TrainingSession if dist.is_main else WorkerSession)(
        trainer,
        feed,
        recipe=recipe,
        run=run,
        stop_criterion=goal,
        interrupt=interrupt,
        start_state=state,
        report=report,
        origins=[set_origin(faces) for faces in sets],
    )
    sitting.start(state)
    report.start_task(f"train {run.name}", total=sitting.progress_total, unit=sitting.progress_unit)
    state = training_loop(
        sitting.is_over,
        trainer=trainer,
        loader=feed,
        state=state,
        seed=seed,
        max_images=goal.max_images,
        fraction_done=sitting.fraction_done,
        on_step_end=sitting.on_step_end,
        dist=dist,
        reload_state=lambda: reload_checkpoint(trainer, run=run),
        on_growth=sitting.on_growth,
    )
    return sitting.finish(state)


def set_origin(faces: FaceSet) -> Origin:
    """Return what the trained model tells of a set: the digests of its files."""
    folder = SetFolder(root=faces.folder)
    return read_origin(records=folder.records, source=folder.source)


def dry_run(job: TrainJob, *, report: Reporter) -> TrainEstimate:
    """Try some steps, and say what a training would take (`--dry-run`).

    Nothing of the run is changed, and nothing is left behind.

    Raises:
        FaceswapError: Whatever `train` would refuse to begin with.
    """
    sets, recipe, seed, names = job.sets, job.recipe, job.seed, job.identity_names
    check_sets(sets, min_sets=job.init.min_identities)
    keep_freed_memory()
    hardware = find_hardware(job.device)
    use_fast_kernels(hardware.device)
    resume = checkpoint.load_checkpoint(job.run)
    model = build_model(recipe, names, hardware, seed=seed)
    if resume is not None:
        checkpoint.check_compatible(resume, recipe=recipe, identities=names, run=job.run)
    else:
        initialize_weights(model, job.init)
    trainer = Trainer(model, recipe.train, hardware)
    trainer.grow_to_final()
    with limit_threads(recipe.train.num_threads), TemporaryDirectory() as folder:
        scratch = RunFolder(root=Path(folder))
        people = load_identities(job.subset, names, recipe=recipe, run=scratch, report=report)
        feed = make_loader(
            people, model=recipe.model, train=recipe.train, seed=seed, device=hardware.device
        )
        disk = estimate_disk_bytes(trainer, cache_bytes=estimate_cache_bytes(sets, recipe))
        state = resume.state if resume else TrainState()
        plan = estimate_training(
            trainer,
            feed,
            stop_criterion=job.stop_criterion,
            state=state,
            disk_bytes=disk,
            report=report,
        )
        del feed, people  # a mapped file cannot be deleted everywhere
    everyone = (
        dict(zip(names, map(len, sets), strict=True))
        if len(names) == len(sets)
        else {names[0]: sum(map(len, sets))}
    )
    return replace(plan, faces=everyone)


def estimate_training(
    trainer: Trainer,
    loader: FaceLoader,
    *,
    stop_criterion: StopCriterion,
    state: TrainState,
    disk_bytes: int,
    report: Reporter,
) -> TrainEstimate:
    """Try some steps, take them back, and say what training on takes."""
    report.start_task("trying some steps", total=None, unit="images")
    speed, memory = benchmark_step(trainer, loader, start_images=state.images_seen)
    images, seconds = remaining(stop_criterion, state, speed=speed)
    return TrainEstimate(
        device=device_name(trainer.hardware.device),
        precision=trainer.hardware.precision,
        parameters=count_parameters(trainer.model),
        faces={person.name: len(person.pixels) for person in loader.datasets},
        batch=loader.images_per_step,
        images_per_second=speed,
        memory_bytes=memory,
        disk_bytes=disk_bytes,
        images=images,
        seconds=seconds,
    )


def resolve_batch_size(job: TrainJob, *, report: Reporter) -> TrainJob:
    """Return the training with the largest batch that fits the device (`--batch-size auto`).

    A run that was begun so keeps the size it found: the same command must go on as it began.

    Raises:
        ConfigurationError: Several processes train together.
        FaceswapError: Whatever `train` would refuse to begin with.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "--batch-size auto tries sizes in one process, and there are several",
            hint="give the batch size of all processes together: --batch-size N",
        )
    recipe = job.recipe
    check_sets(job.sets, min_sets=job.init.min_identities)
    resume = checkpoint.load_checkpoint(job.run)
    if resume is not None and resume.recipe.sources.get("train.batch_size") == FROM_AUTO_BATCH_SIZE:
        size = resume.recipe.train.batch_size
        return replace(job, recipe=with_batch_size(recipe, size))
    keep_freed_memory()
    hardware = find_hardware(job.device)
    use_fast_kernels(hardware.device)
    with TemporaryDirectory() as folder:
        scratch = RunFolder(root=Path(folder))
        people = load_identities(
            job.subset, job.identity_names, recipe=recipe, run=scratch, report=report
        )
        report.start_task("trying batch sizes", total=None, unit="faces")
        size, stopped_by = search_batch_size(
            partial(
                try_batch_size, datasets=people, recipe=recipe, hardware=hardware, seed=job.seed
            ),
            limits=search_limits(hardware.device),
            max_batch_size=min(
                len(split_train_val(len(faces), VALIDATION_FRACTION)[0]) for faces in job.sets
            ),
        )
        del people  # a mapped file cannot be deleted everywhere
    report.note(f"batches of {size} faces of each person: {stopped_by}")
    return replace(job, recipe=with_batch_size(recipe, size))


def try_batch_size(
    size: int, *, datasets: Sequence[IdentityDataset], recipe: Recipe, hardware: Hardware, seed: int
) -> BatchTrial | None:
    """Learn from some batches of `size` faces of each person; None if memory ran out."""
    device = hardware.device
    recipe = with_batch_size(recipe, size)
    before = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        before = peak_memory_bytes(device)
    try:
        names = [person.name for person in datasets]
        trainer = Trainer(build_model(recipe, names, hardware, seed=seed), recipe.train, hardware)
        trainer.grow_to_final()
        feed = make_loader(
            datasets, model=recipe.model, train=recipe.train, seed=seed, device=device
        )
        speed, memory = benchmark_step(trainer, feed)
    except (DeviceError, torch.OutOfMemoryError):
        return None
    # A trainer that had to take its batches in parts has run out of memory on the way.
    fits = trainer.grad_accum_steps == 1
    return BatchTrial(images_per_second=speed, memory_bytes=memory - before) if fits else None


def remaining(
    stop_criterion: StopCriterion, state: TrainState, *, speed: float
) -> tuple[int | None, float | None]:
    """Return the images and the seconds left to a goal at `speed` images/s; None if unknown."""
    images = (
        None
        if stop_criterion.max_images is None
        else max(0, stop_criterion.max_images - state.images_seen)
    )
    ends = [] if images is None else [images / speed]
    ends += [] if stop_criterion.max_minutes is None else [stop_criterion.max_minutes * 60]
    return images, min(ends, default=None)


def main_process_first(dist: DistributedContext, work: Callable[[], Result]) -> Result:
    """Let the leader do some work first, whose files the others then find done."""
    if dist.is_main:
        done = work()
        dist.barrier()
        return done
    dist.barrier()
    return work()


def reload_checkpoint(trainer: Trainer, *, run: RunFolder) -> TrainState:
    """Go back to where the leader went back to, which it has saved."""
    resume = checkpoint.load_checkpoint(run)
    assert resume is not None
    return restore_trainer(trainer, resume, run=run)


def check_sets(sets: Sequence[FaceSet], *, min_sets: int) -> None:
    """Refuse sets that cannot be trained on.

    Raises:
        ConfigurationError: There are fewer than `min_sets`, or one is named twice.
        NoFacesError: One has too few faces.
    """
    names = [faces.name for faces in sets]
    if len(names) < min_sets:
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
    for faces in sets:
        check_min_faces(faces)


def inherited_preset(backend: str, *, run: RunFolder, init: InitConfig) -> str | None:
    """Return the preset that a run goes on with, or begins with, where nobody names one."""
    if init.init_from is None or run.recipe.exists():
        return read_preset(run.recipe, backend)
    recipe = checkpoint.read_metadata(init.init_from)["recipe"]
    return str(recipe["preset"]) if recipe["backend"] == backend and recipe["preset"] else None


def has_gpu(device: str) -> bool:
    """Say whether the device of that name is a GPU.

    Raises:
        DeviceError: It is not there.
    """
    return find_hardware(device).device.type != "cpu"


def estimate_cache_bytes(sets: Sequence[FaceSet], recipe: Recipe) -> int:
    """Return the bytes that everybody's decoded crops will take."""
    sides = [
        cached_side_px(recipe.model.size_px, recipe.model.coverage, crop_side_px(faces))
        for faces in sets
    ]
    return sum(4 * side**2 * len(faces) for side, faces in zip(sides, sets, strict=True))


def fully_grown(trainer: Trainer, *, recipe: Recipe, seed: int) -> Trainer:
    """Return a trainer whose networks have grown up: the same where they have, else a twin."""
    model = trainer.model
    if not isinstance(model, GrowingModel) or not model.is_growing:
        return trainer
    twin = build_model(recipe, model.identities, trainer.hardware, seed=seed)
    whole = Trainer(twin, recipe.train, trainer.hardware)
    whole.grow_to_final()
    return whole


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
    freeze(model, recipe.train.freeze)
    model.to(hardware.device).train()
    load_perceptual_weights(model)
    return model


def restore_trainer(trainer: Trainer, resume: Checkpoint, *, run: RunFolder) -> TrainState:
    """Put a trainer where a run stopped.

    Raises:
        CheckpointError: The networks of that name are built differently today.
    """
    try:
        trainer.load_state_dict(resume.tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f'the run "{run.name}" was trained by a version whose networks were built differently',
            hint="start another run with --name NEW",
        ) from error
    return resume.state


def load_identities(
    sets: Sequence[FaceSet],
    names: Sequence[str],
    *,
    recipe: Recipe,
    run: RunFolder,
    report: Reporter,
) -> list[IdentityDataset]:
    """Decode everybody's crops, in the order in which the networks know them."""
    by_name = {faces.name: faces for faces in sets}
    if names == [POOLED_IDENTITY] and POOLED_IDENTITY not in by_name:
        by_name = {POOLED_IDENTITY: merge_sets(sets, name=POOLED_IDENTITY)}
    report.start_task("reading crops", total=sum(map(len, sets)), unit="faces")
    people = []
    for name in names:
        faces = by_name[name]
        side = cached_side_px(recipe.model.size_px, recipe.model.coverage, crop_side_px(faces))
        people.append(load_identity(faces, cache=run.cache, side_px=side))
        report.update(sum(len(person.pixels) for person in people))
    return people
