"""A video's picture written piece by piece, so that a stopped run goes on; joined at the end.

Every piece is a file of whole packets, encoded by itself. Whoever comes back finds how many frames
are done, writes the others, and joins everything with the sound, subtitles and chapters of the
source. Nothing is encoded twice and no time stamp is made up.

    pieces = SegmentedWriter(folder, Picture.of(info, codec="h264", quality=18), key=digest_of_settings)
    with pieces:
        for frame in read_frames(source, start=pieces.done):
            pieces.write(image, frame.time, original=frame.original, changed=[rectangle])
    notes = pieces.join(output, source=source)

After a crash the same lines go on where the last whole piece ended. With --start and --end, count
`done` from the first frame of the part, and `join(..., part=True)`.
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
from faceswap_cli.core.fileio import atomic_write, translate_os_errors
from faceswap_cli.core.lazy_image import LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video.codecs import EncoderChoice
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
from faceswap_cli.video.probe import find_video_stream, open_media, read_frame_duration
from faceswap_cli.video.segment_file import (
    SEGMENT_SUFFIX,
    DamagedSegmentError,
    Segment,
    SegmentWriter,
)

SEGMENT_FRAMES = 240
"""Frames in a piece: what a crash costs at most. Each begins with a picture that needs no other,
of which encoders make one in 250 anyway."""


class SegmentedWriter:
    """The pieces of one video's picture in a folder.

    Args:
        folder: Where they are kept; made if it is not there.
        spec: What is encoded, and how.
        key: What tells the frames from all other frames: settings, model, source. Pieces of
            another key, or another encoder, are removed.
        segment_frames: Frames in a piece.
        error_path: The file that errors are about; None takes the folder.
    """

    def __init__(
        self,
        folder: Path,
        spec: EncodeSpec,
        *,
        key: str,
        segment_frames: int = SEGMENT_FRAMES,
        error_path: Path | None = None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.choice: EncoderChoice = spec.resolve_encoder()
        """Which encoder is at work, and what it cannot keep (`choice.notes`)."""
        self._segment_frames = segment_frames
        self._error_path = error_path or folder
        self._key = f"{key} {spec_digest(spec, self.choice)}"
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._segments = self._load_segments()
        self._count = self.frames_done
        self._open: tuple[SegmentWriter, VideoEncoder] | None = None

    @property
    def frames_done(self) -> int:
        """Frames that are in whole pieces, from the first on without a gap."""
        return self._segments[-1].end_frame if self._segments else 0

    def __enter__(self) -> Self:
        """Begin, or go on, writing frames from number `done` on."""
        self._count = self.frames_done
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the last piece; after an exception leave it out, and keep those before it."""
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
            image: uint8 RGB (H, W, 3) of the picture's size, or a view of it.
            time: Seconds, in the source's own time.
            original: The source's frame (`Frame.original`). If it is given, everything outside
                of `changed` is encoded from its samples, which keeps them and their bits exactly.
            changed: The rectangles (left, top, right, bottom) px to take from `image` instead.

        Raises:
            InputError: The disk is full.
            ValueError: The time does not follow the one before, or the size is another.
        """
        if self._count % self._segment_frames == 0:
            self.finish_segment()
        with translate_os_errors(self._error_path), translate_ffmpeg_errors(self._error_path):
            piece, encoder = self._open = self._open or self._open_segment()
            piece.write(encoder.encode(image, time, original=original, changed=changed))
        self._count += 1

    def finish_segment(self) -> None:
        """Finish the open piece, which may be shorter than the others."""
        if self._open is None:
            return
        piece, encoder = self._open
        with translate_os_errors(self._error_path), translate_ffmpeg_errors(self._error_path):
            piece.write(encoder.flush())
            piece.finish()
        self._open = None
        whole = Segment.read(piece.path)
        assert whole is not None
        self._segments.append(whole)

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
            source: Whose sound, subtitles, chapters and titles to carry over.
            is_part: The frames are a part of the source: time counts from the first of them, and
                what goes beside the picture is cut to match.
            audio: Sound to encode instead; not together with `source`.
            metadata: Metadata to add for the whole file, such as a comment.

        Returns:
            What could not be carried over as it is, one line each.

        Raises:
            InputError: There are no frames, the output cannot be written, or a piece was damaged;
                damaged pieces are removed, so the same command makes them again.
            ConfigurationError: A file of this form cannot hold the codec.
        """
        if not self._segments:
            raise InputError(f"not one frame to write to {output}", hint=_EMPTY_HINT)
        resolve_codec(output, self.spec.codec)
        with ExitStack() as stack:
            opened_source = stack.enter_context(open_media(source)) if source else None
            temporary = stack.enter_context(atomic_write(output))
            stack.enter_context(translate_ffmpeg_errors(output))
            joining = _SegmentConcat(
                container_format=format_for_path(output),
                spec=self.spec,
                choice=self.choice,
                segments=self._segments,
                source=opened_source,
                path=source,
                is_part=is_part,
            )
            try:
                notes = joining.write(temporary, audio=audio, metadata=metadata or {})
            except DamagedSegmentError as error:
                self._remove_damaged()
                raise InputError(
                    f"a finished piece in {self.folder} has been damaged: {error}",
                    hint="run the same command again: only that piece is made anew",
                ) from error
        return [*self.choice.notes, *notes]

    def discard(self) -> None:
        """Remove the pieces and their folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._segments = []

    def _load_segments(self) -> list[Segment]:
        """Return the whole pieces from the first frame on; remove what fits nowhere."""
        whole: list[Segment] = []
        for path in sorted(self.folder.glob(f"*{SEGMENT_SUFFIX}")):
            piece = Segment.read(path)
            end = whole[-1].end_frame if whole else 0
            fits = piece is not None and piece.key == self._key and piece.first_frame == end
            if piece is None or not fits:
                path.unlink(missing_ok=True)
            else:
                whole.append(piece)
        for path in self.folder.glob("*.part"):
            path.unlink(missing_ok=True)
        return whole

    def _open_segment(self) -> tuple[SegmentWriter, VideoEncoder]:
        """Open the next piece."""
        path = self.folder / f"{self._count:08}{SEGMENT_SUFFIX}"
        piece = SegmentWriter(path, key=self._key, first_frame=self._count)
        return piece, VideoEncoder(self.spec, self.choice)

    def _remove_damaged(self) -> None:
        """Remove the pieces whose bytes have changed since they were written."""
        for piece in self._segments:
            try:
                for _ in piece.packets():
                    pass
            except (OSError, DamagedSegmentError):
                piece.path.unlink(missing_ok=True)
        self._segments = self._load_segments()


_EMPTY_HINT = "is the part to be written beyond the end of the video?"


@dataclass(frozen=True, kw_only=True)
class _SegmentConcat:
    """Pieces, and what goes beside them, on their way into one file."""

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
        """Write the file and return its notes."""
        rate_hz = audio.rate_hz if audio else 1
        scale = common_timescale(self.spec.time_base.denominator, self.source, rate_hz)
        keys = [*(self.source.metadata if self.source else ()), *metadata]
        options = self.container_format.options(scale, any("." in key for key in keys))
        with open_container(temporary, self.container_format, options) as output:
            stream = _add_video_stream(
                output, self.spec, self.choice, container_format=self.container_format
            )
            if self.source is not None and self.path is not None:
                own = find_video_stream(self.source, self.path)
                stream.metadata.update(filter_stream_metadata(own.metadata))
            beside = self._add_auxiliary_streams(output, audio)
            output.metadata.update(metadata)
            output.start_encoding()
            for _, packet in merge(
                self._video_packets(stream), beside.packets(), key=lambda timed: timed[0]
            ):
                output.mux(packet)
        return beside.notes

    def _add_auxiliary_streams(
        self, output: OutputContainer, audio: AudioTrack | None
    ) -> AuxiliaryStreams:
        """Add the streams that go beside the picture."""
        if self.source is not None and self.path is not None:
            base = self.spec.time_base
            span = (
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
                time_range=span,
            )
        if audio is not None:
            return EncodedAudio(audio, output, container_format=self.container_format)
        return AuxiliaryStreams()

    @property
    def _pts(self) -> list[int]:
        """When every packet is shown, in the order of storing."""
        return [tick for piece in self.segments for tick in piece.pts]

    @property
    def _first_pts(self) -> int:
        """When the first frame is shown."""
        return min(self.segments[0].pts)

    @property
    def _end_pts(self) -> int:
        """When the last frame has been shown: as the source says, or as long as the one before."""
        ticks = (tick for piece in self.segments[-2:] for tick in piece.pts)
        last, *others = sorted(ticks, reverse=True)
        base = self.spec.time_base
        length = read_frame_duration(self.path, last * base) if self.path else None
        if length is not None:
            return last + max(1, round(length / base))
        usual = max(1, round(1 / (self.spec.rate * base)))
        return last + (last - others[0] if others else usual)

    def _video_packets(self, stream: VideoStream) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the picture's packets with their times of decoding in seconds."""
        order = self._pts
        end = self._end_pts
        shift = self._first_pts if self.is_part else 0
        decoded = compute_dts(order, end=end)
        shown = sorted(order)
        coded = (one for piece in self.segments for one in piece.packets())
        lead = order[0] - decoded[0]
        for number, (one, tick) in enumerate(zip(coded, decoded, strict=True)):
            packet: AnyPacket = Packet(one.data)
            packet.stream, packet.time_base = stream, self.spec.time_base
            packet.pts, packet.dts = one.pts - shift, tick - shift
            packet.is_keyframe = one.is_keyframe
            after = bisect_right(shown, one.pts)
            packet.duration = (shown[after] if after < len(shown) else end) - one.pts
            if self.container_format.stores_durations and number == len(order) - 1:
                # The steps between times of decoding, which run ahead by the lead, are added up:
                # the last one makes the sum the length of what is shown.
                packet.duration = end - lead - tick
            yield packet.dts * self.spec.time_base, packet


