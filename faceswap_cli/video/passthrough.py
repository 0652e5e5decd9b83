"""What goes beside the picture: sound, subtitles, chapters, titles; copied, or the nearest thing.

Packets are carried over as they are. What the output's form cannot hold is encoded again (sound),
turned into another kind (subtitles of text), or left out; a note says so. Of a part of a source
only what is heard and read during it is kept.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
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


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """Sound made by the program itself, to be encoded beside a drawn clip."""

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
"""Packets of sound kept before a part's start: decoders need what went before. Players are told
not to play them."""
READ_PAST_END_S = 30
"""Seconds behind the end of a part for which packets are still looked for: files are not always
well mixed."""


class AuxiliaryStreams:
    """What goes beside the picture: here nothing; subclasses yield packets in the order of time."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield each packet with its time of decoding in the output, in seconds."""
        yield from ()


class CopiedStreams(AuxiliaryStreams):
    """Sound, subtitles, cover pictures and attachments of a source.

    Args:
        source: Where they come from.
        output: Where they go; its streams and titles are added at once.
        container_format: The output's form.
        video_index: Number of the source's stream that the output has anew.
        time_range: The part that is kept; None keeps everything, at its own times.
    """

    def __init__(
        self,
        source: InputContainer,
        output: OutputContainer,
        *,
        container_format: ContainerFormat,
        video_index: int,
        time_range: TimestampRange | None = None,
    ) -> None:
        super().__init__()
        self._source = source
        self._output = output
        self._container_format = container_format
        self._time_range = time_range
        self._converters: dict[int, _StreamConverter] = {}
        others = 0
        for stream in source.streams:
            if stream.type in ("audio", "subtitle", "attachment") or _is_cover_image(stream):
                self._add_stream(stream)
            elif stream.index != video_index and stream.discard != Discard.all:
                others += 1  # what is to be discarded is a list of chapters in another form
        if others:
            self.notes.append(f"{others} track{'s' * (others > 1)} of data or video left out")
        output.metadata.update(filter_file_metadata(source.metadata))
        output.set_chapters(list(_trim_chapters(source.chapters(), time_range)))

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of the source's packets."""
        wanted = [self._source.streams[index] for index in self._converters]
        try:
            for packet in self._source.demux(wanted) if wanted else ():
                if not packet.size:  # the sign that a stream has ended
                    continue
                if self._is_past_end(packet):
                    break
                yield from self._converters[packet.stream_index].process(packet)
        except FFmpegError:
            name = Path(self._source.name).name
            self.notes.append(f"{name} is damaged: its sound may end early")
        for carrier in self._converters.values():
            yield from carrier.flush()

    def _is_past_end(self, packet: AnyPacket) -> bool:
        """Return whether nothing behind this packet can belong to the part that is kept."""
        return (
            self._time_range is not None
            and _packet_time(packet) > self._time_range.end + READ_PAST_END_S
        )

    def _add_stream(self, stream: Stream) -> None:
        """Give the output a stream like this one, or the nearest it can hold."""
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
            sound = {"aac": "AAC", "libopus": "Opus"}[self._container_format.audio_codec]
            self.notes.append(f"{name} is encoded again as {sound}: {suffix} cannot hold it")
        elif _is_text_subtitle(stream):
            self._converters[stream.index] = _SubtitleConvert(
                stream,
                self._output,
                codec=self._container_format.subtitle_codec,
                time_range=self._time_range,
            )
            self.notes.append(
                f"{name} is turned into {self._container_format.subtitle_codec}: {suffix} cannot hold it"
            )
        else:
            self.notes.append(f"{name} is left out: {suffix} cannot hold it")


class _StreamConverter(Protocol):
    """Brings one stream's packets into the output."""

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of a packet, each with its time of decoding in seconds."""

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what is left at the end."""


