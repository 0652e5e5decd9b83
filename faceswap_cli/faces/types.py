"""`Face`, what detectors find, and `FaceDetector`, what they implement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import Image, Points

NUM_LANDMARKS = 478
"""Points of MediaPipe's face mesh: 468 on the skin, then five on each iris."""

# fmt: off
BLENDSHAPE_NAMES = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft",
    "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft",
    "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft",
    "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen",
    "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight",
    "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight", "mouthRollLower",
    "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft", "mouthSmileRight",
    "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
# fmt: on
"""Names of the 52 expression coefficients in MediaPipe's order; left is the subject's left."""


def expression_error(blendshapes: npt.ArrayLike, others: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the mean absolute differences (...) of coefficients (..., 52), 0 to 1."""
    return np.asarray(np.abs(np.subtract(blendshapes, others)).mean(axis=-1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face in one image.

    Convention:
        Yaw is positive when the subject turns to image right, pitch when they nod down, roll when
        the head leans counter-clockwise as seen in the image. Turning a head that looks into the
        camera goes Rz(roll) @ Ry(yaw) @ Rx(pitch), with x to image right, y up, z to the camera.
    """

    box: npt.NDArray[np.float32]
    """float32 (4,): x0, y0, x1, y1 around the landmarks, px."""
    landmarks: Points
    """float32 (478, 2), px; may lie outside the image."""
    score: float
    """The detector's confidence, 0 to 1."""
    blendshapes: tuple[float, ...]
    """The 52 coefficients named in `BLENDSHAPE_NAMES`, 0 to 1."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll, degrees."""

    @property
    def area_px(self) -> float:
        """Area of the box, px²."""
        width, height = self.box[2:] - self.box[:2]
        return float(width * height)


class FaceDetector(Protocol):
    """A face detector; the same arguments always give the same faces.

    A detector loads its networks when its `with` block begins and works inside it. It may hold
    another detector, for faces too small for itself, say, and hand it a part of the image.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the faces in `image`, largest first.

        Those at the position of one of the faces `exclude` may be left out, which is quicker.
        """

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those of the `faces` of the frame before that are still there, largest first.

        May be quicker than `detect`, and reads only the parts of the frame that it needs.
        """

    def close(self) -> None:
        """Release the networks; harmless when repeated."""
