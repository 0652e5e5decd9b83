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

from faceswap_cli.config import FITTED, Recipe, preset_of, with_batch_size
from faceswap_cli.errors import CheckpointError, ConfigurationError, DeviceError
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.learning import checkpoint
from faceswap_cli.learning.alone import alone_in
from faceswap_cli.learning.batch import Trial, largest_batch, limits_of
from faceswap_cli.learning.beginning import Beginning, begin, bring_judge, freeze
from faceswap_cli.learning.checkpoint import Resume
from faceswap_cli.learning.data import (
    HELD_OUT,
    Person,
    cache_side,
    crop_side,
    enough_faces,
    load_person,
    pooled,
    position_seed,
    split,
)
from faceswap_cli.learning.feed import Feed, choose_feed
from faceswap_cli.learning.hardware import (
    Hardware,
    find_hardware,
    keep_freed_memory,
    on_threads,
    use_fast_kernels,
)
from faceswap_cli.learning.interrupt import Stop, stoppable
from faceswap_cli.learning.plan import (
    Plan,
    check_disk,
    device_name,
    disk_use,
    measure,
    peak_memory,
)
from faceswap_cli.learning.sitting import (
    Follower,
    Goal,
    Sitting,
    TrainSummary,
    parameter_count,
)
from faceswap_cli.learning.team import Team, joined
from faceswap_cli.learning.trainer import Learner, TrainState, train_until
from faceswap_cli.provenance.consent import Origin, origin_of
from faceswap_cli.report import Reporter, Silent
from faceswap_cli.workspace import RunFolder, SetFolder
from faceswap_models import registry
from faceswap_models.base import SwapModel

__all__ = ["Beginning", "Goal", "TrainSummary", "Training", "fit_batch_size", "rehearse", "train"]

Work = TypeVar("Work")

EVERYBODY = "everybody"
"""What the one person is called that all sets together make up."""
AT_RANDOM = Beginning()
REHEARSED = 64
"""Faces of each person that a rehearsal decodes."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is to be learnt, how, until when and where."""

    sets: Sequence[FaceSet]
    """One person's faces each; their names become the people's."""
    recipe: Recipe
    run: RunFolder
    """Where everything goes."""
    goal: Goal
    device: str
    """`auto`, `cpu`, `cuda` or `mps`."""
    seed: int
    """With the images seen it decides every chance of the run."""
    beginning: Beginning = AT_RANDOM
    """What a new run begins with."""

    @property
    def names(self) -> list[str]:
        """The names of the people that are learnt: everybody's, or one for all."""
        if self.beginning.pools and len(self.sets) > 1:
            return [EVERYBODY]
        return [faces.name for faces in self.sets]

    @property
    def few(self) -> list[FaceSet]:
        """The sets with as many faces as are enough to try some steps with."""
        return [replace(faces, records=faces.records[:REHEARSED]) for faces in self.sets]


def train(training: Training, *, report: Reporter) -> TrainSummary:
    """Train on two or more sets, going on where the run stopped.

    Raises:
        ConfigurationError: The sets, or a setting, do not fit.
        NoFacesError: A set has too few faces.
        DeviceError: The device is not there.
        CheckpointError: The run is damaged, or was trained with other networks or people.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was finished and everything saved.
    """
    check_sets(training.sets, least=training.beginning.least_people)
    keep_freed_memory()
    with ExitStack() as held:
        team = held.enter_context(joined(training.recipe.train.batch_size))
        hardware = find_hardware(training.device, index=team.local_rank)
        use_fast_kernels(hardware.device)
        held.enter_context(on_threads(training.recipe.train.threads))
        if team.leads:
            held.enter_context(alone_in(training.run.root))
        stop = held.enter_context(stoppable())
        summary = sit_down(
            training,
            hardware=hardware,
            team=team,
            stop=stop,
            report=report if team.leads else Silent(),
        )
    if stop.asked:
        raise KeyboardInterrupt
    return summary


