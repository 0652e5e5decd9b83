"""A part of a video or an image sequence, as `--start` and `--end` give it."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from faceswap_cli.core.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """The frames shown from `start` on and before `end`, counted from the source's first frame."""

    start: Fraction = Fraction(0)
    """Seconds after the first frame, whatever its time stamp is."""
    end: Fraction | None = None
    """Seconds after the first frame, excluded; None: to the end."""

    @classmethod
    def from_seconds(cls, start_s: float = 0.0, end_s: float | None = None) -> Self:
        """Return the range between two numbers of seconds.

        They are taken as typed: 0.64 is 16 frames of 1/25 s; the nearest binary number is not.

        Raises:
            ConfigurationError: It ends before it begins.
        """
        if end_s is not None and end_s <= start_s:
            raise ConfigurationError(
                f"the end, {end_s:g} s, is not after the start, {start_s:g} s",
                hint="both count from the beginning of the video",
            )
        end = None if end_s is None else Fraction(str(end_s))
        return cls(start=Fraction(str(start_s)), end=end)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.start <= 0 and self.end is None

    def __contains__(self, time: Fraction) -> bool:
        """Return whether a frame shown `time` seconds after the first one is in it."""
        return self.start <= time and (self.end is None or time < self.end)

    def covers(self, other: "TimeRange") -> bool:
        """Return whether all of another range is in it."""
        return self.start <= other.start and (
            self.end is None or (other.end is not None and other.end <= self.end)
        )

    def first_index(self, rate: Fraction) -> int:
        """Return about the number of its first frame, at `rate` frames a second."""
        return int(self.start * rate)

    def approx_frame_count(self, count: int | None, rate: Fraction) -> int | None:
        """Return about how many of a source's `count` frames are in it, at `rate` a second."""
        if count is None:
            return None
        last = count if self.end is None else min(count, int(self.end * rate))
        return max(0, last - self.first_index(rate))


WHOLE = TimeRange()
"""From the first frame to the last."""
