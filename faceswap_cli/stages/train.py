"""Train: crops of two or more people -> networks that swap their faces.

Reads as the story of one sitting at a run: what it begins with, the loop, what it leaves.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from faceswap_cli import pictures
from faceswap_cli.config import Recipe
from faceswap_cli.errors import CheckpointError, ConfigurationError
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.files import explained, write_text
from faceswap_cli.learning import checkpoint
from faceswap_cli.learning.checkpoint import Resume
from faceswap_cli.learning.data import (
    Person,
    cache_side,
    crop_side,
    enough_faces,
    load_person,
    position_seed,
)
from faceswap_cli.learning.feed import Feed, choose_feed
from faceswap_cli.learning.hardware import Hardware, find_hardware, keep_freed_memory
from faceswap_cli.learning.interrupt import Stop, stoppable
from faceswap_cli.learning.preview import preview_sheet
from faceswap_cli.learning.score import Score, score
from faceswap_cli.learning.trainer import Learner, Tally, Tensors, TrainState, train_until
from faceswap_cli.report import Number, Reporter
from faceswap_cli.workspace import RunFolder
from faceswap_models import registry
from faceswap_models.base import SwapModel

PULSE_SECONDS = 2.0
"""Time between two readings of the losses: reading more often makes a GPU wait."""
ENOUGH_SCORES = 6
"""Without a goal, training ends when so many held-out scores in a row were no better..."""
ENOUGH_PART = 0.2
"""...and when that was at least this part of all images seen."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """When training ends; with neither, when the held-out score stops improving."""

    images: int | None = None
    """Images seen in all, of all sittings together."""
    minutes: float | None = None
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


def train(
    sets: Sequence[FaceSet],
    *,
    recipe: Recipe,
    run: RunFolder,
    goal: Goal,
    device: str,
    seed: int,
    report: Reporter,
) -> TrainSummary:
    """Train on two or more sets, going on where the run stopped.

    Args:
        sets: One person's faces each; their names become the people's.
        recipe: Backend and settings.
        run: Where everything goes.
        goal: When to end.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: With the images seen it decides every chance of the run.
        report: Hears of progress.

    Raises:
        ConfigurationError: The sets, or a setting, do not fit.
        NoFacesError: A set has too few faces.
        DeviceError: The device is not there.
        CheckpointError: The run is damaged, or was trained with other networks or people.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the step was finished and everything saved.
    """
    check_sets(sets)
    keep_freed_memory()
    hardware = find_hardware(device)
    resume = checkpoint.load_resume(run)
    names = [faces.name for faces in sets]
    if resume is not None:
        checkpoint.check_same_networks(resume, recipe=recipe, identities=names, run=run)
        names = list(resume.identities)
    learner = Learner(new_model(recipe, names, hardware, seed=seed), recipe.train, hardware)
    state = go_on(learner, resume, run=run) if resume else TrainState()
    people = load_people(sets, names, recipe=recipe, run=run, report=report)
    feed = choose_feed(
        people, model=recipe.model, train=recipe.train, seed=seed, device=hardware.device
    )
    write_text(run.recipe, recipe.to_toml())
    with stoppable() as stop:
        sitting = Sitting(
            learner, feed, recipe=recipe, run=run, goal=goal, stop=stop, begin=state, report=report
        )
        state = train_until(
            sitting.ended,
            learner=learner,
            feed=feed,
            state=state,
            seed=seed,
            goal=goal.images,
            done=sitting.done,
            after_step=sitting.after_step,
        )
        summary = sitting.close(state)
    report.note(f"{summary.ended}; {state.images_seen:,} images seen")
    if stop.asked:
        report.note("everything is saved; run the same command again to go on")
        raise KeyboardInterrupt
    return summary


class Sitting:
    """One sitting at a run: hears every step, tells, shows, judges, saves.

    Args:
        learner: What learns.
        feed: Where its faces come from.
        recipe: What it learns with.
        run: Where everything goes.
        goal: When to end.
        stop: Whether somebody asked to stop.
        begin: Where this sitting began.
        report: Hears of progress.
    """

    def __init__(
        self,
        learner: Learner,
        feed: Feed,
        *,
        recipe: Recipe,
        run: RunFolder,
        goal: Goal,
        stop: Stop,
        begin: TrainState,
        report: Reporter,
    ) -> None:
        self.learner = learner
        self.feed = feed
        self.recipe = recipe
        self.run = run
        self.goal = goal
        self.stop = stop
        self.begin = begin
        self.report = report
        self.tally = Tally()
        self.losses: dict[str, float] = {}
        self.held_out: float | None = None
        self.saved_at = begin.images_seen if run.weights.exists() else -1
        self.shown_at = begin.images_seen
        self.began = self.pulsed = time.monotonic()
        self.pulsed_at = begin.images_seen
        in_images = goal.images is not None or goal.minutes is None
        report.stage(
            "training",
            total=goal.images if in_images else (goal.minutes or 0) * 60,
            unit="images" if in_images else "seconds",
        )
        self.clock = self._images if in_images else self._seconds

    def ended(self, state: TrainState) -> bool:
        """Say whether training is over."""
        return self.why_ended(state) != ""

    def why_ended(self, state: TrainState) -> str:
        """Say why training is over; an empty text while it is not."""
        if self.stop.asked:
            return "stopped as asked"
        if self.goal.images is not None and state.images_seen >= self.goal.images:
            return f"the goal of {self.goal.images:,} images is reached"
        if self.goal.minutes is not None and self._seconds(state) >= self.goal.minutes * 60:
            return f"{self.goal.minutes:g} minutes have passed"
        if self.goal == Goal() and self._stopped_improving(state):
            return "held-out faces have stopped getting better"
        return ""

    def done(self, state: TrainState) -> float:
        """Return which part of the run is done, 0 to 1; 0 throughout where nobody can know."""
        if self.goal.images is not None:
            return min(1.0, state.images_seen / self.goal.images)
        if self.goal.minutes is not None:
            return min(1.0, self._seconds(state) / (self.goal.minutes * 60))
        return 0.0

    def after_step(self, state: TrainState, losses: Tensors) -> TrainState:
        """Hear of one step, and do what is due."""
        self.tally.add(losses)
        if time.monotonic() - self.pulsed >= PULSE_SECONDS:
            self.pulse(state)
        if self._crossed(state, self.recipe.train.save_images):
            state = remembering(state, self.judge(state), schedule=self.recipe.train.schedule)
            self.save(state)
        if self._crossed(state, self.recipe.train.preview_images):
            self.show(state)
        return state

    def pulse(self, state: TrainState) -> None:
        """Read the losses off, and tell and log them."""
        now = time.monotonic()
        speed = (state.images_seen - self.pulsed_at) / max(now - self.pulsed, 1e-9)
        self.pulsed, self.pulsed_at = now, state.images_seen
        self.losses = self.tally.read() or self.losses
        numbers: dict[str, Number] = {"images/s": round(speed, 1), **_rounded(self.losses)}
        if self.held_out is not None:
            numbers["held out"] = round(self.held_out, 5)
        self.report.advance(self.clock(state), numbers)
        self.log({"images_seen": state.images_seen, **numbers})

    def judge(self, state: TrainState) -> Score:
        """Score the averaged weights on held-out faces."""
        with self.learner.averaged() as model:
            found = score(model, self.feed)
        self.held_out = found.error
        self.log(
            {
                "images_seen": state.images_seen,
                "held out": round(found.error, 6),
                "reconstruction": _rounded(found.reconstruction),
                "cycle": _rounded(found.cycle),
            }
        )
        return found

    def save(self, state: TrainState) -> None:
        """Write everything needed to go on, and what `convert` reads."""
        identities = self.learner.model.identities
        checkpoint.save_resume(
            self.run, self.learner, recipe=self.recipe, identities=identities, state=state
        )
        checkpoint.save_weights(
            self.run.weights,
            self.learner,
            recipe=self.recipe,
            identities=identities,
            images_seen=state.images_seen,
        )
        self.saved_at = state.images_seen

    def show(self, state: TrainState) -> None:
        """Draw a sheet with the averaged weights."""
        path = self.run.preview(state.images_seen)
        with self.learner.averaged() as model:
            pictures.write_png(path, preview_sheet(model, self.feed))
        self.shown_at = state.images_seen
        self.report.picture(path, f"after {state.images_seen:,} images")

    def close(self, state: TrainState) -> TrainSummary:
        """Leave the run as it should be found."""
        ended = self.why_ended(state)
        seconds = self._seconds(state)
        if state.images_seen != self.saved_at:
            # Not remembered: a run that was stopped here must go on as if it had not been.
            self.judge(state)
            self.save(state)
        if state.images_seen != self.shown_at:
            self.show(state)
        self.pulse(state)
        self.log({"images_seen": state.images_seen, "event": ended})
        return TrainSummary(
            run=self.run.name,
            weights=str(self.run.weights),
            ended=ended,
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=(state.images_seen - self.begin.images_seen) / max(seconds, 1e-9),
            losses=self.losses,
            held_out=self.held_out,
        )

    def log(self, numbers: Mapping[str, object]) -> None:
        """Add one line to the run's log."""
        append_line(self.run.log, json.dumps(numbers, ensure_ascii=False))

    def _crossed(self, state: TrainState, interval: int) -> bool:
        """Say whether the last step crossed a multiple of `interval` images; 0 is never."""
        before = state.images_seen - self.feed.images_a_batch
        return interval > 0 and before // interval < state.images_seen // interval

    def _stopped_improving(self, state: TrainState) -> bool:
        """Say whether held-out faces have not got better for long."""
        since = state.images_seen - state.best_images
        scores = since // max(self.recipe.train.save_images, 1)
        return (
            state.best_score is not None
            and scores >= ENOUGH_SCORES
            and since >= ENOUGH_PART * state.images_seen
        )

    def _images(self, state: TrainState) -> float:
        """Return the images seen."""
        return state.images_seen

    def _seconds(self, state: TrainState) -> float:
        """Return the length of this sitting so far."""
        del state
        return time.monotonic() - self.began


