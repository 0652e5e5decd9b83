"""Evaluation models from other packages, which no training optimizes: identity, pose, LPIPS.

Their packages are optional, so each model may be missing. The entry point is `EvalModels.open`,
which opens those that are installed and records why the others are not.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import Image, Points
from faceswap_cli.evaluation.metrics.registry import METRICS
from faceswap_cli.faces.embedding import Embedding, SFace

INSTALL_HINT = 'pip install "faceswap-cli[quality]"'
"""Command that installs dlib and its network."""

Model = TypeVar("Model")


class IdentityModel(Protocol):
    """A face recognition network."""

    def embed(self, image: Image, landmarks: Points, /) -> Embedding:
        """Return the embedding (D,) of the face with the landmarks (478, 2), px."""


class _PerceptualDistance(Protocol):
    def __call__(self, image: Image, truth: Image, /) -> float: ...


@dataclass(frozen=True, kw_only=True)
class EvalModels:
    """The models that are installed, and why the others are not."""

    identity: Mapping[str, IdentityModel]
    """Face recognition networks by name."""
    pose: "Tddfa | None"
    lpips: _PerceptualDistance | None
    unavailable: Mapping[str, str]
    """Reasons, by the suffix of the names of the metrics that are missing."""
    centroids: dict[tuple[str | Path, ...], Embedding] = field(default_factory=dict)
    """Centroids of sets that were computed, by model and crops."""

    @classmethod
    def open(cls, *, has_truth: bool) -> "EvalModels":
        """Open what is installed.

        Args:
            has_truth: Whether the true swap is known; without it LPIPS is not needed.
        """
        unavailable: dict[str, str] = {}
        identity = {
            "dlib": _open_model("dlib", DlibIdentity.open, unavailable),
            "sface": _open_model("sface", lambda: SFace(find_model_file("sface")), unavailable),
        }
        if not has_truth:
            unavailable |= dict.fromkeys(("psnr", "ssim", "lpips"), "no --ground-truth was given")
        return cls(
            identity={name: model for name, model in identity.items() if model is not None},
            pose=_open_model("3ddfa", Tddfa.open, unavailable),
            lpips=_open_model("lpips", _open_lpips, unavailable) if has_truth else None,
            unavailable=unavailable,
        )

    def missing_reasons(self) -> dict[str, str]:
        """Return why metrics have no value, by metric, as far as a missing model is the reason."""
        return {
            metric: reason
            for metric in METRICS
            for suffix, reason in self.unavailable.items()
            if metric.endswith(suffix)
        }


def _open_model(
    name: str, open_model: Callable[[], Model], unavailable: dict[str, str]
) -> Model | None:
    """Open a model, or record why it cannot be opened."""
    try:
        return open_model()
    except InputError as error:
        unavailable[name] = f"{error.message}; {error.hint}"
        return None


def _open_lpips() -> _PerceptualDistance:
    # The only model that needs torch, which takes a second to load.
    from faceswap_cli.evaluation.metrics.lpips import Lpips

    return Lpips.open()


class DlibIdentity:
    """dlib's face recognition ResNet.

    D. King, "High quality face recognition with deep metric learning", dlib.net, 2017: trained
    with a metric loss on three million faces, other data sets than SFace's.
    """

    ALIGNMENT_LANDMARKS = (263, 362, 33, 133, 2)
    """Landmarks at the five points that dlib aligns by: eye corners and base of the nose."""

    def __init__(self, network: Any, dlib: Any) -> None:  # noqa: ANN401 - dlib has no types
        self._network = network
        self._dlib = dlib

    @classmethod
    def open(cls) -> Self:
        """Load the network.

        Raises:
            InputError: dlib or its network is not installed.
        """
        try:
            dlib: Any = importlib.import_module("dlib")
        except ImportError as error:
            raise InputError("dlib is not installed", hint=INSTALL_HINT) from error
        model = _find_model("dlib_identity", INSTALL_HINT)
        return cls(dlib.face_recognition_model_v1(str(model)), dlib)

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """Return the embedding (128,) of the face with the landmarks (478, 2), px."""
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
    """3DDFA-V2 estimates head pose from the image alone.

    J. Guo et al., "Towards Fast, Accurate and Stable 3D Dense Face Alignment", ECCV 2020: a
    regression of the parameters of a morphable model, of which only the camera is used here. Run
    by OpenCV.

    Convention:
        Yaw, pitch and roll as in `faces.types.Face`, relative to 3DDFA's own frontal pose.
    """

    SIDE_PX = 120
    BOX_SCALE = 2**0.5
    """Side of the input region over the longer side of the landmarks' box."""
    # From its param_mean_std_62d_120x120.pkl (MIT): mean and deviation of the two upper rows of the
    # scaled rotation. The network regresses (value - mean) / deviation.
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
        """Load the network.

        Raises:
            InputError: Its file is not installed.
        """
        return cls(find_model_file("tddfa"))

    def estimate_pose(self, image: Image, landmarks: Points) -> tuple[float, float, float]:
        """Return yaw, pitch, roll, degrees, of the face with the landmarks (478, 2), px."""
        self._network.setInput(self._input(image, landmarks))
        values = np.asarray(self._network.forward(), dtype=np.float64)[0, :12].reshape(3, 4)
        rows = values[:2, :3] * np.array(self.STD) + np.array(self.MEAN)
        across, down = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        depth = np.cross(across, down)
        yaw = -np.arcsin(np.clip(depth[0], -1, 1))
        pitch, roll = np.arctan2(depth[1], depth[2]), np.arctan2(down[0], across[0])
        return float(np.degrees(yaw)), float(np.degrees(pitch)), float(np.degrees(roll))

    def _input(self, image: Image, landmarks: Points) -> npt.NDArray[np.float32]:
        """Return the square around the face as the network's input: BGR, (1, 3, 120, 120)."""
        low, high = landmarks.min(axis=0), landmarks.max(axis=0)
        scale = self.SIDE_PX / (float((high - low).max()) * self.BOX_SCALE)
        x, y = (low + high) / 2
        shift = self.SIDE_PX / 2 - 0.5
        to_input = np.array([[scale, 0, shift - scale * x], [0, scale, shift - scale * y]])
        face = cv2.warpAffine(image, to_input, (self.SIDE_PX, self.SIDE_PX), flags=cv2.INTER_AREA)
        scaled = (face[..., ::-1].astype(np.float32) - 127.5) / 128
        return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _find_model(name: str, hint: str) -> Path:
    """Return a model file.

    Raises:
        InputError: It is missing; `hint` says what to type.
    """
    try:
        return find_model_file(name)
    except InputError as error:
        raise InputError(error.message, hint=hint) from error
