"""Which backends and presets there are: a backend is a file name, a preset is a TOML beside it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, cast

# What is to be found is what lies on the two packages' own search paths: nothing is listed twice.
import faceswap_models.backends as backend_folder
import faceswap_models.presets as preset_folder

if TYPE_CHECKING:  # `faceswap --help` names the backends, and must not wait for torch
    from faceswap_models.base import SwapModel


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named set of values for one backend."""

    name: str
    """With the backend's name in front: `autoencoder-light`."""
    description: str
    """One line: what it is for, and where its numbers come from."""
    training_time: str
    """How long until there is something to see, and on what."""
    default: bool
    """Whether it is the one taken when none is named."""
    default_on_gpu: bool
    """Whether it is the one taken on a GPU; where no preset is, the default is taken there too."""
    model: Mapping[str, Any]
    """Values of the `[model]` section."""
    train: Mapping[str, Any]
    """Values of the `[train]` section."""


def names() -> list[str]:
    """Return the backends there are, without importing any."""
    found = (module.name for module in iter_modules(backend_folder.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def load(name: str) -> "type[SwapModel]":
    """Import one backend's file and return its model: what the file calls `BACKEND`.

    Raises:
        KeyError: There is no such backend.
    """
    if name not in names():
        raise KeyError(name)
    return cast("type[SwapModel]", import_module(f"{backend_folder.__name__}.{name}").BACKEND)


def presets(backend: str) -> dict[str, Preset]:
    """Return a backend's presets by their short names (`light` for `autoencoder-light`)."""
    # A backend's name is a module's and has no hyphen, so the first one ends it.
    prefix = f"{backend}-"
    files = (file for folder in preset_folder.__path__ for file in Path(folder).iterdir())
    found = sorted(
        file for file in files if file.name.startswith(prefix) and file.suffix == ".toml"
    )
    return {file.stem.removeprefix(prefix): _read_preset(file) for file in found}


def _read_preset(file: Path) -> Preset:
    """Read one preset's TOML."""
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
