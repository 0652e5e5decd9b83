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

from faceswap_cli.video.containers import Form, holds
from faceswap_cli.video.encoder import AnyPacket


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Sound made by the program itself, to be encoded beside a drawn clip."""

    samples: npt.NDArray[np.float32]
    """float32 (N, channels) in [-1, 1]; one channel or two."""
    rate_hz: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """The part of a source that is kept, in its own seconds; the output's time 0 is its start."""

    start: Fraction
    end: Fraction


PRE_ROLL = 1
"""Packets of sound kept before a part's start: decoders need what went before. Players are told
not to play them."""
READ_ON = 30
"""Seconds behind the end of a part for which packets are still looked for: files are not always
well mixed."""


class Beside:
    """What goes beside the picture: here nothing; subclasses yield packets in the order of time."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield each packet with its time of decoding in the output, in seconds."""
        yield from ()


class Copied(Beside):
    """Sound, subtitles, cover pictures and attachments of a source.

    Args:
        source: Where they come from.
        output: Where they go; its streams and titles are added at once.
        form: The output's form.
        picture: Number of the source's stream that the output has anew.
        span: The part that is kept; None keeps everything, at its own times.
    """

    def __init__(
        self,
        source: InputContainer,
        output: OutputContainer,
        *,
        form: Form,
        picture: int,
        span: Span | None = None,
    ) -> None:
        super().__init__()
        self._source = source
        self._output = output
        self._form = form
        self._span = span
        self._carriers: dict[int, _Carrier] = {}
        others = 0
        for stream in source.streams:
            if stream.type in ("audio", "subtitle", "attachment") or _is_cover(stream):
                self._add(stream)
            elif stream.index != picture and stream.discard != Discard.all:
                others += 1  # what is to be discarded is a list of chapters in another form
        if others:
            self.notes.append(f"{others} track{'s' * (others > 1)} of data or video left out")
        output.metadata.update(titles_of(source.metadata))
        output.set_chapters(list(_chapters(source.chapters(), span)))

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of the source's packets."""
        wanted = [self._source.streams[index] for index in self._carriers]
        try:
            for packet in self._source.demux(wanted) if wanted else ():
                if not packet.size:  # the sign that a stream has ended
                    continue
                if self._is_past(packet):
                    break
                yield from self._carriers[packet.stream_index].carry(packet)
        except FFmpegError:
            name = Path(self._source.name).name
            self.notes.append(f"{name} is damaged: its sound may end early")
        for carrier in self._carriers.values():
            yield from carrier.rest()

    def _is_past(self, packet: AnyPacket) -> bool:
        """Return whether nothing behind this packet can belong to the part that is kept."""
        return self._span is not None and _stamp(packet) > self._span.end + READ_ON

    def _add(self, stream: Stream) -> None:
        """Give the output a stream like this one, or the nearest it can hold."""
        suffix = Path(self._output.name).suffix
        name = f"{stream.type} {stream.index} ({_codec_name(stream)})"
        if holds(self._form, stream):
            self._carriers[stream.index] = _AsIs(stream, self._output, span=self._span)
        elif isinstance(stream, AudioStream):
            self._carriers[stream.index] = _Encoding(
                stream, self._output, codec=self._form.sound, span=self._span
            )
            sound = {"aac": "AAC", "libopus": "Opus"}[self._form.sound]
            self.notes.append(f"{name} is encoded again as {sound}: {suffix} cannot hold it")
        elif _is_text(stream):
            self._carriers[stream.index] = _Rewording(
                stream, self._output, codec=self._form.text, span=self._span
            )
            self.notes.append(f"{name} is turned into {self._form.text}: {suffix} cannot hold it")
        else:
            self.notes.append(f"{name} is left out: {suffix} cannot hold it")


class _Carrier(Protocol):
    """Brings one stream's packets into the output."""

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what becomes of a packet, each with its time of decoding in seconds."""

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield what is left at the end."""


