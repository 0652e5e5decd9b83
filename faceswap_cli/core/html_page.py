"""Self-contained HTML pages: images inside, charts as SVG, no server.

A page is a list of HTML parts; the functions below return parts, `build_page` joins them.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image

Series = Sequence[tuple[float, float]]
"""Points (x, y) of one curve, x rising."""

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882;
        --c0: #2f7fd1; --c1: #d1622f; --c2: #2f9e62; --c3: #9a4fc4; --c4: #b8901c; --c5: #c23a5e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p.about { margin-top: .2rem; opacity: .75; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .25rem 1rem .25rem 0; border-bottom: 1px solid var(--line); }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption { opacity: .75; } svg { width: 100%; height: auto; background: var(--soft); }
svg text { font: 11px system-ui, sans-serif; fill: currentColor; opacity: .8; }
svg .grid { stroke: var(--line); stroke-width: .5; } svg polyline { fill: none; stroke-width: 1.6; }
.gallery button { font: inherit; padding: .1rem .5rem; margin: .1rem; cursor: pointer; }
.gallery button.on { outline: 2px solid var(--c0); } .gallery label { margin-right: 1rem; }
.tiles { display: flex; flex-wrap: wrap; gap: 3px; }
.tiles figure { margin: 0; width: 80px; font-size: 10px; text-align: center; }
.tiles img { display: block; width: 80px; height: 80px; border-radius: 2px; }
.tiles .marked img { outline: 2px solid var(--c1); outline-offset: -2px; }
"""

_GALLERY_SCRIPT = """
for (const gallery of document.querySelectorAll(".gallery")) {
  const tiles = gallery.querySelector(".tiles"), buttons = [...gallery.querySelectorAll("button")];
  const boxes = [...gallery.querySelectorAll("input")], all = [...tiles.children];
  const numbers = new Map(all.map(t => [t, t.dataset.n.split(" ").map(Number)]));
  const order = (k, sign) => {
    const known = t => !Number.isNaN(numbers.get(t)[k]);
    all.sort((a, b) => known(b) - known(a) || sign * (numbers.get(a)[k] - numbers.get(b)[k]));
    for (const t of all) {
      t.lastChild.textContent = known(t) ? +numbers.get(t)[k].toPrecision(3) : "n/a";
    }
    tiles.append(...all);
  };
  const choose = () => {
    const wanted = boxes.filter(b => b.checked).map(b => b.value);
    for (const t of all) {
      t.hidden = wanted.length > 0 && !t.dataset.m.split(" ").some(m => wanted.includes(m));
    }
  };
  buttons.forEach((button, k) => button.onclick = () => {
    const sign = button.classList.contains("on") ? -Number(button.value) : 1;
    buttons.forEach(b => b.classList.toggle("on", b === button));
    button.value = sign;
    order(k, sign);
  });
  boxes.forEach(box => box.onchange = choose);
}
"""


def build_page(title: str, about: str, parts: Sequence[str], *, refresh_seconds: int = 0) -> str:
    """Return a whole HTML document.

    Args:
        title: Heading and name of the tab.
        about: One line under the heading.
        parts: Results of the functions below, in order.
        refresh_seconds: Interval at which an open tab reloads; 0 never reloads.
    """
    refresh = f'<meta http-equiv="refresh" content="{refresh_seconds}">' if refresh_seconds else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<h1>{escape(title)}</h1><p class="about">{escape(about)}</p>'
        + "\n".join(parts)
        + "</body></html>\n"
    )


def heading(text: str) -> str:
    """Return a section's heading."""
    return f"<h2>{escape(text)}</h2>"


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def png_figure(png: Path, caption: str) -> str:
    """Return a PNG file as a figure, its bytes in the page."""
    return _figure("image/png", png.read_bytes(), caption)


def image_figure(image: Image, caption: str) -> str:
    """Return an RGB image as a figure, its bytes in the page."""
    return _figure("image/jpeg", image_io.encode_jpeg(image), caption)


