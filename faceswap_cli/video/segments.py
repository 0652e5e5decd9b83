"""A video's picture written piece by piece, so that a stopped run goes on; joined at the end.

Every piece is a file of whole packets, encoded by itself. Whoever comes back finds how many frames
are done, writes the others, and joins everything with the sound, subtitles and chapters of the
source. Nothing is encoded twice and no time stamp is made up.

    pieces = Segments(folder, Picture.of(info, codec="h264", quality=18), key=digest_of_settings)
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

from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.files import explained, replacing
from faceswap_cli.video.beside import Beside, Copied, Encoded, Sound, Span, labels_of
from faceswap_cli.video.codecs import Choice
from faceswap_cli.video.containers import Form, codec_for, form_of, ticks_a_second
from faceswap_cli.video.encoder import AnyPacket, Picture, PictureEncoder, dress, identity
from faceswap_cli.video.opening import opened, picture_stream
from faceswap_cli.video.original import Original
from faceswap_cli.video.packets import frame_length
from faceswap_cli.video.pieces import SUFFIX, DamagedPieceError, Piece, PieceWriter
from faceswap_cli.views import Area, View

FRAMES_EACH = 240
"""Frames in a piece: what a crash costs at most. Each begins with a picture that needs no other,
of which encoders make one in 250 anyway."""


class Segments:
    """The pieces of one video's picture in a folder.

    Args:
        folder: Where they are kept; made if it is not there.
        picture: What is encoded, and how.
        key: What tells the frames from all other frames: settings, model, source. Pieces of
            another key, or another encoder, are removed.
        frames_each: Frames in a piece.
        called: The file that errors are about; None takes the folder.
    """

    def __init__(
        self,
        folder: Path,
        picture: Picture,
        *,
        key: str,
        frames_each: int = FRAMES_EACH,
        called: Path | None = None,
    ) -> None:
        self.folder = folder
        self.picture = picture
        self.choice: Choice = picture.choice()
        """Which encoder is at work, and what it cannot keep (`choice.notes`)."""
        self._frames_each = frames_each
        self._called = called or folder
        self._key = f"{key} {identity(picture, self.choice)}"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._whole = self._found()
        self._count = self.done
        self._open: tuple[PieceWriter, PictureEncoder] | None = None

    @property
    def done(self) -> int:
        """Frames that are in whole pieces, from the first on without a gap."""
        return self._whole[-1].end if self._whole else 0

    def __enter__(self) -> Self:
        """Begin, or go on, writing frames from number `done` on."""
        self._count = self.done
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
                self._open[0].abandon()
            self._open = None
            return
        self.finish()

    def write(
        self,
        image: Image | View,
        time: Fraction,
        *,
        original: Original | Path | None = None,
        changed: Sequence[Area] = (),
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
        if self._count % self._frames_each == 0:
            self.finish()
        with explained(self._called), explained_by_ffmpeg(self._called):
            piece, encoder = self._open = self._open or self._begun()
            piece.write(encoder.push(image, time, original=original, changed=changed))
        self._count += 1

    def finish(self) -> None:
        """Finish the open piece, which may be shorter than the others."""
        if self._open is None:
            return
        piece, encoder = self._open
        with explained(self._called), explained_by_ffmpeg(self._called):
            piece.write(encoder.finish())
            piece.finish()
        self._open = None
        whole = Piece.read(piece.path)
        assert whole is not None
        self._whole.append(whole)

    def join(
        self,
        output: Path,
        *,
        source: Path | None = None,
        part: bool = False,
        sound: Sound | None = None,
        titles: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Write the finished video; it appears under its name in one step.

        Args:
            output: .mp4, .m4v, .mov, .mkv or .webm.
            source: Whose sound, subtitles, chapters and titles to carry over.
            part: The frames are a part of the source: time counts from the first of them, and
                what goes beside the picture is cut to match.
            sound: Sound to encode instead; not together with `source`.
            titles: Metadata to add for the whole file, such as a comment.

        Returns:
            What could not be carried over as it is, one line each.

        Raises:
            InputError: There are no frames, the output cannot be written, or a piece was damaged;
                damaged pieces are removed, so the same command makes them again.
            ConfigurationError: A file of this form cannot hold the codec.
        """
        if not self._whole:
            raise InputError(f"not one frame to write to {output}", hint=_EMPTY_HINT)
        codec_for(output, self.picture.codec)
        with ExitStack() as stack:
            opened_source = stack.enter_context(opened(source)) if source else None
            temporary = stack.enter_context(replacing(output))
            stack.enter_context(explained_by_ffmpeg(output))
            joining = _Joining(
                form=form_of(output),
                picture=self.picture,
                choice=self.choice,
                pieces=self._whole,
                source=opened_source,
                path=source,
                part=part,
            )
            try:
                notes = joining.write(temporary, sound=sound, titles=titles or {})
            except DamagedPieceError as error:
                self._remove_damaged()
                raise InputError(
                    f"a finished piece in {self.folder} has been damaged: {error}",
                    hint="run the same command again: only that piece is made anew",
                ) from error
        return [*self.choice.notes, *notes]

    def discard(self) -> None:
        """Remove the pieces and their folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._whole = []

    def _found(self) -> list[Piece]:
        """Return the whole pieces from the first frame on; remove what fits nowhere."""
        whole: list[Piece] = []
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            piece = Piece.read(path)
            end = whole[-1].end if whole else 0
            fits = piece is not None and piece.key == self._key and piece.first == end
            if piece is None or not fits:
                path.unlink(missing_ok=True)
            else:
                whole.append(piece)
        for path in self.folder.glob("*.part"):
            path.unlink(missing_ok=True)
        return whole

    def _begun(self) -> tuple[PieceWriter, PictureEncoder]:
        """Open the next piece."""
        path = self.folder / f"{self._count:08}{SUFFIX}"
        piece = PieceWriter(path, key=self._key, first=self._count)
        return piece, PictureEncoder(self.picture, self.choice)

    def _remove_damaged(self) -> None:
        """Remove the pieces whose bytes have changed since they were written."""
        for piece in self._whole:
            try:
                for _ in piece.packets():
                    pass
            except (OSError, DamagedPieceError):
                piece.path.unlink(missing_ok=True)
        self._whole = self._found()


_EMPTY_HINT = "is the part to be written beyond the end of the video?"


@dataclass(frozen=True, kw_only=True)
class _Joining:
    """Pieces, and what goes beside them, on their way into one file."""

    form: Form
    picture: Picture
    choice: Choice
    pieces: Sequence[Piece]
    source: InputContainer | None
    path: Path | None
    part: bool

    def write(
        self, temporary: Path, *, sound: Sound | None, titles: Mapping[str, str]
    ) -> list[str]:
        """Write the file and return its notes."""
        rate_hz = sound.rate_hz if sound else 1
        scale = ticks_a_second(self.picture.time_base.denominator, self.source, rate_hz)
        keys = [*(self.source.metadata if self.source else ()), *titles]
        options = self.form.options(scale, any("." in key for key in keys))
        with created(temporary, self.form, options) as output:
            stream = _add_picture(output, self.picture, self.choice, form=self.form)
            if self.source is not None and self.path is not None:
                own = picture_stream(self.source, self.path)
                stream.metadata.update(labels_of(own.metadata))
            beside = self._beside(output, sound)
            output.metadata.update(titles)
            output.start_encoding()
            for _, packet in merge(
                self._packets(stream), beside.packets(), key=lambda timed: timed[0]
            ):
                output.mux(packet)
        return beside.notes

    def _beside(self, output: OutputContainer, sound: Sound | None) -> Beside:
        """Add the streams that go beside the picture."""
        if self.source is not None and self.path is not None:
            base = self.picture.time_base
            span = Span(start=self._first * base, end=self._end * base) if self.part else None
            index = picture_stream(self.source, self.path).index
            return Copied(self.source, output, form=self.form, picture=index, span=span)
        if sound is not None:
            return Encoded(sound, output, form=self.form)
        return Beside()

    @property
    def _ticks(self) -> list[int]:
        """When every packet is shown, in the order of storing."""
        return [tick for piece in self.pieces for tick in piece.ticks]

    @property
    def _first(self) -> int:
        """When the first frame is shown."""
        return min(self.pieces[0].ticks)

    @property
    def _end(self) -> int:
        """When the last frame has been shown: as the source says, or as long as the one before."""
        ticks = (tick for piece in self.pieces[-2:] for tick in piece.ticks)
        last, *others = sorted(ticks, reverse=True)
        base = self.picture.time_base
        length = frame_length(self.path, last * base) if self.path else None
        if length is not None:
            return last + max(1, round(length / base))
        usual = max(1, round(1 / (self.picture.rate * base)))
        return last + (last - others[0] if others else usual)

    def _packets(self, stream: VideoStream) -> Iterator[tuple[Fraction, AnyPacket]]:
        """Yield the picture's packets with their times of decoding in seconds."""
        order = self._ticks
        end = self._end
        shift = self._first if self.part else 0
        decoded = decode_ticks(order, end=end)
        shown = sorted(order)
        coded = (one for piece in self.pieces for one in piece.packets())
        lead = order[0] - decoded[0]
        for number, (one, tick) in enumerate(zip(coded, decoded, strict=True)):
            packet: AnyPacket = Packet(one.data)
            packet.stream, packet.time_base = stream, self.picture.time_base
            packet.pts, packet.dts = one.tick - shift, tick - shift
            packet.is_keyframe = one.is_key
            after = bisect_right(shown, one.tick)
            packet.duration = (shown[after] if after < len(shown) else end) - one.tick
            if self.form.adds_up and number == len(order) - 1:
                # The steps between times of decoding, which run ahead by the lead, are added up:
                # the last one makes the sum the length of what is shown.
                packet.duration = end - lead - tick
            yield packet.dts * self.picture.time_base, packet


def decode_ticks(order: Sequence[int], *, end: int) -> list[int]:
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


def _add_picture(
    output: OutputContainer, picture: Picture, choice: Choice, *, form: Form
) -> VideoStream:
    """Add the picture's stream: an encoder like that of the pieces tells what they are."""
    stream = output.add_stream(
        choice.encoder.name,
        rate=picture.rate.limit_denominator(1_000_000),
        options=choice.encoder.options(picture.quality),
        width=picture.size[0],
        height=picture.size[1],
        time_base=picture.time_base,
    )
    assert isinstance(stream, VideoStream)
    stream.codec_context.pix_fmt = choice.pixel_format
    dress(stream.codec_context, picture)
    if picture.codec == "h265" and form.adds_up:
        stream.codec_context.codec_tag = "hvc1"  # the name under which Apple's players look for it
    return stream


@contextmanager
def created(temporary: Path, form: Form, options: Mapping[str, str]) -> Iterator[OutputContainer]:
    """Yield an open output, completed on success and abandoned on any exception."""
    output = av.open(
        str(temporary.absolute()), "w", format=form.name, container_options=dict(options)
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
def explained_by_ffmpeg(path: Path) -> Iterator[None]:
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
