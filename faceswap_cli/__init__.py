"""Swap faces in video with models trained on your own footage: extract, train, convert.

The functions of `faceswap_cli.api`, and the classes that they take and return, can be imported from
here; each is loaded when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from faceswap_cli.api import convert as convert
    from faceswap_cli.api import convert_all as convert_all
    from faceswap_cli.api import evaluate as evaluate
    from faceswap_cli.api import export_faces as export_faces
    from faceswap_cli.api import export_model as export_model
    from faceswap_cli.api import extract as extract
    from faceswap_cli.api import import_faceforensics as import_faceforensics
    from faceswap_cli.api import import_faces as import_faces
    from faceswap_cli.api import train as train
    from faceswap_cli.conversion.settings import ConvertSettings as ConvertSettings
    from faceswap_cli.core.errors import FaceswapError as FaceswapError
    from faceswap_cli.core.progress import Progress as Progress
    from faceswap_cli.core.workspace import Workspace as Workspace
    from faceswap_cli.faces.settings import ExtractSettings as ExtractSettings
    from faceswap_cli.parallel.settings import ParallelSettings as ParallelSettings

__version__ = "0.1.0"

# OpenCV reads this when it is loaded, and by itself decodes four times as much from 50 kB. The same
# as `core.image_io.MAX_IMAGE_PIXELS`, which tells why before anything is decoded.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

_MODULES = {
    "convert": "api",
    "convert_all": "api",
    "evaluate": "api",
    "export_faces": "api",
    "export_model": "api",
    "extract": "api",
    "import_faceforensics": "api",
    "import_faces": "api",
    "train": "api",
    "ConvertSettings": "conversion.settings",
    "ExtractSettings": "faces.settings",
    "FaceswapError": "core.errors",
    "ParallelSettings": "parallel.settings",
    "Progress": "core.progress",
    "Workspace": "core.workspace",
}
"""Name -> the module it is in: importing all of them would take seconds for torch."""

__all__ = [
    "ConvertSettings",
    "ExtractSettings",
    "FaceswapError",
    "ParallelSettings",
    "Progress",
    "Workspace",
    "convert",
    "convert_all",
    "evaluate",
    "export_faces",
    "export_model",
    "extract",
    "import_faceforensics",
    "import_faces",
    "train",
]


def __getattr__(name: str) -> object:
    """Import a name of `__all__` when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
