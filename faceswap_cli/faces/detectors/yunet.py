"""YuNet, a detector of upright faces of any size, small ones too.

W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence
Research 20, 2023; run by OpenCV.
"""

from pathlib import Path

import cv2
import numpy as np

from faceswap_cli.core.types import Image
from faceswap_cli.faces.boxes import IOU_THRESHOLD
from faceswap_cli.faces.detectors.roi import RoI

ROI_MARGIN = 1.4
"""Side of the region for the landmarks over the longer one of YuNet's box.

On five clips the region taken from the landmarks themselves was 1.36 to 1.48 times as wide.
"""
MIN_SCORE = 0.6
TOP_K = 5000
"""Boxes considered before non-maximum suppression: OpenCV's default."""


class YuNet:
    """The YuNet network.

    Args:
        model: Its ONNX file.
    """

    def __init__(self, model: Path) -> None:
        # Passed as bytes: OpenCV cannot open paths outside the system's own code page.
        content = np.fromfile(model, dtype=np.uint8)
        no_config = np.zeros(0, dtype=np.uint8)
        self._network = cv2.FaceDetectorYN.create(
            "onnx", content, no_config, (320, 320), MIN_SCORE, IOU_THRESHOLD, TOP_K
        )

    def detect(self, image: Image, *, side_px: int) -> list[RoI]:
        """Return the regions for the landmarks of upright faces, most confident first.

        Args:
            image: The image.
            side_px: It is downscaled so that its longer side is at most this; faces of ten px and
                more in the result are found.
        """
        height, width = image.shape[:2]
        scale = min(1.0, side_px / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        self._network.setInputSize(size)
        _, rows = self._network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        # x, y, width, height, then five points (the eyes first), then the score.
        rows = rows[np.argsort(-rows[:, 14], kind="stable"), :14].reshape(-1, 7, 2)
        rows = rows / [size[0] / width, size[1] / height]
        return [
            RoI.from_box(
                np.stack([row[0], row[0] + row[1]]), eyes=row[2:4], margin=ROI_MARGIN
            ).to_square()
            for row in rows
        ]
