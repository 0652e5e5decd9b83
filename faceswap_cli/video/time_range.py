"""Which part of some footage is looked at, and how closely; nothing of what is looked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from faceswap_cli.video.frame import Frame
from faceswap_cli.video.source import FramePosition, FrameSource, Note


@dataclass(frozen=True, kw_only=True)
class FrameSampler:
    """The part of some footage that is looked at."""

    source: FrameSource
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
    first_index: int
    """About the number of its first frame."""

    @classmethod
    def create(
        cls,
        source: FrameSource,
        *,
        every: int,
        fps: float | None,
        start_s: float,
        end_s: float | None,
    ) -> Self:
        """Return the part of the footage that is asked for, in seconds from its beginning."""
        # As typed: 0.64 is 16 frames of 1/25 s, which the nearest binary number is not.
        start = Fraction(str(start_s))
        end = None if end_s is None else Fraction(str(end_s))
        begins = source.read_start_time() if start > 0 or end is not None else Fraction(0)
        rate, last = source.average_rate, source.count
        first = int(start * rate)
        if end is not None and last is not None:
            last = min(last, int(end * rate))
        return cls(
            source=source,
            start=begins + start if start > 0 else None,
            end=None if end is None else begins + end,
            every=every,
            fps=None if fps is None else Fraction(str(fps)),
            count=None if last is None else max(0, last - first),
            first_index=first,
        )

    @property
    def stride(self) -> int:
        """About how many frames there are for one that is looked at."""
        rate = self.source.average_rate
        return max(self.every, int(rate / (self.fps or rate)))

    def count_done(self, frame: Frame) -> int:
        """Return how many of its frames are behind us after `frame`."""
        return max(0, frame.index + 1 - self.first_index)

    def frames(self, *, note: Note, after: FramePosition | None) -> Iterator[Frame]:
        """Yield the frames that are looked at, going on after one that was seen.

        `note` hears what is missing or damaged.
        """
        slot = None if after is None or self.fps is None else after.time * self.fps // 1
        for frame in self.source.frames(note=note, since=self.start, after=after):
            if self.end is not None and frame.time >= self.end:
                return
            if frame.index % self.every or (self.start is not None and frame.time < self.start):
                continue
            before, slot = slot, None if self.fps is None else frame.time * self.fps // 1
            if self.fps is None or slot != before:
                # Nothing is to be written as the file has it.
                yield replace(frame, original=None)
