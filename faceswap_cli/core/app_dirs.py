"""The user's folders for this program, by the platform's custom: `cache_folder`, `data_folder`."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for downloaded model files."""
    return _user_folder("XDG_CACHE_HOME", mac="Library/Caches", linux=".cache")


def data_folder() -> Path:
    """Return the folder for what cannot be downloaded again, such as the signing key."""
    return _user_folder("XDG_DATA_HOME", mac="Library/Application Support", linux=".local/share")


def _user_folder(variable: str, *, mac: str, linux: str) -> Path:
    """Return the program's folder below the one that an environment variable or a system names."""
    home = Path.home()
    if chosen := os.environ.get(variable):
        base = Path(chosen)
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = home / (mac if sys.platform == "darwin" else linux)
    return base / "faceswap"
