"""Identity embeddings of faces by SFace: `SFace.embed`.

Y. Zhong et al., "SFace: Sigmoid-Constrained Hypersphere Loss for Robust Face Recognition", IEEE
Transactions on Image Processing 30, 2021; run by OpenCV.
"""

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.stderr import suppress_stderr
from faceswap_cli.core.types import Image, Points

Embedding = npt.NDArray[np.float64]
"""float64 (128,), of length 1; the dot product of two is their cosine similarity."""

SAME_IDENTITY_COSINE = 0.44
"""Cosine similarity of two embeddings from which on they are of one person.

On fifteen photos those of one person reached 0.55 and more, those of two people 0.33 at most.
"""

EYE_CORNERS = ((33, 133), (362, 263))
"""Landmarks at the corners of the eyes, the image's left eye first."""
NOSE_AND_MOUTH = (1, 61, 291)
"""Landmarks at the tip of the nose and the corners of the mouth, the image's left one first."""


class SFace:
    """The SFace network.

    Args:
        model: Its ONNX file.
    """

    def __init__(self, model: Path) -> None:
        # Passed as bytes: OpenCV cannot open paths outside the system's own code page.
        content = np.fromfile(model, dtype=np.uint8)
        with suppress_stderr():
            self._network = cv2.FaceRecognizerSF.create("onnx", content, np.zeros(0, np.uint8))

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """Return the embedding of the face in `image` with these landmarks (478, 2) px."""
        bgr = np.ascontiguousarray(image[..., ::-1])
        aligned = self._network.alignCrop(bgr, _to_yunet_row(landmarks))
        values = self._network.feature(aligned)[0].astype(np.float64)
        return np.asarray(values / np.linalg.norm(values))


def compute_centroid(embeddings: npt.NDArray[np.float64]) -> Embedding:
    """Return the normalized mean (D,) of embeddings (N, D); rows of NaN do not count."""
    total = embeddings[np.isfinite(embeddings).all(axis=1)].sum(axis=0)
    return np.asarray(total / np.linalg.norm(total))


def _to_yunet_row(landmarks: Points) -> npt.NDArray[np.float32]:
    """Return a face as YuNet's row, which OpenCV aligns by: box, five points, score."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    eyes = [landmarks[list(corners)].mean(axis=0) for corners in EYE_CORNERS]
    points = [*eyes, *landmarks[list(NOSE_AND_MOUTH)]]
    return np.concatenate([low, high - low, *points, [1.0]]).astype(np.float32)
