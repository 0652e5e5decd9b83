"""A decoded frame as a view: RGB where it is looked at, upright; nothing of when it is shown."""

import threading

import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.arrays import Grey, Image
from faceswap_cli.video.colour import Range, ToRGB
from faceswap_cli.video.orientation import Orientation
from faceswap_cli.video.planes import planar, samples
from faceswap_cli.views import Area, Still, beyond, clipped


class FrameView:
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
        self._done: list[Area] = []
        """Where the image is right."""
        self._is_whole = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px, upright."""
        width, height = self._to_rgb.size
        return (height, width) if self._orientation.swapped else (width, height)

    def whole(self) -> Image:
        """Return all of it."""
        with self._lock:
            if self._image is None or not self._is_whole:
                self._image = self._orientation.upright(self._to_rgb(self._frame))
                self._is_whole = True
            return self._image

    def showing(self, area: Area) -> Image:
        """Return an array of its shape that is right inside `area` and has anything elsewhere."""
        width, height = self.size
        area = clipped(area, self.size)
        with self._lock:
            if self._image is None:
                self._image = np.empty((height, width, 3), np.uint8)
            for part in [] if self._is_whole else self._missing(area):
                left, top, right, bottom = part
                self._image[top:bottom, left:right] = self._developed(part)
            self._done.append(area)
            return self._image

    def _missing(self, area: Area) -> list[Area]:
        """Return the parts of an area that nobody looked at."""
        parts = [area]
        for done in self._done:
            parts = [rest for part in parts for rest in beyond(part, done)]
        return parts

    def _developed(self, area: Area) -> Image:
        """Return what an area shows."""
        stored = self._orientation.stored(area, self.size)
        return self._orientation.upright(self._to_rgb.part(self._frame, stored))

    def grey(self, step: int) -> Grey:
        """Return the light of every `step`-th pixel both ways: the luma as the file has it."""
        if planar(self._frame.format.name) is None:
            return Still(image=self.whole()).grey(step)
        luma = samples(self._frame)[0][::step, ::step]
        light = luma.astype(np.float32) / 2 ** (self._frame.format.components[0].bits - 8)
        if self._to_rgb.tags.range == Range.LIMITED:
            light = (light - 16) * (255 / 219)
        return self._orientation.upright(np.clip(np.rint(light), 0, 255).astype(np.uint8))
