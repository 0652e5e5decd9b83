"""Compare: runs side by side on one page: settings, curves, scores, and swaps of the same faces.

The faces are validation faces in the order of their frames, swapped by each run and composited
into their crops as a conversion would. The entry point is `compare`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core import image_io
from faceswap_cli.core.config import read_recipe_file
from faceswap_cli.core.errors import ConfigurationError, FaceswapError, NoFacesError
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.lock import RETRY_HINT, output_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.evaluation.evaluation import format_number
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.evaluation.metrics.registry import METRICS, Metric
from faceswap_cli.faces.alignment import FaceAlignment, transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.masks import MASK_PX, intersect_masks
from faceswap_cli.faces.occlusion import VisibleFaceModel
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart
from faceswap_cli.training.checkpoint import TrainedModel, load_weights, read_metadata
from faceswap_cli.training.dataset import VALIDATION_FRACTION, read_crop, split_train_val
from faceswap_cli.training.report import Curves, LogEntry, collect_curves, read_run_log
from faceswap_models.tensors import to_images, to_masks, to_tensor

MAX_FACES = 32
"""Validation faces of each identity: consecutive ones, so that stability can be measured."""
GRID_FACES = 8
"""Faces on the page."""
TILE_PX = 160
BATCH = 8

CURVES: Mapping[str, str] = {
    "val_reconstruction": "error on validation faces, fraction of the full range",
    "val_cycle": "cycle error on validation faces",
    "losses": "training losses",
    "swap_metrics": "pose, expression and identity of swaps",
}
"""Curves of the log: label of the y axis, by key."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunInfo:
    """Recipe and log of one run."""

    folder: RunFolder
    settings: Mapping[str, str]
    """`section.key` -> value, as in the recipe."""
    lines: Sequence[LogEntry]
    """Lines of its log."""

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.folder.name

    @classmethod
    def load(cls, folder: RunFolder) -> "RunInfo":
        """Read a run's recipe and log.

        Raises:
            InputError: The recipe is missing or damaged.
        """
        recipe = read_recipe_file(folder.recipe)
        settings = {
            key: _format_value(value) for key, value in recipe.items() if not _is_table(value)
        }
        for section, values in recipe.items():
            if _is_table(values):
                settings |= {
                    f"{section}.{key}": _format_value(value) for key, value in values.items()
                }
        return cls(folder=folder, settings=settings, lines=read_run_log(folder))

    def summarize(self) -> dict[str, str]:
        """Return images seen, speed and validation errors."""
        errors = [float(line["val_error"]) for line in self.lines if "val_error" in line]
        rates = [
            float(line["images_per_second"]) for line in self.lines if "images_per_second" in line
        ]
        seen = max((int(line["images_seen"]) for line in self.lines), default=0)
        return {
            "images seen": f"{seen:,}",
            "images/s": f"{np.median(rates):.1f}" if rates else "n/a",
            "validation error, last": f"{errors[-1]:.4f}" if errors else "n/a",
            "validation error, best": f"{min(errors):.4f}" if errors else "n/a",
        }


@dataclass(frozen=True, kw_only=True)
class CompareSummary:
    """Results of a comparison."""

    runs: Sequence[str]
    training: Mapping[str, Sequence[str]]
    """Images seen, speed and validation errors: one value per run, by name."""
    differences: Mapping[str, Sequence[str]]
    """Settings that differ: one value per run, by `section.key`."""
    evaluations: Mapping[str, Sequence[float | None]]
    """Metrics of the swaps: one value per run, by metric."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return title, columns and rows of each table."""
        columns = ["", *self.runs]
        settings = [[name, *values] for name, values in self.differences.items()]
        training = [[name, *values] for name, values in self.training.items()]
        return [
            ("settings that differ", columns, settings or [["none", *[""] * len(self.runs)]]),
            ("training", columns, training),
            ("swaps of validation faces", columns, metric_rows(self.evaluations)),
        ]


def compare(
    names: Sequence[str], *, workspace: Workspace, device: str, report: Reporter
) -> CompareSummary:
    """Compare runs of one workspace and write a page.

    Args:
        names: Two runs or more.
        workspace: Holds the runs, and the sets that they were trained on.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Receives progress.

    Raises:
        ConfigurationError: There is no such run, or fewer than two different ones.
        CheckpointError: A run's weights cannot be used.
        InputError: Another process writes the page.
    """
    if len(set(names)) < 2:
        raise ConfigurationError(
            "a comparison needs two different runs",
            hint=f"runs in this workspace: {', '.join(workspace.run_names()) or 'none'}",
        )
    runs = [RunInfo.load(RunFolder(root=workspace.find_weights(name).parent)) for name in names]
    for run in runs:
        for line in run.lines:
            if line.get("event") == "damaged":
                report.note(f"{run.name}: {line['message']}")
    page = workspace.runs_page(*(run.name for run in runs))
    with output_lock(page, hint=RETRY_HINT):
        swaps = _swap_shared_faces(runs, workspace, device, report)
        summary = CompareSummary(
            runs=[run.name for run in runs],
            training=_transpose([run.summarize() for run in runs]),
            differences=find_differences([run.settings for run in runs]),
            evaluations={name: [one.get(name) for one in swaps.values] for name in METRICS}
            if swaps
            else {},
            page=page,
        )
        write_text(page, _render_page(runs, summary, swaps))
    return summary


