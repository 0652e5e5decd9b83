"""MediaPipe's face networks run by LiteRT, without the MediaPipe library: `LiteRTDetector`.

The only file that imports ai_edge_litert. What MediaPipe's graphs compute between the networks is
a few lines of numpy here, after the published source (Apache-2.0):
face_landmarks_detector_graph.cc and face_blendshapes_graph.cc.
"""

import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import ArrayImage, LazyImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.stderr import suppress_stderr
from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou
from faceswap_cli.faces.detectors.blazeface import detect_short_range
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.detectors.yunet import YuNet
from faceswap_cli.faces.head_pose import estimate_rotation, rotation_to_euler
from faceswap_cli.faces.types import NUM_LANDMARKS, Face

Array = npt.NDArray[np.float32]

# fmt: off
BLENDSHAPE_LANDMARKS = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65,
    66, 67, 70, 78, 80, 81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136,
    144, 145, 146, 148, 149, 150, 152, 153, 154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172,
    173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251, 263, 267, 269, 270, 276, 282, 283,
    284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318, 321, 323, 324,
    332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385,
    386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472,
    473, 474, 475, 476, 477,
)
# fmt: on
"""The landmarks that the blendshape network reads, in its order."""

ROTATED_SEARCH_PX = 320
"""Longer side of the rotated images that are searched for rotated faces: large ones."""
UPRIGHT_SEARCH_PX = range(640, 1281)
"""Bounds of the longer side of the image that is searched for upright faces."""
UPRIGHT_SHRINK_FACTOR = 3
"""Between those bounds the image is downscaled by this, so faces of 30 px are found."""


class LiteRTDetector:
    """YuNet and BlazeFace find faces, MediaPipe's landmark network fits the landmarks.

    It opens no connection, writes nothing to standard error and needs no graphics libraries.

    Small and large, upright and rotated faces are found: YuNet misses large faces rotated by 90
    degrees, BlazeFace small ones. If both find nothing, YuNet searches the image rotated by 90,
    180 and 270 degrees. Landmarks are fitted twice, the second time in the region that follows
    from the first: so they hardly depend on which network found the face.

    Args:
        model: Path of `face_landmarker.task`; the installed or downloaded one if not given.
        max_faces: Most faces returned for one image.
        location_only: Leave blendshapes empty and poses 0, which is a sixth quicker.
    """

    MIN_SCORE = 0.5
    """Confidence below which landmarks are rejected as not of a face."""

    def __init__(
        self, *, model: Path | None = None, max_faces: int = 16, location_only: bool = False
    ) -> None:
        self._model = model
        self._max_faces = max_faces
        self._location_only = location_only
        self._networks: DetectorNetworks | None = None

    def __enter__(self) -> Self:
        self._networks = DetectorNetworks.open(
            find_model_file("face_landmarker", explicit=self._model), yunet=find_model_file("yunet")
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the networks; harmless when repeated."""
        self._networks = None

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the faces in `image`, largest first, less those at one of `exclude`."""
        return self.fit_landmarks(image, self.detect_rois(image), exclude=exclude)

    def detect_rois(self, image: Image) -> list[RoI]:
        """Return the regions that may hold an upright face; without any, a rotated one.

        The first half of `detect` takes most of its time and needs no other faces.
        """
        networks = self._require_networks()
        image = np.ascontiguousarray(image)
        rois = detect_upright(image, networks) or detect_rotated(image, networks)
        return rois[: self._max_faces]

    def fit_landmarks(
        self, image: Image, rois: Sequence[RoI], *, exclude: Sequence[Face]
    ) -> list[Face]:
        """Return the faces in regions, largest first, less those at one of `exclude`.

        The second half of `detect`.
        """
        image = np.ascontiguousarray(image)
        excluded = [RoI.from_landmarks(face.landmarks) for face in exclude]
        new = [roi for roi in rois if not any(map(roi.overlaps_center, excluded))]
        faces = self._fit_twice(image, new)
        if faces or excluded or not new:
            return faces
        return self._fit_twice(
            image, detect_rotated(image, self._require_networks())[: self._max_faces]
        )

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those of the `faces` of the frame before that are still there, largest first."""
        return self._fit_once(view, [RoI.from_landmarks(face.landmarks) for face in faces])

    def _fit_twice(self, image: Image, rois: Sequence[RoI]) -> list[Face]:
        """Return the faces in regions that need not fit the faces well."""
        networks = self._require_networks()
        # Whatever its score, a first fit may lead to the right region.
        results = (run_landmarks(image, roi, networks) for roi in rois)
        return self._fit_once(
            ArrayImage(image=image), [RoI.from_landmarks(result.landmarks) for result in results]
        )

    def _fit_once(self, view: LazyImage, rois: Sequence[RoI]) -> list[Face]:
        """Return the faces in regions, largest first; some may hold none."""
        networks = self._require_networks()
        results = (
            run_landmarks(view.to_partial_array(roi.source_area()), roi, networks) for roi in rois
        )
        faces = sorted(
            (
                build_face(result, networks, size=view.size, location_only=self._location_only)
                for result in results
                if result.score >= self.MIN_SCORE
            ),
            key=lambda face: face.score,
            reverse=True,
        )
        return sorted(_non_max_suppression(faces), key=lambda face: face.area_px, reverse=True)

    def _require_networks(self) -> "DetectorNetworks":
        """Return the networks, which are loaded inside the `with` block."""
        assert self._networks is not None, "open the detector with `with` first"
        return self._networks


class TFLiteModel:
    """A TFLite network on one thread, called with an array."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # One thread: two are no faster on networks this small, and starve the decoder.
        self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = [entry["index"] for entry in self._interpreter.get_output_details()]

    @property
    def side_px(self) -> int:
        """Side of its square input, px."""
        return int(self._input["shape"][1])

    def __call__(self, values: Array) -> list[Array]:
        """Return the outputs, with batch axes, for one input without a batch axis."""
        self._interpreter.set_tensor(self._input["index"], values[None])
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]