def compute_dts(order: Sequence[int], *, end: int) -> list[int]:
    """Return times of decoding for packets shown at the ticks `order`, given as they are stored.

    They grow, none is after its packet's time of showing, and as few frames as possible run ahead:
    what every decoder expects. Encoders make up their own, which do not fit together where pieces
    of varying rate meet.

    Args:
        order: Ticks of showing.
        end: The tick when the last frame has been shown.
    """
    shown = sorted(order)
    ahead = 0
    while any(shown[i - ahead] > order[i] for i in range(ahead, len(order))):
        ahead += 1
    if not ahead:
        return shown
    step = min(shown[1] - shown[0], (end - shown[-1 - ahead] - 1) // ahead)
    return [shown[0] - (ahead - i) * step for i in range(ahead)] + shown[:-ahead]


def _add_video_stream(
    output: OutputContainer,
    spec: EncodeSpec,
    choice: EncoderChoice,
    *,
    container_format: ContainerFormat,
) -> VideoStream:
    """Add the picture's stream: an encoder like that of the pieces tells what they are."""
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
        stream.codec_context.codec_tag = "hvc1"  # the name under which Apple's players look for it
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
        temporary.unlink(missing_ok=True)  # closing would first reorder gigabytes to no purpose
        with suppress(FFmpegError, OSError):
            output.close()
        raise
    output.close()


@contextmanager
def translate_ffmpeg_errors(path: Path) -> Iterator[None]:
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