def find_differences(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the settings whose values are not all the same; a missing one is a dash."""
    names = dict.fromkeys(name for one in settings for name in one)
    rows = {name: [one.get(name, "-") for one in settings] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _transpose(tables: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return one list of values, one per run, for each name."""
    return {name: [one[name] for one in tables] for name in tables[0]}


def _format_value(value: object) -> str:
    """Return a value as a recipe writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_table(value: object) -> bool:
    """Return whether a value of a TOML file is a section."""
    return isinstance(value, dict)


# --- swaps of the same faces --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _SwapResults:
    """Swaps of the same faces by all runs."""

    values: Sequence[Mapping[str, float]]
    """Metrics by name, for each run."""
    grids: Sequence[tuple[str, Image]]
    """Title and image of each grid."""


def _swap_shared_faces(
    runs: Sequence[RunInfo], workspace: Workspace, device: str, report: Reporter
) -> _SwapResults | None:
    """Swap the same faces with every run; return None, after a note, if the sets are missing."""
    hardware = find_hardware(device)
    models = [load_weights(run.folder.trained, hardware.device) for run in runs]
    try:
        sets = _common_sets(models, workspace)
    except FaceswapError as error:
        report.note(f"no swaps are compared: {error.message}")
        return None
    grids, metrics = [], []
    for driving, target in zip(sets, [*sets[1:], sets[0]], strict=True):
        crops = _validation_crops(driving, runs)
        swaps = [
            list(swap_crops(crops, model, identity=target.name, device=hardware.device))
            for model in models
        ]
        title = f"{driving.name} as {target.name}"
        grids.append((title, _comparison_grid([crop for crop, _ in crops], swaps, runs)))
        metrics.append(
            [
                _evaluate_swaps(crops, swap, target, sets, title=title, report=report)
                for swap in swaps
            ]
        )
    return _SwapResults(
        values=[_average_metrics(directions) for directions in zip(*metrics, strict=True)],
        grids=grids,
    )


def _common_sets(models: Sequence[TrainedModel], workspace: Workspace) -> list[FaceSet]:
    """Return the sets of the identities that all models were trained on.

    Raises:
        ConfigurationError: There are fewer than two, or a set is missing.
    """
    names = [
        name for name in models[0].identities if all(name in model.identities for model in models)
    ]
    if len(names) < 2:
        raise ConfigurationError("the runs have fewer than two identities in common")
    return [FaceSet.from_folder(workspace.require_set(name)) for name in names]


def _validation_crops(faces: FaceSet, runs: Sequence[RunInfo]) -> list[tuple[Image, FaceRecord]]:
    """Return crops that no run trains on, in blocks of neighbors.

    A run without a checkpoint, or with one of format 1, split the set by its number of faces.
    """
    _, indices = split_train_val(len(faces), VALIDATION_FRACTION)
    default = {faces.records[index].file for index in indices}
    files = [_validation_files(run.folder, faces.name) or default for run in runs]
    shared = set.intersection(*files) or default
    records = [record for record in faces.records if record.file in shared]
    return [(read_crop(faces.path(record)), record) for record in records[:MAX_FACES]]


def _validation_files(run: RunFolder, identity: str) -> set[str]:
    """Return the names of a run's validation crops, which its checkpoint holds."""
    if not run.resume.exists():
        return set()
    return set(read_metadata(run.resume)["validation_files"].get(identity, ()))


def swap_crops(
    crops: Sequence[tuple[Image, FaceRecord]],
    trained: TrainedModel,
    *,
    identity: str,
    device: torch.device,
) -> Iterator[Image]:
    """Yield each crop with the swapped face composited into it, as conversions do with frames."""
    model, compositor, visible = trained.recipe.model, Compositor(), VisibleFaceModel.load()
    for start in range(0, len(crops), BATCH):
        batch = crops[start : start + BATCH]
        alignments = [
            FaceAlignment.from_square(crop.shape[0]).center_crop(model.coverage)
            for crop, _ in batch
        ]
        inputs = [
            alignment.crop(crop, model.size_px)
            for alignment, (crop, _) in zip(alignments, batch, strict=True)
        ]
        with torch.inference_mode():
            output = trained.model.swap_with_detail(to_tensor(inputs).to(device), identity)
        swaps = to_images(output.image)
        masks = [None] * len(swaps) if output.mask is None else to_masks(output.mask)

        for (crop, record), alignment, original, swap, model_mask in zip(
            batch, alignments, inputs, swaps, masks, strict=True
        ):
            landmarks = transform_points(
                record.landmarks, record.alignment.frame_to_crop(crop.shape[0])
            )
            seen = visible.analyze(ArrayImage(image=crop), FaceAlignment.from_square(crop.shape[0]))
            face = seen.find_face(alignment, MASK_PX, landmarks)
            mask = intersect_masks(face, model_mask)
            yield compositor.paste(crop, swap, mask, alignment, original=original)


def _comparison_grid(
    crops: Sequence[Image], swaps: Sequence[Sequence[Image]], runs: Sequence[RunInfo]
) -> Image:
    """Return a grid of some faces: the originals, and below them each run's swaps."""
    indices = np.unique(np.linspace(0, len(crops) - 1, GRID_FACES).round().astype(int))
    rows = [[row[index] for index in indices] for row in (crops, *swaps)]
    return image_io.make_grid(rows, side=TILE_PX, labels=["original", *(run.name for run in runs)])


def _evaluate_swaps(
    crops: Sequence[tuple[Image, FaceRecord]],
    swaps: Sequence[Image],
    target: FaceSet,
    sets: Sequence[FaceSet],
    *,
    title: str,
    report: Reporter,
) -> Mapping[str, float]:
    """Return the metrics of one run's swaps of one identity's faces, by name.

    Empty, after a note, if no face is found in the crops.
    """
    frames = (
        FramePair(time=float(record.time), original=crop, swapped=swap)
        for (crop, record), swap in zip(crops, swaps, strict=True)
    )
    try:
        evaluation = evaluate_frames(
            frames,
            names=(title, title),
            frame_count=len(crops),
            identity=target,
            distractors=[one for one in sets if one is not target],
            report=report,
        )
    except NoFacesError as error:
        report.note(f"{title} is not evaluated: {error.message}")
        return {}
    return evaluation.values


def _average_metrics(evaluations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means of the metrics that all evaluations have."""
    return {
        name: float(np.mean([one[name] for one in evaluations]))
        for name in evaluations[0]
        if all(name in one for one in evaluations)
    }


# --- the page -----------------------------------------------------------------------------------


def metric_rows(evaluations: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Return the rows of a table of metrics; all runs but the first with the difference from it."""
    return [
        [
            f"{METRICS[name].title}{f', {METRICS[name].unit}' if METRICS[name].unit else ''}",
            *(
                _format_cell(METRICS[name], values[0], value, column)
                for column, value in enumerate(values)
            ),
        ]
        for name, values in evaluations.items()
        if any(value is not None for value in values)
    ]


def _format_cell(metric: Metric, first: float | None, value: float | None, column: int) -> str:
    """Return a value, in all columns but the first with the difference from the first value."""
    if value is None:
        return "n/a"
    if first is None or column == 0 or value == first:
        return format_number(value)
    better = metric.badness(value) < metric.badness(first)
    text = format_number(value)
    digits = max(len(one.partition(".")[2]) for one in (text, format_number(first)))
    if not round(value - first, digits):
        return f"{text} (the same)"
    return f"{text} ({value - first:+,.{digits}f}, {'better' if better else 'worse'})"


def _render_page(
    runs: Sequence[RunInfo], summary: CompareSummary, swaps: _SwapResults | None
) -> str:
    """Return the HTML of the page."""
    parts: list[str] = []
    if swaps:
        parts.append(html_page.heading("Swaps of the same validation faces"))
        parts += [html_page.image_figure(grid, title) for title, grid in swaps.grids]
    settings, *results = summary.tables()
    for title, columns, rows in reversed(results):
        if rows:
            parts += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    parts.append(html_page.heading("Curves"))
    for key, label in CURVES.items():
        parts += _render_curves(runs, key, label)
    title, columns, rows = settings
    parts += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    return html_page.build_page(" and ".join(summary.runs), "runs of one workspace", parts)


def _render_curves(runs: Sequence[RunInfo], key: str, label: str) -> Iterator[str]:
    """Yield a chart, with a curve per run, for each number that the logs have under a key."""
    curves = {run.name: collect_curves(run.lines, key) for run in runs}
    for name in dict.fromkeys(name for by_name in curves.values() for name in by_name):
        series: Curves = {run: by_name.get(name, []) for run, by_name in curves.items()}
        yield line_chart(series, x_label="images seen", y_label=f"{name}: {label}")
