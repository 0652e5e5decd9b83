"""Files of a run: checkpoints and trained models, safetensors with a checksum, written atomically.

`CheckpointWriter` writes both, `load_checkpoint` resumes, `load_weights` reads a trained model. No
pickle: an untrusted file can hold wrong numbers, but not run code.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceswap_cli.core.config import Recipe, list_model_differences
from faceswap_cli.core.errors import CheckpointError, ConfigurationError, is_memory_error
from faceswap_cli.core.fileio import (
    atomic_write,
    hard_link_or_copy,
    removed_error,
    translate_os_errors,
    write_text,
)
from faceswap_cli.core.workspace import RunFolder, SetFolder, validate_name
from faceswap_cli.provenance.consent import (
    Origin,
    origins_from_json,
    origins_to_json,
    read_origin,
)
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import Tensors, Trainer, select_exported
from faceswap_models import registry
from faceswap_models.base import SwapModel
from faceswap_models.meta import build_on_meta

if TYPE_CHECKING:  # with OpenCV, which a GPU machine that trains from decoded crops lacks
    from faceswap_cli.faces.dataset import FaceSet

FORMAT = 2
"""Version of the headers. Format 1 is read as well: see `RENAMED_SETTINGS` and `RENAMED_STATE`."""
MAX_SNAPSHOTS = 3
"""Checkpoints of a run that stay on the disk: the last ones."""
CHECKSUM_KEY = "sha256"
"""Header key of the checksum over everything else; safetensors itself has none."""
MAX_FP16 = 60_000.0
"""Weights beyond this are stored in full: float16 ends at 65,504."""
MAX_TENSORS = 20_000
"""Of one file; a checkpoint of the largest preset with two identities has 400."""
MAX_IDENTITIES = 1_000
"""Of one model."""
MAX_TRAINING_ONLY_BYTES = 1 << 30
"""Memory of the parts that a trained model's file leaves out; the largest preset's take 90 MB."""
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError)
"""What a header or tensors that fit no model raise; deeply nested JSON a `RecursionError`."""
_DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)
"""By their names in safetensors; networks have no others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedModel:
    """A trained model, ready to swap."""

    model: SwapModel
    """In evaluation mode, on its device."""
    recipe: Recipe
    """Its backend and settings."""
    identities: tuple[str, ...]
    """Names of the trained identities."""
    images_seen: int
    """Images seen in training."""
    origins: tuple[Origin, ...] = ()
    """Digests of the sets it was trained on; older files have none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A state of a run to resume from."""

    tensors: Tensors
    """Weights, averaged weights and optimizer moments."""
    recipe: Recipe
    """Backend and settings of the run."""
    identities: tuple[str, ...]
    """Names of the identities, in the order of the networks."""
    state: TrainState
    """Everything else that training changes."""
    validation_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Crops kept out of training, by identity; empty in files of format 1."""


class CheckpointWriter:
    """Writes the checkpoints and trained models of a run, in the main process.

    Training waits only while its state is copied; a thread hashes and writes the copy. A context
    manager: at its end everything is written.

    Args:
        run: Its folder.
        trainer: Its model and optimizers.
        loader: Gives the names of the validation faces.
        recipe: Backend and settings.
        origins: Digests of the sets, for the header of the trained model.
    """

    def __init__(
        self,
        run: RunFolder,
        trainer: Trainer,
        loader: FaceLoader,
        *,
        recipe: Recipe,
        origins: Sequence[Origin] = (),
    ) -> None:
        self.run = run
        self.recipe = recipe
        self.saved_images = -1
        """Images seen at the last save; -1 before the first."""
        self._trainer = trainer
        self._loader = loader
        self._origins = origins
        self._saved_at_s = time.monotonic()
        self._host_copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:  # an error on its way out says more than one of writing
            self.wait()

    @property
    def seconds_since_save(self) -> float:
        """Time since the last save, or since this session began."""
        return time.monotonic() - self._saved_at_s

    def begin(self, state: TrainState) -> None:
        """Write the recipe, and the initial checkpoint of a new run, for a rollback."""
        write_text(self.run.recipe, self.recipe.to_toml())
        if self.run.weights.exists():
            self.saved_images = state.images_seen
        if not self.run.resume.exists():
            self._submit(state, ())

    def save(self, state: TrainState, *, is_best: bool = False) -> None:
        """Write everything needed to resume, and the trained model.

        Args:
            state: Where training is.
            is_best: Whether the model did best on validation faces so far, and is kept as that.

        Raises:
            InputError: The save before this one failed.
        """
        self._submit(state, (self.run.best, self.run.weights) if is_best else (self.run.weights,))
        self.saved_images, self._saved_at_s = state.images_seen, time.monotonic()

    def keep_as_best(self) -> None:
        """Keep the model that was saved last as the best.

        Raises:
            InputError: That save failed.
        """
        self.wait()
        hard_link_or_copy(self.run.weights, self.run.best)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            InputError: The disk is full, or the folder cannot be written.
        """
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _submit(self, state: TrainState, models: Sequence[Path]) -> None:
        """Copy the state and have it written; at most one copy is in memory."""
        self.wait()
        self._host_copy.start(self._trainer.state_dict())
        self._pending = self._thread.submit(self._write, state, models)

    def _write(self, state: TrainState, models: Sequence[Path]) -> None:
        """Write the copied state: trained models first, which the checkpoint then counts."""
        tensors, model = self._host_copy.take(), self._trainer.model
        weights = select_exported(tensors, model) if models else {}
        for path in models:
            save_weights(
                path,
                weights,
                recipe=self.recipe,
                identities=model.identities,
                images_seen=state.images_seen,
                origins=self._origins,
            )
        save_checkpoint(
            self.run,
            tensors,
            recipe=self.recipe,
            identities=model.identities,
            state=state,
            validation_files={one.name: one.val_files for one in self._loader.datasets},
        )


