"""Opening a local video file: its properties (`probe`), its decoder, its packets' time stamps."""

import os
import re
import stat
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, cast

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.format import Flags
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from faceswap_cli.core.errors import InputError, did_you_mean
from faceswap_cli.video.color import ColorTags, YuvMatrix, read_color_tags, to_planar_format
from faceswap_cli.video.frame import FrameFitter
from faceswap_cli.video.orientation import Orientation


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video file's video stream."""

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
    """Degrees clockwise by which the stored frames are rotated for display: 0, 90, 180 or 270."""
    mirrored: bool
    """The stored frames are mirrored for display (some front cameras)."""
    start_time: Fraction
    """Time stamp of the first frame, seconds: recordings of broadcasts do not begin at 0."""
    duration: Fraction | None
    """Seconds, as the file claims."""
    frame_count: int | None
    """As the file claims, or duration times rate. Good for a progress bar; never to be trusted."""
    interlaced: bool
    """Each frame consists of two fields."""
    audio_count: int
    subtitle_count: int
    color: ColorTags
    pixel_format: str | None
    """FFmpeg's name of the upright frames' pixel format, such as yuv420p10le; None if they cannot
    be written sample by sample."""


def probe(path: Path) -> VideoInfo:
    """Return the properties of the video at `path`, having decoded its first frame.

    Raises:
        InputError: There is no such file, or no frame of it can be decoded.
    """
    with open_decoder(path) as decoder:
        return read_info(path, decoder)


@contextmanager
def open_decoder(path: Path) -> Iterator["Decoder"]:
    """Open a video for decoding.

    Raises:
        InputError: There is no such file, or no frame of it can be decoded.
    """
    with open_media(path) as container:
        yield Decoder(path, container, find_video_stream(container, path))


def read_info(path: Path, decoder: "Decoder") -> VideoInfo:
    """Return the properties in the headers of a file and in its first frame."""
    container, stream, first = decoder.container, decoder.stream, decoder.first
    orientation = Orientation.from_frame(first)
    aspect = stream.sample_aspect_ratio or Fraction(1)
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    duration = _declared_duration(container, stream)
    time_base = stream.time_base or 1 / rate
    estimate = round(duration * rate) if duration is not None else None
    width, height = first.width, first.height
    tags = read_color_tags(first)
    is_supported = tags.matrix is None or tags.matrix in set(YuvMatrix)
    return VideoInfo(
        path=path,
        size=(height, width) if orientation.transposed else (width, height),
        sample_aspect=1 / aspect if orientation.transposed else aspect,
        average_rate=rate,
        time_base=time_base,
        start_time=(decoder.read_pts(first) or 0) * time_base,
        rotation=orientation.rotation_deg,
        mirrored=orientation.is_mirrored,
        duration=duration,
        frame_count=_check_frame_count(stream.frames or estimate, path),
        interlaced=first.interlaced_frame,
        audio_count=len(container.streams.audio),
        subtitle_count=len(container.streams.subtitles),
        color=tags,
        pixel_format=to_planar_format(first.format.name, transposed=orientation.transposed)
        if is_supported
        else None,
    )


def _check_frame_count(count: int | None, path: Path) -> int | None:
    """Return a number of frames as a file claims; None if it cannot have so many.

    A frame takes a byte at least.
    """
    return count if count is not None and count <= path.stat().st_size else None


