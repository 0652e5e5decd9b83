"""`write_run_report`: a run on one page, with curves from its log and its previews.

`LiveReport` writes it during training, so that an open tab shows how it goes on.
`read_log` and `collect_curves` read `log.jsonl` for other pages as well.
"""

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from faceswap_cli.core.config import Recipe
from faceswap_cli.core.errors import CheckpointError, InputError
from faceswap_cli.core.fileio import read_json_lines, write_text
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart

REFRESH_INTERVAL_S = 5
"""Seconds after which an open tab reloads the page during training."""
MAX_TIME_SHARE = 0.02
"""Part of the time of a training that writing its page may take."""
MAX_PREVIEWS = 6
"""Previews on the page: more would make it too large to open."""
MAX_POINTS = 600
"""Points of a curve: as many as its chart has pixels."""

LogEntry = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]


RENAMED_LOG_KEYS: Mapping[str, str] = {
    "images/s": "images_per_second",
    "held out": "val_error",
    "reconstruction": "val_reconstruction",
    "cycle": "val_cycle",
    "held-out losses": "val_losses",
    "kept": "swap_metrics",
}
"""Key of a log written before format 2 -> key now."""
RENAMED_SWAP_METRICS: Mapping[str, str] = {
    "found": "detection_rate",
    "pose_degrees": "pose_error_deg",
    "expression": "expression_error",
    "identity": "identity_shift",
    "unswapped": "identity_baseline",
}
"""The same inside `swap_metrics`."""
NETWORK_LOSSES = ("generator", "discriminator", "recon")
"""Beginnings of names of whole losses; other names are terms of them, and much smaller."""


class LiveReport:
    """The page of a run during training: written again with new status lines.

    Args:
        run: Folder with the log and the previews.
        recipe: Settings for a table.
    """

    def __init__(self, run: RunFolder, recipe: Recipe) -> None:
        self._run = run
        self._recipe = recipe
        self._due = 0.0

    def update(self) -> None:
        """Write the page, unless the last time took too long for that already."""
        started = time.monotonic()
        if started < self._due:
            return
        # Training must not end because a page cannot be written; the last one is, or fails, later.
        with suppress(InputError):
            write_run_report(self._run, self._recipe, is_training=True)
        # A long log and large previews take a while to read: such a page is written less often.
        now = time.monotonic()
        self._due = now + (now - started) / MAX_TIME_SHARE


def write_run_report(run: RunFolder, recipe: Recipe, *, is_training: bool) -> None:
    """Write the page of a run, as a single HTML file.

    Args:
        run: Folder with the log and the previews.
        recipe: Settings for a table.
        is_training: Whether the page reloads itself.
    """
    lines = read_run_log(run)
    images = max((int(line["images_seen"]) for line in lines), default=0)
    events = [(line["images_seen"], line["message"]) for line in lines if "event" in line]
    errors = {
        **collect_curves(lines, "val_reconstruction", prefix="reconstruction "),
        **collect_curves(lines, "val_cycle", prefix="cycle "),
    }
    parts = [
        html_page.heading("Losses"),
        *_loss_charts(lines),
        html_page.heading("Validation error"),
        line_chart(errors, x_label="images seen", y_label="error, part of the full range"),
        *_swap_metric_charts(lines),
        html_page.heading("Learning rate"),
        line_chart(
            collect_curves(lines, "learning_rate"),
            x_label="images seen",
            y_label="learning rate",
            log_y=True,
        ),
        html_page.heading("Previews"),
        *_preview_images(run),
        html_page.heading("Events"),
        html_page.table(["images seen", "event"], [[f"{at:,}", text] for at, text in events]),
        html_page.heading("Recipe"),
        html_page.table(["setting", "value", "from"], _setting_rows(recipe)),
    ]
    about = f"{recipe.backend}, preset {recipe.preset or 'none'}: {images:,} images seen"
    page = html_page.build_page(
        run.name, about, parts, refresh_seconds=REFRESH_INTERVAL_S if is_training else 0
    )
    write_text(run.report, page)


