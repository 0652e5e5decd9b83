"""`faceswap presets`: the kinds of network and their named settings."""

from faceswap_cli.cli.answering import answering
from faceswap_cli.cli.options import JsonOption
from faceswap_models import registry


def presets(as_json: JsonOption = False) -> None:
    """List the kinds of network and their named settings."""
    with answering(as_json=as_json) as terminal:
        found = [item for name in registry.names() for item in registry.presets(name).values()]
        terminal.table(
            "presets",
            ["preset", "what it is for", "how long it takes"],
            [[item.name + " *" * item.default, item.about, item.takes] for item in found],
        )
        if as_json:
            terminal.result("presets", {item.name: item.about for item in found})
        else:
            terminal.advice(["* taken when no --preset is given"])
