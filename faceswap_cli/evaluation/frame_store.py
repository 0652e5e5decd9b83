"""Pictures put aside on the disk until it is known which of them are wanted."""

from collections.abc import Mapping
from typing import IO


class FrameStore:
    """Small pictures of every frame, kept until the worst are known.

    Args:
        file: Where they lie; empty, open for writing and reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._entries: list[dict[str, tuple[int, int]]] = []

    def append(self, images: Mapping[str, bytes]) -> None:
        """Keep the pictures of the next frame: the bytes of files by what they show."""
        places = {}
        for name, data in images.items():
            places[name] = (self._file.tell(), len(data))
            self._file.write(data)
        self._entries.append(places)

    def read(self, index: int) -> dict[str, bytes]:
        """Return the pictures of a frame."""
        found = {}
        for name, (start, length) in self._entries[index].items():
            self._file.seek(start)
            found[name] = self._file.read(length)
        return found
