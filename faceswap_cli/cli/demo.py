"""`faceswap demo`: extract, train and convert on synthetic people."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    CommonOptions,
    DeviceOption,
    MaxImagesOption,
    MaxMinutesOption,
    SeedOption,
    parse_path,
)


def demo(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Folder of the results; default: ./faceswap-demo.",
        ),
    ] = None,
    max_images: MaxImagesOption = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    common: CommonOptions,
) -> None:
    """Render two synthetic people, swap their faces, and compare with the true swap.

    Needs no footage. Trains for three minutes unless --max-images or --max-minutes is given; writes
    videos, images and a page.
    """
    with command_context(common) as terminal:
        from faceswap_cli.stages import demo as stage

        summary = stage.demo(
            output or Path("faceswap-demo"),
            stop_criterion=stage.StopCriterion(
                max_images=max_images,
                max_minutes=max_minutes or (None if max_images else stage.DEFAULT_MINUTES),
            ),
            device=device,
            seed=seed,
            report=terminal,
        )
        terminal.print_table(
            "inside the face, against the true swap", ["", "PSNR, dB", "SSIM"], summary.rows()
        )
        terminal.print_result(
            "results of the demo", summary.files if not common.as_json else summary.to_dict()
        )
        terminal.print_hints(
            [
                "",
                f"Look at it:  {shlex.join(['faceswap', 'open', str(summary.folder)])}",
                "Now with your own clips:",
                "  faceswap extract a.mp4",
                "  faceswap extract b.mp4",
                "  faceswap train --model autoencoder a b",
                "  faceswap convert --model latest a.mp4",
            ]
        )
