"""Face detectors by name: `DETECTORS`, `LOCATION_DETECTORS`."""

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
"""Name -> factory of the detector."""

LOCATION_DETECTORS: Mapping[str, Callable[[], FaceDetector]] = MappingProxyType(
    {"litert": partial(LiteRTDetector, location_only=True), "mediapipe": MediaPipeDetector}
)
"""The same for callers that need only box and landmarks; expression and pose may be missing."""
