"""What other programs store in the images of aligned faces: `read_face_file`.

deepfakes/faceswap: PNG with a chunk iTXt of the keyword `faceswap`, a dictionary as Python writes
it. DeepFaceLab: JPEG with a segment APP15, a pickled dictionary.
"""

import ast
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import translate_os_errors
from faceswap_cli.core.types import Points
from faceswap_cli.exchange.plain_pickle import UnsafePickleError, read_plain_pickle

FACESWAP, DEEPFACELAB = "faceswap", "DeepFaceLab"
NUM_LANDMARKS = 68
"""Landmarks that both programs store."""
MAX_NAME_LENGTH = 1024
"""Longest name of a frame that is read."""
MAX_TEXT_BYTES = 4 << 20
"""Longest text that is read; most of it are masks."""
PNG_SIGNATURE, JPEG_SIGNATURE = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
APP15, START_OF_SCAN = 0xEF, 0xDA


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceFile:
    """An aligned face of another program."""

    program: str
    """`faceswap` or `DeepFaceLab`."""
    source: str
    """Name of the frame that it was cut from; empty if unknown."""
    landmarks: Points
    """float32 (68, 2): its landmarks, px in that frame."""

    @property
    def order(self) -> tuple[str | int, ...]:
        """A key that sorts faces by their frames, whose names end in numbers."""
        parts = re.split(r"(\d+)", self.source)
        return tuple(int(part) if part.isdecimal() else part for part in parts)


def read_face_file(path: Path) -> FaceFile | None:
    """Return what another program stored in an image; None if it stored nothing.

    Raises:
        InputError: The file cannot be read, or what is stored is damaged or unsafe.
    """
    with translate_os_errors(path), path.open("rb") as file:
        try:
            found = _find_metadata(file)
            return None if found is None else _parse(*found)
        except (UnsafePickleError, KeyError, TypeError, ValueError, struct.error) as error:
            raise InputError(
                f"{path} has face data that cannot be read: {error}",
                hint="remove the file from the folder; only plain values and arrays are read",
            ) from error


def _find_metadata(file: BinaryIO) -> tuple[str, Mapping[str, Any]] | None:
    """Return the program that wrote an image, and the dictionary it stored."""
    start = file.read(len(PNG_SIGNATURE))
    if start == PNG_SIGNATURE:
        for text in _iter_png_texts(file):
            return FACESWAP, _parse_literal(text)
    if start.startswith(JPEG_SIGNATURE):
        file.seek(len(JPEG_SIGNATURE))
        for marker, data in _iter_jpeg_segments(file):
            if marker == APP15:
                return DEEPFACELAB, read_plain_pickle(data)
    return None


def _parse(program: str, stored: Mapping[str, Any]) -> FaceFile:
    """Return the stored face.

    Raises:
        KeyError, TypeError, ValueError: It is not as the program writes it.
    """
    if program == FACESWAP:
        source = stored["source"]["source_filename"]
        points = stored["alignments"]["landmarks_xy"]
    else:
        source, points = stored.get("source_filename") or "", stored["source_landmarks"]
    # A few shared lists in each other would be billions of values as text or as an array.
    if not isinstance(source, str) or len(source) > MAX_NAME_LENGTH:
        raise ValueError("its source is not the name of a file")
    if len(points) != NUM_LANDMARKS or not all(map(_is_point, points)):
        raise ValueError(f"there are not {NUM_LANDMARKS} landmarks")
    return FaceFile(program=program, source=source, landmarks=np.asarray(points, dtype=np.float32))


def _is_point(point: Any) -> bool:  # noqa: ANN401
    """Return whether a value is a pair of finite numbers."""
    return len(point) == 2 and all(math.isfinite(value) for value in point)


def _iter_png_texts(file: BinaryIO) -> Iterator[str]:
    """Yield the texts of the keyword `faceswap` in front of a PNG's pixels."""
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IDAT":
            return
        if kind == b"iTXt" and length <= MAX_TEXT_BYTES:
            keyword, _, rest = file.read(length).partition(b"\0")
            if keyword == FACESWAP.encode() and len(rest) > 2:
                yield _decode_itxt(rest)
            file.seek(4, 1)  # the checksum
        else:
            file.seek(length + 4, 1)


def _decode_itxt(data: bytes) -> str:
    """Return the text after a keyword: flag, method, language, translated keyword, text.

    Raises:
        ValueError: It is compressed text that is damaged or too long.
    """
    is_compressed = data[0] == 1
    _, _, text = data[2:].split(b"\0", 2)
    if is_compressed:
        reader = zlib.decompressobj()
        try:
            text = reader.decompress(text, MAX_TEXT_BYTES)
        except zlib.error as error:
            raise ValueError("its text is damaged") from error
        if not reader.eof:
            raise ValueError("its text is damaged or too long")
    return text.decode("utf-8")


def _parse_literal(text: str) -> Mapping[str, Any]:
    """Return the dictionary of a text, of literals only.

    Raises:
        ValueError: It is not one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its escape sequences
            value = ast.literal_eval(text)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("its text is not a dictionary of plain values") from error
    if not isinstance(value, dict):
        raise ValueError("its text is not a dictionary")
    return value


def _iter_jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of the segments in front of a JPEG's pixels."""
    while len(header := file.read(4)) == 4:
        start, marker, length = struct.unpack(">BBH", header)
        if start != 0xFF or marker == START_OF_SCAN or length < 2:
            return
        yield marker, file.read(length - 2)
