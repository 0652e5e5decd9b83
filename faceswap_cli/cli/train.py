"""`faceswap train`: sets of faces -> a trained run."""

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from faceswap_cli.cli.answering import answering, working_in
from faceswap_cli.cli.options import (
    DEFAULT_WORKSPACE,
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
    WorkspaceOption,
    path,
)
from faceswap_cli.errors import ConfigurationError

ENCODER = "The encoder first"


def train(
    people: Annotated[
        list[str], typer.Argument(metavar="SET", help="Names of sets of faces, one a person.")
    ],
    model: ModelOption,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the run, if not MODEL-SET-SET."),
    ] = None,
    preset: PresetOption = None,
    changes: SetOption = None,
    images: ImagesOption = None,
    minutes: MinutesOption = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Faces of each person in a step; auto tries how many fit.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    pretrain: Annotated[
        bool,
        typer.Option(
            "--pretrain",
            help="Learn all sets as one person, for an encoder that knows many faces.",
            rich_help_panel=ENCODER,
        ),
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--init-from",
            metavar="RUN|FILE",
            help="Begin with a trained run's weights.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze",
            metavar="PART",
            help="Keep a part, such as encoder, as it is; repeatable.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option(
            "--encoder-weights",
            parser=path,
            metavar="FILE",
            help="VGG19's weights, as torchvision names them, for presets that begin with them.",
            rich_help_panel=ENCODER,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Try some steps, say what training would take, and change nothing."
        ),
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn the faces of two or more people.

    Run the same command again to go on where it stopped. Without --images or --minutes, training
    ends when faces kept out of it are no longer drawn better.

    The encoder first: train --pretrain on a set of many people, then --init-from that run on two;
    with --freeze encoder one new person is enough.
    """
    with (
        answering(as_json=as_json, quiet=quiet, debug=debug) as terminal,
        working_in(workspace) as space,
    ):
        from faceswap_cli import config
        from faceswap_cli.faces.record import FaceSet
        from faceswap_cli.stages import train as stage

        is_fitted = batch_size == "auto"
        if batch_size and not (is_fitted or (batch_size.isdecimal() and int(batch_size))):
            raise ConfigurationError(
                f'--batch-size: "{batch_size}" is neither a number above 0 nor auto',
                hint="give the faces of each person in a step, such as --batch-size 16",
            )
        typed = [f"train.batch_size={batch_size}"] if batch_size and not is_fitted else []
        typed += [f"train.freeze={','.join(freeze)}"] if freeze else []
        run = space.run("-".join([model, *people]) if name is None else name)
        beginning = stage.Beginning(
            encoder_weights=encoder_weights,
            trained=space.weights(init_from) if init_from else None,
            pools=pretrain,
            least_people=1 if pretrain or freeze else 2,
        )
        recipe = config.resolve(
            model,
            preset or stage.begun_preset(model, run=run, beginning=beginning),
            [*(changes or []), *typed],
            on_gpu=stage.has_gpu(device),
        )
        sets = [FaceSet.of(space.existing_set(person)) for person in people]
        training = stage.Training(
            sets=sets,
            recipe=recipe,
            run=run,
            goal=stage.Goal(images=images, minutes=minutes),
            device=device,
            seed=seed,
            beginning=beginning,
        )
        if is_fitted:
            training = stage.fit_batch_size(training, report=terminal)
        if dry_run:
            plan = stage.rehearse(training, report=terminal)
            shown = dataclasses.asdict(plan) if as_json else plan.facts()
            terminal.result(f"what {run.name} would take", shown)
            return
        summary = stage.train(training, report=terminal)
        shown = dataclasses.asdict(summary) if as_json else summary.facts()
        terminal.result(f"trained {run.name}", shown)
