"""`faceswap presets`: the models and their named settings."""

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import CommonOptions
from faceswap_models import registry


def presets(common: CommonOptions) -> None:
    """List the models and their presets."""
    with command_context(common) as terminal:
        listed = [item for name in registry.names() for item in registry.presets(name).values()]
        terminal.print_table(
            "presets",
            ["preset", "purpose", "training time"],
            [
                [item.name + " *" * item.default, item.description, item.training_time]
                for item in listed
            ],
        )
        if common.as_json:
            terminal.print_result("presets", {item.name: item.description for item in listed})
        else:
            terminal.print_hints(["* default of its model"])
