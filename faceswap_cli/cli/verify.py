"""`faceswap verify`: what a file says of itself."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import DebugOption, JsonOption, QuietOption, parse_path


def verify(
    file: Annotated[
        Path, typer.Argument(parser=parse_path, metavar="FILE", help="The video or picture.")
    ],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say whether a file tells of a swapped face, and whether it was changed since.

    Exit code 0: signed, and as it was signed; 7: nothing found; 8: changed since it was signed.
    """
    with command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages.verify import verify as run_verify

        verdict = run_verify(file)
        terminal.print_result(
            f"{file.name}: {verdict.summary_line}",
            verdict.to_dict() if as_json else verdict.to_table(),
        )
        if verdict.exit_code:
            raise typer.Exit(verdict.exit_code)
