"""Audio, subtitles, chapters and metadata of a source, copied or converted (`CopiedStreams`).

Packets are copied as they are. What the output's container cannot hold is encoded again (audio),
converted (text subtitles), or left out; a note says so. Of a part of a source only what belongs to
it is copied.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.subtitles.codeccontext import SubtitleCodecContext

from faceswap_cli.video.containers import ContainerFormat, can_hold
from faceswap_cli.video.encoder import AnyPacket
from faceswap_cli.video.probe import (
    MAX_CLOCK_GAP_S,
    ClockJump,
    is_animation_still,
    shift_stamps,
)


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """Audio samples to encode, for example for a synthetic clip."""

    samples: npt.NDArray[np.float32]
    """float32 (N, channels) in [-1, 1]; one channel or two."""
    rate_hz: int


@dataclass(frozen=True, kw_only=True)
class TimestampRange:
    """The part of a source that is copied, between two of the file's own time stamps."""

    start: Fraction
    """Seconds; time 0 of the output."""
    end: Fraction
    """Seconds, excluded."""


PREROLL_PACKETS = 1
"""Audio packets copied from before a part's start: decoders need them. Players skip them."""
READ_PAST_END_S = 30
"""Packets are searched up to this long after the end of a part, seconds: files are not always well
interleaved."""


class AuxiliaryStreams:
    """The streams besides the video: here none; subclasses yield packets in the order of time."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield each packet with its time of decoding in the output, in seconds."""
        yield from ()


class CopiedStreams(AuxiliaryStreams):
    """Audio, subtitles, cover images and attachments of a source.

    Args:
        source: The open source.
        output: The output; its streams, metadata and chapters are added at once.
        container_format: The output's container.
        video_index: Index of the source's video stream, which is not copied.
        time_range: The part that is copied; None copies everything, at its own times.
        jumps: Where the clock of the source jumps.
    """

    def __init__(
        self,
        source: InputContainer,
        output: OutputContainer,
        *,
        container_format: ContainerFormat,
        video_index: int,
        time_range: TimestampRange | None = None,
        jumps: Sequence[ClockJump] = (),
    ) -> None:
        super().__init__()
        self._source = source
        self._output = output
        self._container_format = container_format
        self._time_range = time_range
        self._clock = _SharedClock(jumps) if jumps else None
        self._converters: dict[int, _StreamConverter] = {}
        others = 0
        for stream in source.streams:
            if stream.type in ("audio", "subtitle", "attachment") or _is_cover_image(stream):
                self._add_stream(stream)
            elif stream.index != video_index and stream.discard != Discard.all:
                # A stream marked for discarding is a copy of the chapters.
                others += not is_animation_still(stream)
        if others:
            self.notes.append(f"{others} track{'s' * (others > 1)} of data or video left out")
        output.metadata.update(filter_file_metadata(source.metadata))
        output.set_chapters(list(_trim_chapters(source.chapters(), time_range)))

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the source's packets, copied or converted."""
        streams = [self._source.streams[index] for index in self._converters]
        try:
            for packet in self._source.demux(streams) if streams else ():
                if not packet.size:  # marks the end of a stream
                    continue
                if self._clock and not self._clock.correct(packet):
                    continue
                if self._is_past_end(packet):
                    break
                yield from self._converters[packet.stream_index].process(packet)
        except FFmpegError:
            name = Path(self._source.name).name
            self.notes.append(f"{name} is damaged: its audio may end early")
        for converter in self._converters.values():
            yield from converter.flush()

    def _is_past_end(self, packet: AnyPacket) -> bool:
        """Return whether no packet after this one can belong to the part that is copied."""
        return (
            self._time_range is not None
            and _packet_time(packet) > self._time_range.end + READ_PAST_END_S
        )

    def _add_stream(self, stream: Stream) -> None:
        """Add this stream to the output, or the nearest one that it can hold."""
        suffix = Path(self._output.name).suffix
        name = f"{stream.type} {stream.index} ({_codec_name(stream)})"
        if can_hold(self._container_format, stream):
            self._converters[stream.index] = _StreamCopy(
                stream, self._output, time_range=self._time_range
            )
        elif isinstance(stream, AudioStream):
            self._converters[stream.index] = _AudioTranscode(
                stream,
                self._output,
                codec=self._container_format.audio_codec,
                time_range=self._time_range,
            )
            codec = {"aac": "AAC", "libopus": "Opus"}[self._container_format.audio_codec]
            self.notes.append(f"{name} is encoded again as {codec}: {suffix} cannot hold it")
        elif _is_text_subtitle(stream):
            self._converters[stream.index] = _SubtitleConvert(
                stream,
                self._output,
                codec=self._container_format.subtitle_codec,
                time_range=self._time_range,
            )
            codec = self._container_format.subtitle_codec
            self.notes.append(f"{name} is converted to {codec}: {suffix} cannot hold it")
        else:
            self.notes.append(f"{name} is left out: {suffix} cannot hold it")


