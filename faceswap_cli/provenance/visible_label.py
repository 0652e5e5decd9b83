"""A visible label in the image itself, which survives the loss of metadata: `draw_label`.

Convention: boxes are (x0, y0, x1, y1) px, the corners of a rectangle.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import Image

TEXT = "face swapped with AI"
TEXT_HEIGHT = 0.032
"""Font size as a fraction of the image's shorter side."""
MIN_TEXT_PX = 11
"""Minimum font size: smaller letters run together."""
MAX_WIDTH = 0.9
"""Maximum width of the label as a fraction of the image's width."""
CORNERS = ("bottom left", "bottom right", "top left", "top right")
"""Positions of the label, preferred ones first."""
_BACKGROUND_ALPHA = 150
"""Opacity of the black strip behind the letters, of 255: white on it is legible over any image."""


def draw_label(frame: Image, corner: str = CORNERS[0]) -> Image:
    """Return a frame with the label in one of its corners.

    Args:
        frame: uint8 (H, W, 3); it is not changed.
        corner: A name in `CORNERS`: the same for all frames of a clip, see `choose_corner`.
    """
    height, width = frame.shape[:2]
    labeled = frame.copy()
    part = labeled[label_area((width, height), corner).slices]
    part[:] = overlay_label(part, (width, height))
    return labeled


def label_area(size: tuple[int, int], corner: str) -> Rect:
    """Return the area of the label in a frame of (width, height) px."""
    paint, _ = _render_strip(*size)
    height, width = paint.shape[:2]
    x, y = _corner_position(corner, size, (width, height))
    return Rect(x, y, x + width, y + height)


def overlay_label(part: Image, size: tuple[int, int]) -> Image:
    """Return the label's area of a frame of `size`, uint8 (h, w, 3), with the label over it."""
    paint, alpha = _render_strip(*size)
    return np.asarray((part * (255 - alpha) + paint * alpha + 127) // 255, dtype=np.uint8)


def choose_corner(faces: npt.ArrayLike, size: tuple[int, int]) -> str:
    """Return the corner in which the label covers least of the faces of a whole clip.

    Args:
        faces: Boxes of all faces in all frames, (N, 4).
        size: (width, height) px of the frames.
    """
    paint, _ = _render_strip(*size)
    label = (paint.shape[1], paint.shape[0])
    boxes = np.asarray(faces, dtype=np.float64).reshape(-1, 4)

    def covered_px(corner: str) -> float:
        """Return the number of face pixels that the label covers in a corner."""
        x, y = _corner_position(corner, size, label)
        across = np.minimum(boxes[:, 2], x + label[0]) - np.maximum(boxes[:, 0], x)
        down = np.minimum(boxes[:, 3], y + label[1]) - np.maximum(boxes[:, 1], y)
        return float((across.clip(0) * down.clip(0)).sum())

    return min(CORNERS, key=covered_px)


def _corner_position(corner: str, size: tuple[int, int], label: tuple[int, int]) -> tuple[int, int]:
    """Return the position of the label's upper left pixel."""
    margin = min(
        label[1] // 2, *((whole - part) // 2 for whole, part in zip(size, label, strict=True))
    )
    x = size[0] - label[0] - margin if "right" in corner else margin
    y = size[1] - label[1] - margin if "bottom" in corner else margin
    return x, y


@lru_cache(maxsize=8)
def _render_strip(width: int, height: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return the label's color and opacity for a frame's size, both (h, w, 3), 0 to 255."""
    font_px = max(MIN_TEXT_PX, round(TEXT_HEIGHT * min(width, height)))
    font = ImageFont.load_default(size=font_px)
    length = font.getlength(TEXT)
    strip_width, strip_height = round(length + font_px), round(1.6 * font_px)
    image = Pillow.new("LA", (strip_width, strip_height), (0, _BACKGROUND_ALPHA))
    ImageDraw.Draw(image).text(
        (strip_width / 2, strip_height / 2), TEXT, fill=(255, 255), font=font, anchor="mm"
    )
    # In a small image the strip is scaled down to fit.
    scale = min(1.0, MAX_WIDTH * width / strip_width, MAX_WIDTH * height / strip_height)
    if scale < 1:
        fitted = (max(1, int(strip_width * scale)), max(1, int(strip_height * scale)))
        image = image.resize(fitted, Pillow.Resampling.LANCZOS)
    values = np.asarray(image).astype(np.uint16)
    paint, alpha = np.repeat(values[..., None], 3, axis=3).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(paint), np.ascontiguousarray(alpha)
