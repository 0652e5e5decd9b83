"""Writing a video in segments, so that a stopped run can be resumed; concatenated at the end.

A segment is a file of whole packets, encoded by itself. A resumed run finds how many frames are
done, writes the others, and concatenates all with the audio, subtitles and chapters of the source.
Nothing is encoded twice and no time stamp is made up.

    spec = EncodeSpec.from_info(probe(source), codec="h264", quality=18)
    with SegmentedWriter(folder, spec, key=digest_of_settings) as writer:
        for frame in islice(read_frames(source), writer.frames_done, None):
            writer.write(image, frame.time, original=frame.original, changed=[area])
    notes = writer.finalize(output, source=source)

After a crash the same lines resume after the last whole segment. With --start and --end, count
`frames_done` from the first frame of the range, and `finalize(..., is_part=True)`.
"""

import shutil
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write, make_folder, translate_os_errors
from faceswap_cli.core.lazy_image import LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video.codecs import EncoderChoice, keep_scheduling
from faceswap_cli.video.containers import (
    ContainerFormat,
    common_timescale,
    format_for_path,
    resolve_codec,
)
from faceswap_cli.video.encoder import (
    AnyPacket,
    EncodeSpec,
    VideoEncoder,
    apply_color_tags,
    spec_digest,
)
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.passthrough import (
    AudioTrack,
    AuxiliaryStreams,
    CopiedStreams,
    EncodedAudio,
    TimestampRange,
    filter_stream_metadata,
)
from faceswap_cli.video.probe import (
    find_clock_jumps,
    find_video_stream,
    open_media,
    read_frame_duration,
)
from faceswap_cli.video.segment_file import (
    SEGMENT_SUFFIX,
    DamagedSegmentError,
    Segment,
    SegmentWriter,
)

SEGMENT_FRAMES = 240
"""Frames in a segment: what a crash costs at most. Each begins with a key frame, of which encoders
make one in 250 anyway."""


@dataclass(frozen=True)
class FrameRange:
    """Frames of a video by number, counted from 0."""

    first: int = 0
    end: int | None = None
    """The first frame after them; None: the rest of the video."""

    def __contains__(self, frame: int) -> bool:
        """Return whether a frame is one of them."""
        return self.first <= frame and (self.end is None or frame < self.end)

    def count(self, total: int) -> int:
        """Return how many they are of a video of `total` frames."""
        return max(0, (total if self.end is None else self.end) - self.first)


ALL_FRAMES = FrameRange()


