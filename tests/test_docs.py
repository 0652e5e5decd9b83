"""The documents are true: pages are generated, commands parse, links lead somewhere, code runs."""

import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import typer

from faceswap_cli.cli.app import app
from faceswap_models.base import FaceBatch, TrainProgress

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HAND_WRITTEN = [page for page in PAGES if page.name not in ("cli.md", "presets.md")]


def page_id(page: Path) -> str:
    """Return a page's path for the test's name."""
    return page.relative_to(ROOT).as_posix()


def load_module(path: Path) -> ModuleType:
    """Import a Python file by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown_commands(page: Path) -> list[str]:
    """Return the lines of a page that call the program, in code blocks or indented."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines()]
    calls = [call.strip() for line in lines for call in line.split("&&")]
    return [call for call in calls if re.match(r"faceswap (-|[a-z]+( |$))", call)]


def test_the_generated_pages_are_those_the_program_makes_today() -> None:
    """docs/cli.md and docs/presets.md are never edited by hand nor left behind."""
    for name, text in load_module(ROOT / "docs/generate.py").pages().items():
        written = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert text == written, f"{name} is out of date: run python docs/generate.py"


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=page_id)
def test_every_command_shown_is_one_the_program_takes(page: Path) -> None:
    """Each `faceswap ...` line parses, options and all."""
    group: Any = typer.main.get_command(app)
    for call in shown_commands(page):
        words = shlex.split(call, comments=True)[1:]
        if words[0].startswith("-"):
            group.make_context("faceswap", words, resilient_parsing=True)
            continue
        assert words[0] in group.commands, f"{page_id(page)}: {call}"
        try:
            group.commands[words[0]].make_context(words[0], words[1:])
        except typer.Exit:
            assert "--help" in words


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_to_a_file(page: Path) -> None:
    """Links and pictures within the project exist."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page_id(page)} links to {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    """Following links from the README leads to all of them."""
    reached: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = re.findall(r"\]\((?!https?://|#)([^)#]+\.md)", page.read_text(encoding="utf-8"))
        waiting += {(page.parent / link).resolve() for link in links} - reached
    assert set(PAGES) == reached


def test_the_architecture_names_every_room() -> None:
    """What lies in the program's folder is on the page; the files of a frame's way are there."""
    told = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    found = [path for path in (ROOT / "faceswap_cli").iterdir() if not path.name.startswith("_")]
    rooms = {f"`{path.name}/`" for path in found if (path / "__init__.py").exists()}
    files = {f"`{path.name}`" for path in found if path.suffix == ".py"}
    assert [] == sorted(name for name in rooms | files if name not in told)
    way = re.findall(r"^    ([a-z]+/[a-z_]+\.py) ", told, flags=re.M)
    assert len(way) > 12
    assert [] == [name for name in way if not (ROOT / "faceswap_cli" / name).exists()]


def test_the_example_backend_trains_and_swaps(tmp_path: Path) -> None:
    """The file shown in docs/add-a-backend.md is a working backend as it stands."""
    text = (ROOT / "docs/add-a-backend.md").read_text(encoding="utf-8")
    file = tmp_path / "tint.py"
    file.write_text(text.split("```python\n")[1].split("```")[0], encoding="utf-8")
    backend = load_module(file).BACKEND
    model = backend(backend.Model(), backend.Train(), ("a", "b"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)

    def update(group: str, loss: torch.Tensor) -> None:
        assert group in model.parameter_groups()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    target = torch.stack([torch.full((2, 3, 8, 8), -0.5), torch.full((2, 3, 8, 8), 0.5)])
    batch = FaceBatch(warped=target, target=target, mask=torch.ones(2, 2, 1, 8, 8))
    for step in range(60):
        model.train_step(batch, update, TrainProgress(images_seen=4 * step, max_images=None))
    swapped = model.swap(target[0], to="b").image
    assert pytest.approx(0.5, abs=0.05) == swapped.mean().item()
