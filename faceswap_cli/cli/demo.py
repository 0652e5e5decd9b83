"""`faceswap demo`: the whole path on drawn people."""

from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    DebugOption,
    DeviceOption,
    JsonOption,
    MaxMinutesOption,
    QuietOption,
    SeedOption,
    parse_path,
)


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Where everything goes, if not ./faceswap-demo.",
        ),
    ] = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw two people, swap their faces, and compare with the true swap: no footage needed.

    Trains for three minutes unless --minutes says otherwise; leaves videos, pictures and a page.
    """
    with command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages.demo import DEFAULT_MINUTES
        from faceswap_cli.stages.demo import demo as run_demo

        summary = run_demo(
            output or Path("faceswap-demo"),
            minutes=max_minutes or DEFAULT_MINUTES,
            device=device,
            seed=seed,
            report=terminal,
        )
        terminal.print_table(
            "inside the face, against the true swap", ["", "PSNR, dB", "SSIM"], summary.rows()
        )
        terminal.print_result("the demo left", summary.files if not as_json else summary.to_dict())
        terminal.print_hints(
            [
                "",
                "Now with your own clips:",
                "  faceswap extract a.mp4",
                "  faceswap extract b.mp4",
                "  faceswap train --model autoencoder a b",
                "  faceswap convert --model latest a.mp4",
            ]
        )
