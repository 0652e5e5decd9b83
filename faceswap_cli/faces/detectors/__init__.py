"""Which face detectors there are, by name; nothing of how they work."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from faceswap_cli.faces import DEFAULT_DETECTOR as DEFAULT_DETECTOR
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.detectors.mediapipe import MediaPipeDetector
from faceswap_cli.faces.types import FaceDetector

DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"litert": LiteRTDetector, "mediapipe": MediaPipeDetector}
)
"""Name -> what makes one."""

LOCATION_DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"litert": partial(LiteRTDetector, location_only=True), "mediapipe": MediaPipeDetector}
)
"""Name -> what makes the same, who may tell no more of a face than where it is."""
