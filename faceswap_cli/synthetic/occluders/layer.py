"""`OccluderLayer`: a drawn thing with its opacity, in the square of an aligned face.

Convention:
    Positions are cm in the plane of an average face: x to the image's right, y up, the origin that
    of MediaPipe's face model, between the eyes and the tip of the nose. The layer covers the unit
    square of `faces.alignment`, whose template is in the same coordinates.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray, Mask
from faceswap_cli.faces.alignment import CENTER_BELOW_ORIGIN_CM, SIDE_CM
from faceswap_cli.synthetic.geometry import Floats, Triple, clip, soft_noise


@dataclass(frozen=True, kw_only=True, eq=False)
class OccluderLayer:
    """A thing in front of a face."""

    pixels: AnyArray
    """uint8 (S, S, 4): RGB, and opacity: how much of the thing a pixel shows."""
    is_worn: bool = False
    """Whether it moves with the face, as glasses do; else it may be anywhere."""
    hides: bool = True
    """Whether what it covers counts as hidden; a shadow or a clear lens darkens the face only."""

    @classmethod
    def from_drawing(
        cls, color: Floats, opacity: Floats, *, is_worn: bool = False, hides: bool = True
    ) -> "OccluderLayer":
        """Return the layer of a color (S, S, 3) and an opacity (S, S), both in [0, 1]."""
        levels = np.round(clip(np.dstack([color, opacity]), 0, 1) * 255)
        return cls(pixels=levels.astype(np.uint8), is_worn=is_worn, hides=hides)

    @property
    def size_px(self) -> int:
        """Side of the layer."""
        return int(self.pixels.shape[0])


def plane_points(size_px: int) -> tuple[Floats, Floats]:
    """Return x and y of the pixels of a layer, cm, float32 (S, S)."""
    unit = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    x, y = np.meshgrid(unit * SIDE_CM, -unit * SIDE_CM - CENTER_BELOW_ORIGIN_CM)
    return x, y


def pixels_per_cm(size_px: int) -> float:
    """Return the scale of a layer."""
    return size_px / SIDE_CM


def to_pixels(points_cm: Floats, size_px: int) -> Floats:
    """Return positions (N, 2) cm as (x, y) px."""
    x, y = points_cm[:, 0], -points_cm[:, 1] - CENTER_BELOW_ORIGIN_CM
    return np.stack([(v / SIDE_CM + 0.5) * size_px - 0.5 for v in (x, y)], axis=1)


def edge(distance_cm: Floats, size_px: int) -> Mask:
    """Return the antialiased inside of a signed distance, cm, negative inside."""
    return clip(0.5 - distance_cm * pixels_per_cm(size_px), 0, 1)


def fractal_noise(
    rng: np.random.Generator, size_px: int, *, nodes: int = 4, octaves: int = 4
) -> Floats:
    """Return smooth noise of mean 0 and deviation 1, float32 (S, S).

    Args:
        rng: Source of the numbers.
        size_px: Side.
        nodes: Nodes of the coarsest octave along a side.
        octaves: How many octaves, each twice as fine and half as strong.
    """
    layers = tuple((min(nodes * 2**one, size_px), 0.5**one) for one in range(octaves))
    return soft_noise(rng, (size_px, size_px), layers)


def shade_color(color: Triple | Floats, brightness: Floats) -> Floats:
    """Return one color under many brightnesses, float32 (S, S, 3)."""
    return clip(np.asarray(color, np.float32) * brightness[..., None], 0, 1)


def random_color(rng: np.random.Generator) -> Floats:
    """Return any color, muted or bright, float32 (3,)."""
    gray, hue = rng.uniform(0.03, 0.95), rng.uniform(0, 1, 3)
    mixed: Floats = (gray + (hue - gray) * rng.uniform(0, 0.8)).astype(np.float32)
    return clip(mixed, 0.01, 0.98)


def random_texture(rng: np.random.Generator, size_px: int) -> Floats:
    """Return a surface: plain, cloudy, striped or checked, float32 (S, S, 3)."""
    first, second = random_color(rng), random_color(rng)
    x, y = plane_points(size_px)
    kind = rng.uniform()
    if kind < 0.4:
        weight = np.zeros((size_px, size_px), np.float32)
    elif kind < 0.7:
        noise = fractal_noise(rng, size_px, nodes=int(rng.integers(2, 12)))
        weight = clip(0.5 + 0.5 * noise, 0, 1)
    else:
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.4, 4)
        bend = 0.4 * fractal_noise(rng, size_px, nodes=3, octaves=1)
        weight = 0.5 + 0.5 * np.sin((x * np.cos(angle) + y * np.sin(angle) + bend) * 6.28 / period)
        if kind > 0.85:
            other = np.sin((y * np.cos(angle) - x * np.sin(angle) + bend) * 6.28 / period)
            weight = 0.5 * weight + 0.25 + 0.25 * other
        weight = clip(0.5 + rng.uniform(1, 8) * (weight - 0.5), 0, 1)
    texture: Floats = first + (second - first) * np.asarray(weight, np.float32)[..., None]
    return texture


def random_light(rng: np.random.Generator) -> tuple[Triple, float, float]:
    """Return the unit vector towards a lamp, and the strength of ambient light and of the lamp."""
    x, y, z = rng.uniform(-1, 1), rng.uniform(-0.4, 1), rng.uniform(0.35, 1.2)
    length = float(np.sqrt(x * x + y * y + z * z))
    ambient = float(rng.uniform(0.35, 0.75))
    return (x / length, y / length, z / length), ambient, float(rng.uniform(0.4, 1.15 - ambient))


def shade_height(
    height_cm: Floats, rng: np.random.Generator, size_px: int, *, gloss: float = 0.0
) -> Floats:
    """Return the brightness of a surface given as height over the plane, float32 (S, S).

    Args:
        height_cm: Towards the camera; steps in it are edges of one thing before another.
        rng: Source of the light.
        size_px: Side.
        gloss: Strength of the reflection of the lamp, 0 to 1.
    """
    scale = pixels_per_cm(size_px)
    height_cm = np.asarray(height_cm, np.float32)
    slope_x = cv2.Sobel(height_cm, cv2.CV_32F, 1, 0, ksize=3, scale=scale / 8)
    slope_y = -cv2.Sobel(height_cm, cv2.CV_32F, 0, 1, ksize=3, scale=scale / 8)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    (x, y, z), ambient, key = random_light(rng)
    towards = (z - x * slope_x - y * slope_y) / length
    # Hollows between two things get less light.
    hollow = clip(cv2.GaussianBlur(height_cm, (0, 0), 0.8 * scale) - height_cm, 0, 1)
    brightness = ambient * (0.75 + 0.25 / length) + key * clip((towards + 0.15) / 1.15, 0, 1)
    shine = gloss * clip(towards, 0, 1) ** 24
    return np.asarray(brightness * (1 - 0.5 * hollow) + shine, np.float32)
