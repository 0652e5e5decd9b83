"""`faceswap train`: sets of faces -> a trained run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceswap_cli.cli.console import Terminal
from faceswap_cli.cli.context import workspace_context
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
    CommonOptions,
    DeviceOption,
    MaxImagesOption,
    MaxMinutesOption,
    ModelOption,
    PresetOption,
    SeedOption,
    SettingOption,
    WorkspaceOption,
    parse_path,
)
from faceswap_cli.cli.view.next_step import after_train

if TYPE_CHECKING:
    from faceswap_cli.core.workspace import Workspace
    from faceswap_cli.stages.train_visible_face import VisibleFaceSummary

PRETRAINING_PANEL = "Pretraining"


VISIBLE_FACE = "visible-face"
"""The model that is taught by painted masks instead of by swapping."""


def train(
    set_names: Annotated[
        list[str], typer.Argument(metavar="SET", help="Names of sets of faces, one per identity.")
    ],
    *,
    model: ModelOption,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the run; default: MODEL-SET-SET."),
    ] = None,
    preset: PresetOption = None,
    overrides: SettingOption = None,
    max_images: MaxImagesOption = None,
    max_minutes: MaxMinutesOption = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Faces of each identity per step; auto doubles it while that fits and is faster.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    pretrain: Annotated[
        bool,
        typer.Option(
            "--pretrain",
            help="Train all sets as one identity, for an encoder that has seen many faces.",
            rich_help_panel=PRETRAINING_PANEL,
        ),
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from",
            metavar="RUN|FILE",
            help="Initialize with the weights of a trained run.",
            rich_help_panel=PRETRAINING_PANEL,
        ),
    ] = None,
    from_scratch: Annotated[
        bool,
        typer.Option(
            "--from-scratch",
            help="Begin with random weights, not with the preset's base.",
            rich_help_panel=PRETRAINING_PANEL,
        ),
    ] = False,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze",
            metavar="PART",
            help="Freeze a part of the model, such as encoder; repeatable.",
            rich_help_panel=PRETRAINING_PANEL,
        ),
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            "--encoder-weights",
            parser=parse_path,
            metavar="FILE",
            help="VGG19 weights of torchvision, for presets whose encoder starts with them.",
            rich_help_panel=PRETRAINING_PANEL,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try some steps, estimate time and memory, and change nothing."
        ),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    common: CommonOptions,
) -> None:
    """Train a model on the faces of two or more people.

    Run the same command again to resume. Without --max-images or --max-minutes, training stops
    when swaps of validation faces stop improving.

    Model visible-face is another thing: the small network that tells what covers a face learns
    from masks that you painted, in the folder masks of a set.

    Pretraining: train --pretrain on sets of many people, then --init-from that run on two; with
    --freeze encoder one new identity is enough.
    """
    with workspace_context(workspace, common) as (terminal, space):
        if model == VISIBLE_FACE:
            summary = train_masks(set_names, space, images=max_images, seed=seed, report=terminal)
            rows = dataclasses.asdict(summary) if common.as_json else summary.to_rows()
            terminal.print_result("taught what covers faces", rows)
            return
        from faceswap_cli.api import make_train_job
        from faceswap_cli.stages import train as stage

        job = make_train_job(
            space,
            set_names,
            model=model,
            name=name,
            preset=preset,
            overrides=overrides or [],
            max_images=max_images,
            max_minutes=max_minutes,
            batch_size=batch_size,
            device=device,
            seed=seed,
            pretrain=pretrain,
            init_from=init_from,
            from_scratch=from_scratch,
            freeze=freeze or [],
            encoder_weights=encoder_weights,
        )
        run = job.run
        if batch_size == "auto":
            job = stage.resolve_batch_size(job, report=terminal)
        if dry_run:
            estimate = stage.dry_run(job, report=terminal)
            output = dataclasses.asdict(estimate) if common.as_json else estimate.to_rows()
            terminal.print_result(f"what {run.name} would take", output)
            return
        trained = stage.train(job, report=terminal)
        output = dataclasses.asdict(trained) if common.as_json else trained.to_rows()
        terminal.print_result(f"trained {run.name}", output)
        if len(set_names) > 1 and not pretrain:
            terminal.print_next(after_train(space, run.name, set_names))


def train_masks(
    set_names: Sequence[str],
    space: "Workspace",
    *,
    images: int | None,
    seed: int,
    report: Terminal,
) -> "VisibleFaceSummary":
    """Teach the workspace what covers its faces.

    Raises:
        FaceswapError: As the stage does.
    """
    from faceswap_cli.stages.train_visible_face import train_visible_face

    folders = [space.require_set(one) for one in set_names]
    return train_visible_face(folders, space, images=images, seed=seed, report=report)
