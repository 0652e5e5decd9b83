"""The commands as functions: the parameters of commands, nothing printed, every example runs."""

import dataclasses
import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import faceswap_cli
from faceswap_cli import FaceswapError, Progress, Workspace, api
from faceswap_cli.cli.convert import convert as convert_command
from faceswap_cli.cli.evaluate import evaluate as evaluate_command
from faceswap_cli.cli.extract import extract as extract_command
from faceswap_cli.cli.train import train as train_command
from faceswap_cli.core.progress import CallbackReporter
from faceswap_cli.synthetic import CAST, HeadModel, animate, render_frame
from faceswap_cli.video.writer import VideoWriter

ROOT = Path(__file__).parents[1]
SIDE_PX = 160
TOY_TRAINING = 'preset="debug", max_images=64'
"""What an example trains with in place of an hour."""


@pytest.mark.parametrize(
    ("function", "command"),
    [
        (api.extract, extract_command),
        (api.train, train_command),
        (api.convert, convert_command),
        (api.convert_all, convert_command),
        (api.evaluate, evaluate_command),
    ],
)
def test_parameters_are_those_of_the_command(
    function: Callable[..., Any], command: Callable[..., Any]
) -> None:
    """Names and defaults, but for the inputs, previews, and what is about printing."""
    ours, theirs = (inspect.signature(one).parameters for one in (function, command))
    inputs = {"inputs", "source"}
    callbacks = {"on_progress", "on_note"}
    printing = {"common", "preview_count", "grid", "dry_run"}
    assert set(ours) - callbacks - inputs == set(theirs) - printing - inputs
    for name in ours.keys() & theirs.keys() - {"settings", "parallel"} - inputs:
        empty = ((), None)
        default = theirs[name].default
        if isinstance(default, Path):
            default = str(default)
        same = ours[name].default == default or {ours[name].default, default} <= set(empty)
        assert same or theirs[name].kind != inspect.Parameter.KEYWORD_ONLY, name


def test_every_public_name_can_be_imported() -> None:
    """Names that are loaded on first use exist, and others do not."""
    for name in faceswap_cli.__all__:
        assert getattr(faceswap_cli, name).__name__ == name
    with pytest.raises(AttributeError, match="nothing"):
        faceswap_cli.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    """Torch takes seconds, and `extract` does not need it."""
    code = (
        "import sys; import faceswap_cli; from faceswap_cli import extract, Workspace\n"
        "print([name for name in ('torch', 'cv2', 'numpy', 'typer') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


def test_progress_goes_to_the_callbacks() -> None:
    """Numbers stay until others come; a note is one line."""
    seen: list[Progress] = []
    notes: list[str] = []
    report = CallbackReporter(on_progress=seen.append, on_note=notes.append)
    report.start_task("extract a.mp4", total=3, unit="frames")
    report.update(1, {"faces": 1})
    report.update(2)
    report.show_image(Path("x.png"), "preview")
    report.show_values("takes", {"memory": "1 GB", "disk": "2 GB"})
    assert [0, 1, 2] == [one.done for one in seen]
    assert [{}, {"faces": 1}, {"faces": 1}] == [one.numbers for one in seen]
    assert {("extract a.mp4", 3, "frames")} == {(one.task, one.total, one.unit) for one in seen}
    assert ["preview: x.png", "takes: memory 1 GB, disk 2 GB"] == notes


@pytest.mark.parametrize(
    "call",
    [
        lambda space: api.extract("gone.mp4", workspace=space),
        lambda space: api.extract(workspace=space),
        lambda space: api.train("a", "b", model="autoencoder", workspace=space),
        lambda space: api.convert("gone.mp4", workspace=space),
        lambda space: api.convert_all("gone.mp4", "lost.mp4", workspace=space),
        lambda space: api.convert_all(workspace=space),
        lambda space: api.evaluate("no.mp4", original="x.mp4", identity="a", workspace=space),
        lambda space: api.import_faces("gone", workspace=space),
        lambda space: api.import_faceforensics("gone", workspace=space),
        lambda space: api.export_model(workspace=space),
        lambda space: api.export_faces("a", workspace=space),
    ],
)
def test_an_error_is_raised_and_leaves_no_workspace(
    call: Callable[[Workspace], object], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Errors are `FaceswapError`s with a message; nothing is printed or written."""
    space = Workspace(root=tmp_path / "space")
    with pytest.raises(FaceswapError) as raised:
        call(space)
    assert raised.value.message
    assert not space.root.exists()
    assert ("", "") == capfd.readouterr()


def test_a_folder_of_videos_is_for_convert_all(tmp_path: Path) -> None:
    """One summary cannot be that of two videos."""
    for name in ("a.mp4", "b.mp4"):
        write_person(tmp_path / name, "ada", seconds=0.1)
    with pytest.raises(FaceswapError, match="holds 2 inputs"):
        api.convert(tmp_path, workspace=tmp_path / "space")


def write_person(path: Path, name: str, *, seconds: float = 0.8) -> None:
    """Write a clip of a synthetic person."""
    animation = animate(sorted(CAST).index(name), seconds=seconds)
    with VideoWriter(path, size=(SIDE_PX, SIDE_PX), rate=animation.rate) as video:
        for index, scene in enumerate(animation.scenes):
            image = render_frame(HeadModel.from_person(CAST[name]), scene, SIDE_PX).image
            video.write(image, index / animation.rate)


@pytest.mark.slow
def test_every_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The examples of docs/reference/python.md run in order, and only they print."""
    torch.set_num_threads(1)
    page = (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(examples) > 4
    for name in ("ada", "bo"):
        write_person(tmp_path / f"{name}.mp4", name)
    monkeypatch.chdir(tmp_path)
    printed: list[str] = []
    names: dict[str, Any] = {"print": lambda *words: printed.append(" ".join(map(str, words)))}
    for example in examples:
        exec(example.replace("max_minutes=60", TOY_TRAINING), names)
    assert ("", "") == capfd.readouterr()
    assert printed[0].startswith("20 faces in ")
    assert "['ada'] []" in printed
    assert "['ada.mp4', 'bo.mp4'] ['gone.mp4']" in printed
    assert any('"zoe"' in line for line in printed)
    assert "20 photos 20 ()" in printed
    for name in ("ada", "run", "swapped", "result", "batch", "exported", "again"):
        assert dataclasses.is_dataclass(names[name])
        assert type(names[name]).__dataclass_params__.frozen
