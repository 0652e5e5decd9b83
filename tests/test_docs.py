"""Checks the documents: generated pages are current, commands parse, links exist, code runs."""

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
from faceswap_cli.cli.jobs import check_job
from faceswap_cli.stages.jobs import read_jobs
from faceswap_models.base import FaceBatch, TrainProgress

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
HAND_WRITTEN = [
    page for page in PAGES if page.name not in ("cli.md", "presets.md", "reliability.md")
]


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


def example_commands(page: Path) -> list[str]:
    """Return the lines of a page that call the program."""
    lines = [line.strip() for line in page.read_text(encoding="utf-8").splitlines()]
    calls = [call.strip() for line in lines for call in line.split("&&")]
    return [call for call in calls if re.match(r"faceswap (-|[a-z]+( |$))", call)]


def test_generated_pages_are_current() -> None:
    """The generated pages equal what docs/generate.py writes."""
    for name, text in load_module(ROOT / "docs/generate.py").render_pages().items():
        written = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert text == written, f"{name} is out of date: run python docs/generate.py"


def test_diagrams_are_current() -> None:
    """The diagrams of docs/backends equal what docs/diagrams.py draws, and a page shows each."""
    diagrams = load_module(ROOT / "docs/diagrams.py")
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    written = {path.name: path.read_text("utf-8") for path in diagrams.FOLDER.iterdir()}
    assert written == {name: diagrams.render(one) for name, one in diagrams.DIAGRAMS.items()}
    assert [] == [name for name in written if f"diagrams/{name})" not in pages]


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=page_id)
def test_example_commands_parse(page: Path) -> None:
    """Each `faceswap ...` line parses with its options."""
    group: Any = typer.main.get_command(app)
    for call in example_commands(page):
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
def test_links_exist(page: Path) -> None:
    """Targets of links and images within the project exist."""
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page_id(page)} links to {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    """Every page is linked from the README or from a page that is."""
    reached: set[Path] = set()
    queue = [ROOT / "README.md"]
    while queue:
        page = queue.pop()
        reached.add(page)
        links = re.findall(r"\]\((?!https?://|#)([^)#]+\.md)", page.read_text(encoding="utf-8"))
        queue += {(page.parent / link).resolve() for link in links} - reached
    assert set(PAGES) == reached


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    """mkdocs.yml lists every page of docs/."""
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page_id(page).removeprefix("docs/") for page in PAGES if page.parent != ROOT]
    assert [] == [page for page in pages if f" {page}\n" not in listed]


@pytest.mark.parametrize(
    "symptom",
    [
        "Blurry",
        "Flicker",
        "Wrong color",
        "Hard edges",
        "Hands and glasses",
        "Does not look like the person",
        "Wrong person swapped",
        "Out of memory",
        "NaN, or training that fails again and again",
        "Slow",
    ],
)
def test_each_symptom_has_a_setting_that_helps(symptom: str) -> None:
    """Troubleshooting has a section with an option or a command for each; a picture if one can."""
    page = (ROOT / "docs/guide/troubleshooting.md").read_text(encoding="utf-8")
    section = page.split(f"## {symptom}\n")[1].split("\n## ")[0]
    assert re.search(r"`[^`]*(--|faceswap )", section)
    pictures = re.findall(r"\(\.\./(pictures/troubleshooting/\w+\.webp)\)", section)
    cannot_be_seen = symptom in ("Out of memory", "Slow", "Hands and glasses") or "NaN" in symptom
    assert len(pictures) == (not cannot_be_seen)
    for picture in pictures:
        assert 0 < (ROOT / "docs" / picture).stat().st_size < 100_000


def test_the_architecture_page_names_every_room() -> None:
    """Every room is on the page; the files of a frame's path exist."""
    page = (ROOT / "docs/develop/architecture.md").read_text(encoding="utf-8")
    entries = [path for path in (ROOT / "faceswap_cli").iterdir() if not path.name.startswith("_")]
    rooms = {f"`{path.name}/`" for path in entries if (path / "__init__.py").exists()}
    files = {f"`{path.name}`" for path in entries if path.suffix == ".py"}
    assert [] == sorted(name for name in rooms | files if name not in page)
    pipeline = re.findall(r"^    ([a-z_/]+\.py) ", page, flags=re.M)
    assert len(pipeline) > 12
    assert [] == [name for name in pipeline if not (ROOT / "faceswap_cli" / name).exists()]


def test_the_example_jobs_are_valid(tmp_path: Path) -> None:
    """The example in docs/guide/jobs.md is a file of jobs whose steps parse."""
    text = (ROOT / "docs/guide/jobs.md").read_text(encoding="utf-8")
    file = tmp_path / "night.toml"
    file.write_text(text.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    jobs = read_jobs(file)
    assert [3, 4] == [len(job.steps) for job in jobs]
    for job in jobs:
        check_job(job, commands)


def test_the_example_backend_trains_and_swaps(tmp_path: Path) -> None:
    """The example in docs/develop/add-a-backend.md is a complete backend."""
    text = (ROOT / "docs/develop/add-a-backend.md").read_text(encoding="utf-8")
    file = tmp_path / "tint.py"
    file.write_text(text.split("```python\n")[1].split("```")[0], encoding="utf-8")
    backend = load_module(file).BACKEND
    model = backend(backend.model_settings_type(), backend.train_settings_type(), ("a", "b"))
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
    swapped = model.swap(target[0], identity="b").image
    assert pytest.approx(0.5, abs=0.05) == swapped.mean().item()
