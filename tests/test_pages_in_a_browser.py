"""Pages in a real browser, opened from a file: what a reader sees, reads off and clicks."""

import math
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from browser import TIMEOUT_S, Browser

from faceswap_cli.core import image_io
from faceswap_cli.pages import html_page
from faceswap_cli.pages.chart import line_chart
from faceswap_cli.pages.gallery import Tile, gallery
from faceswap_cli.pages.player import before_after_player
from faceswap_cli.video.writer import VideoWriter

T = TypeVar("T")
WIDTH, HEIGHT = 1000, 800
OVER = ".chart .u-over"
"""The area of the first chart's curves."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser that all tests of the file share."""
    with Browser(WIDTH, HEIGHT) as started:
        yield started


def open_page(
    browser: Browser, folder: Path, parts: list[str], *, refresh_seconds: int = 0
) -> Path:
    """Open a page of some parts, and forget what earlier pages said and were asked."""
    page = folder / "page & more.html"
    html = html_page.build_page("title", "about", parts, refresh_seconds=refresh_seconds)
    page.write_text(html, encoding="utf-8")
    browser.messages.clear()
    browser.requests.clear()
    browser.open(page)
    return page


def falling_loss() -> str:
    """Return a chart of a loss that is halved every 1,000 images, and one validation between."""
    loss = [(float(x), 3.0 * 0.5 ** (x / 1000)) for x in range(0, 20001, 100)]
    series = {"generator_ada": loss, "validation: generator_ada": [(9050.0, 0.01)]}
    return line_chart(series, x_label="images seen", y_label="loss")


def legend(browser: Browser) -> dict[str, str]:
    """Return the values in the legend of the first chart by name."""
    rows = browser.run(
        "[...document.querySelector('.u-legend').querySelectorAll('.u-series')].map(row =>"
        " [row.querySelector('.u-label').textContent, row.querySelector('.u-value').textContent])"
    )
    return dict(rows)


def x_range(browser: Browser, chart: int = 0) -> tuple[float, float]:
    """Return the ends of a chart's x axis."""
    low, high = browser.run(
        f"[charts[{chart}].plot.scales.x.min, charts[{chart}].plot.scales.x.max]"
    )
    return low, high


def pixels(browser: Browser, folder: Path) -> np.ndarray:
    """Return a screenshot, uint8 RGB."""
    browser.screenshot(folder / "shot.png")
    return image_io.read_image(folder / "shot.png")


def test_a_page_runs_under_its_policy_and_asks_for_nothing(
    browser: Browser, tmp_path: Path
) -> None:
    """No error, no refused script or style, and no request but for the file itself."""
    image = image_io.encode_jpeg(np.full((32, 32, 3), 90, np.uint8))
    tiles = [Tile(jpeg=image, title="a", numbers=[1])]
    page = open_page(
        browser, tmp_path, [falling_loss(), gallery(tiles, numbers=["x"], tags=["soft"])]
    )
    browser.wait("charts.length === 1")
    assert ([], [page.as_uri()]) == (browser.messages, browser.requests)


def test_the_policy_refuses_a_script_that_the_page_was_not_made_with(
    browser: Browser, tmp_path: Path
) -> None:
    """A handler or a script that comes in by a name would not run; nor would a request leave."""
    open_page(
        browser, tmp_path, ["<p onclick='window.bad = 1'>x</p><script>window.bad = 2</script>"]
    )
    browser.click("p:last-of-type")
    assert browser.run("window.bad === undefined")
    refused = "fetch('http://localhost:1/').then(() => 'sent', error => String(error))"
    assert "TypeError" in browser.run(refused)
    assert any("Content Security Policy" in text for text in browser.messages)


def test_the_cursor_reads_the_values_of_every_curve(browser: Browser, tmp_path: Path) -> None:
    """In the middle of 20,000 images; a curve without a point there shows its nearest."""
    open_page(browser, tmp_path, [falling_loss()])
    assert "-" == legend(browser)["generator_ada"]
    browser.hover(OVER, (0.5, 0.4))
    browser.wait("document.querySelector('.u-value').textContent !== '-'")
    values = legend(browser)
    seen = float(values["images seen"].replace(",", ""))
    assert seen == pytest.approx(10000, abs=100)
    assert float(values["generator_ada"]) == pytest.approx(3 * 0.5 ** (seen / 1000), rel=2e-3)
    assert "0.01" == values["validation: generator_ada"]


def test_dragging_zooms_all_charts_of_an_axis_and_a_button_resets_them(
    browser: Browser, tmp_path: Path
) -> None:
    """From a quarter to a half of the range, and back."""
    open_page(browser, tmp_path, [falling_loss(), falling_loss()])
    whole = x_range(browser)
    browser.drag(OVER, (0.25, 0.5), (0.5, 0.5))
    for chart in (0, 1):
        assert x_range(browser, chart) == pytest.approx((5000, 10000), abs=150)
    browser.click(".chart button")
    assert whole == x_range(browser, 0) == x_range(browser, 1)


