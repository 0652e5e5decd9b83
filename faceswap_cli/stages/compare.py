"""Compare: runs beside each other, on one page: settings, curves, scores, and the same faces.

What is shown to all runs are the faces kept out of training, in the order of their frames, each
swapped and laid back into its crop as a conversion would.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core import html_page, image_io
from faceswap_cli.core.errors import ConfigurationError, FaceswapError, NoFacesError
from faceswap_cli.core.fileio import write_text
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.evaluation.evaluation import format_number
from faceswap_cli.evaluation.evaluator import evaluate_frames
from faceswap_cli.evaluation.frame_eval import FramePair
from faceswap_cli.evaluation.metrics.registry import METRICS, Metric
from faceswap_cli.faces.alignment import FaceAlignment, transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.masks import face_mask, intersect_masks
from faceswap_cli.training.checkpoint import TrainedModel, load_weights, read_metadata
from faceswap_cli.training.dataset import VALIDATION_FRACTION, read_crop, split_train_val
from faceswap_cli.training.report import Curves, LogEntry, collect_curves, read_log
from faceswap_models.tensors import to_images, to_masks, to_tensor

MAX_FACES = 32
"""Held-out faces of each person that are swapped: neighbours, so that stillness can be judged."""
GRID_FACES = 8
"""Of them, those on the page."""
TILE_PX = 160
BATCH = 8

CURVES: Mapping[str, str] = {
    "val_reconstruction": "error on held-out faces, part of the full range",
    "val_cycle": "the same, there and back",
    "losses": "training losses",
    "swap_metrics": "pose, expression and identity of swaps",
}
"""What of a log is drawn, by its key, and what it measures."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunInfo:
    """What is known of one run before anything is computed."""

    folder: RunFolder
    settings: Mapping[str, str]
    """`section.key` -> value, as the recipe writes them."""
    lines: Sequence[LogEntry]
    """Of its log."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.folder.name

    @classmethod
    def load(cls, folder: RunFolder) -> "RunInfo":
        """Read a run's recipe and log.

        Raises:
            ConfigurationError: The recipe cannot be read.
        """
        try:
            recipe = tomllib.loads(folder.recipe.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"{folder.recipe} cannot be read: {error}",
                hint="name runs that were trained here: they lie in the workspace's runs folder",
            ) from error
        settings = {
            key: _format_value(value) for key, value in recipe.items() if not _is_table(value)
        }
        for section, values in recipe.items():
            if _is_table(values):
                settings |= {
                    f"{section}.{key}": _format_value(value) for key, value in values.items()
                }
        return cls(folder=folder, settings=settings, lines=list(read_log(folder.log)))

    def summarize(self) -> dict[str, str]:
        """Return how far it is, and how well it does on held-out faces."""
        errors = [float(line["val_error"]) for line in self.lines if "val_error" in line]
        rates = [
            float(line["images_per_second"]) for line in self.lines if "images_per_second" in line
        ]
        seen = max((int(line["images_seen"]) for line in self.lines), default=0)
        return {
            "images seen": f"{seen:,}",
            "images/s": f"{np.median(rates):.1f}" if rates else "n/a",
            "held-out error, last": f"{errors[-1]:.4f}" if errors else "n/a",
            "held-out error, best": f"{min(errors):.4f}" if errors else "n/a",
        }


@dataclass(frozen=True, kw_only=True)
class CompareSummary:
    """What a comparison came to."""

    runs: Sequence[str]
    facts: Mapping[str, Sequence[str]]
    """How far each run is and how well it does, a value a run, by what it is."""
    differences: Mapping[str, Sequence[str]]
    """Settings that differ, a value a run, by `section.key`."""
    evaluations: Mapping[str, Sequence[float | None]]
    """Metrics of the swaps of held-out faces, a value a run, by name."""
    page: Path

    def tables(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """Return what a terminal shows: title, columns and rows of each table."""
        columns = ["", *self.runs]
        settings = [[name, *values] for name, values in self.differences.items()]
        facts = [[name, *values] for name, values in self.facts.items()]
        return [
            ("settings that differ", columns, settings or [["none", *[""] * len(self.runs)]]),
            ("held-out faces", columns, facts),
            ("their swaps", columns, metric_rows(self.evaluations)),
        ]


def compare(
    names: Sequence[str], *, workspace: Workspace, device: str, report: Reporter
) -> CompareSummary:
    """Compare runs of one workspace and leave a page.

    Args:
        names: Two runs or more.
        workspace: Where they are, and the sets of the people they know.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Hears how far it is.

    Raises:
        ConfigurationError: There is no such run, or fewer than two different ones.
        CheckpointError: A run's weights cannot be used.
    """
    if len(set(names)) < 2:
        raise ConfigurationError(
            "a comparison needs two different runs",
            hint=f"there is: {', '.join(workspace.run_names()) or 'none yet'}",
        )
    runs = [RunInfo.load(RunFolder(root=workspace.find_weights(name).parent)) for name in names]
    shown = _swap_shared_faces(runs, workspace, device, report)
    summary = CompareSummary(
        runs=[run.name for run in runs],
        facts=_transpose([run.summarize() for run in runs]),
        differences=find_differences([run.settings for run in runs]),
        evaluations={name: [one.get(name) for one in shown.values] for name in METRICS}
        if shown
        else {},
        page=workspace.runs_page(*(run.name for run in runs)),
    )
    write_text(summary.page, _render_page(runs, summary, shown))
    return summary


def find_differences(settings: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return the settings whose values are not all the same; one that a run lacks is a dash."""
    names = dict.fromkeys(name for one in settings for name in one)
    rows = {name: [one.get(name, "-") for one in settings] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _transpose(facts: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Return facts by name, a value a run."""
    return {name: [one[name] for one in facts] for name in facts[0]}


def _format_value(value: object) -> str:
    """Return a value as a recipe has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_table(value: object) -> bool:
    """Whether a value of a TOML file is a section."""
    return isinstance(value, dict)


# --- the same faces -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _SwapResults:
    """The same faces as every run swaps them."""

    values: Sequence[Mapping[str, float]]
    """Metrics by name, a run each."""
    grids: Sequence[tuple[str, Image]]
    """Pictures and what they show."""


def _swap_shared_faces(
    runs: Sequence[RunInfo], workspace: Workspace, device: str, report: Reporter
) -> _SwapResults | None:
    """Swap the same faces with every run; None, and a note, where there are none to swap."""
    hardware = find_hardware(device)
    models = [load_weights(run.folder.weights, hardware.device) for run in runs]
    try:
        sets = _common_sets(models, workspace)
    except FaceswapError as error:
        report.note(f"no faces are shown: {error.message}")
        return None
    sheets, found = [], []
    for own, wanted in zip(sets, [*sets[1:], sets[0]], strict=True):
        crops = _validation_crops(own, runs)
        swaps = [
            list(swap_crops(crops, model, identity=wanted.name, device=hardware.device))
            for model in models
        ]
        title = f"{own.name} as {wanted.name}"
        sheets.append((title, _comparison_grid([crop for crop, _ in crops], swaps, runs)))
        found.append(
            [
                _evaluate_swaps(crops, swap, wanted, sets, title=title, report=report)
                for swap in swaps
            ]
        )
    return _SwapResults(
        values=[_average_metrics(directions) for directions in zip(*found, strict=True)],
        grids=sheets,
    )


def _common_sets(models: Sequence[TrainedModel], workspace: Workspace) -> list[FaceSet]:
    """Return the sets of the people that all models know.

    Raises:
        ConfigurationError: There are fewer than two, or a set is gone.
    """
    known = [set(model.identities) for model in models]
    names = [name for name in models[0].identities if all(name in one for one in known)]
    if len(names) < 2:
        raise ConfigurationError("the runs know fewer than two people in common")
    return [FaceSet.from_folder(workspace.require_set(name)) for name in names]


def _validation_crops(faces: FaceSet, runs: Sequence[RunInfo]) -> list[tuple[Image, FaceRecord]]:
    """Return crops that no run trains on, in blocks of neighbors.

    A run without a checkpoint, or with one of format 1, split the set by its number of faces.
    """
    _, by_count = split_train_val(len(faces), VALIDATION_FRACTION)
    usual = {faces.records[index].file for index in by_count}
    shared = set.intersection(*(_validation_files(run.folder, faces.name) or usual for run in runs))
    records = [record for record in faces.records if record.file in (shared or usual)]
    return [(read_crop(faces.path(record)), record) for record in records[:MAX_FACES]]


def _validation_files(run: RunFolder, identity: str) -> set[str]:
    """Return the crops that a run keeps out of training, as its checkpoint says."""
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
    """Yield each crop with the swapped face laid into it, as a conversion lays it into a frame."""
    model, compositor = trained.recipe.model, Compositor()
    for start in range(0, len(crops), BATCH):
        some = crops[start : start + BATCH]
        places = [
            FaceAlignment.from_square(crop.shape[0]).center_crop(model.coverage) for crop, _ in some
        ]
        seen = [
            place.crop(crop, model.size_px) for place, (crop, _) in zip(places, some, strict=True)
        ]
        with torch.inference_mode():
            answer = trained.model.swap(to_tensor(seen).to(device), identity)
        drawn = to_images(answer.image)
        learnt = [None] * len(drawn) if answer.mask is None else to_masks(answer.mask)
        for (crop, record), place, before, image, mask in zip(
            some, places, seen, drawn, learnt, strict=True
        ):
            points = transform_points(
                record.landmarks, record.alignment.frame_to_crop(crop.shape[0])
            )
            shows = intersect_masks(face_mask(points, place), mask)
            yield compositor.paste(crop, image, shows, place, original=before)


def _comparison_grid(
    crops: Sequence[Image], swaps: Sequence[Sequence[Image]], runs: Sequence[RunInfo]
) -> Image:
    """Return the same faces below each other: as they are, and as each run swaps them."""
    places = np.unique(np.linspace(0, len(crops) - 1, GRID_FACES).round().astype(int))
    rows = [[row[place] for place in places] for row in (crops, *swaps)]
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
    """Return how good one run's swaps of one person's faces are: metrics by name.

    None, and a note, where no face is found in the crops.
    """
    shots = (
        FramePair(time=float(record.time), original=crop, swapped=swap)
        for (crop, record), swap in zip(crops, swaps, strict=True)
    )
    try:
        found = evaluate_frames(
            shots,
            names=(title, title),
            frame_count=len(crops),
            identity=target,
            distractors=[one for one in sets if one is not target],
            report=report,
        )
    except NoFacesError as error:
        report.note(f"{title} is not evaluated: {error.message}")
        return {}
    return found.values


def _average_metrics(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the metrics that all evaluations have, averaged."""
    return {
        name: float(np.mean([one[name] for one in found]))
        for name in found[0]
        if all(name in one for one in found)
    }


# --- the page -----------------------------------------------------------------------------------


def metric_rows(found: Mapping[str, Sequence[float | None]]) -> list[list[str]]:
    """Return the rows of a table of metrics: of each run but the first also how it differs."""
    return [
        [
            f"{METRICS[name].title}{f', {METRICS[name].unit}' if METRICS[name].unit else ''}",
            *(
                _format_cell(METRICS[name], values[0], value, place)
                for place, value in enumerate(values)
            ),
        ]
        for name, values in found.items()
        if any(value is not None for value in values)
    ]


def _format_cell(metric: Metric, first: float | None, value: float | None, place: int) -> str:
    """Return a value, and for all runs but the first whether it is better than the first's."""
    if value is None:
        return "n/a"
    if first is None or place == 0 or value == first:
        return format_number(value)
    better = metric.badness(value) < metric.badness(first)
    shown = format_number(value)
    digits = max(len(one.partition(".")[2]) for one in (shown, format_number(first)))
    if not round(value - first, digits):
        return f"{shown} (the same)"
    return f"{shown} ({value - first:+,.{digits}f}, {'better' if better else 'worse'})"


def _render_page(
    runs: Sequence[RunInfo], summary: CompareSummary, swaps: _SwapResults | None
) -> str:
    """Return the page."""
    pieces: list[str] = []
    if swaps:
        pieces.append(html_page.heading("The same held-out faces"))
        pieces += [html_page.image_figure(sheet, title) for title, sheet in swaps.grids]
    settings, *results = summary.tables()
    for title, columns, rows in reversed(results):
        if rows:
            pieces += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    pieces.append(html_page.heading("Curves"))
    for key, label in CURVES.items():
        pieces += _render_curves(runs, key, label)
    title, columns, rows = settings
    pieces += [html_page.heading(title.capitalize()), html_page.table(columns, rows)]
    return html_page.build_page(" against ".join(summary.runs), "runs of one workspace", pieces)


def _render_curves(runs: Sequence[RunInfo], key: str, label: str) -> Iterator[str]:
    """Yield a chart for each number that the logs hold under a key, with a curve a run."""
    found = {run.name: collect_curves(run.lines, key) for run in runs}
    for name in dict.fromkeys(name for curves in found.values() for name in curves):
        series: Curves = {run: curves.get(name, []) for run, curves in found.items()}
        yield html_page.line_chart(series, x_label="images seen", y_label=f"{name}: {label}")
