"""An evaluation as one HTML page: the table, curves over time, the worst moments as pictures."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from faceswap_cli.core import html_page
from faceswap_cli.evaluation.evaluation import (
    Curve,
    Evaluation,
    MetricResult,
    WorstFrame,
    format_number,
    format_time,
)
from faceswap_cli.evaluation.metrics.registry import GROUPS, Metric

CHARTS: Mapping[str, tuple[str, ...]] = {
    "likeness to the wanted person, cosine": ("identity_dlib", "identity_sface"),
    "wanted over original, cosine": ("margin_dlib", "margin_sface"),
    "pose error, degrees": ("yaw", "pitch", "roll", "pose", "pose_3ddfa"),
    "expression error, 0 to 1": ("expression", "expression_motion"),
    "error of openness, of width": ("eyes", "mouth"),
    "gaze error, degrees": ("gaze",),
    "trembling, x original": ("jitter", "flicker"),
    "detail, x original": ("sharpness",),
    "edge along the border, delta E a pixel": ("seam_gradient",),
    "colour, delta E": ("seam_colour", "colour_gap"),
    "PSNR in the face, dB": ("psnr",),
    "SSIM and LPIPS in the face": ("ssim", "lpips"),
}
"""Curves that share an axis, by what the axis says."""
MAX_CURVE_POINTS = 500
"""Most points of a curve: more than a screen can show apart."""

_STYLE = """<style>
.tags { display: flex; gap: .6rem; flex-wrap: wrap; margin: 1rem 0; }
.tags span { padding: .15rem .7rem; border-radius: 1rem; }
.good { --tag: #2f9e62; } .fair { --tag: #b8901c; } .poor { --tag: #c23a5e; }
.tags span, td.verdict span { background: color-mix(in srgb, var(--tag) 18%, transparent);
  color: var(--tag); font-weight: 600; }
td.verdict span { padding: 0 .5rem; border-radius: .6rem; font-size: .85em; }
table.measures { width: 100%; } th.number { text-align: right; }
tr.group th { padding-top: 1.1rem; border-bottom-width: 2px; }
td.faint, tr.none td { opacity: .6; }
.moments { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr));
  gap: 1.2rem; margin-top: 1rem; }
.moments figure { margin: 0; } .moments .pair { display: flex; gap: 3px; }
.moments img { flex: 1; min-width: 0; border-radius: 4px; }
.moments b { font-variant-numeric: tabular-nums; margin-right: .5rem; }
</style>"""


def render_report(evaluation: Evaluation) -> str:
    """Return the page."""
    about = (
        f"{evaluation.identity}'s face on the performance in {evaluation.source}; "
        f"{evaluation.frame_count:,} frames, {evaluation.face_count:,} with a face"
    )
    pieces = [_STYLE, _render_ratings(evaluation), _render_table(evaluation)]
    pieces += [html_page.paragraph(reason) for reason in evaluation.missing_reasons()]
    pieces += [html_page.heading("Worst moments"), _render_worst_frames(evaluation.worst_frames)]
    pieces += [html_page.heading("Over time"), *_render_charts(evaluation)]
    return html_page.build_page(f"How good is {evaluation.swapped}?", about, pieces)


def _render_ratings(evaluation: Evaluation) -> str:
    """Return how many metrics are good, fair and poor."""
    verdicts = [measure.rating for measure in evaluation.results.values()]
    tags = [
        f'<span class="{verdict}">{verdicts.count(verdict)} {verdict}</span>'
        for verdict in ("good", "fair", "poor")
        if verdict in verdicts
    ]
    return f'<div class="tags">{"".join(tags)}</div>'


def _render_table(evaluation: Evaluation) -> str:
    """Return all metrics, group by group."""
    rows = []
    for group, title in GROUPS.items():
        inside = [one for one in evaluation.results.values() if one.metric.group == group]
        if any(one.value is not None for one in inside):
            rows.append(f'<tr class="group"><th colspan="6">{escape(title)}</th></tr>')
            rows += map(_render_row, inside)
    head = (
        '<th></th><th class="number">value</th><th class="number">original\'s own</th>'
        "<th>unit</th><th>good</th><th></th>"
    )
    return f'<table class="measures"><thead><tr>{head}</tr></thead>{"".join(rows)}</table>'


def _render_row(result: MetricResult) -> str:
    """Return a metric's row."""
    metric = result.metric
    own = "" if result.original is None else format_number(result.original)
    verdict = f'<span class="{result.rating}">{result.rating}</span>' if result.rating else ""
    cells = (
        f"<td>{escape(metric.title)}</td>",
        f'<td class="number">{result.format_value()}</td>',
        f'<td class="number faint">{own}</td>',
        f"<td>{escape(metric.unit)}</td>",
        f'<td class="faint">{_format_limit(metric)}</td>',
        f'<td class="verdict">{verdict}</td>',
    )
    kind = ' class="none"' if result.value is None else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _format_limit(metric: Metric) -> str:
    """Return what is good, in few words."""
    if metric.good is None:
        return f"{metric.better} is better"
    if metric.better == "near one":
        return f"{format_number(1 / metric.good)} to {format_number(metric.good)}"
    return f"{'≥' if metric.better == 'higher' else '≤'} {format_number(metric.good)}"


def _render_charts(evaluation: Evaluation) -> list[str]:
    """Return the curves that there are."""
    found = []
    for label, names in CHARTS.items():
        series = {
            measure.metric.title: _downsample_curve(evaluation.times, measure)
            for measure in (evaluation.results[name] for name in names)
            if measure.curve is not None and measure.value is not None
        }
        if series:
            found.append(html_page.line_chart(series, x_label="seconds", y_label=label))
    return found


def _downsample_curve(times: Curve, result: MetricResult) -> list[tuple[float, float]]:
    """Return a curve's points; of many, the worst of each stretch."""
    assert result.curve is not None
    there = np.flatnonzero(np.isfinite(result.curve))
    if not there.size:
        return []
    is_worse = np.argmin if result.metric.better == "higher" else np.argmax
    stretches = np.array_split(there, min(MAX_CURVE_POINTS, there.size))
    kept = [stretch[is_worse(result.curve[stretch])] for stretch in stretches]
    return [(float(times[index]), float(result.curve[index])) for index in kept]


def _render_worst_frames(worst_frames: Sequence[WorstFrame]) -> str:
    """Return the worst moments as pictures with time codes."""
    if not worst_frames:
        return html_page.paragraph("No moment stands out: every frame is within what is good.")
    names = ", ".join(worst_frames[0].images)
    about = html_page.paragraph(f"Worst first; from left to right: {names}.")
    return f'{about}<div class="moments">{"".join(map(_render_worst_frame, worst_frames))}</div>'


def _render_worst_frame(frame: WorstFrame) -> str:
    """Return one moment: the original beside the swap, and what is wrong."""
    images = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}" '
        f'alt="{name} at {format_time(frame.time)}" title="{name}">'
        for name, data in frame.images.items()
    )
    told = f"{escape(frame.metric.title)} {format_number(frame.value)} {escape(frame.metric.unit)}"
    return (
        f'<figure><div class="pair">{images}</div>'
        f"<figcaption><b>{format_time(frame.time)}</b>{told}</figcaption></figure>"
    )