class _AsIs:
    """Carries packets unchanged; of a part of the source those that are heard or read in it."""

    def __init__(self, stream: Stream, output: OutputContainer, *, span: Span | None) -> None:
        # What the template does to the stream's context is of no use for a cover picture.
        self._copy = output.add_stream_from_template(stream, opaque=True)
        self._span = span
        self._before: list[AnyPacket] = []
        self._is_sound = stream.type == "audio"
        self._is_text = stream.type == "subtitle"
        _label(self._copy, stream)
        if isinstance(stream, AudioStream) and isinstance(self._copy, AudioStream):
            self._copy.codec_context.layout = _layout(stream)

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        if self._span is None or not (self._is_sound or self._is_text):
            yield self._passed(packet)
            return
        start, length = _stamp(packet), _length(packet)
        if start >= self._span.end:
            return
        if start + length <= self._span.start and not (length == 0 and start == self._span.start):
            self._before = [*self._before, packet][-PRE_ROLL:] if self._is_sound else []
            return
        for earlier in self._before:
            yield self._passed(moved(earlier, self._span, cut_start=False))
        self._before = []
        yield self._passed(moved(packet, self._span, cut_start=self._is_text))

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()

    def _passed(self, packet: AnyPacket) -> tuple[Fraction, AnyPacket]:
        """Return a packet as one of the output's."""
        time = _stamp(packet)
        packet.stream = self._copy
        return time, packet


class _Encoding:
    """Decodes a sound and encodes it again."""

    def __init__(
        self, stream: AudioStream, output: OutputContainer, *, codec: str, span: Span | None
    ) -> None:
        self._original = stream
        self._span = span
        channels = stream.codec_context.channels
        stream.codec_context.layout = _layout(stream)
        rate_hz = encoded_rate_hz(codec, stream.codec_context.sample_rate)
        self._stream = add_sound(output, codec=codec, rate_hz=rate_hz, channels=channels)
        self._time = Fraction(0)
        _label(self._stream, stream)

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        self._time = _stamp(packet) - (self._span.start if self._span else 0)
        for frame in self._original.decode(packet):
            yield from self._encoded(frame)

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        for frame in self._original.decode(None):
            yield from self._encoded(frame)
        yield from self._packets(None)

    def _encoded(self, frame: AudioFrame) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the packets that a frame completes, or nothing if it is not in the part kept."""
        if self._span is not None:
            assert frame.time_base is not None
            start = (frame.pts or 0) * frame.time_base
            end = start + Fraction(frame.samples, frame.sample_rate)
            if end <= self._span.start or start >= self._span.end:
                return
            frame.pts = round((start - self._span.start) / frame.time_base)
        yield from self._packets(frame)

    def _packets(self, frame: AudioFrame | None) -> Iterator[tuple[Fraction, AnyPacket]]:
        for packet in self._stream.encode(frame):
            yield self._time, packet


class _Rewording:
    """Turns subtitles made of text into another kind of them."""

    def __init__(
        self, stream: Stream, output: OutputContainer, *, codec: str, span: Span | None
    ) -> None:
        reading = stream.codec_context
        assert isinstance(reading, SubtitleCodecContext)
        reading.open(strict=False)
        self._reading = reading
        self._copy = output.add_stream(codec)
        self._span = span
        writing = self._copy.codec_context
        assert isinstance(writing, SubtitleCodecContext)
        self._writing = writing
        writing.subtitle_header = reading.subtitle_header
        writing.time_base = Fraction(1, 1000)
        self._copy.time_base = Fraction(1, 1000)
        _label(self._copy, stream)

    def carry(self, packet: AnyPacket) -> Iterator[tuple[Fraction, AnyPacket]]:
        start, length = _stamp(packet), _length(packet)
        if self._span and (start >= self._span.end or start + length <= self._span.start):
            return
        told = self._reading.decode2(packet)
        if told is None:
            return
        again = self._writing.encode_subtitle(told)
        again.time_base, again.duration = packet.time_base, packet.duration
        again.pts = again.dts = packet.pts
        if self._span is not None:
            again = moved(again, self._span, cut_start=True)
        again.stream = self._copy
        yield _stamp(again), again

    def rest(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        yield from ()


class Encoded(Beside):
    """A sound of our own, encoded piece by piece."""

    def __init__(self, sound: Sound, output: OutputContainer, *, form: Form) -> None:
        super().__init__()
        self._sound = sound
        channels = sound.samples.shape[1]
        self._layout = _LAYOUTS[channels]
        rate_hz = encoded_rate_hz(form.sound, sound.rate_hz)
        self._stream = add_sound(output, codec=form.sound, rate_hz=rate_hz, channels=channels)

    def packets(self) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the packets of a tenth of a second after the other."""
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


