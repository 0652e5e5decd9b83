"""Reading a video: what it is, and its frames upright in RGB with the times the file gives them.

It knows nothing of faces, and it never scales: a file with oblong pixels keeps its pixel grid, the
shape of the pixels is only noted.
"""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from faceswap_cli.core.errors import InputError
from faceswap_cli.video.color import ColorTags, ToRGB, YuvMatrix, read_color_tags
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.lazy_frame import LazyFrame
from faceswap_cli.video.open import find_video_stream, open_media
from faceswap_cli.video.orientation import Orientation
from faceswap_cli.video.pixel_format import to_planar_format
from faceswap_cli.video.probe import count_frames_before
from faceswap_cli.video.source_samples import SourceSamples


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a file says about its picture."""

    path: Path
    size: tuple[int, int]
    """(width, height) px of the upright frames, on the file's own pixel grid."""
    sample_aspect: Fraction
    """Width over height of one upright pixel; 1 is square."""
    average_rate: Fraction
    """Frames a second; only an average where the rate varies."""
    time_base: Fraction
    """Seconds a tick: every frame's time is a whole number of these."""
    rotation: int
    """Degrees clockwise that the stored picture is turned to be shown: 0, 90, 180 or 270."""
    mirrored: bool
    """The stored picture is shown as in a mirror (some front cameras)."""
    duration: Fraction | None
    """Seconds, as the file claims."""
    frame_count: int | None
    """As the file claims, or duration times rate. Good for a progress bar; never to be trusted."""
    interlaced: bool
    """Two half pictures are woven into each frame."""
    audio_count: int
    subtitle_count: int
    color: ColorTags
    pixel_format: str | None
    """FFmpeg's name of the upright picture's samples, such as yuv420p10le; None if there is no
    way to write them as they are."""


def probe(path: Path) -> VideoInfo:
    """Return what the video at `path` is, having decoded its first frame.

    Raises:
        InputError: There is no such file, or it holds no picture that can be decoded.
    """
    with VideoReader(path) as reader:
        return reader.info


def read_frames(
    path: Path, *, start: int = 0, note: Callable[[str], None] | None = None
) -> Iterator[Frame]:
    """Yield the frames of a video, the first `start` of them decoded but passed over.

    Args:
        path: The video.
        start: Frames to leave out.
        note: Told one line at the end if the file held less than it claims.

    Raises:
        InputError: There is no such file, or it holds no picture that can be decoded.
    """
    with VideoReader(path, start=start) as reader:
        yield from reader
        if reader.truncation_note and note:
            note(reader.truncation_note)


def read_frames_at(path: Path, times: Sequence[Fraction]) -> Iterator[Frame]:
    """Yield the frames that are shown at some moments, each found by seeking.

    Args:
        path: The video.
        times: Seconds, in any order. Beyond the end there is no frame.

    Yields:
        A frame whose `index` is that of its moment in `times`: counting would take a whole reading.

    Raises:
        InputError: There is no such file, or it holds no picture that can be decoded.
    """
    with VideoReader(path) as reader:
        for index, time in enumerate(times):
            if frame := next(reader.seek_frames(time), None):
                yield replace(frame, index=index)


def resume_frames(
    path: Path, *, index: int, time: Fraction, note: Callable[[str], None] | None = None
) -> Iterator[Frame]:
    """Yield the frames from number `index` on, which an earlier reading saw at `time` s.

    They are those that `read_frames` yields, without decoding all that comes before.

    Args:
        path: The video.
        index: Number of the first frame.
        time: When it is shown, seconds.
        note: Told one line at the end if the file held less than it claims.

    Raises:
        InputError: There is no such file, or it holds no picture that can be decoded.
    """
    with VideoReader(path) as reader, closing(reader.seek_frames(time)) as frames:
        first = next(frames, None)
        if first is not None and first.time == time:
            for frame in chain([first], frames):
                yield replace(frame, index=index + frame.index)
            if reader.truncation_note and note:
                note(reader.truncation_note)
            return
    # A file whose index leads astray: count.
    yield from read_frames(path, start=index, note=note)