def _declared_duration(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the video's duration in seconds as claimed by its stream, a tag or the container."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if tag := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(Fraction, tag.groups())  # Matroska: 00:01:02.040000000
        return 3600 * hours + 60 * minutes + seconds
    if container.duration:
        return Fraction(container.duration, av.time_base)
    return None


def declared_end(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the time stamp, s, at which the video claims to end; None if it claims nothing.

    It may be that of a longer audio.
    """
    duration = _declared_duration(container, stream)
    if duration is None:
        return None
    return (stream.start_time or 0) * (stream.time_base or 0) + duration


class Decoder:
    """Decodes the frames of a video past damage, which it counts; the first is decoded at once.

    Args:
        path: The video, for errors.
        container: The open file.
        stream: Its video stream.

    Raises:
        InputError: No frame can be decoded.
    """

    def __init__(self, path: Path, container: InputContainer, stream: VideoStream) -> None:
        self.container = container
        self.stream = stream
        self.damaged_count = 0
        self.clock = PacketClock(container, stream)
        self.losses = LossEvidence(container, stream)
        self._path = path
        stream.thread_type = "AUTO"
        stream.codec_context.options = _DECODER_OPTIONS
        self._frames = self._decode_packets()
        first = next(self._frames, None)
        if first is None:
            raise InputError(
                f"not one frame of {path} can be decoded",
                hint="the file is damaged, or its frames have more than "
                f"{MAX_FRAME_PIXELS / 1e6:.0f} million px; copy it again from where it came from",
            )
        self.first = first
        """The first frame in the order of showing."""
        self._size, self._aspect = (first.width, first.height), self._read_aspect()
        self.fitter = FrameFitter(first, self._aspect)

    def read_pts(self, frame: VideoFrame) -> int | None:
        """Return a frame's presentation time in ticks; None if the file has none."""
        # AVI stores no presentation times, and what FFmpeg makes up for them is wrong where frames
        # were reordered; its times of decoding, counted from the first frame, are right.
        if self.container.format.name == "avi":
            return None if frame.dts is None else frame.dts - (self.first.dts or 0)
        return frame.pts if frame.pts is not None else frame.dts

    def frames(self) -> Iterator[VideoFrame]:
        """Yield the frames from the first one on, once; not after `seek`."""
        yield self.first
        yield from self._fit(self._frames)

    def seek(self, tick: int) -> Iterator[VideoFrame]:
        """Yield the frames from where seeking to `tick` leads: maybe later ones, maybe none."""
        self._frames = iter(())
        self.damaged_count = 0  # damage that an earlier search met is not part of this reading
        self.losses = LossEvidence(self.container, self.stream)
        if self.clock.may_jump and not self.clock.is_known:
            self.clock = PacketClock(
                self.container, self.stream, jumps=find_clock_jumps(self._path)
            )
        try:
            self.container.seek(self.clock.to_stored(tick), stream=self.stream)
        except FFmpegError:  # a bare H.264 stream cannot be searched
            return iter(())
        return self._fit(self._decode_packets())

    def _fit(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield frames with the size and the shape of the first one."""
        for frame in frames:
            # The decoder's aspect is that of the last packet, a few frames ahead of the frame; it
            # only changes where a group of pictures begins.
            size = frame.width, frame.height
            if frame.key_frame or size != self._size:
                self._size, self._aspect = size, self._read_aspect()
            yield self.fitter.fit(frame, self._aspect)

    def _read_aspect(self) -> Fraction:
        """Return width over height of a coded pixel, as the decoder knows it at present."""
        return self.stream.codec_context.sample_aspect_ratio or Fraction(1)

    def _decode_packets(self) -> Iterator[VideoFrame]:
        """Yield the frames from the container's position on."""
        offset = None
        for packet in self._packets():
            if offset not in (None, self.clock.offset):
                # Another recording: a decoder that meets another size drops what it still holds.
                yield from self._decode(None)
                self.stream.codec_context.flush_buffers()
            offset = self.clock.offset
            yield from self._decode(packet)
        yield from self._decode(None)

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield the stream's packets up to the end or the first unreadable byte."""
        # Bytes are only missed if the packets of all streams are known.
        streams = () if self.losses.compares_bytes else self.clock.streams
        packets = self.container.demux(*streams)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except FFmpegError:
                self.damaged_count += 1
                return
            self.clock.correct(packet)
            self.losses.add_packet(packet)
            if packet.size and packet.stream_index == self.stream.index:
                yield cast("Packet[VideoStream]", packet)

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[VideoFrame]:
        """Return the frames a packet completes; None flushes the decoder."""
        try:
            frames = self.stream.decode(packet)
        except FFmpegError:
            self.damaged_count += 1
            self.losses.add_error()
            return []
        for frame in frames:
            self.losses.add_frame(frame)
        return frames


class LossEvidence:
    """Where a file has lost frames, by its packets: a gap between frames alone may be meant.

    Evidence is a packet that gives no frame, a packet or a frame that FFmpeg has found damaged, or
    bytes between two packets that belong to none.

    Args:
        container: The open file.
        stream: Its video stream.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        names = container.format.name.split(",")
        self.compares_bytes = bool({"matroska", "flv"} & set(names))
        """Whether packets lie one after the other, so that bytes between them have been lost."""
        self._stream = stream
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._reach = MAX_REORDER_DEPTH / rate
        """Seconds by which a packet may be away from a loss beside it."""
        self._spans: deque[tuple[Fraction, Fraction]] = deque(maxlen=1000)
        """Between which times something was lost, s; the latest ones."""
        self._pending: set[int] = set()
        """Stamps of the packets without a frame yet."""
        self.latest = Fraction(0)
        """The latest time of any packet, s."""
        self._byte_end: int | None = None
        self.lost_start: Fraction | None = None
        """When the first frame is shown if it and those after it could not be decoded, s."""
        self._has_frame = self._has_error = False

    def add_packet(self, packet: "Packet[Any]") -> None:
        """Take note of a packet of any stream, in the order of the file."""
        if not packet.size:
            return
        hole = 0
        if self.compares_bytes and packet.pos is not None:
            hole = packet.pos - self._byte_end if self._byte_end is not None else 0
            self._byte_end = packet.pos + packet.size
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return
        time = stamp * packet.time_base
        is_video = packet.stream_index == self._stream.index
        if hole > _MAX_HEADER_BYTES or (is_video and packet.is_corrupt):
            before, after = min(self.latest, time), max(self.latest, time)
            self._spans.append((before - self._reach, after + self._reach))
        self.latest = max(self.latest, time)
        if is_video and packet.pts is not None and not packet.is_discard:
            self._pending.add(packet.pts)

    def add_frame(self, frame: VideoFrame) -> None:
        """Take note of a decoded frame, in the order of showing."""
        if frame.pts is None:
            self._pending.clear()  # of AVI, whose frames have no such times
            return
        base = self._stream.time_base or Fraction(1)
        if frame.is_corrupt:
            time = frame.pts * base
            self._spans.append((time - self._reach, time + self._reach))
        self._pending.discard(frame.pts)
        lost = {stamp for stamp in self._pending if stamp < frame.pts}
        # Without an error a recording has just begun in the middle of a group of pictures.
        if lost and self._has_error and not self._has_frame:
            self.lost_start = min(lost) * base
        self._has_frame = True
        self._pending -= lost
        self._spans.extend((stamp * base, stamp * base) for stamp in sorted(lost))

    def add_error(self) -> None:
        """Take note that the decoder has refused a packet."""
        self._has_error = True

    def covers(self, start: Fraction, end: Fraction) -> bool:
        """Return whether something was lost between two times, s, with no frame in between."""
        return any(first <= end and start <= last for first, last in self._spans)

    def last_lost(self) -> Fraction | None:
        """Return the latest time, s, of a packet without a frame, at the end of the file."""
        base = self._stream.time_base or Fraction(1)
        return max(self._pending) * base if self._pending else None


_MAX_HEADER_BYTES = 512
"""Bytes between packets that are no loss: headers, and what is stored beside a frame."""


@dataclass(frozen=True, kw_only=True)
class ClockJump:
    """A place in a file from which on the clock of the recording is another one."""

    position: int
    """Byte at which the first video packet after it begins."""
    time: Fraction
    """When the first frame after it is shown, s, if the frames go on at the usual rate."""
    offset: Fraction
    """What must be added to the time stamps from here to the next jump, s."""


MAX_CLOCK_GAP_S = 10
"""Seconds without a packet after which a clock is taken for another one, as FFmpeg's program does:
captures of one channel that were joined, or a reception that failed."""
MAX_CLOCK_STEP_BACK_S = Fraction(1, 10)
"""Seconds by which times of decoding may run backwards before a clock is taken for another."""


class PacketClock:
    """Makes the time stamps of packets go on where the clock of the recording jumps.

    Transport streams can be joined end to end by copying them one after the other, and receivers
    lose the signal: the stamps start again, or are hours later. All frames after such a place get
    the same offset, so that the first of them follows the last one before at the usual rate.
    Formats whose clock cannot jump are left alone.

    Args:
        container: The open file.
        stream: Its video stream.
        jumps: Those of the whole file, if they are known: needed to begin in the middle of it.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        jumps: Sequence[ClockJump] | None = None,
    ) -> None:
        self.may_jump = bool(container.format.flags & cast("int", Flags.ts_discont.value))
        self.is_known = jumps is not None
        """Whether the jumps of the whole file are known."""
        self.jumps: list[ClockJump] = list(jumps or ())
        """Those of the whole file, or those met so far."""
        self.streams: list[Stream] = [stream]
        """Those whose packets must be passed to `correct`, in the order of the file."""
        if self.may_jump:
            self.streams += container.streams.audio
        self._stream = stream
        self._usual = 1 / (stream.average_rate or stream.guessed_rate or Fraction(25))
        self.offset = Fraction(0)
        """What is added to the stamps of the last packet, s."""
        self._decoded: Fraction | None = None
        """When the last video packet is decoded, s."""
        self._latest = Fraction(0)
        """The latest time of any stream's packets, s."""
        self._end = Fraction(0)
        """When the last frame so far ends, s."""

    def to_stored(self, tick: int) -> int:
        """Return the stamp that the file has for a time, both in ticks of the video stream."""
        base = self._stream.time_base or Fraction(1)
        number = bisect_right([jump.time for jump in self.jumps], tick * base)
        return tick - round(self._offset_after(number) / base)

    def correct(self, packet: "Packet[Any]") -> None:
        """Change a packet's stamps to go on from those before it; of audio only take note."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not (self.may_jump and packet.size) or stamp is None:
            return
        time = stamp * packet.time_base
        if packet.stream_index != self._stream.index:
            time += self.offset
            # Sound that has jumped already must not hide that the image is about to.
            if self._latest < time <= self._latest + MAX_CLOCK_GAP_S:
                self._latest = time
            return
        if self.is_known:
            if packet.pos is not None:
                number = bisect_right([jump.position for jump in self.jumps], packet.pos)
                self.offset = self._offset_after(number)
        elif packet.dts is not None and self._is_jump(time + self.offset):
            self._add_jump(packet)
        shift_stamps(packet, self.offset)
        self._decoded = time + self.offset
        self._latest = max(self._latest, self._decoded)
        shown = self._decoded if packet.pts is None else packet.pts * packet.time_base
        duration = (packet.duration or 0) * packet.time_base or self._usual
        self._end = max(self._end, shown + duration)

    def _offset_after(self, number: int) -> Fraction:
        """Return the offset, s, after so many jumps."""
        return self.jumps[number - 1].offset if number else Fraction(0)

    def _is_jump(self, time: Fraction) -> bool:
        """Return whether the clock is another one at the next video packet, decoded at `time`."""
        if self._decoded is None:
            self._latest = time
            return False
        return time < self._decoded - MAX_CLOCK_STEP_BACK_S or time > self._latest + MAX_CLOCK_GAP_S

    def _add_jump(self, packet: "Packet[Any]") -> None:
        """Make a packet the first one after a jump."""
        stamp = packet.pts if packet.pts is not None else packet.dts or 0
        self.offset = self._end - stamp * packet.time_base
        self._latest = self._end
        self.jumps.append(ClockJump(position=packet.pos or 0, time=self._end, offset=self.offset))


def shift_stamps(packet: "Packet[Any]", offset: Fraction) -> None:
    """Add `offset` s to a packet's time stamps."""
    ticks = round(offset / packet.time_base) if offset else 0
    if ticks and packet.pts is not None:
        packet.pts += ticks
    if ticks and packet.dts is not None:
        packet.dts += ticks


def find_clock_jumps(path: Path) -> list[ClockJump]:
    """Return where the clock of a video jumps; all packets are read, none is decoded.

    Raises:
        InputError: There is no such file, or it has no video stream.
    """
    with open_media(path) as container:
        clock = PacketClock(container, find_video_stream(container, path))
        if clock.may_jump:
            with suppress(FFmpegError):
                for packet in container.demux(clock.streams):
                    clock.correct(packet)
        return clock.jumps


_ALLOWED_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,mxf,h264"
)

MAX_FRAME_PIXELS = 1 << 27
"""Pixels of the largest frame that is decoded, 134 million: 16K has 133. A file of one megabyte can
hold any size in one color."""
_DECODER_OPTIONS = {"max_pixels": str(MAX_FRAME_PIXELS)}


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open one local media file, but no playlist or URL.

    Those make FFmpeg open other files and connections; the whitelists prevent that.

    Raises:
        InputError: There is no such file, or FFmpeg cannot read it.
    """
    _check_file(path)
    try:
        container = av.open(
            str(path.absolute()),
            container_options={"protocol_whitelist": "file", "format_whitelist": _ALLOWED_FORMATS},
            options=_DECODER_OPTIONS,  # for the frames that opening decodes
            metadata_errors="replace",
        )
    except (FFmpegError, OSError) as error:
        raise InputError(
            f"{path} is not a video that can be read: {_diagnose(path)}",
            hint="videos in mp4, mov, mkv, webm, avi and a dozen more formats are supported",
        ) from error
    with container:
        yield container


def _check_file(path: Path) -> None:
    """Refuse what cannot be a video before anything is opened.

    Raises:
        InputError: It is missing, a folder, no ordinary file, empty, or may not be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        names = _list_siblings(path.parent)
        hint = did_you_mean(path.name, names)
        if len(names) > 12 and not hint.startswith("did you mean"):
            hint = ""  # a whole folder's list is no help
        raise InputError(f"there is no file {path}", hint=hint) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path} is a folder, not a video", hint="name a video inside it")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path} is not an ordinary file", hint="copy it to a file first")
    if not status.st_size:
        raise InputError(f"{path} is empty (0 bytes)", hint="copy it again from where it came from")
    if not os.access(path, os.R_OK):
        raise InputError(f"{path} may not be read", hint=f"try: chmod u+r {path.name}")


