"""Self-contained HTML pages: images and scripts inside, no server, no network.

A page is a list of HTML parts; the functions below, and those of `chart`, `gallery` and `player`,
return parts, and `build_page` joins them. A part that needs a script of `assets` says so in an
attribute, `data-script="chart"`: the page has each of them once, and its content security policy
allows these scripts and styles by their digests and nothing else.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image

SCRIPTS: Mapping[str, Sequence[str]] = {
    "chart": ("uplot", "chart"),
    "gallery": ("gallery",),
    "player": ("player",),
}
"""Files of `assets` that a part needs, by the value of its `data-script`."""


def build_page(
    title: str, about: str, parts: Sequence[str], *, style: str = "", refresh_seconds: int = 0
) -> str:
    """Return a whole HTML document.

    Args:
        title: Heading and name of the tab.
        about: One line under the heading.
        parts: Results of the functions below, in order.
        style: Rules of CSS for this page.
        refresh_seconds: Interval at which an open tab reloads; 0 never reloads.
    """
    body = "\n".join(parts)
    needed = [name for name in SCRIPTS if f'data-script="{name}"' in body]
    scripts = [
        read_asset(f"{name}.js") for name in ("page", *(one for n in needed for one in SCRIPTS[n]))
    ]
    styles = [read_asset("page.css"), *([style] if style else [])]
    if "chart" in needed:
        styles.insert(0, read_asset("uplot.css"))
    live = refresh = ""
    if refresh_seconds:
        live = f' data-refresh="{refresh_seconds}"'
        refresh = f'<noscript><meta http-equiv="refresh" content="{refresh_seconds}"></noscript>'
    return (
        f'<!doctype html>{_license_comment(needed)}<html lang="en"{live}><head>'
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" '
        f'content="{content_security_policy(scripts, styles)}">{refresh}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>"
        + "".join(f"<style>{one}</style>" for one in styles)
        + f'</head><body><h1>{escape(title)}</h1><p class="about">{escape(about)}</p>\n'
        + body
        + "".join(f"<script>{one}</script>" for one in scripts)
        + "</body></html>\n"
    )


def content_security_policy(scripts: Iterable[str], styles: Iterable[str]) -> str:
    """Return the policy of a page: these scripts and styles, images and videos inside, no more.

    W3C, Content Security Policy Level 3, section 2.3.1: a source is the digest of an element's
    text.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            "media-src data:",
            f"script-src {' '.join(map(_digest_source, scripts))}",
            f"style-src {' '.join(map(_digest_source, styles))}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest_source(text: str) -> str:
    """Return the source of a policy that allows one inline script or style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


@cache
def read_asset(name: str) -> str:
    """Return the text of a file in `assets`."""
    return (files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _license_comment(needed: Sequence[str]) -> str:
    """Return uPlot's license, which goes with every copy of it, as a comment."""
    return f"<!-- uPlot:\n{read_asset('uplot-license.txt')}-->\n" if "chart" in needed else ""


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
    alt, text = escape(caption, quote=True), base64.b64encode(data).decode("ascii")
    return (
        f'<figure class="picture"><div class="scroll">'
        f'<img src="data:{mime_type};base64,{text}" alt="{alt}"></div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[str | float]]) -> str:
    """Return a table; numbers are right-aligned."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join("<tr>" + "".join(map(_table_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _table_cell(value: str | float) -> str:
    """Return one cell of a table."""
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f'<td class="number">{text}</td>'
