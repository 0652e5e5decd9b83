"""The programs that run `.dfm` files, as far as a frame passes through them.

Written from descriptions of FaceFusion and DeepFaceLive; colors are not matched here, as with
`convert --color none`.
"""

from collections.abc import Mapping

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray, Image, Mask, Matrix, Points
from faceswap_cli.exchange.onnx_session import open_session
from faceswap_cli.faces.alignment import fit_similarity

EYES = ((33, 160, 158, 133, 153, 144), (362, 385, 387, 263, 373, 380))
"""Landmarks around each eye, six of each as in the layout of 68."""
NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT = 4, 61, 291

FACEFUSION_TEMPLATE = np.array(
    [[0.353, 0.393], [0.628, 0.393], [0.487, 0.540], [0.388, 0.688], [0.598, 0.688]]
)
"""Eyes, nose and corners of the mouth in FaceFusion's square of the whole face."""

# fmt: off
DEEPFACELIVE_TEMPLATE: Mapping[int, tuple[float, float]] = {
    1: (0.490, 0.527), 2: (0.490, 0.624), 4: (0.491, 0.491), 5: (0.490, 0.440), 6: (0.489, 0.268),
    36: (0.235, 0.505), 266: (0.746, 0.504), 50: (0.095, 0.501), 280: (0.886, 0.499),
    93: (-0.371, 0.551), 323: (1.352, 0.548), 100: (0.264, 0.396), 329: (0.716, 0.395),
    101: (0.197, 0.437), 330: (0.784, 0.435), 116: (-0.080, 0.369), 345: (1.060, 0.367),
    119: (0.194, 0.374), 348: (0.786, 0.373), 123: (-0.060, 0.486), 352: (1.041, 0.485),
    127: (-0.362, 0.270), 356: (1.341, 0.267), 147: (-0.063, 0.601), 376: (1.044, 0.599),
}
# fmt: on
"""Positions of some landmarks that hardly move in DeepFaceLive's square of coverage 1."""
DEEPFACELIVE_CENTER = (0.5, 0.42)
DEEPFACELIVE_PX = 224


def facefusion(content: bytes, frame: Image, landmarks: Points) -> Image:
    """Return an RGB frame with its face swapped as FaceFusion does it."""
    session = open_session(content)
    size = session.get_inputs()[0].shape[1]
    eyes = [landmarks[list(one)].mean(axis=0) for one in EYES]
    points = np.array([*eyes, *landmarks[[NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT]]])
    frame_to_crop = fit_similarity(points, (FACEFUSION_TEMPLATE * size).astype(np.float32))
    bgr = frame[..., ::-1].copy()
    crop = cv2.warpAffine(
        bgr, frame_to_crop, (size, size), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    sharp = cv2.addWeighted(crop, 1.75, cv2.GaussianBlur(crop, (0, 0), 2), -0.75, 0)
    face_mask, swapped, swap_mask = session.run(
        None, {"in_face:0": (sharp[None] / 255).astype(np.float32)}
    )
    mask = np.minimum(face_mask, swap_mask).reshape(size, size).clip(0, 1)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    mask = cv2.GaussianBlur(cv2.erode(mask, ellipse, iterations=2), (0, 0), 6.25)
    mask = np.minimum(mask, _box_mask(size))
    levels = (swapped[0] * 255).clip(0, 255).astype(np.uint8)
    return _paste(bgr, levels, mask, frame_to_crop)[..., ::-1]


def deepfacelive(
    content: bytes, frame: Image, landmarks: Points, *, coverage: float = 2.2
) -> Image:
    """Return an RGB frame with its face swapped as DeepFaceLive does it on a CPU."""
    session = open_session(content)
    size = session.get_inputs()[0].shape[1]
    template = np.array(list(DEEPFACELIVE_TEMPLATE.values()))
    target = ((template - DEEPFACELIVE_CENTER) / coverage + 0.5) * DEEPFACELIVE_PX
    frame_to_crop = fit_similarity(landmarks[list(DEEPFACELIVE_TEMPLATE)], target)
    bgr = frame[..., ::-1].copy()
    side = (DEEPFACELIVE_PX, DEEPFACELIVE_PX)
    crop = cv2.warpAffine(bgr, frame_to_crop, side, flags=cv2.INTER_CUBIC)
    small = cv2.resize(crop, (size, size)).astype(np.float32) / 255
    face_mask, swapped, swap_mask = session.run(None, {"in_face:0": small[None]})
    mask = cv2.resize(face_mask[0] * swap_mask[0], side)
    mask = cv2.GaussianBlur(cv2.erode(mask, np.ones((5, 5))), (0, 0), 6)
    levels = (cv2.resize(swapped[0], side) * 255).clip(0, 255).astype(np.uint8)
    return _paste(bgr, levels, mask, frame_to_crop)[..., ::-1]


def _box_mask(size: int) -> Mask:
    """Return FaceFusion's soft square, float32 (size, size)."""
    blur = int(size * 0.5 * 0.3)
    box = np.zeros((size, size), np.float32)
    box[blur // 2 : -(blur // 2), blur // 2 : -(blur // 2)] = 1
    return np.asarray(cv2.GaussianBlur(box, (0, 0), blur * 0.25), np.float32)


def _paste(frame: Image, crop: Image, mask: Mask, frame_to_crop: Matrix) -> Image:
    """Return a frame with a crop blended into it by a mask."""
    size = frame.shape[1::-1]
    back = cv2.invertAffineTransform(frame_to_crop)
    alpha: AnyArray = cv2.warpAffine(mask, back, size).clip(0, 1)[..., None]
    face = cv2.warpAffine(crop, back, size, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(frame * (1 - alpha) + face * alpha, dtype=np.uint8)
