"""What a stage makes of footage, in sittings: a film of a film, pictures of pictures."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from faceswap_cli.core.lazy_image import LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video import DEFAULT_QUALITY
from faceswap_cli.video.containers import resolve_codec
from faceswap_cli.video.encoder import EncodeSpec
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.image_sequence import ImageSequenceWriter
from faceswap_cli.video.probe import probe
from faceswap_cli.video.segments import SegmentedWriter
from faceswap_cli.video.source import ImageSequence, VideoSource


class ResumableOutput(Protocol):
    """What can be written in sittings: `SegmentedWriter` of a video, `ImageSequenceWriter` of an album."""

    @property
    def frames_done(self) -> int:
        """Number of the frame to go on with."""

    def __enter__(self) -> Self:
        """Go on writing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the sitting."""

    def write(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> None:
        """Add a frame."""

    def finalize(self, output: Path) -> list[str]:
        """Write the finished file or folder; return a line for each thing that got lost."""

    def discard(self) -> None:
        """Remove what was kept."""


def open_output(
    source: VideoSource | ImageSequence,
    output: Path,
    *,
    folder: Path,
    key: str,
    codec: str | None = None,
    quality: int = DEFAULT_QUALITY,
    hardware: bool = True,
    side_by_side: bool = False,
) -> ResumableOutput:
    """Return the work of writing what footage becomes, as far as it was done before.

        work = begin(footage, output, folder=folder, key=digest)
        with work:
            for frame in footage.frames(note=report.note, after=last_one_done):
                work.write(image, frame.time, original=frame.original, changed=rectangles)
        notes = work.join(output, source=footage.path)  # of pictures: no source

    Args:
        source: What is read.
        output: What is to be written: a video of a video; a picture of one picture; of several a
            folder.
        folder: Where finished parts are kept.
        key: What tells the frames from all other frames: settings, model, source.
        codec: A name in `codecs.CODECS`; None takes the usual one for the output's ending.
        quality: On the scale of `codecs`.
        hardware: Whether an encoder of the machine's may be taken.
        side_by_side: The frames are twice as wide as the footage's.

    `writer.check_output` says whether the source can be written to that output; call it before.

    Raises:
        ConfigurationError: There is no such codec or quality, or it does not fit the ending.
    """
    if isinstance(source, VideoSource):
        wanted = resolve_codec(output, codec)
        info = probe(source.path)
        picture = EncodeSpec.from_info(info, codec=wanted, quality=quality, hardware=hardware)
        if side_by_side:
            picture = replace(picture, size=(2 * picture.size[0], picture.size[1]))
        return SegmentedWriter(folder, picture, key=key, error_path=output)
    suffix = output.suffix or None if len(source.paths) == 1 else None
    return ImageSequenceWriter(folder, source, key=key, suffix=suffix, quality=quality)
