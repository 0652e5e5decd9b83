"""What a user names is what can be looked at frame by frame: a video, or pictures in a row."""

import glob
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Protocol

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import fingerprint
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.video.faceforensics import find_partners, find_source_videos, is_faceforensics
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.reader import VideoInfo, probe, read_frames, read_frames_from, resume_frames

Note = Callable[[str], None]
"""Is told one line."""

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".jp2", ".ppm", ".pgm", ".avif"}
)
"""Ends of the names of picture files, in small letters."""
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg"}
    | {".3gp", ".flv", ".wmv", ".ogv", ".gif", ".mxf"}
)
"""Those of videos that are looked for in a folder; one that is named may be called anything."""
IMAGE_SEQUENCE_FPS = Fraction(25)
"""Pictures in a row are taken to follow each other at this rate, frames a second."""
ZERO_TIME = Fraction(0)


@dataclass(frozen=True, kw_only=True)
class FramePosition:
    """A frame that was seen."""

    index: int
    time: Fraction
    """Seconds."""


class FrameSource(Protocol):
    """Frames in a fixed order, known by their content."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    @property
    def stem(self) -> str:
        """What a set of its faces is called if nobody says."""

    @property
    def count(self) -> int | None:
        """Frames in all, as far as known; never to be trusted."""

    @property
    def is_continuous(self) -> bool:
        """Whether a frame resembles the one before it."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the user should know of its picture, a line each."""

    def read_start_time(self) -> Fraction:
        """Return when its first frame is shown, seconds: recordings of broadcasts begin late."""

    def describe(self) -> dict[str, str | int]:
        """Return what tells it from all other footage, and its name."""

    @property
    def average_rate(self) -> Fraction:
        """Frames a second."""

    def frames(
        self, *, note: Note, since: Fraction | None, after: FramePosition | None
    ) -> Iterator[Frame]:
        """Yield the frames shown at `since` s or later, going on `after` one that was seen.

        `note` hears what is missing or damaged.
        """


@dataclass(frozen=True, kw_only=True)
class VideoSource:
    """A video file."""

    path: Path
    size: tuple[int, int]
    """(width, height) px, upright."""
    average_rate: Fraction
    """Frames a second."""
    count: int | None
    is_continuous: bool = True
    partner: str | None = None
    """Stem of the video that a data set pairs with this one."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path) -> "VideoSource":
        """Read what the video at `path` is.

        Raises:
            InputError: There is no such file, or it holds no picture that can be decoded.
        """
        info = probe(path)
        return cls(
            path=path,
            size=info.size,
            average_rate=info.average_rate,
            count=info.frame_count,
            warnings=tuple(_find_warnings(info)),
        )

    @property
    def name(self) -> str:
        """The file's name."""
        return self.path.name

    @property
    def stem(self) -> str:
        """The file's name without its end."""
        return self.path.stem

    def read_start_time(self) -> Fraction:
        """Return the first frame's time."""
        return next(read_frames(self.path)).time

    def describe(self) -> dict[str, str | int]:
        """Return the name, and what the file's content is known by."""
        width, height = self.size
        return {
            "name": to_printable(self.name),
            **fingerprint(self.path),
            "width": width,
            "height": height,
            "average_rate": str(self.average_rate),
        } | ({"partner": self.partner} if self.partner else {})

    def frames(
        self, *, note: Note, since: Fraction | None = None, after: FramePosition | None = None
    ) -> Iterator[Frame]:
        """Yield the video's frames, decoding little of what comes before them."""
        if after is not None:
            begun = resume_frames(self.path, index=after.index, time=after.time, note=note)
            return islice(begun, 1, None)
        if since is not None:
            return read_frames_from(self.path, time=since, note=note)
        return read_frames(self.path, note=note)


def _find_warnings(info: VideoInfo) -> Iterator[str]:
    """Yield what the user should know of a video's picture."""
    if info.interlaced:
        yield f"{info.path.name} is interlaced: what moves has combed edges, in the crops too"
    if info.sample_aspect != 1:
        yield (
            f"the pixels of {info.path.name} are {float(info.sample_aspect):.3g} times as wide as "
            "high: the crops are on the same grid"
        )


