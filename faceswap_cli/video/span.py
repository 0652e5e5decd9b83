"""Which part of some footage is looked at, and how closely; nothing of what is looked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from faceswap_cli.video.footage import Footage, Note, Place
from faceswap_cli.video.reader import Frame


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of some footage that is looked at."""

    footage: Footage
    start: Fraction | None
    """Seconds in the footage's own time; None: from its beginning."""
    end: Fraction | None
    """Likewise; None: to its end."""
    every: int
    """Every n-th frame is looked at."""
    fps: Fraction | None
    """So many frames a second are looked at, at most; None: all."""
    count: int | None
    """Frames in it, looked at or not, as far as known."""
    first: int
    """About the number of its first frame."""

    @classmethod
    def of(
        cls, footage: Footage, *, every: int, fps: float | None, start_s: float, end_s: float | None
    ) -> Self:
        """Return the part of the footage that is asked for, in seconds from its beginning."""
        # As typed: 0.64 is 16 frames of 1/25 s, which the nearest binary number is not.
        start = Fraction(str(start_s))
        end = None if end_s is None else Fraction(str(end_s))
        begins = footage.begins() if start > 0 or end is not None else Fraction(0)
        rate, last = footage.average_rate, footage.count
        first = int(start * rate)
        if end is not None and last is not None:
            last = min(last, int(end * rate))
        return cls(
            footage=footage,
            start=begins + start if start > 0 else None,
            end=None if end is None else begins + end,
            every=every,
            fps=None if fps is None else Fraction(str(fps)),
            count=None if last is None else max(0, last - first),
            first=first,
        )

    @property
    def apart(self) -> int:
        """About how many frames there are for one that is looked at."""
        rate = self.footage.average_rate
        return max(self.every, int(rate / (self.fps or rate)))

    def done(self, frame: Frame) -> int:
        """Return how many of its frames are behind us after `frame`."""
        return max(0, frame.index + 1 - self.first)

    def frames(self, *, note: Note, after: Place | None) -> Iterator[Frame]:
        """Yield the frames that are looked at, going on after one that was seen.

        `note` hears what is missing or damaged.
        """
        slot = None if after is None or self.fps is None else after.time * self.fps // 1
        for frame in self.footage.frames(note=note, since=self.start, after=after):
            if self.end is not None and frame.time >= self.end:
                return
            if frame.index % self.every or (self.start is not None and frame.time < self.start):
                continue
            before, slot = slot, None if self.fps is None else frame.time * self.fps // 1
            if self.fps is None or slot != before:
                # Nothing is to be written as the file has it.
                yield replace(frame, original=None)
