"""Writing a video in one go: frames at their exact times, and everything else of a source.

Work that must survive being stopped uses `segments` itself; this is the same in a folder that is
removed when the video is there.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.files import explained
from faceswap_cli.video.beside import Sound
from faceswap_cli.video.colour import BT709, ColourTags
from faceswap_cli.video.containers import codec_for
from faceswap_cli.video.encoder import Picture
from faceswap_cli.video.original import Original
from faceswap_cli.video.reader import probe
from faceswap_cli.video.segments import Segments, explained_by_ffmpeg
from faceswap_cli.views import Area, View

__all__ = ["Sound", "VideoWriter"]


class VideoWriter:
    """A video being written; use it as a context and `write` every frame in the order of showing.

    On success the file appears under its name in one step; on an exception nothing of it remains
    and an older file of that name is untouched.

    Args:
        path: Where to; .mp4, .m4v, .mov, .mkv or .webm.
        size: (width, height) px of every frame. H.264 and H.265 can only store an odd size with
            full colour resolution (4:4:4), which some players do not show.
        rate: Frames a second, on average.
        time_base: Seconds a tick. Times are kept to the tick; Matroska itself rounds them to a
            millisecond. None: that of `copy_from`, or what makes `rate` exact.
        copy_from: A video whose sound, subtitles, chapters, titles and shape of pixels are
            carried over; packets are copied, never encoded again.
        part: What is written is a part of `copy_from`: times count from the first frame, and what
            is copied is cut to match.
        colour: What the colours are tagged with and converted by. None: as in `copy_from`, or
            BT.709.
        sound: Sound to encode; not together with `copy_from`.
        codec: A name in `codecs.CODECS`; None takes the usual one for the file's ending.
        quality: On the scale of `codecs`: 0 is lossless, 18 hardly to be told from the source,
            51 the worst.
        hardware: Whether an encoder of the machine's may be taken.
        titles: Metadata to add for the whole file, such as a comment.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction | None = None,
        copy_from: Path | None = None,
        part: bool = False,
        colour: ColourTags | None = None,
        sound: Sound | None = None,
        codec: str | None = None,
        quality: int = 18,
        hardware: bool = False,
        titles: Mapping[str, str] | None = None,
    ) -> None:
        if copy_from is not None and sound is not None:
            raise ValueError("a video has the sound of `copy_from` or a `sound` of its own")
        self.path = path
        self.size = size
        self.copy_from = copy_from
        self.part = part
        self.sound = sound
        self.codec = codec
        self.quality = quality
        self.hardware = hardware
        self.titles = titles
        self.notes: list[str] = []
        """What could not be carried over, one line each."""
        self._rate = Fraction(rate)
        self._time_base = time_base
        self._colour = colour
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        """Prepare the output.

        Raises:
            InputError: The suffix is unknown, the folder cannot be written, or `copy_from` cannot
                be read.
            ConfigurationError: There is no such codec, or a file of this form cannot hold it.
        """
        codec = codec_for(self.path, self.codec)
        refuse_target(self.path, self.copy_from)
        picture = self._picture(codec)
        with ExitStack() as stack:
            with explained(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                folder = stack.enter_context(
                    tempfile.TemporaryDirectory(prefix=f".{self.path.stem}-", dir=self.path.parent)
                )
            stack.enter_context(explained_by_ffmpeg(self.path))
            pieces = Segments(Path(folder), picture, key="once", called=self.path)
            self._pieces = stack.enter_context(pieces)
            self._resources = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file and give it its name, or remove what there is of it."""
        if error is not None:
            self._resources.__exit__(kind, error, trace)
            return
        with self._resources:
            self._pieces.finish()
            self.notes += self._pieces.join(
                self.path,
                source=self.copy_from,
                part=self.part,
                sound=self.sound,
                titles=self.titles,
            )

    def write(
        self,
        image: Image | View,
        time: Fraction,
        *,
        original: Original | Path | None = None,
        changed: Sequence[Area] = (),
    ) -> None:
        """Add a frame: `Segments.write`.

        Raises:
            InputError: The disk is full.
        """
        self._pieces.write(image, time, original=original, changed=changed)

    def _picture(self, codec: str) -> Picture:
        """Return how the picture is to be encoded, what was left open taken from the source."""
        info = probe(self.copy_from) if self.copy_from else None
        return Picture(
            size=self.size,
            rate=self._rate,
            time_base=self._time_base or (info.time_base if info else 1 / self._rate),
            sample_aspect=info.sample_aspect if info else Fraction(1),
            colour=self._colour or (info.colour if info else BT709),
            like=info.pixel_format if info else None,
            codec=codec,
            quality=self.quality,
            hardware=self.hardware,
        )


def refuse_target(path: Path, source: Path | None) -> None:
    """Refuse before any work what could only fail after it.

    Raises:
        InputError: The output is a folder, or the very file that is read.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder", hint=f"name a file: {path}/video.mp4")
    if source and path.exists() and path.samefile(source):
        raise InputError(
            f"{path} is what is being read; it would be lost",
            hint="choose another name for the output",
        )
