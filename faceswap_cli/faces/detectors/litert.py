"""MediaPipe's face networks run by LiteRT: the same files, without the library around them.

The only file that imports ai_edge_litert. What MediaPipe's graphs do between the networks is done
in a few lines of numpy, after its published source (Apache-2.0): face_landmarks_detector_graph.cc
and face_blendshapes_graph.cc.
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
"""The landmarks that the expression network reads, in its order."""

ROTATED_SEARCH_PX = 320
"""Longer side of the turned pictures that lying faces are looked for in: large ones."""
UPRIGHT_SEARCH_PX = range(640, 1281)
"""Bounds of the longer side of the picture that upright faces are looked for in."""
UPRIGHT_SHRINK_FACTOR = 3
"""Between those bounds the picture is shrunk by this, so faces of 30 px are found."""


class LiteRTDetector:
    """YuNet and BlazeFace find faces, MediaPipe's landmark network places the points.

    It opens no connection, writes nothing to standard error and needs no graphics libraries.

    Small and large, upright and lying faces are found: YuNet misses large faces that lie on their
    side, BlazeFace small ones. If both find nothing, the picture is looked at lying and upside
    down. Landmarks are placed twice, the second time in the region that follows from the first:
    so they hardly depend on who found the face.

    Args:
        model: Path of `face_landmarker.task`; found by itself if not given.
        max_faces: Most faces returned for one image.
        location_only: Tell where faces are and nothing more of them, which is a sixth quicker: their
            expressions are empty, their poses 0.
    """

    MIN_SCORE = 0.5
    """Confidence below which landmarks are taken not to be on a face."""

    def __init__(
        self, *, model: Path | None = None, max_faces: int = 16, location_only: bool = False
    ) -> None:
        self._model = model
        self._max_faces = max_faces
        self._build_face = build_location_only if location_only else build_face
        self._networks: DetectorNetworks | None = None

    def __enter__(self) -> Self:
        self._networks = DetectorNetworks.open(
            find_model_file("face_landmarker", explicit=self._model), yunet=find_model_file("yunet")
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the networks; harmless when repeated."""
        self._networks = None

    def detect(self, image: Image, *, exclude: Sequence[Face] = ()) -> list[Face]:
        """Return the faces in `image`, largest first, less those at one of `exclude`."""
        return self.fit_landmarks(image, self.detect_rois(image), exclude=exclude)

    def detect_rois(self, image: Image) -> list[RoI]:
        """Return the regions that may hold an upright face; without any, a lying one.

        The first half of `detect` takes most of its time and needs no other faces.
        """
        networks = self._require_networks()
        image = np.ascontiguousarray(image)
        found = detect_upright(image, networks) or detect_rotated(image, networks)
        return found[: self._max_faces]

    def fit_landmarks(
        self, image: Image, rois: Sequence[RoI], *, exclude: Sequence[Face]
    ) -> list[Face]:
        """Return the faces in regions, largest first, less those at one of `exclude`.

        The second half of `detect`.
        """
        image = np.ascontiguousarray(image)
        known = [RoI.from_landmarks(face.landmarks) for face in exclude]
        new = [region for region in rois if not any(map(region.overlaps_center, known))]
        faces = self._fit_twice(image, new)
        if faces or known or not new:
            return faces
        return self._fit_twice(
            image, detect_rotated(image, self._require_networks())[: self._max_faces]
        )

    def track(self, view: LazyImage, faces: Sequence[Face]) -> list[Face]:
        """Return those of the `faces` of a like picture that are still there, largest first."""
        return self._fit_once(view, [RoI.from_landmarks(face.landmarks) for face in faces])

    def _fit_twice(self, image: Image, rois: Sequence[RoI]) -> list[Face]:
        """Return the faces in some regions, which need not be right."""
        networks = self._require_networks()
        # Whatever its score, a first guess may lead to the face's true place.
        guesses = (run_landmarks(image, region, networks) for region in rois)
        return self._fit_once(
            ArrayImage(image=image), [RoI.from_landmarks(guess.landmarks) for guess in guesses]
        )

    def _fit_once(self, view: LazyImage, rois: Sequence[RoI]) -> list[Face]:
        """Return the faces in those of the regions that hold one."""
        networks = self._require_networks()
        meshes = (
            run_landmarks(view.to_partial_array(region.source_area()), region, networks)
            for region in rois
        )
        surest = sorted(
            (
                self._build_face(one, networks, size=view.size)
                for one in meshes
                if one.score >= self.MIN_SCORE
            ),
            key=lambda face: face.score,
            reverse=True,
        )
        return sorted(_non_max_suppression(surest), key=lambda face: face.area_px, reverse=True)

    def _require_networks(self) -> "DetectorNetworks":
        """Return the networks."""
        assert self._networks is not None, "open the detector with `with` first"
        return self._networks


