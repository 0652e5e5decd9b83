"""Write the generated pages, docs/cli.md and docs/presets.md: `python docs/make.py`."""

import tomllib
from importlib.resources import files
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from faceswap_cli.cli.app import app
from faceswap_models import registry

DOCS = Path(__file__).parent
WARNING = "<!-- Made by docs/make.py: change the program, not this page. -->\n\n"


def main() -> None:
    """Write both pages."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Return the generated pages by file name."""
    return {"cli.md": cli_page(), "presets.md": presets_page()}


def cli_page() -> str:
    """Return every command with its options, as the program itself describes them."""
    command = typer.main.get_command(app)
    context = command.make_context("faceswap", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="faceswap", title="Commands")
    return WARNING + text.strip() + "\n"


def presets_page() -> str:
    """Return every preset with its values and the reasons its file gives for them."""
    parts = [
        "# Presets\n\n"
        "A preset is a named set of values for one kind of network; the one marked `default` is "
        "taken when none is named. `--preset light` is enough after `--model autoencoder`.\n"
    ]
    for backend in registry.names():
        for preset in registry.presets(backend).values():
            source = files("faceswap_models") / "presets" / f"{preset.name}.toml"
            text = source.read_text(encoding="utf-8")
            mark = " (default)" if preset.default else ""
            parts.append(
                f"## {preset.name}{mark}\n\n{preset.about}\n\nTakes: {preset.takes}.\n\n"
                f"```toml\n{settings_part(text)}```\n"
            )
    return WARNING + "\n".join(parts)


def settings_part(text: str) -> str:
    """Return a preset file from its first section on, comments kept."""
    assert tomllib.loads(text)
    return text[text.index("[model]") :].rstrip() + "\n"


if __name__ == "__main__":
    main()
