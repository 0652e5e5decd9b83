"""The picture's encoder: frames in, packets with their times out; knows no container."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from faceswap_cli.arrays import Image
from faceswap_cli.video.codecs import Choice, check_codec, choose, opened_encoder
from faceswap_cli.video.colour import THREADS, UNSPECIFIED, ColourTags, FromRGB, Matrix
from faceswap_cli.video.original import Original, Patcher
from faceswap_cli.video.reader import VideoInfo
from faceswap_cli.views import Area, View, seen

AnyPacket: TypeAlias = "Packet[Any]"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a video's picture is, and how it is to be encoded."""

    size: tuple[int, int]
    """(width, height) px."""
    rate: Fraction
    """Frames a second, on average."""
    time_base: Fraction
    """Seconds a tick: times are kept to the tick."""
    sample_aspect: Fraction = Fraction(1)
    """Width over height of one pixel."""
    colour: ColourTags
    like: str | None = None
    """The source's pixel format, which is kept where the codec can."""
    codec: str = "h264"
    """A name in `codecs.CODECS`."""
    quality: int = 18
    """On the scale of `codecs`: 0 is lossless, 51 the worst."""
    hardware: bool = True
    """Whether an encoder of the machine's may be taken."""

    @classmethod
    def of(
        cls, info: VideoInfo, *, codec: str = "h264", quality: int = 18, hardware: bool = True
    ) -> "Picture":
        """Return the picture of a video that stays what it is, but for being encoded anew."""
        return cls(
            size=info.size,
            rate=info.average_rate,
            time_base=info.time_base,
            sample_aspect=info.sample_aspect,
            colour=info.colour,
            like=info.pixel_format,
            codec=codec,
            quality=quality,
            hardware=hardware,
        )

    def choice(self) -> Choice:
        """Return how it is going to be encoded on this machine.

        Raises:
            ConfigurationError: There is no such codec, or the quality is off the scale.
        """
        check_codec(self.codec, self.quality)
        return choose(self.codec, size=self.size, like=self.like, hardware=self.hardware)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """One encoded picture."""

    tick: int
    """When it is shown, in ticks of the picture's time base."""
    is_key: bool
    """It can be shown without any other."""
    data: bytes


class PictureEncoder:
    """Turns frames into packets, in the order they have to be stored in.

    Args:
        picture: What is encoded.
        choice: How, as `picture.choice()` found it.
    """

    def __init__(self, picture: Picture, choice: Choice) -> None:
        self.picture = picture
        self._last_tick: int | None = None
        self._context = _opened(picture, choice)
        self._pixel_format = choice.pixel_format
        self._from_rgb = FromRGB(
            picture.colour, size=picture.size, pixel_format=choice.pixel_format
        )
        self._patcher = (
            Patcher(picture.colour, size=picture.size, pixel_format=picture.like)
            if picture.like
            else None
        )
        self._reformatter = VideoReformatter()

    def push(
        self,
        image: Image | View,
        time: Fraction,
        *,
        original: Original | Path | None = None,
        changed: Sequence[Area] = (),
    ) -> list[Coded]:
        """Take a frame and return the packets that became ready.

        Args:
            image: uint8 RGB (H, W, 3) of the picture's size, or a view of it.
            time: Seconds; later than that of the frame before by a tick at least.
            original: The source's frame: its samples are encoded outside of `changed`.
            changed: The parts of it that `image` shows instead.
        """
        view = seen(image)
        if view.size != self.picture.size:
            wrong, right = ("{}x{}".format(*size) for size in (view.size, self.picture.size))
            raise ValueError(f"a frame of {wrong} px, the video has {right}")
        tick = round(time / self.picture.time_base)
        if self._last_tick is not None and tick <= self._last_tick:
            raise ValueError("frames must be written in the order of their times, a tick apart")
        self._last_tick = tick
        frame = self._frame(view, original, changed)
        frame.pts, frame.time_base = tick, self.picture.time_base
        return list(self._coded(self._context.encode(frame)))

    def finish(self) -> list[Coded]:
        """Return the packets that the encoder still holds."""
        return list(self._coded(self._context.encode(None)))

    def _frame(
        self, view: View, original: Original | Path | None, changed: Sequence[Area]
    ) -> VideoFrame:
        """Return the frame to encode."""
        if self._patcher is None or not isinstance(original, Original):
            return self._from_rgb(view.whole())
        if not self._patcher.takes(original):
            return self._from_rgb(view.whole())
        frame = self._patcher(original, view, changed)
        if frame.format.name == self._pixel_format:
            return frame
        return self._reformatter.reformat(
            frame,
            format=self._pixel_format,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=THREADS,
        )

    def _coded(self, packets: Sequence[AnyPacket]) -> Iterator[Coded]:
        """Yield packets in our own words."""
        for packet in packets:
            assert packet.pts is not None
            yield Coded(tick=packet.pts, is_key=packet.is_keyframe, data=bytes(packet))


def identity(picture: Picture, choice: Choice) -> str:
    """Return a digest of all that decides whether packets of two encoders fit into one stream."""
    context = _opened(picture, choice)
    told = [
        repr(picture),
        choice.encoder.name,
        choice.pixel_format,
        repr(choice.encoder.options(picture.quality)),
        av.__version__,
        (context.extradata or b"").hex(),
    ]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def dress(context: VideoCodecContext, picture: Picture) -> None:
    """Give an encoder's context the tags and the pixels' shape of a picture."""
    tags = picture.colour
    context.sample_aspect_ratio = picture.sample_aspect
    context.color_primaries = tags.primaries or UNSPECIFIED
    context.color_trc = tags.transfer or UNSPECIFIED
    context.colorspace = written_matrix(picture)
    context.color_range = tags.range or 0


def written_matrix(picture: Picture) -> int:
    """Return the matrix tag: the source's, unless it is one that nobody here converts to."""
    tag = picture.colour.matrix
    if tag is None or tag in set(Matrix):
        return tag or UNSPECIFIED
    return picture.colour.completed(picture.size).matrix or UNSPECIFIED


def _opened(picture: Picture, choice: Choice) -> VideoCodecContext:
    """Return an encoder at work on a picture."""
    return opened_encoder(
        choice.encoder.name,
        size=picture.size,
        pixel_format=choice.pixel_format,
        time_base=picture.time_base,
        rate=picture.rate,
        options=choice.encoder.options(picture.quality),
        prepare=lambda context: dress(context, picture),
    )
