"""The site: it builds strictly and offline, from the documents, the docstrings and the errors."""

import ast
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason='pip install -e ".[dev]" has it')

ROOT = Path(__file__).parents[1]
QUIET = {"NO_MKDOCS_2_WARNING": "1"}


def build(config: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Build a site as the check does, with any connection refused."""
    # Not with --quiet, which hides warnings from --strict as well.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    offline = dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return subprocess.run(
        [*command, "--config-file", str(config), "--site-dir", str(folder)],
        env=os.environ | QUIET | offline,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def pages(site: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the HTML of every page."""
    for path in sorted(site.rglob("*.html")):
        yield path.relative_to(site).as_posix(), path.read_text(encoding="utf-8")


def visible_text(page: str) -> str:
    """Return what a page shows, without tags, on one line."""
    plain = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(plain).split())


def test_every_page_is_on_the_site(site: Path) -> None:
    """Every page of docs/ is built and in the navigation, and so are README and changelog."""
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    built = {name for name, _ in pages(site)}
    home = (site / "index.html").read_text(encoding="utf-8")
    for source in [*sources, Path("index.md"), Path("changelog.md")]:
        name = source.with_suffix(".html").as_posix()
        assert name in built
        assert f'href="{name}"' in home or name == "index.html", f"{name} is not in mkdocs.yml"


def test_nothing_is_fetched_when_a_page_is_read(site: Path) -> None:
    """Scripts, styles, fonts and images are files of the site."""
    for name, page in pages(site):
        fetched = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*(?:src|href)=\"?(https?:[^\" ]+)", page
        )
        assert [] == fetched, name


def test_equations_are_mathml(site: Path) -> None:
    """No page needs a script for its equations, and none is left unrendered."""
    for name, page in pages(site):
        assert 'class="arithmatex"' not in page, name
    assert "<math" in (site / "backends/autoencoder.html").read_text(encoding="utf-8")


def test_every_message_of_an_error_has_its_cause_on_the_site(site: Path) -> None:
    """The words of each error that the source raises are on the page of its class."""
    folder = site / "reference/errors"
    text = " ".join(visible_text(path.read_text("utf-8")) for path in folder.glob("*.html"))
    plain = [message for message in raised_texts() if message]
    assert len(plain) > 100
    for message in plain:
        assert message in text
    assert "\\<" not in text


def raised_texts() -> Iterator[str]:
    """Yield the messages without variables that the source raises as one of our errors."""
    for path in sorted((ROOT / "faceswap_cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"(Configuration|Input|NoFaces|Device|Checkpoint)Error", ast.unparse(node.func)
            ):
                parts = ast.walk(node.args[0]) if node.args else []
                texts = [one.value for one in parts if isinstance(one, ast.Constant)]
                longest = max((one for one in texts if isinstance(one, str)), key=len, default="")
                yield " ".join(longest.split())


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """The check itself can fail."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Page\n\n[gone](gone.md)\n")
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    validation = config[config.index("validation:") : config.index("\nnav:")]
    (tmp_path / "mkdocs.yml").write_text(f"site_name: planted\n{validation}")
    built = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert built.returncode != 0
    assert "gone.md" in built.stdout + built.stderr
