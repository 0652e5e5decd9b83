"""BlazeFace, the short-range detector inside MediaPipe's landmarker: `detect_short_range`.

V. Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile GPUs", 2019. Pre-
and post-processing follow MediaPipe's face_detector_graph.cc (Apache-2.0).
"""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou
from faceswap_cli.faces.detectors.roi import RoI

Array = npt.NDArray[np.float32]

SIDE_PX = 128
"""Side of the network's input."""
ROI_MARGIN = 1.5
"""Sides of the region for the landmarks over those of the detected box."""
MIN_SCORE = 0.5


def detect_short_range(image: Image, network: Callable[[Array], Sequence[Array]]) -> list[RoI]:
    """Return the regions for the landmarks of faces in `image`, most confident first.

    It finds faces wider than about a ninth of the image's longer side, rotated ones too.

    Args:
        image: The image.
        network: Maps an image (128, 128, 3) in [-1, 1] to boxes (1, 896, 16) and scores before the
            sigmoid (1, 896, 1).
    """
    whole = RoI.from_image(image)
    crop = whole.crop(image, SIDE_PX, border=cv2.BORDER_CONSTANT)
    values, logits = network(np.asarray(crop / 127.5 - 1, dtype=np.float32))
    scores = np.asarray(1 / (1 + np.exp(-np.clip(logits.ravel(), -80, 80))), dtype=np.float32)
    confident = scores >= MIN_SCORE
    # Each row: center and size of a box, then six points, all in px of the crop.
    rows = values[0, confident].reshape(-1, 8, 2)
    anchors = make_anchors()[confident, None]
    centers, sizes = rows[:, :1] + anchors, rows[:, 1:2]
    points = np.concatenate(
        [centers - sizes / 2, centers + sizes / 2, rows[:, 2:] + anchors], axis=1
    )
    to_frame = whole.roi_to_frame(SIDE_PX)
    in_frame = [
        transform_points(merged, to_frame) for merged in _weighted_nms(points, scores[confident])
    ]
    return [RoI.from_box(points[:2], points[2:4], margin=ROI_MARGIN) for points in in_frame]


def make_anchors() -> Array:
    """Return the anchors (896, 2), px, that the network's rows are relative to."""
    grids = []
    for stride, boxes in ((8, 2), (16, 6)):
        ticks = np.arange(stride / 2, SIDE_PX, stride, dtype=np.float32)
        x, y = np.meshgrid(ticks, ticks)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), boxes, axis=0))
    return np.concatenate(grids)


def _weighted_nms(points: Array, scores: Array) -> Iterator[Points]:
    """Yield each face's points (K, 2), averaged over its detections.

    Args:
        points: (N, K, 2); the first two are a box's corners.
        scores: (N,).
    """
    boxes = points[:, :2].reshape(-1, 4)
    order = np.argsort(-scores, kind="stable")
    while order.size:
        same = compute_iou(boxes[order], boxes[order[0]]) > IOU_THRESHOLD
        same[0] = True  # an empty box overlaps nothing, not even itself
        group = order[same]
        mean = np.average(points[group], axis=0, weights=scores[group])
        yield mean.astype(np.float32)
        order = order[~same]
