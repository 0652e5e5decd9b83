"""The part of some footage that is converted, from wherever one wants to go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.reader import read_frames_at
from faceswap_cli.video.source import FramePosition, ImageSequence, VideoSource, find_sources

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video, or pictures, from one moment to another."""

    source: VideoSource | ImageSequence
    start: Fraction = Fraction(0)
    """What is shown before is left out, seconds."""
    end: Fraction | None = None
    """What is shown from then on is left out, seconds; None: nothing."""

    @classmethod
    def open(cls, path: Path, *, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """Return the part of what is called `path`.

        Raises:
            InputError: There is nothing by that name, several videos are, or nothing is shown
                in that part.
            ConfigurationError: The part ends before it begins.
        """
        if end_s is not None and end_s <= start_s:
            raise ConfigurationError(
                f"the end, {end_s:g} s, is not after the start, {start_s:g} s",
                hint="both count from the beginning of the video",
            )
        first, *more = find_sources([path])
        if more:
            raise InputError(f"{path} holds {len(more) + 1} videos", hint="convert them one by one")
        assert isinstance(first, VideoSource | ImageSequence)
        if isinstance(first, ImageSequence) and (start_s or end_s is not None):
            raise ConfigurationError(
                "pictures have no time: --start and --end are for videos",
                hint="put the pictures that are wanted into a folder of their own",
            )
        # As typed: 0.64 is 16 frames of 1/25 s, which the nearest binary number is not.
        end = None if end_s is None else Fraction(str(end_s))
        clip = cls(source=first, start=Fraction(str(start_s)), end=end)
        clip.first_index()
        return clip

    def fingerprint(self) -> dict[str, str | int]:
        """Return what tells it from all other clips: its content, not its name."""
        told = {key: value for key, value in self.source.describe().items() if key != "name"}
        return told | {"start": str(self.start), "end": str(self.end)}

    @property
    def is_trimmed(self) -> bool:
        """Whether something is left out."""
        return self.start > 0 or self.end is not None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the frames; of pictures, of the first."""
        if isinstance(self.source, VideoSource):
            return self.source.size
        height, width = image_io.read_image(self.source.paths[0]).shape[:2]
        return width, height

    @property
    def approx_frame_count(self) -> int | None:
        """Frames in it, as far as known; never to be trusted."""
        rate, count = self.source.average_rate, self.source.count
        if count is None:
            return None
        end = count if self.end is None else min(count, int(self.end * rate))
        return max(0, end - int(self.start * rate))

    def frames(self, *, note: Note, after: FramePosition | None = None) -> Iterator[Frame]:
        """Yield the frames in order, numbered from the footage's first; those `after` one seen.

        `note` hears what is missing or damaged.
        """
        for frame in self.source.frames(note=note, since=self.start, after=after):
            if self.end is not None and frame.time >= self.end:
                return
            if frame.time >= self.start:
                yield frame

    def first_index(self) -> int:
        """Return the number of the first frame.

        Raises:
            InputError: There is none: the part begins behind the end.
        """
        if not self.start:
            return 0
        for frame in self.frames(note=_ignore_note):
            return frame.index
        raise InputError(
            f"{self.source.name} has no frame from {float(self.start):g} s on",
            hint="choose an earlier --start",
        )

    def sample_frames(self, count: int, *, search_factor: int = 1) -> Iterator[Frame]:
        """Yield frames from all over it without reading all: the middles of `count` equal parts.

        Those come in order; then, `search_factor` - 1 times, as many from other places. Their indices only
        tell them apart.
        """
        known = self.approx_frame_count or count
        parts = min(count, known)
        places = [
            known * ((2 * number + 1) * search_factor + 2 * shift) // (2 * parts * search_factor)
            for shift in _alternating_offsets(search_factor)
            for number in range(parts)
        ]
        if isinstance(self.source, VideoSource):
            rate = self.source.average_rate
            times = [self.start + Fraction(place) / rate for place in places]
            yield from read_frames_at(self.source.path, times)
            return
        for place in places:
            yield self._read_image(place)

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield frames that were seen, without reading all."""
        if isinstance(self.source, VideoSource):
            found = read_frames_at(self.source.path, [place.time for place in positions])
            yield from (replace(frame, index=positions[frame.index].index) for frame in found)
            return
        for place in positions:
            yield self._read_image(place.index)

    def _read_image(self, index: int) -> Frame:
        """Return one of an album's pictures."""
        assert isinstance(self.source, ImageSequence)
        image = image_io.read_image(self.source.paths[index])
        return Frame(index=index, time=Fraction(index), view=ArrayImage(image=image))


def _alternating_offsets(count: int) -> list[int]:
    """Return whole numbers around 0: 0, -1, 1, -2, ..., so many."""
    return [(number + 1) // 2 * (-1) ** number for number in range(count)]


def _ignore_note(_: str) -> None:
    """Hear nothing: it is told when everything is read."""
