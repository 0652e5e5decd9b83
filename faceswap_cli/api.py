"""The commands as functions: `extract`, `train`, `convert`, `evaluate`, `import_faces` and others.

Keyword arguments are those of the command line. Nothing is printed: progress and notes go to
callbacks, results are returned as frozen dataclasses, and errors are `FaceswapError`s.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from faceswap_cli.core.errors import ConfigurationError
from faceswap_cli.core.fileio import fit_name
from faceswap_cli.core.progress import CallbackReporter, Progress
from faceswap_cli.core.workspace import Workspace, use_workspace
from faceswap_cli.parallel.settings import ONE_PROCESS, ParallelSettings

if TYPE_CHECKING:
    from faceswap_cli.conversion.settings import ConvertSettings
    from faceswap_cli.evaluation.evaluation import Evaluation
    from faceswap_cli.faces.settings import ExtractSettings
    from faceswap_cli.stages.convert import BatchSummary, ConvertSummary
    from faceswap_cli.stages.export import ExportSummary
    from faceswap_cli.stages.export_faces import FacesSummary
    from faceswap_cli.stages.extract import ExtractSummary
    from faceswap_cli.stages.imports.import_faceforensics import PersonSummary
    from faceswap_cli.stages.imports.import_faces import ImportSummary
    from faceswap_cli.stages.train import TrainJob, TrainSummary

StrPath = str | Path
"""The path of a file or a folder."""
OnProgress = Callable[[Progress], None]
"""Is called when a task begins, and often while it goes on."""
OnNote = Callable[[str], None]
"""Is called with a line that the command line would show, such as where a clip is damaged."""

DEFAULT_WORKSPACE = "workspace"


def extract(
    *inputs: StrPath,
    name: str | None = None,
    consent: str | None = None,
    settings: "ExtractSettings | None" = None,
    parallel: ParallelSettings = ONE_PROCESS,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "list[ExtractSummary]":
    """Extract the faces in footage into sets of a workspace; resume if a run was interrupted.

    Args:
        *inputs: Videos, images, folders of either, or patterns.
        name: One set for all inputs; None gives each input a set named after it.
        consent: `KIND` or `KIND: NOTE`: why these faces may be used.
        settings: Which faces are extracted, and how crops are made.
        parallel: How many sets are made at a time. Processes start as new ones, so a script needs
            the usual `if __name__ == "__main__":`.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Returns:
        A summary for each set.

    Raises:
        FaceswapError: As `faceswap extract` reports it: the first failure, after the other sets.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the work so far is saved.
    """
    from faceswap_cli.faces.settings import ExtractSettings
    from faceswap_cli.stages import extract as stage

    with use_workspace(_root(workspace)) as space:
        batch = stage.extract_inputs(
            _paths(inputs),
            name=name,
            workspace=space,
            settings=settings or ExtractSettings(),
            report=CallbackReporter(on_progress=on_progress, on_note=on_note),
            consent=consent,
            parallel=parallel,
        )
    if batch.failed:
        raise next(iter(batch.failed.values()))
    return list(batch.extracted)


def train(
    *set_names: str,
    model: str,
    name: str | None = None,
    preset: str | None = None,
    overrides: Sequence[str] = (),
    max_images: int | None = None,
    max_minutes: float | None = None,
    batch_size: int | str | None = None,
    device: str = "auto",
    seed: int = 0,
    pretrain: bool = False,
    init_from: StrPath | None = None,
    from_scratch: bool = False,
    freeze: Sequence[str] = (),
    encoder_weights: StrPath | None = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "TrainSummary":
    """Train a model on the faces of two or more people; resume if a run was interrupted.

    Args:
        *set_names: Names of sets, one per identity.
        model: Name of a backend.
        name: Name of the run; None: MODEL-SET-SET.
        preset: Named settings; None takes the default.
        overrides: Texts like `train.learning_rate=1e-4`.
        max_images: Images after which training ends, over the whole run.
        max_minutes: Minutes after which training ends, over the whole run. Without either limit it
            ends when the validation error stops improving.
        batch_size: Faces of each identity per step, or `auto`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Of random numbers.
        pretrain: Train all sets as one identity.
        init_from: A run, or a file of weights, that a new run starts from.
        from_scratch: Begin with random weights, not with the preset's base.
        freeze: Parts of the model that are not trained.
        encoder_weights: VGG19 weights of torchvision, for presets that start with them.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Raises:
        FaceswapError: As `faceswap train` reports it.
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the work so far is saved.
    """
    from faceswap_cli.stages import train as stage

    report = CallbackReporter(on_progress=on_progress, on_note=on_note)
    with use_workspace(_root(workspace)) as space:
        job = make_train_job(
            space,
            set_names,
            model=model,
            name=name,
            preset=preset,
            overrides=overrides,
            max_images=max_images,
            max_minutes=max_minutes,
            batch_size=None if batch_size is None else str(batch_size),
            device=device,
            seed=seed,
            pretrain=pretrain,
            init_from=None if init_from is None else str(init_from),
            from_scratch=from_scratch,
            freeze=freeze,
            encoder_weights=None if encoder_weights is None else Path(encoder_weights),
        )
        if batch_size == "auto":
            job = stage.resolve_batch_size(job, report=report)
        return stage.train(job, report=report)


def make_train_job(
    space: Workspace,
    set_names: Sequence[str],
    *,
    model: str,
    name: str | None,
    preset: str | None,
    overrides: Sequence[str],
    max_images: int | None,
    max_minutes: float | None,
    batch_size: str | None,
    device: str,
    seed: int,
    pretrain: bool,
    init_from: str | None,
    from_scratch: bool,
    freeze: Sequence[str],
    encoder_weights: Path | None,
) -> "TrainJob":
    """Return what is trained, from the names of sets and the options of the command line.

    See `train`. A batch size of `auto` is not resolved yet.

    Raises:
        ConfigurationError: A name is unknown, or a value does not fit its setting.
        DeviceError: The device is not there.
    """
    from faceswap_cli.faces.dataset import FaceSet
    from faceswap_cli.stages import train as stage

    is_auto = batch_size == "auto"
    if batch_size and not (is_auto or (batch_size.isdecimal() and int(batch_size))):
        raise ConfigurationError(
            f'--batch-size: "{batch_size}" is neither a number above 0 nor auto',
            hint="give the faces of each identity per step, such as --batch-size 16",
        )
    if from_scratch and init_from:
        raise ConfigurationError(
            "--from-scratch and --init-from contradict each other", hint="leave one out"
        )
    options = [f"train.batch_size={batch_size}"] if batch_size and not is_auto else []
    options += [f"train.freeze={','.join(freeze)}"] if freeze else []
    run = space.run_folder(fit_name("-".join([model, *set_names])) if name is None else name)
    init = stage.InitConfig(
        encoder_weights=encoder_weights,
        init_from=space.find_weights(init_from) if init_from else None,
        from_scratch=from_scratch,
        pool_identities=pretrain,
        min_identities=1 if pretrain or freeze else 2,
    )
    return stage.TrainJob(
        recipe=stage.resolve_recipe(model, preset, [*overrides, *options], run=run, init=init),
        sets=[FaceSet.from_folder(space.require_set(one)) for one in set_names],
        run=run,
        stop_criterion=stage.StopCriterion(max_images=max_images, max_minutes=max_minutes),
        device=device,
        seed=seed,
        init=init,
    )


def convert(
    source: StrPath,
    *,
    model: StrPath = "latest",
    to: str | None = None,
    output: StrPath | None = None,
    settings: "ConvertSettings | None" = None,
    parallel: ParallelSettings = ONE_PROCESS,
    device: str = "auto",
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "ConvertSummary":
    """Swap the faces in a video, an image or a folder of images; resume if it was interrupted.

    What an earlier call finished with the same model and settings is not made again.

    Args:
        source: A video, an image or a folder of images.
        model: A run's name, a file of weights, an `.onnx` or `.dfm` file, or `latest`.
        to: Identity to swap in; None: the trained identity that is not in `source`.
        output: The output, or for a video its folder; None: the workspace's exports.
        settings: Which faces are swapped, and how they are composited and encoded.
        parallel: How many processes share a long video; see `extract`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Raises:
        ConfigurationError: `source` is several videos: see `convert_all`.
        FaceswapError: As `faceswap convert` reports it.
    """
    from faceswap_cli.video.source import find_sources

    if len(found := find_sources([Path(source)])) > 1:
        raise ConfigurationError(
            f"{source} holds {len(found)} inputs", hint="convert them with convert_all"
        )
    batch = convert_all(
        source,
        model=model,
        to=to,
        output=output,
        settings=settings,
        parallel=parallel,
        device=device,
        workspace=workspace,
        on_progress=on_progress,
        on_note=on_note,
    )
    [summary] = batch.converted.values()
    return summary


def convert_all(
    *inputs: StrPath,
    model: StrPath = "latest",
    to: str | None = None,
    output: StrPath | None = None,
    settings: "ConvertSettings | None" = None,
    parallel: ParallelSettings = ONE_PROCESS,
    device: str = "auto",
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "BatchSummary":
    """Convert several inputs; one that fails does not stop the others.

    Args:
        *inputs: Videos, images, folders of either, or patterns.
        model: As of `convert`.
        to: As of `convert`.
        output: The folder of the outputs; None: the workspace's exports.
        settings: As of `convert`.
        parallel: How many processes share the inputs; see `extract`.
        device: As of `convert`.
        workspace: As of `convert`.
        on_progress: Receives the progress of all inputs as one task.
        on_note: Receives notes.

    Raises:
        FaceswapError: Something is wrong with the model or the settings; the only input failed, or
            none can be opened.
    """
    from faceswap_cli.conversion.settings import ConvertSettings
    from faceswap_cli.stages import convert as stage

    with use_workspace(_root(workspace)) as space:
        return stage.convert_inputs(
            _paths(inputs),
            model=str(model),
            to=to,
            output=None if output is None else Path(output),
            device=device,
            report=CallbackReporter(on_progress=on_progress, on_note=on_note),
            settings=settings or ConvertSettings(),
            workspace=space,
            parallel=parallel,
        )


def evaluate(
    swapped: StrPath,
    *,
    original: StrPath,
    identity: str,
    distractors: Sequence[str] = (),
    ground_truth: StrPath | None = None,
    mask: StrPath | None = None,
    output: StrPath | None = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "Evaluation":
    """Measure a swap, and write evaluation.json and evaluation.html.

    Args:
        swapped: The swapped video.
        original: The video that it was made from.
        identity: Set of the target identity.
        distractors: Sets of other identities, which the target must be distinguished from.
        ground_truth: A video of the true swap.
        mask: A video that is white where the face was swapped; None: inside the face's outline.
        output: Folder of the results; None: beside `swapped`.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Raises:
        FaceswapError: As `faceswap evaluate` reports it.
    """
    from faceswap_cli.stages import evaluate as stage

    video = Path(swapped)
    folder = video.with_name(fit_name(video.stem, "-evaluation")) if output is None else output
    with use_workspace(_root(workspace)) as space:
        evaluation, _ = stage.evaluate_and_write(
            video,
            original=Path(original),
            identity=identity,
            distractors=distractors,
            ground_truth=None if ground_truth is None else Path(ground_truth),
            mask=None if mask is None else Path(mask),
            output=Path(folder),
            workspace=space,
            report=CallbackReporter(on_progress=on_progress, on_note=on_note),
        )
        return evaluation


def import_faces(
    path: StrPath,
    *,
    name: str | None = None,
    consent: str | None = None,
    settings: "ExtractSettings | None" = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "ImportSummary":
    """Import the faces that another program extracted, or photos of one person, as a set.

    Args:
        path: A folder of images of faces, or one image.
        name: The set; None names it after the folder.
        consent: As of `extract`.
        settings: How crops are made.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Raises:
        FaceswapError: As `faceswap import` reports it.
    """
    from faceswap_cli.faces.settings import ExtractSettings
    from faceswap_cli.stages.imports import import_faces as stage

    with use_workspace(_root(workspace)) as space:
        return stage.import_faces(
            Path(path),
            name=name,
            workspace=space,
            settings=settings or ExtractSettings(),
            report=CallbackReporter(on_progress=on_progress, on_note=on_note),
            consent=consent,
        )


def import_faceforensics(
    path: StrPath,
    *,
    method: str | None = None,
    split: str | None = None,
    consent: str | None = None,
    settings: "ExtractSettings | None" = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_progress: OnProgress | None = None,
    on_note: OnNote | None = None,
) -> "list[PersonSummary]":
    """Import the people of a FaceForensics++ data set, with masks, as a set each.

    Args:
        path: The data set's folder.
        method: Method whose masks are imported; None: Deepfakes, or else the first with masks.
        split: Only pairs of this list: `train`, `val` or `test`; None: all.
        consent: As of `extract`.
        settings: How crops are made.
        workspace: The workspace, or its folder.
        on_progress: Receives the progress.
        on_note: Receives notes.

    Raises:
        FaceswapError: As `faceswap import` reports it.
    """
    from faceswap_cli.faces.settings import ExtractSettings
    from faceswap_cli.stages.imports import import_faceforensics as stage

    with use_workspace(_root(workspace)) as space:
        return stage.import_faceforensics(
            Path(path),
            method=method,
            split=split,
            workspace=space,
            settings=settings or ExtractSettings(),
            report=CallbackReporter(on_progress=on_progress, on_note=on_note),
            consent=consent,
        )


def export_model(
    model: StrPath = "latest",
    *,
    to: str | None = None,
    identity: str | None = None,
    output: StrPath | None = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
    on_note: OnNote | None = None,
) -> "ExportSummary":
    """Export a trained model as an `.onnx` or `.dfm` file, checked against the network.

    Args:
        model: A run's name, a file of weights, or `latest`.
        to: `onnx` or `dfm`; None: as the name of `output` says, or `onnx`.
        identity: Identity to swap in; None: the last trained one.
        output: The file; None: in the workspace's exports.
        workspace: The workspace, or its folder.
        on_note: Receives notes.

    Raises:
        FaceswapError: As `faceswap export` reports it.
    """
    from faceswap_cli.stages import export as stage

    path = None if output is None else Path(output)
    with use_workspace(_root(workspace)) as space:
        return stage.export_model(
            space.find_weights(str(model)),
            to=to or stage.format_from_name(path),
            identity=identity,
            output=path,
            workspace=space,
            report=CallbackReporter(on_note=on_note),
        )


def export_faces(
    name: str,
    *,
    output: StrPath | None = None,
    workspace: Workspace | StrPath = DEFAULT_WORKSPACE,
) -> "FacesSummary":
    """Export a set of faces: images, and a line of JSON for each.

    Args:
        name: The set.
        output: The folder; None: in the workspace's exports.
        workspace: The workspace, or its folder.

    Raises:
        FaceswapError: As `faceswap export --faces` reports it.
    """
    from faceswap_cli.stages import export_faces as stage

    with use_workspace(_root(workspace)) as space:
        folder = space.require_set(name)
        target = stage.default_faces_path(space, name) if output is None else Path(output)
        return stage.export_faces(folder, output=target)


def _paths(inputs: Sequence[StrPath]) -> list[Path]:
    """Return the inputs as paths.

    Raises:
        ConfigurationError: There are none.
    """
    if not inputs:
        raise ConfigurationError("no input is given", hint='name one, such as "ada.mp4"')
    return [Path(one) for one in inputs]


def _root(workspace: Workspace | StrPath) -> Path:
    """Return the folder of a workspace."""
    return workspace.root if isinstance(workspace, Workspace) else Path(workspace)
