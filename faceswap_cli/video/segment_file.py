"""The file of one segment of a video: encoded packets, then an index (`SegmentWriter`, `Segment`).

A segment gets its name when it is whole and on the disk. Its last bytes say where the index is, and
checksums cover every byte, so neither half a segment nor a damaged one is ever taken for whole.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from faceswap_cli.core.fileio import fsync
from faceswap_cli.video.encoder import EncodedPacket

_MAGIC = b"FSPIECE1"
_FOOTER = struct.Struct("<QII8s")
"""Position of the index, checksums of the packets and of the index, and the magic."""
SEGMENT_SUFFIX = ".piece"


class DamagedSegmentError(Exception):
    """A segment whose bytes have changed since it was written."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A whole segment on the disk."""

    path: Path
    key: str
    """Digest of its settings: segments of different keys are never concatenated."""
    first_frame: int
    """Number of its first frame."""
    pts: tuple[int, ...]
    """Presentation times of the packets, in the order of storing."""
    sizes: tuple[int, ...]
    keyframes: tuple[bool, ...]
    checksum: int

    @property
    def end_frame(self) -> int:
        """Number of the frame after its last one."""
        return self.first_frame + len(self.pts)

    @classmethod
    def read(cls, path: Path) -> "Segment | None":
        """Return the segment in the file at `path`, or None if it is not a whole one."""
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                file.seek(max(0, size - _FOOTER.size))
                start, checksum, index_sum, magic = _FOOTER.unpack(file.read(_FOOTER.size))
                file.seek(start)
                index = file.read(size - _FOOTER.size - start)
            if magic != _MAGIC or zlib.crc32(index) != index_sum:
                return None
            entries = json.loads(index)
            return cls(
                path=path,
                key=entries["key"],
                first_frame=entries["first"],
                pts=tuple(entries["ticks"]),
                sizes=tuple(entries["sizes"]),
                keyframes=tuple(map(bool, entries["keys"])),
                checksum=checksum,
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError, struct.error):
            return None

    def packets(self) -> Iterator[EncodedPacket]:
        """Yield the packets in the order of storing.

        Raises:
            DamagedSegmentError: The file has changed since it was written.
        """
        checksum = 0
        with self.path.open("rb") as file:
            for tick, size, is_key in zip(self.pts, self.sizes, self.keyframes, strict=True):
                data = file.read(size)
                checksum = zlib.crc32(data, checksum)
                yield EncodedPacket(pts=tick, is_keyframe=is_key, data=data)
        if checksum != self.checksum:
            raise DamagedSegmentError(self.path.name)


class SegmentWriter:
    """A segment being written, under another name until `finish`.

    Args:
        path: Its name once it is whole.
        key: Digest of its settings.
        first_frame: Number of its first frame.
    """

    def __init__(self, path: Path, *, key: str, first_frame: int) -> None:
        self.path = path
        self._key = key
        self._first_frame = first_frame
        self._temporary = path.with_suffix(".part")
        self._index: list[tuple[int, int, bool]] = []
        self._checksum = 0
        self._file: BinaryIO = self._temporary.open("wb")

    def write(self, packets: Sequence[EncodedPacket]) -> None:
        """Append packets."""
        for packet in packets:
            self._file.write(packet.data)
            self._checksum = zlib.crc32(packet.data, self._checksum)
            self._index.append((packet.pts, len(packet.data), packet.is_keyframe))

    def finish(self) -> None:
        """Flush everything to the disk, then give the segment its name."""
        ticks, sizes, keys = zip(*self._index, strict=True)
        entries = {"key": self._key, "first": self._first_frame}
        entries |= {"ticks": ticks, "sizes": sizes, "keys": [int(key) for key in keys]}
        index = json.dumps(entries, separators=(",", ":")).encode()
        start = self._file.tell()
        self._file.write(index)
        self._file.write(_FOOTER.pack(start, self._checksum, zlib.crc32(index), _MAGIC))
        self._file.close()
        fsync(self._temporary)
        self._temporary.replace(self.path)
        fsync(self.path.parent)

    def abort(self) -> None:
        """Remove the unfinished file."""
        with suppress(OSError):  # a full disk also refuses what is still buffered
            self._file.close()
        self._temporary.unlink(missing_ok=True)