def _figure(mime_type: str, data: bytes, caption: str) -> str:
    """Return an encoded image as a figure with a caption."""
    alt = escape(caption, quote=True)
    return (
        f'<figure><img src="data:{mime_type};base64,{base64.b64encode(data).decode("ascii")}" '
        f'alt="{alt}"><figcaption>{escape(caption)}</figcaption></figure>'
    )


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image of a gallery."""

    jpeg: bytes
    title: str
    """Tooltip."""
    numbers: Sequence[float]
    """Values to sort by; NaN where unknown."""
    tags: Sequence[str] = ()
    """Words without spaces; a tagged image has a border."""


def gallery(tiles: Sequence[Tile], *, numbers: Sequence[str], tags: Sequence[str]) -> str:
    """Return small images that the reader can sort by numbers and filter by tags.

    Without scripts they are in the given order.

    Args:
        tiles: The images.
        numbers: Names of the tiles' numbers.
        tags: The tags to filter by.
    """
    buttons = "".join(f'<button value="1">{escape(name)}</button>' for name in numbers)
    boxes = "".join(
        f'<label><input type="checkbox" value="{escape(tag, quote=True)}"> {escape(tag)} '
        f"({sum(tag in tile.tags for tile in tiles):,})</label>"
        for tag in tags
    )
    figures = "".join(map(_tile_figure, tiles))
    return (
        f'<div class="gallery"><p>sort by {buttons}</p><p>show only {boxes}</p>'
        f'<div class="tiles">{figures}</div></div><script>{_GALLERY_SCRIPT}</script>'
    )


def _tile_figure(tile: Tile) -> str:
    """Return one image of a gallery as a figure."""
    data = base64.b64encode(tile.jpeg).decode("ascii")
    numbers = " ".join(f"{number:.4g}" for number in tile.numbers)
    title, tags = escape(tile.title, quote=True), escape(" ".join(tile.tags), quote=True)
    css_class = ' class="marked"' if tile.tags else ""
    return (
        f'<figure data-n="{numbers}" data-m="{tags}" title="{title}"{css_class}>'
        f'<img src="data:image/jpeg;base64,{data}" alt="{title}" loading="lazy">'
        "<figcaption></figcaption></figure>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Return a table; numbers are right-aligned."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_table_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def line_chart(
    series: Mapping[str, Series], *, x_label: str, y_label: str, log_y: bool = False
) -> str:
    """Return curves over a common x axis as an SVG; values that are not finite are left out.

    A curve of one point is a dot. A name's color depends on its index only, with points or without.

    Args:
        series: Points by name in the legend.
        x_label: Label of the x axis.
        y_label: Label of the y axis.
        log_y: Plot the decimal logarithm of y; values not above zero are left out.
    """
    curves = {name: _plottable(points, log_y) for name, points in series.items()}
    if not any(curves.values()):
        return paragraph(f"{y_label}: no values yet")
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    plotted = [(index, name) for index, (name, points) in enumerate(curves.items()) if points]
    area = _PlotArea(min(xs), max(xs), min(ys), max(ys), names=[name for _, name in plotted])
    parts = [_grid_lines(area, log_y)]
    for line, (index, name) in enumerate(plotted):
        color = f"var(--c{index % _NUM_COLORS})"
        stroke = f"stroke:{color};stroke-dasharray:{_DASHES[index // _NUM_COLORS % len(_DASHES)]}"
        points_px = [(area.x(x), area.y(y)) for x, y in curves[name]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points_px)
        parts.append(f'<polyline points="{path}" style="{stroke}"/>')
        if len(points_px) == 1:
            x, y = points_px[0]
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" style="fill:{color}"/>')
        left, down = area.right + 10, _TOP + 8 + 15 * line
        parts.append(
            f'<line x1="{left}" x2="{left + _LEGEND_LINE_PX}" y1="{down}" y2="{down}" '
            f'style="{stroke};stroke-width:1.6"/>'
            f'<text x="{left + _LEGEND_LINE_PX + 5}" y="{down + 4}">{escape(name)}</text>'
        )
    label = f'<text x="8" y="14">{escape(y_label)}</text>'
    middle = (_LEFT + area.right) / 2
    below = f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}{label}{below}</svg>'


_WIDTH, _HEIGHT = 900, 260
_LEFT, _TOP, _BOTTOM = 62, 30, 34
_NUM_COLORS = 6
"""Colors of the style; further curves repeat them with dashed lines."""
_DASHES = ("none", "6 3", "2 3")
_LEGEND_LINE_PX = 18
"""Length of the line next to a curve's name in the legend."""
_LETTER_WIDTH_PX = 6.2
"""Approximate width of a letter."""


class _PlotArea:
    """Maps data to SVG coordinates."""

    def __init__(self, x0: float, x1: float, y0: float, y1: float, *, names: Sequence[str]) -> None:
        # The legend is right of the curves: over them neither could be read.
        self.right = round(_WIDTH - 20 - _LEGEND_LINE_PX - _LETTER_WIDTH_PX * max(map(len, names)))
        self.x0, self.x_span = x0, (x1 - x0) or 1.0
        self.has_single_x = x1 == x0
        # A constant curve is in the middle.
        margin = 0.0 if y1 > y0 else 0.1 * abs(y0) or 1.0
        self.y0, self.y_span = y0 - margin, y1 - y0 + 2 * margin

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / self.x_span * (self.right - _LEFT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / self.y_span * (_HEIGHT - _TOP - _BOTTOM)


def _grid_lines(area: _PlotArea, log_y: bool) -> str:
    """Return five horizontal grid lines and five x ticks, with their values."""
    parts = []
    for step in range(5):
        y_value = area.y0 + area.y_span * step / 4
        x_value = area.x0 + area.x_span * step / 4
        y, x = area.y(y_value), area.x(x_value)
        label = 10**y_value if log_y else y_value
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{area.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label:.4g}</text>')
        if area.has_single_x and step > 0:
            continue
        anchor = "end" if step == 4 else "middle"
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 18}" text-anchor="{anchor}">{x_value:,.4g}</text>'
        )
    return "".join(parts)


def _plottable(points: Series, log_y: bool) -> list[tuple[float, float]]:
    """Return the points that can be plotted, y on its axis' scale."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not log_y:
        return finite
    return [(x, math.log10(y)) for x, y in finite if y > 0]


def _table_cell(value: str | float) -> str:
    """Return one cell of a table."""
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f'<td class="number">{text}</td>'
