"""Writing a video: frames at their exact times, and everything else of a source carried over as is.

It knows no faces and never holds more than a few frames; nothing carries the final name before the
whole file is on the disk.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from math import lcm
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.files import replacing
from faceswap_cli.video.colour import BT709, UNSPECIFIED, ColourTags, FromRGB, Matrix
from faceswap_cli.video.reader import opened, picture_stream, probe

AnyPacket: TypeAlias = "Packet[Any]"


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Sound made by the program itself, to be encoded beside a drawn clip."""

    samples: npt.NDArray[np.float32]
    """float32 (N, channels) in [-1, 1]; one channel or two."""
    rate_hz: int


_EMPTY_HINT = "is the part to be written beyond the end of the video?"


class VideoWriter:
    """A video being written; use it as a context and `write` every frame in the order of showing.

    On success the file appears under its name in one step; on an exception nothing of it remains
    and an older file of that name is untouched.

    Args:
        path: Where to; .mp4, .m4v, .mov or .mkv.
        size: (width, height) px of every frame. H.264 can only store an odd size with full
            chroma resolution (4:4:4), which some players do not show.
        rate: Frames a second, on average.
        time_base: Seconds a tick. Times are kept to the tick; Matroska itself rounds them to a
            millisecond. None: that of `copy_from`, or what makes `rate` exact.
        copy_from: A video whose sound, subtitles, chapters, titles and shape of pixels are
            carried over; packets are copied, never encoded again.
        colour: What the colours are tagged with and converted by. None: as in `copy_from`, or
            BT.709.
        sound: Sound to encode; not together with `copy_from`.
        quality: x264's rate factor: 0 is lossless, 18 hardly to be told from it, 51 the worst.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction | None = None,
        copy_from: Path | None = None,
        colour: ColourTags | None = None,
        sound: Sound | None = None,
        quality: int = 18,
    ) -> None:
        if copy_from is not None and sound is not None:
            raise ValueError("a video has the sound of `copy_from` or a `sound` of its own")
        self.path = path
        self.size = size
        self.copy_from = copy_from
        self.sound = sound
        self.notes: list[str] = []
        """What could not be carried over, one line each."""
        self._rate = Fraction(rate)
        self._time_base = time_base
        self._colour = colour
        self._quality = quality
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Open the output.

        Raises:
            InputError: The suffix is unknown, the folder cannot be written, or `copy_from` cannot
                be read or carried over.
        """
        container = _container_for(self.path)
        self._check_target()
        with ExitStack() as stack:
            picture = self._picture()
            source = stack.enter_context(opened(self.copy_from)) if self.copy_from else None
            temporary = stack.enter_context(replacing(self.path))
            stack.enter_context(_explained(self.path))
            options = container.options(_ticks_a_second(picture, source, self.sound))
            self._output = stack.enter_context(_created(temporary, container.name, options))
            self._encoder = _PictureEncoder(self._output, picture)
            self._beside = self._streams_beside(source)
            self._output.start_encoding()
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name, or remove what there is of it."""
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            self._finish()

    def write(self, image: Image, time: Fraction) -> None:
        """Add a frame.

        Args:
            image: uint8 RGB (H, W, 3) of the writer's size.
            time: Seconds; later than that of the frame before by a tick at least.

        Raises:
            InputError: The disk is full.
        """
        with _explained(self.path):
            self._output.mux(self._encoder.push(image, time))
            for packet in self._beside.until(time):
                self._output.mux(packet)

    def _finish(self) -> None:
        """Write what the encoder still holds, and the sound that outlasts the picture.

        Raises:
            InputError: The disk is full, or there was nothing to write.
        """
        if self._encoder.last_time is None:
            raise InputError(f"not one frame to write to {self.path}", hint=_EMPTY_HINT)
        with _explained(self.path):
            # One second further, the source has told how long its last frame stays.
            for packet in self._beside.until(self._encoder.last_time + 1):
                self._output.mux(packet)
            length = self._beside.frame_length(self._encoder.last_time)
            self._output.mux(self._encoder.finish(last_length=length))
            for packet in self._beside.until(None):
                self._output.mux(packet)
            self.notes += self._beside.notes

    def _check_target(self) -> None:
        """Refuse before any work what could only fail after it.

        Raises:
            InputError: The output is a folder, or the very file that is read.
        """
        if self.path.is_dir():
            raise InputError(f"{self.path} is a folder", hint=f"name a file: {self.path}/video.mp4")
        if self.copy_from and self.path.exists() and self.path.samefile(self.copy_from):
            raise InputError(
                f"{self.path} is the video being read; it would be lost",
                hint="choose another name for the output",
            )

    def _picture(self) -> "_Picture":
        """Return how the picture is to be encoded, what was left open taken from the source."""
        info = probe(self.copy_from) if self.copy_from else None
        return _Picture(
            size=self.size,
            rate=self._rate,
            time_base=self._time_base or (info.time_base if info else 1 / self._rate),
            sample_aspect=info.sample_aspect if info else Fraction(1),
            colour=self._colour or (info.colour if info else BT709),
            quality=self._quality,
        )

    def _streams_beside(self, source: InputContainer | None) -> "_Beside":
        """Add the streams that go beside the picture, and return their packets to come."""
        if source is not None:
            return _Copied(source, self._output)
        if self.sound is not None:
            return _Encoded(self.sound, self._output)
        return _Beside()


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """How the picture is encoded."""

    size: tuple[int, int]
    rate: Fraction
    time_base: Fraction
    sample_aspect: Fraction
    colour: ColourTags
    quality: int

    @property
    def pixel_format(self) -> str:
        """4:2:0 plays everywhere, but halves both sides: it cannot store an odd one."""
        return "yuv444p" if any(side % 2 for side in self.size) else "yuv420p"


class _PictureEncoder:
    """Turns frames into packets. It holds one frame back: only the next tells how long it stays."""

    def __init__(self, output: OutputContainer, picture: _Picture) -> None:
        self.last_time: Fraction | None = None
        self._time_base = picture.time_base
        self._typical_ticks = max(1, round(1 / (picture.rate * picture.time_base)))
        self._held: VideoFrame | None = None
        self._held_tick = 0
        self._first_lead: int | None = None
        self._stream = _add_picture(output, picture)
        self._from_rgb = FromRGB(
            picture.colour, size=picture.size, pixel_format=picture.pixel_format
        )
        self._size = picture.size

    def push(self, image: Image, time: Fraction) -> list[AnyPacket]:
        """Take a frame and return the packets that became ready."""
        height, width = image.shape[:2]
        if (width, height) != self._size:
            raise ValueError(f"a frame of {width}x{height} px, the video has {self._size}")
        frame = self._from_rgb(image)
        frame.time_base = self._time_base
        tick = round(time / self._time_base)
        frame.pts = tick
        packets = self._release(until=tick)
        self._held, self._held_tick, self.last_time = frame, tick, time
        return packets

    def finish(self, *, last_length: Fraction | None) -> list[AnyPacket]:
        """Return what is left; the last frame stays `last_length` s, or as the one before it."""
        ticks = round(last_length / self._time_base) if last_length else self._typical_ticks
        end = self._held_tick + ticks
        packets = self._release(until=end) + self._noted(list(self._stream.encode(None)))
        if len(packets) > 1:
            self._end_at(end, packets[-2], packets[-1])
        return packets

    def _release(self, *, until: int) -> list[AnyPacket]:
        """Encode the frame held back, shown until this tick."""
        held, self._held = self._held, None
        if held is None:
            return []
        length = until - self._held_tick
        if length <= 0:
            raise ValueError("frames must be written in the order of their times, a tick apart")
        held.duration = self._typical_ticks = length
        return self._noted(list(self._stream.encode(held)))

    def _noted(self, packets: list[AnyPacket]) -> list[AnyPacket]:
        """Remember the first packet's lead now: muxing will count the packet in other ticks."""
        if self._first_lead is None and packets:
            self._first_lead = _pts(packets[0]) - _dts(packets[0])
        return packets

    def _end_at(self, end: int, last_but_one: AnyPacket, last: AnyPacket) -> None:
        """Let the last packet end the stream at the tick `end`.

        The mp4 form adds up the steps between times of decoding, which run ahead of the times of
        showing by a lead that changes with the rate. Where the last packet has the lead of the
        first one, the sum is the length of what is shown.
        """
        lead = self._first_lead or 0
        last.dts = min(max(_pts(last) - lead, _dts(last_but_one) + 1), _pts(last))
        last.duration = max(1, end - lead - last.dts)