def _list_siblings(folder: Path) -> list[str]:
    """Return the names in the folder of a missing file, without hidden ones."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]  # noqa: PTH208
    except OSError:
        return []


def _diagnose(path: Path) -> str:
    """Return why FFmpeg cannot read a file, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        return (error.strerror or "it cannot be opened").lower()
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "its index is missing, the recording or the copy was cut off"
    if b"\0" not in head and _is_text(head):
        return "it is a text file"
    return "its format is unknown, or it is damaged from its first bytes"


def _is_text(head: bytes) -> bool:
    """Return whether bytes are UTF-8, but for a character cut off at the end."""
    for cut in range(4):
        try:
            head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return True
    return False


def find_video_stream(container: InputContainer, path: Path) -> VideoStream:
    """Return the video stream that a player shows.

    Neither a cover image nor a single picture that lacks the flag of one; of several streams the
    one with the default flag, then the largest, then the first.

    Raises:
        InputError: The file has none, or there is no decoder for it.
    """
    moving = [
        stream
        for stream in container.streams.video
        if not stream.disposition & Disposition.attached_pic
    ]
    if not moving:
        what = "audio but no video" if container.streams.audio else "no video"
        raise InputError(f"{path} holds {what}", hint="name a file with a video stream")
    # Streams whose codec this FFmpeg does not know come without a context.
    decodable = [one for one in moving if getattr(one, "codec_context", None) is not None]
    if not decodable:
        raise InputError(
            f"{path} has a codec this program has no decoder for",
            hint="convert it to H.264 first, with any video editor",
        )
    if len(decodable) == 1:
        return decodable[0]
    candidates = [one for one in decodable if not _is_single_picture(one, path)] or decodable
    return max(
        candidates,
        key=lambda one: (bool(one.disposition & Disposition.default), one.width * one.height),
    )


