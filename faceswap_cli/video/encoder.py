"""The video encoder (`VideoEncoder`): frames in, packets with presentation times out."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from faceswap_cli.core.lazy_image import LazyImage, Rect, as_lazy
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video.codecs import EncoderChoice, check_codec, open_encoder, select_encoder
from faceswap_cli.video.color import (
    SWSCALE_THREADS,
    TILE_ALIGN_PX,
    UNSPECIFIED,
    ColorTags,
    FromRGB,
    YuvMatrix,
    get_planes,
)
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.probe import VideoInfo

AnyPacket: TypeAlias = "Packet[Any]"


@dataclass(frozen=True, kw_only=True)
class EncodeSpec:
    """The properties of a video's frames, and how to encode them."""

    size: tuple[int, int]
    """(width, height) px."""
    rate: Fraction
    """Frames a second, on average."""
    time_base: Fraction
    """Seconds a tick: times are exact to the tick."""
    sample_aspect: Fraction = Fraction(1)
    """Width over height of one pixel."""
    color: ColorTags
    source_pixel_format: str | None = None
    """The source's pixel format, which is preserved where the codec can."""
    codec: str = "h264"
    """A name in `codecs.CODECS`."""
    quality: int = 18
    """On the scale of `codecs`: 0 is lossless, 51 the worst."""
    hardware: bool = True
    """Whether a hardware encoder may be used."""

    @classmethod
    def from_info(
        cls, info: VideoInfo, *, codec: str = "h264", quality: int = 18, hardware: bool = True
    ) -> "EncodeSpec":
        """Return the spec that encodes a video again with its own properties."""
        return cls(
            size=info.size,
            rate=info.average_rate,
            time_base=info.time_base,
            sample_aspect=info.sample_aspect,
            color=info.color,
            source_pixel_format=info.pixel_format,
            codec=codec,
            quality=quality,
            hardware=hardware,
        )

    def resolve_encoder(self) -> EncoderChoice:
        """Return the encoder to use on this machine.

        Raises:
            ConfigurationError: The codec is unknown, or the quality is off the scale.
        """
        check_codec(self.codec, self.quality)
        return select_encoder(
            self.codec,
            size=self.size,
            source_pixel_format=self.source_pixel_format,
            hardware=self.hardware,
        )


@dataclass(frozen=True, kw_only=True)
class EncodedPacket:
    """One encoded frame."""

    pts: int
    """Presentation time in ticks of the video's time base."""
    is_keyframe: bool
    """It can be decoded without any other."""
    data: bytes


