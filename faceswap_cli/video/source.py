"""Sources of frames: `find_sources` opens what a user names, a video or an image sequence."""

import glob
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import FaceswapError, InputError
from faceswap_cli.core.fileio import fingerprint
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.video.faceforensics import find_partners, find_source_videos, is_faceforensics
from faceswap_cli.video.frame import Frame, FramePosition, MissingSpan, MissingSpans
from faceswap_cli.video.probe import VideoInfo, probe
from faceswap_cli.video.reader import VideoReader
from faceswap_cli.video.time_range import WHOLE, TimeRange

Note = Callable[[str], None]
"""Is called with one line of text."""
OnError = Callable[[Path, InputError], None]
"""Is called with a name or a file that cannot be opened, and why."""
ReportMissing = Callable[[MissingSpan], None]
"""Is called with each time of which a damaged source has no frame."""

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".avif"}
)
"""File name extensions of images, in lower case."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".3gp", ".flv", ".wmv", ".ogv", ".gif", ".apng", ".mxf"}
)
"""Those of the videos that are found in a folder; a video named by the user may have any."""
_ANIMATION_FORMATS = frozenset({"PNG", "AVIF"})
"""Image formats, by Pillow's names, whose animations FFmpeg decodes."""
IMAGE_SEQUENCE_FPS = Fraction(25)
"""Frame rate of an image sequence, frames a second."""


