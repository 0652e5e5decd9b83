"""Export: a trained model as a file for other programs, checked against the network."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.core.errors import ConfigurationError, did_you_mean
from faceswap_cli.core.fileio import atomic_write, check_writable, fit_name
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import RunFolder, Workspace
from faceswap_cli.exchange.model_info import ModelInfo
from faceswap_cli.exchange.onnx_export import build_graph, check_export, export_graph
from faceswap_cli.exchange.onnx_session import OnnxModel
from faceswap_cli.provenance.consent import combined_consent_digest
from faceswap_cli.training.checkpoint import load_weights

EXPORT_FORMATS = ("onnx", "dfm")
"""Values of `--to`."""
TIMED_RUNS = 5
"""Faces of which the median time is reported."""


@dataclass(frozen=True, kw_only=True)
class ExportSummary:
    """What an export wrote."""

    identity: str
    """Identity that the file swaps in."""
    format: str
    """`onnx` or `dfm`."""
    size_px: int
    """Side of the file's input and output."""
    max_difference: float
    """Largest difference between the file's output and the network's."""
    onnx_ms: float
    """Time of one face in ONNX Runtime on this CPU."""
    torch_ms: float
    """Time of one face in torch on this CPU, in the precision of `convert`."""
    output: Path


def export_model(
    weights: Path,
    *,
    to: str,
    identity: str | None,
    output: Path | None,
    workspace: Workspace,
    report: Reporter,
) -> ExportSummary:
    """Write a trained model as an `.onnx` or `.dfm` file that swaps in one identity.

    Args:
        weights: Trained weights, as `train` writes them.
        to: A name in `EXPORT_FORMATS`.
        identity: Identity to swap in; None takes the last one of the model.
        output: The file; None names it after the run and the identity, in the workspace.
        workspace: Its exports have the file if `output` is None.
        report: Receives notes.

    Raises:
        ConfigurationError: A name is unknown, or the packages for ONNX are not installed.
        InputError: The output cannot be written.
        CheckpointError: The weights cannot be used, or the file differs from the network; then
            nothing is written.
    """
    _validate_output(output, to)
    hardware = find_hardware("cpu")
    trained = load_weights(weights, hardware.device)
    settings = trained.recipe.model
    info = ModelInfo(
        identity=select_exported_identity(identity, trained.identities),
        size_px=settings.size_px,
        coverage=settings.coverage,
        origins=tuple(trained.origins),
    )
    graph = build_graph(trained.model, info, as_dfm=to == "dfm")
    content = export_graph(graph)
    difference = check_export(content, graph)
    path = output or default_export_path(workspace, weights, info.identity, to)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    if combined_consent_digest(info.origins) is None:
        report.note("no consent is recorded for the faces of this model; the file says so")
    exported = FaceModel.from_onnx(OnnxModel.open(path, device="cpu"))
    return ExportSummary(
        identity=info.identity,
        format=to,
        size_px=graph.info.size_px,
        max_difference=float(f"{difference:.2g}"),
        onnx_ms=_time_one_face(exported),
        torch_ms=_time_one_face(FaceModel.from_trained(trained, hardware)),
        output=path,
    )


def format_from_name(output: Path | None) -> str:
    """Return the format that a file's ending names, or `onnx`."""
    suffix = output.suffix.lower().removeprefix(".") if output else ""
    return suffix if suffix in EXPORT_FORMATS else EXPORT_FORMATS[0]


def _validate_output(output: Path | None, to: str) -> None:
    """Check the format and the name of the file.

    Raises:
        ConfigurationError: The format is unknown, or the name has another ending.
        InputError: A file of that name cannot be written.
    """
    if to not in EXPORT_FORMATS:
        raise ConfigurationError(
            f'--to: there is no format called "{to}"', hint=did_you_mean(to, EXPORT_FORMATS)
        )
    if output is None:
        return
    if output.suffix.lower() != f".{to}":
        raise ConfigurationError(
            f"{output.name} is no name of {'an' if to == 'onnx' else 'a'} .{to} file",
            hint=f"programs know the format by the ending: {output.stem}.{to}",
        )
    check_writable(output)


def default_export_path(workspace: Workspace, weights: Path, identity: str, to: str) -> Path:
    """Return the path of an export without a name: `exports/RUN-IDENTITY.onnx`."""
    run = RunFolder(root=weights.absolute().parent)
    stem = run.name if weights.name in (run.best.name, run.weights.name) else weights.stem
    return workspace.exports / fit_name(f"{stem}-{identity}", f".{to}")


def select_exported_identity(name: str | None, identities: tuple[str, ...]) -> str:
    """Return `name`, or the last identity of a model.

    Raises:
        ConfigurationError: The model has no identity of that name.
    """
    if name is None:
        return identities[-1]
    if name not in identities:
        raise ConfigurationError(
            f'--identity: the model has no identity called "{name}"',
            hint=did_you_mean(name, identities),
        )
    return name


def _time_one_face(model: FaceModel) -> float:
    """Return the median time of swapping one face, milliseconds."""
    crop = np.full((model.size_px, model.size_px, 3), 128, np.uint8)
    times = []
    for _ in range(TIMED_RUNS + 1):
        start = time.perf_counter()
        model.infer([crop], model.identities[-1])
        times.append(time.perf_counter() - start)
    return round(1000 * median(times[1:]), 2)  # the first one allocates memory
