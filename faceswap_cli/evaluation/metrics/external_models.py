"""Networks that judge and were never trained for: who it is, how the head is turned, how alike.

Their files come with packages that are not needed to make a swap, so each may be missing: opening
one says why.
"""

import importlib
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import Image, Points

Array = npt.NDArray[np.float64]

INSTALL_HINT = 'pip install "faceswap-cli[quality]"'
"""What installs dlib and its network."""


class DlibIdentity:
    """dlib's ResNet tells people apart: a face -> a direction that belongs to its person.

    D. King, "High quality face recognition with deep metric learning", dlib.net, 2017: trained
    with a metric loss on three million faces of other collections than SFace's.
    """

    ALIGNMENT_LANDMARKS = (263, 362, 33, 133, 2)
    """Landmarks at the five points dlib aligns by: the eyes' corners, the nose's base."""

    def __init__(self, network: Any, dlib: Any) -> None:  # noqa: ANN401 - dlib has no types
        self._network = network
        self._dlib = dlib

    @classmethod
    def open(cls) -> Self:
        """Load it.

        Raises:
            InputError: dlib or its network is not installed.
        """
        try:
            dlib: Any = importlib.import_module("dlib")
        except ImportError as error:
            raise InputError("dlib is not installed", hint=INSTALL_HINT) from error
        model = _find_model("dlib_identity", INSTALL_HINT)
        return cls(dlib.face_recognition_model_v1(str(model)), dlib)

    def embed(self, image: Image, landmarks: Points) -> Array:
        """Return the direction (128,) of the face whose landmarks (478, 2) px are given."""
        points = [
            self._dlib.point(round(x), round(y)) for x, y in self._alignment_points(landmarks)
        ]
        (left, top), (right, bottom) = landmarks.min(axis=0), landmarks.max(axis=0)
        box = self._dlib.rectangle(*(round(float(v)) for v in (left, top, right, bottom)))
        face = self._dlib.full_object_detection(box, points)
        values = np.array(self._network.compute_face_descriptor(np.ascontiguousarray(image), face))
        return np.asarray(values / np.linalg.norm(values))

    def _alignment_points(self, landmarks: Points) -> list[tuple[float, float]]:
        return [(float(x), float(y)) for x, y in landmarks[list(self.ALIGNMENT_LANDMARKS)]]


class Tddfa:
    """3DDFA-V2 says how a head is turned, from the picture alone.

    J. Guo et al., "Towards Fast, Accurate and Stable 3D Dense Face Alignment", ECCV 2020: a
    regression of the parameters of a morphable model, of which only the camera is used here. Run
    by OpenCV.

    Convention:
        Yaw, pitch and roll as in `faces.detect.Face`, from 3DDFA's own idea of straight ahead.
    """

    SIDE_PX = 120
    BOX_SCALE = 2**0.5
    """Side of the region over the longer side of the box around the landmarks."""
    # The first eight numbers that matter of its param_mean_std_62d_120x120.pkl (MIT): the two
    # upper rows of the scaled rotation. What it regresses is this much away from the mean.
    # fmt: off
    MEAN = ((3.4926363e-04, 2.5279013e-07, -6.8751979e-07),
            (-6.2955132e-07, 5.7572004e-04, -5.0853912e-05))
    STD = ((1.7632153e-04, 6.7379435e-05, 4.4708489e-04),
              (1.2313770e-04, 4.4930217e-05, 7.9236707e-05))
    # fmt: on

    def __init__(self, model: Path) -> None:
        self._network = cv2.dnn.readNetFromONNX(np.fromfile(model, dtype=np.uint8))

    @classmethod
    def open(cls) -> Self:
        """Load it.

        Raises:
            InputError: It is not installed.
        """
        return cls(find_model_file("tddfa"))

    def estimate_pose(self, image: Image, landmarks: Points) -> tuple[float, float, float]:
        """Return yaw, pitch, roll in degrees of the face whose landmarks (478, 2) px are given."""
        self._network.setInput(self._input(image, landmarks))
        values = np.asarray(self._network.forward(), dtype=np.float64)[0, :12].reshape(3, 4)
        rows = values[:2, :3] * np.array(self.STD) + np.array(self.MEAN)
        across, down = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        depth = np.cross(across, down)
        yaw = -np.arcsin(np.clip(depth[0], -1, 1))
        pitch, roll = np.arctan2(depth[1], depth[2]), np.arctan2(down[0], across[0])
        return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))

    def _input(self, image: Image, landmarks: Points) -> npt.NDArray[np.float32]:
        """Return the square around the face as the network wants it: BGR, (1, 3, 120, 120)."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        zoom = self.SIDE_PX / (float((high - low).max()) * self.BOX_SCALE)
        x, y = (low + high) / 2
        shift = self.SIDE_PX / 2 - 0.5
        to_input = np.array([[zoom, 0, shift - zoom * x], [0, zoom, shift - zoom * y]])
        face = cv2.warpAffine(image, to_input, (self.SIDE_PX, self.SIDE_PX), flags=cv2.INTER_AREA)
        scaled = (face[..., ::-1].astype(np.float32) - 127.5) / 128
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _find_model(name: str, hint: str) -> Path:
    """Return a model file; what is missing is answered with `hint`."""
    try:
        return find_model_file(name)
    except InputError as error:
        raise InputError(error.message, hint=hint) from error
