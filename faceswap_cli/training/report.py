"""A run's story on one page: curves out of its log, and its sheets as a time line.

Knows how a log reads; refuses to know what wrote it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from faceswap_cli.core import html_page
from faceswap_cli.core.config import Recipe
from faceswap_cli.core.workspace import RunFolder

REFRESH_INTERVAL_S = 15
"""How often a tab left open loads the page again while training goes on."""
MAX_PREVIEWS = 6
"""Sheets on the page: more would make it too large to open."""
MAX_POINTS = 600
"""Points of a curve: as many as its picture has pixels to show them."""

LogEntry = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]


def render_run_report(run: RunFolder, recipe: Recipe, *, is_training: bool) -> str:
    """Return the page of a run as HTML that needs nothing else.

    Args:
        run: Its log and sheets are read.
        recipe: Shown as a table.
        is_training: Whether the page should load itself again.
    """
    lines = list(read_log(run.log))
    images = max((int(line["images_seen"]) for line in lines), default=0)
    events = [(line["images_seen"], line["event"]) for line in lines if "event" in line]
    held_out = {
        **collect_curves(lines, "reconstruction", prefix="reconstruction "),
        **collect_curves(lines, "cycle", prefix="there and back "),
    }
    pieces = [
        html_page.heading("Losses"),
        *_loss_charts(lines),
        html_page.heading("Held-out faces"),
        html_page.line_chart(
            held_out, x_label="images seen", y_label="error, part of the full range"
        ),
        *_swap_metric_charts(lines),
        html_page.heading("Learning rate"),
        html_page.line_chart(
            collect_curves(lines, "learning_rate"),
            x_label="images seen",
            y_label="learning rate",
            log_y=True,
        ),
        html_page.heading("What it makes of faces"),
        *_preview_images(run),
        html_page.heading("What happened"),
        html_page.table(["images seen", "event"], [[f"{at:,}", told] for at, told in events]),
        html_page.heading("Recipe"),
        html_page.table(["setting", "value", "from"], _setting_rows(recipe)),
    ]
    about = f"{recipe.backend}, preset {recipe.preset or 'none'}: {images:,} images seen"
    return html_page.build_page(
        run.name, about, pieces, refresh_seconds=REFRESH_INTERVAL_S if is_training else 0
    )


def read_log(path: Path) -> Iterator[LogEntry]:
    """Yield a log's lines that are whole, each place of the run as it was trained last.

    A run that was killed, or went back after trouble, comes by the same images again: what was
    logged there before belongs to weights that are gone.
    """
    if not path.exists():
        return
    kept: list[LogEntry] = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            seen = int(line["images_seen"])
        except (ValueError, KeyError, TypeError):
            continue  # torn by a crash
        if kept and seen < kept[-1]["images_seen"]:
            kept = [one for one in kept if "event" in one or one["images_seen"] <= seen]
        kept.append(line)
    yield from kept


def collect_curves(lines: Sequence[LogEntry], key: str, *, prefix: str = "") -> Curves:
    """Return the curves of the numbers that lines hold under `key`, by name."""
    found: Curves = {}
    for line in lines:
        for name, value in line.get(key, {}).items():
            found.setdefault(f"{prefix}{name}", []).append((line["images_seen"], value))
    return {name: downsample_curve(points) for name, points in found.items()}


def downsample_curve(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MAX_POINTS` points, each the mean of its neighbours."""
    step = -(-len(points) // MAX_POINTS)
    if step <= 1:
        return list(points)
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _loss_charts(lines: Sequence[LogEntry]) -> list[str]:
    """Return the curves of the losses; where networks have their own, its parts come apart."""
    found = collect_curves(lines, "losses")
    held_out = collect_curves(lines, "held-out losses", prefix="held out: ")
    # "generator ada" is a network's, "cycle" is a part, and much smaller.
    parts = {name: points for name, points in found.items() if " " not in name}
    networks = {name: points for name, points in found.items() if name not in parts}
    if not networks:
        return [html_page.line_chart({**found, **held_out}, x_label="images seen", y_label="loss")]
    return [
        html_page.line_chart({**networks, **held_out}, x_label="images seen", y_label="loss"),
        html_page.line_chart(
            parts, x_label="images seen", y_label="parts of losses, before they are weighted"
        ),
    ]


SWAP_METRIC_CURVES = (
    ("pose_degrees", "error of pose, degrees"),
    ("expression", "error of expression, 0 to 1"),
    ("identity", "identity moved, difference of cosines"),
)
"""What swaps keep and move, and how its curve is labelled."""


def _swap_metric_charts(lines: Sequence[LogEntry]) -> list[str]:
    """Return the curves of what swaps keep and move; what nobody looked at has none."""
    found = collect_curves(lines, "kept")
    if not found:
        return []
    pieces = [html_page.heading("What swaps keep, and move")]
    for name, label in SWAP_METRIC_CURVES:
        also = {"unswapped": found["unswapped"]} if name == "identity" else {}
        curves = {name: found.get(name, []), **also}
        pieces.append(html_page.line_chart(curves, x_label="images seen", y_label=label))
    return pieces


def _preview_images(run: RunFolder) -> list[str]:
    """Return the newest sheet first, then earlier ones spread over the run."""
    paths = sorted(run.previews.glob("[0-9]*.png"), reverse=True)
    if len(paths) > MAX_PREVIEWS:
        last = len(paths) - 1
        paths = [paths[round(last * place / (MAX_PREVIEWS - 1))] for place in range(MAX_PREVIEWS)]
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
