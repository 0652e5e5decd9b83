"""Write the generated pages (commands, presets, reliability): `python docs/generate.py`."""

import json
import os
import tomllib
from importlib.resources import files
from pathlib import Path
from unittest.mock import patch

import typer
from typer.core import TyperGroup

from faceswap_cli.cli.app import app
from faceswap_models import registry

DOCS = Path(__file__).parent
FAULTS = DOCS.parent / "tests/faults"
"""Has the text of the page on reliability; `figures.json`, faults tried and survived, which
`pytest tests/faults tests/security --long --figures FILE` writes; and `long_runs.json`."""
GENERATED_NOTICE = "<!-- Made by docs/generate.py: change the program, not this page. -->\n\n"


def write_pages() -> None:
    """Write all pages."""
    for name, text in render_pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def render_pages() -> dict[str, str]:
    """Return the text of each generated page by its path in docs/."""
    return {
        "reference/cli.md": render_cli_page(),
        "reference/presets.md": render_presets_page(),
        "reference/reliability.md": render_reliability_page(),
    }


def render_cli_page() -> str:
    """Return the `--help` texts of every command."""
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    top = program.make_context("faceswap", [], resilient_parsing=True)
    parts = ["# Commands\n", help_block(top)]
    for name, command in program.commands.items():
        context = command.make_context(name, [], parent=top, resilient_parsing=True)
        parts += [f"## faceswap {name}\n", help_block(context)]
    return GENERATED_NOTICE + "\n".join(parts)


def help_block(context: typer.Context) -> str:
    """Return a command's help at 100 columns as a code block."""
    with patch.dict(os.environ, COLUMNS="100"):
        return f"```text\n{context.get_help()}\n```\n"


def render_presets_page() -> str:
    """Return the page with every preset: its settings and the comments of its file."""
    parts = [
        "# Presets\n\n"
        "A preset is a named group of settings for one kind of network (a backend). Without "
        "`--preset`, the one marked `default` is used. `--model autoencoder --preset light` "
        "selects `autoencoder-light`.\n"
    ]
    for backend in registry.names():
        for preset in registry.presets(backend).values():
            source = files("faceswap_models") / "presets" / f"{preset.name}.toml"
            text = source.read_text(encoding="utf-8")
            mark = " (default)" if preset.default else ""
            parts.append(
                f"## {preset.name}{mark}\n\n{preset.description}\n\n"
                f"Takes: {preset.training_time}.\n\n```toml\n{settings_part(text)}```\n"
            )
    return GENERATED_NOTICE + "\n".join(parts)


def render_reliability_page() -> str:
    """Return the page with the promise, and how many faults of each kind were survived."""
    figures = json.loads((FAULTS / "figures.json").read_text(encoding="utf-8"))
    rows = [
        f"| {kind} | {counts['tried']:,} | {counts['survived']:,} |"
        for kind, counts in figures.items()
    ]
    tried, survived = (
        sum(counts[key] for counts in figures.values()) for key in ("tried", "survived")
    )
    long_runs = json.loads((FAULTS / "long_runs.json").read_text(encoding="utf-8"))
    memory = [
        f"| {run} | {taken['peak_mb']:,} MB | {taken['growth_mb']:.1f} MB |"
        for run, taken in long_runs.items()
    ]
    text = (FAULTS / "page.md").read_text(encoding="utf-8")
    for name, value in {
        "{total}": f"**{survived:,} of {tried:,}**",
        "{rows}": "\n".join(rows),
        "{memory}": "\n".join(memory),
    }.items():
        text = text.replace(name, value)
    return GENERATED_NOTICE + text


def settings_part(text: str) -> str:
    """Return a preset file from its first section on, with comments."""
    assert tomllib.loads(text)
    return text[text.index("[model]") :].rstrip() + "\n"


if __name__ == "__main__":
    write_pages()
