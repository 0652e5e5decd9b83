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

from faceswap_cli import synthetic
from faceswap_cli.core import html_page, image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.evaluation.baselines import (
    Baseline,
    MeanFaceBaseline,
    NearestPoseBaseline,
    Oracle,
    UnswappedBaseline,
)
from faceswap_cli.evaluation.clips import render_clip, render_true_swap
from faceswap_cli.evaluation.evaluation import Evaluation
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.evaluation.metrics.reconstruction import ReconstructionScores
from faceswap_cli.evaluation.metrics.registry import current_name
from faceswap_cli.evaluation.trials import (
    TRIALS,
    VERSION,
    Scenario,
    make_test_scenario,
    make_training_performance,
    select_identities,
)
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.stages.convert import convert
from faceswap_cli.stages.extract import extract
from faceswap_cli.stages.train import StopCriterion, TrainJob, train
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.reader import read_frames

__all__ = ["BenchmarkRow", "BenchmarkSize", "BenchmarkSummary", "StopCriterion", "benchmark"]

TABLE_METRICS: Mapping[str, tuple[str, int]] = {
    "identity_margin_dlib": ("identity margin", 3),
    "pose": ("pose, degrees", 2),
    "expression_motion": ("expression", 3),
    "jitter": ("jitter, x", 2),
    "flicker": ("flicker, x", 2),
}
"""What is shown of an evaluation that needs no truth, by its name in the catalogue of metrics: its
column and its decimals."""
DEFAULT_MINUTES = 3.0
"""How long to train unless told otherwise."""
TILE_PX = 144

BASELINES: Mapping[str, Callable[[FaceSet], Baseline]] = {
    "unswapped": UnswappedBaseline.from_faces,
    "mean face": MeanFaceBaseline.from_faces,
    "nearest pose": NearestPoseBaseline.from_faces,
}
"""What answers without having learnt anything, given the wanted person's faces."""

SwapFrame = Callable[[Frame, Image], Image]
"""`made(frame, truth)`: the answer to a frame; frames come in order."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSize:
    """How much is drawn; the usual values are part of the benchmark, smaller ones are for tests."""

    side_px: int = 384
    seconds: float = 12.0
    """Duration of what is learnt from, each person."""
    frames: int = 24
    """Of each trial."""

    def folder_name(self, num_identities: int) -> str:
        """Return what tells these clips from others, as part of a folder's name."""
        usual = self == BenchmarkSize()
        size = "" if usual else f"-{self.side_px}px-{self.seconds:g}s-{self.frames}f"
        return f"v{VERSION}-{num_identities}-people{size}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
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

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> "BenchmarkRow":
        """Read a row back, also one with the keys of evaluation format 1."""
        metrics = {current_name(name): value for name, value in table["metrics"].items()}
        settings = dict(table["settings"])
        if "processor_minutes" in settings:
            settings["cpu_minutes"] = settings.pop("processor_minutes")
        return cls(**{**table, "metrics": metrics, "settings": settings})

    def truth_cells(self) -> list[str]:
        """Return the row of the table against the true swap."""
        return [self.name, f"{self.psnr:.1f}", f"{self.ssim:.3f}", self._format_metric("lpips", 3)]

    def metric_cells(self) -> list[str]:
        """Return the row of the table of what needs no truth."""
        return [
            self.name,
            *(self._format_metric(name, digits) for name, (_, digits) in TABLE_METRICS.items()),
        ]

    def trial_cells(self) -> list[str]:
        """Return the row of the table of trials."""
        return [self.name, *(f"{self.trials[name]:.1f}" for name in TRIALS)]

    def _format_metric(self, metric: str, digits: int) -> str:
        """Return a metric as tables have it."""
        value = self.metrics.get(metric)
        return "n/a" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """What the benchmark came to."""

    version: int
    rows: Sequence[BenchmarkRow]
    """Floors, then what was trained, in the order it was, then the ceilings."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return what is shown: title, columns and rows of each table."""
        own = ["", *(column for column, _ in TABLE_METRICS.values())]
        return [
            (
                "against the true swap",
                ["", "PSNR, dB", "SSIM", "LPIPS"],
                [row.truth_cells() for row in self.rows],
            ),
            ("on its own", own, [row.metric_cells() for row in self.rows]),
            ("by trial", ["PSNR, dB", *TRIALS], [row.trial_cells() for row in self.rows]),
        ]


