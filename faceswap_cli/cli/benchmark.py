"""`faceswap benchmark`: a network on drawn people, against the true swap."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.answering import answering
from faceswap_cli.cli.options import (
    DebugOption,
    DeviceOption,
    ImagesOption,
    JsonOption,
    MinutesOption,
    ModelOption,
    PresetOption,
    QuietOption,
    SeedOption,
    SetOption,
    path,
)


def benchmark(
    model: ModelOption = "autoencoder",
    preset: PresetOption = None,
    changes: SetOption = None,
    images: ImagesOption = None,
    minutes: MinutesOption = None,
    people: Annotated[
        int, typer.Option("--people", metavar="N", min=2, help="How many people are drawn.")
    ] = 2,
    clip: Annotated[
        Path | None,
        typer.Option(
            "--self-swap",
            parser=path,
            metavar="VIDEO",
            help="Train nothing: say what the pipeline alone loses on a video swapped to itself.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            parser=path,
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
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli import config
        from faceswap_cli.stages import benchmark as stage

        recipe = config.resolve(model, preset, changes or [])
        if clip:
            from faceswap_cli.stages.selfswap import self_swap

            lost = self_swap(
                clip,
                size_px=recipe.model.size_px,
                coverage=recipe.model.coverage,
                report=terminal,
            )
            terminal.table(
                f"{clip.name} swapped to itself at {lost.network_px} px, its face {lost.face_px:g}",
                ["after", "PSNR, dB"],
                lost.rows(),
            )
            if as_json:
                terminal.result("self-swap", dataclasses.asdict(lost))
            return
        summary = stage.benchmark(
            output or Path("faceswap-benchmark"),
            recipe=recipe,
            goal=stage.Goal(images=images, minutes=minutes or (None if images else stage.MINUTES)),
            people=people,
            device=device,
            seed=seed,
            report=terminal,
        )
        for title, columns, rows in summary.tables():
            terminal.table(f"benchmark {summary.version}: {title}", columns, rows)
        if as_json:
            terminal.result("benchmark", dataclasses.asdict(summary))
        else:
            terminal.advice([f"look at it: {summary.page}"])