def read_frames_from(
    path: Path, *, time: Fraction, note: Callable[[str], None] | None = None
) -> Iterator[Frame]:
    """Yield the frames that are shown at `time` s or later, numbered from the file's first.

    What comes before is not decoded where the file says of each frame when it is shown.

    Args:
        path: The video.
        time: Seconds.
        note: Told one line at the end if the file held less than it claims.

    Raises:
        InputError: There is no such file, or it holds no picture that can be decoded.
    """
    before = count_frames_before(path, time)
    if before is not None:
        with VideoReader(path) as reader, closing(reader.seek_frames(time)) as frames:
            # The first one may have begun earlier, and be the only one there is.
            begins = next(frames, None)
            rest = frames if begins is None or begins.time < time else chain([begins], frames)
            for index, frame in enumerate(rest, before):
                yield replace(frame, index=index)
            if reader.truncation_note and note:
                note(reader.truncation_note)
        return
    for frame in read_frames(path, note=note):
        if frame.time >= time:
            yield frame


class VideoReader:
    """A video being read; use it as a context and iterate over it once.

    Args:
        path: The video.
        start: Frames to leave out at the beginning: they are decoded, never converted.
    """

    def __init__(self, path: Path, *, start: int = 0) -> None:
        self.path = path
        self.start = start
        self.truncation_note: str | None = None
        """After the last frame: what the file claims to hold and does not give, in one line."""
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Open the file and decode its first frame.

        Raises:
            InputError: There is no such file, or it holds no picture that can be decoded.
        """
        with ExitStack() as stack:
            container = stack.enter_context(open_media(self.path))
            self._stream = find_video_stream(container, self.path)
            self._stream.thread_type = "AUTO"
            self._decoder = _Decoder(container, self._stream)
            self._frames = iter(self._decoder)
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(
                    f"not one frame of {self.path} can be decoded",
                    hint="the file is damaged; copy it again from where it came from",
                )
            self._earliest = self._first
            self._orientation = Orientation.from_frame(self._first)
            self.info = _read_info(self.path, container, self._stream, self._first)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._frames = iter(())
        self._resources.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in the order of showing, times strictly growing.

        A stamp that stands still or runs backwards, which no player can show either, is moved to
        one tick after the frame before it.
        """
        first, self._first = self._first, None
        if first is None:
            return
        to_rgb = ToRGB(read_color_tags(first), size=(first.width, first.height))
        clock = _FrameClock(self._decoder.container, first, self.info)
        for index, frame in enumerate(chain([first], self._frames)):
            time = clock.time(frame)
            if index >= self.start:
                yield self._make_frame(frame, index=index, time=time, to_rgb=to_rgb)
        self._check_truncation(frame, time)

    def _check_truncation(self, frame: VideoFrame, time: Fraction) -> None:
        """Note what is missing after the last frame, shown from `time` s on."""
        stays = max(frame.duration * self.info.time_base, 1 / self.info.average_rate)
        self.truncation_note = self._describe_truncation(time + stays)

    def seek_frames(self, time: Fraction) -> Generator[Frame, None, None]:
        """Yield the frames from the one on that is shown at `time` s, found by seeking.

        Before the first frame it is the first, beyond the last one the last. Seeking leaves nothing
        to count from: indices begin at 0. A reader asked this cannot be iterated over any more.
        """
        to_rgb = None
        kept = _skip_to(self._seek(time), time)
        for index, (frame, shown) in enumerate(kept):
            to_rgb = to_rgb or ToRGB(read_color_tags(frame), size=(frame.width, frame.height))
            yield self._make_frame(frame, index=index, time=shown, to_rgb=to_rgb)
        if to_rgb is not None:
            self._check_truncation(frame, shown)

    def _make_frame(self, frame: VideoFrame, *, index: int, time: Fraction, to_rgb: ToRGB) -> Frame:
        """Return a decoded frame upright, to be looked at and as the file has it."""
        return Frame(
            index=index,
            time=time,
            view=LazyFrame(frame, to_rgb=to_rgb, orientation=self._orientation),
            original=SourceSamples(decoded=frame, orientation=self._orientation),
        )

    def _seek(self, time: Fraction) -> Iterator[tuple[VideoFrame, Fraction]]:
        """Yield frames with their times, the first of them not later than `time` s if one is.

        Where frames lean on the group of pictures after theirs, the whole picture that a file leads
        to may be shown later than what was looked for: then it is looked for further back.
        """
        container = self._decoder.container
        earliest = self._earliest.pts or 0
        for back in (0, 2, 10, 60, None):
            tick = earliest if back is None else round((time - back) / self.info.time_base)
            container.seek(max(tick, earliest), stream=self._stream)
            clock = _FrameClock(container, self._earliest, self.info)
            decoded = ((frame, clock.time(frame)) for frame in self._decoder)
            first = next(decoded, None)
            if first is not None and (first[1] <= time or tick <= earliest):
                yield from chain([first], decoded)
                return

    def _describe_truncation(self, read: Fraction) -> str | None:
        """Return what the file should have held beyond the time `read` in seconds, or None."""
        parts = []
        end = _declared_end(self._decoder.container, self._stream)
        if end is not None and end - read > max(2 / self.info.average_rate, end / 100):
            parts.append(f"ends after {float(read):.1f} s of {float(end):.1f} s")
        if damaged := self._decoder.damaged_count:
            parts.append(f"holds {damaged} damaged piece{'s' * (damaged > 1)} left out")
        return f"{self.path.name} {' and '.join(parts)}" if parts else None