def test_a_button_changes_between_a_linear_and_a_logarithmic_axis(
    browser: Browser, tmp_path: Path
) -> None:
    """An exponential is straight on the logarithmic one; the ticks of both can be read."""
    open_page(browser, tmp_path, [falling_loss()])
    height = "(p => x => p.valToPos(p.data[1][x], 'y'))(charts[0].plot)"
    places = [browser.run(f"{height}({x})") for x in (0, 100, 200)]
    assert places[1] - places[0] > 10 * (places[2] - places[1])
    browser.click(".chart figcaption button:last-of-type")
    places = [browser.run(f"{height}({x})") for x in (0, 100, 200)]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], rel=0.03)
    ticks = browser.run("[0, 1].map(i => charts[0].plot.axes[i]._values.filter(v => v))")
    assert {"10,000", "20,000"} <= set(ticks[0])
    assert "1e-5" in ticks[1]


def test_a_click_on_a_name_hides_its_curve(browser: Browser, tmp_path: Path) -> None:
    """And another one shows it again; a reload in between does not forget."""
    open_page(browser, tmp_path, [falling_loss()])
    name = ".u-legend .u-series:nth-child(2) th"
    browser.click(name)
    assert not browser.run("charts[0].plot.series[1].show")
    browser.reload()
    assert not browser.run("charts[0].plot.series[1].show")
    browser.click(name)
    assert browser.run("charts[0].plot.series[1].show")


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_page_follows_the_system_s_theme_and_a_button_changes_it(
    browser: Browser, tmp_path: Path, is_dark: bool
) -> None:
    """Seen in a screenshot: the background, and the color of the curve on it."""
    browser.set_dark(is_dark)
    open_page(browser, tmp_path, [falling_loss()])
    before = pixels(browser, tmp_path)
    browser.click("#theme")
    after = pixels(browser, tmp_path)
    browser.set_dark(False)
    assert is_dark == (before.mean() < 80)
    assert is_dark == (after.mean() > 180)
    curves = [(255, 255, 255), (21, 24, 28)]
    for image, back in zip((before, after), curves if not is_dark else curves[::-1], strict=True):
        contrast = np.abs(image.astype(int) - back).max(axis=2)
        assert (contrast > 100).sum() > 500, "curves and text stand out"


def test_a_single_point_is_seen(browser: Browser, tmp_path: Path) -> None:
    """After the first status line a curve is a dot, and its value can be read."""
    open_page(browser, tmp_path, [line_chart({"a": [(1576, 2.5)]}, x_label="x", y_label="y")])
    dot = browser.run(
        "(p => p.ctx.getImageData(Math.round(p.valToPos(1576, 'x', true)) - 4,"
        " Math.round(p.valToPos(2.5, 'y', true)) - 4, 9, 9).data.filter((v, i) => i % 4 == 2 &&"
        " v > 150).length)(charts[0].plot)"
    )
    assert dot > 8
    browser.hover(OVER)
    browser.wait("document.querySelector('.u-value').textContent !== '-'")
    assert {"x": "1,576", "a": "2.5"} == legend(browser)


def test_an_open_page_shows_what_is_written_later(browser: Browser, tmp_path: Path) -> None:
    """It reloads itself; not while the reader has zoomed into a chart."""
    later = html_page.build_page("later", "", [falling_loss()], refresh_seconds=1)
    with browser.script_first("Date.now = () => window.now ?? 0"):  # no reload before the zoom
        page = open_page(browser, tmp_path, [falling_loss()], refresh_seconds=1)
        browser.drag(OVER, (0.2, 0.5), (0.6, 0.5))
        page.write_text(later, encoding="utf-8")
        browser.wait("document.querySelector('#live').textContent.startsWith('paused: a chart')")
        browser.run("new Promise(done => { window.now = 9000; setTimeout(done, 1200); })")
        assert "title" == browser.run("document.title")
        browser.click(".chart button")
        browser.wait("document.title === 'later'")
        browser.wait("document.querySelector('#live')?.textContent.startsWith('live, written at')")


def test_an_image_opens_at_its_full_size(browser: Browser, tmp_path: Path) -> None:
    """A click shows every pixel, another one the whole image."""
    image = np.zeros((40, 3000, 3), np.uint8)
    open_page(browser, tmp_path, [html_page.image_figure(image, "wide")])
    widths = []
    for _ in range(3):
        widths.append(browser.box(".picture img")[2])
        browser.click(".picture", at=(0.3, 0.2))
    assert widths[0] == widths[2] < WIDTH
    assert 3000 == widths[1]