class _SharedClock:
    """Keeps the other streams with the video where the clock of a source jumps.

    Args:
        jumps: Those of the video.
    """

    def __init__(self, jumps: Sequence[ClockJump]) -> None:
        self._positions = [jump.position for jump in jumps]
        self._offsets = [Fraction(0), *(jump.offset for jump in jumps)]
        self._ends: dict[int, Fraction] = {}
        """When the audio of each stream ends so far, s."""

    def correct(self, packet: AnyPacket) -> bool:
        """Change a packet's stamps; return whether it is kept.

        Of two recordings that overlap for a moment, since the audio of the first one ends after its
        video, the second one's audio begins where the first one's ends.
        """
        number = bisect_right(self._positions, packet.pos or 0)
        if packet.stream.type != "audio":
            shift_stamps(packet, self._offsets[number])
            return True
        end = self._ends.get(packet.stream_index)
        time, duration = _packet_time(packet), _packet_duration(packet)
        if end is not None:
            number = self._select(number, time, end)
        shift_stamps(packet, self._offsets[number])
        time += self._offsets[number]
        if end is not None and time < end - duration / 2:
            return False
        self._ends[packet.stream_index] = time + duration
        return True

    def _select(self, number: int, time: Fraction, end: Fraction) -> int:
        """Return the clock of an audio packet near a jump, where it may precede the video's.

        Args:
            number: Jumps of the video before the packet's position.
            time: The packet's own, s.
            end: When the audio before it ends, s.
        """
        near = [one for one in (number, number + 1, number - 1) if 0 <= one < len(self._offsets)]
        fitting = (one for one in near if -1 <= time + self._offsets[one] - end <= MAX_CLOCK_GAP_S)
        return next(fitting, number)


class _StreamConverter(Protocol):
    """Turns the packets of one stream of the source into packets of the output."""

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the packets that one becomes, each with its time of decoding in seconds."""

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the remaining packets after the last one."""


class _StreamCopy:
    """Copies packets; of a part of the source those that are played or shown in it."""

    def __init__(
        self, stream: Stream, output: OutputContainer, *, time_range: TimestampRange | None
    ) -> None:
        # What the template does to the stream's context is of no use for a cover image.
        self._copy = output.add_stream_from_template(stream, opaque=True)
        self._time_range = time_range
        self._preroll: list[AnyPacket] = []
        self._is_audio = stream.type == "audio"
        self._is_text = stream.type == "subtitle"
        _copy_metadata(self._copy, stream)
        if isinstance(stream, AudioStream) and isinstance(self._copy, AudioStream):
            self._copy.codec_context.layout = _channel_layout(stream)

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        if self._time_range is None or not (self._is_audio or self._is_text):
            yield self._retarget(packet)
            return
        start, length = _packet_time(packet), _packet_duration(packet)
        if start >= self._time_range.end:
            return
        if start + length <= self._time_range.start and not (
            length == 0 and start == self._time_range.start
        ):
            self._preroll = [*self._preroll, packet][-PREROLL_PACKETS:] if self._is_audio else []
            return
        for earlier in self._preroll:
            yield self._retarget(shift_packet(earlier, self._time_range, trim_start=False))
        self._preroll = []
        yield self._retarget(shift_packet(packet, self._time_range, trim_start=self._is_text))

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()

    def _retarget(self, packet: AnyPacket) -> tuple[Fraction, AnyPacket]:
        """Return a packet as one of the output's."""
        time = _packet_time(packet)
        packet.stream = self._copy
        return time, packet