class VideoEncoder:
    """Turns frames into packets, in the order they have to be stored in.

    Args:
        spec: What is encoded.
        choice: The encoder, as `EncodeSpec.resolve_encoder` returned it.
    """

    def __init__(self, spec: EncodeSpec, choice: EncoderChoice) -> None:
        self.spec = spec
        self._last_pts: int | None = None
        self._context = _open_context(spec, choice)
        self._pixel_format = choice.pixel_format
        self._from_rgb = FromRGB(spec.color, size=spec.size, pixel_format=choice.pixel_format)
        self._patcher = (
            FramePatcher(spec.color, size=spec.size, pixel_format=spec.source_pixel_format)
            if spec.source_pixel_format
            else None
        )
        self._reformatter = VideoReformatter()

    def encode(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> list[EncodedPacket]:
        """Encode a frame and return the packets that became ready.

        Args:
            image: uint8 RGB (H, W, 3) of the video's size, or a lazy one.
            time: Seconds; at least a tick later than the frame before.
            original: The source's frame: its samples are encoded outside of `changed`.
            changed: The areas, px, to take from `image` instead.
        """
        view = as_lazy(image)
        if view.size != self.spec.size:
            wrong, right = ("{}x{}".format(*size) for size in (view.size, self.spec.size))
            raise ValueError(f"a frame of {wrong} px, the video has {right}")
        tick = round(time / self.spec.time_base)
        if self._last_pts is not None and tick <= self._last_pts:
            raise ValueError("frames must be written in the order of their times, a tick apart")
        self._last_pts = tick
        frame = self._make_frame(view, original, changed)
        frame.pts, frame.time_base = tick, self.spec.time_base
        return list(self._to_packets(self._context.encode(frame)))

    def flush(self) -> list[EncodedPacket]:
        """Return the packets that the encoder still holds."""
        return list(self._to_packets(self._context.encode(None)))

    def _make_frame(
        self, view: LazyImage, original: SourceSamples | Path | None, changed: Sequence[Rect]
    ) -> VideoFrame:
        """Return the frame to encode."""
        if self._patcher is None or not isinstance(original, SourceSamples):
            return self._from_rgb(view.to_array())
        if not self._patcher.accepts(original):
            return self._from_rgb(view.to_array())
        frame = self._patcher(original, view, changed)
        if frame.format.name == self._pixel_format:
            return frame
        return self._reformatter.reformat(
            frame,
            format=self._pixel_format,
            interpolation=Interpolation.BICUBIC | Interpolation.ACCURATE_RND,
            threads=SWSCALE_THREADS,
        )

    def _to_packets(self, packets: Sequence[AnyPacket]) -> Iterator[EncodedPacket]:
        """Yield the library's packets as `EncodedPacket`s."""
        for packet in packets:
            assert packet.pts is not None
            yield EncodedPacket(pts=packet.pts, is_keyframe=packet.is_keyframe, data=bytes(packet))


class FramePatcher:
    """Builds the frames to encode from the source's samples and the areas changed in RGB.

    Args:
        tags: Color tags of the output.
        size: (width, height) px, upright.
        pixel_format: The source's, a name in `PLANAR_FORMATS`.
    """

    def __init__(self, tags: ColorTags, *, size: tuple[int, int], pixel_format: str) -> None:
        self.size = size
        self.pixel_format = pixel_format
        self._tags = tags.with_defaults(size)
        layout = VideoFormat(pixel_format, 16, 16)
        self._from_rgb = FromRGB(tags, size=size, pixel_format=pixel_format)
        self._block = 16 // layout.chroma_width(16), 16 // layout.chroma_height(16)

    def accepts(self, original: SourceSamples) -> bool:
        """Return whether a frame has the expected size and format; damaged files change them."""
        decoded = original.decoded
        size = decoded.width, decoded.height
        upright = size[::-1] if original.orientation.transposed else size
        return upright == self.size and original.pixel_format == self.pixel_format

    def __call__(
        self, original: SourceSamples, view: LazyImage, changed: Iterable[Rect]
    ) -> VideoFrame:
        """Return a frame that shows `view` in the changed areas and the original elsewhere.

        Where several pixels share a chroma sample, it changes only if all of them may.
        """
        frame = VideoFrame(*self.size, self.pixel_format)
        planes = get_planes(frame)
        for target, plane in zip(planes, get_planes(original.decoded), strict=True):
            target[:] = original.orientation.to_upright(plane)
        for area in changed:
            self._patch(planes, view, area.clip(self.size))
        frame.colorspace = self._tags.matrix or 0
        frame.color_range = self._tags.range or 0
        return frame

    def _patch(self, planes: Sequence[AnyArray], view: LazyImage, area: Rect) -> None:
        """Overwrite the samples of an area by those of the view."""
        if 0 in area.size:
            return
        left, top, right, bottom = area
        across, down = self._block
        width, height = self.size
        # Whole blocks of pixels that share chroma samples: the outermost are averaged correctly.
        x0, y0 = left // across * across, top // down * down
        x1, y1 = min(-(-right // across) * across, width), min(-(-bottom // down) * down, height)
        blocks = Rect(x0, y0, x1, y1)
        part = view.to_partial_array(blocks)[blocks.slices]
        luma, *chroma = get_planes(self._from_rgb(_pad_to_tile(part)))
        planes[0][top:bottom, left:right] = luma[top - y0 : bottom - y0, left - x0 : right - x0]
        # Of the chroma samples those with all pixels inside the area or beyond the image's border.
        first_x, first_y = -(-left // across), -(-top // down)
        last_x = -(-right // across) if right == width else right // across
        last_y = -(-bottom // down) if bottom == height else bottom // down
        for plane, new in zip(planes[1:], chroma, strict=True):
            plane[first_y:last_y, first_x:last_x] = new[
                first_y - y0 // down : last_y - y0 // down,
                first_x - x0 // across : last_x - x0 // across,
            ]


def _pad_to_tile(part: Image) -> Image:
    """Return a part with black to the right of it and below, which changes no sample of its own.

    A part of odd size ends with the image, where chroma is not averaged over whole blocks.
    """
    height, width = part.shape[:2]
    if height % 2 or width % 2:
        return part
    room = np.zeros(
        (
            -(-height // TILE_ALIGN_PX) * TILE_ALIGN_PX,
            -(-width // TILE_ALIGN_PX) * TILE_ALIGN_PX,
            3,
        ),
        np.uint8,
    )
    room[:height, :width] = part
    return room


def spec_digest(spec: EncodeSpec, choice: EncoderChoice) -> str:
    """Return a digest of all that decides whether packets of two encoders fit into one stream."""
    context = _open_context(spec, choice)
    parts = [
        repr(spec),
        choice.encoder.name,
        choice.pixel_format,
        repr(choice.encoder.options(spec.quality)),
        av.__version__,
        (context.extradata or b"").hex(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def apply_color_tags(context: VideoCodecContext, spec: EncodeSpec) -> None:
    """Set the color tags and the pixel aspect of an encoder's context."""
    tags = spec.color
    context.sample_aspect_ratio = spec.sample_aspect
    context.color_primaries = tags.primaries or UNSPECIFIED
    context.color_trc = tags.transfer or UNSPECIFIED
    context.colorspace = select_matrix_tag(spec)
    context.color_range = tags.range or 0


def select_matrix_tag(spec: EncodeSpec) -> int:
    """Return the matrix tag: the source's, unless `color` cannot convert to it."""
    tag = spec.color.matrix
    if tag is None or tag in set(YuvMatrix):
        return tag or UNSPECIFIED
    return spec.color.with_defaults(spec.size).matrix or UNSPECIFIED


def _open_context(spec: EncodeSpec, choice: EncoderChoice) -> VideoCodecContext:
    """Return an open encoder."""
    return open_encoder(
        choice.encoder.name,
        size=spec.size,
        pixel_format=choice.pixel_format,
        time_base=spec.time_base,
        rate=spec.rate,
        options=choice.encoder.options(spec.quality),
        configure=lambda context: apply_color_tags(context, spec),
    )