class SegmentedWriter:
    """A video being written as segments in a folder.

    Args:
        folder: The folder of the segments; created if missing.
        spec: What is encoded, and how.
        key: Digest of all that decides what the frames show: settings, model, source. Segments of
            another key, or another encoder, are removed.
        segment_frames: Frames in a segment; None takes `SEGMENT_FRAMES`.
        frames: The frames to be written, from the first of a segment on: another writer, in any
            process, may write others to the same folder at the same time.
        error_path: The file that errors name; None takes the folder.
    """

    def __init__(
        self,
        folder: Path,
        spec: EncodeSpec,
        *,
        key: str,
        segment_frames: int | None = None,
        frames: FrameRange = ALL_FRAMES,
        error_path: Path | None = None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.choice: EncoderChoice = spec.resolve_encoder()
        """The encoder in use, and what it cannot preserve (`choice.notes`)."""
        self._segment_frames = segment_frames or SEGMENT_FRAMES
        self._frames = frames
        self._error_path = error_path or folder
        self._key = f"{key} {spec_digest(spec, self.choice)}"
        with translate_os_errors(folder):
            make_folder(folder)
        self.damaged: list[str] = []
        """Names of finished segments that have changed since they were written."""
        self._segments = self._load_segments()
        self._count = self.frames_done
        self._open: tuple[SegmentWriter, VideoEncoder] | None = None

    @property
    def frames_done(self) -> int:
        """End of the whole segments, from the first frame on without a gap."""
        return self._segments[-1].end_frame if self._segments else self._frames.first

    def __enter__(self) -> Self:
        """Start, or resume, writing frames from number `frames_done` on."""
        self._count = self.frames_done
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the last segment; after an exception drop it, and keep those before it."""
        if error is not None:
            if self._open is not None:
                self._open[0].abort()
            self._open = None
            return
        self.finish_segment()

    def write(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> None:
        """Add the next frame.

        Args:
            image: uint8 RGB (H, W, 3) of the video's size, or a lazy one.
            time: Time stamp in the source, seconds.
            original: The source's frame (`Frame.original`). If it is given, everything outside
                of `changed` is encoded from its samples, which preserves them and their bit depth.
            changed: The areas, px, to take from `image` instead.

        Raises:
            InputError: The disk is full.
            ValueError: The time does not follow the one before, or the size differs.
        """
        if self._count % self._segment_frames == 0:
            self.finish_segment()
        with translate_os_errors(self._error_path), translate_ffmpeg_errors(self._error_path):
            segment, encoder = self._open = self._open or self._open_segment()
            segment.write(encoder.encode(image, time, original=original, changed=changed))
        self._count += 1

    def finish_segment(self) -> None:
        """Finish the open segment, which may be shorter than the others."""
        if self._open is None:
            return
        segment, encoder = self._open
        with translate_os_errors(self._error_path), translate_ffmpeg_errors(self._error_path):
            segment.write(encoder.flush())
            segment.finish()
        self._open = None
        finished = Segment.read(segment.path)
        assert finished is not None
        self._segments.append(finished)

    def finalize(
        self,
        output: Path,
        *,
        source: Path | None = None,
        is_part: bool = False,
        audio: AudioTrack | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write the finished video; it appears under its name in one step.

        Args:
            output: .mp4, .m4v, .mov, .mkv or .webm.
            source: The video to copy audio, subtitles, chapters and metadata from.
            is_part: The frames are a part of the source: time counts from the first of them, and
                what is copied is trimmed to match.
            audio: Audio to encode instead; not together with `source`.
            metadata: Metadata to add for the whole file, such as a comment.

        Returns:
            What could not be copied as it is, one line each.

        Raises:
            InputError: There are no frames, the output cannot be written, or a segment was damaged;
                damaged segments are removed, so the same command makes them again.
            ConfigurationError: The container cannot hold the codec.
        """
        if not self._segments:
            raise InputError(f"not one frame to write to {output}", hint=_EMPTY_HINT)
        resolve_codec(output, self.spec.codec)
        with ExitStack() as stack:
            opened_source = stack.enter_context(open_media(source)) if source else None
            temporary = stack.enter_context(atomic_write(output))
            stack.enter_context(translate_ffmpeg_errors(output))
            concat = _SegmentConcat(
                container_format=format_for_path(output),
                spec=self.spec,
                choice=self.choice,
                segments=self._segments,
                source=opened_source,
                path=source,
                is_part=is_part,
            )
            try:
                notes = concat.write(temporary, audio=audio, metadata=metadata or {})
            except DamagedSegmentError as error:
                self._remove_damaged()
                raise InputError(
                    f"a finished segment in {self.folder} has been damaged: {error}",
                    hint="run the same command again: it is made again from that segment on",
                ) from error
        return [*self.choice.notes, *notes]

    def discard(self) -> None:
        """Remove the segments and their folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._segments = []

    def _load_segments(self) -> list[Segment]:
        """Return the whole segments from the first frame on; remove all others of the range."""
        segments: list[Segment] = []
        for path in self._find_files(SEGMENT_SUFFIX):
            segment = Segment.read(path)
            if segment is None:
                self.damaged.append(path.name)
            end = segments[-1].end_frame if segments else self._frames.first
            if segment and segment.key == self._key and segment.first_frame == end:
                segments.append(segment)
            else:
                path.unlink(missing_ok=True)
        for path in self._find_files(".part"):
            path.unlink(missing_ok=True)
        return segments

    def _find_files(self, suffix: str) -> list[Path]:
        """Return the files of segments that begin in the range, in order."""
        paths = sorted(self.folder.glob(f"*{suffix}"))
        return [path for path in paths if path.stem.isdecimal() and int(path.stem) in self._frames]

    def _open_segment(self) -> tuple[SegmentWriter, VideoEncoder]:
        """Open the next segment, and an encoder for it."""
        path = self.folder / f"{self._count:08}{SEGMENT_SUFFIX}"
        segment = SegmentWriter(path, key=self._key, first_frame=self._count)
        return segment, VideoEncoder(self.spec, self.choice)

    def _remove_damaged(self) -> None:
        """Remove the segments whose bytes have changed since they were written."""
        for segment in self._segments:
            try:
                for _ in segment.packets():
                    pass
            except (OSError, DamagedSegmentError):
                segment.path.unlink(missing_ok=True)
        self._segments = self._load_segments()


_EMPTY_HINT = "is the part to be written beyond the end of the video?"


@dataclass(frozen=True, kw_only=True)
class _SegmentConcat:
    """Writes segments and the auxiliary streams into one container."""

    container_format: ContainerFormat
    spec: EncodeSpec
    choice: EncoderChoice
    segments: Sequence[Segment]
    source: InputContainer | None
    path: Path | None
    is_part: bool

    def write(
        self, temporary: Path, *, audio: AudioTrack | None, metadata: Mapping[str, str]
    ) -> list[str]:
        """Write the file and return what could not be copied, one line each."""
        rate_hz = audio.rate_hz if audio else 1
        scale = common_timescale(self.spec.time_base.denominator, self.source, rate_hz)
        keys = [*(self.source.metadata if self.source else ()), *metadata]
        options = self.container_format.options(scale, any("." in key for key in keys))
        with open_container(temporary, self.container_format, options) as output:
            stream = _add_video_stream(
                output, self.spec, self.choice, container_format=self.container_format
            )
            if self.source is not None and self.path is not None:
                original = find_video_stream(self.source, self.path)
                stream.metadata.update(filter_stream_metadata(original.metadata))
            auxiliary = self._add_auxiliary_streams(output, audio)
            output.metadata.update(metadata)
            with keep_scheduling():
                output.start_encoding()
            for _, packet in merge(
                self._video_packets(stream), auxiliary.packets(), key=lambda timed: timed[0]
            ):
                output.mux(packet)
        return auxiliary.notes

    def _add_auxiliary_streams(
        self, output: OutputContainer, audio: AudioTrack | None
    ) -> AuxiliaryStreams:
        """Add the streams besides the video."""
        if self.source is not None and self.path is not None:
            base = self.spec.time_base
            time_range = (
                TimestampRange(start=self._first_pts * base, end=self._end_pts * base)
                if self.is_part
                else None
            )
            index = find_video_stream(self.source, self.path).index
            return CopiedStreams(
                self.source,
                output,
                container_format=self.container_format,
                video_index=index,
                time_range=time_range,
                jumps=find_clock_jumps(self.path),
            )
        if audio is not None:
            return EncodedAudio(audio, output, container_format=self.container_format)
        return AuxiliaryStreams()

    @property
    def _pts(self) -> list[int]:
        """Presentation times of all packets, in the order of storing."""
        return [tick for segment in self.segments for tick in segment.pts]

    @property
    def _first_pts(self) -> int:
        """Presentation time of the first frame."""
        return min(self.segments[0].pts)

    @property
    def _end_pts(self) -> int:
        """End of the last frame: as the source says, or with the duration of the one before."""
        ticks = (tick for segment in self.segments[-2:] for tick in segment.pts)
        last, *others = sorted(ticks, reverse=True)
        base = self.spec.time_base
        duration = read_frame_duration(self.path, last * base) if self.path else None
        if duration is not None:
            return last + max(1, round(duration / base))
        usual = max(1, round(1 / (self.spec.rate * base)))
        return last + (last - others[0] if others else usual)

    def _video_packets(self, stream: VideoStream) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the video packets with their times of decoding in seconds."""
        order = self._pts
        end = self._end_pts
        shift = self._first_pts if self.is_part else 0
        decoded = compute_dts(order, end=end)
        ordered = sorted(order)
        encoded = (packet for segment in self.segments for packet in segment.packets())
        lead = order[0] - decoded[0]
        for number, (source, tick) in enumerate(zip(encoded, decoded, strict=True)):
            packet: AnyPacket = Packet(source.data)
            packet.stream, packet.time_base = stream, self.spec.time_base
            packet.pts, packet.dts = source.pts - shift, tick - shift
            packet.is_keyframe = source.is_keyframe
            after = bisect_right(ordered, source.pts)
            packet.duration = (ordered[after] if after < len(ordered) else end) - source.pts
            if self.container_format.stores_durations and number == len(order) - 1:
                # The steps between times of decoding, which run ahead by the lead, are summed: the
                # last one makes the sum the duration of what is shown.
                packet.duration = end - lead - tick
            yield packet.dts * self.spec.time_base, packet


def compute_dts(order: Sequence[int], *, end: int) -> list[int]:
    """Return times of decoding for packets with presentation times `order`, in stored order.

    They grow, none is after its packet's presentation time, and as few frames as possible run
    ahead: what every decoder expects. Encoders make up their own, which do not fit together where
    segments of varying rate meet.

    Args:
        order: Presentation times, ticks.
        end: End of the last frame, ticks.
    """
    ordered = sorted(order)
    ahead = 0
    while any(ordered[i - ahead] > order[i] for i in range(ahead, len(order))):
        ahead += 1
    if not ahead:
        return ordered
    step = min(ordered[1] - ordered[0], (end - ordered[-1 - ahead] - 1) // ahead)
    return [ordered[0] - (ahead - i) * step for i in range(ahead)] + ordered[:-ahead]


def _add_video_stream(
    output: OutputContainer,
    spec: EncodeSpec,
    choice: EncoderChoice,
    *,
    container_format: ContainerFormat,
) -> VideoStream:
    """Add the video stream, described by an encoder with the settings of the segments' encoder."""
    stream = output.add_stream(
        choice.encoder.name,
        rate=spec.rate.limit_denominator(1_000_000),
        options=choice.encoder.options(spec.quality),
        width=spec.size[0],
        height=spec.size[1],
        time_base=spec.time_base,
    )
    assert isinstance(stream, VideoStream)
    stream.codec_context.pix_fmt = choice.pixel_format
    apply_color_tags(stream.codec_context, spec)
    if spec.codec == "h265" and container_format.stores_durations:
        stream.codec_context.codec_tag = "hvc1"  # the tag that Apple's players expect
    return stream


@contextmanager
def open_container(
    temporary: Path, container_format: ContainerFormat, options: Mapping[str, str]
) -> Iterator[OutputContainer]:
    """Yield an open output, completed on success and abandoned on any exception."""
    output = av.open(
        str(temporary.absolute()),
        "w",
        format=container_format.name,
        container_options=dict(options),
    )
    try:
        yield output
    except BaseException:
        temporary.unlink(missing_ok=True)  # closing would first reorder gigabytes in vain
        with suppress(FFmpegError, OSError):
            output.close()
        raise
    output.close()


@contextmanager
def translate_ffmpeg_errors(path: Path) -> Iterator[None]:
    """Turn FFmpeg's errors into one line; `translate_os_errors` does it for the system's own."""
    try:
        yield
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise InputError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}",
            hint="try another ending, such as .mkv, or a smaller frame size",
        ) from error
