"""`faceswap open`: which page a name means, and how it is made where there is none."""

import json
import os
import webbrowser
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.cli.view.open_command import has_screen
from faceswap_cli.conversion.finished import FinishedLog
from faceswap_cli.core import config
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.stages import open_page
from faceswap_cli.stages.open_page import find_page
from faceswap_cli.video.writer import VideoWriter

RECIPE = config.resolve("autoencoder", "debug", [])


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    """Return a workspace with two runs that have a log and no page yet, and a set."""
    space = Workspace.open(tmp_path / "workspace")
    for name in ("a-b", "newer"):
        run = space.run_folder(name)
        run.root.mkdir(parents=True)
        run.recipe.write_text(RECIPE.to_toml(), encoding="utf-8")
        line = {"images_seen": 10, "losses": {"recon_a": 0.5}, "learning_rate": {"autoencoder": 1}}
        run.log.write_text(json.dumps(line), encoding="utf-8")
    os.utime(space.run_folder("a-b").root, (1, 1))
    folder = space.set_folder("ada")
    folder.root.mkdir(parents=True)
    folder.records.write_text("", encoding="utf-8")
    return space


def find(target: str | Path, space: Workspace, original: Path | None = None) -> Path:
    """Return the page of a target."""
    return find_page(str(target), original=original, workspace=space, report=Reporter())


def write_video(path: Path, channel: int, *, frames: int = 10) -> Path:
    """Write a video of one color, brighter from frame to frame; ten frames a second."""
    with VideoWriter(path, size=(64, 48), rate=Fraction(10)) as video:
        for index in range(frames):
            image = np.zeros((48, 64, 3), np.uint8)
            image[..., channel] = 100 + 10 * index
            video.write(image, Fraction(index, 10))
    return path


def test_a_run_opens_its_page_even_before_training_has_written_one(space: Workspace) -> None:
    """The page has the curves of the log; `latest` is the run that was written to last."""
    page = find("a-b", space)
    assert space.run_folder("a-b").report == page
    assert "recon_a" in page.read_text(encoding="utf-8")
    os.utime(space.run_folder("a-b").root, (1, 1))
    assert space.run_folder("newer").report == find("latest", space)


def test_a_page_of_a_run_is_not_made_again(space: Workspace) -> None:
    """Training writes it: opening must not replace what a running one has written."""
    report = space.run_folder("a-b").report
    report.write_text("live", encoding="utf-8")
    assert "live" == find("a-b", space).read_text(encoding="utf-8")


def test_a_set_opens_its_page_made_again_after_a_change(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crop that was deleted or rejected since is not on it."""
    made = []

    def inspect(names: list[str], *, workspace: Workspace, report: Reporter) -> None:
        made.append(names)
        workspace.faces_page(*names).write_text("page", encoding="utf-8")

    monkeypatch.setattr(open_page, "inspect_sets", inspect)
    folder = space.set_folder("ada")
    for _ in range(2):
        assert space.faces_page("ada") == find("ada", space)
    assert [["ada"]] == made
    later = space.faces_page("ada").stat().st_mtime + 10
    os.utime(folder.root, (later, later))
    find("ada", space)
    assert 2 == len(made)


def test_pages_images_and_folders_with_a_report_open_as_they_are(
    space: Workspace, tmp_path: Path
) -> None:
    """Such as the demo's folder and its contact sheet."""
    (tmp_path / "demo").mkdir()
    for name in ("report.html", "contact-sheet.png"):
        (tmp_path / "demo" / name).write_bytes(b"x")
        assert tmp_path / "demo" / name == find(tmp_path / "demo" / name, space)
    assert tmp_path / "demo/report.html" == find(tmp_path / "demo", space)


def test_a_converted_video_opens_beside_the_part_it_was_made_from(
    space: Workspace, tmp_path: Path
) -> None:
    """The conversion has noted its source and which part of it; both are in the page."""
    original = write_video(tmp_path / "a.mp4", 0)
    swapped = write_video(tmp_path / "a-swapped.mp4", 1, frames=4)
    clip = {"source": str(original), "start_s": 0.3, "end_s": 0.7}
    log = FinishedLog(tmp_path)
    log.append(log.make_entry(swapped, key="k", summary={}, clip=clip))
    page = find(swapped, space)
    html = page.read_text(encoding="utf-8")
    assert tmp_path / "a-swapped.html" == page
    assert 'data-panels="original|swapped" data-rate="10"' in html
    assert "data:video/mp4;base64," in html
    assert "made from a.mp4" in html


def test_an_evaluation_of_a_video_is_its_page(space: Workspace, tmp_path: Path) -> None:
    """As long as the video is not newer."""
    original = write_video(tmp_path / "a.mp4", 0)
    swapped = write_video(tmp_path / "b.mp4", 1)
    evaluation = tmp_path / "b-evaluation/evaluation.html"
    evaluation.parent.mkdir()
    evaluation.write_text("page", encoding="utf-8")
    assert evaluation == find(swapped, space)
    os.utime(evaluation, (1, 1))
    assert tmp_path / "b.html" == find(swapped, space, original=original)


def test_what_cannot_be_opened_is_an_error_with_a_hint(space: Workspace, tmp_path: Path) -> None:
    """A wrong name, and a video whose original nobody has noted."""
    with pytest.raises(ConfigurationError, match='no run, set or file called "newr"') as wrong:
        find("newr", space)
    assert '"newer"' in wrong.value.hint
    swapped = write_video(tmp_path / "b.mp4", 1)
    with pytest.raises(InputError, match="made from is not known") as unknown:
        find(swapped, space)
    assert "--original" in unknown.value.hint


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_browser_opens_only_where_it_has_a_window(
    environment: dict[str, str], platform: str, expected: bool
) -> None:
    """Over SSH Python would start a text browser in the user's terminal."""
    assert expected == has_screen(environment, platform)


def test_the_command_opens_the_page_or_says_where_it_is(
    space: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not with `--json`, and not with `--no-browser`."""
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    monkeypatch.setenv("DISPLAY", ":0")
    words = ["open", "a-b", "--workspace", str(space.root)]
    for more in ([], ["--no-browser"], ["--json"]):
        done = CliRunner().invoke(app, words + more)
        assert 0 == done.exit_code, done.output
        assert "report.html" in done.stdout
    assert [space.run_folder("a-b").report.resolve().as_uri()] == opened
