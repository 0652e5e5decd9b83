"""`faceswap open`: the page of a run, a set or a video, in the user's browser."""

import os
import sys
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    WorkspaceOption,
    parse_path,
)


def open_(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SET|FILE",
            help="A run or latest, a set of faces, a swapped video, or a page.",
        ),
    ] = "latest",
    *,
    original: Annotated[
        Path | None,
        typer.Option(
            "--original",
            parser=parse_path,
            metavar="FILE",
            help="Video that a swapped one was made from; default: what convert has noted.",
        ),
    ] = None,
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open the page, not only say where it is."),
    ] = True,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Open the page that shows a run, a set, or a swapped video beside its original.

    A page that is not there, or older than what it shows, is made first. Pages are single files
    that need no network; that of a running training follows it.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.stages.open_page import find_page

        page = find_page(target, original=original, workspace=space, report=terminal)
        wants_browser = browser and not common.as_json and has_screen(os.environ, sys.platform)
        is_opened = wants_browser and webbrowser.open(page.resolve().as_uri())
        terminal.print_result(
            "opened in the browser" if is_opened else "open in a browser", {"page": str(page)}
        )


def has_screen(environment: Mapping[str, str], platform: str) -> bool:
    """Return whether a browser would have a window: over SSH, text browsers take the terminal."""
    if platform in ("win32", "darwin"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
