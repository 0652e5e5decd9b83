"""What MkDocs does with the pages besides: some come from elsewhere, and equations become MathML.

MkDocs calls the functions `on_...` (`hooks` in mkdocs.yml).
"""

import html
import posixpath
import re
from pathlib import Path

from error_pages import error_classes, page_name, render_error_pages
from latex2mathml.converter import convert as to_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]

ROOT_PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
}
"""Pages of the project's folder, where repositories keep them -> their place on the site."""

ERRORS = "reference/errors"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    for source, place in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=move_links(text, source, place)))
    for name, text in render_error_pages().items():
        files.append(File.generated(config, f"{ERRORS}/{name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Point links at the places that pages have on the site, and list the errors' pages."""
    place = page.file.src_uri
    if place in ROOT_PAGES.values() or posixpath.basename(place) in render_error_pages():
        return markdown
    markdown = move_links(markdown, f"docs/{place}", place)
    return markdown + error_list() if place == f"{ERRORS}/index.md" else markdown


def error_list() -> str:
    """Return a list of the errors' pages."""
    return "".join(
        f"- [{name}]({page_name(name)}), exit code {one.exit_code}\n"
        for name, one in error_classes().items()
    )


def move_links(text: str, source: str, place: str) -> str:
    """Return a page's text with its links changed from the repository to the site.

    Args:
        text: Markdown.
        source: Path of the page in the repository.
        place: Path of the page on the site.
    """

    def move(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        moved = ROOT_PAGES.get(target, target.removeprefix("docs/"))
        return f"]({posixpath.relpath(moved, posixpath.dirname(place) or '.')}{link[2] or ''})"

    return re.sub(r"\]\((?!https?://|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)", move, text)


def on_page_content(page_html: str, **_: object) -> str:
    """Return a page with its equations as MathML, which browsers show without a script."""
    return re.sub(
        r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>',
        render_equation,
        page_html,
        flags=re.DOTALL,
    )


def render_equation(equation: re.Match[str]) -> str:
    """Return MathML for a matched equation."""
    display = "block" if equation[2] == "[" else "inline"
    return to_mathml(html.unescape(equation[3]), display=display)