class _FrameClock:
    """Tells when each frame is shown, always later than the frame before it."""

    def __init__(self, container: InputContainer, first: VideoFrame, info: VideoInfo) -> None:
        # AVI stores no times of showing, and what FFmpeg makes up for them is wrong where frames
        # were reordered; its times of decoding, counted from the first frame, are right.
        self._read_pts = (
            _dts_since(first.dts or 0) if container.format.name == "avi" else _frame_pts
        )
        self._time_base = info.time_base
        self._usual_ticks = max(1, round(1 / (info.average_rate * info.time_base)))
        self._previous: int | None = None

    def time(self, frame: VideoFrame) -> Fraction:
        """Return when a frame is shown, in s; without a stamp it follows at the usual rate."""
        stamp = self._read_pts(frame)
        previous = self._previous
        if previous is None:
            tick = stamp or 0
        elif stamp is None:
            tick = previous + self._usual_ticks
        else:
            tick = max(stamp, previous + 1)
        self._previous = tick
        return tick * self._time_base


def _frame_pts(frame: VideoFrame) -> int | None:
    """Return the stamp a frame carries."""
    return frame.pts if frame.pts is not None else frame.dts


def _dts_since(first: int) -> Callable[[VideoFrame], int | None]:
    """Return stamps made of the times of decoding, beginning at 0."""
    return lambda frame: None if frame.dts is None else frame.dts - first


class _Decoder:
    """Decodes on past damage, counting it."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self.container = container
        self.stream = stream
        self.damaged_count = 0

    def __iter__(self) -> Iterator[VideoFrame]:
        for packet in self._packets():
            yield from self._decode(packet)
        yield from self._decode(None)

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield the stream's packets until the end or the first unreadable byte."""
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self.damaged_count += 1
                return
            if packet.size:
                yield packet

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        """Return the frames a packet completes; None asks for those still inside."""
        try:
            return self.stream.decode(packet)
        except FFmpegError:
            self.damaged_count += 1
            return []


def _read_info(
    path: Path, container: InputContainer, stream: VideoStream, first: VideoFrame
) -> VideoInfo:
    """Return what the file and its first frame say."""
    orientation = Orientation.from_frame(first)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    duration = _declared_duration(container, stream)
    estimate = round(duration * rate) if duration is not None else None
    width, height = first.width, first.height
    tags = read_color_tags(first)
    known = tags.matrix is None or tags.matrix in set(YuvMatrix)
    return VideoInfo(
        path=path,
        size=(height, width) if orientation.transposed else (width, height),
        sample_aspect=1 / aspect if orientation.transposed else aspect,
        average_rate=rate,
        time_base=stream.time_base or 1 / rate,
        rotation=orientation.rotation_deg,
        mirrored=orientation.is_mirrored,
        duration=duration,
        frame_count=stream.frames or estimate,
        interlaced=first.interlaced_frame,
        audio_count=len(container.streams.audio),
        subtitle_count=len(container.streams.subtitles),
        color=tags,
        pixel_format=to_planar_format(first.format.name, transposed=orientation.transposed)
        if known
        else None,
    )


def _declared_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the picture's length in seconds as claimed by its stream, a tag or the container."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if tag := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(Fraction, tag.groups())  # Matroska: 00:01:02.040000000
        return 3600 * hours + 60 * minutes + seconds
    if container.duration:
        return Fraction(container.duration, av.time_base)
    return None


def _declared_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the time at which the picture should end, or None where nobody says."""
    duration = _declared_duration(container, stream)
    if duration is None:
        return None
    return (stream.start_time or 0) * (stream.time_base or 0) + duration


def _skip_to(
    timed: Iterator[tuple[VideoFrame, Fraction]], time: Fraction
) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Yield the last of the frames that begins at `time` or before, or the first, and what follows.

    Args:
        timed: Frames, each with when it begins to be shown, s.
        time: Seconds.
    """
    latest = next(timed, None)
    for one in timed:
        if latest is not None and one[1] > time:
            yield latest
        latest = one
    if latest is not None:
        yield latest
