"""`faceswap doctor`: check this installation."""

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    WorkspaceOption,
)

EXIT_PROBLEM = 9
"""Exit code if something must be mended before the program can be used."""


def doctor(
    *,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Check this installation: versions, device, codecs, model files, disk, signing key.

    Says what to do about each problem; changes and downloads nothing. Exit code 0: all that is
    needed is there; 9: something is not.
    """
    with command_context(common) as terminal:
        from faceswap_cli.stages.doctor import diagnose

        diagnosis = diagnose(workspace, device=device)
        for title, findings in diagnosis.sections.items():
            rows = [[one.name, one.value, one.state] for one in findings]
            terminal.print_table(title, ["", "found", ""], rows)
        if common.as_json:
            terminal.print_result("diagnosis", diagnosis.to_dict())
        terminal.print_hints([f"{one.name}: {one.hint}" for one in diagnosis.problems])
        if not diagnosis.is_usable:
            raise typer.Exit(EXIT_PROBLEM)
