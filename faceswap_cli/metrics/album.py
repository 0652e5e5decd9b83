"""Pictures put aside on the disk until it is known which of them are wanted."""

from collections.abc import Mapping
from typing import IO


class Album:
    """Small pictures of every frame, kept until the worst are known.

    Args:
        file: Where they lie; empty, open for writing and reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[dict[str, tuple[int, int]]] = []

    def keep(self, shown: Mapping[str, bytes]) -> None:
        """Keep the pictures of the next frame: the bytes of files by what they show."""
        places = {}
        for name, data in shown.items():
            places[name] = (self._file.tell(), len(data))
            self._file.write(data)
        self._places.append(places)

    def pictures(self, index: int) -> dict[str, bytes]:
        """Return the pictures of a frame."""
        found = {}
        for name, (start, length) in self._places[index].items():
            self._file.seek(start)
            found[name] = self._file.read(length)
        return found
