"""`line_chart`: curves that the reader of a page can read off, zoom, hide, and see on a log scale.

uPlot draws them (`assets/uplot.js`, its license beside it); `assets/chart.js` says how.
"""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape

from faceswap_cli.pages.html_page import paragraph

Series = Sequence[tuple[float, float]]
"""Points (x, y) of one curve, x rising."""
DIGITS = 7
"""Significant digits of a number in a page: more than any screen shows."""


def line_chart(
    series: Mapping[str, Series], *, x_label: str, y_label: str, log_y: bool = False
) -> str:
    """Return a chart of curves over a common x axis; values that are not finite are left out.

    A name's color depends on its index only, with points or without.

    Args:
        series: Points by name in the legend.
        x_label: Label of the x axis; charts with the same one share the position of the cursor.
        y_label: Title of the chart.
        log_y: Begin with a logarithmic y axis; the reader can change it.
    """
    curves = {name: _finite_points(points) for name, points in series.items()}
    xs = sorted({x for points in curves.values() for x in points})
    if not xs:
        return paragraph(f"{y_label}: no values yet")
    data = {
        "x": xs,
        "x_label": x_label,
        "log": log_y,
        "series": [
            {"name": name, "values": [points.get(x) for x in xs]} for name, points in curves.items()
        ],
    }
    # Inside an element only `<` can end it; JSON may write it as an escape.
    numbers = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<figure class="chart" data-script="chart"><figcaption><span>{escape(y_label)}</span>'
        f'</figcaption><script type="application/json">{numbers}</script>'
        "<noscript><p>The chart needs JavaScript; it loads nothing.</p></noscript></figure>"
    )


def _finite_points(points: Series) -> dict[float, float]:
    """Return the points that can be plotted: y by x."""
    return {_round(x): _round(y) for x, y in points if math.isfinite(x) and math.isfinite(y)}


def _round(value: float) -> float:
    """Return a number with the digits that a page needs."""
    return float(f"{value:.{DIGITS}g}")
