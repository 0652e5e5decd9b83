"""A decoded frame as a view: RGB where it is looked at, upright; nothing of when it is shown."""

import threading

import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import ArrayImage, Rect
from faceswap_cli.core.types import Gray, Image
from faceswap_cli.video.color import ColorRange, ToRGB
from faceswap_cli.video.orientation import Orientation
from faceswap_cli.video.pixel_format import get_planes, to_planar_format


class LazyFrame:
    """A decoded frame that becomes RGB where it is looked at, once.

    Args:
        frame: The frame.
        to_rgb: Turns it into RGB.
        orientation: How it lies.
    """

    def __init__(self, frame: VideoFrame, *, to_rgb: ToRGB, orientation: Orientation) -> None:
        self._frame = frame
        self._to_rgb = to_rgb
        self._orientation = orientation
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._valid_areas: list[Rect] = []
        """Where the image is right."""
        self._is_complete = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px, upright."""
        width, height = self._to_rgb.size
        return (height, width) if self._orientation.transposed else (width, height)

    def to_array(self) -> Image:
        """Return all of it."""
        with self._lock:
            if self._image is None or not self._is_complete:
                self._image = self._orientation.to_upright(self._to_rgb(self._frame))
                self._is_complete = True
            return self._image

    def to_partial_array(self, area: Rect) -> Image:
        """Return an array of its shape that is right inside `area` and has anything elsewhere."""
        width, height = self.size
        area = area.clip_nonempty(self.size)
        with self._lock:
            if self._image is None:
                self._image = np.empty((height, width, 3), np.uint8)
            for part in [] if self._is_complete else self._find_missing(area):
                self._image[part.slices] = self._convert_area(part)
            self._valid_areas.append(area)
            return self._image

    def _find_missing(self, area: Rect) -> list[Rect]:
        """Return the parts of an area that nobody looked at."""
        parts = [area]
        for done in self._valid_areas:
            parts = [rest for part in parts for rest in part.subtract(done)]
        return parts

    def _convert_area(self, area: Rect) -> Image:
        """Return what an area shows."""
        stored = self._orientation.to_stored_area(area, self.size)
        return self._orientation.to_upright(self._to_rgb.convert_area(self._frame, stored))

    def sample_luma(self, step: int) -> Gray:
        """Return the light of every `step`-th pixel both ways: the luma as the file has it."""
        if to_planar_format(self._frame.format.name) is None:
            return ArrayImage(image=self.to_array()).sample_luma(step)
        luma = get_planes(self._frame)[0][::step, ::step]
        light = luma.astype(np.float32) / 2 ** (self._frame.format.components[0].bits - 8)
        if self._to_rgb.tags.range == ColorRange.LIMITED:
            light = (light - 16) * (255 / 219)
        return self._orientation.to_upright(np.clip(np.rint(light), 0, 255).astype(np.uint8))
