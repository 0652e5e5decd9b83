"""One sitting at a run: hears every step, tells, shows, judges, saves, and goes back on trouble.

Knows when things are due and what they say; refuses to know how a step is taken.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from faceswap_cli import pictures
from faceswap_cli.config import Recipe
from faceswap_cli.errors import FaceswapError
from faceswap_cli.files import explained, write_text
from faceswap_cli.learning import checkpoint
from faceswap_cli.learning.board import Board, NoBoard, open_board
from faceswap_cli.learning.feed import Feed
from faceswap_cli.learning.health import LossWatch, StillWatch
from faceswap_cli.learning.interrupt import Stop
from faceswap_cli.learning.kept import Kept, KeptJudge
from faceswap_cli.learning.preview import preview_sheet, stage_column, stage_strip
from faceswap_cli.learning.schedule import after_scores
from faceswap_cli.learning.score import Score, score
from faceswap_cli.learning.story import run_page
from faceswap_cli.learning.trainer import Learner, Tally, Tensors, TrainState
from faceswap_cli.provenance.consent import Origin
from faceswap_cli.report import Number, Reporter
from faceswap_cli.workspace import RunFolder
from faceswap_models.base import SwapModel

EARLY_SHEETS = (1_000, 3_000, 10_000)
"""Images after which there is a sheet besides the regular ones: nobody likes to wait for the
first."""
SAVE_SECONDS = 120.0
"""Time after which a state is saved besides the regular ones, where images come slowly: all that a
power cut can cost. Judging and saving take about a second of it."""
PULSE_SECONDS = 2.0
"""Time between two readings of the losses: reading more often makes a GPU wait."""
SLOWER = 0.5
"""What the learning rate is multiplied by when training goes back after trouble."""
MOST_ROLLBACKS = 3
"""How often training goes back without getting past the trouble before it gives up."""
PAST_TROUBLE = 3
"""Save intervals beyond the last trouble after which it is over."""
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
    kept: dict[str, float | None] | str = ""
    """What swaps of held-out faces keep and move: see `Kept`; a text says why nobody knows."""

    def facts(self) -> dict[str, str]:
        """Return it as a person reads it."""
        losses = ", ".join(f"{name} {value:.3g}" for name, value in self.losses.items())
        kept = self.kept if isinstance(self.kept, str) else str(Kept(**self.kept))  # type: ignore[arg-type]
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
        origins: What the trained model tells of the sets it learns from.
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
        origins: Sequence[Origin] = (),
    ) -> None:
        self.learner = learner
        self.feed = feed
        self.recipe = recipe
        self.run = run
        self.goal = goal
        self.stop = stop
        self.begin = begin
        self.report = report
        self.origins = origins
        self.tally, self.game = Tally(), Tally()
        self.watch, self.still = LossWatch(), StillWatch()
        self.parts = learner.parts
        self.losses: dict[str, float] = {}
        self.numbers: dict[str, Number] = {}
        self.found: Score | None = None
        self.kept: Kept | None = None
        self.kept_judge = KeptJudge(feed)
        self.kept_reason = ""
        self.saved_at = begin.images_seen if run.weights.exists() else -1
        self.shown_at = begin.images_seen
        self.began = self.pulsed = self.saved_then = time.monotonic()
        self.pulsed_at = begin.images_seen
        self.board: Board = NoBoard()
        self.clock: Callable[[TrainState], float] = self._images
        self.total: float | None = goal.images
        self.unit = "images"
        if goal.images is None and goal.minutes is not None:
            self.clock, self.total, self.unit = self._seconds, goal.minutes * 60, "s"

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
        """Hear of one step, and do what is due; on trouble return an earlier state."""
        self.tally.add(losses)
        # With one group there is no game to win, and a loss of nought is a fine thing.
        self.game.add(self.learner.minimised if len(self.learner.groups) > 1 else {})
        self._tell_parts(state)
        is_shown = self._is_shown(state)
        if self._crossed(state, self.recipe.train.save_images):
            settled = self.settle(state, is_regular=True)
        elif self.ended(state) or time.monotonic() - self.saved_then >= SAVE_SECONDS:
            settled = self.settle(state, is_regular=False)
        else:
            settled = self.pulse(state) if self._pulse_is_due() else state
        if is_shown and settled.images_seen == state.images_seen:
            self.show(settled)
        return settled

    def pulse(self, state: TrainState) -> TrainState:
        """Read the losses off, and tell and log them; on trouble return an earlier state."""
        now = time.monotonic()
        speed = (state.images_seen - self.pulsed_at) / max(now - self.pulsed, 1e-9)
        self.pulsed, self.pulsed_at = now, state.images_seen
        self.losses = self.tally.read() or self.losses
        self.numbers |= {"images/s": round(speed, 1), **_rounded(self.losses)}
        self.report.advance(self.clock(state), self.numbers)
        self.log(
            {
                "images_seen": state.images_seen,
                "images/s": self.numbers["images/s"],
                "losses": _rounded(self.losses),
                "learning_rate": self.learner.rates(),
            }
        )
        self.board.numbers(self.losses, about="loss", images_seen=state.images_seen)
        self.board.numbers(
            self.learner.rates(), about="learning rate", images_seen=state.images_seen
        )
        sign = self.watch.sign(self.losses) or self.still.sign(self.game.read())
        return self.roll_back(state, sign) if sign else state

    def settle(self, state: TrainState, *, is_regular: bool) -> TrainState:
        """Make sure that all is well, then save; on trouble return an earlier state.

        What is found at a save between the regular ones is not remembered: a run that was stopped
        there must go on as if it had not been.
        """
        healthy = self.pulse(state)
        if healthy is not state:
            return healthy
        found = self.judge(state)
        if sign := state.vitals.sign(found):
            return self.roll_back(state, sign)
        if is_regular:
            state = self.remember(state, found)
        self.save(state)
        return state

    def judge(self, state: TrainState) -> Score:
        """Score the averaged weights on held-out faces."""
        with self.learner.averaged() as model:
            found = score(model, self.feed)
        self.found = found
        for about, values in (
            ("held out", found.reconstruction),
            ("there and back", found.cycle),
            ("held-out loss", found.losses),
        ):
            self.board.numbers(values, about=about, images_seen=state.images_seen)
        self.numbers["held out"] = round(found.error, 5)
        self.report.advance(self.clock(state), self.numbers)
        self.log(
            {
                "images_seen": state.images_seen,
                "held out": round(found.error, 6),
                "reconstruction": _rounded(found.reconstruction),
                "cycle": _rounded(found.cycle),
                "held-out losses": _rounded(found.losses),
            }
        )
        return found

    def remember(self, state: TrainState, found: Score) -> TrainState:
        """Return `state` after one more healthy score; keep the weights when it is the best."""
        before = state.vitals.error
        if before is None or found.error < before:
            state = replace(state, best_images=state.images_seen)
            self._write_weights(self.run.best, state)
        self.learner.model.judged(found.error)
        if self.recipe.train.schedule == "plateau":
            scores = {group: found.losses.get(group, found.error) for group in self.learner.groups}
            state = replace(state, plateaus=after_scores(state.plateaus, scores))
        if state.images_seen > state.trouble_images + PAST_TROUBLE * self.recipe.train.save_images:
            state = replace(state, rollbacks=0)
        return replace(state, vitals=state.vitals.after(found))

    def roll_back(self, state: TrainState, sign: str) -> TrainState:
        """Go back to the last good state with a lower learning rate.

        Raises:
            FaceswapError: That has been done in vain before.
        """
        self.log({"images_seen": state.images_seen, "event": f"trouble: {sign}"})
        if state.rollbacks >= MOST_ROLLBACKS:
            raise FaceswapError(
                f"training fails again and again after {state.images_seen:,} images: {sign}",
                hint="the last good state is kept; try a lower --set train.learning_rate="
                f"{self.recipe.train.learning_rate * state.rate_factor * SLOWER:g}",
            )
        good = checkpoint.load_resume(self.run)
        assert good is not None  # the state of the beginning was saved
        self.learner.restore(good.tensors)
        back = replace(
            good.state,
            rate_factor=state.rate_factor * SLOWER,
            rollbacks=state.rollbacks + 1,
            trouble_images=max(state.images_seen, state.trouble_images),
            seconds=state.seconds,
        )
        # At once, so that a run stopped before its next save does not forget the lower rate.
        self.save(back)
        self.tally, self.game = Tally(), Tally()
        self.watch, self.still = LossWatch(), StillWatch()
        self.losses, self.pulsed_at = {}, back.images_seen
        told = f"{sign}: back to {back.images_seen:,} images at {back.rate_factor:g} of the rate"
        self.report.note(told)
        self.log({"images_seen": back.images_seen, "event": told})
        return back

    def open(self, state: TrainState) -> None:
        """Write the recipe, and the beginning of a new run: it is there to go back to."""
        write_text(self.run.recipe, self.recipe.to_toml())
        self.board = open_board(self.run.events, begin=state.images_seen)
        if not self.run.resume.exists():
            self._write_resume(state)

    def save(self, state: TrainState) -> None:
        """Write everything needed to go on, and what `convert` reads."""
        self._write_resume(state)
        self._write_weights(self.run.weights, state)
        self.saved_at, self.saved_then = state.images_seen, time.monotonic()

    def show(self, state: TrainState) -> None:
        """Draw a sheet with the averaged weights; at the regular ones, read faces as well."""
        path = self.run.preview(state.images_seen)
        is_early = not (self._crossed(state, self.recipe.train.preview_images) or self.ended(state))
        with self.learner.averaged() as model:
            sheet = preview_sheet(model, self.feed)
            if model.stage:
                self.show_stage(model)
            told = "" if is_early else self.judge_kept(model, state)
        pictures.write_png(path, sheet)
        self.board.picture(sheet, images_seen=state.images_seen)
        self.shown_at = state.images_seen
        self.tell_story(is_training=True)
        self.report.picture(path, f"after {state.images_seen:,} images{told}")

    def before_growth(self, state: TrainState) -> None:
        """Show what a stage has come to before the next one begins, all stages side by side."""
        if self.shown_at != state.images_seen:
            self.show(state)
        model = self.learner.model
        told = f"stage {model.stage} of {model.stages}"
        told += ": its layers are in full" if model.is_fading else " is over: the networks grow"
        self.log({"images_seen": state.images_seen, "event": told})

    def show_stage(self, model: SwapModel) -> None:
        """Renew this stage's column of the strip."""
        pictures.write_png(self.run.stages / f"{model.stage}.png", stage_column(model, self.feed))
        columns = {
            int(path.stem): pictures.read(path)
            for path in self.run.stages.glob("[0-9]*.png")
            if int(path.stem) <= model.stage
        }
        pictures.write_png(self.run.strip, stage_strip(columns, self.feed))

    def judge_kept(self, model: SwapModel, state: TrainState) -> str:
        """Look at what swaps keep; return it as the end of a caption, or say once why not."""
        self.kept = self.kept_judge.look(model)
        if self.kept is not None:
            numbers = {name: one for name, one in asdict(self.kept).items() if one is not None}
            self.board.numbers(numbers, about="kept", images_seen=state.images_seen)
            self.log({"images_seen": state.images_seen, "kept": _rounded(numbers)})
            return f": {self.kept}"
        if not self.kept_reason:
            self.kept_reason = f"what swaps keep is not known: {self.kept_judge.reason}"
            self.report.note(self.kept_reason)
            self.log({"images_seen": state.images_seen, "event": self.kept_reason})
        return ""

    def tell_story(self, *, is_training: bool) -> None:
        """Write the page that shows the run in a browser."""
        write_text(self.run.report, run_page(self.run, self.recipe, is_training=is_training))

    def close(self, state: TrainState) -> TrainSummary:
        """Leave the run as it should be found."""
        ended = self.why_ended(state)
        seconds = self._seconds(state)
        if state.images_seen != self.saved_at:
            state = self.settle(state, is_regular=False)
        if state.images_seen != self.shown_at:
            self.show(state)
        self.log({"images_seen": state.images_seen, "event": ended})
        self.tell_story(is_training=False)
        self.board.close()
        self.kept_judge.close()
        self.report.note(f"{ended}; {state.images_seen:,} images seen")
        model = self.learner.model
        if model.structure != model.final_structure:
            self.report.note(
                f"the networks are still growing: stage {model.stage} of {model.stages}"
            )
        if self.stop.asked:
            self.report.note("everything is saved; run the same command again to go on")
        return TrainSummary(
            run=self.run.name,
            weights=str(self.run.weights),
            ended=ended,
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=(state.images_seen - self.begin.images_seen) / max(seconds, 1e-9),
            losses=self.losses,
            held_out=self.found.error if self.found else None,
            kept=asdict(self.kept) if self.kept else self.kept_reason,
        )

    def log(self, numbers: Mapping[str, object]) -> None:
        """Add one line to the run's log."""
        append_line(self.run.log, json.dumps(numbers, ensure_ascii=False))

    def _write_resume(self, state: TrainState) -> None:
        """Write what it takes to go on."""
        checkpoint.save_resume(
            self.run,
            self.learner,
            recipe=self.recipe,
            identities=self.learner.model.identities,
            state=state,
        )

    def _write_weights(self, path: Path, state: TrainState) -> None:
        """Write what `convert` reads."""
        checkpoint.save_weights(
            path,
            self.learner,
            recipe=self.recipe,
            identities=self.learner.model.identities,
            images_seen=state.images_seen,
            origins=self.origins,
        )

    def _tell_parts(self, state: TrainState) -> None:
        """Say so when memory made the learner take batches in more parts than before."""
        if self.learner.parts == self.parts:
            return
        self.parts = self.learner.parts
        told = f"memory ran out: each batch is now learnt from in {self.parts} parts"
        self.report.note(told)
        self.log({"images_seen": state.images_seen, "event": told})

    def _pulse_is_due(self) -> bool:
        """Say whether it is time to read the losses again."""
        return time.monotonic() - self.pulsed >= PULSE_SECONDS

    def _is_shown(self, state: TrainState) -> bool:
        """Say whether a sheet is due; where sheets are turned off, none is."""
        interval = self.recipe.train.preview_images
        before = state.images_seen - self.feed.images_a_batch
        is_early = any(before < images <= state.images_seen for images in EARLY_SHEETS)
        return self._crossed(state, interval) or (interval > 0 and is_early)

    def _crossed(self, state: TrainState, interval: int) -> bool:
        """Say whether the last step crossed a multiple of `interval` images; 0 is never."""
        before = state.images_seen - self.feed.images_a_batch
        return interval > 0 and before // interval < state.images_seen // interval

    def _stopped_improving(self, state: TrainState) -> bool:
        """Say whether held-out faces have not got better for long."""
        since = state.images_seen - state.best_images
        scores = since // max(self.recipe.train.save_images, 1)
        return (
            state.vitals.error is not None
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


class Follower(Sitting):
    """A sitting in a process that does not lead: it neither writes nor tells."""

    def open(self, state: TrainState) -> None:
        """Write nothing."""

    def before_growth(self, state: TrainState) -> None:
        """Show nothing."""

    def after_step(self, state: TrainState, losses: Tensors) -> TrainState:
        """Go on: the leader judges."""
        del losses
        return state

    def close(self, state: TrainState) -> TrainSummary:
        """Leave nothing; return what this process knows."""
        seconds = self._seconds(state)
        return TrainSummary(
            run=self.run.name,
            weights=str(self.run.weights),
            ended="the leader ended it",
            images_seen=state.images_seen,
            seconds=seconds,
            images_per_second=(state.images_seen - self.begin.images_seen) / max(seconds, 1e-9),
        )


def parameter_count(model: SwapModel) -> int:
    """Return how many numbers a model learns."""
    return sum(one.numel() for one in model.parameters())


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
