"""The camera: where it stands, and how it turns light into an image."""

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.heads.scene import HeadScene
from faceswap_cli.synthetic.geometry import Floats, clip

FRAME_CM = 35.0
"""What the frame shows at scale 1, at the distance of the eyes."""
_AIM_CM = (0.0, -3.0, 0.0)
"""What the frame's middle shows without a shift."""
_REFERENCE_PX = 256


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A camera's place and field of view."""

    origin: Floats
    """float32 (3,): the camera, cm in the scene."""
    fov_rad: float

    def to_camera(self, points: Floats) -> Floats:
        """Return points of the scene (N, 3) relative to the camera."""
        local: Floats = points - self.origin
        return local

    def project(self, points: Floats, side: int) -> Floats:
        """Return the pixels (N, 2) of points of the scene (N, 3) in a square image."""
        local = self.to_camera(points)
        scale = side / 2 / math.tan(self.fov_rad / 2) / -local[:, 2:]
        pixels: Floats = local[:, :2] * scale * [1, -1] + (side / 2 - 0.5)
        return pixels

    def unproject(self, pixels: AnyArray, depth_cm: Floats, side: int) -> Floats:
        """Return the points of the scene (3, N) at pixels of a square image, by their depth.

        Args:
            pixels: Row times side plus column, (N,).
            depth_cm: Distance along the optical axis (N,).
            side: px.
        """
        step = 2 * math.tan(self.fov_rad / 2) / side
        rows, columns = np.divmod(pixels, side)
        points = np.empty((3, len(pixels)), np.float32)
        points[0] = (columns - (side / 2 - 0.5)) * step * depth_cm + self.origin[0]
        points[1] = ((side / 2 - 0.5) - rows) * step * depth_cm + self.origin[1]
        points[2] = self.origin[2] - depth_cm
        return points


def view(scene: HeadScene) -> View:
    """Return the camera of a scene."""
    distance = scene.camera.distance_cm
    across, up = scene.shift
    origin = np.array([_AIM_CM[0] - across, _AIM_CM[1] - up, _AIM_CM[2] + distance], np.float32)
    return View(origin=origin, fov_rad=2 * math.atan(FRAME_CM / 2 / scene.scale / distance))


def take_image(light: Floats, depth_cm: Floats, scene: HeadScene, size_px: int) -> Image:
    """Return the camera's image of linear light (H, W, 3): optics, sensor, tone curve, codec."""
    camera = scene.camera
    scale = size_px / _REFERENCE_PX
    light = cv2.resize(light, (size_px, size_px), interpolation=cv2.INTER_AREA)
    if camera.depth_blur > 0:
        depth_cm = cv2.resize(depth_cm, (size_px, size_px), interpolation=cv2.INTER_AREA)
        light = _depth_blur(light, depth_cm, camera.distance_cm, camera.depth_blur * scale)
    if camera.motion != (0.0, 0.0):
        light = cv2.filter2D(light, -1, _motion_kernel(camera.motion, scale))
    if camera.blur > 0.05:
        light = cv2.GaussianBlur(light, (0, 0), camera.blur * scale)
    light = light * (np.array(camera.white_balance, np.float32) * np.float32(camera.exposure))
    display = _tone_curve(light)
    if camera.contrast != 1.0:
        display = 0.5 + (display - 0.5) * np.float32(camera.contrast)
    display = display * 255
    if camera.noise > 0:
        display += np.float32(camera.noise) * _sensor_noise(scene.seed, display.shape)
    if camera.interlaced:  # the second field is of a moment later
        display[1::2] = np.roll(display, max(1, size_px // 160), axis=1)[1::2]
    image: Image = clip(np.round(display), 0, 255).astype(np.uint8)
    if camera.jpeg_quality:
        image = _through_jpeg(image, camera.jpeg_quality)
    return image


@cache
def _noise_table() -> Floats:
    """Return normal noise, (2^21,): drawing it anew for every image would take longer than skin."""
    return np.random.default_rng(77).standard_normal(1 << 21, np.float32)


def _sensor_noise(seed: int, shape: tuple[int, ...]) -> Floats:
    """Return noise of a seed: the table from some place on."""
    table = _noise_table()
    start = int(np.random.default_rng((seed, 77)).integers(len(table)))
    count = math.prod(shape)
    rounds = -(-(start + count) // len(table))
    long = table if rounds == 1 else np.tile(table, rounds)
    return long[start : start + count].reshape(shape)


def _tone_curve(light: Floats) -> Floats:
    """Return display values of linear light: a film's soft shoulder, then gamma."""
    bright = np.maximum(light, 0)
    rolled = bright * (1 + bright * (1 / 6.0)) / (1 + 0.62 * bright)
    display: Floats = cv2.pow(rolled, 1 / 2.2)
    return display


def _depth_blur(light: Floats, depth_cm: Floats, focus_cm: float, sigma: float) -> Floats:
    """Blur what is behind the eyes: `sigma` at 10 cm, twice at infinity."""
    blurred = cv2.GaussianBlur(light, (0, 0), sigma)
    amount = clip((depth_cm - focus_cm - 2) * (1 / 10), 0, 1)
    amount = cv2.GaussianBlur(amount, (0, 0), 1.5)[..., None]
    mixed: Floats = light + (blurred - light) * amount
    return mixed


def _motion_kernel(motion: tuple[float, float], scale: float) -> Floats:
    """Return a line of a motion's length and direction, px of the supersampled image."""
    x, y = motion[0] * scale, motion[1] * scale
    side = 2 * math.ceil(max(abs(x), abs(y)) / 2) + 3
    kernel = np.zeros((side, side), np.float32)
    middle = side // 2
    start = (round((middle - x / 2) * 16), round((middle - y / 2) * 16))
    end = (round((middle + x / 2) * 16), round((middle + y / 2) * 16))
    cv2.line(kernel, start, end, 1.0, 1, cv2.LINE_AA, 4)
    normalized: Floats = kernel / kernel.sum()
    return normalized


def _through_jpeg(image: Image, quality: int) -> Image:
    """Return an image compressed and decompressed."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: AnyArray = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.ascontiguousarray(decoded[..., ::-1])