def test_a_gallery_is_sorted_and_filtered_by_clicks(browser: Browser, tmp_path: Path) -> None:
    """By a number, up and down, tiles without it last; and by a tag."""
    image = image_io.encode_jpeg(np.full((32, 32, 3), 90, np.uint8))
    rows = [("a", 2.0, []), ("b", math.nan, []), ("c", 3.0, ["soft"]), ("d", 1.0, [])]
    tiles = [Tile(jpeg=image, title=name, numbers=[x], tags=tags) for name, x, tags in rows]
    open_page(browser, tmp_path, [gallery(tiles, numbers=["x"], tags=["soft"])])
    order = (
        "[...document.querySelectorAll('.tiles figure')].filter(t => !t.hidden).map(t => t.title)"
    )
    assert list("abcd") == browser.run(order)
    browser.click(".gallery button")
    assert list("dacb") == browser.run(order)
    browser.click(".gallery button")
    assert list("cadb") == browser.run(order)
    browser.click(".gallery input")
    assert ["c"] == browser.run(order)


def write_side_by_side(path: Path, frames: int = 10) -> None:
    """Write a video with a red, a green and a blue panel, brighter from frame to frame."""
    with VideoWriter(path, size=(192, 64), rate=Fraction(10)) as video:
        for index in range(frames):
            image = np.zeros((64, 192, 3), np.uint8)
            for panel in range(3):
                image[:, 64 * panel : 64 * panel + 64, panel] = 100 + 15 * index
            video.write(image, Fraction(index, 10))


def test_the_line_of_a_player_divides_two_panels(browser: Browser, tmp_path: Path) -> None:
    """Left of it the first, right of it the second; it is moved with the mouse; panels change."""
    write_side_by_side(tmp_path / "video.mp4")
    data = (tmp_path / "video.mp4").read_bytes()
    part = before_after_player(
        data, panels=["original", "swapped", "truth"], frames_per_second=10, caption="c"
    )
    open_page(browser, tmp_path, [part])
    browser.wait("players[0].canvas.width === 64")
    colors = lambda: [seen_color(browser, tmp_path, x) for x in (0.25, 0.6, 0.9)]  # noqa: E731
    assert settle(colors, ["red", "green", "green"].__eq__)
    browser.drag("canvas", (0.5, 0.5), (0.75, 0.5))
    assert settle(colors, ["red", "red", "green"].__eq__)
    browser.run("(e => { e.value = 2; e.onchange(); })(document.querySelectorAll('select')[1])")
    assert settle(colors, ["red", "red", "blue"].__eq__)
    assert [] == browser.messages


def settle(read: Callable[[], T], is_right: Callable[[T], bool]) -> bool:
    """Tell whether a value becomes right: a decoded frame is on the screen some time later."""
    end = time.monotonic() + TIMEOUT_S
    while not is_right(read()):
        if time.monotonic() > end:
            return False
    return True


def near(expected: int) -> Callable[[int], bool]:
    """Return a test of a level that was compressed."""
    return lambda level: abs(level - expected) < 15


def seen_rgb(browser: Browser, folder: Path, x: float) -> tuple[int, int, int]:
    """Return the color on the screen at a fraction of the player's width."""
    left, top, width, height = browser.box("canvas")
    red, green, blue = pixels(browser, folder)[int(top + 0.6 * height), int(left + x * width)]
    return int(red), int(green), int(blue)


def seen_color(browser: Browser, folder: Path, x: float) -> str:
    """Return which of red, green and blue is there."""
    return ("red", "green", "blue")[int(np.argmax(seen_rgb(browser, folder, x)))]


@pytest.mark.slow
def test_a_player_goes_to_a_frame_and_plays(browser: Browser, tmp_path: Path) -> None:
    """The slider counts frames; the picture is the frame's; playing moves the time."""
    write_side_by_side(tmp_path / "video.mp4")
    data = (tmp_path / "video.mp4").read_bytes()
    part = before_after_player(data, panels=["a", "b", "c"], frames_per_second=10, caption="c")
    open_page(browser, tmp_path, [part])
    browser.wait("players[0].time.max === '9'")
    for frame in (0, 9):
        browser.run(f"(t => {{ t.value = {frame}; t.oninput(); }})(players[0].time)")
        browser.wait(f"!players[0].video.seeking && players[0].time.value === '{frame}'")
        expected = 100 + 15 * frame
        assert settle(lambda: seen_rgb(browser, tmp_path, 0.2)[0], near(expected))
    browser.click(".controls button")
    browser.wait("!players[0].video.paused && players[0].video.currentTime > 0.05")
    browser.click(".controls button")
    assert browser.run("players[0].video.paused")