class _AudioTranscode:
    """Decodes an audio stream and encodes it again."""

    def __init__(
        self,
        stream: AudioStream,
        output: OutputContainer,
        *,
        codec: str,
        time_range: TimestampRange | None,
    ) -> None:
        self._source = stream
        self._time_range = time_range
        channels = stream.codec_context.channels
        stream.codec_context.layout = _channel_layout(stream)
        rate_hz = select_sample_rate(codec, stream.codec_context.sample_rate)
        self._stream = add_audio_stream(output, codec=codec, rate_hz=rate_hz, channels=channels)
        self._time = Fraction(0)
        _copy_metadata(self._stream, stream)

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        self._time = _packet_time(packet) - (self._time_range.start if self._time_range else 0)
        for frame in self._source.decode(packet):
            yield from self._trim_and_encode(frame)

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        for frame in self._source.decode(None):
            yield from self._trim_and_encode(frame)
        yield from self._encode(None)

    def _trim_and_encode(self, frame: AudioFrame) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the packets that a frame completes; nothing if it is not in the part copied."""
        if self._time_range is not None:
            assert frame.time_base is not None
            start = (frame.pts or 0) * frame.time_base
            end = start + Fraction(frame.samples, frame.sample_rate)
            if end <= self._time_range.start or start >= self._time_range.end:
                return
            frame.pts = round((start - self._time_range.start) / frame.time_base)
        yield from self._encode(frame)

    def _encode(self, frame: AudioFrame | None) -> Iterator[tuple[Fraction, AnyPacket]]:
        for packet in self._stream.encode(frame):
            yield self._time, packet


class _SubtitleConvert:
    """Converts text subtitles to another codec."""

    def __init__(
        self,
        stream: Stream,
        output: OutputContainer,
        *,
        codec: str,
        time_range: TimestampRange | None,
    ) -> None:
        decoder = stream.codec_context
        assert isinstance(decoder, SubtitleCodecContext)
        decoder.open(strict=False)
        self._decoder = decoder
        self._copy = output.add_stream(codec)
        self._time_range = time_range
        encoder = self._copy.codec_context
        assert isinstance(encoder, SubtitleCodecContext)
        self._encoder = encoder
        encoder.subtitle_header = decoder.subtitle_header
        encoder.time_base = Fraction(1, 1000)
        self._copy.time_base = Fraction(1, 1000)
        _copy_metadata(self._copy, stream)

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        start, length = _packet_time(packet), _packet_duration(packet)
        if self._time_range and (
            start >= self._time_range.end or start + length <= self._time_range.start
        ):
            return
        subtitle = self._decoder.decode2(packet)
        if subtitle is None:
            return
        converted = self._encoder.encode_subtitle(subtitle)
        converted.time_base, converted.duration = packet.time_base, packet.duration
        converted.pts = converted.dts = packet.pts
        if self._time_range is not None:
            converted = shift_packet(converted, self._time_range, trim_start=True)
        converted.stream = self._copy
        yield _packet_time(converted), converted

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()


class EncodedAudio(AuxiliaryStreams):
    """An `AudioTrack`, encoded a tenth of a second at a time."""

    def __init__(
        self, audio: AudioTrack, output: OutputContainer, *, container_format: ContainerFormat
    ) -> None:
        super().__init__()
        self._audio = audio
        channels = audio.samples.shape[1]
        self._layout = _CHANNEL_LAYOUTS[channels]
        rate_hz = select_sample_rate(container_format.audio_codec, audio.rate_hz)
        self._stream = add_audio_stream(
            output, codec=container_format.audio_codec, rate_hz=rate_hz, channels=channels
        )

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the encoded packets."""
        step = self._audio.rate_hz // 10
        for start in range(0, len(self._audio.samples), step):
            time = Fraction(start, self._audio.rate_hz)
            for packet in self._stream.encode(self._make_frame(start, step)):
                yield time, packet
        for packet in self._stream.encode(None):
            yield Fraction(len(self._audio.samples), self._audio.rate_hz), packet

    def _make_frame(self, start: int, length: int) -> AudioFrame:
        """Return `length` samples from `start` on."""
        samples = np.clip(self._audio.samples[start : start + length], -1, 1)
        planes = np.ascontiguousarray(samples.T, dtype=np.float32)  # (channels, N)
        frame = AudioFrame.from_ndarray(planes, format="fltp", layout=self._layout)
        frame.sample_rate = self._audio.rate_hz
        frame.time_base = Fraction(1, self._audio.rate_hz)
        frame.pts = start
        return frame


