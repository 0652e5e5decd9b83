"""Lookup of backends, presets and bases: `names`, `load`, `presets`, `find_base`.

A backend is a module, a preset a TOML file, a base a file of weights.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

# Backends, presets and bases are the files in these packages: there is no other list.
import faceswap_models.backends as backend_folder
import faceswap_models.bases as base_folder
import faceswap_models.presets as preset_folder

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
    default_on_gpu: bool
    """Whether it is used on a GPU when none is named; a backend without such a preset uses its
    default there too."""
    model: Mapping[str, Any]
    """Values of the `[model]` section."""
    train: Mapping[str, Any]
    """Values of the `[train]` section."""


def names() -> list[str]:
    """Return the names of all backends, without importing any."""
    found = (module.name for module in iter_modules(backend_folder.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str) -> "type[SwapModel]":
    """Import a backend's module and return its model class, `BACKEND`.

    Raises:
        KeyError: The backend does not exist.
    """
    if name not in names():
        raise KeyError(name)
    return cast("type[SwapModel]", import_module(f"{backend_folder.__name__}.{name}").BACKEND)


def presets(backend: str) -> dict[str, Preset]:
    """Return a backend's presets by their short names (`light` for `autoencoder-light`)."""
    # A backend's name is a module name without a hyphen, so the first hyphen ends it.
    prefix = f"{backend}-"
    files = (file for folder in preset_folder.__path__ for file in Path(folder).iterdir())
    found = sorted(
        file for file in files if file.name.startswith(prefix) and file.suffix == ".toml"
    )
    return {file.stem.removeprefix(prefix): _read_preset(file) for file in found}


def find_base(backend: str, preset: str) -> Path | None:
    """Return the weights that new runs of a preset begin with; None if there are none."""
    files = [Path(folder) / f"{backend}-{preset}.safetensors" for folder in base_folder.__path__]
    return next((file for file in files if file.exists()), None)


def _read_preset(file: Path) -> Preset:
    """Read a preset from its TOML file."""
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    return Preset(
        name=file.stem,
        description=table["description"],
        training_time=table["training_time"],
        default=table.get("default", False),
        default_on_gpu=table.get("default_on_gpu", False),
        model=table.get("model", {}),
        train=table.get("train", {}),
    )
