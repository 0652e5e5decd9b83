"""The benchmark: drawn people, a backend trained on them, and the true swap as judge.

Calls the stages as a user would, on clips that are always the same. Around every swap stand the
answers that need no learning: the input itself, the mean face, the nearest pose (floors), and the
true swap at the network's size, which only the pipeline keeps from being perfect (the ceiling).
Rows of one version of the benchmark compare, whenever and wherever they were made.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli import actors, page, pictures
from faceswap_cli.arrays import Image
from faceswap_cli.config import Recipe
from faceswap_cli.errors import ConfigurationError
from faceswap_cli.faces.record import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.files import write_text
from faceswap_cli.metrics.evaluation import Evaluation
from faceswap_cli.report import Reporter
from faceswap_cli.stages.convert import convert
from faceswap_cli.stages.evaluate import evaluate_shots
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import Goal, Training, train
from faceswap_cli.truth.answers import Answer, MeanFace, NearestPose, Perfect, Unswapped
from faceswap_cli.truth.clips import draw_clip, true_swap
from faceswap_cli.truth.judging import Shot
from faceswap_cli.truth.scores import Tally
from faceswap_cli.truth.trials import TRIALS, VERSION, Script, cast, never_seen, seen_by_training
from faceswap_cli.video.reader import Frame, read_frames
from faceswap_cli.workspace import Workspace

__all__ = ["BenchmarkClips", "BenchmarkSummary", "Goal", "Row", "benchmark"]

METRICS: Mapping[str, tuple[str, int]] = {
    "margin_dlib": ("wanted over original", 3),
    "pose": ("pose, degrees", 2),
    "expression_motion": ("expression", 3),
    "jitter": ("jitter, x", 2),
    "flicker": ("flicker, x", 2),
}
"""What is shown of an evaluation that needs no truth, by its name in the catalogue of metrics: its
column and its decimals."""
MINUTES = 3.0
"""How long to train unless told otherwise."""
TILE_PX = 144

FLOORS: Mapping[str, Callable[[FaceSet], Answer]] = {
    "unswapped": Unswapped.of,
    "mean face": MeanFace.of,
    "nearest pose": NearestPose.of,
}
"""What answers without having learnt anything, given the wanted person's faces."""

Made = Callable[[Frame, Image], Image]
"""`made(frame, truth)`: the answer to a frame; frames come in order."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkClips:
    """How much is drawn; the usual values are part of the benchmark, smaller ones are for tests."""

    side_px: int = 384
    seconds: float = 12.0
    """Duration of what is learnt from, each person."""
    frames: int = 24
    """Of each trial."""

    def key(self, people: int) -> str:
        """Return what tells these clips from others, as part of a folder's name."""
        usual = self == BenchmarkClips()
        size = "" if usual else f"-{self.side_px}px-{self.seconds:g}s-{self.frames}f"
        return f"v{VERSION}-{people}-people{size}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One answer's scores."""

    name: str
    psnr: float
    """dB, inside the face, against the true swap."""
    ssim: float
    trials: dict[str, float]
    """PSNR by trial, dB."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Of the evaluation, means over the clips; None: not available."""
    settings: dict[str, str | int | float] = field(default_factory=dict)
    """How it was trained; empty for answers that need no training."""

    def cells(self) -> list[str]:
        """Return the row of the table against the true swap."""
        return [self.name, f"{self.psnr:.1f}", f"{self.ssim:.3f}", self._told("lpips", 3)]

    def own_cells(self) -> list[str]:
        """Return the row of the table of what needs no truth."""
        return [self.name, *(self._told(name, digits) for name, (_, digits) in METRICS.items())]

    def trial_cells(self) -> list[str]:
        """Return the row of the table of trials."""
        return [self.name, *(f"{self.trials[name]:.1f}" for name in TRIALS)]

    def _told(self, metric: str, digits: int) -> str:
        """Return a metric as tables have it."""
        value = self.metrics.get(metric)
        return "n/a" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """What the benchmark came to."""

    version: int
    rows: Sequence[Row]
    """Floors, then what was trained, in the order it was, then the ceilings."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return what is shown: title, columns and rows of each table."""
        own = ["", *(column for column, _ in METRICS.values())]
        return [
            (
                "against the true swap",
                ["", "PSNR, dB", "SSIM", "LPIPS"],
                [row.cells() for row in self.rows],
            ),
            ("on its own", own, [row.own_cells() for row in self.rows]),
            ("by trial", ["PSNR, dB", *TRIALS], [row.trial_cells() for row in self.rows]),
        ]