def shift_packet(packet: AnyPacket, time_range: TimestampRange, *, trim_start: bool) -> AnyPacket:
    """Return a packet at its time in the output, ending no later than the part that is copied.

    Args:
        packet: With the source's times; it is changed.
        time_range: The part that is copied.
        trim_start: Whether what starts earlier is trimmed to start with the part, as subtitles are;
            audio keeps its negative time, and players skip what lies before 0.
    """
    base = packet.time_base
    offset, end = round(time_range.start / base), round((time_range.end - time_range.start) / base)
    stamp = packet.pts if packet.pts is not None else packet.dts or 0
    start = stamp - offset
    length = packet.duration or 0
    if trim_start and start < 0:
        start, length = 0, length + start
    packet.pts = packet.dts = start
    packet.duration = max(1, min(length, end - start)) if length else 0
    return packet


def _packet_time(packet: AnyPacket) -> Fraction:
    """Return when a packet is decoded, in seconds."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


def _packet_duration(packet: AnyPacket) -> Fraction:
    """Return a packet's duration, in seconds."""
    return (packet.duration or 0) * packet.time_base


_CHANNEL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The usual meaning of a number of channels."""

_SAMPLE_RATES_HZ = {
    "aac": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "libopus": (8_000, 12_000, 16_000, 24_000, 48_000),
}


def select_sample_rate(codec: str, rate_hz: int) -> int:
    """Return the sample rate to encode with: the same if the codec supports it."""
    return rate_hz if rate_hz in _SAMPLE_RATES_HZ[codec] else 48_000


def add_audio_stream(
    output: OutputContainer, *, codec: str, rate_hz: int, channels: int
) -> AudioStream:
    """Add an audio stream to encode, at a bit rate that sounds uncompressed."""
    stream = output.add_stream(codec, rate=rate_hz)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = _CHANNEL_LAYOUTS.get(channels, "stereo")
    stream.codec_context.bit_rate = 96_000 * channels
    return stream


def _channel_layout(stream: AudioStream) -> str:
    """Return the name of an audio stream's layout; old files only give the number of channels."""
    name = stream.codec_context.layout.name
    if re.fullmatch(r"\d+ channels?", name):
        return _CHANNEL_LAYOUTS.get(stream.codec_context.channels, "stereo")
    return name


def _copy_metadata(copy: Stream, original: Stream) -> None:
    """Copy a stream's language, title and disposition."""
    copy.metadata.update(filter_stream_metadata(original.metadata))
    copy.disposition = original.disposition


def _codec_name(stream: Stream) -> str:
    """Return the name of a stream's codec, or "unknown"."""
    return stream.codec_context.name if stream.codec_context else "unknown"


_TEXT_SUBTITLE_CODECS = ("srt", "subrip", "ass", "ssa", "webvtt", "mov_text", "text")


def _is_text_subtitle(stream: Stream) -> bool:
    """Return whether a stream holds subtitles as text, not as images."""
    return stream.type == "subtitle" and _codec_name(stream) in _TEXT_SUBTITLE_CODECS


def _is_cover_image(stream: Stream) -> bool:
    """Return whether a stream is a cover image."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _trim_chapters(
    chapters: Iterable[Mapping[str, Any]], time_range: TimestampRange | None
) -> Iterator[Any]:
    """Yield the chapters that overlap a part, at their times in the output."""
    for chapter in chapters:
        if time_range is None:
            yield chapter
            continue
        base = chapter["time_base"]
        start = max(chapter["start"] * base, time_range.start) - time_range.start
        end = min(chapter["end"] * base, time_range.end) - time_range.start
        if start < end:
            yield {**chapter, "start": round(start / base), "end": round(end / base)}


_CONTAINER_METADATA = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_STREAM_METADATA = {"duration", "rotate", "encoder", "number_of_frames", "number_of_bytes", "bps"}


def filter_file_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a file's metadata without what describes its container."""
    return {key: text for key, text in metadata.items() if key.lower() not in _CONTAINER_METADATA}


def filter_stream_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a stream's metadata without what describes how it is stored."""
    left_out = ("_statistics", "vendor_id")
    return {
        key: text
        for key, text in metadata.items()
        if key.lower().partition("-")[0] not in _STREAM_METADATA
        and not key.lower().startswith(left_out)
    }
