"""Parse what was typed, call a stage, show the result. Nothing else."""

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from faceswap_cli import __version__
from faceswap_cli.cli.console import Terminal
from faceswap_cli.errors import INTERRUPTED, ConfigurationError, FaceswapError
from faceswap_models import registry

if TYPE_CHECKING:
    from faceswap_cli.faces.record import FaceSet
    from faceswap_cli.workspace import Workspace

app = typer.Typer(
    name="faceswap",
    help="Swap faces in video with models you train on your own footage.",
    epilog="First steps: faceswap demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", metavar="DIR", help="Folder that the stages share.")
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", metavar="PATH")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where to compute.")
]
PresetOption = Annotated[
    str | None,
    typer.Option("--preset", metavar="NAME", help="Named settings; `faceswap presets` lists them."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; repeatable."),
]
ImagesOption = Annotated[
    int | None, typer.Option("--images", metavar="N", min=1, help="Train until N images are seen.")
]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", metavar="M", min=0.01, help="Train for M minutes.")
]
BatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N|auto",
        help="Faces of each person in a step; auto tries how many fit.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Makes runs repeat.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show errors only.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show where an error came from.")]

DEFAULT_WORKSPACE = Path("workspace")


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def about(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Swap faces in video with models you train on your own footage."""
    if version:
        typer.echo(f"faceswap {__version__}")
        raise typer.Exit


@app.command()
def extract(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Videos, pictures, folders of either, patterns, a FaceForensics++ data set.",
            readable=False,  # what may not be read is told by the stage, with what to do
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Put all into one set called so.")
    ] = None,
    faces: Annotated[
        str,
        typer.Option(
            "--face", metavar="largest|all|track:N|like:PHOTO", help="Which faces to keep."
        ),
    ] = "largest",
    every: Annotated[
        int, typer.Option("--every", metavar="N", min=1, help="Look at every N-th frame only.")
    ] = 1,
    fps: Annotated[
        float | None, typer.Option("--fps", metavar="F", help="Look at F frames a second at most.")
    ] = None,
    start: Annotated[
        float, typer.Option("--start", metavar="S", min=0, help="Begin S seconds into each video.")
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option("--end", metavar="S", min=0, help="End S seconds into each.")
    ] = None,
    max_faces: Annotated[
        int | None, typer.Option("--max-faces", metavar="N", min=1, help="Stop at N faces a set.")
    ] = None,
    size: Annotated[int, typer.Option("--size", metavar="PX", help="Side of the crops.")] = 256,
    framing: Annotated[
        str, typer.Option("--framing", metavar="face|head", help="How much is around the face.")
    ] = "face",
    image_format: Annotated[
        str, typer.Option("--format", metavar="png|jpeg", help="How crops are written.")
    ] = "png",
    consent: Annotated[
        str | None,
        typer.Option(
            "--consent",
            metavar="KIND[: NOTE]",
            help="Record on what ground: myself, written, synthetic or other.",
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", metavar="litert|mediapipe", help="What finds the faces.")
    ] = "litert",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find the faces in footage and keep them as aligned square crops.

    Each video, and each folder of pictures, becomes a set named after it; with --name all become
    one set. Run the same command again to go on after an interruption.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.provenance.consent import SECTION, parse_consent, reminder
        from faceswap_cli.stages import extract as stage
        from faceswap_cli.video.footage import find_footage
        from faceswap_cli.workspace import SetFolder, valid_name

        said = {} if consent is None else {SECTION: parse_consent(consent).section()}
        settings = stage.ExtractSettings(
            size_px=size,
            framing=framing,
            format=image_format,
            every=every,
            fps=fps,
            start_s=start,
            end_s=end,
            max_faces=max_faces,
            faces=faces,
            detector=detector,
        )
        names = [valid_name(name)] if name else None
        footage = find_footage(inputs)
        names = names or stage.set_names(footage)
        folders = [open_workspace(workspace).set(each) for each in names]
        if name:
            [folder] = folders
            done = [
                stage.extract(
                    footage, folder=folder, settings=settings, report=terminal, declared=said
                )
            ]
        else:
            done = stage.extract_each(
                footage, folders=folders, settings=settings, report=terminal, declared=said
            )
        if note := reminder({one.name: SetFolder(root=one.folder).source for one in done}):
            terminal.note(note)
        if len(done) == 1:
            numbers = dataclasses.asdict(done[0])
            shown = {key: value for key, value in numbers.items() if value is not None}
            terminal.result(f'set "{done[0].name}"', shown)
        else:
            terminal.table(*stage.table(done))
            if as_json:
                terminal.result("sets", {one.name: dataclasses.asdict(one) for one in done})


@app.command()
def faces(
    name: Annotated[str, typer.Argument(metavar="SET", help="Name of a face set.")],
    other: Annotated[
        str | None, typer.Argument(metavar="SET2", help="Another set, to compare with.")
    ] = None,
    drop: Annotated[
        str | None,
        typer.Option(
            "--drop",
            metavar="FLAW,...",
            help="Move crops out of SET: blurry, duplicate, cut-off, stranger.",
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring all dropped crops back.")] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a face set holds, and what one shows that another never does.

    Leaves a page with all faces, to be sorted by sharpness, pose, expression, likeness. Dropped
    crops are moved to the set's folder `rejected`, never deleted; a crop that you delete by hand
    is out of the set too.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages import faces as stage

        space = open_workspace(workspace)
        if (drop or undo) and (other or (drop and undo)):
            raise ConfigurationError(
                "--drop and --undo change one set at a time, one of them at a time",
                hint=f"faceswap faces {name} --drop blurry",
            )
        if undo:
            back = stage.undo(space.existing_set(name), report=terminal)
            terminal.note(f"{back} crops came back")
        if drop:
            flaws = [flaw.strip() for flaw in drop.split(",") if flaw.strip()]
            moved = stage.drop(space.existing_set(name), flaws, report=terminal)
            terminal.note(f"{moved} crops moved out; --undo brings them back")
        summary = stage.faces([name, *([other] if other else [])], workspace=space, report=terminal)
        if as_json:
            terminal.result("faces", dataclasses.asdict(summary))
            return
        for title, columns, rows in summary.tables():
            terminal.table(title, columns, rows)
        terminal.advice([*summary.advice(), f"look through them: {summary.page}"])


@app.command()
def train(
    people: Annotated[list[str], typer.Argument(metavar="SET...", help="Names of face sets.")],
    model: Annotated[
        str,
        typer.Option(
            "--model", metavar="NAME", help=f"Kind of network: {', '.join(registry.names())}."
        ),
    ],
    name: NameOption = None,
    preset: PresetOption = None,
    changes: SetOption = None,
    images: ImagesOption = None,
    minutes: MinutesOption = None,
    batch_size: BatchOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    pretrain: Annotated[
        bool, typer.Option("--pretrain", help="Learn all sets as one person: everybody's encoder.")
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option("--init-from", metavar="RUN|FILE", help="Begin with a trained run's weights."),
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option("--freeze", metavar="PART", help="Keep a part, such as encoder, as it is."),
    ] = None,
    encoder_weights: Annotated[
        Path | None,
        typer.Option("--encoder-weights", metavar="FILE", help="VGG19 by torchvision's names."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try some steps, say what it would take, and stop.")
    ] = False,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn the faces of two or more people.

    The run is named MODEL-SET-SET unless --name says otherwise. Run the same command again to go
    on where it stopped. Without --images or --minutes, training ends when faces kept out of it are
    no longer drawn better.

    The encoder first: --pretrain EVERYBODY, then --init-from RUN A B; with --freeze encoder one
    new person is enough.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli import config
        from faceswap_cli.stages import train as stage

        is_fitted = batch_size == "auto"
        if batch_size and not (is_fitted or (batch_size.isdecimal() and int(batch_size))):
            raise ConfigurationError(
                f'--batch-size: "{batch_size}" is neither a number above 0 nor auto',
                hint="give the faces of each person in a step, such as --batch-size 16",
            )
        typed = [f"train.batch_size={batch_size}"] if batch_size and not is_fitted else []
        typed += [f"train.freeze={','.join(freeze)}"] if freeze else []
        space = open_workspace(workspace)
        run = space.run(name or "-".join([model, *people]))
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
        sets = [load_set(space, person) for person in people]
        if is_fitted:
            recipe = stage.fit_batch_size(
                sets,
                recipe=recipe,
                run=run,
                device=device,
                seed=seed,
                report=terminal,
                beginning=beginning,
            )
        goal = stage.Goal(images=images, minutes=minutes)
        if dry_run:
            plan = stage.rehearse(
                sets,
                recipe=recipe,
                run=run,
                goal=goal,
                device=device,
                seed=seed,
                report=terminal,
                beginning=beginning,
            )
            shown = dataclasses.asdict(plan) if as_json else plan.facts()
            terminal.result(f"what {run.name} would take", shown)
            return
        summary = stage.train(
            sets,
            recipe=recipe,
            run=run,
            goal=goal,
            device=device,
            seed=seed,
            report=terminal,
            beginning=beginning,
        )
        terminal.result("trained", dataclasses.asdict(summary))


@app.command()
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="A video, a picture or a folder of pictures.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="RUN|FILE|latest", help="A trained model.")
    ] = "latest",
    to: Annotated[
        str | None, typer.Option("--to", metavar="NAME", help="Whose face; else whom it lacks.")
    ] = None,
    faces: Annotated[
        list[str] | None,
        typer.Option(
            "--face",
            metavar="CHOICE[=NAME]",
            help="Whose face is replaced: largest, all, track:N or like:PHOTO; and by whose. "
            "Repeatable: --face like:a.jpg=bo --face like:b.jpg=ada swaps two people.",
        ),
    ] = None,
    output: OutputOption = None,
    moments: Annotated[
        int | None,
        typer.Option("--preview", metavar="N", min=1, help="Only one picture of N moments."),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Only one picture that compares blends and colours.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Put the original to the left of the result.")
    ] = False,
    start: Annotated[
        float, typer.Option("--start", metavar="S", min=0, help="Begin S seconds into the video.")
    ] = 0.0,
    end: Annotated[
        float | None, typer.Option("--end", metavar="S", min=0, help="End S seconds into it.")
    ] = None,
    colour: Annotated[
        str, typer.Option("--colour", metavar="NAME", help="mkl, lab, histogram or none.")
    ] = "mkl",
    blend: Annotated[
        str, typer.Option("--blend", metavar="NAME", help="alpha, pyramid or poisson.")
    ] = "alpha",
    mask: Annotated[
        str, typer.Option("--mask", metavar="NAME", help="both, oval or learned.")
    ] = "both",
    shrink: Annotated[
        float,
        typer.Option("--shrink", metavar="F", help="Draw the mask in by a part of the face."),
    ] = 0.0,
    feather: Annotated[
        float, typer.Option("--feather", metavar="F", help="Width of its soft edge, likewise.")
    ] = 0.15,
    forehead: Annotated[
        bool, typer.Option("--forehead/--no-forehead", help="Swap what is above the brows too.")
    ] = True,
    mouth: Annotated[
        bool, typer.Option("--mouth/--own-mouth", help="Swap what shows between the lips too.")
    ] = True,
    sharpen: Annotated[
        float, typer.Option("--sharpen", metavar="F", help="Add fine detail again; 1 doubles it.")
    ] = 0.5,
    match_blur: Annotated[
        bool,
        typer.Option("--match-blur/--no-match-blur", help="Blur the face as the frame's is."),
    ] = True,
    match_grain: Annotated[
        bool,
        typer.Option("--match-grain/--no-match-grain", help="Give the face the frame's grain."),
    ] = True,
    codec: Annotated[
        str | None, typer.Option("--codec", metavar="NAME", help="h264, h265, av1, prores or ffv1.")
    ] = None,
    quality: Annotated[
        int,
        typer.Option("--quality", metavar="Q", help="0 is lossless, 18 near to it, 51 the worst."),
    ] = 18,
    hardware: Annotated[
        bool, typer.Option("--hardware/--software", help="May encode on a GPU where it can.")
    ] = True,
    label: Annotated[
        bool, typer.Option("--label", help="Write into the picture that a face was swapped.")
    ] = False,
    credentials: Annotated[
        bool,
        typer.Option("--credentials/--no-credentials", help="Say in the file that it is a swap."),
    ] = True,
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Put other faces into footage, keeping its sound, timing and everything else.

    Run the same command again to go on after an interruption.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        space = open_workspace(workspace)
        weights = space.weights(model)
        from faceswap_cli.swap.settings import ConvertSettings

        settings = ConvertSettings(
            faces=tuple(faces or ()),
            colour=colour,
            blend=blend,
            mask=mask,
            shrink=shrink,
            feather=feather,
            forehead=forehead,
            mouth=mouth,
            sharpen=sharpen,
            match_blur=match_blur,
            match_grain=match_grain,
            start_s=start,
            end_s=end,
            side_by_side=side_by_side,
            codec=codec,
            quality=quality,
            hardware=hardware,
            label=label,
            credentials=credentials,
        )
        given: dict[str, Any] = {
            "weights": weights,
            "to": to,
            "device": device,
            "report": terminal,
            "settings": settings,
            "workspace": space,
        }
        if moments or grid:
            from faceswap_cli.stages import preview as look

            what = "grid" if grid else "preview"
            picture = output or space.exports / f"{source.stem}-{what}.png"
            if grid:
                look.grid(source, output=picture, **given)
                terminal.result("compared", {"output": str(picture)})
            else:
                shown = look.preview(source, output=picture, moments=moments or 1, **given)
                terminal.result("preview", {"moments": shown, "output": str(picture)})
            return
        from faceswap_cli.stages.convert import convert as run_convert
        from faceswap_cli.swap.output import usual_name

        target = output or space.exports / usual_name(source)
        summary = run_convert(source, output=target, **given)
        terminal.result("converted", dataclasses.asdict(summary))


@app.command()
def evaluate(
    swapped: Annotated[Path, typer.Argument(metavar="SWAPPED", help="The swapped video.")],
    source: Annotated[
        Path, typer.Option("--source", metavar="ORIGINAL", help="The video it was made from.")
    ],
    identity: Annotated[
        str, typer.Option("--identity", metavar="SET", help="Faces of the wanted person.")
    ],
    others: Annotated[
        list[str] | None,
        typer.Option("--other", metavar="SET", help="Somebody else to tell apart; repeatable."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", metavar="FILE", help="The true swap, if there is one.")
    ] = None,
    output: OutputOption = None,
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say how good a swap is: who it is, how it follows, what gives it away.

    Leaves evaluation.json and evaluation.html in a folder beside SWAPPED unless --output names one.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages import evaluate as stage

        space = open_workspace(workspace)
        wanted, rest = load_set(space, identity), [load_set(space, one) for one in others or []]
        folder = output or swapped.with_name(f"{swapped.stem}-evaluation")
        stage.make_folder(folder)
        found = stage.evaluate(
            swapped, source=source, identity=wanted, others=rest, truth=truth, report=terminal
        )
        files = stage.write_evaluation(found, folder)
        columns = ["", "value", "original's own", "unit", ""]
        terminal.table(f"{swapped.name} as {identity}", columns, found.rows())
        terminal.advice(found.reasons())
        terminal.result(
            "the evaluation left", files if not as_json else {**found.numbers(), **files}
        )


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A video or a picture.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Say whether a file tells of a swapped face, and whether it was changed since.

    Exit code 0: signed, and as it was signed; 7: nothing found; 8: changed since it was signed.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages.verify import verify as run_verify

        verdict = run_verify(file)
        terminal.result(
            f"{file.name}: {verdict.headline}",
            verdict.numbers() if as_json else verdict.facts(),
        )
        if verdict.exit_code:
            raise typer.Exit(verdict.exit_code)


@app.command()
def demo(
    output: OutputOption = None,
    minutes: MinutesOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw two people, swap their faces, and compare with the true swap: no footage needed.

    Trains for three minutes unless --minutes says otherwise; leaves videos, pictures and a page in
    ./faceswap-demo unless --output does.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages.demo import MINUTES
        from faceswap_cli.stages.demo import demo as run_demo

        summary = run_demo(
            output or Path("faceswap-demo"),
            minutes=minutes or MINUTES,
            device=device,
            seed=seed,
            report=terminal,
        )
        terminal.table(
            "inside the face, against the true swap", ["", "PSNR, dB", "SSIM"], summary.rows()
        )
        terminal.result("the demo left", summary.files if not as_json else summary.numbers())
        terminal.advice(
            [
                "",
                "Now with your own clips:",
                "  faceswap extract a.mp4",
                "  faceswap extract b.mp4",
                "  faceswap train --model autoencoder a b",
                "  faceswap convert --model latest a.mp4",
            ]
        )


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Two runs or more.")],
    device: DeviceOption = "auto",
    workspace: WorkspaceOption = DEFAULT_WORKSPACE,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Lay runs beside each other: settings, curves, scores, and the same faces swapped by each.

    Leaves one page in the workspace. The faces are those kept out of training.
    """
    with answering(as_json=as_json, quiet=quiet, debug=debug) as terminal:
        from faceswap_cli.stages.compare import compare as run_compare

        summary = run_compare(
            runs, workspace=open_workspace(workspace), device=device, report=terminal
        )
        for title, columns, rows in summary.tables():
            terminal.table(title, columns, rows)
        if as_json:
            terminal.result("comparison", dataclasses.asdict(summary))
        else:
            terminal.advice([f"look at it: {summary.page}"])


@app.command()
def benchmark(
    model: Annotated[
        str, typer.Option("--model", metavar="|".join(registry.names()), help="Kind of network.")
    ] = "autoencoder",
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
            metavar="VIDEO",
            help="Only say what the pipeline itself loses on this video, swapped to itself.",
        ),
    ] = None,
    output: OutputOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train on drawn people, swap them, and score every frame against the true swap.

    The drawings are always the same, so results compare over machines and years. Trains for three
    minutes unless told otherwise. What was measured before stays in the table: run it again with
    another --model or --preset to compare. Everything goes to ./faceswap-benchmark or --output.
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
        title = f"benchmark {summary.version}"
        terminal.table(
            f"{title}: against the true swap, and on its own",
            stage.COLUMNS,
            [row.cells() for row in summary.rows],
        )
        terminal.table(
            f"{title}: by trial", stage.TRIAL_COLUMNS, [row.trial_cells() for row in summary.rows]
        )
        if as_json:
            terminal.result("benchmark", dataclasses.asdict(summary))
        else:
            terminal.advice([f"look at it: {summary.page}"])


