"""A run's story on one page: curves out of its log, and its sheets as a time line.

Knows how a log reads; refuses to know what wrote it.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from faceswap_cli import page
from faceswap_cli.config import Recipe
from faceswap_cli.workspace import RunFolder

REFRESH_SECONDS = 15
"""How often a tab left open loads the page again while training goes on."""
MOST_SHEETS = 6
"""Sheets on the page: more would make it too large to open."""
MOST_POINTS = 600
"""Points of a curve: as many as its picture has pixels to show them."""

Line = dict[str, Any]
Curves = dict[str, list[tuple[float, float]]]


def run_page(run: RunFolder, recipe: Recipe, *, is_training: bool) -> str:
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
        **nested(lines, "reconstruction", prefix="reconstruction "),
        **nested(lines, "cycle", prefix="there and back "),
    }
    pieces = [
        page.heading("Losses"),
        *_losses(lines),
        page.heading("Held-out faces"),
        page.curves(held_out, x_label="images seen", y_label="error, part of the full range"),
        *_kept(lines),
        page.heading("Learning rate"),
        page.curves(
            nested(lines, "learning_rate"),
            x_label="images seen",
            y_label="learning rate",
            logarithmic=True,
        ),
        page.heading("What it makes of faces"),
        *_sheets(run),
        page.heading("What happened"),
        page.table(["images seen", "event"], [[f"{at:,}", told] for at, told in events]),
        page.heading("Recipe"),
        page.table(["setting", "value", "from"], _settings(recipe)),
    ]
    about = f"{recipe.backend}, preset {recipe.preset or 'none'}: {images:,} images seen"
    return page.page(run.name, about, pieces, refresh_seconds=REFRESH_SECONDS if is_training else 0)


def read_log(path: Path) -> Iterator[Line]:
    """Yield a log's lines that are whole, each place of the run as it was trained last.

    A run that was killed, or went back after trouble, comes by the same images again: what was
    logged there before belongs to weights that are gone.
    """
    if not path.exists():
        return
    kept: list[Line] = []
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


def nested(lines: Sequence[Line], key: str, *, prefix: str = "") -> Curves:
    """Return the curves of the numbers that lines hold under `key`, by name."""
    found: Curves = {}
    for line in lines:
        for name, value in line.get(key, {}).items():
            found.setdefault(f"{prefix}{name}", []).append((line["images_seen"], value))
    return {name: thinned(points) for name, points in found.items()}


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `MOST_POINTS` points, each the mean of its neighbours."""
    step = -(-len(points) // MOST_POINTS)
    if step <= 1:
        return list(points)
    parts = [points[start : start + step] for start in range(0, len(points), step)]
    return [(part[-1][0], sum(y for _, y in part) / len(part)) for part in parts]


def _losses(lines: Sequence[Line]) -> list[str]:
    """Return the curves of the losses; where networks have their own, its parts come apart."""
    found = nested(lines, "losses")
    held_out = nested(lines, "held-out losses", prefix="held out: ")
    # "generator ada" is a network's, "cycle" is a part, and much smaller.
    parts = {name: points for name, points in found.items() if " " not in name}
    networks = {name: points for name, points in found.items() if name not in parts}
    if not networks:
        return [page.curves({**found, **held_out}, x_label="images seen", y_label="loss")]
    return [
        page.curves({**networks, **held_out}, x_label="images seen", y_label="loss"),
        page.curves(
            parts, x_label="images seen", y_label="parts of losses, before they are weighted"
        ),
    ]


KEPT = (
    ("pose_degrees", "error of pose, degrees"),
    ("expression", "error of expression, 0 to 1"),
    ("identity", "identity moved, difference of cosines"),
)
"""What swaps keep and move, and how its curve is labelled."""


def _kept(lines: Sequence[Line]) -> list[str]:
    """Return the curves of what swaps keep and move; what nobody looked at has none."""
    found = nested(lines, "kept")
    if not found:
        return []
    pieces = [page.heading("What swaps keep, and move")]
    for name, label in KEPT:
        also = {"unswapped": found["unswapped"]} if name == "identity" else {}
        curves = {name: found.get(name, []), **also}
        pieces.append(page.curves(curves, x_label="images seen", y_label=label))
    return pieces


def _sheets(run: RunFolder) -> list[str]:
    """Return the newest sheet first, then earlier ones spread over the run."""
    paths = sorted(run.previews.glob("[0-9]*.png"), reverse=True)
    if len(paths) > MOST_SHEETS:
        last = len(paths) - 1
        paths = [paths[round(last * place / (MOST_SHEETS - 1))] for place in range(MOST_SHEETS)]
    strip = [page.picture(run.strip, "all stages of growth")] if run.strip.exists() else []
    return strip + [page.picture(path, f"after {int(path.stem):,} images") for path in paths]


def _settings(recipe: Recipe) -> list[list[str | float]]:
    """Return the recipe's values with their sources."""
    table = recipe.to_dict()
    return [
        [f"{section}.{key}", str(value), recipe.sources[f"{section}.{key}"]]
        for section in ("model", "train")
        for key, value in table[section].items()
    ]
