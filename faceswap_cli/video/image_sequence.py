"""Writing an image sequence that can be stopped and resumed (`ImageSequenceWriter`).

    writer = ImageSequenceWriter(folder, source, key=digest_of_settings)
    with writer:
        for frame in source.frames(note=report.note, resume_after=last_one_done):
            writer.write(image, frame.time, original=frame.original, changed=[area])
    notes = writer.finalize(output)

An image in which nothing changes is copied byte for byte; in the others, what does not change keeps
its own levels, its transparency and its 16 bits where the file format does.
"""

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import atomic_write, translate_os_errors, write_text
from faceswap_cli.core.lazy_image import LazyImage, Rect, as_lazy
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video import DEFAULT_QUALITY
from faceswap_cli.video.codecs import WORST_QUALITY
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.source import IMAGE_SEQUENCE_FPS, IMAGE_SUFFIXES, ImageSequence


class ImageSequenceWriter:
    """Images being written, in a folder of their own until all are done.

    Args:
        folder: The folder of finished images; created if missing.
        source: The images they are made from.
        key: Digest of what decides what they show: settings, model. Images of another key are
            removed.
        suffix: The file format to write; None keeps each image's own.
        quality: On the scale of `codecs`, for lossy formats.
    """

    def __init__(
        self,
        folder: Path,
        source: ImageSequence,
        *,
        key: str,
        suffix: str | None = None,
        quality: int = DEFAULT_QUALITY,
    ) -> None:
        self.folder = folder
        self.source = source
        self._suffix = suffix
        self._quality = quality
        self._notes: list[str] = []
        if suffix is not None and suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(
                f"cannot write an image that ends in {suffix}",
                hint="images become images: name a .png or .jpg, or a folder for several",
            )
        key_path, full_key = folder / "key.txt", f"{key} {suffix} {quality}"
        with translate_os_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not key_path.is_file() or key_path.read_text(encoding="utf-8") != full_key:
                for path in self._finished_files():
                    path.unlink()
                write_text(key_path, full_key)

    @property
    def frames_done(self) -> int:
        """Number of the image to resume with; those before are finished or cannot be read."""
        return max((int(path.stem) + 1 for path in self._finished_files()), default=0)

    def __enter__(self) -> Self:
        """Start or resume writing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the images written so far; none is open between two calls of `write`."""

    def write(
        self,
        image: Image | LazyImage,
        time: Fraction,
        *,
        original: SourceSamples | Path | None = None,
        changed: Sequence[Rect] = (),
    ) -> None:
        """Add an image.

        Args:
            image: uint8 RGB (H, W, 3), or a lazy one.
            time: Time of the source's frame, which gives its number.
            original: The image's file (`Frame.original`). If it is given, everything outside of
                `changed` is taken from it.
            changed: The areas, px, to take from `image` instead.

        Raises:
            InputError: The disk is full.
        """
        number = round(time * IMAGE_SEQUENCE_FPS)
        source = self.source.paths[number]
        suffix = self._suffix or source.suffix
        with atomic_write(self.folder / f"{number:08}{suffix}") as temporary:
            if original is not None and not changed and suffix.lower() == source.suffix.lower():
                shutil.copyfile(source, temporary)
                return
            array = as_lazy(image).to_array()
            pixels = _patch_pixels(source, array, changed) if original is not None else None
            self._save(temporary, array if pixels is None else pixels, source)

    def finalize(self, output: Path) -> list[str]:
        """Put the images in place: in the folder `output`, or as the file of that name.

        Each appears under its final name in one step.

        Raises:
            InputError: There are none, or `output` cannot be written.
        """
        finished = self._finished_files()
        if not finished:
            raise InputError(f"not one image to write to {output}")
        if output.suffix.lower() in IMAGE_SUFFIXES and len(self.source.paths) == 1:
            _copy_into_place(finished[0], output)
            return self._notes
        if output.is_dir() and any(output.samefile(path.parent) for path in self.source.paths):
            raise InputError(
                f"{output} is the folder of the source's images; they would be lost",
                hint="name another folder with --output",
            )
        for path in finished:
            name = self.source.paths[int(path.stem)].with_suffix(path.suffix).name
            _copy_into_place(path, output / name)
        return self._notes

    def discard(self) -> None:
        """Remove the finished images and their folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _finished_files(self) -> list[Path]:
        """Return the finished images in order."""
        return sorted(path for path in self.folder.glob("[0-9]*") if path.stem.isdecimal())

    def _save(self, path: Path, pixels: AnyArray, source: Path) -> None:
        """Encode an image, with its source's color profile and EXIF data."""
        if pixels.dtype == np.uint16:
            order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
            encoded, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(pixels, order))
            assert encoded
            path.write_bytes(data.tobytes())
            return
        options = _read_metadata(source)
        suffix = path.suffix.lower()
        if suffix in (".jpg", ".jpeg"):
            options |= {"quality": _to_percent(self._quality), "subsampling": 0}
        elif suffix in (".webp", ".avif"):
            options |= {"quality": _to_percent(self._quality)}
        opaque = suffix in (".jpg", ".jpeg", ".ppm", ".bmp") and pixels.shape[2] == 4
        Pillow.fromarray(pixels[..., :3] if opaque else pixels).save(path, **options)


def _to_percent(quality: int) -> int:
    """Return the quality as image encoders have it: 100 for 0, 95 for the default, 50 at worst."""
    return round(float(np.interp(quality, [0, DEFAULT_QUALITY, WORST_QUALITY], [100, 95, 50])))


def _patch_pixels(source: Path, image: Image, changed: Sequence[Rect]) -> AnyArray | None:
    """Return the source's own pixels with the changed areas from `image`.

    RGB or RGBA, uint8 or uint16; None where the file has another layout, or is stored rotated.
    """
    data = np.frombuffer(source.read_bytes(), dtype=np.uint8)
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 3 or stored.dtype not in (np.uint8, np.uint16):
        return None
    if stored.shape[:2] != image.shape[:2] or _is_rotated(source):
        return None
    order = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
    pixels = cv2.cvtColor(stored, order)
    scale = 257 if pixels.dtype == np.uint16 else 1
    height, width = image.shape[:2]
    for area in changed:
        rows, columns = area.clip((width, height)).slices
        pixels[rows, columns, :3] = image[rows, columns].astype(pixels.dtype) * scale
    return pixels


_ORIENTATION = 0x0112
"""EXIF's number of the orientation tag."""


def _is_rotated(source: Path) -> bool:
    """Return whether an image is stored rotated or mirrored."""
    with Pillow.open(source) as opened:
        return bool(opened.getexif().get(_ORIENTATION, 1) != 1)


def _read_metadata(source: Path) -> dict[str, Any]:
    """Return the color profile and the EXIF data of an image, for its upright pixels."""
    try:
        with Pillow.open(source) as opened:
            upright = ImageOps.exif_transpose(opened)
            metadata = {"icc_profile": opened.info.get("icc_profile"), "exif": upright.getexif()}
    except OSError:  # a file format that only OpenCV reads
        return {}
    return {name: value for name, value in metadata.items() if value}


def _copy_into_place(finished: Path, output: Path) -> None:
    """Copy a finished image to its final name in one step."""
    with atomic_write(output) as temporary:
        shutil.copyfile(finished, temporary)
