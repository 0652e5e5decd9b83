"""`faceswap pretrain`: drawn people -> weights that new people start from."""

import dataclasses
import os
from typing import Annotated

import typer

from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    MaxImagesOption,
    MaxMinutesOption,
    PresetOption,
    SeedOption,
    SettingOption,
    WorkspaceOption,
)

DEFAULT_MAX_IMAGES = 200_000
"""Images without a limit of the user's: there has to be one, over which the rate falls to 0."""


def pretrain(
    set_names: Annotated[
        list[str] | None,
        typer.Argument(metavar="SET", help="Sets of faces to learn from besides."),
    ] = None,
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the run; default: base-PRESET."),
    ] = None,
    preset: PresetOption = None,
    overrides: SettingOption = None,
    groups: Annotated[
        int,
        typer.Option(
            "--groups", metavar="N", min=2, help="Groups of four synthetic people to learn from."
        ),
    ] = 80,
    max_images: MaxImagesOption = None,
    max_minutes: MaxMinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Teach a model on synthetic people what a swap is.

    Groups of people are rendered in the same moments, so the true swap of each to each is known.
    The model learns to turn one into another; then start from it on two of your own: faceswap
    train --model autoencoder --init-from base-light A B.

    Sets of real people are reconstructed only: nobody else is known in their moments.

    Run the same command again to resume. Rendered people are kept in the workspace.
    """
    with workspace_context(workspace, common) as (terminal, space):
        from faceswap_cli.faces.dataset import FaceSet
        from faceswap_cli.stages import pretrain as stage

        if name is None:  # without a preset the recipe knows the default one
            name = f"base-{stage.resolve_pretrain_recipe(preset, overrides or []).preset}"
        run = space.run_folder(name)
        recipe = stage.resolve_pretrain_recipe(preset, overrides or [], run=run)
        if max_images is None and max_minutes is None:
            max_images = DEFAULT_MAX_IMAGES
        job = stage.PretrainJob(
            recipe=recipe,
            run=run,
            pairs_folder=space.pairs,
            groups=groups,
            stop_criterion=stage.StopCriterion(max_images=max_images, max_minutes=max_minutes),
            device=device,
            seed=seed,
            processes=os.cpu_count() or 1,
            sets=[FaceSet.from_folder(space.require_set(one)) for one in set_names or []],
        )
        summary = stage.pretrain(job, report=terminal)
        output = dataclasses.asdict(summary) if common.as_json else summary.to_rows()
        terminal.print_result(f"pretrained {job.run.name}", output)