class HostCopy:
    """A copy of tensors in the host's memory; a GPU copies while it trains on.

    The copy is queued behind the steps so far and before the next ones, into page-locked memory,
    which is used again: a copy into other memory would make the host wait.
    """

    def __init__(self) -> None:
        self._tensors: Tensors = {}
        self._locked: Tensors = {}
        self._copied: torch.cuda.Event | None = None

    def start(self, tensors: Tensors) -> None:
        """Start to copy; the tensors may change afterwards."""
        self._tensors, used = {}, {}
        for name, value in tensors.items():
            if value.device.type != "cuda":
                self._tensors[name] = value.to("cpu", copy=True)
                continue
            buffer = self._locked.get(name)
            if buffer is None or (buffer.shape, buffer.dtype) != (value.shape, value.dtype):
                buffer = torch.empty_like(value, device="cpu", pin_memory=True)
            used[name] = self._tensors[name] = buffer.copy_(value, non_blocking=True)
        self._locked = used
        if used:
            self._copied = torch.cuda.current_stream().record_event()

    def take(self) -> Tensors:
        """Wait for the copy and return it; it is valid until the next one starts."""
        if self._copied is not None:
            self._copied.synchronize()
        tensors, self._tensors = self._tensors, {}
        return tensors


def restore(trainer: Trainer, run: RunFolder) -> TrainState:
    """Return a trainer, and training, to the last checkpoint of a run that has one.

    Raises:
        InputError: It was removed.
    """
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        raise removed_error(run.resume)
    return restore_from(trainer, checkpoint, run=run)


def restore_from(trainer: Trainer, checkpoint: Checkpoint, *, run: RunFolder) -> TrainState:
    """Return a trainer, and training, to a checkpoint.

    Raises:
        CheckpointError: The networks of that name are built differently today.
    """
    try:
        trainer.load_state_dict(checkpoint.tensors)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f'the run "{run.name}" was trained by a version whose networks were built differently',
            hint="start another run with --name NEW",
        ) from error
    return checkpoint.state


