"""What of a face is seen: `VisibleFaceModel` tells which pixels of a crop show the face.

The network is `faceswap_models.occlusion.VisibleFaceNet`; here it runs in numpy, so that `extract`
needs no torch. Its mask is used within the landmarks' outline, and above it up to the hair: they
know where the face is, and the network what is in front of it and where its forehead ends.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from faceswap_cli.core.errors import CheckpointError
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.types import AnyArray, Image, Mask, Points
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.masks import face_mask, raised_face_mask
from faceswap_models import masks

INPUT_PX = 128
"""Side of the network's input and of the mask it returns."""
COVERAGE = 0.8
"""Side of the square it sees as a part of the aligned square's: 21 cm."""
SEEN_FROM, DECIDED = 0.4, 0.5
"""Predicted value from which on a pixel counts as seen, and the width of the range of values around
it that stay between: a bare face is more frequent than a covered one, hence less than a half."""
SURE, SURE_PART = 0.1, 0.1
"""A patch counts as hidden where this part of its pixels has a smaller value than that, and not at
all where half of the part has."""
WEIGHTS_NAME = "visible-face.safetensors"


class VisibleFaceModel:
    """The network, ready to run.

    Args:
        weights: As `VisibleFaceNet.fold` returns them, by name.
        digest: SHA-256 of their file.
    """

    def __init__(self, weights: Mapping[str, AnyArray], *, digest: str = "") -> None:
        self.digest = digest
        self.weights = weights
        # Channels last: rows of all channels are long enough for numpy's loops to be fast.
        self._weights = {name: _channels_last(one) for name, one in weights.items()}

    @classmethod
    def load(cls, custom: Path | None = None) -> "VisibleFaceModel":
        """Read the weights that a workspace was taught, if there are any, else the package's.

        Raises:
            CheckpointError: The file is damaged.
        """
        path = custom if custom is not None and custom.exists() else shipped_weights()
        return _load(path, path.stat().st_mtime_ns)

    def analyze(self, view: LazyImage, alignment: FaceAlignment) -> "SeenFace":
        """Run on one face.

        Args:
            view: The frame.
            alignment: The face's aligned square.
        """
        square = alignment.center_crop(COVERAGE)
        image = view.to_partial_array(square.source_area())
        return SeenFace(visible=self.infer(square.crop(image, INPUT_PX)), square=square)

    def measure_covered(
        self, view: LazyImage, alignment: FaceAlignment, landmarks: Points
    ) -> float:
        """Return the part of a face's outline with something in front of it, 0 to 1."""
        square = alignment.center_crop(COVERAGE)
        face = face_mask(landmarks, square)
        outline = outline_face(landmarks, alignment)
        occlusion = self.analyze(view, alignment).find_occlusion(square, face.shape[0], outline)
        return float((face * occlusion).sum() / max(float(face.sum()), 1.0))

    def infer(self, crop: Image) -> Mask:
        """Return the mask of a crop, float32 (128, 128): 1 where the face is seen.

        Args:
            crop: RGB uint8 (128, 128, 3): the central `COVERAGE` of the aligned square.
        """
        x = self._convolve("stem", _gather(crop.astype(np.float32) / 127.5 - 1))
        skips = [self._separable("entry", np.maximum(x, 0, out=x))]
        for stage in range(self._count("down")):
            x = skips[-1]
            for block in range(self._count(f"down.{stage}")):
                x = self._separable(f"down.{stage}.{block}", x, stride=2 if block == 0 else 1)
            skips.append(x)
        x = skips.pop()
        for stage in range(self._count("up")):
            x = _add_enlarged(skips.pop(), self._convolve(f"reduce.{stage}", x))
            x = self._separable(f"up.{stage}", x)
        logits = _pixel_shuffle(self._convolve("head", x))
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)

    def _count(self, prefix: str) -> int:
        """Return how many numbered modules there are after a prefix."""
        start = f"{prefix}."
        names = (name.removeprefix(start) for name in self._weights if name.startswith(start))
        return len({name.partition(".")[0] for name in names})

    def _separable(self, name: str, x: AnyArray, *, stride: int = 1) -> AnyArray:
        """Return a separable convolution of (H, W, C); its input is added where the shape stays."""
        kernel = self._weights[f"{name}.depthwise.weight"]
        y = self._convolve(f"{name}.pointwise", _filter(x, kernel, stride))
        np.maximum(y, 0, out=y)
        if x.shape == y.shape:
            y += x
        return y

    def _convolve(self, name: str, x: AnyArray) -> AnyArray:
        """Return (H, W, C') of (H, W, C): every pixel times a matrix."""
        matrix = self._weights[f"{name}.weight"]
        y: AnyArray = x.reshape(-1, x.shape[-1]) @ matrix.reshape(-1, matrix.shape[-1])
        y += self._weights[f"{name}.bias"]
        return y.reshape(*x.shape[:2], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SeenFace:
    """What the network has seen of one face."""

    visible: Mask
    """float32 (128, 128): 1 where the face is seen."""
    square: FaceAlignment
    """The square that it looked at."""

    def find_occlusion(self, square: FaceAlignment, size: int, outline: Mask) -> Mask:
        """Return 1 where something is in front of a face, float32 (size, size).

        Args:
            square: The square that the mask covers.
            size: Its side, px.
            outline: The face in the network's square, as `outline_face` returns it.
        """
        return self._warp(decide_hidden(self.visible, outline), square, size)

    def find_face(self, square: FaceAlignment, size: int, landmarks: Points) -> Mask:
        """Return the outline of a face up to its hair, float32 (size, size).

        Landmarks end below the hairline. The network was taught where a face ends, and tells skin
        from hair above them as well as below. What is in front of the face is in the outline.

        Args:
            square: The square that the mask covers.
            size: Its side, px.
            landmarks: (478, 2) px in the frame.
        """
        seen = sharpen(self.visible) * raised_face_mask(landmarks, self.square, INPUT_PX)
        _, patches = cv2.connectedComponents((seen > 0).astype(np.uint8))
        outline = face_mask(landmarks, self.square, INPUT_PX)
        of_face = np.unique(patches[(outline > 0.5) & (seen > 0)])
        skin = self._warp(np.where(np.isin(patches, of_face), seen, 0), square, size)
        return np.maximum(face_mask(landmarks, square, size), skin)

    def _warp(self, mask: Mask, square: FaceAlignment, size: int) -> Mask:
        move = square.relative_to(self.square, INPUT_PX).frame_to_crop(size)
        return np.asarray(cv2.warpAffine(mask, move, (size, size), flags=cv2.INTER_LINEAR))


@lru_cache(maxsize=2)
def _load(path: Path, _: int) -> VisibleFaceModel:
    """Return the model of a file as it is at a time."""
    try:
        data = path.read_bytes()
        model = VisibleFaceModel(load(data), digest=hashlib.sha256(data).hexdigest())
        model.infer(np.zeros((INPUT_PX, INPUT_PX, 3), np.uint8))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged",
            hint="delete it: faceswap train --model visible-face makes it again",
        ) from error
    return model