_PICTURE_CODECS = frozenset({"mjpeg", "png", "bmp", "gif", "webp", "tiff", "jpeg2000"})
"""FFmpeg's names of the codecs of cover images."""
_AV1_DECODERS = frozenset({"av1", "libdav1d", "libaom-av1"})
_PEEKED_PACKETS = 500
"""Packets in which the second picture of a stream is searched."""


def is_animation_still(stream: Stream) -> bool:
    """Return whether a stream is the still picture of an animated AVIF, a copy of a frame."""
    context = getattr(stream, "codec_context", None)
    return context is not None and context.name in _AV1_DECODERS and stream.frames == 1


def _is_single_picture(stream: VideoStream, path: Path) -> bool:
    """Return whether a stream of a file with several holds one picture, such as a cover image."""
    if is_animation_still(stream):
        return True
    if stream.codec_context.name not in _PICTURE_CODECS:
        return False
    if stream.frames:
        return stream.frames == 1
    with open_media(path) as container, suppress(FFmpegError):  # Matroska does not count them
        packets = islice(container.demux(), _PEEKED_PACKETS)
        return sum(1 for one in packets if one.size and one.stream_index == stream.index) < 2
    return False


def count_frames_before(path: Path, time: Fraction) -> int | None:
    """Return how many frames are shown before time stamp `time` s, without decoding.

    None if the packets have no time stamps.

    Raises:
        InputError: There is no such file, or it has no video stream.
    """
    with open_media(path) as container:
        stream = find_video_stream(container, path)
        if container.format.name == "avi" or stream.time_base is None:
            return None
        limit, count = time / stream.time_base, 0
        for packet in _demux_continuously(container, stream):
            if packet.is_discard:
                continue
            if packet.pts is None or packet.dts is None:
                return None
            if (
                packet.dts >= limit
            ):  # its presentation time is later still, and so are all that follow
                return count
            count += packet.pts < limit
        return count


