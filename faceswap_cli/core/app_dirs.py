"""The user's folders for this program, by the platform's custom: `cache_folder`, `data_folder`."""

import os
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for downloaded model files; a temporary one for a user without a home.

    Who else can write there does not matter: a file is used if its digest is the expected one.
    """
    try:
        return _user_folder("XDG_CACHE_HOME", mac="Library/Caches", linux=".cache")
    except FileNotFoundError:
        return Path(tempfile.gettempdir()) / "faceswap-cache"


def data_folder() -> Path:
    """Return the folder for what cannot be downloaded again, such as the signing key.

    Raises:
        FileNotFoundError: The user has no home, as in a container that is run by a number.
    """
    return _user_folder("XDG_DATA_HOME", mac="Library/Application Support", linux=".local/share")


def _user_folder(variable: str, *, mac: str, linux: str) -> Path:
    """Return the program's folder below the one that an environment variable or a system names.

    Raises:
        FileNotFoundError: Neither does.
    """
    if chosen := os.environ.get(variable):
        return Path(chosen) / "faceswap"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(f"there is no home folder: set HOME or {variable}") from error
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = home / (mac if sys.platform == "darwin" else linux)
    return base / "faceswap"
