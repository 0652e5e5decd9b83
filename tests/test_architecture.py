"""Which file may import what: the plan of docs/architecture.md, held by reading the source."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("faceswap_cli", "models/faceswap_models")
    for path in (ROOT / folder).rglob("*.py")
)

WORDS = {
    "ahead",
    "errors",
    "report",
    "files",
    "arrays",
    "weights",
    "page",
    "pictures",
    "views",
    "__version__",
}
"""The bottom floor: it may be used by everyone, and uses only itself."""
ROOMS = {"video", "faces", "blend", "actors", "metrics", "provenance", "workspace", "config"}
"""The rooms on one floor, which never import each other but for the pairs below."""
DOORS = {("blend", "faces.align")}
CALLERS = {"demo", "benchmark", "compare"}
"""The stages that call other stages: what a user would type, or the referee alone."""

ONLY_IN = {
    "typer": "faceswap_cli/cli/",
    "rich": "faceswap_cli/cli/console.py",
    "mediapipe": "faceswap_cli/faces/detect.py",
    "ai_edge_litert": "faceswap_cli/faces/litert.py",
    "av": "faceswap_cli/video/",
    "c2pa": "faceswap_cli/provenance/credentials.py",
    "cryptography": "faceswap_cli/provenance/",
}
"""Libraries that one file or room alone may know."""


def imports_of(source: str) -> set[str]:
    """Return every module a source text imports, dotted, with the names taken from it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(path: str, source: str) -> Iterator[str]:
    """Yield each import in the file at `path` (relative to the project) that the plan forbids."""
    for name in sorted(imports_of(source)):
        library = name.partition(".")[0]
        if library in ONLY_IN and not path.startswith(ONLY_IN[library]):
            yield f"{path} may not import {library}"
        if library == "pickle":
            yield f"{path} may not import pickle"
    ours = {name for name in imports_of(source) if name.startswith("faceswap_cli.")}
    inner = {name.removeprefix("faceswap_cli.") for name in ours}
    if path.startswith("models/"):
        outside = {name.partition(".")[0] for name in imports_of(source)}
        allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "faceswap_models"}
        yield from (f"{path} may not import {name}" for name in sorted(outside - allowed))
        return
    here = Path(path).relative_to("faceswap_cli").with_suffix("").parts
    for name in sorted(inner):
        there = name.partition(".")[0]
        if not may_import(here, there, name):
            yield f"{path} may not import faceswap_cli.{name}"


def may_import(here: tuple[str, ...], there: str, name: str) -> bool:
    """Whether the file at `here` may import the module `name`, which lies in the room `there`."""
    room = here[0]
    if there == room and room != "stages":
        return True
    if room in ("cli", "__main__"):
        return True
    if room == "stages":
        return there not in ("cli", "stages") or (here[1] in CALLERS and there == "stages")
    if room == "swap":
        return there in ROOMS | WORDS | {"learning"}
    if room in ("learning", "truth"):
        return there in ROOMS | WORDS
    if room in ROOMS:
        return there in WORDS or any(
            room == ours and name.startswith(theirs) for ours, theirs in DOORS
        )
    return there in WORDS


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_place_allows(path: Path) -> None:
    """Imports point downwards, and each library is known in one place."""
    relative = path.relative_to(ROOT).as_posix()
    assert list(offences(relative, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("path", "source", "offence"),
    [
        ("faceswap_cli/stages/train.py", "import faceswap_cli.stages.extract", "stages.extract"),
        ("faceswap_cli/stages/train.py", "from faceswap_cli.stages import extract", "stages"),
        ("faceswap_cli/video/reader.py", "from faceswap_cli.faces import align", "faces"),
        ("faceswap_cli/errors.py", "import faceswap_cli.workspace", "workspace"),
        ("faceswap_cli/learning/data.py", "from faceswap_cli.stages.train import x", "stages"),
        ("faceswap_cli/blend/colour.py", "from faceswap_cli.faces.detect import Face", "faces"),
        ("faceswap_cli/learning/data.py", "from faceswap_cli.swap.frame import FaceSwap", "swap"),
        ("faceswap_cli/swap/frame.py", "from faceswap_cli.stages import convert", "stages"),
        ("faceswap_cli/stages/train.py", "import rich.console", "rich"),
        ("faceswap_cli/learning/data.py", "import pickle", "pickle"),
        ("models/faceswap_models/backends/cyclegan.py", "import cv2", "cv2"),
        ("models/faceswap_models/losses.py", "import faceswap_cli.errors", "faceswap_cli"),
    ],
)
def test_a_planted_import_is_found(path: str, source: str, offence: str) -> None:
    """The check itself can fail."""
    assert any(offence in found for found in offences(path, source))


def test_extract_does_not_reach_torch() -> None:
    """No module that `extract` imports, directly or not, imports torch."""
    assert "torch" not in reached_from("faceswap_cli.stages.extract")


def reached_from(module: str) -> set[str]:
    """Return every module reached from one of ours by following our own imports."""
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = ROOT / (name.replace(".", "/") + ".py")
        if name in reached:
            continue
        reached.add(name)
        if path.is_file():
            waiting += imports_of(path.read_text(encoding="utf-8"))
    return reached