def _pts(packet: AnyPacket) -> int:
    """Return when an encoded packet is shown, in ticks: an encoder always says."""
    assert packet.pts is not None
    return packet.pts


def _dts(packet: AnyPacket) -> int:
    """Return when an encoded packet is decoded, in ticks."""
    assert packet.dts is not None
    return packet.dts


class _Beside:
    """What goes beside the picture: here nothing; subclasses yield packets in the order of time."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._packets = self._made()
        self._ready: tuple[Fraction, AnyPacket] | None = None

    def until(self, time: Fraction | None) -> Iterator[AnyPacket]:
        """Yield the packets due up to `time` s, or all that are left."""
        while (ready := self._ready or next(self._packets, None)) is not None:
            self._ready = ready
            if time is not None and ready[0] > time:
                return
            self._ready = None
            yield ready[1]

    def frame_length(self, time: Fraction) -> Fraction | None:  # noqa: ARG002
        """Return how long the picture shown at `time` stays, if it is known to be the last."""
        return None

    def _made(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield each packet with its time of decoding in seconds."""
        yield from ()


class _Copied(_Beside):
    """Sound, subtitles and attachments of a source, packet by packet as they are.

    A sound that the output's form cannot hold is encoded again as AAC, and a note says so.
    """

    def __init__(self, source: InputContainer, output: OutputContainer) -> None:
        super().__init__()
        self._source = source
        self._output = output
        self._picture = picture_stream(source, Path(source.name))
        self._last_frame: tuple[Fraction, Fraction] | None = None
        self._carriers: dict[int, _Carrier] = {}
        for stream in source.streams:
            if stream.type in ("audio", "subtitle", "attachment"):
                self._add(stream)
        output.metadata.update(_titles(source.metadata))
        output.set_chapters(source.chapters())

    def frame_length(self, time: Fraction) -> Fraction | None:
        """Return the length of the source's last frame if that is the one shown at `time`."""
        if self._last_frame is None or self._last_frame[0] != time:
            return None
        return self._last_frame[1] or None

    def _add(self, stream: Stream) -> None:
        """Give the output a stream like this one, or the nearest it can hold."""
        suffix = Path(self._output.name).suffix
        name = f"{stream.type} {stream.index} ({_codec_name(stream)})"
        if _holds(self._output.format.name, stream):
            self._carriers[stream.index] = _AsIs(stream, self._output)
        elif isinstance(stream, AudioStream):
            self._carriers[stream.index] = _AsAAC(stream, self._output)
            self.notes.append(f"{name} is encoded again as AAC: {suffix} cannot hold it")
        else:
            self.notes.append(f"{name} is left out: {suffix} cannot hold it")

    def _made(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        wanted = [self._source.streams[index] for index in self._carriers]
        try:
            for packet in self._source.demux([self._picture, *wanted]):
                yield from self._passed(packet)
        except FFmpegError:
            name = Path(self._source.name).name
            self.notes.append(f"{name} is damaged: its sound may end early")
        for carrier in self._carriers.values():
            yield from carrier.rest()

    def _passed(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of a packet; of the picture's only look at the time."""
        if not packet.size:  # the sign that a stream has ended
            return
        if packet.stream_index == self._picture.index:
            self._look_at(packet)
            return
        yield from self._carriers[packet.stream_index].carry(packet)

    def _look_at(self, packet: AnyPacket) -> None:
        """Remember how long the latest frame stays."""
        shown = (packet.pts or 0) * packet.time_base
        if self._last_frame is None or shown > self._last_frame[0]:
            self._last_frame = shown, (packet.duration or 0) * packet.time_base


class _Carrier(Protocol):
    """Brings one stream's packets into the output."""

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of a packet, each with its time of decoding in seconds."""

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what is left at the end."""


class _AsIs:
    """Carries packets unchanged."""

    def __init__(self, stream: Stream, output: OutputContainer) -> None:
        self._copy = output.add_stream_from_template(stream)
        _label(self._copy, stream)
        if isinstance(stream, AudioStream) and isinstance(self._copy, AudioStream):
            self._copy.codec_context.layout = _layout(stream)

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        stamp = packet.dts if packet.dts is not None else packet.pts
        time = (stamp or 0) * packet.time_base
        packet.stream = self._copy
        yield time, packet

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()


class _AsAAC:
    """Decodes a sound and encodes it again."""

    def __init__(self, stream: AudioStream, output: OutputContainer) -> None:
        self._original = stream
        channels = stream.codec_context.channels
        stream.codec_context.layout = _layout(stream)
        self._stream = _add_aac(output, _aac_rate_hz(stream.codec_context.sample_rate), channels)
        self._time = Fraction(0)
        _label(self._stream, stream)

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        stamp = packet.dts if packet.dts is not None else packet.pts
        self._time = (stamp or 0) * packet.time_base
        for frame in self._original.decode(packet):
            yield from self._encoded(frame)

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        for frame in self._original.decode(None):
            yield from self._encoded(frame)
        yield from self._encoded(None)

    def _encoded(self, frame: AudioFrame | None) -> Iterator[tuple[Fraction, AnyPacket]]:
        for packet in self._stream.encode(frame):
            yield self._time, packet


class _Encoded(_Beside):
    """A sound encoded as AAC, piece by piece."""

    def __init__(self, sound: Sound, output: OutputContainer) -> None:
        super().__init__()
        self._sound = sound
        channels = sound.samples.shape[1]
        self._layout = _LAYOUTS[channels]
        self._stream = _add_aac(output, sound.rate_hz, channels)

    def _made(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        step = self._sound.rate_hz // 10
        for start in range(0, len(self._sound.samples), step):
            time = Fraction(start, self._sound.rate_hz)
            for packet in self._stream.encode(self._piece(start, step)):
                yield time, packet
        for packet in self._stream.encode(None):
            yield Fraction(len(self._sound.samples), self._sound.rate_hz), packet

    def _piece(self, start: int, length: int) -> AudioFrame:
        """Return `length` samples from `start` on."""
        samples = np.clip(self._sound.samples[start : start + length], -1, 1)
        planes = np.ascontiguousarray(samples.T, dtype=np.float32)  # (channels, N)
        frame = AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
        frame.sample_rate = self._sound.rate_hz
        frame.time_base = Fraction(1, self._sound.rate_hz)
        frame.pts = start
        return frame


_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The usual meaning of a number of channels."""

_AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)


def _aac_rate_hz(rate_hz: int) -> int:
    """Return the sampling rate to encode with: the same if AAC knows it."""
    return rate_hz if rate_hz in _AAC_RATES_HZ else _AAC_RATES_HZ[-1]


def _add_aac(output: OutputContainer, rate_hz: int, channels: int) -> AudioStream:
    """Add a sound to be encoded at a rate that is not heard to be compressed."""
    stream: AudioStream = output.add_stream("aac", rate=rate_hz)
    stream.codec_context.layout = _LAYOUTS.get(channels, "stereo")
    stream.codec_context.bit_rate = 96_000 * channels
    return stream


def _layout(stream: AudioStream) -> str:
    """Return how a sound's channels are laid out; old files give their number and no more."""
    given = stream.codec_context.layout.name
    bare = re.fullmatch(r"\d+ channels?", given)
    return _LAYOUTS.get(stream.codec_context.channels, "stereo") if bare else given


def _label(copy: Stream, original: Stream) -> None:
    """Give a stream its language, title and place among the others."""
    copy.metadata.update(original.metadata)
    copy.disposition = original.disposition


def _codec_name(stream: Stream) -> str:
    """Return what a stream is encoded with, as far as it is known."""
    return stream.codec_context.name if stream.codec_context else "unknown"


def _holds(container_format: str, stream: Stream) -> bool:
    """Return whether a form of file can hold a stream as it is; FFmpeg only tells when it tries."""
    try:
        with av.open(BytesIO(), "w", format=container_format) as attempt:
            attempt.add_stream_from_template(stream)
            attempt.start_encoding()
    except (ValueError, FFmpegError):
        return False
    return True


@dataclass(frozen=True, kw_only=True)
class _Container:
    """A form of file that can be written."""

    name: str
    """FFmpeg's name of it."""
    options: Callable[[int], dict[str, str]]
    """Its options, given a number of ticks a second in which every stream's start is whole."""


def _quicktime_options(ticks_a_second: int) -> dict[str, str]:
    """Put the index first, and keep the starts of the streams exact (the default is 1 ms)."""
    return {"movflags": "+faststart", "movie_timescale": str(ticks_a_second)}


def _matroska_options(_: int) -> dict[str, str]:
    """Keep the times as they are even where the sound begins before 0."""
    return {"avoid_negative_ts": "disabled"}


_CONTAINERS = {
    ".mp4": _Container(name="mp4", options=_quicktime_options),
    ".m4v": _Container(name="mp4", options=_quicktime_options),
    ".mov": _Container(name="mov", options=_quicktime_options),
    ".mkv": _Container(name="matroska", options=_matroska_options),
}


def _container_for(path: Path) -> _Container:
    """Return the form of file that a suffix asks for.

    Raises:
        InputError: None that this program writes.
    """
    try:
        return _CONTAINERS[path.suffix.lower()]
    except KeyError:
        raise InputError(
            f"cannot write a video named {path.name}",
            hint=f"give it one of these endings: {', '.join(_CONTAINERS)}",
        ) from None


def _ticks_a_second(picture: _Picture, source: InputContainer | None, sound: Sound | None) -> int:
    """Return a time scale in which every stream starts on a whole tick, within reason."""
    scales = [picture.time_base.denominator, sound.rate_hz if sound else 1]
    if source is not None:
        scales += [s.time_base.denominator for s in source.streams.audio if s.time_base]
    common = lcm(*scales)
    return common if common <= MOST_TICKS_A_SECOND else picture.time_base.denominator


MOST_TICKS_A_SECOND = 10_000_000
"""Above this a film's length in ticks would leave what old players read."""


def _add_picture(output: OutputContainer, picture: _Picture) -> VideoStream:
    """Add the picture's stream, tagged as the source was."""
    width, height = picture.size
    stream = output.add_stream(
        "libx264",
        rate=picture.rate.limit_denominator(1_000_000),
        options={"crf": str(picture.quality), "preset": "veryfast"},
        width=width,
        height=height,
        time_base=picture.time_base,
    )
    context = stream.codec_context
    context.pix_fmt = picture.pixel_format
    context.sample_aspect_ratio = picture.sample_aspect
    context.flags |= Flags.frame_duration
    tags = picture.colour
    context.color_primaries = tags.primaries or UNSPECIFIED
    context.color_trc = tags.transfer or UNSPECIFIED
    context.colorspace = _written_matrix(picture)
    context.color_range = tags.range or 0
    return stream


def _written_matrix(picture: _Picture) -> int:
    """Return the matrix tag: the source's, unless it is one that nobody here converts to."""
    tag = picture.colour.matrix
    if tag is None or tag in set(Matrix):
        return tag or UNSPECIFIED
    return picture.colour.completed(picture.size).matrix or UNSPECIFIED


@contextmanager
def _created(
    temporary: Path, container_format: str, options: Mapping[str, str]
) -> Iterator[OutputContainer]:
    """Yield an open output, completed on success and abandoned on any exception."""
    output = av.open(
        str(temporary.absolute()), "w", format=container_format, container_options=dict(options)
    )
    try:
        yield output
    except BaseException:
        temporary.unlink(missing_ok=True)  # closing would first reorder gigabytes to no purpose
        with suppress(FFmpegError, OSError):
            output.close()
        raise
    output.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn FFmpeg's refusals to write into one line; the system's own are `files`' to explain."""
    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}",
            hint="try another ending, such as .mkv, or a smaller frame size",
        ) from error


_OF_THE_CONTAINER = {"major_brand", "minor_version", "compatible_brands", "encoder"}


def _titles(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a file's metadata but for what describes the file itself."""
    return {key: text for key, text in metadata.items() if key.lower() not in _OF_THE_CONTAINER}
