"""What a stage makes of footage, in sittings: a film of a film, pictures of pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from faceswap_cli.arrays import Image
from faceswap_cli.errors import InputError
from faceswap_cli.video.album import Prints
from faceswap_cli.video.codecs import DEFAULT_QUALITY
from faceswap_cli.video.containers import codec_for
from faceswap_cli.video.encoder import Picture
from faceswap_cli.video.footage import PICTURES, Album, Film
from faceswap_cli.video.original import Original
from faceswap_cli.video.reader import probe
from faceswap_cli.video.segments import Segments
from faceswap_cli.video.writer import refuse_target
from faceswap_cli.views import Area, View


class Unfinished(Protocol):
    """What can be written in sittings: `Segments` of a video, `Prints` of an album."""

    @property
    def done(self) -> int:
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
        image: Image | View,
        time: Fraction,
        *,
        original: Original | Path | None = None,
        changed: Sequence[Area] = (),
    ) -> None:
        """Add a frame."""

    def join(
        self,
        output: Path,
        *,
        source: Path | None = None,
        part: bool = False,
        titles: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Make the finished thing of what was written, and return notes."""

    def discard(self) -> None:
        """Remove what was kept."""


def begin(
    footage: Film | Album,
    output: Path,
    *,
    folder: Path,
    key: str,
    codec: str | None = None,
    quality: int = DEFAULT_QUALITY,
    hardware: bool = True,
    side_by_side: bool = False,
) -> Unfinished:
    """Return the work of writing what footage becomes, as far as it was done before.

        work = begin(footage, output, folder=folder, key=digest)
        with work:
            for frame in footage.frames(note=report.note, after=last_one_done):
                work.write(image, frame.time, original=frame.original, changed=rectangles)
        notes = work.join(output, source=footage.path)  # of pictures: no source

    Args:
        footage: What is read.
        output: What is to be written: a video of a video; a picture of one picture; of several a
            folder.
        folder: Where finished parts are kept.
        key: What tells the frames from all other frames: settings, model, source.
        codec: A name in `codecs.CODECS`; None takes the usual one for the output's ending.
        quality: On the scale of `codecs`.
        hardware: Whether an encoder of the machine's may be taken.
        side_by_side: The frames are twice as wide as the footage's.

    Raises:
        InputError: The output's name does not fit the footage, or is that of the footage.
        ConfigurationError: There is no such codec or quality, or it does not fit the ending.
    """
    if isinstance(footage, Film):
        refuse_target(output, footage.path)
        wanted = codec_for(output, codec)
        info = probe(footage.path)
        picture = Picture.of(info, codec=wanted, quality=quality, hardware=hardware)
        if side_by_side:
            picture = replace(picture, size=(2 * picture.size[0], picture.size[1]))
        return Segments(folder, picture, key=key, called=output)
    if len(footage.paths) == 1 and output.suffix:
        refuse_target(output, footage.paths[0])
        return Prints(folder, footage, key=key, suffix=output.suffix, quality=quality)
    if output.suffix.lower() in PICTURES:
        raise InputError(
            f"{len(footage.paths)} pictures do not fit into {output.name}",
            hint=f"name a folder: {output.with_suffix('')}",
        )
    return Prints(folder, footage, key=key, quality=quality)
