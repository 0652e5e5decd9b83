"""A line in the picture itself: it survives what strips credentials, and needs no program to read.

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
"""Height of the letters' line as a part of the picture's shorter side."""
MIN_TEXT_PX = 11
"""Below that letters run together."""
MAX_WIDTH = 0.9
"""The line never takes more of the picture's width."""
CORNERS = ("bottom left", "bottom right", "top left", "top right")
"""Where it may stand, most usual first."""
_BACKGROUND_ALPHA = 150
"""How dark the strip behind the letters is, of 255: white on it reads over any picture."""


def draw_label(frame: Image, corner: str = CORNERS[0]) -> Image:
    """Return a frame with the line in one of its corners.

    Args:
        frame: uint8 (H, W, 3); it is left as it is.
        corner: A name in `CORNERS`: the same for all frames of a clip, see `choose_corner`.
    """
    height, width = frame.shape[:2]
    labelled = frame.copy()
    part = labelled[label_area((width, height), corner).slices]
    part[:] = overlay_label(part, (width, height))
    return labelled


def label_area(size: tuple[int, int], corner: str) -> Rect:
    """Return the part of a frame of (width, height) px that the line takes."""
    paint, _ = _render_strip(*size)
    height, width = paint.shape[:2]
    x, y = _corner_position(corner, size, (width, height))
    return Rect(x, y, x + width, y + height)


def overlay_label(part: Image, size: tuple[int, int]) -> Image:
    """Return that part, uint8 (h, w, 3), with the line over it."""
    paint, alpha = _render_strip(*size)
    return np.asarray((part * (255 - alpha) + paint * alpha + 127) // 255, dtype=np.uint8)


def choose_corner(faces: npt.ArrayLike, size: tuple[int, int]) -> str:
    """Return the corner in which the line hides least of the faces of a whole clip.

    Args:
        faces: Boxes of all faces in all frames, (N, 4).
        size: (width, height) px of the frames.
    """
    paint, _ = _render_strip(*size)
    line = (paint.shape[1], paint.shape[0])
    boxes = np.asarray(faces, dtype=np.float64).reshape(-1, 4)

    def hidden(corner: str) -> float:
        """Return how many pixels of faces the line hides there."""
        x, y = _corner_position(corner, size, line)
        across = np.minimum(boxes[:, 2], x + line[0]) - np.maximum(boxes[:, 0], x)
        down = np.minimum(boxes[:, 3], y + line[1]) - np.maximum(boxes[:, 1], y)
        return float((across.clip(0) * down.clip(0)).sum())

    return min(CORNERS, key=hidden)


def _corner_position(corner: str, size: tuple[int, int], line: tuple[int, int]) -> tuple[int, int]:
    """Return where the upper left pixel of the line goes."""
    margin = min(
        line[1] // 2, *((whole - part) // 2 for whole, part in zip(size, line, strict=True))
    )
    x = size[0] - line[0] - margin if "right" in corner else margin
    y = size[1] - line[1] - margin if "bottom" in corner else margin
    return x, y


@lru_cache(maxsize=8)
def _render_strip(width: int, height: int) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return the line's colours and how much of them shows, both (h, w, 3), 0 to 255."""
    letters = max(MIN_TEXT_PX, round(TEXT_HEIGHT * min(width, height)))
    font = ImageFont.load_default(size=letters)
    length = font.getlength(TEXT)
    strip_width, strip_height = round(length + letters), round(1.6 * letters)
    image = Pillow.new("LA", (strip_width, strip_height), (0, _BACKGROUND_ALPHA))
    ImageDraw.Draw(image).text(
        (strip_width / 2, strip_height / 2), TEXT, fill=(255, 255), font=font, anchor="mm"
    )
    # A picture too small for letters of that size gets what fits.
    scale = min(1.0, MAX_WIDTH * width / strip_width, MAX_WIDTH * height / strip_height)
    if scale < 1:
        fitted = (max(1, int(strip_width * scale)), max(1, int(strip_height * scale)))
        image = image.resize(fitted, Pillow.Resampling.LANCZOS)
    values = np.asarray(image).astype(np.uint16)
    paint, alpha = np.repeat(values[..., None], 3, axis=3).transpose(2, 0, 1, 3)
    return np.ascontiguousarray(paint), np.ascontiguousarray(alpha)