def sit_down(
    training: Training, *, hardware: Hardware, team: Team, stop: Stop, report: Reporter
) -> TrainSummary:
    """Train for one sitting, as one of a team of processes."""
    sets, recipe, run = training.sets, training.recipe, training.run
    goal, seed = training.goal, training.seed
    resume = checkpoint.load_resume(run)
    names = training.names
    if resume is not None:
        checkpoint.check_same_networks(resume, recipe=recipe, identities=names, run=run)
        names = list(resume.identities)
    model = new_model(recipe, names, hardware, seed=seed)
    if resume is None:
        in_turn(team, lambda: begin(model, training.beginning))
    learner = Learner(
        model,
        recipe.train,
        hardware,
        reduce=partial(team.reduce, weight=team.share.weight(recipe.train.batch_size)),
    )
    state = go_on(learner, resume, run=run) if resume else TrainState()
    grown = grown_up(learner, recipe=recipe, seed=seed)
    disk, parameters = (
        disk_use(grown, cache_bytes=cache_use(sets, recipe)),
        parameter_count(grown.model),
    )
    del grown
    if team.leads:
        check_disk(run.root, needed_bytes=disk)
    people = in_turn(team, lambda: load_people(sets, names, recipe=recipe, run=run, report=report))
    team.spread(learner.tensors())
    feed = choose_feed(
        people,
        model=recipe.model,
        train=recipe.train,
        seed=seed,
        device=hardware.device,
        share=team.share,
    )
    plan = planned(learner, feed, goal=goal, state=state, disk_bytes=disk, report=report)
    report.facts(f"what {run.name} takes", replace(plan, parameters=parameters).facts())
    sitting = (Sitting if team.leads else Follower)(
        learner,
        feed,
        recipe=recipe,
        run=run,
        goal=goal,
        stop=stop,
        begin=state,
        report=report,
        origins=[origin(faces) for faces in sets],
    )
    sitting.open(state)
    report.stage(f"train {run.name}", total=sitting.total, unit=sitting.unit)
    state = train_until(
        sitting.ended,
        learner=learner,
        feed=feed,
        state=state,
        seed=seed,
        goal=goal.images,
        done=sitting.done,
        after_step=sitting.after_step,
        team=team,
        catch_up=lambda: caught_up(learner, run=run),
        before_growth=sitting.before_growth,
    )
    return sitting.close(state)


def origin(faces: FaceSet) -> Origin:
    """Return what the trained model tells of a set: the digests of its files."""
    folder = SetFolder(root=faces.folder)
    return origin_of(records=folder.records, source=folder.source)


def rehearse(training: Training, *, report: Reporter) -> Plan:
    """Try some steps, and say what a training would take (`--dry-run`).

    Nothing of the run is changed, and nothing is left behind.

    Raises:
        FaceswapError: Whatever `train` would refuse to begin with.
    """
    sets, recipe, seed, names = training.sets, training.recipe, training.seed, training.names
    check_sets(sets, least=training.beginning.least_people)
    keep_freed_memory()
    hardware = find_hardware(training.device)
    use_fast_kernels(hardware.device)
    resume = checkpoint.load_resume(training.run)
    model = new_model(recipe, names, hardware, seed=seed)
    if resume is not None:
        checkpoint.check_same_networks(resume, recipe=recipe, identities=names, run=training.run)
    else:
        begin(model, training.beginning)
    learner = Learner(model, recipe.train, hardware)
    learner.grow_up()
    with on_threads(recipe.train.threads), TemporaryDirectory() as folder:
        scratch = RunFolder(root=Path(folder))
        people = load_people(training.few, names, recipe=recipe, run=scratch, report=report)
        feed = choose_feed(
            people, model=recipe.model, train=recipe.train, seed=seed, device=hardware.device
        )
        disk = disk_use(learner, cache_bytes=cache_use(sets, recipe))
        state = resume.state if resume else TrainState()
        plan = planned(
            learner, feed, goal=training.goal, state=state, disk_bytes=disk, report=report
        )
        del feed, people  # a mapped file cannot be deleted everywhere
    everyone = (
        dict(zip(names, map(len, sets), strict=True))
        if len(names) == len(sets)
        else {names[0]: sum(map(len, sets))}
    )
    return replace(plan, faces=everyone)


