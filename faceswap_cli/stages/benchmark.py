"""Benchmark: train a backend on synthetic people, and score its swaps against the true ones.

It calls the stages as a user would, on clips that are always the same. Beside the trained rows are
baselines without training: the input itself, the mean face, the nearest pose (lower bounds), and
the true swap at the network's size (the upper bound: the pipeline's own loss). Rows of one version
of the benchmark are comparable. The entry point is `benchmark`.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli import synthetic
from faceswap_cli.core import image_io
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import DamagedFileError, read_document, write_document, write_text
from faceswap_cli.core.lock import folder_lock
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
from faceswap_cli.evaluation.metrics.external_models import EvalModels
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
from faceswap_cli.pages import html_page
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
"""Metrics of the second table, by name: column title and decimals."""
EYES_MOUTH_METRICS: Mapping[str, tuple[str, int]] = {
    "eyes": ("eyes' openness, of width", 3),
    "gaze": ("gaze, degrees", 2),
    "mouth": ("mouth's openness, of width", 3),
    "teeth": ("teeth in one only, %", 1),
}
"""Metrics of the table of eyes and mouth, which people look at."""
DEFAULT_MINUTES = 3.0
"""Length of the training without a limit of the user's."""
TILE_PX = 144

BASELINES: Mapping[str, Callable[[FaceSet], Baseline]] = {
    "unswapped": UnswappedBaseline.from_faces,
    "mean face": MeanFaceBaseline.from_faces,
    "nearest pose": NearestPoseBaseline.from_faces,
}
"""Lower bounds by name, made from the target's faces."""

SwapFrame = Callable[[Frame, Image], Image]
"""`swap_frame(frame, truth)`: the swapped frame; called in the order of the frames."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkSize:
    """Size of the clips; the defaults are part of the benchmark, smaller ones are for tests."""

    side_px: int = 384
    seconds: float = 12.0
    """Duration of each person's training clip."""
    frames: int = 24
    """Frames of each trial."""

    def folder_name(self, num_identities: int) -> str:
        """Return the name of the folder for clips of this version, number and size."""
        is_default = self == BenchmarkSize()
        size = "" if is_default else f"-{self.side_px}px-{self.seconds:g}s-{self.frames}f"
        return f"v{VERSION}-{num_identities}-people{size}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """Scores of one run or baseline."""

    name: str
    psnr: float
    """Against the true swap, inside the face, dB."""
    ssim: float
    trials: dict[str, float]
    """PSNR by trial, dB."""
    metrics: dict[str, float | None] = field(default_factory=dict)
    """Means over the clips; None: missing."""
    settings: dict[str, str | int | float] = field(default_factory=dict)
    """Settings of the training; empty for baselines."""

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

    def metric_cells(self, columns: Mapping[str, tuple[str, int]]) -> list[str]:
        """Return the row of a table of metrics, by name: column title and decimals."""
        cells = (self._format_metric(name, digits) for name, (_, digits) in columns.items())
        return [self.name, *cells]

    def trial_cells(self) -> list[str]:
        """Return the row of the table of trials."""
        return [self.name, *(f"{self.trials[name]:.1f}" for name in TRIALS)]

    def _format_metric(self, metric: str, digits: int) -> str:
        """Return a metric for a table."""
        value = self.metrics.get(metric)
        return "n/a" if value is None else f"{value:.{digits}f}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSummary:
    """Results of the benchmark."""

    version: int
    rows: Sequence[BenchmarkRow]
    """Lower bounds, trained runs in the order of training, upper bounds."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return title, columns and rows of each table."""

        def metric_table(
            title: str, metrics: Mapping[str, tuple[str, int]]
        ) -> tuple[str, list[str], list[list[str]]]:
            columns = ["", *(column for column, _ in metrics.values())]
            return title, columns, [row.metric_cells(metrics) for row in self.rows]

        return [
            (
                "against the true swap",
                ["", "PSNR, dB", "SSIM", "LPIPS"],
                [row.truth_cells() for row in self.rows],
            ),
            metric_table("without the true swap", TABLE_METRICS),
            metric_table("eyes and mouth", EYES_MOUTH_METRICS),
            ("by trial", ["PSNR, dB", *TRIALS], [row.trial_cells() for row in self.rows]),
        ]


