"""One frame of a video or an image sequence: its position, its pixels, and the file's own samples.

A decoded frame becomes RGB only where it is read (`LazyFrame`). It also carries the samples as the
file has them (`SourceSamples`): going through RGB costs a level here and there, and two bits of
every color of a 10-bit clip, so the encoder takes only changed areas from the RGB.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from faceswap_cli.core.fileio import parse_fraction
from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.types import Gray, Image
from faceswap_cli.video.color import (
    SWSCALE_THREADS,
    ColorRange,
    ToRGB,
    get_planes,
    read_color_tags,
    to_planar_format,
)
from faceswap_cli.video.orientation import Orientation


@dataclass(frozen=True, kw_only=True)
class FramePosition:
    """Where a frame is in its source."""

    index: int
    """Counted from 0 in the order of showing."""
    time: Fraction
    """Time stamp in the file, seconds."""


@dataclass(frozen=True, kw_only=True)
class MissingSpan:
    """A time of a source of which no frame can be read, since the file is damaged there."""

    start: Fraction
    """Time stamp, seconds: where the frame before it ends."""
    end: Fraction
    """Time stamp of the frame after it, seconds."""
    frames: int
    """Frames that are missing, at the usual rate."""
    is_end: bool = False
    """The file was cut off there."""

    def clip(self, start: Fraction | None, end: Fraction | None) -> "MissingSpan | None":
        """Return the part of it between two time stamps, s, or None; None: without a limit."""
        begin = self.start if start is None else max(self.start, start)
        stop = self.end if end is None else min(self.end, end)
        if begin >= stop:
            return None
        frames = max(1, round(self.frames * (stop - begin) / (self.end - self.start)))
        return replace(self, start=begin, end=stop, frames=frames)

    def to_json(self) -> list[Any]:
        """Return it as JSON stores it."""
        return [str(self.start), str(self.end), self.frames, self.is_end]

    @classmethod
    def from_json(cls, entry: Sequence[Any]) -> Self:
        """Return what `to_json` stored."""
        start, end, frames, is_end = entry
        return cls(
            start=parse_fraction(start), end=parse_fraction(end), frames=frames, is_end=is_end
        )


class MissingSpans:
    """The missing times of a source, each once, whatever readings meet them."""

    def __init__(self, stored: Sequence[Sequence[Any]] = ()) -> None:
        """Take those of an earlier run, as `to_json` returned them."""
        self._by_start: dict[Fraction, MissingSpan] = {}
        for entry in stored:
            self.add(MissingSpan.from_json(entry))

    def add(self, span: MissingSpan) -> None:
        """Add a time; it does nothing if it is known."""
        self._by_start.setdefault(span.start, span)

    def __contains__(self, span: MissingSpan) -> bool:
        """Return whether a time is known."""
        return span.start in self._by_start

    def __iter__(self) -> Iterator[MissingSpan]:
        """Yield the times in order."""
        return iter(sorted(self._by_start.values(), key=lambda span: span.start))

    @property
    def frames(self) -> int:
        """Frames that are missing in all."""
        return sum(span.frames for span in self)

    @property
    def seconds(self) -> float:
        """Seconds that are missing in all."""
        return round(float(sum(span.end - span.start for span in self)), 3)

    def to_json(self) -> list[list[Any]]:
        """Return the times as JSON stores them."""
        return [span.to_json() for span in self]


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


class FrameFitter:
    """Gives decoded frames the size, pixel aspect and format of the first one.

    Recordings that were joined, and broadcasts, change them. A frame of another shape is scaled to
    fit, its aspect kept, and centered on black.

    Args:
        first: The first frame.
        aspect: Width over height of one of its pixels.
    """

    def __init__(self, first: VideoFrame, aspect: Fraction) -> None:
        self.size = first.width, first.height
        self.changed_sizes: list[tuple[int, int]] = []
        """(width, height) px of the frames that were scaled, as stored."""
        self._aspect = aspect
        self._format = first.format.name
        self._tags = read_color_tags(first).with_defaults(self.size)
        self._reformatter = VideoReformatter()

    def fit(self, frame: VideoFrame, aspect: Fraction) -> VideoFrame:
        """Return a frame as the first one is; the same object if nothing differs.

        Args:
            frame: A decoded frame.
            aspect: Width over height of one of its pixels.
        """
        size = frame.width, frame.height
        if (size, aspect, frame.format.name) == (self.size, self._aspect, self._format):
            return frame
        if (size, aspect) != (self.size, self._aspect) and size not in self.changed_sizes:
            self.changed_sizes.append(size)
        fitted = self._pad(self._scale(frame, self._fitting_size(size, aspect / self._aspect)))
        fitted.pts, fitted.dts, fitted.duration = frame.pts, frame.dts, frame.duration
        return fitted

    def _fitting_size(self, size: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
        """Return the largest (width, height) px for a frame that keeps its shape.

        Args:
            size: (width, height) px of the frame.
            aspect: Width of its pixels over that of the first frame's, at the same height.
        """
        scale = min(self.size[0] / (size[0] * aspect), Fraction(self.size[1], size[1]))
        wanted = size[0] * aspect * scale, size[1] * scale
        # Even, as samples of color may cover two pixels; a pixel of bar is not worth having.
        return tuple(  # type: ignore[return-value]
            full if full - 2 < length else max(2, round(length / 2) * 2)
            for length, full in zip(wanted, self.size, strict=True)
        )

    def _scale(self, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
        """Return a frame scaled to (width, height) px, in the first one's format and colors."""
        tags = read_color_tags(frame).with_defaults((frame.width, frame.height))
        if not frame.format.is_rgb:
            frame.colorspace, frame.color_range = tags.matrix or 0, tags.range or 0
        return self._reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format=self._format,
            dst_colorspace=self._tags.matrix,
            dst_color_range=self._tags.range,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=SWSCALE_THREADS,
        )

    def _pad(self, frame: VideoFrame) -> VideoFrame:
        """Return a frame in the middle of a black one of the first one's size."""
        width, height = frame.width, frame.height
        if (width, height) == self.size or to_planar_format(self._format) is None:
            return frame
        padded = VideoFrame(*self.size, self._format)
        x0, y0 = (
            (full - part) // 4 * 2 for full, part in zip(self.size, (width, height), strict=True)
        )
        bits = frame.format.components[0].bits
        black = 0 if self._tags.range == ColorRange.FULL else 16 << (bits - 8)
        planes = zip(get_planes(padded), get_planes(frame), strict=True)
        for number, (target, plane) in enumerate(planes):
            target[:] = 128 << (bits - 8) if number else black
            rows, columns = plane.shape
            top = y0 * target.shape[0] // self.size[1]
            left = x0 * target.shape[1] // self.size[0]
            target[top : top + rows, left : left + columns] = plane
        padded.colorspace, padded.color_range = frame.colorspace, frame.color_range
        return padded