@app.command()
def presets(as_json: JsonOption = False) -> None:
    """List the kinds of network and their named settings."""
    with answering(as_json=as_json) as terminal:
        found = [item for name in registry.names() for item in registry.presets(name).values()]
        terminal.table(
            "presets",
            ["preset", "what it is for", "how long it takes"],
            [[item.name + " *" * item.default, item.about, item.takes] for item in found],
        )
        if as_json:
            terminal.result("presets", {item.name: item.about for item in found})
        else:
            terminal.advice(["* taken when no --preset is given"])


@contextmanager
def answering(
    *, as_json: bool = False, quiet: bool = False, debug: bool = False
) -> Iterator[Terminal]:
    """Show a stage's work, and turn what goes wrong into one clear line and an exit code."""
    # Of several processes started together by torchrun, the first one speaks.
    follows = os.environ.get("RANK", "0") != "0"
    with Terminal(quiet=quiet or follows, as_json=as_json and not follows) as terminal:
        try:
            yield terminal
        except FaceswapError as error:
            if debug:
                raise
            terminal.error(error)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as stop:
            terminal.interrupted()
            raise typer.Exit(INTERRUPTED) from stop


def open_workspace(root: Path) -> "Workspace":
    """Open or make the workspace at `root`."""
    from faceswap_cli.workspace import Workspace

    return Workspace.open(root)


def load_set(space: "Workspace", name: str) -> "FaceSet":
    """Load the face set called `name`."""
    from faceswap_cli.faces.record import FaceSet

    folder = space.existing_set(name)
    return FaceSet.load(name, folder=folder.root, records=folder.records)