def benchmark(
    folder: Path,
    *,
    recipe: Recipe,
    goal: StopCriterion,
    num_identities: int = 2,
    device: str,
    seed: int,
    report: Reporter,
    size: BenchmarkSize | None = None,
) -> BenchmarkSummary:
    """Train on drawn people, swap them around, and compare with the true swaps.

    Args:
        folder: Where everything goes; what is already there and finished is not made again.
        recipe: Backend and settings.
        goal: How long to train.
        num_identities: How many take part; everyone's performance gets the next one's face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Of training; the drawings are always the same.
        report: Hears each stage.
        size: How much is drawn.

    Raises:
        ConfigurationError: Fewer than two people, or no end to the training.
    """
    if num_identities < 2:
        raise ConfigurationError("a swap needs two people", hint="choose --identities 2 or more")
    size = size or BenchmarkSize()
    stage = _Harness.prepare(
        folder / size.folder_name(num_identities), num_identities, size, report
    )
    results = _ResultStore(path=stage.folder / "results.json")
    for name, floor in BASELINES.items():
        results.compute_once(name, partial(stage.score_baseline, name, floor))
    run = make_run_name(recipe, goal, seed)
    train_it = partial(stage.train_and_score, run, recipe, goal, device=device, seed=seed)
    results.compute_once(run, train_it)
    perfect = Oracle(size_px=recipe.model.size_px, coverage=recipe.model.coverage)
    ceiling = f"true swap at {perfect.size_px} px"
    results.compute_once(ceiling, partial(stage.score_baseline, ceiling, lambda _: perfect))
    summary = BenchmarkSummary(
        version=VERSION, rows=results.ordered_rows(), page=stage.folder / "benchmark.html"
    )
    write_text(summary.page, _render_page(summary, stage.folder))
    return summary


def make_run_name(recipe: Recipe, goal: StopCriterion, seed: int) -> str:
    """Return what a row is called: the same for the same settings, goal and seed."""
    told = recipe.to_dict()
    digest = hashlib.sha256(json.dumps([told["model"], told["train"]]).encode()).hexdigest()[:6]
    parts = [recipe.backend, *([recipe.preset] if recipe.preset else [])]
    if any(source == "--set" for source in recipe.sources.values()):
        parts.append(digest)
    if goal.max_images:
        parts.append(f"{goal.max_images}-images")
    if goal.max_minutes:
        parts.append(f"{goal.max_minutes:g}-min")
    return "-".join([*parts, *([f"seed-{seed}"] if seed else [])])


