"""Which file may import what: docs/develop/architecture.md, held by reading the source."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("faceswap_cli", "models/faceswap_models")
    for path in (ROOT / folder).rglob("*.py")
)

FLOORS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("video", "faces", "provenance", "pages", "parallel"),
    ("compositing", "synthetic", "heads"),
    ("training",),
    ("conversion", "evaluation", "exchange", "pretraining"),
    ("stages",),
    ("api",),
    ("cli", "__main__", "__init__"),
)
"""The rooms from the ground up: a room imports lower floors, and its own floor without circles."""
FLOOR_OF = {room: number for number, floor in enumerate(FLOORS) for room in floor}
COMPOSITE_STAGES = {"demo", "benchmark", "imports", "open_page"}
"""The stages that call other stages, as a user would type them."""
MAX_FILES_PER_ROOM = 18

ONLY_IN = {
    "typer": "faceswap_cli/cli/",
    "rich": "faceswap_cli/cli/console.py",
    "mediapipe": "faceswap_cli/faces/detectors/mediapipe.py",
    "ai_edge_litert": "faceswap_cli/faces/detectors/litert.py",
    "av": "faceswap_cli/video/",
    "onnx": "faceswap_cli/exchange/onnx_export.py",
    "onnxruntime": "faceswap_cli/exchange/onnx_session.py",
    "ray": "faceswap_cli/parallel/ray_cluster.py",
    "c2pa": "faceswap_cli/provenance/credentials.py",
    "cryptography": "faceswap_cli/provenance/",
}
"""Libraries that one file or room alone may know."""


def find_imports(source: str, *, at_load: bool = False) -> set[str]:
    """Return every module a source text imports, dotted, with the names taken from it.

    Args:
        source: The text of a module.
        at_load: Only what is imported when the module is loaded.
    """
    found: set[str] = set()
    tree = ast.parse(source)
    for node in tree.body if at_load else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def find_violations(path: str, source: str) -> Iterator[str]:
    """Yield each import in the file at `path` (relative to the project) that the plan forbids."""
    for name in sorted(find_imports(source)):
        library = name.partition(".")[0]
        if library in ONLY_IN and not path.startswith(ONLY_IN[library]):
            yield f"{path} may not import {library}"
        if library == "pickle":
            yield f"{path} may not import pickle"
    ours = {name for name in find_imports(source) if name.startswith("faceswap_cli.")}
    inner = {name.removeprefix("faceswap_cli.") for name in ours}
    if path.startswith("models/"):
        outside = {name.partition(".")[0] for name in find_imports(source)}
        allowed = set(sys.stdlib_module_names) | {"torch", "numpy", "faceswap_models"}
        yield from (f"{path} may not import {name}" for name in sorted(outside - allowed))
        return
    here = Path(path).relative_to("faceswap_cli").with_suffix("").parts
    for name in sorted(inner):
        if not may_import(here, name.split(".")):
            yield f"{path} may not import faceswap_cli.{name}"


def may_import(here: Sequence[str], there: Sequence[str]) -> bool:
    """Whether the file at `here` may import the module `there`, both as parts of their paths."""
    if there[0] not in FLOOR_OF:  # `__version__`
        return True
    if here[0] == there[0] == "stages":
        return here[1] in COMPOSITE_STAGES
    return FLOOR_OF[there[0]] <= FLOOR_OF[here[0]]


def find_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the nodes of one circle of a directed graph, in order; none where there is none."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return trail[trail.index(node) :]
        if node in done:
            return []
        for other in sorted(graph.get(node, ())):
            if circle := visit(other, [*trail, node]):
                return circle
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node, []))), [])


def room_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which rooms each room imports, from source texts by their paths."""
    graph: dict[str, set[str]] = defaultdict(set)
    for path, source in sources.items():
        if path.startswith("faceswap_cli/"):
            room = Path(path).relative_to("faceswap_cli").with_suffix("").parts[0]
            names = {name for name in find_imports(source) if name.startswith("faceswap_cli.")}
            graph[room] |= {name.split(".")[1] for name in names} & set(FLOOR_OF) - {room}
    return graph


def module_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports when it is loaded: not inside functions."""
    modules = {
        path.removeprefix("models/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in sources
    }
    graph = {}
    for path, source in sources.items():
        name = path.removeprefix("models/").removesuffix(".py").removesuffix("/__init__")
        graph[name.replace("/", ".")] = find_imports(source, at_load=True) & modules - {
            name.replace("/", ".")
        }
    return graph


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_place_allows(path: Path) -> None:
    """Imports point downwards, and each library is known in one place."""
    relative = path.relative_to(ROOT).as_posix()
    assert list(find_violations(relative, path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("path", "source", "offence"),
    [
        ("faceswap_cli/stages/train.py", "import faceswap_cli.stages.extract", "stages.extract"),
        ("faceswap_cli/stages/train.py", "from faceswap_cli.stages import extract", "stages"),
        ("faceswap_cli/core/errors.py", "import faceswap_cli.video.reader", "video"),
        ("faceswap_cli/faces/masks.py", "from faceswap_cli.compositing import compositor", "comp"),
        ("faceswap_cli/training/dataset.py", "from faceswap_cli.stages.train import x", "stages"),
        ("faceswap_cli/training/dataset.py", "import faceswap_cli.conversion.swapper", "swapper"),
        ("faceswap_cli/conversion/swapper.py", "from faceswap_cli.stages import convert", "stages"),
        ("faceswap_cli/stages/train.py", "import rich.console", "rich"),
        ("faceswap_cli/training/dataset.py", "import pickle", "pickle"),
        ("models/faceswap_models/backends/cyclegan.py", "import cv2", "cv2"),
        ("models/faceswap_models/losses.py", "import faceswap_cli.core.errors", "faceswap_cli"),
    ],
)
def test_a_planted_import_is_found(path: str, source: str, offence: str) -> None:
    """The check itself can fail."""
    assert any(offence in found for found in find_violations(path, source))


def read_sources() -> dict[str, str]:
    """Return the text of every module by its path, relative to the project."""
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in SOURCES}


def test_rooms_import_each_other_without_circles() -> None:
    """Rooms of one floor may import each other, but only one way round."""
    assert [] == find_circle(room_graph(read_sources()))


def test_modules_import_each_other_without_circles() -> None:
    """No module needs one that needs it."""
    assert [] == find_circle(module_graph(read_sources()))


def test_a_planted_circle_is_found() -> None:
    """The check itself can fail."""
    sources = {
        "faceswap_cli/video/a.py": "from faceswap_cli.faces.b import x",
        "faceswap_cli/faces/b.py": "import faceswap_cli.video.a",
    }
    assert {"faces", "video"} == set(find_circle(room_graph(sources)))
    assert 2 == len(find_circle(module_graph(sources)))


def test_rooms_are_small() -> None:
    """A room can be taken in at a glance."""
    folders = {path.parent for path in SOURCES}
    counts = {str(one.relative_to(ROOT)): len(list(one.glob("*.py"))) for one in folders}
    assert {} == {name: count for name, count in counts.items() if count > MAX_FILES_PER_ROOM}


def test_extract_does_not_reach_torch() -> None:
    """No module that `extract` imports, directly or not, imports torch."""
    assert "torch" not in reachable_modules("faceswap_cli.stages.extract")


def reachable_modules(module: str) -> set[str]:
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
            waiting += find_imports(path.read_text(encoding="utf-8"))
    return reached