def benchmark(
    folder: Path,
    *,
    recipe: Recipe,
    stop_criterion: StopCriterion,
    num_identities: int = 2,
    device: str,
    seed: int,
    report: Reporter,
    size: BenchmarkSize | None = None,
) -> BenchmarkSummary:
    """Train on synthetic people, swap their faces, and compare with the true swaps.

    Args:
        folder: Receives all files; what is there and finished is not made again.
        recipe: Backend and settings.
        stop_criterion: Limit of the training.
        num_identities: Number of people; each one's performance gets the next one's face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of training; the clips are always the same.
        report: Receives progress.
        size: Size of the clips.

    Raises:
        ConfigurationError: There are fewer than two people.
        InputError: The folder cannot be written, or another process writes into it.
        FaceswapError: As the stages do.
    """
    if num_identities < 2:
        raise ConfigurationError("a swap needs two people", hint="choose --identities 2 or more")
    size = size or BenchmarkSize()
    folder = folder / size.folder_name(num_identities)
    with folder_lock(folder):
        harness = _Harness.prepare(folder, num_identities, size, report)
        results = _ResultStore(path=folder / "results.json")

        # Lower bounds.
        for name, make_baseline in BASELINES.items():
            results.compute_once(name, partial(harness.score_baseline, name, make_baseline))

        # The trained run.
        run = make_run_name(recipe, stop_criterion, seed)
        results.compute_once(
            run,
            partial(harness.train_and_score, run, recipe, stop_criterion, device=device, seed=seed),
        )

        # The upper bound.
        oracle = Oracle(size_px=recipe.model.size_px, coverage=recipe.model.coverage)
        name = f"true swap at {oracle.size_px} px"
        results.compute_once(name, partial(harness.score_baseline, name, lambda _: oracle))

        summary = BenchmarkSummary(
            version=VERSION, rows=results.ordered_rows(), page=harness.folder / "benchmark.html"
        )
        write_text(summary.page, _render_page(summary, harness.folder))
    return summary


def make_run_name(recipe: Recipe, stop_criterion: StopCriterion, seed: int) -> str:
    """Return a row's name, the same for the same settings, limits and seed."""
    sections = recipe.to_dict()
    content = json.dumps([sections["model"], sections["train"]])
    parts = [recipe.backend, *([recipe.preset] if recipe.preset else [])]
    if any(source == "--set" for source in recipe.sources.values()):
        parts.append(hashlib.sha256(content.encode()).hexdigest()[:6])
    if stop_criterion.max_images:
        parts.append(f"{stop_criterion.max_images}-images")
    if stop_criterion.max_minutes:
        parts.append(f"{stop_criterion.max_minutes:g}-min")
    return "-".join([*parts, *([f"seed-{seed}"] if seed else [])])


