import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from faceswap_cli.core import html_page, image_io

VOID_TAGS = {"meta", "img", "input", "line", "polyline", "circle", "br"}


class TagBalanceParser(HTMLParser):
    """Checks that tags are closed in the reverse order of opening."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Push an opened tag."""
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Pop the last opened tag, which must be this one."""
        if tag not in VOID_TAGS:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Collect the text."""
        self.text += data


def parse_page(html: str) -> TagBalanceParser:
    """Return the parsed page, after checking that every tag is closed."""
    parser = TagBalanceParser()
    parser.feed(html)
    assert [] == parser.open
    return parser


def test_a_page_is_self_contained(tmp_path: Path) -> None:
    """Images are in the page and nothing is fetched, so it can be mailed or opened offline."""
    image = tmp_path / "x.png"
    image_io.write_png(image, np.zeros((4, 4, 3), np.uint8))
    html = html_page.build_page(
        "run <1>",
        "about & so on",
        [
            html_page.png_figure(image, 'a "picture"'),
            html_page.table(["name", "value"], [["<b>", 1234.5]]),
            html_page.line_chart({"loss": [(0, 1), (1, 0.5)]}, x_label="images", y_label="loss"),
        ],
        refresh_seconds=30,
    )
    page = parse_page(html)
    assert "run <1>" in page.text
    assert "<b>" in page.text
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert 'http-equiv="refresh" content="30"' in html


def test_a_gallery_has_each_tile_with_its_numbers_and_tags() -> None:
    """A button for each number to sort by, and the count of each tag."""
    tiles = [
        html_page.Tile(jpeg=b"one", title='"a" & b', numbers=[1.5, math.nan], tags=["soft"]),
        html_page.Tile(jpeg=b"two", title="c", numbers=[-2, 3]),
    ]
    html = html_page.build_page(
        "t", "", [html_page.gallery(tiles, numbers=["x", "y"], tags=["soft", "cut"])]
    )
    assert "soft (1)" in parse_page(html).text
    assert ["1.5 nan", "-2 3"] == re.findall(r'data-n="([^"]*)"', html)
    assert 2 == html.count("<button")
    assert 2 == html.count("data:image/jpeg;base64,")
    assert 1 == html.count('class="marked"')


def test_a_curve_goes_up_where_its_values_do() -> None:
    """Larger values are higher, later ones further right."""
    html = html_page.line_chart({"a": [(0, 1), (5, 3), (10, 2)]}, x_label="x", y_label="y")
    match = re.search(r'points="([^"]+)"', html)
    assert match
    xs, ys = zip(*(map(float, pair.split(",")) for pair in match[1].split()), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[1] < ys[2] < ys[0]


def test_values_that_cannot_be_plotted_are_left_out() -> None:
    """NaN and infinity, and zero on a logarithmic axis."""
    points = [(0.0, math.nan), (1.0, math.inf), (2.0, 0.0), (3.0, 5.0), (4.0, 6.0)]
    html = html_page.line_chart({"a": points}, x_label="x", y_label="y", log_y=True)
    match = re.search(r'points="([^"]+)"', html)
    assert match
    assert 2 == len(match[1].split())
    assert "no values yet" in html_page.line_chart({"a": []}, x_label="x", y_label="y")


def test_a_single_point_is_a_dot_in_its_color() -> None:
    """Curves without points do not change the colors of others."""
    html = html_page.line_chart({"a": [], "b": [(3, 1)]}, x_label="x", y_label="y")
    assert 1 == html.count("<circle")
    assert "var(--c1)" in html
    assert "var(--c0)" not in html


def test_the_legend_is_next_to_the_curves_and_all_styles_differ() -> None:
    """With more curves than colors they differ by dashes; no name is over a curve."""
    series = {f"curve number {index}": [(0.0, index), (9.0, index + 1)] for index in range(11)}
    html = html_page.line_chart(series, x_label="x", y_label="y")
    styles = re.findall(r'<polyline points="[^"]+" style="([^"]+)"', html)
    assert 11 == len(set(styles))
    assert styles == [one.removesuffix(";stroke-width:1.6") for one in legend_lines(html)]
    right = max(
        float(pair.split(",")[0])
        for points in re.findall(r'points="([^"]+)"', html)
        for pair in points.split()
    )
    names = [float(x) for x in re.findall(r'<text x="([0-9.]+)" y="[0-9]+">curve', html)]
    assert 11 == len(names)
    assert right < min(names)


def legend_lines(html: str) -> list[str]:
    """Return the styles of the legend's lines."""
    return re.findall(
        r'<line x1="[0-9]+" x2="[0-9]+" y1="[0-9]+" y2="[0-9]+" style="([^"]+)"', html
    )


def test_a_single_x_has_one_tick() -> None:
    """If all points have the same x, its value is written once."""
    html = html_page.line_chart({"a": [(1576, 1)], "b": [(1576, 2)]}, x_label="x", y_label="y")
    assert 1 == html.count(">1,576<")


def test_a_constant_curve_is_in_the_middle() -> None:
    """A constant learning rate is a horizontal line at half the height, on both kinds of axes."""
    for logarithmic in (False, True):
        points = [(0.0, 0.002), (10.0, 0.002)]
        html = html_page.line_chart({"a": points}, x_label="x", y_label="y", log_y=logarithmic)
        match = re.search(r'points="([^"]+)"', html)
        assert match
        ys = {float(pair.split(",")[1]) for pair in match[1].split()}
        grid = [float(y) for y in re.findall(r'class="grid".*?y1="([^"]+)"', html)]
        assert {grid[2]} == ys