def benchmark(
    folder: Path,
    *,
    recipe: Recipe,
    goal: Goal,
    people: int = 2,
    device: str,
    seed: int,
    report: Reporter,
    drawn: BenchmarkClips | None = None,
) -> BenchmarkSummary:
    """Train on drawn people, swap them around, and compare with the true swaps.

    Args:
        folder: Where everything goes; what is already there and finished is not made again.
        recipe: Backend and settings.
        goal: How long to train.
        people: How many take part; everyone's performance gets the next one's face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Of training; the drawings are always the same.
        report: Hears each stage.
        drawn: How much is drawn.

    Raises:
        ConfigurationError: Fewer than two people, or no end to the training.
    """
    if people < 2:
        raise ConfigurationError("a swap needs two people", hint="choose --people 2 or more")
    drawn = drawn or BenchmarkClips()
    stage = _Stage.set_up(folder / drawn.key(people), people, drawn, report)
    results = _Results(path=stage.folder / "results.json")
    for name, floor in FLOORS.items():
        results.once(name, partial(stage.answered, name, floor))
    run = run_name(recipe, goal, seed)
    train_it = partial(stage.trained, run, recipe, goal, device=device, seed=seed)
    results.once(run, train_it)
    perfect = Perfect(size_px=recipe.model.size_px, coverage=recipe.model.coverage)
    ceiling = f"true swap at {perfect.size_px} px"
    results.once(ceiling, partial(stage.answered, ceiling, lambda _: perfect))
    summary = BenchmarkSummary(
        version=VERSION, rows=results.in_order(), page=stage.folder / "benchmark.html"
    )
    write_text(summary.page, _page(summary, stage.folder))
    return summary


def run_name(recipe: Recipe, goal: Goal, seed: int) -> str:
    """Return what a row is called: the same for the same settings, goal and seed."""
    told = recipe.to_dict()
    digest = hashlib.sha256(json.dumps([told["model"], told["train"]]).encode()).hexdigest()[:6]
    parts = [recipe.backend, *([recipe.preset] if recipe.preset else [])]
    if any(source == "--set" for source in recipe.sources.values()):
        parts.append(digest)
    if goal.images:
        parts.append(f"{goal.images}-images")
    if goal.minutes:
        parts.append(f"{goal.minutes:g}-min")
    return "-".join([*parts, *([f"seed-{seed}"] if seed else [])])


