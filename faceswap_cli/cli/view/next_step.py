"""What to type next: the last line of a summary, and where a workspace stands for the greeting."""

import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace

WORKSPACE = "workspace"
"""The default folder, which a command does not name."""


def after_extract(space: "Workspace", made: Sequence[str]) -> str:
    """Return the command after an extraction: of the other person, or the training of both.

    Args:
        space: The workspace.
        made: Names of the sets that were made.
    """
    others = [name for name in space.set_names() if name not in made]
    pair = list(made[:2]) if len(made) > 1 else [*others[:1], *made]
    if len(pair) < 2:
        return _command(space, "extract", "OTHER-PERSON.mp4")
    return _command(space, "train", "--model", "autoencoder", *pair)


def after_train(space: "Workspace", run: str, identities: Sequence[str]) -> str:
    """Return the conversion of the first identity's footage with a trained run."""
    return _command(space, "convert", _input_name(space, identities[0]), "--model", run)


def open_output(space: "Workspace", output: Path) -> str:
    """Return the command that shows an output: a video beside its original, or a page."""
    return _command(space, "open", str(output))


def next_command(space: "Workspace") -> str:
    """Return the next of the three stages in a workspace; empty if it is new, or all are done."""
    runs = space.run_names()
    sets = space.set_names()
    if not sets:
        return ""
    if not runs:
        return after_extract(space, sets[:2])
    run = space.latest_run()
    return after_train(space, run.name, sets) if not space.exports.is_dir() else ""


def _input_name(space: "Workspace", name: str) -> str:
    """Return the name of the file that a set was extracted from, or what to put in its place."""
    try:
        source = tomllib.loads(space.set_folder(name).source.read_text(encoding="utf-8"))
        found = source["input"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{name}.mp4"
    return str(found)


def _command(space: "Workspace", *words: str) -> str:
    """Return a command line, ready to copy."""
    more = () if space.root == Path(WORKSPACE) else ("--workspace", str(space.root))
    return shlex.join(["faceswap", *words, *more])