def planned(
    learner: Learner,
    feed: Feed,
    *,
    goal: Goal,
    state: TrainState,
    disk_bytes: int,
    report: Reporter,
) -> Plan:
    """Try some steps, take them back, and say what training on takes."""
    report.stage("trying some steps", total=None, unit="images")
    speed, memory = measure(learner, feed, start=state.images_seen)
    images, seconds = left_to(goal, state, speed=speed)
    return Plan(
        device=device_name(learner.hardware.device),
        precision=learner.hardware.precision,
        parameters=parameter_count(learner.model),
        faces={person.name: len(person.pixels) for person in feed.people},
        batch=feed.images_a_batch,
        images_per_second=speed,
        memory_bytes=memory,
        disk_bytes=disk_bytes,
        images=images,
        seconds=seconds,
    )


def fit_batch_size(training: Training, *, report: Reporter) -> Training:
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
    recipe = training.recipe
    check_sets(training.sets, least=training.beginning.least_people)
    resume = checkpoint.load_resume(training.run)
    if resume is not None and resume.recipe.sources.get("train.batch_size") == FITTED:
        size = resume.recipe.train.batch_size
        return replace(training, recipe=with_batch_size(recipe, size))
    keep_freed_memory()
    hardware = find_hardware(training.device)
    use_fast_kernels(hardware.device)
    with TemporaryDirectory() as folder:
        scratch = RunFolder(root=Path(folder))
        people = load_people(
            training.few, training.names, recipe=recipe, run=scratch, report=report
        )
        report.stage("trying batch sizes", total=None, unit="faces")
        size, stopped_by = largest_batch(
            partial(try_batch, people=people, recipe=recipe, hardware=hardware, seed=training.seed),
            limits=limits_of(hardware.device),
            most=min(len(split(len(faces), HELD_OUT)[0]) for faces in training.sets),
        )
        del people  # a mapped file cannot be deleted everywhere
    report.note(f"batches of {size} faces of each person: {stopped_by}")
    return replace(training, recipe=with_batch_size(recipe, size))


def try_batch(
    size: int, *, people: Sequence[Person], recipe: Recipe, hardware: Hardware, seed: int
) -> Trial | None:
    """Learn from some batches of `size` faces of each person; None if memory ran out."""
    device = hardware.device
    recipe = with_batch_size(recipe, size)
    before = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    else:
        before = peak_memory(device)
    try:
        names = [person.name for person in people]
        learner = Learner(new_model(recipe, names, hardware, seed=seed), recipe.train, hardware)
        learner.grow_up()
        feed = choose_feed(people, model=recipe.model, train=recipe.train, seed=seed, device=device)
        speed, memory = measure(learner, feed)
    except (DeviceError, torch.OutOfMemoryError):
        return None
    # A learner that had to take its batches in parts has run out of memory on the way.
    fits = learner.parts == 1
    return Trial(images_per_second=speed, memory_bytes=memory - before) if fits else None


def left_to(goal: Goal, state: TrainState, *, speed: float) -> tuple[int | None, float | None]:
    """Return the images and the seconds left to a goal at `speed` images/s; None if unknown."""
    images = None if goal.images is None else max(0, goal.images - state.images_seen)
    ends = [] if images is None else [images / speed]
    ends += [] if goal.minutes is None else [goal.minutes * 60]
    return images, min(ends, default=None)


def in_turn(team: Team, work: Callable[[], Work]) -> Work:
    """Let the leader do some work first, whose files the others then find done."""
    if team.leads:
        done = work()
        team.wait()
        return done
    team.wait()
    return work()