class FrameSource(Protocol):
    """Frames in a fixed order: a video, or image files as one sequence."""

    @property
    def name(self) -> str:
        """The name to show to the user."""

    @property
    def stem(self) -> str:
        """The default name of a set of its faces."""

    @property
    def count(self) -> int | None:
        """Number of frames as the file claims, or None; good enough for a progress bar."""

    @property
    def average_rate(self) -> Fraction:
        """Frames a second."""

    @property
    def start_time(self) -> Fraction:
        """Time stamp of the first frame, seconds: recordings of broadcasts do not begin at 0."""

    @property
    def is_continuous(self) -> bool:
        """Whether a frame resembles the one before it."""

    @property
    def warnings(self) -> Sequence[str]:
        """Oddities of its images that the user should know, a line each."""

    def describe(self) -> dict[str, str | int]:
        """Return its name, and what distinguishes its content from that of any other source."""

    def frames(
        self,
        *,
        note: Note,
        time_range: TimeRange = WHOLE,
        resume_after: FramePosition | None = None,
        missing: ReportMissing | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames of a range in order, numbered from the first frame of the source.

        Args:
            note: Called with a line for what is missing or damaged.
            time_range: Seconds from the first frame.
            resume_after: A frame of an earlier reading: only those after it are yielded.
            missing: Called with each time in the range that has no frame, maybe long before the
                frame after it is yielded, and again for another reading; the caller says so. None:
                they are noted at the end.
        """

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield the frame shown at each position, in any order, without reading all of them."""


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """A video file."""

    path: Path
    info: VideoInfo
    """What its first frame and its headers say."""
    is_continuous: bool = True
    partner: str | None = None
    """Stem of the video that a data set pairs with this one."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> "VideoSource":
        """Open the video at `path`.

        Raises:
            InputError: There is no such file, or no frame of it can be decoded.
        """
        info = probe(path)
        return cls(path=path, info=info, warnings=tuple(_find_warnings(info)))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px, upright."""
        return self.info.size

    @property
    def average_rate(self) -> Fraction:
        """Frames a second."""
        return self.info.average_rate

    @property
    def count(self) -> int | None:
        """Number of frames that the file claims to have, if any."""
        return self.info.frame_count

    @property
    def start_time(self) -> Fraction:
        """Time stamp of the first frame, seconds."""
        return self.info.start_time

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The file's name without its extension."""
        return self.path.stem

    def describe(self) -> dict[str, str | int]:
        """Return the name, and a fingerprint of the file's content."""
        width, height = self.size
        return {
            "name": to_printable(self.name),
            **fingerprint(self.path),
            "width": width,
            "height": height,
            "average_rate": str(self.average_rate),
        } | ({"partner": self.partner} if self.partner else {})

    def frames(
        self,
        *,
        note: Note,
        time_range: TimeRange = WHOLE,
        resume_after: FramePosition | None = None,
        missing: ReportMissing | None = None,
    ) -> Iterator[Frame]:
        """Yield the video's frames, decoding little of what comes before them."""
        start = self.start_time + time_range.start if time_range.start else None
        end = None if time_range.end is None else self.start_time + time_range.end
        found = MissingSpans()

        def report(reader: VideoReader) -> None:
            for span in reader.take_missing():
                clipped = span.clip(start, end)
                if clipped is not None:
                    (missing or found.add)(clipped)

        with VideoReader(self.path) as reader:
            for frame in reader.frames(start=start, resume_after=resume_after):
                report(reader)
                if end is not None and frame.time >= end:
                    break
                yield frame
            report(reader)
            lost = describe_missing(self, found)
            for text in (reader.splice_note(end), reader.truncation_note, *lost):
                if text:
                    note(text)

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield the frames that a player shows at the positions' times, found by seeking."""
        with VideoReader(self.path) as reader:
            yield from reader.frames_at(positions)


def describe_missing(source: FrameSource, spans: Iterable[MissingSpan]) -> list[str]:
    """Return a line that says which seconds of a source are missing; nothing if none are.

    They count from its first frame. Where a file was only cut off, the reading says so.
    """
    ordered = sorted(spans, key=lambda span: span.start)
    if all(span.is_end for span in ordered):
        return []
    times = [
        f"{float(span.start - source.start_time):.2f}-{float(span.end - source.start_time):.2f} s"
        for span in ordered
    ]
    seconds = float(sum(span.end - span.start for span in ordered))
    frames = sum(span.frames for span in ordered)
    more = f" and at {len(times) - 20} more places" if len(times) > 20 else ""
    return [
        f"{source.name} is damaged: {seconds:.2f} s ({frames} frame{'s' * (frames > 1)}) are "
        f"missing, at {', '.join(times[:20])}{more}"
    ]


def _find_warnings(info: VideoInfo) -> Iterator[str]:
    """Yield the oddities of a video's frames that the user should know, a line each."""
    if info.interlaced:
        yield f"{info.path.name} is interlaced: what moves has combed edges, in the crops too"
    if info.sample_aspect != 1:
        yield (
            f"the pixels of {info.path.name} are {float(info.sample_aspect):.3g} times as wide as "
            "high: the crops are on the same grid"
        )


@dataclass(frozen=True, kw_only=True)
class ImageSequence:
    """Image files in the order of their names, or as they were given."""

    name: str
    stem: str
    paths: tuple[Path, ...]
    videos_left_out: int = 0
    """Videos and GIFs beside the images of a folder."""
    is_continuous: bool = False
    average_rate: Fraction = IMAGE_SEQUENCE_FPS
    start_time: Fraction = Fraction(0)
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of images, readable or not."""
        return len(self.paths)

    @property
    def folder(self) -> Path:
        """The folder that holds all images, directly or further down; absolute."""
        return Path(os.path.commonpath([path.absolute().parent for path in self.paths]))

    @property
    def relative_paths(self) -> tuple[Path, ...]:
        """Where each image is in a folder of results: its name, as long as no two are the same.

        Then it is the path from `folder`. Upper and lower case are one, as some disks have it.
        """
        names = tuple(Path(path.name) for path in self.paths)
        if len({str(name).casefold() for name in names}) == len(names):
            return names
        return tuple(path.absolute().relative_to(self.folder) for path in self.paths)

    def describe(self) -> dict[str, str | int]:
        """Return the name, and a fingerprint of the images' content."""
        fingerprints = [fingerprint(path) for path in self.paths]
        digest = hashlib.sha256(json.dumps(fingerprints).encode()).hexdigest()
        return {
            "name": to_printable(self.name),
            "pictures": len(self.paths),
            "bytes": sum(int(entry["bytes"]) for entry in fingerprints),
            "sha256_of_ends": digest,
        }

    def frames(
        self,
        *,
        note: Note,
        time_range: TimeRange = WHOLE,
        resume_after: FramePosition | None = None,
        missing: ReportMissing | None = None,
    ) -> Iterator[Frame]:
        """Yield the images, leaving out those that cannot be read.

        Raises:
            InputError: None of them can be read.
        """
        damaged = 0
        counts: dict[str, image_io.FrameCount] = {}
        start = math.ceil(time_range.start * IMAGE_SEQUENCE_FPS)
        if resume_after is not None:
            start = resume_after.index + 1
        for index in range(start, len(self.paths)):
            if time_range.end is not None and index >= time_range.end * IMAGE_SEQUENCE_FPS:
                break
            try:
                frame = self._read_frame(index)
            except InputError as error:
                damaged += 1
                if damaged == len(self.paths):
                    raise
                note(f"left out: {error.message}")
                if missing is not None:
                    time = index / IMAGE_SEQUENCE_FPS
                    missing(MissingSpan(start=time, end=time + 1 / IMAGE_SEQUENCE_FPS, frames=1))
                continue
            path = self.paths[index]
            found = image_io.count_frames(path)
            if found.count > 1:
                counts[path.name] = found
            yield frame
        if counts:
            note(_describe_left_out(counts))
        if self.videos_left_out:
            note(_describe_left_out_videos(self.name, self.videos_left_out))

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield the images at the positions' indices."""
        for position in positions:
            yield self._read_frame(position.index)

    def _read_frame(self, index: int) -> Frame:
        """Return one of the images."""
        path = self.paths[index]
        view = ArrayImage(image=image_io.read_image(path))
        return Frame(index=index, time=index / IMAGE_SEQUENCE_FPS, view=view, original=path)


def _describe_left_out(counts: Mapping[str, image_io.FrameCount]) -> str:
    """Return a line for the frames and pages after the first, given the images that have them."""
    first, *others = counts
    left_out = sum(one.count - 1 for one in counts.values())
    whose = f"{first} and {len(others)} other image{'s' * (len(others) > 1)}" if others else first
    what = "frame or page" if left_out == 1 else "frames or pages"
    line = f"{left_out} {what} after the first left out of {whose}"
    if any(one.format_name in _ANIMATION_FORMATS for one in counts.values()):
        return f"{line}; an animated PNG or AVIF named by itself is read as a video"
    return line


def _describe_left_out_videos(folder: str, count: int) -> str:
    """Return a line for the videos in a folder of images."""
    if count == 1:
        return f"1 video beside the images of {folder} left out; name it to read it"
    return f"{count} videos beside the images of {folder} left out; name them to read them"


@dataclass(frozen=True, kw_only=True)
class FrameSampler:
    """Every n-th frame, or some a second, of a range of a source."""

    source: FrameSource
    time_range: TimeRange = WHOLE
    every: int = 1
    """Take every n-th frame, counted from the first of the source."""
    fps: Fraction | None = None
    """Take at most this many frames a second; None: all."""

    @property
    def approx_frame_count(self) -> int | None:
        """Frames in the range, taken or not, as the file claims."""
        return self.time_range.approx_frame_count(self.source.count, self.source.average_rate)

    @property
    def approx_taken_count(self) -> int | None:
        """Frames that are taken, as the file claims."""
        count = self.approx_frame_count
        return None if count is None else -(-count // self.stride)

    @property
    def stride(self) -> int:
        """About the number of frames from one that is taken to the next."""
        rate = self.source.average_rate
        return max(self.every, int(rate / (self.fps or rate)))

    def count_done(self, frame: Frame) -> int:
        """Return how many frames of the range have passed with `frame`."""
        return max(0, frame.index + 1 - self.time_range.first_index(self.source.average_rate))

    def frames(
        self,
        *,
        note: Note,
        resume_after: FramePosition | None,
        missing: ReportMissing | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames that are taken, without the file's own samples.

        Args:
            note: Called with a line for what is missing or damaged.
            resume_after: A frame of an earlier reading: only those after it are yielded.
            missing: As of `FrameSource.frames`.
        """
        slot = None
        if resume_after is not None and self.fps is not None:
            slot = resume_after.time * self.fps // 1
        for frame in self.source.frames(
            note=note, time_range=self.time_range, resume_after=resume_after, missing=missing
        ):
            if frame.index % self.every:
                continue
            before, slot = slot, None if self.fps is None else frame.time * self.fps // 1
            if self.fps is None or slot != before:
                yield replace(frame, original=None)  # crops need none, and it takes memory


def raise_error(_: Path, error: InputError) -> None:
    """Raise the error: one name that cannot be opened stops the search."""
    raise error


def find_sources(names: Sequence[Path], *, on_error: OnError = raise_error) -> list[FrameSource]:
    """Return the sources that names stand for: each video, and all single images as one sequence.

    A name is a video, an image, a folder of either, a pattern such as `clips/*.mp4`, or a data set
    in the layout of FaceForensics++, of which the source videos are taken. An animated PNG or AVIF
    that is named by itself or by a pattern is a video.

    Args:
        names: What the user names.
        on_error: Called with what cannot be opened; if it returns, that is left out.

    Raises:
        InputError: A name does not exist, or holds neither videos nor images.
    """
    sources: list[FrameSource] = []
    images: list[Path] = []
    for name in names:
        try:
            paths = _expand_pattern(name)
        except InputError as error:
            on_error(name, error)
            continue
        for path in paths:
            try:
                if path.is_dir():
                    sources += _scan_folder(path, on_error)
                elif _is_image(path):
                    images.append(path)
                else:
                    sources.append(_open_video(path))
            except InputError as error:
                on_error(path, error)
    if images:
        first = images[0]
        stem = first.stem if len(images) == 1 else first.resolve().parent.name
        sources.append(ImageSequence(name=first.name, stem=stem, paths=tuple(images)))
    return sources


def find_readable_sources(
    names: Sequence[Path],
) -> tuple[list[FrameSource], dict[str, FaceswapError]]:
    """Return the sources that names stand for, and why other names and files cannot be opened.

    Args:
        names: As of `find_sources`.

    Raises:
        InputError: None can be opened; it is the first error.
    """
    failed: dict[str, FaceswapError] = {}

    def on_error(path: Path, error: InputError) -> None:
        failed[str(path)] = error

    sources = find_sources(names, on_error=on_error)
    if not sources:
        raise next(iter(failed.values()))
    return sources, failed


def _is_image(path: Path) -> bool:
    """Return whether a file is a single image, not an animation."""
    if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
        return False
    frames = image_io.count_frames(path)
    return frames.count <= 1 or frames.format_name not in _ANIMATION_FORMATS


def _open_video(path: Path) -> VideoSource:
    """Open a video or an animation.

    Raises:
        InputError: There is no such file, or no frame of it can be decoded.
    """
    source = VideoSource.open(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        return source
    # An APNG does not tell FFmpeg how long it is.
    count = image_io.count_frames(path).count
    return replace(source, info=replace(source.info, frame_count=count))


def _open_videos(paths: Iterable[Path], on_error: OnError) -> Iterator[VideoSource]:
    """Open the videos that can be opened; call `on_error` with the others."""
    for path in paths:
        try:
            yield VideoSource.open(path)
        except InputError as error:
            on_error(path, error)


def _expand_pattern(name: Path) -> list[Path]:
    """Return the paths that match a pattern, in order, or the name itself.

    Raises:
        InputError: It is a pattern, and nothing matches.
    """
    if name.exists() or not glob.has_magic(str(name)):
        return [name]
    # Two ** find the same file more than once.
    matches = sorted({Path(match) for match in glob.glob(str(name), recursive=True)})  # noqa: PTH207
    if not matches:
        raise InputError(f"nothing matches {name}", hint="** matches any folders")
    return matches


def _scan_folder(folder: Path, on_error: OnError) -> list[FrameSource]:
    """Return the images of a folder as one sequence, or else its videos.

    Raises:
        InputError: It holds neither, or may not be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"cannot read {folder}: {error.strerror or error}") from error
    if is_faceforensics(folder):
        return [*_scan_faceforensics(folder, on_error)]
    visible = [path for path in files if not path.name.startswith(".")]
    images = tuple(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)
    videos = [path for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
    if images:
        name = folder.resolve().name
        return [ImageSequence(name=name, stem=name, paths=images, videos_left_out=len(videos))]
    if not videos:
        raise InputError(
            f"there are neither images nor videos in the folder {folder}",
            hint='name the files, or a pattern in quotes: "folder/**/*.mp4"',
        )
    return [*_open_videos(videos, on_error)]


def _scan_faceforensics(folder: Path, on_error: OnError) -> list[VideoSource]:
    """Return the source videos of a data set in the layout of FaceForensics++.

    Raises:
        InputError: There are none.
    """
    paths, partners = find_source_videos(folder), find_partners(folder)
    if not paths:
        raise InputError(
            f"there are no videos in {folder / 'original_sequences'}",
            hint="expected in original_sequences/youtube/c23/videos/*.mp4",
        )
    videos = _open_videos(paths, on_error)
    return [replace(video, partner=partners.get(video.stem)) for video in videos]


def to_printable(name: str) -> str:
    """Return a name with question marks for what is not printable."""
    return "".join(c if c.isprintable() else "?" for c in name)