class TFLiteModel:
    """One TFLite network on one thread: arrays in, arrays out."""

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # One thread: two are no faster on networks this small, and leave none to the decoder.
        self._interpreter: Any = Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = [entry["index"] for entry in self._interpreter.get_output_details()]

    @property
    def side_px(self) -> int:
        """Side of the square picture it reads, px."""
        return int(self._input["shape"][1])

    def __call__(self, values: Array) -> list[Array]:
        """Return the network's outputs, batch axes kept, for one input without one."""
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
    """Return where faces may be that YuNet finds, then those that only BlazeFace does."""
    side_px = max(image.shape[:2]) // UPRIGHT_SHRINK_FACTOR
    side_px = min(max(side_px, UPRIGHT_SEARCH_PX[0]), UPRIGHT_SEARCH_PX[-1])
    found = networks.yunet.detect(image, side_px=side_px)
    more = detect_short_range(image, networks.short_range)
    return found + [region for region in more if not any(map(region.overlaps_center, found))]


def detect_rotated(image: Image, networks: DetectorNetworks) -> list[RoI]:
    """Return where faces may be that lie on a side or are upside down."""
    height, width = image.shape[:2]
    shrink = min(1.0, ROTATED_SEARCH_PX / max(width, height))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return [
        region.unrotate(quarters, size=size).scale(width / size[0])
        for quarters in (1, 3, 2)
        for region in networks.yunet.detect(
            np.ascontiguousarray(np.rot90(small, quarters)), side_px=ROTATED_SEARCH_PX
        )
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class LandmarkResult:
    """What the landmark network says of a region."""

    landmarks: Points
    """float32 (478, 2), px in the frame."""
    depth: Array
    """float32 (478, 1), away from the camera, in the same unit."""
    score: float
    """0 to 1; a low one says that there is no face."""


def run_landmarks(image: Image, roi: RoI, networks: DetectorNetworks) -> LandmarkResult:
    """Return the points of the face in a region, all that is looked at of the image."""
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
    result: LandmarkResult, networks: DetectorNetworks, *, size: tuple[int, int]
) -> Face:
    """Return a face with everything that follows from its points.

    Args:
        result: The points.
        networks: Tell the expression.
        size: (width, height) px of the frame.
    """
    landmarks = result.landmarks
    (expression,) = networks.blendshapes(landmarks[list(BLENDSHAPE_LANDMARKS)])
    in_space = np.hstack([landmarks, result.depth]).astype(np.float64)
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=result.score,
        blendshapes=tuple(float(value) for value in expression),
        pose=rotation_to_euler(estimate_rotation(in_space, size=size)),
    )


def build_location_only(
    result: LandmarkResult,
    _: DetectorNetworks,
    *,
    size: tuple[int, int],  # noqa: ARG001 - the signature of `build_face`
) -> Face:
    """Return a face of which nothing is told but its place."""
    landmarks = result.landmarks
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=result.score,
        blendshapes=(),
        pose=(0.0, 0.0, 0.0),
    )


def _non_max_suppression(faces: Iterable[Face]) -> list[Face]:
    """Return the faces less those that lie where an earlier one does."""
    kept: list[Face] = []
    for face in faces:
        boxes = np.array([other.box for other in kept], np.float32).reshape(-1, 4)
        if not (compute_iou(boxes, face.box) > IOU_THRESHOLD).any():
            kept.append(face)
    return kept


@contextmanager
def _translate_import_errors() -> Iterator[None]:
    """Turn LiteRT's absence into one clear line.

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
