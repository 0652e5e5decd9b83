"""An evaluation as one HTML page: the table, curves over time, the worst moments as pictures."""

import base64
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from faceswap_cli import page
from faceswap_cli.metrics.catalogue import GROUPS, Metric
from faceswap_cli.metrics.evaluation import Curve, Evaluation, Measure, Moment, clock, number

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
POINTS = 500
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


def evaluation_page(evaluation: Evaluation) -> str:
    """Return the page."""
    about = (
        f"{evaluation.identity}'s face on the performance in {evaluation.source}; "
        f"{evaluation.frames:,} frames, {evaluation.faces:,} with a face"
    )
    pieces = [_STYLE, _tally(evaluation), _table(evaluation)]
    pieces += [page.paragraph(reason) for reason in evaluation.reasons()]
    pieces += [page.heading("Worst moments"), _moments(evaluation.moments)]
    pieces += [page.heading("Over time"), *_charts(evaluation)]
    return page.page(f"How good is {evaluation.swapped}?", about, pieces)


def _tally(evaluation: Evaluation) -> str:
    """Return how many metrics are good, fair and poor."""
    verdicts = [measure.verdict for measure in evaluation.measures.values()]
    tags = [
        f'<span class="{verdict}">{verdicts.count(verdict)} {verdict}</span>'
        for verdict in ("good", "fair", "poor")
        if verdict in verdicts
    ]
    return f'<div class="tags">{"".join(tags)}</div>'


def _table(evaluation: Evaluation) -> str:
    """Return all metrics, group by group."""
    rows = []
    for group, title in GROUPS.items():
        inside = [one for one in evaluation.measures.values() if one.metric.group == group]
        if any(one.value is not None for one in inside):
            rows.append(f'<tr class="group"><th colspan="6">{escape(title)}</th></tr>')
            rows += map(_row, inside)
    head = (
        '<th></th><th class="number">value</th><th class="number">original\'s own</th>'
        "<th>unit</th><th>good</th><th></th>"
    )
    return f'<table class="measures"><thead><tr>{head}</tr></thead>{"".join(rows)}</table>'


def _row(measure: Measure) -> str:
    """Return a metric's row."""
    metric = measure.metric
    own = "" if measure.original is None else number(measure.original)
    verdict = f'<span class="{measure.verdict}">{measure.verdict}</span>' if measure.verdict else ""
    cells = (
        f"<td>{escape(metric.title)}</td>",
        f'<td class="number">{measure.shown()}</td>',
        f'<td class="number faint">{own}</td>',
        f"<td>{escape(metric.unit)}</td>",
        f'<td class="faint">{_wanted(metric)}</td>',
        f'<td class="verdict">{verdict}</td>',
    )
    kind = ' class="none"' if measure.value is None else ""
    return f"<tr{kind}>{''.join(cells)}</tr>"


def _wanted(metric: Metric) -> str:
    """Return what is good, in few words."""
    if metric.good is None:
        return f"{metric.is_better} is better"
    if metric.is_better == "near one":
        return f"{number(1 / metric.good)} to {number(metric.good)}"
    return f"{'≥' if metric.is_better == 'higher' else '≤'} {number(metric.good)}"


def _charts(evaluation: Evaluation) -> list[str]:
    """Return the curves that there are."""
    found = []
    for label, names in CHARTS.items():
        series = {
            measure.metric.title: _thinned(evaluation.times, measure)
            for measure in (evaluation.measures[name] for name in names)
            if measure.curve is not None and measure.value is not None
        }
        if series:
            found.append(page.curves(series, x_label="seconds", y_label=label))
    return found


def _thinned(times: Curve, measure: Measure) -> list[tuple[float, float]]:
    """Return a curve's points; of many, the worst of each stretch."""
    assert measure.curve is not None
    there = np.flatnonzero(np.isfinite(measure.curve))
    if not there.size:
        return []
    is_worse = np.argmin if measure.metric.is_better == "higher" else np.argmax
    stretches = np.array_split(there, min(POINTS, there.size))
    kept = [stretch[is_worse(measure.curve[stretch])] for stretch in stretches]
    return [(float(times[index]), float(measure.curve[index])) for index in kept]


def _moments(moments: Sequence[Moment]) -> str:
    """Return the worst moments as pictures with time codes."""
    if not moments:
        return page.paragraph("No moment stands out: every frame is within what is good.")
    names = ", ".join(moments[0].pictures)
    about = page.paragraph(f"Worst first; from left to right: {names}.")
    return f'{about}<div class="moments">{"".join(map(_moment, moments))}</div>'


def _moment(moment: Moment) -> str:
    """Return one moment: the original beside the swap, and what is wrong."""
    images = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode("ascii")}" '
        f'alt="{name} at {clock(moment.time)}" title="{name}">'
        for name, data in moment.pictures.items()
    )
    told = f"{escape(moment.metric.title)} {number(moment.value)} {escape(moment.metric.unit)}"
    return (
        f'<figure><div class="pair">{images}</div>'
        f"<figcaption><b>{clock(moment.time)}</b>{told}</figcaption></figure>"
    )
