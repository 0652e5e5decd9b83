"""The commands of the first pages run as they are typed, one after the other, on small clips."""

import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
from test_api import write_person
from typer.testing import CliRunner

from faceswap_cli.cli.app import app
from faceswap_cli.stages import demo

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
MAX_LINES = 120
LIMITS = {"demo": ["--max-images", "16"], "train": ["--max-images", "16"]}
"""What is added to a command, so that it trains for two steps and not for minutes."""


def typed_commands(page: Path) -> list[str]:
    """Return the commands of a page: its indented lines, those joined by && one by one."""
    lines = re.findall(r"^    (\S.*)$", page.read_text(encoding="utf-8"), flags=re.M)
    return [command.strip() for line in lines for command in line.split("&&")]


def test_the_readme_is_short() -> None:
    """It is read in two minutes."""
    assert len(README.read_text(encoding="utf-8").splitlines()) < MAX_LINES


def test_other_commands_of_the_readme_are_run_by_the_check() -> None:
    """What installs and checks the program is a line of .ci/run, which every change must pass."""
    check = (ROOT / ".ci/run").read_text(encoding="utf-8")
    others = [one for one in typed_commands(README) if not one.startswith("faceswap ")]
    assert others
    assert [] == [one for one in others if one not in check]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "clips"),
    [
        (README, {"a.mp4": "ada", "b.mp4": "ed"}),
        (
            ROOT / "docs/tutorial/two-clips.md",
            {"ada.mp4": "ada", "bo.mp4": "bo", "more-of-bo.mp4": "bo"},
        ),
    ],
    ids=["readme", "tutorial"],
)
def test_the_commands_run_in_order(
    page: Path, clips: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each ends without an error, and the last video is there."""
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "DemoSize", partial(demo.DemoSize, side_px=192, seconds=0.4))
    for clip, person in clips.items():
        write_person(tmp_path / clip, person)
    commands = [shlex.split(one)[1:] for one in typed_commands(page) if one.startswith("faceswap ")]
    assert len(commands) > 4
    for words in commands:
        done = CliRunner().invoke(app, [*words, *LIMITS.get(words[0], [])])
        assert done.exit_code == 0, f"faceswap {shlex.join(words)}: {done.output}"
    assert list((tmp_path / "workspace/exports").glob("a*-swapped.mp4"))