# --- the work -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Harness:
    """Everything that is drawn, and what was extracted from it."""

    folder: Path
    identities: Mapping[str, synthetic.Person]
    scenarios: Mapping[str, Scenario]
    sets: Mapping[str, FaceSet]
    """What is learnt from, by name."""
    driving: Mapping[str, FaceSet]
    """The faces of the clips that are swapped, by name."""
    size: BenchmarkSize
    report: Reporter

    @classmethod
    def prepare(
        cls, folder: Path, num_identities: int, size: BenchmarkSize, report: Reporter
    ) -> "_Harness":
        """Draw and extract what is not there yet."""
        space = Workspace.open(folder / "workspace")
        everyone = select_identities(num_identities)
        scripts = {
            name: make_test_scenario(number, frames=size.frames)
            for number, name in enumerate(everyone)
        }
        sets, driving = {}, {}
        for number, (name, person) in enumerate(everyone.items()):
            takes = {
                name: make_training_performance(number, seconds=size.seconds),
                f"{name}-driving": scripts[name].performance,
            }
            for title, take in takes.items():
                path = folder / f"{title}.mp4"
                if not path.exists():
                    render_clip(path, person, take, side_px=size.side_px, report=report)
                extract(
                    path, folder=space.set_folder(title), settings=ExtractSettings(), report=report
                )
            sets[name] = FaceSet.from_folder(space.require_set(name))
            driving[name] = FaceSet.from_folder(space.require_set(f"{name}-driving"))
        return cls(
            folder=folder,
            identities=everyone,
            scenarios=scripts,
            sets=sets,
            driving=driving,
            size=size,
            report=report,
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Who drives, and whose face is wanted."""
        names = list(self.identities)
        return list(zip(names, [*names[1:], names[0]], strict=True))

    def driving_clip(self, driving: str) -> Path:
        """Return the clip in which somebody is to be swapped."""
        return self.folder / f"{driving}-driving.mp4"

    def score_baseline(
        self, name: str, make_baseline: Callable[[FaceSet], Baseline]
    ) -> BenchmarkRow:
        """Return the scores of an answer that needs no training."""
        judged = []
        for driving, wanted in self.pairs:
            made = _apply_baseline(make_baseline(self.sets[wanted]), self.driving[driving])
            judged.append(self.score_clip(driving, wanted, made, name=name))
        return _make_row(name, judged)

    def train_and_score(
        self, name: str, recipe: Recipe, goal: StopCriterion, *, device: str, seed: int
    ) -> BenchmarkRow:
        """Train, convert, and return the scores of that."""
        run = Workspace.open(self.folder / "workspace").run_folder(name)
        began = time.process_time()
        done = train(
            TrainJob(
                sets=list(self.sets.values()),
                recipe=recipe,
                run=run,
                stop_criterion=goal,
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
                self.driving_clip(driving),
                weights=run.weights,
                to=wanted,
                output=output,
                device=device,
                report=self.report,
            )
            judged.append(self.score_clip(driving, wanted, _read_swapped(output), name=name))
        return replace(
            _make_row(name, judged),
            settings={
                "backend": recipe.backend,
                "preset": recipe.preset,
                "images": done.images_seen,
                "minutes": round(done.seconds / 60, 2),
                "cpu_minutes": round(processor / 60, 2),
                "seed": seed,
            },
        )

    def score_clip(
        self, driving: str, target: str, swap_frame: SwapFrame, *, name: str
    ) -> "_ClipScores":
        """Compare one clip's answers with the true swap; leave a picture of some of them.

        Args:
            driving: Whose performance it is.
            target: Whose face is put on it.
            swap_frame: Answers frame after frame.
            name: What the answer is called.
        """
        script, tally, tiles = self.scenarios[driving], ReconstructionScores(), list[list[Image]]()
        middles = {self.size.frames * (2 * turn + 1) // 2 for turn in range(len(TRIALS))}

        def shots() -> Iterator[FramePair]:
            truths = render_true_swap(
                self.identities[driving],
                self.identities[target],
                script.performance,
                side_px=self.size.side_px,
            )
            frames = read_frames(self.driving_clip(driving))
            for frame, true, label in zip(frames, truths, script.labels, strict=True):
                image = swap_frame(frame, true.image)
                tally.add(image, true.image, true.face_mask, label=label)
                if frame.index in middles:
                    tiles.append([frame.image, image, true.image])
                yield FramePair(
                    time=float(frame.time),
                    original=frame.image,
                    swapped=image,
                    truth=true.image,
                    mask=true.face_mask,
                )

        evaluation = evaluate_frames(
            shots(),
            names=(name, self.driving_clip(driving).name),
            frame_count=len(script.labels),
            identity=self.sets[target],
            distractors=[faces for other, faces in self.sets.items() if other != target],
            report=self.report,
        )
        sheet = _grid_path(self.folder, name, driving, target)
        image_io.write_png(
            sheet,
            image_io.make_grid(
                list(zip(*tiles, strict=True)),
                side=TILE_PX,
                columns=list(TRIALS),
                labels=[driving, f"as {target}", "true swap"],
            ),
        )
        return _ClipScores(scores=tally, evaluation=evaluation)


def _apply_baseline(baseline: Baseline, faces: FaceSet) -> SwapFrame:
    """Return what answers each frame with a face, and leaves the others as they are."""
    records = {record.frame: record for record in faces.records}

    def made(frame: Frame, truth: Image) -> Image:
        record = records.get(frame.index)
        return frame.image if record is None else baseline(frame.image, record, truth)

    return made


def _read_swapped(path: Path) -> SwapFrame:
    """Return what answers with a video's frames."""
    frames = read_frames(path)

    def made(_: Frame, _truth: Image) -> Image:
        return next(frames).image

    return made


@dataclass(frozen=True, kw_only=True, eq=False)
class _ClipScores:
    """One clip's scores."""

    scores: ReconstructionScores
    evaluation: Evaluation


def _make_row(name: str, clips: Sequence[_ClipScores]) -> BenchmarkRow:
    """Return the scores of all clips as one row."""
    whole = ReconstructionScores.merge(one.scores for one in clips)
    found = [one.evaluation.values for one in clips]
    return BenchmarkRow(
        name=name,
        psnr=round(whole.psnr, 3),
        ssim=round(whole.ssim, 4),
        trials={label: round(value, 2) for label, value in whole.psnr_by_label().items()},
        metrics={
            metric: round(float(np.mean([one[metric] for one in found])), 4)
            if all(metric in one for one in found)
            else None
            for metric in TABLE_METRICS
        },
    )


@dataclass(frozen=True, kw_only=True)
class _ResultStore:
    """The rows that are known, in a file."""

    path: Path

    def compute_once(self, name: str, make_row: Callable[[], BenchmarkRow]) -> None:
        """Make a row, unless it is there."""
        if name in self.load():
            return
        row = make_row()
        # Another process may have added one meanwhile.
        rows = [asdict(one) for one in (*self.load().values(), row)]
        write_text(self.path, json.dumps({"version": VERSION, "rows": rows}, indent=1) + "\n")

    def load(self) -> dict[str, BenchmarkRow]:
        """Return the known rows by name, in the order they were made."""
        if not self.path.exists():
            return {}
        document: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return {row["name"]: BenchmarkRow.from_dict(row) for row in document["rows"]}

    def ordered_rows(self) -> list[BenchmarkRow]:
        """Return floors, then what was trained, then ceilings."""
        rows = self.load()
        floors = [rows[name] for name in BASELINES]
        others = [row for name, row in rows.items() if name not in BASELINES]
        return [*floors, *sorted(others, key=lambda row: not row.settings)]


def _grid_path(folder: Path, name: str, driving: str, target: str) -> Path:
    """Return where the picture of an answer goes."""
    return folder / "pictures" / f"{name}, {driving} as {target}.png"


def _render_page(summary: BenchmarkSummary, folder: Path) -> str:
    """Return the benchmark's page: the tables, and what each answer looks like."""
    trained = [row for row in summary.rows if row.settings]
    pieces = []
    for title, columns, rows in summary.tables():
        pieces += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    settings = [name.replace("_", " ") for name in trained[0].settings]
    pieces += [
        html_page.heading("How it was trained"),
        html_page.table(["", *settings], [[row.name, *row.settings.values()] for row in trained]),
    ]
    for row in sorted(summary.rows, key=lambda row: not row.settings):
        pieces.append(html_page.heading(row.name))
        sheets = sorted((folder / "pictures").glob(f"{row.name}, *.png"))
        pieces += [html_page.png_figure(sheet, sheet.stem) for sheet in sheets]
    about = "everyone's performance with the next one's face; drawn, so the true swap is known"
    return html_page.build_page(f"faceswap benchmark, version {summary.version}", about, pieces)