def moved(packet: AnyPacket, span: Span, *, cut_start: bool) -> AnyPacket:
    """Return a packet at its time in the output, ending where the part that is kept ends.

    Args:
        packet: With the source's times; it is changed.
        span: The part that is kept.
        cut_start: Whether what began earlier begins with the part, as a subtitle does; sound that
            began earlier keeps its negative time, and players pass over what lies before 0.
    """
    base = packet.time_base
    offset, end = round(span.start / base), round((span.end - span.start) / base)
    stamp = packet.pts if packet.pts is not None else packet.dts or 0
    start = stamp - offset
    length = packet.duration or 0
    if cut_start and start < 0:
        start, length = 0, length + start
    packet.pts = packet.dts = start
    packet.duration = max(1, min(length, end - start)) if length else 0
    return packet


def _stamp(packet: AnyPacket) -> Fraction:
    """Return when a packet is decoded, in seconds."""
    stamp = packet.dts if packet.dts is not None else packet.pts
    return (stamp or 0) * packet.time_base


def _length(packet: AnyPacket) -> Fraction:
    """Return how long what a packet holds lasts, in seconds."""
    return (packet.duration or 0) * packet.time_base


_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""The usual meaning of a number of channels."""

_RATES_HZ = {
    "aac": (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000),
    "libopus": (8_000, 12_000, 16_000, 24_000, 48_000),
}


def encoded_rate_hz(codec: str, rate_hz: int) -> int:
    """Return the sampling rate to encode with: the same if the codec knows it."""
    return rate_hz if rate_hz in _RATES_HZ[codec] else 48_000


def add_sound(output: OutputContainer, *, codec: str, rate_hz: int, channels: int) -> AudioStream:
    """Add a sound to be encoded at a rate that is not heard to be compressed."""
    stream = output.add_stream(codec, rate=rate_hz)
    assert isinstance(stream, AudioStream)
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
    copy.metadata.update(labels_of(original.metadata))
    copy.disposition = original.disposition


def _codec_name(stream: Stream) -> str:
    """Return what a stream is encoded with, as far as it is known."""
    return stream.codec_context.name if stream.codec_context else "unknown"


_TEXTS = ("srt", "subrip", "ass", "ssa", "webvtt", "mov_text", "text")


def _is_text(stream: Stream) -> bool:
    """Return whether a stream holds subtitles made of letters, not of pictures."""
    return stream.type == "subtitle" and _codec_name(stream) in _TEXTS


def _is_cover(stream: Stream) -> bool:
    """Return whether a stream is a cover picture."""
    return stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)


def _chapters(chapters: Iterable[Mapping[str, Any]], span: Span | None) -> Iterator[Any]:
    """Yield the chapters that are seen in a part, at their times in the output."""
    for chapter in chapters:
        if span is None:
            yield chapter
            continue
        base = chapter["time_base"]
        start = max(chapter["start"] * base, span.start) - span.start
        end = min(chapter["end"] * base, span.end) - span.start
        if start < end:
            yield {**chapter, "start": round(start / base), "end": round(end / base)}


_OF_THE_CONTAINER = {"major_brand", "minor_version", "compatible_brands", "encoder"}
_OF_THE_STREAM = {"duration", "rotate", "encoder", "number_of_frames", "number_of_bytes", "bps"}


def titles_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a file's metadata but for what describes the file itself."""
    return {key: text for key, text in metadata.items() if key.lower() not in _OF_THE_CONTAINER}


def labels_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return a stream's metadata but for what describes how it is stored."""
    left_out = ("_statistics", "vendor_id")
    return {
        key: text
        for key, text in metadata.items()
        if key.lower().partition("-")[0] not in _OF_THE_STREAM
        and not key.lower().startswith(left_out)
    }