@dataclass(frozen=True, kw_only=True)
class DetectorNetworks:
    """The networks of MediaPipe's bundle, and YuNet."""

    short_range: TFLiteModel
    landmarks: TFLiteModel
    blendshapes: TFLiteModel
    yunet: YuNet

    @classmethod
    def open(cls, model: Path, *, yunet: Path) -> "DetectorNetworks":
        """Load the networks from a `.task` file, which is a zip, and YuNet's file."""
        with zipfile.ZipFile(model) as bundle, suppress_stderr(), _translate_import_errors():
            return cls(
                short_range=TFLiteModel(bundle.read("face_detector.tflite")),
                landmarks=TFLiteModel(bundle.read("face_landmarks_detector.tflite")),
                blendshapes=TFLiteModel(bundle.read("face_blendshapes.tflite")),
                yunet=YuNet(yunet),
            )


def detect_upright(image: Image, networks: DetectorNetworks) -> list[RoI]:
    """Return the regions of faces that YuNet finds, then those that only BlazeFace does."""
    side_px = max(image.shape[:2]) // UPRIGHT_SHRINK_FACTOR
    side_px = min(max(side_px, UPRIGHT_SEARCH_PX[0]), UPRIGHT_SEARCH_PX[-1])
    rois = networks.yunet.detect(image, side_px=side_px)
    more = detect_short_range(image, networks.short_range)
    return rois + [roi for roi in more if not any(map(roi.overlaps_center, rois))]


def detect_rotated(image: Image, networks: DetectorNetworks) -> list[RoI]:
    """Return the regions of faces that lie on a side or are upside down."""
    height, width = image.shape[:2]
    scale = min(1.0, ROTATED_SEARCH_PX / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [
        roi.unrotate(quarter_turns, size=size).scale(width / size[0])
        for quarter_turns in (1, 3, 2)
        for roi in networks.yunet.detect(
            np.ascontiguousarray(np.rot90(small, quarter_turns)), side_px=ROTATED_SEARCH_PX
        )
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class LandmarkResult:
    """The landmark network's output for a region."""

    landmarks: Points
    """float32 (478, 2), px in the frame."""
    depth: Array
    """float32 (478, 1), away from the camera, in the same unit."""
    score: float
    """Confidence that the region holds a face, 0 to 1."""


def run_landmarks(image: Image, roi: RoI, networks: DetectorNetworks) -> LandmarkResult:
    """Return the landmarks of the face in a region; reads nothing else of the image."""
    side = networks.landmarks.side_px
    crop = roi.crop(image, side, border=cv2.BORDER_REPLICATE)
    points, presence, _ = networks.landmarks(np.divide(crop, 255, dtype=np.float32))
    points = points.reshape(NUM_LANDMARKS, 3)
    return LandmarkResult(
        landmarks=transform_points(points[:, :2], roi.roi_to_frame(side)),
        depth=points[:, 2:] * (roi.size[0] / side),
        score=1 / (1 + math.exp(-presence.item())),
    )


def build_face(
    result: LandmarkResult,
    networks: DetectorNetworks,
    *,
    size: tuple[int, int],
    location_only: bool = False,
) -> Face:
    """Return a face with all that follows from its landmarks.

    Args:
        result: The landmarks.
        networks: The blendshape network is used.
        size: (width, height) px of the frame.
        location_only: Leave the blendshapes empty and the pose 0.
    """
    landmarks = result.landmarks
    blendshapes: tuple[float, ...] = ()
    pose = (0.0, 0.0, 0.0)
    if not location_only:
        (coefficients,) = networks.blendshapes(landmarks[list(BLENDSHAPE_LANDMARKS)])
        blendshapes = tuple(float(value) for value in coefficients)
        in_space = np.hstack([landmarks, result.depth]).astype(np.float64)
        pose = rotation_to_euler(estimate_rotation(in_space, size=size))
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=result.score,
        blendshapes=blendshapes,
        pose=pose,
    )


def _non_max_suppression(faces: Iterable[Face]) -> list[Face]:
    """Return the faces less those whose box overlaps that of an earlier one."""
    distinct: list[Face] = []
    for face in faces:
        boxes = np.array([other.box for other in distinct], np.float32).reshape(-1, 4)
        if not (compute_iou(boxes, face.box) > IOU_THRESHOLD).any():
            distinct.append(face)
    return distinct


@contextmanager
def _translate_import_errors() -> Iterator[None]:
    """Turn a failure to load LiteRT into an `InputError`.

    Raises:
        InputError: It is not installed, or does not load.
    """
    try:
        yield
    except (ImportError, OSError) as error:
        raise InputError(
            f"LiteRT, which finds the faces, cannot be loaded: {error}",
            hint='install it with: pip install "ai-edge-litert>=2.1,<3"',
        ) from error