# --- the work -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Stage:
    """Everything that is drawn, and what was extracted from it."""

    folder: Path
    cast: Mapping[str, actors.Person]
    scripts: Mapping[str, Script]
    sets: Mapping[str, FaceSet]
    """What is learnt from, by name."""
    driving: Mapping[str, FaceSet]
    """The faces of the clips that are swapped, by name."""
    drawn: BenchmarkClips
    report: Reporter

    @classmethod
    def set_up(cls, folder: Path, people: int, drawn: BenchmarkClips, report: Reporter) -> "_Stage":
        """Draw and extract what is not there yet."""
        space = Workspace.open(folder / "workspace")
        everyone = cast(people)
        scripts = {
            name: never_seen(number, frames=drawn.frames) for number, name in enumerate(everyone)
        }
        sets, driving = {}, {}
        for number, (name, person) in enumerate(everyone.items()):
            takes = {
                name: seen_by_training(number, seconds=drawn.seconds),
                f"{name}-driving": scripts[name].performance,
            }
            for title, take in takes.items():
                path = folder / f"{title}.mp4"
                if not path.exists():
                    draw_clip(path, person, take, side_px=drawn.side_px, report=report)
                extract(path, folder=space.set(title), settings=ExtractSettings(), report=report)
            sets[name] = FaceSet.of(space.existing_set(name))
            driving[name] = FaceSet.of(space.existing_set(f"{name}-driving"))
        return cls(
            folder=folder,
            cast=everyone,
            scripts=scripts,
            sets=sets,
            driving=driving,
            drawn=drawn,
            report=report,
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Who drives, and whose face is wanted."""
        names = list(self.cast)
        return list(zip(names, [*names[1:], names[0]], strict=True))

    def clip(self, driving: str) -> Path:
        """Return the clip in which somebody is to be swapped."""
        return self.folder / f"{driving}-driving.mp4"

    def answered(self, name: str, answer_for: Callable[[FaceSet], Answer]) -> Row:
        """Return the scores of an answer that needs no training."""
        judged = []
        for driving, wanted in self.pairs:
            made = _frame_by_frame(answer_for(self.sets[wanted]), self.driving[driving])
            judged.append(self.judge(driving, wanted, made, name=name))
        return _row(name, judged)

    def trained(self, name: str, recipe: Recipe, goal: Goal, *, device: str, seed: int) -> Row:
        """Train, convert, and return the scores of that."""
        run = Workspace.open(self.folder / "workspace").run(name)
        began = time.process_time()
        done = train(
            Training(
                sets=list(self.sets.values()),
                recipe=recipe,
                run=run,
                goal=goal,
                device=device,
                seed=seed,
            ),
            report=self.report,
        )
        processor = time.process_time() - began
        judged = []
        for driving, wanted in self.pairs:
            output = self.folder / name / f"{driving}-as-{wanted}.mp4"
            convert(
                self.clip(driving),
                weights=run.weights,
                to=wanted,
                output=output,
                device=device,
                report=self.report,
            )
            judged.append(self.judge(driving, wanted, _from_file(output), name=name))
        return replace(
            _row(name, judged),
            settings={
                "backend": recipe.backend,
                "preset": recipe.preset,
                "images": done.images_seen,
                "minutes": round(done.seconds / 60, 2),
                "processor_minutes": round(processor / 60, 2),
                "seed": seed,
            },
        )

    def judge(self, driving: str, wanted: str, made: Made, *, name: str) -> "_Judged":
        """Compare one clip's answers with the true swap; leave a picture of some of them.

        Args:
            driving: Whose performance it is.
            wanted: Whose face is put on it.
            made: Answers frame after frame.
            name: What the answer is called.
        """
        script, tally, tiles = self.scripts[driving], Tally(), list[list[Image]]()
        middles = {self.drawn.frames * (2 * turn + 1) // 2 for turn in range(len(TRIALS))}

        def shots() -> Iterator[Shot]:
            truths = true_swap(
                self.cast[driving],
                self.cast[wanted],
                script.performance,
                side_px=self.drawn.side_px,
            )
            frames = read_frames(self.clip(driving))
            for frame, true, label in zip(frames, truths, script.labels, strict=True):
                image = made(frame, true.image)
                tally.add(image, true.image, true.face_mask, label=label)
                if frame.index in middles:
                    tiles.append([frame.image, image, true.image])
                yield Shot(
                    time=float(frame.time),
                    original=frame.image,
                    swapped=image,
                    truth=true.image,
                    mask=true.face_mask,
                )

        evaluation = evaluate_shots(
            shots(),
            names=(name, self.clip(driving).name),
            count=len(script.labels),
            identity=self.sets[wanted],
            others=[faces for other, faces in self.sets.items() if other != wanted],
            report=self.report,
        )
        sheet = _sheet(self.folder, name, driving, wanted)
        pictures.write_png(
            sheet,
            pictures.sheet(
                list(zip(*tiles, strict=True)),
                side=TILE_PX,
                columns=list(TRIALS),
                labels=[driving, f"as {wanted}", "true swap"],
            ),
        )
        return _Judged(tally=tally, evaluation=evaluation)


def _frame_by_frame(answer: Answer, faces: FaceSet) -> Made:
    """Return what answers each frame with a face, and leaves the others as they are."""
    records = {record.frame: record for record in faces.records}

    def made(frame: Frame, truth: Image) -> Image:
        record = records.get(frame.index)
        return frame.image if record is None else answer(frame.image, record, truth)

    return made


def _from_file(path: Path) -> Made:
    """Return what answers with a video's frames."""
    frames = read_frames(path)

    def made(_: Frame, _truth: Image) -> Image:
        return next(frames).image

    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class _Judged:
    """One clip's scores."""

    tally: Tally
    evaluation: Evaluation


def _row(name: str, judged: Sequence[_Judged]) -> Row:
    """Return the scores of all clips as one row."""
    whole = Tally.together(one.tally for one in judged)
    found = [one.evaluation.values for one in judged]
    return Row(
        name=name,
        psnr=round(whole.psnr, 3),
        ssim=round(whole.ssim, 4),
        trials={label: round(value, 2) for label, value in whole.by_label().items()},
        metrics={
            metric: round(float(np.mean([one[metric] for one in found])), 4)
            if all(metric in one for one in found)
            else None
            for metric in METRICS
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Results:
    """The rows that are known, in a file."""

    path: Path

    def once(self, name: str, made: Callable[[], Row]) -> None:
        """Make a row, unless it is there."""
        if name in self.rows():
            return
        row = made()
        # Another process may have added one meanwhile.
        rows = [asdict(one) for one in (*self.rows().values(), row)]
        write_text(self.path, json.dumps({"version": VERSION, "rows": rows}, indent=1) + "\n")

    def rows(self) -> dict[str, Row]:
        """Return the known rows by name, in the order they were made."""
        if not self.path.exists():
            return {}
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return {one["name"]: Row(**one) for one in found["rows"]}

    def in_order(self) -> list[Row]:
        """Return floors, then what was trained, then ceilings."""
        rows = self.rows()
        floors = [rows[name] for name in FLOORS]
        others = [row for name, row in rows.items() if name not in FLOORS]
        return [*floors, *sorted(others, key=lambda row: not row.settings)]


def _sheet(folder: Path, name: str, driving: str, wanted: str) -> Path:
    """Return where the picture of an answer goes."""
    return folder / "pictures" / f"{name}, {driving} as {wanted}.png"


def _page(summary: BenchmarkSummary, folder: Path) -> str:
    """Return the benchmark's page: the tables, and what each answer looks like."""
    trained = [row for row in summary.rows if row.settings]
    pieces = []
    for title, columns, rows in summary.tables():
        pieces += [page.heading(title.capitalize()), page.table(columns, rows)]
    settings = [name.replace("_", " ") for name in trained[0].settings]
    pieces += [
        page.heading("How it was trained"),
        page.table(["", *settings], [[row.name, *row.settings.values()] for row in trained]),
    ]
    for row in sorted(summary.rows, key=lambda row: not row.settings):
        pieces.append(page.heading(row.name))
        sheets = sorted((folder / "pictures").glob(f"{row.name}, *.png"))
        pieces += [page.picture(sheet, sheet.stem) for sheet in sheets]
    about = "everyone's performance with the next one's face; drawn, so the true swap is known"
    return page.page(f"faceswap benchmark, version {summary.version}", about, pieces)
