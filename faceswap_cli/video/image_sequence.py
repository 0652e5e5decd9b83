"""Writing an image sequence that can be stopped and resumed (`ImageSequenceWriter`).

    writer = ImageSequenceWriter(folder, source, key=digest_of_settings)
    with writer:
        for frame in source.frames(note=report.note, resume_after=last_one_done):
            writer.write(image, frame.time, original=frame.original, changed=[area])
    notes = writer.finalize(output)

An image in which nothing changes is copied byte for byte; in the others, what does not change keeps
its own levels, its transparency and its 16 bits where the file format does.

A finished image has its number and a digest in its name, in a folder that is named after the
key, until `finalize`: one that has changed meanwhile is not taken for whole.
"""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import (
    DamagedFileError,
    atomic_write,
    fsync,
    make_folder,
    sha256_file,
    translate_os_errors,
)
from faceswap_cli.core.lazy_image import LazyImage, Rect, as_lazy
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.video import DEFAULT_QUALITY
from faceswap_cli.video.codecs import WORST_QUALITY
from faceswap_cli.video.frame import SourceSamples
from faceswap_cli.video.source import IMAGE_SEQUENCE_FPS, IMAGE_SUFFIXES, ImageSequence


@dataclass(frozen=True, kw_only=True)
class FinishedImage:
    """An image that is whole, until the file changes."""

    path: Path
    number: int
    """Of the source's image."""
    digest: str
    """Of the file, 16 hexadecimal digits."""

    @classmethod
    def find(cls, folder: Path) -> Iterator["FinishedImage"]:
        """Yield the images in a folder in order."""
        for path in sorted(folder.iterdir() if folder.is_dir() else ()):
            if match := _FINISHED_NAME.fullmatch(path.name):
                yield cls(path=path, number=int(match[1]), digest=match[2])

    @classmethod
    def publish(cls, unfinished: Path, *, number: int) -> None:
        """Flush an image to the disk and give it its name."""
        name = f"{number:08}-{_compute_digest(unfinished)}"
        fsync(unfinished)
        unfinished.replace(unfinished.with_stem(name))
        fsync(unfinished.parent)

    def copy_to(self, output: Path) -> None:
        """Copy the image to its final name in one step.

        Raises:
            DamagedFileError: It has changed since it was written.
        """
        with atomic_write(output) as temporary:
            shutil.copyfile(self.path, temporary)
            if self.digest != _compute_digest(temporary):
                raise DamagedFileError(self.path)


_FINISHED_NAME = re.compile(r"(\d{8})-([0-9a-f]{16})\..+")
_KEY_NAME = re.compile(r"[0-9a-f]{16}")


def _compute_digest(path: Path) -> str:
    """Return 16 hexadecimal digits of a file's content."""
    return sha256_file(path)[:16]


