"""`HeadScene`: everything in an image but the person: pose, expression, light, camera.

Convention:
    yaw + turns the head to the image's right, pitch + nods down, roll + leans counter-clockwise,
    degrees; the head's rotation is Rz(roll) @ Ry(yaw) @ Rx(pitch), with x to the image's right, y
    up and z towards the camera. Blendshapes are in the order of `BLENDSHAPE_NAMES`; in place of
    `_neutral` is how far the tongue is out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.synthetic.geometry import Triple

NEUTRAL: tuple[float, ...] = (0.0,) * len(BLENDSHAPE_NAMES)
GAZE_DEGREES = 30.0, 25.0
"""How far the eyes turn sideways, and up or down, at a coefficient of 1."""


def blendshapes(values: Mapping[str, float]) -> tuple[float, ...]:
    """Return the 52 coefficients, 0 but for `values` by name.

    Raises:
        KeyError: A name is not one of `BLENDSHAPE_NAMES`.
    """
    full = dict.fromkeys(BLENDSHAPE_NAMES, 0.0)
    for name, value in values.items():
        full[name] += value
    return tuple(full.values())


@dataclass(frozen=True, kw_only=True)
class Lamp:
    """A source of light far away."""

    direction: Triple = (-0.4, 0.5, 1.0)
    """Towards the lamp: image right, up, towards the camera; any length."""
    color: Triple = (1.0, 1.0, 1.0)
    """Linear RGB times the strength; 1 lights a white surface fully."""
    size: float = 0.3
    """0 a point with hard shadows, to 1 a window next to the head."""
    shadow: bool = True


@dataclass(frozen=True, kw_only=True)
class CameraTraits:
    """How the camera takes the image."""

    distance_cm: float = 90.0
    blur: float = 0.5
    """Standard deviation of the lens's blur at 256 px, px; grows with the size."""
    motion: tuple[float, float] = (0.0, 0.0)
    """Length of the motion blur at 256 px, to the image's right and down, px."""
    depth_blur: float = 0.0
    """Blur 10 cm behind the eyes at 256 px, px."""
    noise: float = 1.4
    """Standard deviation of the sensor's noise, in 255ths."""
    white_balance: Triple = (1.0, 1.0, 1.0)
    exposure: float = 1.0
    contrast: float = 1.0
    jpeg_quality: int = 0
    """0 for none, else 1 to 100."""
    interlaced: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadScene:
    """Pose, expression, light and camera of one image."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    blendshapes: tuple[float, ...] = NEUTRAL
    gaze: tuple[float, float] | None = None
    """Degrees to the image's right and up, relative to the head; default: as the blendshapes say.
    The lids follow in either case."""
    shift: tuple[float, float] = (0.0, 0.0)
    """cm to the image's right and up; the frame shows about 35 cm."""
    scale: float = 1.0
    """Size in the frame; 1 makes the head about two thirds of its height."""
    lamps: tuple[Lamp, ...] = (Lamp(color=(0.9, 0.88, 0.84)),)
    sky: Triple = (0.36, 0.38, 0.42)
    """Ambient light from above, linear RGB."""
    ground: Triple = (0.20, 0.18, 0.16)
    """Ambient light from below."""
    background: int = 1
    """Seed of the room in the background."""
    camera: CameraTraits = CameraTraits()
    seed: int = 1
    """Seed of the noise; equal scenes have the same noise."""
