"""The part of some footage that is converted, from wherever one wants to go on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from faceswap_cli import pictures
from faceswap_cli.errors import ConfigurationError, InputError
from faceswap_cli.video.footage import Album, Film, Place, find_footage
from faceswap_cli.video.reader import Frame, read_moments
from faceswap_cli.views import Still

Note = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A video, or pictures, from one moment to another."""

    footage: Film | Album
    start: Fraction = Fraction(0)
    """What is shown before is left out, seconds."""
    end: Fraction | None = None
    """What is shown from then on is left out, seconds; None: nothing."""

    @classmethod
    def of(cls, source: Path, *, start_s: float = 0.0, end_s: float | None = None) -> "Clip":
        """Return the part of what is called `source`.

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
        first, *more = find_footage([source])
        if more:
            raise InputError(
                f"{source} holds {len(more) + 1} videos", hint="convert them one by one"
            )
        assert isinstance(first, Film | Album)
        if isinstance(first, Album) and (start_s or end_s is not None):
            raise ConfigurationError(
                "pictures have no time: --start and --end are for videos",
                hint="put the pictures that are wanted into a folder of their own",
            )
        # As typed: 0.64 is 16 frames of 1/25 s, which the nearest binary number is not.
        end = None if end_s is None else Fraction(str(end_s))
        clip = cls(footage=first, start=Fraction(str(start_s)), end=end)
        clip.first()
        return clip

    def known(self) -> dict[str, str | int]:
        """Return what tells it from all other clips: its content, not its name."""
        told = {key: value for key, value in self.footage.describe().items() if key != "name"}
        return told | {"start": str(self.start), "end": str(self.end)}

    @property
    def is_part(self) -> bool:
        """Whether something is left out."""
        return self.start > 0 or self.end is not None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) px of the frames; of pictures, of the first."""
        if isinstance(self.footage, Film):
            return self.footage.size
        height, width = pictures.read(self.footage.paths[0]).shape[:2]
        return width, height

    @property
    def count(self) -> int | None:
        """Frames in it, as far as known; never to be trusted."""
        rate, count = self.footage.average_rate, self.footage.count
        if count is None:
            return None
        end = count if self.end is None else min(count, int(self.end * rate))
        return max(0, end - int(self.start * rate))

    def frames(self, *, note: Note, after: Place | None = None) -> Iterator[Frame]:
        """Yield the frames in order, numbered from the footage's first; those `after` one seen.

        `note` hears what is missing or damaged.
        """
        for frame in self.footage.frames(note=note, since=self.start, after=after):
            if self.end is not None and frame.time >= self.end:
                return
            if frame.time >= self.start:
                yield frame

    def first(self) -> int:
        """Return the number of the first frame.

        Raises:
            InputError: There is none: the part begins behind the end.
        """
        if not self.start:
            return 0
        for frame in self.frames(note=_unheard):
            return frame.index
        raise InputError(
            f"{self.footage.name} has no frame from {float(self.start):g} s on",
            hint="choose an earlier --start",
        )

    def moments(self, count: int, *, spare: int = 1) -> Iterator[Frame]:
        """Yield frames from all over it without reading all: the middles of `count` equal parts.

        Those come in order; then, `spare` - 1 times, as many from other places. Their indices only
        tell them apart.
        """
        known = self.count or count
        parts = min(count, known)
        places = [
            known * ((2 * number + 1) * spare + 2 * shift) // (2 * parts * spare)
            for shift in _outwards(spare)
            for number in range(parts)
        ]
        if isinstance(self.footage, Film):
            rate = self.footage.average_rate
            times = [self.start + Fraction(place) / rate for place in places]
            yield from read_moments(self.footage.path, times)
            return
        for place in places:
            yield self._picture(place)

    def at(self, places: Sequence[Place]) -> Iterator[Frame]:
        """Yield frames that were seen, without reading all."""
        if isinstance(self.footage, Film):
            found = read_moments(self.footage.path, [place.time for place in places])
            yield from (replace(frame, index=places[frame.index].index) for frame in found)
            return
        for place in places:
            yield self._picture(place.index)

    def _picture(self, number: int) -> Frame:
        """Return one of an album's pictures."""
        assert isinstance(self.footage, Album)
        image = pictures.read(self.footage.paths[number])
        return Frame(index=number, time=Fraction(number), view=Still(image=image))


def _outwards(count: int) -> list[int]:
    """Return whole numbers around 0: 0, -1, 1, -2, ..., so many."""
    return [(number + 1) // 2 * (-1) ** number for number in range(count)]


def _unheard(_: str) -> None:
    """Hear nothing: it is told when everything is read."""
