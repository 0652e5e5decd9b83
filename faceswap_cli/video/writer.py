"""Writing a video in one go (`VideoWriter`): frames at exact times, other streams of a source.

What must survive being stopped uses `segments` itself; this is the same in a temporary folder.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import check_writable, make_folder, temp_prefix, translate_os_errors
from faceswap_cli.core.lazy_image import LazyImage, Rect
from faceswap_cli.core.types import Image
from faceswap_cli.video.color import BT709, ColorTags
from faceswap_cli.video.containers import resolve_codec
from faceswap_cli.video.encoder import EncodeSpec
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.passthrough import AudioTrack
from faceswap_cli.video.probe import probe
from faceswap_cli.video.segments import SegmentedWriter, translate_ffmpeg_errors
from faceswap_cli.video.source import IMAGE_SUFFIXES, ImageSequence, VideoSource

__all__ = ["AudioTrack", "VideoWriter"]


class VideoWriter:
    """A video being written, used as a context: `write` every frame in the order of showing.

    On success the file appears under its name in one step; on an exception nothing of it remains
    and an older file of that name is untouched.

    Args:
        path: The output; .mp4, .m4v, .mov, .mkv or .webm.
        size: (width, height) px of every frame. H.264 and H.265 can only store an odd size with
            full chroma resolution (4:4:4), which some players do not show.
        rate: Frames a second, on average.
        time_base: Seconds a tick. Times are exact to the tick; Matroska itself rounds them to a
            millisecond. None: that of `copy_from`, or what makes `rate` exact.
        copy_from: A video to copy audio, subtitles, chapters, metadata and the pixel aspect from;
            packets are copied, never encoded again.
        is_part: The frames are a part of `copy_from`: times count from the first of them, and what
            is copied is trimmed to match.
        color: Color tags, and what RGB is converted by. None: as in `copy_from`, or BT.709.
        audio: Audio to encode; not together with `copy_from`.
        codec: A name in `codecs.CODECS`; None takes the default for the file's extension.
        quality: On the scale of `codecs`: 0 is lossless, 18 looks like the source, 51 the worst.
        hardware: Whether a hardware encoder may be used.
        metadata: Metadata to add for the whole file, such as a comment.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction | None = None,
        copy_from: Path | None = None,
        is_part: bool = False,
        color: ColorTags | None = None,
        audio: AudioTrack | None = None,
        codec: str | None = None,
        quality: int = 18,
        hardware: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if copy_from is not None and audio is not None:
            raise ValueError("a video has the audio of `copy_from` or an `audio` of its own")
        self.path = path
        self.size = size
        self.copy_from = copy_from
        self.is_part = is_part
        self.audio = audio
        self.codec = codec
        self.quality = quality
        self.hardware = hardware
        self.metadata = metadata
        self.notes: list[str] = []
        """What could not be copied, one line each."""
        self._rate = Fraction(rate)
        self._time_base = time_base
        self._color = color
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Prepare the output.

        Raises:
            InputError: The extension is unknown, the folder cannot be written, or `copy_from`
                cannot be read.
            ConfigurationError: The codec is unknown, or the container cannot hold it.
        """
        codec = resolve_codec(self.path, self.codec)
        check_output_path(self.path, self.copy_from)
        spec = self._make_spec(codec)
        with ExitStack() as stack:
            with translate_os_errors(self.path):
                make_folder(self.path.parent)
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix=temp_prefix(self.path), dir=self.path.parent)
                )
            stack.enter_context(translate_ffmpeg_errors(self.path))
            writer = SegmentedWriter(Path(folder), spec, key="once", error_path=self.path)
            self._segments = stack.enter_context(writer)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name; after an exception remove it."""
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            self._segments.finish_segment()
            self.notes += self._segments.finalize(
                self.path,
                source=self.copy_from,
                is_part=self.is_part,
                audio=self.audio,
                metadata=self.metadata,
            )

    def write(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> None:
        """Add a frame: `SegmentedWriter.write`.

        Raises:
            InputError: The disk is full.
        """
        self._segments.write(image, time, original=original, changed=changed)

    def _make_spec(self, codec: str) -> EncodeSpec:
        """Return how to encode, with defaults taken from the source."""
        info = probe(self.copy_from) if self.copy_from else None
        return EncodeSpec(
            size=self.size,
            rate=self._rate,
            time_base=self._time_base or (info.time_base if info else 1 / self._rate),
            sample_aspect=info.sample_aspect if info else Fraction(1),
            color=self._color or (info.color if info else BT709),
            source_pixel_format=info.pixel_format if info else None,
            codec=codec,
            quality=self.quality,
            hardware=self.hardware,
        )


def check_output(source: VideoSource | ImageSequence, output: Path, *, codec: str | None) -> None:
    """Refuse an output that cannot be made from a source, before any work.

    Raises:
        InputError: It would overwrite the source, its name does not fit, or it cannot be written.
        ConfigurationError: The codec does not fit the name.
    """
    check_writable(output)
    if isinstance(source, VideoSource):
        check_output_path(output, source.path)
        resolve_codec(output, codec)
    elif output.is_dir() and any(output.samefile(path.parent) for path in source.paths):
        raise InputError(
            f"{output} is the folder of the images themselves",
            hint="choose another folder with --output",
        )
    elif len(source.paths) == 1 and output.suffix:
        check_output_path(output, source.paths[0])
    elif output.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"{len(source.paths)} images do not fit into {output.name}",
            hint=f"name a folder: {output.with_suffix('')}",
        )
    elif {(output / name).resolve() for name in source.relative_paths} & {
        path.resolve() for path in source.paths
    }:
        raise InputError(
            f"the results would replace the images themselves in {output}",
            hint="choose another folder with --output",
        )


def check_output_path(path: Path, source: Path | None) -> None:
    """Refuse an output that could only fail after all work is done.

    Raises:
        InputError: The output is a folder, or the source itself.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint=f"name a file: {path}/video.mp4")
    if source and path.exists() and path.samefile(source):
        raise InputError(
            f"{path} is the source; it would be lost",
            hint="choose another name for the output",
        )
