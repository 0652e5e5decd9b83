"""`faceswap verify`: check the credentials of a file."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import CommonOptions, parse_path


def verify(
    file: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="FILE", help="Video or image.")
    ],
    *,
    common: CommonOptions,
) -> None:
    """Check whether a file is marked as a face swap, and whether it was changed since.

    Exit code 0: signed and unchanged; 7: no credentials found; 8: changed after signing.
    """
    with command_context(common) as terminal:
        from faceswap_cli.stages.verify import verify as run_verify

        verdict = run_verify(file)
        terminal.print_result(
            f"{file.name}: {verdict.summary_line}",
            verdict.to_dict() if common.as_json else verdict.to_rows(),
        )
        if verdict.exit_code:
            raise typer.Exit(verdict.exit_code)