def read_run_log(run: RunFolder) -> list[LogEntry]:
    """Return the lines of a run's log; an event at the end says if lines are missing there."""
    from faceswap_cli.training import checkpoint  # torch, which takes seconds

    lines = list(read_log(run.log))
    seen = max((int(line["images_seen"]) for line in lines), default=0)
    with suppress(CheckpointError):
        trained = int(checkpoint.read_metadata(run.weights)["images_seen"])
        if seen < trained:
            message = f"{run.log.name} is damaged: it ends after {seen:,} of {trained:,} images"
            lines.append({"images_seen": seen, "event": "damaged", "message": message})
    return lines


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield the lines of a log by the keys of this version, each position as trained last.

    A run that was killed or rolled back passes the same positions again: earlier lines there are of
    weights that are gone. Lines that are torn or damaged are left out; an event at the end says so.
    """
    entries: list[LogEntry] = []
    lines, damaged = read_json_lines(path)
    for line in lines:
        try:
            entry = _rename_keys(line)
            images = int(entry["images_seen"])
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        if not all(isinstance(entry.get(key, {}), dict) for key in _CURVES):
            continue
        if entries and images < entries[-1]["images_seen"]:
            entries = [one for one in entries if "event" in one or one["images_seen"] <= images]
        entries.append(entry)
    identities = {name for one in entries for name in one.get("val_reconstruction", {})}
    for entry in entries:
        if "losses" in entry:
            entry["losses"] = _rename_losses(entry["losses"], identities)
        yield entry
    if damaged:
        seen = entries[-1]["images_seen"] if entries else 0
        message = f"{damaged} line{'s' * (damaged > 1)} of {path.name} torn or damaged, left out"
        yield {"images_seen": seen, "event": "damaged", "message": message}


_CURVES = ("losses", "val_losses", "val_reconstruction", "val_cycle", "learning_rate")
"""Keys of numbers by name."""


def _rename_keys(entry: LogEntry) -> LogEntry:
    """Return a line of a log with the keys of this version."""
    entry = {RENAMED_LOG_KEYS.get(key, key): value for key, value in entry.items()}
    if isinstance(metrics := entry.get("swap_metrics"), dict):
        entry["swap_metrics"] = {
            RENAMED_SWAP_METRICS.get(key, key): value for key, value in metrics.items()
        }
    if "event" in entry and "message" not in entry:
        entry |= {"event": "note", "message": entry["event"]}
    return entry


def _rename_losses(losses: Mapping[str, float], identities: Collection[str]) -> dict[str, float]:
    """Return losses by the names of this version: `generator ada`, `ada` and `critics` are old."""
    if any(name.startswith(NETWORK_LOSSES) for name in losses):
        terms = {"outside": "outside_mask", "slope": "r1"}
        return {
            terms.get(name) or re.sub("^(generator|discriminator) ", r"\1_", name): value
            for name, value in losses.items()
        }
    renamed = {"critics": "discriminator", **{name: f"recon_{name}" for name in identities}}
    return {renamed.get(name, name): value for name, value in losses.items()}


def collect_curves(lines: Sequence[LogEntry], key: str, *, prefix: str = "") -> Curves:
    """Return the curves of the numbers that lines have under `key`, by name."""
    curves: Curves = {}
    for line in lines:
        for name, value in line.get(key, {}).items():
            curves.setdefault(f"{prefix}{name}", []).append((line["images_seen"], value))
    return {name: downsample_curve(points) for name, points in curves.items()}


def downsample_curve(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` points, each the mean of its neighbors."""
    step = -(-len(points) // MAX_POINTS)
    if step <= 1:
        return list(points)
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _loss_charts(lines: Sequence[LogEntry]) -> list[str]:
    """Return the chart of the losses, and one of their terms if the backend logs them."""
    losses = collect_curves(lines, "losses")
    validation = collect_curves(lines, "val_losses", prefix="validation: ")
    networks = {name: points for name, points in losses.items() if name.startswith(NETWORK_LOSSES)}
    terms = {name: points for name, points in losses.items() if name not in networks}
    if not (networks and terms):
        return [line_chart({**losses, **validation}, x_label="images seen", y_label="loss")]
    return [
        line_chart({**networks, **validation}, x_label="images seen", y_label="loss"),
        line_chart(
            terms, x_label="images seen", y_label="terms of losses, before they are weighted"
        ),
    ]


SWAP_METRIC_CURVES = (
    ("pose_error_deg", "pose error, degrees"),
    ("expression_error", "expression error, 0 to 1"),
    ("identity_shift", "identity shift, difference of cosines"),
)
"""Swap metrics that have a curve, and its label."""


def _swap_metric_charts(lines: Sequence[LogEntry]) -> list[str]:
    """Return the curves of the swap metrics; none if they were never measured."""
    curves = collect_curves(lines, "swap_metrics")
    if not curves:
        return []
    parts = [html_page.heading("Swap metrics")]
    for name, label in SWAP_METRIC_CURVES:
        chart = {name: curves.get(name, [])}
        if name == "identity_shift":
            chart["unswapped"] = curves.get("identity_baseline", [])
        parts.append(line_chart(chart, x_label="images seen", y_label=label))
    return parts


def _preview_images(run: RunFolder) -> list[str]:
    """Return the newest preview first, then earlier ones spread over the run."""
    paths = sorted(run.previews.glob("[0-9]*.png"), reverse=True)
    if len(paths) > MAX_PREVIEWS:
        last = len(paths) - 1
        paths = [paths[round(last * index / (MAX_PREVIEWS - 1))] for index in range(MAX_PREVIEWS)]
    strip = (
        [html_page.png_figure(run.growth_strip, "all stages of growth")]
        if run.growth_strip.exists()
        else []
    )
    return strip + [
        html_page.png_figure(path, f"after {int(path.stem):,} images") for path in paths
    ]


def _setting_rows(recipe: Recipe) -> list[list[str | float]]:
    """Return the recipe's values with their sources."""
    table = recipe.to_dict()
    return [
        [f"{section}.{key}", str(value), recipe.sources[f"{section}.{key}"]]
        for section in ("model", "train")
        for key, value in table[section].items()
    ]
