"""What this installation consists of, what is wrong with it, and what to do (`diagnose`)."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement

from faceswap_cli import __version__
from faceswap_cli.core.app_dirs import cache_folder, data_folder
from faceswap_cli.core.errors import FaceswapError
from faceswap_cli.core.fileio import sha256_file
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.core.model_files import MODEL_FILES, ModelFile, describe_model_file
from faceswap_cli.core.stderr import suppress_stderr
from faceswap_cli.provenance.signing_key import KEY_FILE, is_private, load_key
from faceswap_cli.video.codecs import CODECS, Encoder, ffmpeg_version, is_available
from faceswap_models import registry

PROGRAM = "faceswap-cli"
"""Name of the package."""
NEEDED_FILES = frozenset({"face_landmarker", "yunet", "sface"})
"""Model files without which faces cannot be extracted; the others are for single options."""
MIN_FREE_BYTES = 5 << 30
"""Disk space below which a training or a video may run out of it."""

State = Literal["ok", "missing", "problem"]
"""`missing` is something optional."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was checked."""

    name: str
    value: str
    """What was found."""
    state: State = "ok"
    hint: str = ""
    """What to do about it."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """All that was checked."""

    sections: Mapping[str, list[Finding]]
    """By heading."""

    @property
    def problems(self) -> list[Finding]:
        """What is not there or not right."""
        return [one for part in self.sections.values() for one in part if one.state != "ok"]

    @property
    def is_usable(self) -> bool:
        """Whether all that the program needs is there."""
        return all(one.state != "problem" for one in self.problems)

    def to_dict(self) -> dict[str, object]:
        """Return the findings by heading, for JSON."""
        sections = {title: list(map(asdict, part)) for title, part in self.sections.items()}
        return {**sections, "usable": self.is_usable}


def diagnose(workspace: Path, *, device: str = "auto") -> Diagnosis:
    """Check this installation; nothing is downloaded, created or changed.

    Args:
        workspace: Where sets, runs and videos are written, whether it exists or not.
        device: `auto`, `cpu`, `cuda` or `mps`.
    """
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _check_versions,
        "device": lambda: _check_device(device),
        "codecs": _check_codecs,
        "model files": _check_model_files,
        "folders": lambda: _check_folders(workspace),
    }
    return Diagnosis(sections={title: list(check()) for title, check in checks.items()})


def _check_versions() -> Iterator[Finding]:
    """Yield the program, Python, and each package that it needs, against the versions tested."""
    yield Finding(name="faceswap", value=__version__)
    yield Finding(name="python", value=f"{platform.python_version()} on {platform.platform()}")
    yield Finding(name="ffmpeg", value=ffmpeg_version())
    for requirement in list_requirements():
        yield _check_requirement(requirement)


def list_requirements() -> list[Requirement]:
    """Return the packages that the program needs on this machine, without its extras."""
    try:
        texts = requires(PROGRAM) or []
    except PackageNotFoundError:  # run from a folder that is not installed
        return []
    found = [Requirement(text) for text in texts]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


def _check_requirement(requirement: Requirement) -> Finding:
    """Return whether a package is installed in a version that was tested."""
    install = f'pip install "{requirement.name}{requirement.specifier}"'
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return Finding(name=requirement.name, value="-", state="problem", hint=install)
    if not requirement.specifier.contains(installed, prereleases=True):
        value = f"{installed}, tested with {requirement.specifier}"
        return Finding(name=requirement.name, value=value, state="problem", hint=install)
    return Finding(name=requirement.name, value=installed)


def _check_device(name: str) -> Iterator[Finding]:
    """Yield the device that networks are computed on."""
    try:
        hardware = find_hardware(name)
    except FaceswapError as error:
        yield Finding(name=name, value=error.message, state="problem", hint=error.hint)
        return
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    value = f"{platform.processor() or platform.machine()}, {threads}"
    if hardware.device.type == "cuda":
        properties = torch.cuda.get_device_properties(hardware.device)
        value = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    yield Finding(name=hardware.device.type, value=f"{value}, {hardware.precision}")
    if torch.version.cuda and not torch.cuda.is_available():
        yield Finding(
            name="cuda",
            value=f"torch is built for CUDA {torch.version.cuda}, and finds no GPU",
            state="missing",
            hint="if there is one, install its driver: nvidia-smi must show it",
        )


def _check_codecs() -> Iterator[Finding]:
    """Yield each codec with the encoders that work, found by encoding three frames."""
    for codec, encoders in CODECS.items():
        with suppress_stderr():  # some encoders describe themselves there
            works = [one for one in encoders if _works(one)]
        names = list(dict.fromkeys(one.name for one in works))
        if names:
            yield Finding(name=codec, value=", ".join(names))
        else:
            state: State = "problem" if codec == "h264" else "missing"
            hint = "install the wheel of PyAV, which has it: pip install --force-reinstall av"
            yield Finding(name=codec, value="no encoder", state=state, hint=hint)


def _works(encoder: Encoder) -> bool:
    """Return whether an encoder works with the first of its pixel formats."""
    return is_available(encoder.name, pixel_format=encoder.pixel_formats[0])


def _check_model_files() -> Iterator[Finding]:
    """Yield each model file with its digest, and the bases that come with the program."""
    for model_file in MODEL_FILES.values():
        yield _check_model_file(model_file)
    for backend in registry.names():
        for preset in registry.presets(backend):
            if path := registry.find_base(backend, preset):
                value = f"SHA-256 {sha256_file(path)[:16]}..., {path}"
                yield Finding(name=f"base {backend}-{preset}", value=value)


def _check_model_file(model_file: ModelFile) -> Finding:
    """Return where a model file is, or what to do to get it."""
    location = describe_model_file(model_file)
    if location.path is not None:
        value = f"SHA-256 {model_file.sha256[:16]}..., {location.path}"
        return Finding(name=model_file.name, value=value)
    value = f"damaged: {location.damaged}" if location.damaged else "not on this machine"
    state: State = "problem" if model_file.name in NEEDED_FILES else "missing"
    return Finding(name=model_file.name, value=value, state=state, hint=location.hint)


def _check_folders(workspace: Path) -> Iterator[Finding]:
    """Yield free space and permissions of the folders that are written, and the signing key."""
    for name, folder in (
        ("workspace", workspace),
        ("cache", cache_folder()),
        ("data", data_folder()),
    ):
        yield _check_folder(name, folder.absolute())
    yield _check_signing_key()


def _check_folder(name: str, folder: Path) -> Finding:
    """Return whether a folder, or the nearest one that exists, can be written and has space."""
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(existing).free
    value = f"{folder}, {free / 2**30:.1f} GiB free"
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        hint = "choose another folder with --workspace"
        if name != "workspace":
            hint = f"make it writable, or name another one in XDG_{name.upper()}_HOME"
        return Finding(name=name, value=f"{folder} cannot be written", state="problem", hint=hint)
    if free < MIN_FREE_BYTES:
        hint = f"free some space, {MIN_FREE_BYTES >> 30} GiB are enough for most clips"
        return Finding(name=name, value=value, state="missing", hint=hint)
    return Finding(name=name, value=value)


def _check_signing_key() -> Finding:
    """Return whether the signing key can be used, and whether others can read it."""
    path, name = data_folder() / KEY_FILE, "signing key"
    try:
        if path.exists() and not is_private(path):
            hint = f"chmod 600 {path}"
            return Finding(name=name, value="others can read it", state="problem", hint=hint)
        is_there = load_key() is not None
    except (FaceswapError, OSError) as error:
        hint = error.hint if isinstance(error, FaceswapError) else ""
        return Finding(name=name, value=str(error), state="problem", hint=hint)
    return Finding(name=name, value=str(path) if is_there else "created at the first conversion")
