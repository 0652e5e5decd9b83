"""The part of a source that is converted: its frames in order, or samples of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.video.frame import Frame, FramePosition
from faceswap_cli.video.source import (
    FrameSource,
    ImageSequence,
    Note,
    ReportMissing,
    VideoSource,
    find_sources,
)
from faceswap_cli.video.time_range import WHOLE, TimeRange


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video between two times, or an image sequence."""

    source: VideoSource | ImageSequence
    time_range: TimeRange = WHOLE

    @classmethod
    def open(cls, path: Path, *, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """Return the part of the video or the images at `path`, seconds from the first frame.

        Raises:
            InputError: There is nothing at `path`, several videos are, or no frame is in that part.
            ConfigurationError: The part ends before it begins.
        """
        first, *more = find_sources([path])
        if more:
            raise InputError(f"{path} holds {len(more) + 1} videos", hint="name one of them")
        return cls.from_source(first, start_s=start_s, end_s=end_s)

    @classmethod
    def from_source(
        cls, source: FrameSource, *, start_s: float = 0.0, end_s: float | None = None
    ) -> "Clip":
        """Return the part of a source, seconds from the first frame.

        Raises:
            InputError: No frame is in that part.
            ConfigurationError: The part ends before it begins.
        """
        assert isinstance(source, VideoSource | ImageSequence)
        time_range = TimeRange.from_seconds(start_s, end_s)
        if isinstance(source, ImageSequence) and not time_range.is_whole:
            raise ConfigurationError(
                "images have no time: --start and --end are for videos",
                hint="put the images you want into a folder of their own",
            )
        clip = cls(source=source, time_range=time_range)
        clip.first_index()
        return clip

    def fingerprint(self) -> dict[str, str | int]:
        """Return what distinguishes it from all other clips: its content, not its name."""
        content = {key: value for key, value in self.source.describe().items() if key != "name"}
        return content | {"start": str(self.time_range.start), "end": str(self.time_range.end)}

    @property
    def is_trimmed(self) -> bool:
        """Whether something is left out."""
        return not self.time_range.is_whole

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the frames; of images, of the first."""
        if isinstance(self.source, VideoSource):
            return self.source.size
        height, width = image_io.read_image(self.source.paths[0]).shape[:2]
        return width, height

    @property
    def approx_frame_count(self) -> int | None:
        """Frames in it, as far as the file says; never to be trusted."""
        return self.time_range.approx_frame_count(self.source.count, self.source.average_rate)

    def contains(self, time: Fraction) -> bool:
        """Return whether a frame with this time stamp, s, is in it."""
        return time - self.source.start_time in self.time_range

    def frames(
        self,
        *,
        note: Note,
        resume_after: FramePosition | None = None,
        missing: ReportMissing | None = None,
    ) -> Iterator[Frame]:
        """Yield the frames in order, numbered from the first of the source.

        Args:
            note: Called with a line for what is missing or damaged.
            resume_after: A frame of an earlier reading: only those after it are yielded.
            missing: As of `FrameSource.frames`.
        """
        return self.source.frames(
            note=note, time_range=self.time_range, resume_after=resume_after, missing=missing
        )

    def first_index(self) -> int:
        """Return the number of the first frame.

        Raises:
            InputError: The part begins after the end of the source.
        """
        start = self.time_range.start
        if not start:
            return 0
        for frame in self.frames(note=_ignore_note):
            return frame.index
        raise InputError(
            f"{self.source.name} has no frame from {float(start):g} s on",
            hint="choose an earlier --start",
        )

    def sample_frames(self, count: int, *, search_factor: int = 1) -> Iterator[Frame]:
        """Yield frames from all over it without reading all: the middles of `count` equal parts.

        Those come in order; then, `search_factor` - 1 times, as many from other positions. Their
        indices are estimates.
        """
        rate = self.source.average_rate
        first_time = self.source.start_time + self.time_range.start
        total = self.approx_frame_count or count
        parts = min(count, total)
        offsets = [
            total * ((2 * part + 1) * search_factor + 2 * shift) // (2 * parts * search_factor)
            for shift in _alternating_offsets(search_factor)
            for part in range(parts)
        ]
        return self.frames_at(
            [FramePosition(index=offset, time=first_time + offset / rate) for offset in offsets]
        )

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield the frames at some positions without reading all."""
        return self.source.frames_at(positions)


def _alternating_offsets(count: int) -> list[int]:
    """Return `count` whole numbers around 0: 0, -1, 1, -2, ..."""
    return [(number + 1) // 2 * (-1) ** number for number in range(count)]


def _ignore_note(_: str) -> None:
    """Drop a note: the reading of all frames gives it."""