# --- clips and scores ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Harness:
    """The rendered clips and their extracted sets; scores baselines and trained runs on them."""

    folder: Path
    identities: Mapping[str, synthetic.Person]
    scenarios: Mapping[str, Scenario]
    sets: Mapping[str, FaceSet]
    """Training sets by name."""
    driving: Mapping[str, FaceSet]
    """Faces of the test clips by name."""
    size: BenchmarkSize
    report: Reporter

    @cached_property
    def models(self) -> EvalModels:
        """The models that all clips are evaluated with."""
        return EvalModels.open(has_truth=True)

    @classmethod
    def prepare(
        cls, folder: Path, num_identities: int, size: BenchmarkSize, report: Reporter
    ) -> "_Harness":
        """Render and extract what is not there yet."""
        space = Workspace.open(folder / "workspace")
        identities = select_identities(num_identities)
        scenarios = {
            name: make_test_scenario(index, frames=size.frames)
            for index, name in enumerate(identities)
        }
        sets, driving = {}, {}
        for index, (name, person) in enumerate(identities.items()):
            performances = {
                name: make_training_performance(index, seconds=size.seconds),
                f"{name}-driving": scenarios[name].performance,
            }
            for title, performance in performances.items():
                path = folder / f"{title}.mp4"
                if not path.exists():
                    render_clip(path, person, performance, side_px=size.side_px, report=report)
                extract(
                    path, folder=space.set_folder(title), settings=ExtractSettings(), report=report
                )
            sets[name] = FaceSet.from_folder(space.require_set(name))
            driving[name] = FaceSet.from_folder(space.require_set(f"{name}-driving"))
        return cls(
            folder=folder,
            identities=identities,
            scenarios=scenarios,
            sets=sets,
            driving=driving,
            size=size,
            report=report,
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of driving and target identity."""
        names = list(self.identities)
        return list(zip(names, [*names[1:], names[0]], strict=True))

    def driving_clip(self, driving: str) -> Path:
        """Return the test clip of an identity."""
        return self.folder / f"{driving}-driving.mp4"

    def score_baseline(
        self, name: str, make_baseline: Callable[[FaceSet], Baseline]
    ) -> BenchmarkRow:
        """Return the scores of a baseline."""
        clips = []
        for driving, target in self.pairs:
            swap_frame = _apply_baseline(make_baseline(self.sets[target]), self.driving[driving])
            clips.append(self.score_clip(driving, target, swap_frame, name=name))
        return _make_row(name, clips)

    def train_and_score(
        self, name: str, recipe: Recipe, stop_criterion: StopCriterion, *, device: str, seed: int
    ) -> BenchmarkRow:
        """Train, convert, and return the scores."""
        run = Workspace.open(self.folder / "workspace").run_folder(name)
        cpu_started = time.process_time()
        trained = train(
            TrainJob(
                sets=list(self.sets.values()),
                recipe=recipe,
                run=run,
                stop_criterion=stop_criterion,
                device=device,
                seed=seed,
            ),
            report=self.report,
        )
        cpu_seconds = time.process_time() - cpu_started
        clips = []
        for driving, target in self.pairs:
            output = self.folder / name / f"{driving}-as-{target}.mp4"
            convert(
                self.driving_clip(driving),
                weights=run.trained,
                to=target,
                output=output,
                device=device,
                report=self.report,
            )
            clips.append(self.score_clip(driving, target, _read_swapped(output), name=name))
        return replace(
            _make_row(name, clips),
            settings={
                "backend": recipe.backend,
                "preset": recipe.preset,
                "images": trained.images_seen,
                "minutes": round(trained.seconds / 60, 2),
                "cpu_minutes": round(cpu_seconds / 60, 2),
                "seed": seed,
            },
        )

    def score_clip(
        self, driving: str, target: str, swap_frame: SwapFrame, *, name: str
    ) -> "_ClipScores":
        """Compare one clip's swaps with the true ones; write an image grid of some of them.

        Args:
            driving: Identity of the performance.
            target: Identity swapped in.
            swap_frame: Returns the swap of one frame after another.
            name: Name of the row.
        """
        scenario = self.scenarios[driving]
        scores = ReconstructionScores()
        columns: list[list[Image]] = []
        middles = {self.size.frames * (2 * index + 1) // 2 for index in range(len(TRIALS))}

        def swap_frames() -> Iterator[FramePair]:
            truths = render_true_swap(
                self.identities[driving],
                self.identities[target],
                scenario.performance,
                side_px=self.size.side_px,
            )
            frames = read_frames(self.driving_clip(driving))
            for frame, true, label in zip(frames, truths, scenario.labels, strict=True):
                image = swap_frame(frame, true.image)
                scores.add(image, true.image, true.face_mask, label=label)
                if frame.index in middles:
                    columns.append([frame.image, image, true.image])
                yield FramePair(
                    time=float(frame.time),
                    original=frame.image,
                    swapped=image,
                    truth=true.image,
                    mask=true.face_mask,
                )

        evaluation = evaluate_frames(
            swap_frames(),
            names=(name, self.driving_clip(driving).name),
            frame_count=len(scenario.labels),
            identity=self.sets[target],
            distractors=[faces for other, faces in self.sets.items() if other != target],
            report=self.report,
            models=self.models,
        )
        image_io.write_png(
            _grid_path(self.folder, name, driving, target),
            image_io.make_grid(
                list(zip(*columns, strict=True)),
                side=TILE_PX,
                columns=list(TRIALS),
                labels=[driving, f"as {target}", "true swap"],
            ),
        )
        return _ClipScores(scores=scores, evaluation=evaluation)


def _apply_baseline(baseline: Baseline, faces: FaceSet) -> SwapFrame:
    """Return a function that swaps frames with a face, and returns others as they are."""
    records = {record.frame: record for record in faces.records}

    def swap_frame(frame: Frame, truth: Image) -> Image:
        record = records.get(frame.index)
        return frame.image if record is None else baseline(frame.image, record, truth)

    return swap_frame


def _read_swapped(path: Path) -> SwapFrame:
    """Return a function that returns a converted video's frames."""
    frames = read_frames(path)

    def swap_frame(_: Frame, _truth: Image) -> Image:
        return next(frames).image

    return swap_frame


@dataclass(frozen=True, kw_only=True, eq=False)
class _ClipScores:
    """Scores of one clip."""

    scores: ReconstructionScores
    evaluation: Evaluation


def _make_row(name: str, clips: Sequence[_ClipScores]) -> BenchmarkRow:
    """Return the scores of all clips as one row."""
    merged = ReconstructionScores.merge(clip.scores for clip in clips)
    values = [clip.evaluation.values for clip in clips]
    return BenchmarkRow(
        name=name,
        psnr=round(merged.psnr, 3),
        ssim=round(merged.ssim, 4),
        trials={label: round(value, 2) for label, value in merged.psnr_by_label().items()},
        metrics={
            metric: round(float(np.mean([one[metric] for one in values])), 4)
            if all(metric in one for one in values)
            else None
            for metric in ("lpips", *TABLE_METRICS, *EYES_MOUTH_METRICS)
        },
    )


@dataclass(frozen=True, kw_only=True)
class _ResultStore:
    """The finished rows, in a JSON file."""

    path: Path

    def compute_once(self, name: str, make_row: Callable[[], BenchmarkRow]) -> None:
        """Compute and store a row, unless it is there."""
        if name in self.load():
            return
        row = make_row()
        rows = [asdict(one) for one in (*self.load().values(), row)]
        write_document(self.path, {"version": VERSION, "rows": rows})

    def load(self) -> dict[str, BenchmarkRow]:
        """Return the stored rows by name, in the order they were computed.

        Raises:
            DamagedFileError: The file has changed since it was written.
        """
        try:
            rows = map(BenchmarkRow.from_dict, read_document(self.path)["rows"])
            return {row.name: row for row in rows}
        except FileNotFoundError:
            return {}
        except (DamagedFileError, KeyError, TypeError, AttributeError, ValueError) as error:
            hint = "delete it: the rows are computed again, of the runs that are there"
            raise DamagedFileError(self.path, hint=hint) from error

    def ordered_rows(self) -> list[BenchmarkRow]:
        """Return lower bounds, trained runs, upper bounds."""
        rows = self.load()
        lower_bounds = [rows[name] for name in BASELINES]
        others = [row for name, row in rows.items() if name not in BASELINES]
        return [*lower_bounds, *sorted(others, key=lambda row: not row.settings)]


def _grid_path(folder: Path, name: str, driving: str, target: str) -> Path:
    """Return the path of a row's image grid of one clip."""
    return folder / "pictures" / f"{name}, {driving} as {target}.png"


def _render_page(summary: BenchmarkSummary, folder: Path) -> str:
    """Return the HTML of the page: the tables, and each row's image grids."""
    trained = [row for row in summary.rows if row.settings]
    parts = []
    for title, columns, rows in summary.tables():
        parts += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    settings = [name.replace("_", " ") for name in trained[0].settings]
    parts += [
        html_page.heading("Training"),
        html_page.table(["", *settings], [[row.name, *row.settings.values()] for row in trained]),
    ]
    for row in sorted(summary.rows, key=lambda row: not row.settings):
        parts.append(html_page.heading(row.name))
        grids = sorted((folder / "pictures").glob(f"{row.name}, *.png"))
        parts += [html_page.png_figure(grid, grid.stem) for grid in grids]
    about = (
        "each person's performance with the next one's face; synthetic, so the true swap is known"
    )
    return html_page.build_page(f"faceswap benchmark, version {summary.version}", about, parts)
