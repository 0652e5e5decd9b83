"""A set growing on the disk: crops, their lines, and how far the work got; nothing of videos.

Whatever stops the work, it can be gone on with to the same bytes. Crops are made and written by a
few threads; a line is appended when its crop is there and all lines before it are. Every
`SYNC_SECONDS` all of it is flushed to the disk, and then a small file is replaced that says how far
that was. What was done after it is done again, in the same way: lines beyond it are cut off, and
crops beyond it are written over.
"""

import json
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from faceswap_cli.faces.record import FaceRecord
from faceswap_cli.files import explained, flush, replacing, write_text

SYNC_SECONDS = 2.0
"""At most this much work is done again after the power went."""
WAITING_CROPS = 8
"""Crops that may wait for the disk before the one who finds them has to."""
THREADS = 2
"""Crops made at a time."""

Progress = Mapping[str, Any]
"""How far the work got, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Crop:
    """A face, ready to be written."""

    path: Path
    content: bytes
    """The picture file."""
    record: FaceRecord


class Journal:
    """Writes the faces of one set; a context manager: all is on the disk after its block.

    Args:
        records: The file of lines.
        progress: The small file.
    """

    def __init__(self, records: Path, *, progress: Path) -> None:
        self._records = records
        self._progress = progress
        self.faces = 0
        """Faces handed over, in this run and those before it."""
        self.progress: Progress | None = None
        """How far the runs before it got; None: nowhere."""

    def __enter__(self) -> Self:
        """Cut off what is beyond the known progress, and open the file."""
        with explained(self._records):
            self.progress, kept = _read(self._progress, self._records)
            self._file = self._records.open("ab")
            self._file.truncate(kept)
        self.faces = self.progress["faces"] if self.progress else 0
        self._clerk = _Clerk(file=self._file, records=self._records, path=self._progress)
        self._makers = ThreadPoolExecutor(max_workers=THREADS)
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[None]] = deque()
        self._synced = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the writing end; what went wrong there is raised unless something else was."""
        try:
            self._wait(fewer_than=0 if error is None else None)
        finally:
            self._makers.shutdown()
            self._writer.shutdown()
            self._file.close()

    def add(self, make: Callable[[], Crop]) -> None:
        """Have a face cut out and written; `make` is called by another thread.

        Raises:
            InputError: A face before it could not be written.
        """
        self._wait(fewer_than=WAITING_CROPS)
        made = self._makers.submit(_written, make, self._clerk)
        self._waiting.append(self._writer.submit(self._clerk.append, made))
        self.faces += 1

    @property
    def is_due(self) -> bool:
        """Whether it is time to say how far the work got."""
        return time.monotonic() - self._synced >= SYNC_SECONDS

    def mark(self, progress: Progress) -> None:
        """Note that the work got this far, as soon as all faces handed over are on the disk."""
        content = {**progress, "faces": self.faces}
        self._waiting.append(self._writer.submit(self._clerk.sync, content))
        self._synced = time.monotonic()

    def settle(self) -> None:
        """Wait until everything handed over is on the disk.

        Raises:
            InputError: Something could not be written.
        """
        self._wait(fewer_than=0)

    def _wait(self, *, fewer_than: int | None) -> None:
        """Wait until few things wait to be written; None: for all, whatever becomes of them."""
        while self._waiting and (fewer_than is None or len(self._waiting) > fewer_than):
            done = self._waiting.popleft()
            if fewer_than is None:
                done.exception()
            else:
                done.result()


@dataclass(kw_only=True)
class _Clerk:
    """Appends lines in order, in a thread of its own."""

    file: BinaryIO
    records: Path
    path: Path
    written: list[Path] = field(default_factory=list)
    """Crops that may not be on the disk yet."""
    is_broken: bool = False
    """A crop could not be written: no line may follow, or the run would never come back for it."""

    def append(self, made: "Future[Crop]") -> None:
        """Append the line of a crop that is there."""
        with explained(self.records):
            if self.is_broken:
                return
            try:
                crop = made.result()
                self.file.write(crop.record.to_json().encode() + b"\n")
                self.file.flush()
                self.written.append(crop.path)
            except BaseException:
                self.is_broken = True
                raise

    def sync(self, progress: Progress) -> None:
        """Put everything on the disk, and then how far that was."""
        if self.is_broken:
            return
        try:
            self._flush()
            size = os.fstat(self.file.fileno()).st_size
            write_text(self.path, json.dumps({**progress, "bytes": size}) + "\n")
        except BaseException:
            self.is_broken = True
            raise

    def _flush(self) -> None:
        """Put the crops and their lines on the disk."""
        with explained(self.records):
            for path in self.written:
                with suppress(FileNotFoundError):  # thrown out by the user meanwhile
                    flush(path)
            self.written.clear()
            flush(self.records.parent)
            os.fsync(self.file.fileno())


def _written(make: Callable[[], Crop], clerk: _Clerk) -> Crop:
    """Make a crop and write its picture."""
    crop = make()
    if not clerk.is_broken:
        with replacing(crop.path, durable=False) as temporary:
            temporary.write_bytes(crop.content)
    return crop


def _read(path: Path, records: Path) -> tuple[Progress | None, int]:
    """Return how far the work got, and how many bytes of lines that was."""
    size = records.stat().st_size if records.exists() else 0
    try:
        progress: Progress = json.loads(path.read_text(encoding="utf-8"))
        kept = int(progress["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0
    # Somebody took lines away: nothing is known of what is missing.
    return (progress, kept) if kept <= size else (None, 0)