def caught_up(learner: Learner, *, run: RunFolder) -> TrainState:
    """Go back to where the leader went back to, which it has saved."""
    resume = checkpoint.load_resume(run)
    assert resume is not None
    return go_on(learner, resume, run=run)


def check_sets(sets: Sequence[FaceSet], *, least: int) -> None:
    """Refuse sets that cannot be trained on.

    Raises:
        ConfigurationError: There are fewer than `least`, or one is named twice.
        NoFacesError: One has too few faces.
    """
    names = [faces.name for faces in sets]
    if len(names) < least:
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
        enough_faces(faces)


def begun_preset(backend: str, *, run: RunFolder, beginning: Beginning) -> str | None:
    """Return the preset that a run goes on with, or begins with, where nobody names one."""
    if beginning.trained is None or run.recipe.exists():
        return preset_of(run.recipe, backend)
    recipe = checkpoint.describe(beginning.trained)["recipe"]
    return str(recipe["preset"]) if recipe["backend"] == backend and recipe["preset"] else None


def has_gpu(device: str) -> bool:
    """Say whether the device of that name is a GPU.

    Raises:
        DeviceError: It is not there.
    """
    return find_hardware(device).device.type != "cpu"


def cache_use(sets: Sequence[FaceSet], recipe: Recipe) -> int:
    """Return the bytes that everybody's decoded crops will take."""
    sides = [
        cache_side(recipe.model.size_px, recipe.model.coverage, crop_side(faces)) for faces in sets
    ]
    return sum(4 * side**2 * len(faces) for side, faces in zip(sides, sets, strict=True))


def grown_up(learner: Learner, *, recipe: Recipe, seed: int) -> Learner:
    """Return a learner whose networks have grown up: the same where they have, else a twin."""
    model = learner.model
    if model.structure == model.final_structure:
        return learner
    twin = new_model(recipe, model.identities, learner.hardware, seed=seed)
    whole = Learner(twin, recipe.train, learner.hardware)
    whole.grow_up()
    return whole


def new_model(
    recipe: Recipe, identities: Sequence[str], hardware: Hardware, *, seed: int
) -> SwapModel:
    """Build the networks with the random weights that belong to the seed.

    Raises:
        ConfigurationError: There is no part of those to be frozen.
        InputError: A file that a loss needs is missing.
    """
    torch.manual_seed(position_seed(seed, 0, "first weights"))
    model = registry.load(recipe.backend)(recipe.model, recipe.train, identities)
    model.to(memory_format=hardware.memory_format)  # type: ignore[call-overload]  # not in its stub
    freeze(model, recipe.train.freeze)
    model.to(hardware.device).train()
    bring_judge(model)
    return model


def go_on(learner: Learner, resume: Resume, *, run: RunFolder) -> TrainState:
    """Put a learner where a run stopped.

    Raises:
        CheckpointError: The networks of that name are built differently today.
    """
    try:
        learner.restore(resume.tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f'the run "{run.name}" was trained by a version whose networks were built differently',
            hint="start another run with --name NEW",
        ) from error
    return resume.state


def load_people(
    sets: Sequence[FaceSet],
    names: Sequence[str],
    *,
    recipe: Recipe,
    run: RunFolder,
    report: Reporter,
) -> list[Person]:
    """Decode everybody's crops, in the order in which the networks know them."""
    by_name = {faces.name: faces for faces in sets}
    if names == [EVERYBODY] and EVERYBODY not in by_name:
        by_name = {EVERYBODY: pooled(sets, name=EVERYBODY)}
    report.stage("reading crops", total=sum(map(len, sets)), unit="faces")
    people = []
    for name in names:
        faces = by_name[name]
        side = cache_side(recipe.model.size_px, recipe.model.coverage, crop_side(faces))
        people.append(load_person(faces, cache=run.cache, side_px=side))
        report.advance(sum(len(person.pixels) for person in people))
    return people
