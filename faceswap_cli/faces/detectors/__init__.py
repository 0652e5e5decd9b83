"""Face detectors by name: `DETECTORS`, `LOCATION_DETECTORS`.

Other packages add theirs by entry points of the group `faceswap.detectors`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint
from types import MappingProxyType

from faceswap_cli.core.errors import translate_plugin_errors
from faceswap_cli.faces import DEFAULT_DETECTOR as DEFAULT_DETECTOR
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.types import FaceDetector
from faceswap_models import plugins
from faceswap_models.plugins import PluginError, describe_failure, find_plugins, load_plugin


def _load_detector(entry_point: EntryPoint) -> FaceDetector:
    """Return a new detector of another package.

    Raises:
        ConfigurationError: It cannot be used.
    """
    with translate_plugin_errors():
        make = load_plugin(entry_point)
        if not callable(make):
            raise PluginError(describe_failure(entry_point, "it is no function or class"))
    detector: FaceDetector = make()
    return detector


_OTHERS: Mapping[str, Callable[[], FaceDetector]] = {
    name: partial(_load_detector, entry_point)
    for name, entry_point in find_plugins(plugins.DETECTORS).items()
}
"""Detectors of other packages; each is imported when it is used."""

DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {**_OTHERS, "litert": LiteRTDetector, "mediapipe": MediaPipeDetector}
)
"""Name -> factory of the detector."""

LOCATION_DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {
        **_OTHERS,
        "litert": partial(LiteRTDetector, location_only=True),
        "mediapipe": MediaPipeDetector,
    }
)
"""The same for callers that need only box and landmarks; expression and pose may be missing."""