def _demux_continuously(
    container: InputContainer, stream: VideoStream
) -> Iterator["Packet[VideoStream]"]:
    """Yield a video stream's packets, their stamps going on where the clock jumps."""
    clock = PacketClock(container, stream)
    for packet in container.demux(clock.streams):
        clock.correct(packet)
        if packet.size and packet.stream_index == stream.index:
            yield cast("Packet[VideoStream]", packet)


def read_frame_duration(path: Path, time: Fraction) -> Fraction | None:
    """Return the duration, s, of the frame with time stamp `time`; None if the file has none."""
    with open_media(path) as container:
        stream = find_video_stream(container, path)
        if container.format.name == "avi" or not stream.time_base:
            return None  # AVI stores no presentation times
        if not PacketClock(container, stream).may_jump:
            with suppress(FFmpegError):
                container.seek(max(0, int((time - 1) * av.time_base)), backward=True)
        duration: Fraction | None = None
        following: list[Fraction] = []
        with suppress(FFmpegError):
            for packet in _demux_continuously(container, stream):
                if packet.pts is not None:
                    shown = packet.pts * packet.time_base
                    if shown == time:
                        duration = (packet.duration or 0) * packet.time_base
                    elif shown > time:
                        following.append(shown)
                if len(following) > MAX_REORDER_DEPTH:
                    break
        if duration is None:
            return None
        return min(following) - time if following else duration or None


MAX_REORDER_DEPTH = 16
"""Frames that may be stored between one and the next in the order of showing: H.264's and H.265's
limit."""