def save_checkpoint(
    run: RunFolder,
    tensors: Tensors,
    *,
    recipe: Recipe,
    identities: Sequence[str],
    state: TrainState,
    validation_files: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> None:
    """Write everything needed to resume, and delete all but the last `MAX_SNAPSHOTS` such files.

    The file is written as `snapshots/<images>` first, and `resume` then becomes a hard link to it:
    so a damaged `resume` always has a predecessor.

    Args:
        run: The run.
        tensors: See `Trainer.state_dict`.
        recipe: Backend and settings.
        identities: Names, in the order of the networks.
        state: Everything else that training changes.
        validation_files: Crops kept out of training, by identity.
    """
    path = run.snapshot_path(state.images_seen)
    header = _build_metadata(recipe, identities, state.images_seen)
    header["state"] = json.dumps(state.to_dict())
    header["validation_files"] = json.dumps(dict(validation_files))
    write_safetensors(path, tensors, header)
    hard_link_or_copy(path, run.resume)
    for old in list_snapshots(run)[:-MAX_SNAPSHOTS]:
        old.unlink()


def load_checkpoint(run: RunFolder) -> Checkpoint | None:
    """Read the last checkpoint of a run; None for a run that has not started.

    Raises:
        CheckpointError: The file is damaged or missing; the hint names the last good one.
    """
    if not run.resume.exists():
        snapshots = list_snapshots(run)
        if not snapshots:
            return None
        if len(snapshots) == 1:
            return read_checkpoint(snapshots[0])  # killed before the first one was linked
        raise CheckpointError(
            f"{run.resume} is missing, but the run has started",
            hint=_last_good_hint(run, exclude=None),
        )
    try:
        return read_checkpoint(run.resume)
    except CheckpointError as error:
        raise CheckpointError(
            error.message, hint=_last_good_hint(run, exclude=run.resume)
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        CheckpointError: The file is damaged, or is not a checkpoint.
    """
    tensors, header = read_safetensors(path)
    with _translate_header_errors(path, f"{path} does not hold a checkpoint"):
        return Checkpoint(
            tensors=tensors,
            recipe=Recipe.from_dict(json.loads(header["recipe"])),
            identities=_check_identities(json.loads(header["identities"])),
            state=TrainState.from_dict(json.loads(header["state"])),
            validation_files={
                name: tuple(files)
                for name, files in json.loads(header.get("validation_files", "{}")).items()
            },
        )


def check_compatible(
    resume: Checkpoint, *, recipe: Recipe, identities: Sequence[str], run: RunFolder
) -> None:
    """Refuse to resume a run with other networks or other identities.

    Raises:
        CheckpointError: The message says what differs, the hint what to do.
    """
    changes = list_model_differences(resume.recipe, recipe)
    if changes:
        raise CheckpointError(
            f'the run "{run.name}" was trained with other networks ({"; ".join(changes)})',
            hint="keep them as they were, or start another run with --name NEW",
        )
    if set(resume.identities) != set(identities):
        raise CheckpointError(
            f'the run "{run.name}" was trained on {_join_names(resume.identities)}, '
            f"not on {_join_names(identities)}",
            hint="name the same sets, or start another run with --name NEW",
        )


def save_weights(
    path: Path,
    weights: Tensors,
    *,
    recipe: Recipe,
    identities: Sequence[str],
    images_seen: int,
    origins: Sequence[Origin] = (),
) -> None:
    """Write what `convert` needs: weights (`Trainer.export_weights`), described in the header."""
    header = _build_metadata(recipe, identities, images_seen)
    header["origins"] = origins_to_json(origins)
    model = recipe.model
    header["crop"] = json.dumps({"size_px": model.size_px, "coverage": model.coverage})
    write_safetensors(
        path,
        {name: to_fp16_if_safe(value) for name, value in weights.items()},
        header,
    )


def load_weights(path: Path, device: torch.device) -> TrainedModel:
    """Read a trained model.

    Raises:
        CheckpointError: The file is damaged, is not a trained model, or is of an unknown backend.
    """
    layout, header = read_layout(path)
    with _translate_header_errors(
        path,
        f"{path} is not a trained model that this version can read",
        hint="give the weights.safetensors of a run, its name, or the word latest",
    ):
        recipe = Recipe.from_dict(json.loads(header["recipe"]))
        identities = _check_identities(json.loads(header["identities"]))
        images_seen = int(header["images_seen"])
        build = partial(registry.load(recipe.backend), recipe.model, recipe.train, identities)
        _check_layout(build_on_meta(build), layout)  # before weights take any memory
        tensors, _ = read_safetensors(path)
        model = build()
        _load_exported(model, tensors)
    return TrainedModel(
        model=model.to(device).eval(),
        recipe=recipe,
        identities=identities,
        images_seen=images_seen,
        origins=origins_from_json(header.get("origins", "")),
    )


def read_origins(sets: "Sequence[FaceSet]") -> list[Origin]:
    """Return the origins of sets, for the header of what is trained on them."""
    folders = [SetFolder(root=faces.folder) for faces in sets]
    return [read_origin(records=one.records, source=one.source) for one in folders]


def list_snapshots(run: RunFolder) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(run.snapshots.glob("[0-9]*.safetensors"))


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors and a header, with a checksum over both."""
    stored = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {**header, CHECKSUM_KEY: compute_checksum(stored, header)}
    with (
        atomic_write(path) as temporary,
        translate_os_errors(path),
        _translate_safetensors_errors(),
    ):
        save_file(stored, temporary, metadata)


def read_safetensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read tensors and header, and verify their checksum.

    Raises:
        CheckpointError: The file is missing, incomplete, damaged, or of a newer version.
    """
    with _open_safetensors(path) as (file, header):
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if header.pop(CHECKSUM_KEY) != compute_checksum(tensors, header):
        raise CheckpointError(f"{path} is damaged: its checksum does not match")
    return tensors, header


def read_layout(path: Path) -> tuple[Tensors, dict[str, str]]:
    """Read the tensors' names, shapes and types, on the `meta` device, and the header.

    Numbers that are no arrays, such as a growth step, have their values. Nothing is verified: what
    is decided from this is decided again from what `read_safetensors` returns.

    Raises:
        CheckpointError: The file is missing, incomplete, or of a newer version.
    """
    layout = {}
    with _open_safetensors(path) as (file, header):
        for name in file.keys():  # noqa: SIM118
            part = file.get_slice(name)
            shape = part.get_shape()
            if shape:
                dtype = _DTYPES[part.get_dtype()]
                layout[name] = torch.empty(shape, dtype=dtype, device="meta")
            else:
                layout[name] = file.get_tensor(name)
    return layout, header


@contextmanager
def _open_safetensors(path: Path) -> Iterator[tuple[Any, dict[str, str]]]:
    """Yield an open file of ours, and its header; safetensors checks that sizes match the file.

    Raises:
        CheckpointError: The file is missing, incomplete, damaged, or of a newer version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
            _check_header(path, header, num_tensors=len(file.keys()))
            yield file, header
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist") from error
    except (SafetensorError, OSError, *MALFORMED) as error:
        if is_memory_error(error):
            raise MemoryError(str(error)) from error
        raise CheckpointError(f"{path} is damaged: it is not whole") from error


def _check_header(path: Path, header: Mapping[str, str], *, num_tensors: int) -> None:
    """Refuse a file of another program or a newer version."""
    if CHECKSUM_KEY not in header or not header.get("format", "").isdecimal():
        raise CheckpointError(f"{path} was not written by faceswap")
    if int(header["format"]) > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer faceswap (format {header['format']})",
            hint="update faceswap to read it",
        )
    if num_tensors > MAX_TENSORS:
        raise CheckpointError(f"{path} is damaged: it claims to hold {num_tensors:,} tensors")


def compute_checksum(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> str:
    """Return the SHA-256 of a header and of all tensors, in hexadecimal digits."""
    total = hashlib.sha256(json.dumps(dict(header), sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.flatten().view(torch.uint8).numpy().data)
    return total.hexdigest()


def _build_metadata(recipe: Recipe, identities: Sequence[str], images_seen: int) -> dict[str, str]:
    """Return the header entries that checkpoints and trained models share."""
    return {
        "format": str(FORMAT),
        "recipe": json.dumps(recipe.to_dict()),
        "identities": json.dumps(list(identities)),
        "images_seen": str(images_seen),
    }


def to_fp16_if_safe(value: Tensor) -> Tensor:
    """Return weights as float16 where they fit: half the file, without a visible difference.

    Measured on the `light` preset's outputs, 0 to 255: float16 changes them by 0.002 on average
    and 0.02 at most, bfloat16 by 0.016 and 0.14; neither changes the validation error.
    """
    fits = value.dtype == torch.float32 and bool((value.abs() <= MAX_FP16).all())
    return value.half() if fits else value


@contextmanager
def _translate_header_errors(path: Path, message: str, *, hint: str = "") -> Iterator[None]:
    """Translate what a header that cannot be used raises.

    Raises:
        CheckpointError: With the message, or that settings are unknown.
    """
    try:
        yield
    except ConfigurationError as error:
        raise CheckpointError(
            f"{path} was trained with settings that this version does not have: {error.message}",
            hint=error.hint,
        ) from error
    except MALFORMED as error:
        raise CheckpointError(message, hint=hint) from error


def _check_identities(names: Any) -> tuple[str, ...]:  # noqa: ANN401
    """Return the identities in a header, each a name that a folder can have.

    Raises:
        ValueError: They are none, too many, or not different names.
        ConfigurationError: One cannot be the name of a set.
    """
    if not isinstance(names, list) or not 0 < len(names) <= MAX_IDENTITIES:
        raise ValueError("not a list of identities")
    identities = tuple(validate_name(name) for name in names)
    if len(set(identities)) < len(identities):
        raise ValueError("an identity is listed twice")
    return identities


def _check_layout(model: SwapModel, layout: Tensors) -> None:
    """Check that a file holds what a model on the `meta` device needs.

    Raises:
        RuntimeError: Names, shapes or types differ, or the parts that the file leaves out are too
            large.
    """
    types = {name: value.is_floating_point() for name, value in model.state_dict().items()}
    for name, value in layout.items():
        if value.is_floating_point() != types.get(name, True):
            raise RuntimeError(f"{name} holds {value.dtype}")
    _load_exported(model, layout, assign=True)
    left_out = model.training_only_prefixes
    size = sum(one.nbytes for name, one in model.state_dict().items() if name.startswith(left_out))
    if size > MAX_TRAINING_ONLY_BYTES:
        raise RuntimeError(f"the parts for training alone would take {size:,} bytes")


def _load_exported(
    model: SwapModel, tensors: Mapping[str, Tensor], *, assign: bool = False
) -> None:
    """Load trained weights into a model; what only training needs stays as it was built.

    Args:
        model: The model.
        tensors: Its weights.
        assign: Take the tensors themselves, not copies of their values.

    Raises:
        RuntimeError: The weights are of other networks.
    """
    values = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    missing, unexpected = model.load_state_dict(values, strict=False, assign=assign)
    wrong = [
        name
        for name in (*missing, *unexpected)
        if not name.startswith(model.training_only_prefixes)
    ]
    if wrong:
        raise RuntimeError(f"weights of other networks: {wrong[0]}")


@contextmanager
def _translate_safetensors_errors() -> Iterator[None]:
    """Raise the operating system's error, such as a full disk, for safetensors' own of it."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _last_good_hint(run: RunFolder, *, exclude: Path | None) -> str:
    """Return a hint how to resume from the newest checkpoint that is whole."""
    for path in reversed(list_snapshots(run)):
        if exclude is not None and path.samefile(exclude):
            continue
        try:
            images = read_checkpoint(path).state.images_seen
        except CheckpointError:
            continue
        return f"the last good one has {images:,} images: copy {path} over {run.resume}"
    return f"there is no earlier one; start another run with --name NEW, or delete {run.root}"


def _join_names(names: Sequence[str]) -> str:
    """Return names in quotes, joined for a sentence."""
    return " and ".join(f'"{name}"' for name in names)


def read_recipe(path: Path, backend: str) -> Recipe | None:
    """Return the recipe of a trained model or a checkpoint; None if it is of another backend.

    Raises:
        CheckpointError: The file is neither.
    """
    recipe = read_metadata(path)["recipe"]
    with _translate_header_errors(path, f"{path} is not a trained model"):
        return Recipe.from_dict(recipe) if recipe["backend"] == backend else None


def read_run_recipe(run: RunFolder, backend: str) -> Recipe | None:
    """Return the recipe of a run's checkpoint; None without one of that backend.

    A damaged checkpoint counts as none: `load_checkpoint` refuses it and says what to do.
    """
    paths = [run.resume] if run.resume.exists() else list_snapshots(run)[-1:]
    try:
        return read_recipe(paths[0], backend) if paths else None
    except CheckpointError:
        return None


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the header of a trained model, without reading its weights.

    Raises:
        CheckpointError: The file is not a trained model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
        return {
            "recipe": json.loads(header["recipe"]),
            "identities": json.loads(header["identities"]),
            "images_seen": int(header["images_seen"]),
            "validation_files": json.loads(header.get("validation_files", "{}")),
        }
    except (SafetensorError, OSError, *MALFORMED) as error:
        raise CheckpointError(f"{path} is not a trained model") from error
