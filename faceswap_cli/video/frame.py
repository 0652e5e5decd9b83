"""One frame of a video or an image sequence: its position, its pixels, and the file's own samples.

A decoded frame becomes RGB only where it is read (`LazyFrame`). It also carries the samples as the
file has them (`SourceSamples`): going through RGB costs a level here and there, and two bits of
every color of a 10-bit clip, so the encoder takes only changed areas from the RGB.
"""

import threading
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.types import Gray, Image
from faceswap_cli.video.color import ColorRange, ToRGB, get_planes, to_planar_format
from faceswap_cli.video.orientation import Orientation


@dataclass(frozen=True, kw_only=True)
class FramePosition:
    """Where a frame is in its source."""

    index: int
    """Counted from 0 in the order of showing."""
    time: Fraction
    """Time stamp in the file, seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SourceSamples:
    """A decoded frame with the samples of the file, as stored."""

    decoded: VideoFrame
    orientation: Orientation

    @property
    def pixel_format(self) -> str | None:
        """FFmpeg's name of the upright image's samples; None if they are not planar YUV."""
        return to_planar_format(self.decoded.format.name, transposed=self.orientation.transposed)


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One image of a video or an image sequence."""

    index: int
    """Counted from 0 in the order of showing."""
    time: Fraction
    """Time stamp exactly as in the file, seconds."""
    view: LazyImage
    original: SourceSamples | Path | None = None
    """The decoded samples, or an image's own file: writers copy from it what is not changed."""

    @property
    def position(self) -> FramePosition:
        """Index and time stamp."""
        return FramePosition(index=self.index, time=self.time)

    @property
    def image(self) -> Image:
        """All of it, RGB uint8 (H, W, 3); reading an area of `view` is quicker."""
        return self.view.to_array()


class LazyFrame:
    """A decoded frame as a `LazyImage`: areas become upright RGB when they are read, once.

    Args:
        frame: The frame.
        to_rgb: Its converter.
        orientation: How it is stored.
    """

    def __init__(self, frame: VideoFrame, *, to_rgb: ToRGB, orientation: Orientation) -> None:
        self._frame = frame
        self._to_rgb = to_rgb
        self._orientation = orientation
        self._lock = threading.Lock()
        self._image: Image | None = None
        self._valid_areas: list[Rect] = []
        """Areas of the image that are converted."""
        self._is_complete = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px, upright."""
        width, height = self._to_rgb.size
        return (height, width) if self._orientation.transposed else (width, height)

    def to_array(self) -> Image:
        """Return the whole image."""
        with self._lock:
            if self._image is None or not self._is_complete:
                self._image = self._orientation.to_upright(self._to_rgb(self._frame))
                self._is_complete = True
            return self._image

    def to_partial_array(self, area: Rect) -> Image:
        """Return an array of the whole image's shape that is valid inside `area` only."""
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
        """Return the parts of an area that are not converted yet."""
        parts = [area]
        for done in self._valid_areas:
            parts = [rest for part in parts for rest in part.subtract(done)]
        return parts

    def _convert_area(self, area: Rect) -> Image:
        """Return the pixels of an area."""
        stored = self._orientation.to_stored_area(area, self.size)
        return self._orientation.to_upright(self._to_rgb.convert_area(self._frame, stored))

    def sample_luma(self, step: int) -> Gray:
        """Return the file's luma of every `step`-th pixel both ways, scaled to 0-255."""
        if to_planar_format(self._frame.format.name) is None:
            return ArrayImage(image=self.to_array()).sample_luma(step)
        luma = get_planes(self._frame)[0][::step, ::step]
        levels = luma.astype(np.float32) / 2 ** (self._frame.format.components[0].bits - 8)
        if self._to_rgb.tags.range == ColorRange.LIMITED:
            levels = (levels - 16) * (255 / 219)
        return self._orientation.to_upright(np.clip(np.rint(levels), 0, 255).astype(np.uint8))
