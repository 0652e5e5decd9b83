"""Evaluation report: `render_report` returns one HTML page with table, curves and worst frames."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from faceswap_cli.evaluation.evaluation import (
    Curve,
    Evaluation,
    MetricResult,
    WorstFrame,
    format_number,
    format_time,
)
from faceswap_cli.evaluation.metrics.registry import GROUPS, Metric
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart

CHARTS: Mapping[str, tuple[str, ...]] = {
    "similarity to the target, cosine": ("identity_dlib", "identity_sface"),
    "identity margin, cosine": ("identity_margin_dlib", "identity_margin_sface"),
    "pose error, degrees": ("yaw", "pitch", "roll", "pose", "pose_3ddfa"),
    "expression error, 0 to 1": ("expression", "expression_motion"),
    "openness error, of width": ("eyes", "mouth"),
    "teeth in one video only, %": ("teeth",),
    "gaze error, degrees": ("gaze",),
    "jitter and flicker, x original": ("jitter", "flicker"),
    "sharpness, x original": ("sharpness",),
    "gradient along the seam, delta E per px": ("seam_gradient",),
    "color, delta E": ("seam_color", "color_offset"),
    "PSNR in the face, dB": ("psnr",),
    "SSIM and LPIPS in the face": ("ssim", "lpips"),
}
"""Metrics that share a chart, by the label of its y axis."""
MAX_CURVE_POINTS = 500
"""Points of a curve: more than a screen can resolve."""

_STYLE = """
.tags { display: flex; gap: .6rem; flex-wrap: wrap; margin: 1rem 0; }
.tags span { padding: .15rem .7rem; border-radius: 1rem; }
.good { --tag: #2f9e62; } .fair { --tag: #b8901c; } .poor { --tag: #c23a5e; }
.tags span, td.rating span { background: color-mix(in srgb, var(--tag) 18%, transparent);
  color: var(--tag); font-weight: 600; }
td.rating span { padding: 0 .5rem; border-radius: .6rem; font-size: .85em; }
table.metrics { width: 100%; } th.number { text-align: right; }
tr.group th { padding-top: 1.1rem; border-bottom-width: 2px; }
td.faint, tr.none td { opacity: .6; }
.worst { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr));
  gap: 1.2rem; margin-top: 1rem; }
.worst figure { margin: 0; } .worst .pair { display: flex; gap: 3px; }
.worst img { flex: 1; min-width: 0; border-radius: 4px; }
.worst b { font-variant-numeric: tabular-nums; margin-right: .5rem; }
"""


def render_report(evaluation: Evaluation, *, player: str = "") -> str:
    """Return the HTML of an evaluation's page, with a player of the videos if there is one."""
    about = (
        f"{evaluation.identity}'s face on the performance in {evaluation.source}; "
        f"{evaluation.frame_count:,} frames, {evaluation.face_count:,} with a face"
    )
    parts = [_render_ratings(evaluation), *([player] if player else []), _render_table(evaluation)]
    parts += [html_page.paragraph(reason) for reason in evaluation.missing_reasons()]
    parts += [html_page.heading("Worst frames"), _render_worst_frames(evaluation.worst_frames)]
    parts += [html_page.heading("Over time"), *_render_charts(evaluation)]
    return html_page.build_page(f"Evaluation of {evaluation.swapped}", about, parts, style=_STYLE)


def _render_ratings(evaluation: Evaluation) -> str:
    """Return the numbers of good, fair and poor metrics."""
    ratings = [result.rating for result in evaluation.results.values()]
    tags = [
        f'<span class="{rating}">{ratings.count(rating)} {rating}</span>'
        for rating in ("good", "fair", "poor")
        if rating in ratings
    ]
    return f'<div class="tags">{"".join(tags)}</div>'


def _render_table(evaluation: Evaluation) -> str:
    """Return the table of all metrics, by group."""
    rows = []
    for group, title in GROUPS.items():
        results = [one for one in evaluation.results.values() if one.metric.group == group]
        if any(result.value is not None for result in results):
            rows.append(f'<tr class="group"><th colspan="6">{escape(title)}</th></tr>')
            rows += map(_render_row, results)
    head = (
        '<th></th><th class="number">value</th><th class="number">original</th>'
        "<th>unit</th><th>good</th><th></th>"
    )
    return f'<table class="metrics"><thead><tr>{head}</tr></thead>{"".join(rows)}</table>'


def _render_row(result: MetricResult) -> str:
    """Return the table row of a metric."""
    metric = result.metric
    original = "" if result.original is None else format_number(result.original)
    rating = f'<span class="{result.rating}">{result.rating}</span>' if result.rating else ""
    cells = (
        f"<td>{escape(metric.title)}</td>",
        f'<td class="number">{result.format_value()}</td>',
        f'<td class="number faint">{original}</td>',
        f"<td>{escape(metric.unit)}</td>",
        f'<td class="faint">{_format_limit(metric)}</td>',
        f'<td class="rating">{rating}</td>',
    )
    row_class = ' class="none"' if result.value is None else ""
    return f"<tr{row_class}>{''.join(cells)}</tr>"


def _format_limit(metric: Metric) -> str:
    """Return the limit of good values, or the direction of better ones."""
    if metric.good is None:
        return f"{metric.better} is better"
    if metric.better == "near one":
        return f"{format_number(1 / metric.good)} to {format_number(metric.good)}"
    return f"{'≥' if metric.better == 'higher' else '≤'} {format_number(metric.good)}"


def _render_charts(evaluation: Evaluation) -> list[str]:
    """Return the charts that have a curve."""
    charts = []
    for label, names in CHARTS.items():
        series = {
            result.metric.title: _downsample_curve(evaluation.times, result)
            for result in (evaluation.results[name] for name in names)
            if result.curve is not None and result.value is not None
        }
        if series:
            charts.append(line_chart(series, x_label="seconds", y_label=label))
    return charts


def _downsample_curve(times: Curve, result: MetricResult) -> list[tuple[float, float]]:
    """Return a curve's points; of a long curve, the worst point of each interval."""
    assert result.curve is not None
    finite = np.flatnonzero(np.isfinite(result.curve))
    if not finite.size:
        return []
    argworst = np.argmin if result.metric.better == "higher" else np.argmax
    intervals = np.array_split(finite, min(MAX_CURVE_POINTS, finite.size))
    indices = [interval[argworst(result.curve[interval])] for interval in intervals]
    return [(float(times[index]), float(result.curve[index])) for index in indices]


def _render_worst_frames(worst_frames: Sequence[WorstFrame]) -> str:
    """Return the images of the worst frames with time codes."""
    if not worst_frames:
        return html_page.paragraph("No frame stands out: all are within the limits of good values.")
    names = ", ".join(worst_frames[0].images)
    about = html_page.paragraph(f"Worst first; from left to right: {names}.")
    return f'{about}<div class="worst">{"".join(map(_render_worst_frame, worst_frames))}</div>'


def _render_worst_frame(frame: WorstFrame) -> str:
    """Return one frame: original and swapped image, and the bad metric."""
    images = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}" '
        f'alt="{name} at {format_time(frame.time)}" title="{name}">'
        for name, data in frame.images.items()
    )
    value = f"{escape(frame.metric.title)} {format_number(frame.value)} {escape(frame.metric.unit)}"
    return (
        f'<figure><div class="pair">{images}</div>'
        f"<figcaption><b>{format_time(frame.time)}</b>{value}</figcaption></figure>"
    )
