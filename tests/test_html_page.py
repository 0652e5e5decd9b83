import json
import math
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart
from faceswap_cli.pages.gallery import Tile, gallery
from faceswap_cli.pages.player import before_after_player

VOID_TAGS = {"meta", "img", "input", "br"}


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
            line_chart({"loss": [(0, 1), (1, 0.5)]}, x_label="images", y_label="loss"),
        ],
        refresh_seconds=30,
    )
    page = parse_page(html)
    assert "run <1>" in page.text
    assert "<b>" in page.text
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert 'http-equiv="refresh" content="30"' in html
    assert 'data-refresh="30"' in html


def test_the_policy_allows_the_scripts_and_styles_of_the_page_and_nothing_else() -> None:
    """Each digest is that of one element; there are no other sources of code, and no addresses."""
    parts = [
        line_chart({"a": [(0, 1)]}, x_label="x", y_label="y"),
        gallery([], numbers=[], tags=[]),
    ]
    html = html_page.build_page("t", "", parts, style="p { color: red; }")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy[1].split("; "))
    assert "'none'" == rules["default-src"]
    assert "data:" == rules["img-src"] == rules["media-src"]
    for kind in ("script", "style"):
        texts = re.findall(rf"<{kind}>(.*?)</{kind}>", html, flags=re.S)
        digests = {f"'sha256-{b64encode(sha256(one.encode()).digest()).decode()}'" for one in texts}
        assert len(texts) > 1
        assert digests == set(rules[f"{kind}-src"].split())
    assert not re.search(
        r" (style|on[a-z]+)=", html.partition("<body>")[2].partition("<script>")[0]
    )


def test_a_page_has_the_scripts_that_its_parts_need_once() -> None:
    """uPlot, and its license, come with a chart only, however many there are."""
    chart = line_chart({"a": [(0, 1)]}, x_label="x", y_label="y")
    video = before_after_player(b"", panels=["a", "b"], frames_per_second=25, caption="")
    plain, one, two, player = (
        html_page.build_page("t", "", parts) for parts in ([], [chart], [chart, chart], [video])
    )
    assert [0, 1, 1, 0] == [page.count("class Chart") for page in (plain, one, two, player)]
    assert [0, 1, 1, 0] == [page.count("The MIT License") for page in (plain, one, two, player)]
    assert [0, 0, 0, 1] == [page.count("class Player") for page in (plain, one, two, player)]


def test_the_charting_library_is_the_released_one_and_small() -> None:
    """UPlot 1.6.32, unchanged; what it adds to a page stays under 100 kB."""
    scripts = [html_page.read_asset(name) for name in ("uplot.js", "uplot.css", "chart.js")]
    digest = "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f"
    assert digest == sha256(scripts[0].encode()).hexdigest()
    assert sum(len(one.encode()) for one in scripts) < 100_000


def test_a_gallery_has_each_tile_with_its_numbers_and_tags() -> None:
    """A button for each number to sort by, and the count of each tag."""
    tiles = [
        Tile(jpeg=b"one", title='"a" & b', numbers=[1.5, math.nan], tags=["soft"]),
        Tile(jpeg=b"two", title="c", numbers=[-2, 3]),
    ]
    html = html_page.build_page("t", "", [gallery(tiles, numbers=["x", "y"], tags=["soft", "cut"])])
    assert "soft (1)" in parse_page(html).text
    assert ["1.5 nan", "-2 3"] == re.findall(r'data-n="([^"]*)"', html)
    assert ["x", "y"] == re.findall(r"<button[^>]*>(.)</button>", html)
    assert 2 == html.count("data:image/jpeg;base64,")
    assert 1 == html.count('class="marked"')


def chart_data(html: str) -> dict[str, Any]:
    """Return the numbers of a chart."""
    match = re.search(r'<script type="application/json">(.*?)</script>', html)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    return data


def test_curves_share_an_axis() -> None:
    """Each has a value at every x of any, missing where it has no point."""
    html = line_chart({"a": [(0, 1), (5, 3)], "b": [(5, 2), (7, 4)]}, x_label="x", y_label="y")
    data = chart_data(html)
    assert [0, 5, 7] == data["x"]
    assert {"a": [1, 3, None], "b": [None, 2, 4]} == {
        one["name"]: one["values"] for one in data["series"]
    }


def test_values_that_cannot_be_plotted_are_left_out() -> None:
    """NaN and infinity; a zero stays, since the reader may choose a linear axis."""
    points = [(0.0, math.nan), (1.0, math.inf), (2.0, 0.0), (3.0, 5.0)]
    data = chart_data(line_chart({"a": points}, x_label="x", y_label="y", log_y=True))
    assert ([2, 3], [0, 5], True) == (data["x"], data["series"][0]["values"], data["log"])
    assert "no values yet" in line_chart({"a": []}, x_label="x", y_label="y")


def test_curves_without_points_do_not_change_the_colors_of_others() -> None:
    """A color follows from a curve's index, so those without points keep theirs."""
    data = chart_data(line_chart({"a": [], "b": [(3, 1)]}, x_label="x", y_label="y"))
    assert ["a", "b"] == [one["name"] for one in data["series"]]


def test_a_name_cannot_end_the_script_that_holds_it() -> None:
    """Names come from folders, which may be called anything."""
    name = "</script><script>alert(1)</script>"
    html = line_chart({name: [(0, 1)]}, x_label="x", y_label=name)
    assert 1 == html.count("</script>")
    assert name == chart_data(html)["series"][0]["name"]
