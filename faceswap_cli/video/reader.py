"""Reading a video's frames: upright, in RGB, with the time stamps that the file gives them.

    with VideoReader(path) as video:
        for frame in video.frames(start=Fraction(5)): ...

Frames are never scaled: a file with oblong pixels keeps its pixel grid (`VideoInfo.sample_aspect`).
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

from av.video.frame import VideoFrame

from faceswap_cli.video.color import ToRGB, read_color_tags
from faceswap_cli.video.frame import (
    Frame,
    FramePosition,
    LazyFrame,
    MissingSpan,
    SourceSamples,
)
from faceswap_cli.video.orientation import Orientation
from faceswap_cli.video.probe import (
    Decoder,
    VideoInfo,
    count_frames_before,
    declared_end,
    open_decoder,
    read_info,
)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield all frames of a video.

    Raises:
        InputError: There is no such file, or no frame of it can be decoded.
    """
    with VideoReader(path) as reader:
        yield from reader.frames()


class VideoReader:
    """A video being read, used as a context: any number of readings, one at a time.

    Args:
        path: The video.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.truncation_note: str | None = None
        """After the last frame: what the file claims to hold but does not, in one line."""
        self._missing: list[MissingSpan] = []
        self._resources = ExitStack()
        self._is_at_start = False

    def __enter__(self) -> Self:
        """Open the file and decode its first frame.

        Raises:
            InputError: There is no such file, or no frame of it can be decoded.
        """
        self._open()
        self.info: VideoInfo = read_info(self.path, self._decoder)
        self._orientation = Orientation.from_frame(self._decoder.first)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._resources.close()

    def frames(
        self, *, start: Fraction | None = None, resume_after: FramePosition | None = None
    ) -> Iterator[Frame]:
        """Yield the frames in the order of showing, numbered from the file's first.

        Times grow strictly: a stamp that stands still or runs backwards, which no player can show
        either, is moved to one tick after the frame before it.

        Args:
            start: Time stamp, seconds: frames shown earlier are left out, and mostly not decoded,
                if all packets have time stamps.
            resume_after: A frame of an earlier reading: only those after it are yielded, the same
                as then, whatever `start` is. Little of what comes before is decoded.
        """
        if resume_after is not None:
            return self._frames_after(resume_after)
        return self._all_frames() if start is None else self._frames_from(start)

    def frames_at(self, positions: Sequence[FramePosition]) -> Iterator[Frame]:
        """Yield the frame that a player shows at each position's time, found by seeking.

        Args:
            positions: In any order. Before the first frame it is the first, beyond the last one
                the last. The frame's index is the position's: counting would take a whole reading.
        """
        for position in positions:
            if frame := next(self._seek_frames(position.time), None):
                yield replace(frame, index=position.index)

    def take_missing(self) -> list[MissingSpan]:
        """Return the times without a frame that this reading has met since the last call."""
        taken, self._missing = self._missing, []
        return taken

    def splice_note(self, end: Fraction | None = None) -> str | None:
        """Return where the recording goes over into another one, in one line; None: nowhere.

        Args:
            end: Time stamp, s, up to which frames were read; None: to the last.
        """
        times = [one.time for one in self._decoder.clock.jumps if end is None or one.time < end]
        parts = []
        if times:
            places = ", ".join(f"{float(one - self.info.start_time):.1f} s" for one in times[:5])
            more = f" and {len(times) - 5} more places" if len(times) > 5 else ""
            parts.append(f"its clock jumps at {places}{more}: its frames go on at the usual rate")
        if sizes := self._decoder.fitter.changed_sizes:
            other = " and ".join("{}x{}".format(*size) for size in sizes)
            own = "{}x{}".format(*self._decoder.fitter.size)
            parts.append(f"its frames of {other} px are fitted into {own} px, in their own aspect")
        return f"{self.path.name} is joined from recordings: {'; '.join(parts)}" if parts else None

    def _open(self) -> None:
        """Open the file, or open it again to read it from its first byte."""
        self._resources.close()
        with ExitStack() as stack:
            self._decoder: Decoder = stack.enter_context(open_decoder(self.path))
            self._resources = stack.pop_all()
        self._is_at_start = True

    def _all_frames(self) -> Generator[Frame, None, None]:
        """Yield all frames."""
        yield from self._to_frames(self._decode_all())

    def _frames_from(self, start: Fraction) -> Iterator[Frame]:
        """Yield the frames shown at `start` s or later."""
        before = count_frames_before(self.path, start)
        if before is None:
            yield from (frame for frame in self._all_frames() if frame.time >= start)
            return
        frames = self._seek_frames(start)
        # The first one may have begun earlier, and be the only one there is.
        first = next(frames, None)
        rest = frames if first is None or first.time < start else chain([first], frames)
        for index, frame in enumerate(rest, before):
            yield replace(frame, index=index)

    def _frames_after(self, position: FramePosition) -> Iterator[Frame]:
        """Yield the frames after one of an earlier reading."""
        frames = self._seek_frames(position.time)
        first = next(frames, None)
        if first is not None and first.time == position.time:
            for frame in frames:
                yield replace(frame, index=position.index + frame.index)
            return
        # The time stamps of the file are not those of the earlier reading: count.
        yield from (frame for frame in self._all_frames() if frame.index > position.index)

    def _seek_frames(self, time: Fraction) -> Generator[Frame, None, None]:
        """Yield the frames from the one on that is shown at `time` s, numbered from 0."""
        yield from self._to_frames(_skip_to(self._seek(time), time))

    def _to_frames(self, decoded: Iterator[tuple[VideoFrame, Fraction]]) -> Iterator[Frame]:
        """Yield decoded frames upright, numbered from 0; at the end note what is missing."""
        to_rgb = None
        self._missing = []
        usual = 1 / self.info.average_rate
        ends: Fraction | None = None
        for index, (frame, time) in enumerate(decoded):
            self._note_loss(ends, time)
            ends = time + max(frame.duration * self.info.time_base, usual)
            to_rgb = to_rgb or ToRGB(read_color_tags(frame), size=(frame.width, frame.height))
            yield Frame(
                index=index,
                time=time,
                view=LazyFrame(frame, to_rgb=to_rgb, orientation=self._orientation),
                original=SourceSamples(decoded=frame, orientation=self._orientation),
            )
        if ends is not None:
            self.truncation_note = self._describe_truncation(ends)

    def _note_loss(self, ends: Fraction | None, time: Fraction) -> None:
        """Note the frames that are missing between two frames.

        Args:
            ends: When the one before ends, s; None: there is none.
            time: When the one after is shown, s.
        """
        losses = self._decoder.losses
        if ends is None:
            if time == self.info.start_time and losses.lost_start is not None:
                self._add_missing(losses.lost_start, time)
        elif time - ends > Fraction(1, 2) / self.info.average_rate and losses.covers(ends, time):
            self._add_missing(ends, time)

    def _add_missing(self, start: Fraction, end: Fraction, *, is_end: bool = False) -> None:
        """Add a time, s, without a frame."""
        frames = max(1, round((end - start) * self.info.average_rate))
        self._missing.append(MissingSpan(start=start, end=end, frames=frames, is_end=is_end))

    def _decode_all(self) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yield all frames with their times."""
        if not self._is_at_start:
            self._open()
        self._is_at_start = False
        clock = _FrameClock(self._decoder, self.info)
        yield from ((frame, clock.time(frame)) for frame in self._decoder.frames())

    def _seek(self, time: Fraction) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yield frames with their times, the first of them not later than `time` s if one is.

        Seeking may lead to a frame that is shown later: where frames depend on the group of
        pictures after theirs, or where a container is searched by time of decoding (MPEG-TS). Then
        it is repeated further back, and at last everything is decoded.
        """
        self._is_at_start = False
        earliest = self._decoder.first.pts or 0
        ticks = [
            max(round((time - back) / self.info.time_base), earliest) for back in (0, 2, 10, 60)
        ]
        for tick in dict.fromkeys([*ticks, earliest]):
            clock = _FrameClock(self._decoder, self.info)
            decoded = ((frame, clock.time(frame)) for frame in self._decoder.seek(tick))
            first = next(decoded, None)
            if first is not None and first[1] <= max(time, self.info.start_time):
                yield from chain([first], decoded)
                return
        yield from self._decode_all()

    def _describe_truncation(self, read: Fraction) -> str | None:
        """Return what is missing of a file that was read up to the time `read`, s, or None.

        The time after it is added to the missing ones.
        """
        parts = []
        usual = 1 / self.info.average_rate
        end = declared_end(self._decoder.container, self._decoder.stream)
        losses = self._decoder.losses
        lost = losses.last_lost()
        if self._decoder.clock.jumps:
            end = None  # the claim is only the difference of two clocks
        tolerance = max(2 * usual, (end or 0) / 100)
        if end is not None and losses.compares_bytes and end - losses.latest > 1:
            tolerance = 2 * usual  # no other stream reaches the claimed end either
        if end is not None and end - read > tolerance:
            parts.append(f"ends after {float(read):.1f} s of {float(end):.1f} s")
            self._add_missing(read, end, is_end=True)
        elif lost is not None and lost >= read:
            self._add_missing(read, lost + usual)
        if damaged := self._decoder.damaged_count:
            parts.append(f"holds {damaged} damaged part{'s' * (damaged > 1)} left out")
        return f"{self.path.name} {' and '.join(parts)}" if parts else None


class _FrameClock:
    """Gives each frame its time, always later than that of the frame before it."""

    def __init__(self, decoder: Decoder, info: VideoInfo) -> None:
        self._decoder = decoder
        self._time_base = info.time_base
        self._usual_ticks = max(1, round(1 / (info.average_rate * info.time_base)))
        self._previous: int | None = None

    def time(self, frame: VideoFrame) -> Fraction:
        """Return when a frame is shown, s; without a stamp it follows at the usual rate."""
        stamp = self._decoder.read_pts(frame)
        previous = self._previous
        if previous is None:
            tick = stamp or 0
        elif stamp is None:
            tick = previous + self._usual_ticks
        else:
            tick = max(stamp, previous + 1)
        self._previous = tick
        return tick * self._time_base


def _skip_to(
    timed: Iterator[tuple[VideoFrame, Fraction]], time: Fraction
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Yield frames from the last one that begins at `time` or before, or from the first.

    Args:
        timed: Frames, each with its time, s.
        time: Seconds.
    """
    previous = next(timed, None)
    for current in timed:
        if previous is not None and current[1] > time:
            yield previous
        previous = current
    if previous is not None:
        yield previous
