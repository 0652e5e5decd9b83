"""Output that can be stopped and resumed: `open_output` opens a video or an image sequence."""

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
from faceswap_cli.video.segments import ALL_FRAMES, FrameRange, SegmentedWriter
from faceswap_cli.video.source import ImageSequence, VideoSource


class ResumableOutput(Protocol):
    """A writer that can be stopped and resumed: `SegmentedWriter` or `ImageSequenceWriter`."""

    damaged: list[str]
    """Names of finished parts that have changed since they were written; they are made again."""

    @property
    def frames_done(self) -> int:
        """Number of frames that need not be written again: resume with the frame of this number."""

    def __enter__(self) -> Self:
        """Start or resume writing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish what is open; after an exception keep only what is whole."""

    def write(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> None:
        """Add the next frame: `original`, with the `changed` areas taken from `image`."""

    def finalize(self, output: Path) -> list[str]:
        """Write the finished file or folder; return a line for each thing that got lost."""

    def discard(self) -> None:
        """Remove all that was written but not finalized."""


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
    frames: FrameRange = ALL_FRAMES,
) -> ResumableOutput:
    """Return a writer for a changed copy of a source, resuming what was written before.

        writer = open_output(source, output, folder=folder, key=digest)
        with writer:
            for frame in source.frames(note=report.note, resume_after=last_one_done):
                writer.write(image, frame.time, original=frame.original, changed=areas)
        notes = writer.finalize(output)

    Call `writer.check_output` before: it refuses an output that does not fit the source.

    Args:
        source: What is read.
        output: A video for a video, an image for one image, a folder for several.
        folder: The folder of unfinished work.
        key: Digest of all that decides what the frames show: settings, model, source.
        codec: A name in `codecs.CODECS`; None takes the default for the output's extension.
        quality: On the scale of `codecs`.
        hardware: Whether a hardware encoder may be used.
        side_by_side: The frames are twice as wide as the source's.
        frames: The frames that will be written; of a video, they may be a part.

    Raises:
        InputError: The extension is not that of an image, or of a video.
        ConfigurationError: The codec or quality is unknown, or does not fit the extension.
    """
    if isinstance(source, VideoSource):
        codec = resolve_codec(output, codec)
        spec = EncodeSpec.from_info(source.info, codec=codec, quality=quality, hardware=hardware)
        if side_by_side:
            spec = replace(spec, size=(2 * spec.size[0], spec.size[1]))
        return SegmentedWriter(folder, spec, key=key, frames=frames, error_path=output)
    suffix = output.suffix or None if len(source.paths) == 1 else None
    return ImageSequenceWriter(folder, source, key=key, suffix=suffix, quality=quality)
