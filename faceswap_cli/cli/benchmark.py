"""`faceswap benchmark`: a model trained on synthetic people, against the true swap."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.context import command_context
from faceswap_cli.cli.options import (
    CommonOptions,
    DeviceOption,
    MaxImagesOption,
    MaxMinutesOption,
    ModelOption,
    PresetOption,
    SeedOption,
    SettingOption,
    parse_path,
)


def benchmark(
    *,
    model: ModelOption = "autoencoder",
    preset: PresetOption = None,
    overrides: SettingOption = None,
    max_images: MaxImagesOption = None,
    max_minutes: MaxMinutesOption = None,
    num_identities: Annotated[
        int, typer.Option("--identities", metavar="N", min=2, help="Number of synthetic people.")
    ] = 2,
    self_swap_video: Annotated[
        Path | None,
        typer.Option(
            "--self-swap",
            parser=parse_path,
            metavar="VIDEO",
            help="Train nothing; measure what the pipeline loses on VIDEO swapped to itself.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=parse_path,
            metavar="DIR",
            help="Folder of the results; default: ./faceswap-benchmark.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    common: CommonOptions,
) -> None:
    """Train on synthetic people, swap them, and score every frame against the true swap.

    The footage is always the same; the default limit of three minutes depends on the machine, so
    give --max-images to compare machines. Earlier results stay in the table: run it again with
    another --model or --preset to compare.
    """
    with command_context(common) as terminal:
        from faceswap_cli.core import config
        from faceswap_cli.stages import benchmark as stage

        recipe = config.resolve(model, preset, overrides or [])
        if self_swap_video:
            from faceswap_cli.evaluation.round_trip import measure_round_trip

            lost = measure_round_trip(
                self_swap_video,
                size_px=recipe.model.size_px,
                coverage=recipe.model.coverage,
                report=terminal,
            )
            terminal.print_table(
                f"{self_swap_video.name} swapped to itself at {lost.network_px} px, "
                f"its face {lost.face_px:g}",
                ["after", "PSNR, dB"],
                lost.rows(),
            )
            if common.as_json:
                terminal.print_result("self-swap", dataclasses.asdict(lost))
            return
        summary = stage.benchmark(
            output or Path("faceswap-benchmark"),
            recipe=recipe,
            stop_criterion=stage.StopCriterion(
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
        if common.as_json:
            terminal.print_result("benchmark", dataclasses.asdict(summary))
        else:
            terminal.print_hints([f"report: {summary.page}"])
