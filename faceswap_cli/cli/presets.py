"""`faceswap presets`: the kinds of network and their named settings."""

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import JsonOption
from faceswap_models import registry


def presets(as_json: JsonOption = False) -> None:
    """List the kinds of network and their named settings."""
    with command_context(as_json=as_json) as terminal:
        found = [item for name in registry.names() for item in registry.presets(name).values()]
        terminal.print_table(
            "presets",
            ["preset", "what it is for", "how long it takes"],
            [
                [item.name + " *" * item.default, item.description, item.training_time]
                for item in found
            ],
        )
        if as_json:
            terminal.print_result("presets", {item.name: item.description for item in found})
        else:
            terminal.print_hints(["* taken when no --preset is given"])
