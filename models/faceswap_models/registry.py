"""Which backends and presets there are: a backend is a file name, a preset is a TOML beside it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:  # naming the backends for `--help` must not wait for torch
    from faceswap_models.base import SwapModel


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A named set of values for one backend."""

    name: str
    """With the backend's name in front: `autoencoder-light`."""
    about: str
    """One line: what it is for, and where its numbers come from."""
    takes: str
    """How long until there is something to see, and on what."""
    default: bool
    """Whether it is the one taken when none is named."""
    model: Mapping[str, Any]
    """Values of the `[model]` section."""
    train: Mapping[str, Any]
    """Values of the `[train]` section."""


def names() -> list[str]:
    """Return the backends there are, without importing any."""
    folder = files("faceswap_models") / "backends"
    found = (item.name for item in folder.iterdir())
    return sorted(name[:-3] for name in found if name.endswith(".py") and name[0] != "_")


def load(name: str) -> "type[SwapModel]":
    """Import one backend's file and return its model: what the file calls `BACKEND`.

    Raises:
        KeyError: There is no such backend.
    """
    if name not in names():
        raise KeyError(name)
    return cast("type[SwapModel]", import_module(f"faceswap_models.backends.{name}").BACKEND)


def presets(backend: str) -> dict[str, Preset]:
    """Return a backend's presets by their short names (`light` for `autoencoder-light`)."""
    folder = files("faceswap_models") / "presets"
    prefix = f"{backend}-"
    found = sorted(item.name for item in folder.iterdir() if item.name.startswith(prefix))
    return {
        name.removeprefix(prefix).removesuffix(".toml"): _read(
            name.removesuffix(".toml"), (folder / name).read_text(encoding="utf-8")
        )
        for name in found
        if name.endswith(".toml")
    }


def _read(name: str, text: str) -> Preset:
    """Read one preset's TOML."""
    table = tomllib.loads(text)
    return Preset(
        name=name,
        about=table["about"],
        takes=table["takes"],
        default=table.get("default", False),
        model=table.get("model", {}),
        train=table.get("train", {}),
    )
