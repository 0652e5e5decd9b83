"""Public names use the field's words: a list of refused words, each with the word to use instead.

A public name is a module, class, function, parameter, dataclass field, attribute, constant,
setting, command line option or key of a dictionary. `public_names` reads them from the source.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("faceswap_cli", "models/faceswap_models")

REFUSED: Mapping[str, str] = {
    word: instead
    for words, instead in {
        # Data and callbacks are not people.
        "told tell tells telling": "info, header, metadata or settings",
        "hear hears heard unheard": "on_x for a callback",
        "whoever who whom whose somebody nobody everybody anybody everyone someone": (
            "identity, source, target, unassigned or all"
        ),
        "judge judges judged judging referee": "evaluator, model or metric",
        "team": "distributed, dist or rank",
        "alone": "exclusive, lock or unassigned",
        "kin": "variant or subclass",
        "vitals": "health or baseline",
        "story": "report",
        # Terms of the art, not everyday words.
        "sitting sittings": "session",
        "feed feeds": "loader",
        "chance": "probability, seed or rng",
        "drawn": "synthetic, sampled or rendered",
        "look looks looked looking": "view, features, detect or analyze",
        "shown": "visible, present or source",
        "laid lay lays": "composited",
        "beside": "passthrough or next_to",
        "begun begins": "started, initialized or pretrained",
        "wanted": "target",
        "goal": "stop_criterion or target",
        "lacked lacking lacks": "missing",
        "trouble": "failure",
        "kept": "saved, preserved or selected",
        "learnt learns": "trained, learned or predicts",
        "picture pictures": "image",
        "album film footages": "image_sequence, video or frame_source",
        "sheet sheets": "grid or preview",
        "piece pieces": "segment or part",
        "doors door": "the conversion's name, such as to_tensor",
        "board boards": "tensorboard or metric_writer",
        "critic critics": "discriminator",
        "alike": "similar",
        "likeness": "similarity or correlation",
        "flaw flaws flawed": "outlier",
        "held": "validation or smoothed",
        "stranger strangers": "other_person",
        "rehearse rehearsed rehearsal": "dry_run",
        "steadied steady": "smoothed",
        "tinted tint": "color_jitter",
        "moment": "frame, scene or timestamp",
        "advice": "hints",
        "facts": "to_rows or to_dict",
        # American spelling, as torch, OpenCV and PIL have it.
        "colour colours coloured": "color",
        "centre centres centred": "center",
        "grey greys": "gray",
        "normalise normalised normalises": "normalize",
        "initialise initialised initialises": "initialize",
        "minimise minimised optimise optimised": "minimize, optimize",
        "analyse analysed analyser": "analyze",
        "licence licences": "license",
        "neighbour neighbours": "neighbor",
        "catalogue": "registry",
        "labelled": "labeled",
        "behaviour": "behavior",
    }.items()
    for word in words.split()
}
"""Words that no public name has, each with what to use instead."""

REFUSED_FUNCTIONS: Mapping[str, str] = {"of": "from_x, open or create", "ahead": "prefetch"}
"""Words that are refused as the whole name of a function."""

OLD_NAME_TABLES = ("ALIASES", "RENAMED", "OLD_NAMES")
"""Tables whose names hold one of these map old names to new ones: they are not checked."""

EXCEPTIONS: Mapping[str, str] = {
    "collect_usage_pieces": "a method of click's Command, overridden",
    "TensorBoardWriter": "TensorBoard is a product's name",
    "TensorBoard": "TensorBoard is a product's name",
    "critics": "a module's name: the key of its tensors in weights files",
    "--colour": "an old name of an option, still accepted",
}
"""Public names that may hold a refused word, each with the reason."""

KEY_EXCEPTIONS: Mapping[str, str] = {
    "critics": "a loss in logs of earlier versions",
    "contact sheet": "the demo's contact-sheet.png: a term of photography",
    "pictures": "a key of source.toml: sets of earlier versions must stay the same source",
    "stranger": "an old name of an option's value, still accepted",
}
"""Dictionary keys that may hold a refused word, each with the reason."""


class Name(NamedTuple):
    """A public name and where it is defined."""

    path: str
    line: int
    kind: str
    name: str


def split_words(name: str) -> list[str]:
    """Return the lower-case words of an identifier, an option or a key."""
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return [part.lower() for part in parts]


def public_names(path: str, source: str, *, include_private: bool = False) -> Iterator[Name]:
    """Yield the public names that a module defines.

    Args:
        path: The module's path relative to the project.
        source: Its text.
        include_private: Also yield private and local names.
    """
    yield Name(path, 1, "module", Path(path).stem)
    tree = ast.parse(source)
    yield from _definitions(path, tree.body, include_private)
    exempt = {id(node) for table in _old_name_tables(tree) for node in ast.walk(table)}
    for node in ast.walk(tree):
        if id(node) in exempt:
            continue
        if isinstance(node, ast.Dict):
            for key in node.keys:
                text = key.value if isinstance(key, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(r"[a-z][\w /-]*", text):
                    yield Name(path, node.lineno, "key", text)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"--[a-z-]+(/--[a-z-]+)?", node.value):
                yield Name(path, node.lineno, "option", node.value)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if include_private or not node.attr.startswith("_"):
                yield Name(path, node.lineno, "attribute", node.attr)
        elif include_private and isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield Name(path, node.lineno, "variable", node.id)


def _old_name_tables(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield the assignments of tables that map old names to new ones."""
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for one in targets if isinstance(one, ast.Name)]
            if any(word in name for name in names for word in OLD_NAME_TABLES):
                yield node


