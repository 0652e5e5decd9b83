"""Lookup of backends, presets and bases: `names`, `load`, `presets`, `find_base`.

A backend is a module, a preset a TOML file, a base a file of weights.

Other packages add backends by entry points of the group `faceswap.backends`, with their presets
beside the backend's module.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

# Ours are the files in these packages: there is no other list.
import faceswap_models.backends as backend_folder
import faceswap_models.bases as base_folder
import faceswap_models.presets as preset_folder
from faceswap_models.plugins import (
    BACKENDS,
    PluginError,
    describe_failure,
    find_plugins,
    load_plugin,
)

if TYPE_CHECKING:  # `faceswap --help` lists the backends and must not wait for torch
    from faceswap_models.base import SwapModel


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named set of values for one backend."""

    name: str
    """Name with the backend's in front: `autoencoder-light`."""
    description: str
    """One line: its purpose and the source of its values."""
    training_time: str
    """Time until results are visible, and on which device."""
    default: bool
    """Whether it is used when none is named."""
    model: Mapping[str, Any]
    """Values of the `[model]` section."""
    train: Mapping[str, Any]
    """Values of the `[train]` section."""


def names() -> list[str]:
    """Return the names of all backends, without importing any."""
    return sorted({*_own_names(), *find_plugins(BACKENDS)})


def _own_names() -> set[str]:
    """Return the names of the backends of this package."""
    found = {module.name for module in iter_modules(backend_folder.__path__)}
    return {name for name in found if not name.startswith("_")}


def load(name: str) -> "type[SwapModel]":
    """Import a backend's module and return its model class.

    That is `BACKEND`, or what the entry point of another package names. Of one name ours counts.

    Raises:
        KeyError: The backend does not exist.
        PluginError: That of another package cannot be used.
    """
    if name in _own_names():
        return cast("type[SwapModel]", import_module(f"{backend_folder.__name__}.{name}").BACKEND)
    entry_point = find_plugins(BACKENDS)[name]
    backend = load_plugin(entry_point)
    from faceswap_models.base import SwapModel

    if not (isinstance(backend, type) and issubclass(backend, SwapModel)):
        raise PluginError(describe_failure(entry_point, "it is no subclass of SwapModel"))
    return backend


def presets(backend: str) -> dict[str, Preset]:
    """Return a backend's presets by their short names (`light` for `autoencoder-light`)."""
    # A backend's name is a module name without a hyphen, so the first hyphen ends it.
    prefix = f"{backend}-"
    folders = [Path(folder) for folder in preset_folder.__path__]
    if backend not in _own_names():
        folders = _plugin_folders(backend)
    files = (file for folder in folders for file in folder.iterdir())
    found = sorted(
        file for file in files if file.name.startswith(prefix) and file.suffix == ".toml"
    )
    return {file.stem.removeprefix(prefix): _read_preset(file) for file in found}


def find_base(backend: str, preset: str) -> Path | None:
    """Return the weights that new runs of a preset begin with; None if there are none."""
    files = [Path(folder) / f"{backend}-{preset}.safetensors" for folder in base_folder.__path__]
    return next((file for file in files if file.exists()), None)


def _plugin_folders(backend: str) -> list[Path]:
    """Return the folder of the module of another package's backend; none if it is not found."""
    try:
        spec = find_spec(find_plugins(BACKENDS)[backend].module)
    except Exception:  # another package's code; `load` says what is wrong
        return []
    return [Path(spec.origin).parent] if spec and spec.origin else []


def _read_preset(file: Path) -> Preset:
    """Read a preset from its TOML file."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return Preset(
        name=file.stem,
        description=table["description"],
        training_time=table["training_time"],
        default=table.get("default", False),
        model=table.get("model", {}),
        train=table.get("train", {}),
    )