class _StreamCopy:
    """Carries packets unchanged; of a part of the source those that are heard or read in it."""

    def __init__(
        self, stream: Stream, output: OutputContainer, *, time_range: TimestampRange | None
    ) -> None:
        # What the template does to the stream's context is of no use for a cover picture.
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
    """Decodes a sound and encodes it again."""

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
        """Yield the packets that a frame completes, or nothing if it is not in the part kept."""
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
    """Turns subtitles made of text into another kind of them."""

    def __init__(
        self,
        stream: Stream,
        output: OutputContainer,
        *,
        codec: str,
        time_range: TimestampRange | None,
    ) -> None:
        reading = stream.codec_context
        assert isinstance(reading, SubtitleCodecContext)
        reading.open(strict=False)
        self._decoder = reading
        self._copy = output.add_stream(codec)
        self._time_range = time_range
        writing = self._copy.codec_context
        assert isinstance(writing, SubtitleCodecContext)
        self._encoder = writing
        writing.subtitle_header = reading.subtitle_header
        writing.time_base = Fraction(1, 1000)
        self._copy.time_base = Fraction(1, 1000)
        _copy_metadata(self._copy, stream)

    def process(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        start, length = _packet_time(packet), _packet_duration(packet)
        if self._time_range and (
            start >= self._time_range.end or start + length <= self._time_range.start
        ):
            return
        told = self._decoder.decode2(packet)
        if told is None:
            return
        again = self._encoder.encode_subtitle(told)
        again.time_base, again.duration = packet.time_base, packet.duration
        again.pts = again.dts = packet.pts
        if self._time_range is not None:
            again = shift_packet(again, self._time_range, trim_start=True)
        again.stream = self._copy
        yield _packet_time(again), again

    def flush(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()


class EncodedAudio(AuxiliaryStreams):
    """A sound of our own, encoded piece by piece."""

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
        """Yield the packets of a tenth of a second after the other."""
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
    """Return a packet at its time in the output, ending where the part that is kept ends.

    Args:
        packet: With the source's times; it is changed.
        time_range: The part that is kept.
        trim_start: Whether what began earlier begins with the part, as a subtitle does; sound that
            began earlier keeps its negative time, and players pass over what lies before 0.
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
    """Return how long what a packet holds lasts, in seconds."""
    return (packet.duration or 0) * packet.time_base


_CHANNEL_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The usual meaning of a number of channels."""

_SAMPLE_RATES_HZ = {
    "aac": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "libopus": (8_000, 12_000, 16_000, 24_000, 48_000),
}


def select_sample_rate(codec: str, rate_hz: int) -> int:
    """Return the sampling rate to encode with: the same if the codec knows it."""
    return rate_hz if rate_hz in _SAMPLE_RATES_HZ[codec] else 48_000


def add_audio_stream(
    output: OutputContainer, *, codec: str, rate_hz: int, channels: int
) -> AudioStream:
    """Add a sound to be encoded at a rate that is not heard to be compressed."""
    stream = output.add_stream(codec, rate=rate_hz)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = _CHANNEL_LAYOUTS.get(channels, "stereo")
    stream.codec_context.bit_rate = 96_000 * channels
    return stream


def _channel_layout(stream: AudioStream) -> str:
    """Return how a sound's channels are laid out; old files give their number and no more."""
    given = stream.codec_context.layout.name
    bare = re.fullmatch(r"\d+ channels?", given)
    return _CHANNEL_LAYOUTS.get(stream.codec_context.channels, "stereo") if bare else given


def _copy_metadata(copy: Stream, original: Stream) -> None:
    """Give a stream its language, title and place among the others."""
    copy.metadata.update(filter_stream_metadata(original.metadata))
    copy.disposition = original.disposition


def _codec_name(stream: Stream) -> str:
    """Return what a stream is encoded with, as far as it is known."""
    return stream.codec_context.name if stream.codec_context else "unknown"


_TEXT_SUBTITLE_CODECS = ("srt", "subrip", "ass", "ssa", "webvtt", "mov_text", "text")


def _is_text_subtitle(stream: Stream) -> bool:
    """Return whether a stream holds subtitles made of letters, not of pictures."""
    return stream.type == "subtitle" and _codec_name(stream) in _TEXT_SUBTITLE_CODECS


def _is_cover_image(stream: Stream) -> bool:
    """Return whether a stream is a cover picture."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _trim_chapters(
    chapters: Iterable[Mapping[str, Any]], time_range: TimestampRange | None
) -> Iterator[Any]:
    """Yield the chapters that are seen in a part, at their times in the output."""
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
    """Return a file's metadata but for what describes the file itself."""
    return {key: text for key, text in metadata.items() if key.lower() not in _CONTAINER_METADATA}


def filter_stream_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a stream's metadata but for what describes how it is stored."""
    left_out = ("_statistics", "vendor_id")
    return {
        key: text
        for key, text in metadata.items()
        if key.lower().partition("-")[0] not in _STREAM_METADATA
        and not key.lower().startswith(left_out)
    }
