"""Which face detectors there are, by name; nothing of how they work."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from faceswap_cli.faces.detect import FaceDetector, MediaPipeDetector
from faceswap_cli.faces.litert import LiteRTDetector

DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"litert": LiteRTDetector, "mediapipe": MediaPipeDetector}
)
"""Name -> what makes one."""

PLACING: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"litert": partial(LiteRTDetector, places_only=True), "mediapipe": MediaPipeDetector}
)
"""Name -> what makes the same, who may tell no more of a face than where it is."""

DEFAULT = "litert"
"""The one that extract and convert use: a set and the swap into a video must agree."""
