"""Pictures written as a video is: one by one, kept if the work is stopped, then put in place.

    prints = Prints(folder, album, key=digest_of_settings)
    with prints:
        for frame in album.frames(note=report.note, after=last_one_done):
            prints.write(image, frame.time, original=frame.original, changed=[rectangle])
    notes = prints.join(output)

A picture in which nothing changes is copied byte for byte; of the others, what is not changed keeps
its own levels, its transparency and its 16 bits where the form of file does.
"""

import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from faceswap_cli.arrays import AnyArray, Image
from faceswap_cli.errors import InputError
from faceswap_cli.files import explained, replacing, write_text
from faceswap_cli.video.codecs import DEFAULT_QUALITY, WORST
from faceswap_cli.video.footage import PICTURE_RATE, PICTURES, Album
from faceswap_cli.video.original import Original
from faceswap_cli.views import Area, View, seen


class Prints:
    """Finished pictures in a folder of their own until all are done.

    Args:
        folder: Where they are kept; made if it is not there.
        album: The pictures they are made from.
        key: What tells them from all others: settings, model. Those of another key are removed.
        suffix: The form of file to write; None keeps each picture's own.
        quality: On the scale of `codecs`, for the forms that lose something.
    """

    def __init__(
        self,
        folder: Path,
        album: Album,
        *,
        key: str,
        suffix: str | None = None,
        quality: int = DEFAULT_QUALITY,
    ) -> None:
        self.folder = folder
        self.album = album
        self._suffix = suffix
        self._quality = quality
        self._notes: list[str] = []
        if suffix is not None and suffix.lower() not in PICTURES:
            raise InputError(
                f"cannot write a picture that ends in {suffix}",
                hint="pictures become pictures: name a .png or .jpg, or a folder for several",
            )
        mark, told = folder / "key.txt", f"{key} {suffix} {quality}"
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not mark.is_file() or mark.read_text(encoding="utf-8") != told:
                for path in self._finished():
                    path.unlink()
                write_text(mark, told)

    @property
    def done(self) -> int:
        """Number of the picture to go on with; those before are finished or cannot be read."""
        return max((int(path.stem) + 1 for path in self._finished()), default=0)

    def __enter__(self) -> Self:
        """Go on; every picture is kept as soon as it is written."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open between pictures."""

    def write(
        self,
        image: Image | View,
        time: Fraction,
        *,
        original: Original | Path | None = None,
        changed: Sequence[Area] = (),
    ) -> None:
        """Add a picture.

        Args:
            image: uint8 RGB (H, W, 3), or a view of it.
            time: That of the album's frame, which tells its number.
            original: The picture's file (`Frame.original`). If it is given, everything outside of
                `changed` is taken from it.
            changed: The rectangles (left, top, right, bottom) px to take from `image` instead.

        Raises:
            InputError: The disk is full.
        """
        number = round(time * PICTURE_RATE)
        source = self.album.paths[number]
        suffix = self._suffix or source.suffix
        with replacing(self.folder / f"{number:08}{suffix}") as temporary:
            if original is not None and not changed and suffix.lower() == source.suffix.lower():
                shutil.copyfile(source, temporary)
                return
            shown = seen(image).whole()
            pixels = _patched(source, shown, changed) if original is not None else None
            self._save(temporary, shown if pixels is None else pixels, source)

    def join(
        self,
        output: Path,
        *,
        source: Path | None = None,  # noqa: ARG002
        part: bool = False,  # noqa: ARG002
        titles: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> list[str]:
        """Put the pictures in place: in the folder `output`, or as the file of that name.

        Each appears under its final name in one step. `source`, `part` and `titles` mean nothing
        to pictures.

        Raises:
            InputError: There are none, or `output` cannot be written.
        """
        finished = self._finished()
        if not finished:
            raise InputError(f"not one picture to write to {output}")
        if output.suffix.lower() in PICTURES and len(self.album.paths) == 1:
            _place(finished[0], output)
            return self._notes
        if output.is_dir() and any(output.samefile(path.parent) for path in self.album.paths):
            raise InputError(
                f"{output} is where the pictures come from; they would be lost",
                hint="name another folder with --output",
            )
        for path in finished:
            name = self.album.paths[int(path.stem)].with_suffix(path.suffix).name
            _place(path, output / name)
        return self._notes

    def discard(self) -> None:
        """Remove the pictures that are kept."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished(self) -> list[Path]:
        """Return the pictures that are there, in order."""
        return sorted(path for path in self.folder.glob("[0-9]*") if path.stem.isdecimal())

    def _save(self, path: Path, pixels: AnyArray, source: Path) -> None:
        """Encode a picture, with what its source says of its colours and its making."""
        if pixels.dtype == np.uint16:
            order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
            encoded, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(pixels, order))
            assert encoded
            path.write_bytes(data.tobytes())
            return
        kept = _kept_of(source)
        suffix = path.suffix.lower()
        if suffix in (".jpg", ".jpeg"):
            kept |= {"quality": _percent(self._quality), "subsampling": 0}
        elif suffix in (".webp", ".avif"):
            kept |= {"quality": _percent(self._quality)}
        opaque = suffix in (".jpg", ".jpeg", ".ppm", ".bmp") and pixels.shape[2] == 4
        Pillow.fromarray(pixels[..., :3] if opaque else pixels).save(path, **kept)


def _percent(quality: int) -> int:
    """Return the quality as pictures have it: 100 for 0, 95 for the default, 50 for the worst."""
    return round(float(np.interp(quality, [0, DEFAULT_QUALITY, WORST], [100, 95, 50])))


def _patched(source: Path, image: Image, changed: Sequence[Area]) -> AnyArray | None:
    """Return the source's own pixels with the changed areas from `image`.

    RGB or RGBA, uint8 or uint16; None where the file has another layout, or is not upright.
    """
    data = np.frombuffer(source.read_bytes(), dtype=np.uint8)
    own = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if own is None or own.ndim != 3 or own.dtype not in (np.uint8, np.uint16):
        return None
    if own.shape[:2] != image.shape[:2] or _is_turned(source):
        return None
    order = cv2.COLOR_BGRA2RGBA if own.shape[2] == 4 else cv2.COLOR_BGR2RGB
    pixels = cv2.cvtColor(own, order)
    scale = 257 if pixels.dtype == np.uint16 else 1
    for left, top, right, bottom in changed:
        part = image[max(0, top) : bottom, max(0, left) : right]
        pixels[max(0, top) : bottom, max(0, left) : right, :3] = part.astype(pixels.dtype) * scale
    return pixels


_ORIENTATION = 0x0112
"""EXIF's number of the tag that says how a picture lies."""


def _is_turned(source: Path) -> bool:
    """Return whether a picture is stored otherwise than it is shown."""
    with Pillow.open(source) as opened:
        return bool(opened.getexif().get(_ORIENTATION, 1) != 1)


def _kept_of(source: Path) -> dict[str, Any]:
    """Return the colour profile and the notes of a picture's making, which is upright now."""
    try:
        with Pillow.open(source) as opened:
            upright = ImageOps.exif_transpose(opened)
            kept = {"icc_profile": opened.info.get("icc_profile"), "exif": upright.getexif()}
    except OSError:  # a form of file that only OpenCV reads
        return {}
    return {name: value for name, value in kept.items() if value}


def _place(finished: Path, output: Path) -> None:
    """Copy a finished picture to its final name in one step."""
    with replacing(output) as temporary:
        shutil.copyfile(finished, temporary)
