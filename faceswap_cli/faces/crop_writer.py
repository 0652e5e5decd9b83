"""A set growing on the disk: crops, their lines, and how far the work got; nothing of videos.

Whatever stops the work, it can be gone on with to the same bytes. Crops are made and written by a
few threads; a line is appended when its crop is there and all lines before it are. Every
`CHECKPOINT_INTERVAL_S` all of it is flushed to the disk, and then a small file is replaced that says how far
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
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

from faceswap_cli.core import image_io
from faceswap_cli.core.fileio import atomic_write, fsync, translate_os_errors, write_text
from faceswap_cli.core.types import Image
from faceswap_cli.faces.dataset import FaceRecord

CROP_ENCODERS: Mapping[str, Callable[[Image], bytes]] = MappingProxyType(
    {
        "png": partial(image_io.encode_png, is_photo=True),
        "jpeg": partial(image_io.encode_jpeg, quality=95),
    }
)
"""Encoders of crops by the name of their format."""
FILE_EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": "png", "jpeg": "jpg"})
"""File extensions of the formats."""

CHECKPOINT_INTERVAL_S = 2.0
"""At most this much work is done again after the power went."""
MAX_PENDING_CROPS = 8
"""Crops that may wait for the disk before the one who finds them has to."""
ENCODER_THREADS = 2
"""Crops made at a time."""

Progress = Mapping[str, Any]
"""How far the work got, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CropFile:
    """A face, ready to be written."""

    path: Path
    content: bytes
    """The picture file."""
    record: FaceRecord


class CropWriter:
    """Writes the faces of one set; a context manager: all is on the disk after its block.

    Args:
        records_path: The file of lines.
        progress_path: The small file.
    """

    def __init__(self, records_path: Path, *, progress_path: Path) -> None:
        self._records_path = records_path
        self._progress_path = progress_path
        self.face_count = 0
        """Faces handed over, in this run and those before it."""
        self.resumed_progress: Progress | None = None
        """How far the runs before it got; None: nowhere."""

    def __enter__(self) -> Self:
        """Cut off what is beyond the known progress, and open the file."""
        with translate_os_errors(self._records_path):
            self.resumed_progress, kept = _read_progress(self._progress_path, self._records_path)
            self._file = self._records_path.open("ab")
            self._file.truncate(kept)
        self.face_count = self.resumed_progress["faces"] if self.resumed_progress else 0
        self._appender = _RecordAppender(
            file=self._file, records_path=self._records_path, progress_path=self._progress_path
        )
        self._encoders = ThreadPoolExecutor(max_workers=ENCODER_THREADS)
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: deque[Future[None]] = deque()
        self._last_checkpoint_s = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let the writing end; what went wrong there is raised unless something else was."""
        try:
            self._wait(at_most=0 if error is None else None)
        finally:
            self._encoders.shutdown()
            self._writer.shutdown()
            self._file.close()

    def add(self, make_crop: Callable[[], CropFile]) -> None:
        """Have a face cut out and written; `make_crop` is called by another thread.

        Raises:
            InputError: A face before it could not be written.
        """
        self._wait(at_most=MAX_PENDING_CROPS)
        made = self._encoders.submit(_write_crop, make_crop, self._appender)
        self._pending.append(self._writer.submit(self._appender.append, made))
        self.face_count += 1

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether it is time to say how far the work got."""
        return time.monotonic() - self._last_checkpoint_s >= CHECKPOINT_INTERVAL_S

    def checkpoint(self, progress: Progress) -> None:
        """Note that the work got this far, as soon as all faces handed over are on the disk."""
        content = {**progress, "faces": self.face_count}
        self._pending.append(self._writer.submit(self._appender.sync, content))
        self._last_checkpoint_s = time.monotonic()

    def drain(self) -> None:
        """Wait until everything handed over is on the disk.

        Raises:
            InputError: Something could not be written.
        """
        self._wait(at_most=0)

    def _wait(self, *, at_most: int | None) -> None:
        """Wait until few things wait to be written; None: for all, whatever becomes of them."""
        while self._pending and (at_most is None or len(self._pending) > at_most):
            done = self._pending.popleft()
            if at_most is None:
                done.exception()
            else:
                done.result()


@dataclass(kw_only=True)
class _RecordAppender:
    """Appends lines in order, in a thread of its own."""

    file: BinaryIO
    records_path: Path
    progress_path: Path
    unsynced: list[Path] = field(default_factory=list)
    """Crops that may not be on the disk yet."""
    has_failed: bool = False
    """A crop could not be written: no line may follow, or the run would never come back for it."""

    def append(self, crop_future: "Future[CropFile]") -> None:
        """Append the line of a crop that is there."""
        with translate_os_errors(self.records_path):
            if self.has_failed:
                return
            try:
                crop = crop_future.result()
                self.file.write(crop.record.to_json().encode() + b"\n")
                self.file.flush()
                self.unsynced.append(crop.path)
            except BaseException:
                self.has_failed = True
                raise

    def sync(self, progress: Progress) -> None:
        """Put everything on the disk, and then how far that was."""
        if self.has_failed:
            return
        try:
            self._flush()
            size = os.fstat(self.file.fileno()).st_size
            write_text(self.progress_path, json.dumps({**progress, "bytes": size}) + "\n")
        except BaseException:
            self.has_failed = True
            raise

    def _flush(self) -> None:
        """Put the crops and their lines on the disk."""
        with translate_os_errors(self.records_path):
            for path in self.unsynced:
                with suppress(FileNotFoundError):  # thrown out by the user meanwhile
                    fsync(path)
            self.unsynced.clear()
            fsync(self.records_path.parent)
            os.fsync(self.file.fileno())


def _write_crop(make_crop: Callable[[], CropFile], appender: _RecordAppender) -> CropFile:
    """Make a crop and write its picture."""
    crop = make_crop()
    if not appender.has_failed:
        with atomic_write(crop.path, durable=False) as temporary:
            temporary.write_bytes(crop.content)
    return crop


def _read_progress(progress_path: Path, records_path: Path) -> tuple[Progress | None, int]:
    """Return how far the work got, and how many bytes of lines that was."""
    size = records_path.stat().st_size if records_path.exists() else 0
    try:
        progress: Progress = json.loads(progress_path.read_text(encoding="utf-8"))
        kept = int(progress["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0
    # Somebody took lines away: nothing is known of what is missing.
    return (progress, kept) if kept <= size else (None, 0)
