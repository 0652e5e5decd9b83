"""`cover_crop`: a crop with something drawn before its face, and what of the face is left."""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.core.types import Image, Mask, Matrix
from faceswap_cli.faces.alignment import compose
from faceswap_cli.synthetic.geometry import Floats, clip
from faceswap_cli.synthetic.occluders.layer import OccluderLayer

SKIN_LIKE_PROB = 0.4
"""How often an occluder that may gets the mean color of the face."""
BLUR_PROB, SHADOW_PROB = 0.25, 0.6
"""How often it is out of focus or in motion, and how often it shades the face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CoveredCrop:
    """A crop with something in front of its face."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    visible: Mask
    """float32 (S, S): 1 where the face is seen."""


def cover_crop(
    image: Image,
    face: Mask,
    layer: OccluderLayer,
    rng: np.random.Generator,
    *,
    to_face: Matrix | None = None,
    to_crop: Matrix | None = None,
    skin_like: bool = True,
) -> CoveredCrop:
    """Put an occluder before a face, somewhere, with its shadow and maybe moving.

    Args:
        image: RGB uint8 (S, S, 3).
        face: float32 (S, S): 1 on the face.
        layer: What is put there.
        rng: Source of place, color, shadow and blur.
        to_face: Affine map (2, 3), px, from an average face to this one, for what is worn, in the
            square of the layer.
        to_crop: Affine map (2, 3), px, from that square to the crop; None: they are the same.
        skin_like: Whether what is not worn may get the color of the face: hands of its owner.
    """
    color, opacity = _place(layer, rng, to_face, to_crop, image.shape[0])
    if not layer.hides:
        opacity = opacity * face
    color = _match(color, opacity, image, face, rng, is_skin=skin_like and not layer.is_worn)
    if layer.hides and rng.uniform() < BLUR_PROB:
        color, opacity = _blur(color, opacity, rng)
    below = image.astype(np.float32) / 255
    if layer.hides and rng.uniform() < SHADOW_PROB:
        below = below * (1 - _shadow(opacity, rng))[..., None]
    mixed = below + (color - below) * opacity[..., None]
    visible = face * (1 - opacity) if layer.hides else face
    return CoveredCrop(
        image=np.asarray(clip(mixed * 255 + 0.5, 0, 255), np.uint8),
        visible=np.asarray(visible, np.float32),
    )


def _place(
    layer: OccluderLayer,
    rng: np.random.Generator,
    to_face: Matrix | None,
    to_crop: Matrix | None,
    side_px: int,
) -> tuple[Floats, Mask]:
    """Return color and opacity in the crop, moved: with the face if it is worn, else anywhere."""
    size = layer.size_px
    if layer.is_worn and to_face is not None:
        move = to_face
    else:
        spread = 0.03 if layer.is_worn else 0.1
        angle, scale = rng.normal(0, 0.05 if layer.is_worn else 0.25), np.exp(rng.normal(0, 0.12))
        move = np.asarray(
            cv2.getRotationMatrix2D((size / 2, size / 2), np.degrees(angle), scale), np.float64
        )
        move[:, 2] += rng.normal(0, spread * size, 2)
    if not layer.is_worn and rng.uniform() < 0.5:
        move = compose(move, np.array([[-1, 0, size - 1], [0, 1, 0]]))
    if to_crop is not None:
        move = compose(to_crop, move)
    # An arm goes on beyond the square it was drawn in, and a cut is not.
    moved = cv2.warpAffine(layer.pixels, move, (side_px, side_px), borderMode=cv2.BORDER_REPLICATE)
    levels = np.asarray(moved, np.float32) / np.float32(255)
    return levels[..., :3], levels[..., 3]


def _match(
    color: Floats,
    opacity: Mask,
    image: Image,
    face: Mask,
    rng: np.random.Generator,
    *,
    is_skin: bool,
) -> Floats:
    """Return the color in the light of the image, and sometimes in the face's own color."""
    if is_skin and rng.uniform() < SKIN_LIKE_PROB and face.sum() > 1 and opacity.sum() > 1:
        wanted = (image * face[..., None]).sum((0, 1)) / face.sum() / 255
        mean = (color * opacity[..., None]).sum((0, 1)) / opacity.sum()
        color = color * (wanted * rng.uniform(0.85, 1.15) / np.maximum(mean, 0.02))
    gain = rng.uniform(0.7, 1.2) * rng.uniform(0.93, 1.07, 3)
    return clip(color * gain.astype(np.float32), 0, 1)


def _blur(color: Floats, opacity: Mask, rng: np.random.Generator) -> tuple[Floats, Mask]:
    """Return color and opacity out of focus, or smeared by motion."""
    size = opacity.shape[0]
    length = float(rng.uniform(1.5, 9)) * size / 160
    if rng.uniform() < 0.5:
        line = np.asarray(cv2.getGaussianKernel(9, length / 4), np.float32)
        kernel = line @ line.T
    else:
        count = 2 * round(length / 2) + 3
        angle = rng.uniform(0, np.pi)
        kernel = np.zeros((count, count), np.float32)
        step = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        middle = np.array([count // 2] * 2)
        ends = np.round(np.stack([middle - step, middle + step])).astype(int)
        cv2.line(kernel, ends[0].tolist(), ends[1].tolist(), 1.0)
        kernel /= kernel.sum()
    premultiplied = cv2.filter2D(color * opacity[..., None], -1, kernel)
    blurred = cv2.filter2D(opacity, -1, kernel)
    return np.asarray(premultiplied / np.maximum(blurred, 1e-3)[..., None]), np.asarray(blurred)


def _shadow(opacity: Mask, rng: np.random.Generator) -> Mask:
    """Return how much darker the face is in the shadow of what is before it."""
    size = opacity.shape[0]
    shift = rng.normal(0, 0.03 * size, 2)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]])
    cast = cv2.warpAffine(opacity, move, (size, size), borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(cast, (0, 0), rng.uniform(1, 6) * size / 160)
    return np.asarray(soft * np.float32(rng.uniform(0.1, 0.6)))
