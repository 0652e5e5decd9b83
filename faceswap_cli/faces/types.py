"""What a face is, and what a face detector does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import Image, Points

if TYPE_CHECKING:
    from faceswap_cli.faces.detectors.roi import RoI

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
    """The 52 coefficients named in `EXPRESSIONS`, 0 to 1."""
    pose: tuple[float, float, float]
    """Yaw, pitch, roll, degrees."""

    @property
    def area_px(self) -> float:
        """Area of the box, px²."""
        width, height = self.box[2:] - self.box[:2]
        return float(width * height)


class FaceDetector(Protocol):
    """Anything that finds faces; the same image always gives the same faces.

    A detector loads what it needs when its `with` block begins and works inside it. One that finds
    what another misses (faces too small for it, say) can hold that other one, ask it about a part
    of the image and move the answer back: its users see no difference.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def detect(self, image: Image) -> list[Face]:
        """Return the faces in `image`, largest first."""

    def detect_rois(self, image: Image) -> Sequence["RoI"]:
        """Return where faces may be: the first half of `detect`, which takes most of its time."""

    def fit_landmarks(
        self, image: Image, rois: Sequence["RoI"], *, exclude: Sequence[Face]
    ) -> list[Face]:
        """Return the faces where some were found, largest first: the second half of `detect`.

        Those that lie where one of `exclude` does may be left out: they are known already.
        """

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those of the `faces` of the frame before that are still there, largest first.

        It depends on nothing but the arguments, and may be quicker than `detect`. Of the frame it
        looks at no more than it has to.
        """

    def close(self) -> None:
        """Let go of what the detector holds; harmless when repeated."""


def rotation_to_euler(rotation: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return yaw, pitch, roll in degrees of a rotation (3, 3) = Rz(roll) @ Ry(yaw) @ Rx(pitch).

    Convention:
        x to image right, y up, z to the camera; see `Face`.
    """
    yaw = np.arcsin(np.clip(-rotation[2, 0], -1, 1))
    pitch = np.arctan2(rotation[2, 1], rotation[2, 2])
    roll = np.arctan2(rotation[1, 0], rotation[0, 0])
    return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))
