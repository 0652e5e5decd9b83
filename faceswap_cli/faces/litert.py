"""MediaPipe's face networks run by LiteRT: the same files, without the library around them.

The only file that imports ai_edge_litert. What MediaPipe's graphs do between the networks is done
here in a few lines of numpy each, after its published source (Apache-2.0): face_detector_graph.cc,
face_landmarks_detector_graph.cc and face_blendshapes_graph.cc.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.arrays import Image, Points
from faceswap_cli.errors import InputError
from faceswap_cli.faces.align import transform
from faceswap_cli.faces.detect import LANDMARKS, Face, angles, silence
from faceswap_cli.faces.headpose import rotation
from faceswap_cli.faces.region import Region
from faceswap_cli.weights import find

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

MARGIN = 1.5
"""Sides of the region that landmarks are looked for in, over those of the box found."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """A face that was found and has no landmarks yet."""

    region: Region
    """Where to look for its landmarks."""
    score: float
    """Confidence, 0 to 1."""


class LiteRTDetector:
    """MediaPipe's landmarks, expression and pose without MediaPipe; a context manager.

    It opens no connection, writes nothing to standard error and needs no graphics libraries. Every
    image is looked at on its own.

    Args:
        model: Path of `face_landmarker.task`; found by itself if not given.
        max_faces: Most faces returned for one image.
    """

    MIN_SCORE = 0.5
    """Confidence below which a face is dropped, both when found and when its landmarks are."""

    def __init__(self, *, model: Path | None = None, max_faces: int = 16) -> None:
        self._model = model
        self._max_faces = max_faces
        self._networks: _Networks | None = None

    def __enter__(self) -> Self:
        self._networks = _Networks.open(find("face_landmarker", explicit=self._model))
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the networks; harmless when repeated."""
        self._networks = None

    def detect(self, image: Image) -> list[Face]:
        """Return the faces in `image`, largest first."""
        networks = self._networks
        assert networks is not None, "open the detector with `with` first"
        found = short_range_faces(image, networks.short_range, min_score=self.MIN_SCORE)
        placed = (_placed(image, face, networks) for face in found[: self._max_faces])
        faces = [face for face in placed if face is not None]
        return sorted(faces, key=lambda face: face.area_px, reverse=True)


class Network:
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
class _Networks:
    """The three networks of the bundle."""

    short_range: Network
    landmarks: Network
    blendshapes: Network

    @classmethod
    def open(cls, model: Path) -> "_Networks":
        """Load the networks from a `.task` file, which is a zip."""
        with zipfile.ZipFile(model) as bundle, silence(), _explained():
            return cls(
                short_range=Network(bundle.read("face_detector.tflite")),
                landmarks=Network(bundle.read("face_landmarks_detector.tflite")),
                blendshapes=Network(bundle.read("face_blendshapes.tflite")),
            )


def _placed(image: Image, found: Found, networks: _Networks) -> Face | None:
    """Return the face in a region with everything known of it, or None if there is none."""
    side = networks.landmarks.side_px
    crop = found.region.crop(image, side, border=cv2.BORDER_REPLICATE)
    points, presence, _ = networks.landmarks(np.asarray(crop / 255, dtype=np.float32))
    if _sigmoid(presence).item() < LiteRTDetector.MIN_SCORE:
        return None
    points = points.reshape(LANDMARKS, 3)
    landmarks = transform(points[:, :2], found.region.to_frame(side))
    depth = points[:, 2:] * (found.region.size[0] / side)
    (expression,) = networks.blendshapes(landmarks[list(BLENDSHAPE_LANDMARKS)])
    height, width = image.shape[:2]
    in_space = np.hstack([landmarks, depth]).astype(np.float64)
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=found.score,
        expression=tuple(float(value) for value in expression),
        pose=angles(rotation(in_space, size=(width, height))),
    )


def short_range_faces(image: Image, network: Network, *, min_score: float) -> list[Found]:
    """Return the faces that MediaPipe's short-range detector finds, surest first.

    BlazeFace (V. Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile
    GPUs", 2019) finds faces wider than about a ninth of the image's longer side, lying ones too.
    """
    whole, side = Region.whole(image), network.side_px
    crop = whole.crop(image, side, border=cv2.BORDER_CONSTANT)
    values, logits = network(np.asarray(crop / 127.5 - 1, dtype=np.float32))
    scores = _sigmoid(logits).ravel()
    sure = scores >= min_score
    # Each row: centre and size of a box, then six points, all in px of the crop.
    places = values[0, sure].reshape(-1, 8, 2)
    anchors = short_range_anchors(side)[sure, None]
    centres, sizes = places[:, :1] + anchors, places[:, 1:2]
    points = np.concatenate(
        [centres - sizes / 2, centres + sizes / 2, places[:, 2:] + anchors], axis=1
    )
    found = []
    for merged, score in _merged(points, scores[sure]):
        in_frame = transform(merged, whole.to_frame(side))
        region = Region.around(in_frame[:2], in_frame[2:4], margin=MARGIN)
        found.append(Found(region=region, score=score))
    return found


def short_range_anchors(side: int) -> Array:
    """Return the centres (896, 2), px, that the short-range detector's rows are relative to."""
    grids = []
    for stride, boxes in ((8, 2), (16, 6)):
        ticks = np.arange(stride / 2, side, stride, dtype=np.float32)
        x, y = np.meshgrid(ticks, ticks)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), boxes, axis=0))
    return np.concatenate(grids)


OVERLAP = 0.3
"""Intersection over union above which two boxes are of one face."""


def _merged(points: Array, scores: Array) -> Iterator[tuple[Points, float]]:
    """Yield each face's points (K, 2), averaged over all that found it, and its best score.

    Args:
        points: (N, K, 2); the first two are a box's corners.
        scores: (N,).
    """
    order = np.argsort(-scores, kind="stable")
    while order.size:
        same = _overlaps(points[order], points[order[0]]) > OVERLAP
        same[0] = True  # an empty box overlaps nothing, not even itself
        group = order[same]
        mean = np.average(points[group], axis=0, weights=scores[group])
        yield mean.astype(np.float32), float(scores[order[0]])
        order = order[~same]


def _overlaps(points: Array, one: Array) -> Array:
    """Return the intersections over unions (N,) of boxes (N, 2, 2) with one box (2, 2)."""
    low, high = np.maximum(points[:, 0], one[0]), np.minimum(points[:, 1], one[1])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(points[:, 1] - points[:, 0], axis=1)
    return np.asarray(shared / (areas + np.prod(one[1] - one[0]) - shared), dtype=np.float32)


def _sigmoid(logits: Array) -> Array:
    """Return the probabilities that logits stand for."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -80, 80))), dtype=np.float32)


@contextmanager
def _explained() -> Iterator[None]:
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