@dataclass(frozen=True, kw_only=True)
class ImageSequence:
    """Picture files in the order of their names, or as they were given."""

    name: str
    stem: str
    paths: tuple[Path, ...]
    is_continuous: bool = False
    average_rate: Fraction = IMAGE_SEQUENCE_FPS
    warnings: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Pictures, readable or not."""
        return len(self.paths)

    def read_start_time(self) -> Fraction:
        """Return 0."""
        return ZERO_TIME

    def describe(self) -> dict[str, str | int]:
        """Return the name, and what the pictures' content is known by."""
        prints = [fingerprint(path) for path in self.paths]
        digest = hashlib.sha256(json.dumps(prints).encode()).hexdigest()
        return {
            "name": to_printable(self.name),
            "pictures": len(self.paths),
            "bytes": sum(int(one["bytes"]) for one in prints),
            "sha256_of_ends": digest,
        }

    def frames(
        self, *, note: Note, since: Fraction | None = None, after: FramePosition | None = None
    ) -> Iterator[Frame]:
        """Yield the pictures, leaving out those that cannot be read.

        Raises:
            InputError: Not one can be read.
        """
        damaged = 0
        start = after.index + 1 if after else math.ceil((since or 0) * IMAGE_SEQUENCE_FPS)
        for index, path in enumerate(self.paths[start:], start):
            try:
                image = image_io.read_image(path)
            except InputError as error:
                damaged += 1
                if damaged == len(self.paths):
                    raise
                note(f"left out: {error.message}")
                continue
            time = index / IMAGE_SEQUENCE_FPS
            yield Frame(index=index, time=time, view=ArrayImage(image=image), original=path)


def find_sources(names: Sequence[Path]) -> list[FrameSource]:
    """Return what the names mean: videos as named, and all single pictures as one album.

    A name is a video, a picture, a folder of either, a pattern such as `clips/*.mp4`, or a data set
    laid out as FaceForensics++ is, of which the source videos are taken.

    Raises:
        InputError: There is nothing by a name, or nothing in it that can be looked at.
    """
    found: list[FrameSource] = []
    loose: list[Path] = []
    for path in (path for name in names for path in _expand_pattern(name)):
        if path.is_dir():
            found += _scan_folder(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            loose.append(path)
        else:
            found.append(VideoSource.open(path))
    if loose:
        first = loose[0]
        stem = first.stem if len(loose) == 1 else first.resolve().parent.name
        found.append(ImageSequence(name=first.name, stem=stem, paths=tuple(loose)))
    return found


def _expand_pattern(name: Path) -> list[Path]:
    """Return the paths that a pattern stands for, in order, or the name itself.

    Raises:
        InputError: It is a pattern, and nothing matches.
    """
    if name.exists() or not glob.has_magic(str(name)):
        return [name]
    matches = sorted(Path(match) for match in glob.glob(str(name), recursive=True))  # noqa: PTH207
    if not matches:
        raise InputError(f"nothing matches {name}", hint="** stands for folders within folders")
    return matches


def _scan_folder(folder: Path) -> list[FrameSource]:
    """Return the pictures of a folder as one album, or else its videos.

    Raises:
        InputError: It holds neither, or may not be read.
    """
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise InputError(f"cannot look into {folder}: {error.strerror or error}") from error
    if is_faceforensics(folder):
        return [*_scan_faceforensics(folder)]
    visible = [path for path in files if not path.name.startswith(".")]
    shown = tuple(path for path in visible if path.suffix.lower() in IMAGE_SUFFIXES)
    if shown:
        name = folder.resolve().name
        return [ImageSequence(name=name, stem=name, paths=shown)]
    films = [VideoSource.open(path) for path in visible if path.suffix.lower() in VIDEO_SUFFIXES]
    if not films:
        raise InputError(
            f"there are neither pictures nor videos in the folder {folder}",
            hint='name what to look at, or a pattern in quotes: "folder/**/*.mp4"',
        )
    return [*films]


def _scan_faceforensics(folder: Path) -> list[VideoSource]:
    """Return the source videos of a data set laid out as FaceForensics++ is.

    Raises:
        InputError: There is none.
    """
    paths, known = find_source_videos(folder), find_partners(folder)
    if not paths:
        raise InputError(
            f"there are no videos in {folder / 'original_sequences'}",
            hint="they lie in original_sequences/youtube/c23/videos/*.mp4",
        )
    return [replace(VideoSource.open(path), partner=known.get(path.stem)) for path in paths]


def to_printable(name: str) -> str:
    """Return a name as any text file can hold it."""
    return "".join(c if c.isprintable() else "?" for c in name)
