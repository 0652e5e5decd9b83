"""`faceswap benchmark`: a network on drawn people, against the true swap."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    DebugOption,
    DeviceOption,
    JsonOption,
    MaxImagesOption,
    MaxMinutesOption,
    ModelOption,
    PresetOption,
    QuietOption,
    SeedOption,
    SettingOption,
    parse_path,
)


def benchmark(
    model: ModelOption = "autoencoder",
    preset: PresetOption = None,
    overrides: SettingOption = None,
    max_images: MaxImagesOption = None,
    max_minutes: MaxMinutesOption = None,
    num_identities: Annotated[
        int, typer.Option("--people", metavar="N", min=2, help="How many people are drawn.")
    ] = 2,
    self_swap_video: Annotated[
        Path | None,
        typer.Option(
            "--self-swap",
            parser=parse_path,
            metavar="VIDEO",
            help="Train nothing: say what the pipeline alone loses on a video swapped to itself.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Where everything goes, if not ./faceswap-benchmark.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train on drawn people, swap them, and score every frame against the true swap.

    The drawings are always the same, so results compare over machines and years. Trains for three
    minutes unless --images or --minutes says otherwise. What was measured before stays in the
    table: run it again with another --model or --preset to compare.
    """
    with command_context(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.core import config
        from faceswap_cli.stages import benchmark as stage

        recipe = config.resolve(model, preset, overrides or [])
        if self_swap_video:
            from faceswap_cli.stages.round_trip import measure_round_trip

            lost = measure_round_trip(
                self_swap_video,
                size_px=recipe.model.size_px,
                coverage=recipe.model.coverage,
                report=terminal,
            )
            terminal.print_table(
                f"{self_swap_video.name} swapped to itself at {lost.network_px} px, its face {lost.face_px:g}",
                ["after", "PSNR, dB"],
                lost.rows(),
            )
            if as_json:
                terminal.print_result("self-swap", dataclasses.asdict(lost))
            return
        summary = stage.benchmark(
            output or Path("faceswap-benchmark"),
            recipe=recipe,
            goal=stage.StopCriterion(
                max_images=max_images,
                max_minutes=max_minutes or (None if max_images else stage.DEFAULT_MINUTES),
            ),
            num_identities=num_identities,
            device=device,
            seed=seed,
            report=terminal,
        )
        for title, columns, rows in summary.tables():
            terminal.print_table(f"benchmark {summary.version}: {title}", columns, rows)
        if as_json:
            terminal.print_result("benchmark", dataclasses.asdict(summary))
        else:
            terminal.print_hints([f"look at it: {summary.page}"])