def sharpen(visible: Mask) -> Mask:
    """Return a mask whose doubtful values are decided: half a swap shows both faces."""
    return np.asarray(np.clip((visible - SEEN_FROM) / DECIDED + 0.5, 0, 1), np.float32)


def decide_hidden(visible: Mask, outline: Mask) -> Mask:
    """Return what of a face is hidden, float32 (S, S) in [0, 1]: nothing that is doubtful.

    Networks are sure of what they have seen before, a hand as well as a face. A bare chin of a kind
    they have not seen is hidden by a little at most, and so is every pixel of such a patch.

    Args:
        visible: As the network predicts it, float32 (S, S).
        outline: The face, float32 (S, S): outside nobody asks.
    """
    hidden = 1 - sharpen(visible)
    inside = ((hidden > 0) & (outline > 0.5)).astype(np.uint8)
    _, patches = cv2.connectedComponents(inside)
    sizes = np.bincount(patches.ravel())
    sure = np.bincount(patches.ravel(), weights=(visible < SURE).ravel()) / np.maximum(sizes, 1)
    weights = np.clip(2 * sure / SURE_PART - 1, 0, 1)
    weights[0] = 1
    return np.asarray(hidden * weights[patches], np.float32)


def outline_face(landmarks: Points, alignment: FaceAlignment) -> Mask:
    """Return a face's outline in the network's square, float32 (128, 128)."""
    return face_mask(landmarks, alignment.center_crop(COVERAGE), INPUT_PX)


def shipped_weights() -> Path:
    """Return the weights in the package."""
    return next(Path(folder) / WEIGHTS_NAME for folder in masks.__path__)


def _channels_last(weight: AnyArray) -> AnyArray:
    """Return a convolution's weight (C', C, 3, 3) as (3, 3, C, C'), a bias as it is."""
    weight = weight.astype(np.float32)
    if weight.ndim == 4:
        weight = weight.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(weight)


def _pad(x: AnyArray) -> AnyArray:
    """Return (H + 2, W + 2, C) with zeros around."""
    height, width, channels = x.shape
    padded = np.zeros((height + 2, width + 2, channels), np.float32)
    padded[1:-1, 1:-1] = x
    return padded


def _gather(image: AnyArray) -> AnyArray:
    """Return the neighborhoods (3, 3, C) of every second pixel, (H / 2, W / 2, 9 C)."""
    height, width, _ = image.shape
    padded = _pad(image)
    shifts = [
        padded[row : row + height : 2, column : column + width : 2]
        for row in range(3)
        for column in range(3)
    ]
    return np.concatenate(shifts, axis=2)


def _filter(x: AnyArray, kernel: AnyArray, stride: int) -> AnyArray:
    """Return each channel of (H, W, C) filtered by its own kernel, (3, 3, 1, C)."""
    height, width, channels = x.shape
    padded = _pad(x)
    if stride == 1:  # whole rows at once
        padded = padded.reshape(height + 2, 1, -1)
        columns = [slice(c * channels, (c + width) * channels) for c in range(3)]
        kernel = np.tile(kernel, (1, 1, 1, width))
        starts = [padded[row : row + height, :, columns[c]] for row in range(3) for c in range(3)]
    else:
        starts = [
            padded[row : row + height : stride, c : c + width : stride]
            for row in range(3)
            for c in range(3)
        ]
    total = starts[0] * kernel[0, 0]
    product = np.empty_like(total)
    for part, factor in zip(starts[1:], kernel.reshape(9, -1)[1:], strict=True):
        np.multiply(part, factor, out=product)
        total += product
    filtered: AnyArray = total.reshape(height // stride, width // stride, channels)
    return filtered


def _add_enlarged(large: AnyArray, small: AnyArray) -> AnyArray:
    """Return (2H, 2W, C) plus (H, W, C) with every pixel repeated."""
    height, width, channels = small.shape
    total: AnyArray = large.reshape(height, 2, width, 2, channels) + small[:, None, :, None]
    return total.reshape(large.shape)


def _pixel_shuffle(x: AnyArray) -> AnyArray:
    """Return four planes (H, W, 4) interleaved, (2H, 2W)."""
    height, width, _ = x.shape
    return x.reshape(height, width, 2, 2).transpose(0, 2, 1, 3).reshape(2 * height, 2 * width)