class ImageSequenceWriter:
    """Images being written, in a folder of their own until all are done.

    Args:
        folder: The folder of unfinished work; created if missing.
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
        name = hashlib.sha256(f"{key} {suffix} {quality}".encode()).hexdigest()[:16]
        self.folder = folder / name
        self._root = folder
        self.source = source
        self._suffix = suffix
        self._quality = quality
        self.damaged: list[str] = []
        """As of `SegmentedWriter`; an image is only read by `finalize`."""
        self._losses: Counter[str] = Counter()
        """What the images written could not keep, and how many of them."""
        if suffix is not None and suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(
                f"cannot write an image that ends in {suffix}",
                hint="images become images: name a .png or .jpg, or a folder for several",
            )
        with translate_os_errors(folder):
            make_folder(self.folder)
            for path in folder.iterdir():
                if path != self.folder and _KEY_NAME.fullmatch(path.name):
                    shutil.rmtree(path)

    @property
    def frames_done(self) -> int:
        """Number of the image to resume with; those before are finished or cannot be read."""
        return max((one.number + 1 for one in FinishedImage.find(self.folder)), default=0)

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
        unfinished = self.folder / f"unfinished{suffix}"
        with atomic_write(unfinished, durable=False) as temporary:
            if original is not None and not changed and suffix.lower() == source.suffix.lower():
                shutil.copyfile(source, temporary)
            else:
                array = as_lazy(image).to_array()
                pixels = _patch_pixels(source, array, changed) if original is not None else None
                self._save(temporary, array if pixels is None else pixels, source)
        with translate_os_errors(self.folder):
            FinishedImage.publish(unfinished, number=number)

    def finalize(self, output: Path) -> list[str]:
        """Put the images in place: in the folder `output`, or as the file of that name.

        Each appears under its final name in one step.

        Raises:
            InputError: There are none, `output` cannot be written, or an image was damaged, which
                is removed with those after it, so the same command makes them again.
        """
        finished = list(FinishedImage.find(self.folder))
        if not finished:
            raise InputError(f"not one image to write to {output}")
        if output.suffix.lower() in IMAGE_SUFFIXES and len(self.source.paths) == 1:
            self._publish(finished[0], output)
            return self._notes()
        if output.is_dir() and any(output.samefile(path.parent) for path in self.source.paths):
            raise InputError(
                f"{output} is the folder of the source's images; they would be lost",
                hint="name another folder with --output",
            )
        names = self.source.relative_paths
        for one in finished:
            self._publish(one, output / names[one.number].with_suffix(one.path.suffix))
        return self._notes()

    def discard(self) -> None:
        """Remove the finished images and their folder."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _publish(self, finished: FinishedImage, output: Path) -> None:
        """Copy a finished image to its final name.

        Raises:
            InputError: It was damaged, or cannot be written.
        """
        try:
            finished.copy_to(output)
        except DamagedFileError as error:
            for one in FinishedImage.find(self.folder):
                if one.number >= finished.number:
                    one.path.unlink()
            raise InputError(
                f"a finished image has been damaged: {error.path}",
                hint="run the same command again: it is made again from that image on",
            ) from error

    def _notes(self) -> list[str]:
        """Return a line for each thing that got lost."""
        return [
            f"{loss}, in {count} image{'s' * (count > 1)}" for loss, count in self._losses.items()
        ]

    def _save(self, path: Path, pixels: AnyArray, source: Path) -> None:
        """Encode an image, with its source's color profile and EXIF data."""
        suffix = path.suffix.lower()
        header = image_io.read_header(source)
        model = "rgb" if header is None else header.color_model
        if model == "gray" and pixels.ndim == 3 and pixels.shape[2] == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)  # not patched, such as side by side
        metadata, is_whole = _read_metadata(source)
        if not is_whole:
            self._losses["damaged EXIF data left out"] += 1
        is_gray = pixels.ndim == 2 or pixels.shape[2] == 2
        if model != ("gray" if is_gray and suffix != ".webp" else "rgb"):
            metadata.pop("icc_profile", None)  # it is for other channels
        if model == "cmyk":
            self._losses["printing inks (CMYK) became RGB"] += 1
        if pixels.dtype == np.uint16:
            if self._save_deep(path, pixels, metadata):
                return
            pixels = (pixels >> 8).astype(np.uint8)
        if suffix in (".jpg", ".jpeg"):
            metadata |= {"quality": _to_percent(self._quality), "subsampling": 0}
        elif suffix in (".webp", ".avif"):
            metadata |= {"quality": _to_percent(self._quality)}
        if suffix in _OPAQUE_SUFFIXES and pixels.ndim == 3:
            pixels = pixels[..., 0] if is_gray else pixels[..., :3]
        Pillow.fromarray(pixels).save(path, **metadata)

    def _save_deep(self, path: Path, pixels: AnyArray, metadata: dict[str, Any]) -> bool:
        """Encode an image of 16 bits; return whether its format has them."""
        suffix = path.suffix.lower()
        if pixels.ndim == 2 and suffix in _DEEP_GRAY_SUFFIXES:
            Pillow.fromarray(pixels).save(path, **metadata)
            return True
        if pixels.ndim == 2 or suffix not in _DEEP_COLOR_SUFFIXES:
            return False
        if suffix != ".png" and "icc_profile" in metadata:
            self._losses[f"no color profile in a {suffix} with 16 bits"] += 1
        order = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        is_png = suffix == ".png"
        kinds = {"exif": cv2.IMAGE_METADATA_EXIF, "icc_profile": cv2.IMAGE_METADATA_ICCP}
        given = {kinds[name]: value for name, value in metadata.items() if is_png}
        encoded, data = cv2.imencodeWithMetadata(
            suffix,
            cv2.cvtColor(pixels, order),
            list(given),
            [np.frombuffer(_to_bytes(value), np.uint8) for value in given.values()],
        )
        if encoded:
            path.write_bytes(data.tobytes())
        return bool(encoded)


_DEEP_COLOR_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".ppm", ".jp2"})
"""Formats in which colors may have 16 bits."""
_DEEP_GRAY_SUFFIXES = _DEEP_COLOR_SUFFIXES | {".pgm"}
_OPAQUE_SUFFIXES = frozenset({".jpg", ".jpeg", ".ppm", ".pgm", ".bmp"})
"""Formats without transparency."""


def _to_bytes(metadata: bytes | Pillow.Exif) -> bytes:
    """Return a color profile or EXIF data, without the prefix that only JPEG has."""
    data = metadata if isinstance(metadata, bytes) else metadata.tobytes()
    return data.removeprefix(b"Exif\0\0")


def _to_percent(quality: int) -> int:
    """Return the quality as image encoders have it: 100 for 0, 95 for the default, 50 at worst."""
    return round(float(np.interp(quality, [0, DEFAULT_QUALITY, WORST_QUALITY], [100, 95, 50])))


def _patch_pixels(source: Path, image: Image, changed: Sequence[Rect]) -> AnyArray | None:
    """Return the source's own pixels, upright, with the changed areas from `image`.

    The result is as in `read_stored_pixels`, None included.
    """
    stored = image_io.read_stored_pixels(source)
    if stored is None or stored.shape[:2] != image.shape[:2]:
        return None
    pixels = stored.copy()
    scale = 257 if pixels.dtype == np.uint16 else 1
    height, width = image.shape[:2]
    for area in changed:
        rows, columns = area.clip((width, height)).slices
        part = image[rows, columns]
        if 0 in part.shape:
            continue
        if pixels.ndim == 2:
            gray = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
            pixels[rows, columns] = gray.astype(pixels.dtype) * scale
        elif pixels.shape[2] == 2:
            pixels[rows, columns, 0] = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
        else:
            pixels[rows, columns, :3] = part.astype(pixels.dtype) * scale
    return pixels


def _read_metadata(source: Path) -> tuple[dict[str, Any], bool]:
    """Return the color profile and EXIF data of an image, upright, and whether all is whole."""
    metadata: dict[str, Any] = {}
    try:
        with Pillow.open(source) as opened:
            if profile := opened.info.get("icc_profile"):
                metadata["icc_profile"] = profile
            exif = ImageOps.exif_transpose(opened).getexif()
            exif.tobytes()  # as saving does it
            if exif:
                metadata["exif"] = exif
    except OSError:  # a file format that only OpenCV reads
        pass
    except Exception:  # damaged EXIF data raises all kinds of errors
        return metadata, False
    return metadata, True