def _definitions(path: str, body: Iterable[ast.stmt], include_private: bool) -> Iterator[Name]:
    """Yield the functions, classes, parameters and constants defined in a block."""

    def is_listed(name: str) -> bool:
        return include_private or not name.startswith("_") or name == "__init__"

    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and is_listed(node.name):
            yield Name(path, node.lineno, "function", node.name)
            spec = node.args
            parameters = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, spec.vararg, spec.kwarg]
            yield from (
                Name(path, one.lineno, "parameter", one.arg)
                for one in parameters
                if one and is_listed(one.arg)
            )
            if include_private:
                yield from _definitions(path, node.body, include_private)
        elif isinstance(node, ast.ClassDef) and is_listed(node.name):
            yield Name(path, node.lineno, "class", node.name)
            yield from _definitions(path, node.body, include_private)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for one in targets if isinstance(one, ast.Name)]
            yield from (Name(path, node.lineno, "constant", one) for one in names if is_listed(one))
        elif isinstance(node, ast.If):
            yield from _definitions(path, node.body, include_private)


def find_violations(path: str, source: str, *, include_private: bool = False) -> Iterator[str]:
    """Yield a line for each public name in a module that has a refused word."""
    for found in sorted(set(public_names(path, source, include_private=include_private))):
        if found.name in (KEY_EXCEPTIONS if found.kind == "key" else EXCEPTIONS):
            continue
        place = f"{path}:{found.line}: {found.kind} `{found.name}`"
        if found.kind == "function" and found.name in REFUSED_FUNCTIONS:
            yield f"{place}: instead of `{found.name}` use {REFUSED_FUNCTIONS[found.name]}"
        for word in split_words(found.name):
            if word in REFUSED:
                yield f"{place}: instead of `{word}` use {REFUSED[word]}"


def find_all_violations(root: Path, *, include_private: bool = False) -> dict[str, list[str]]:
    """Return the violations of every module by its path relative to `root`."""
    paths = sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py"))
    found = {}
    for path in paths:
        relative = path.relative_to(root).as_posix()
        source = path.read_text(encoding="utf-8")
        lines = list(find_violations(relative, source, include_private=include_private))
        if lines:
            found[relative] = lines
    return found


PLANTED = '''
"""A module with names in a private dialect."""

COLOUR_STEPS = {"held out": 1.0, "loss": 2.0}
RENAMED_KEYS = {"story": "report"}


class Sitting:
    """One."""

    kept: int
    _told: int

    @classmethod
    def of(cls, whoever: int) -> "Sitting":
        """Return one."""
        told = whoever


def draw_sheet(count: int) -> None:
    """Draw."""


def _tell() -> None:
    """Tell."""


option = "--own-picture/--no-picture"
'''


def test_planted_names_are_found() -> None:
    """The check fails on names of each kind, and names the word to use."""
    found = list(find_violations("faceswap_cli/training/feed.py", PLANTED))
    wrong = ["feed", "COLOUR_STEPS", "held out", "Sitting", "kept", "of", "whoever", "draw_sheet"]
    for name in [*wrong, "--own-picture/--no-picture"]:
        assert any(f"`{name}`: instead of" in line for line in found), name
    assert any("use loader" in line for line in found)
    assert not any(
        "_tell" in line or "told" in line or "`loss`" in line or "story" in line for line in found
    )


def test_private_names_are_found_when_asked_for() -> None:
    """Private and local names are read too, for a list of what is left."""
    found = list(find_violations("planted.py", PLANTED, include_private=True))
    assert any("function `_tell`" in line for line in found)
    assert any("variable `told`" in line for line in found)


def test_public_names_have_no_refused_words() -> None:
    """Every public name of the program and of the models passes; listed by file."""
    found = find_all_violations(ROOT)
    listing = "\n".join(f"{path}\n  " + "\n  ".join(lines) for path, lines in found.items())
    assert not found, f"names with refused words:\n{listing}"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("save_weights", ["save", "weights"]),
        ("HTMLPage", ["html", "page"]),
        ("LiteRTDetector", ["lite", "rt", "detector"]),
        ("--no-mouth", ["no", "mouth"]),
        ("VGG19_BLOCKS", ["vgg", "blocks"]),
    ],
)
def test_names_are_split_into_words(name: str, words: list[str]) -> None:
    """Snake case, camel case and options."""
    assert words == split_words(name)