def remembering(state: TrainState, found: Score, *, schedule: str) -> TrainState:
    """Return `state` after one more score: the best so far, and what the plateau schedule saw."""
    if schedule == "plateau":
        state = replace(state, plateau=state.plateau.after(found.error))
    if state.best_score is None or found.error < state.best_score:
        state = replace(state, best_score=found.error, best_images=state.images_seen)
    return state


def check_sets(sets: Sequence[FaceSet]) -> None:
    """Refuse sets that cannot be trained on.

    Raises:
        ConfigurationError: There are fewer than two, or one is named twice.
        NoFacesError: One has too few faces.
    """
    names = [faces.name for faces in sets]
    if len(names) < 2:
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


def new_model(
    recipe: Recipe, identities: Sequence[str], hardware: Hardware, *, seed: int
) -> SwapModel:
    """Build the networks with the random weights that belong to the seed."""
    torch.manual_seed(position_seed(seed, 0, "first weights"))
    model = registry.load(recipe.backend)(recipe.model, recipe.train, identities)
    model.to(memory_format=hardware.memory_format)  # type: ignore[call-overload]  # not in its stub
    return model.to(hardware.device).train()


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
    report.stage("reading crops", total=sum(map(len, sets)), unit="faces")
    people = []
    for name in names:
        faces = by_name[name]
        side = cache_side(recipe.model.size_px, recipe.model.coverage, crop_side(faces))
        people.append(load_person(faces, cache=run.cache, side_px=side))
        report.advance(sum(len(person.pixels) for person in people))
    return people


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file; a line torn by a crash before it is closed first."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(line.encode() + b"\n")


def _rounded(numbers: Mapping[str, float]) -> dict[str, Number]:
    """Return numbers as they are shown and logged."""
    return {name: round(value, 6) for name, value in numbers.items()}
