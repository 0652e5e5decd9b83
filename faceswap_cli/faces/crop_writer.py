"""Crops and their records on disk, resumable at any frame: `CropWriter`.

A few threads make and write crops; a record is appended when its crop and all records before it
are written. Every `CHECKPOINT_INTERVAL_S` all of it is flushed to the disk, and then the progress
file is replaced. After an interruption of any kind the work after that checkpoint is repeated, to
the same bytes: later records are cut off, and later crops are overwritten.
"""

import json
import os
import re
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from faceswap_cli.core.fileio import atomic_write, fsync, translate_os_errors, write_text
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.crops import FILE_EXTENSIONS, CropFile, make_crop
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.video.frame import Frame

CHECKPOINT_INTERVAL_S = 2.0
"""At most this much work is repeated after a power cut."""
MAX_PENDING_CROPS = 8
"""Crops that may wait to be written before `CropWriter.add` waits, too."""
ENCODER_THREADS = 2
"""Crops made at a time."""

Progress = Mapping[str, Any]
"""How far the work got, as JSON can hold it."""


class CropWriter:
    """Writes the faces of one set; a context manager: all is on the disk after its block.

    Args:
        folder: The set; its folder exists.
        settings: Size, framing and format of the crops.
    """

    def __init__(self, folder: SetFolder, settings: ExtractSettings) -> None:
        self._folder = folder
        self._settings = settings
        self.face_count = 0
        """Faces added, in this run and those before it."""
        self.resumed_progress: Progress | None = None
        """The last checkpoint of the runs before; None: there was none."""

    def __enter__(self) -> Self:
        """Remove what is beyond the last checkpoint, and open the file of records."""
        records_path = self._folder.records
        _remove_temp_files(self._folder.root)
        with translate_os_errors(records_path):
            self.resumed_progress, size = _read_progress(self._folder.progress, records_path)
            self._file = records_path.open("ab")
            self._file.truncate(size)
        self.face_count = self.resumed_progress["faces"] if self.resumed_progress else 0
        self._appender = _RecordAppender(
            file=self._file, records_path=records_path, progress_path=self._folder.progress
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
        """Finish writing; an error there is raised unless the block raised another."""
        try:
            self._wait(at_most=0 if error is None else None)
        finally:
            self._encoders.shutdown()
            self._writer.shutdown()
            self._file.close()

    def add(self, frame: Frame, face: SmoothedFace, *, input_index: int, face_index: int) -> None:
        """Cut a face out and write it, in other threads.

        Args:
            frame: The frame.
            face: One of its faces.
            input_index: Which of the set's inputs the frame is of, counted from 0.
            face_index: Which of the frame's faces it is, counted from 0.

        Raises:
            InputError: A face before it could not be written.
        """
        self._wait(at_most=MAX_PENDING_CROPS)
        kind = FILE_EXTENSIONS[self._settings.format]
        path = self._folder.crop_path(frame.index, face_index, source=input_index, kind=kind)
        crop = self._encoders.submit(self._write_crop, frame, face, path, input_index)
        self._pending.append(self._writer.submit(self._appender.append, crop))
        self.face_count += 1

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the last checkpoint is `CHECKPOINT_INTERVAL_S` ago."""
        return time.monotonic() - self._last_checkpoint_s >= CHECKPOINT_INTERVAL_S

    def checkpoint(self, progress: Progress) -> None:
        """Write the progress, as soon as all faces added so far are on the disk."""
        content = {**progress, "faces": self.face_count}
        self._pending.append(self._writer.submit(self._appender.sync, content))
        self._last_checkpoint_s = time.monotonic()

    def drain(self) -> None:
        """Wait until everything added is on the disk.

        Raises:
            InputError: Something could not be written.
        """
        self._wait(at_most=0)

    def _wait(self, *, at_most: int | None) -> None:
        """Wait until at most `at_most` writes are pending; None waits for all, ignoring errors."""
        while self._pending and (at_most is None or len(self._pending) > at_most):
            done = self._pending.popleft()
            if at_most is None:
                done.exception()
            else:
                done.result()

    def _write_crop(
        self, frame: Frame, face: SmoothedFace, path: Path, input_index: int
    ) -> CropFile:
        """Make a crop and write its image, unless an earlier write failed."""
        crop = make_crop(frame, face, path=path, input_index=input_index, settings=self._settings)
        if not self._appender.has_failed:
            with atomic_write(crop.path, durable=False) as temporary:
                temporary.write_bytes(crop.content)
        return crop


@dataclass(kw_only=True)
class _RecordAppender:
    """Appends records in order, in a thread of its own."""

    file: BinaryIO
    records_path: Path
    progress_path: Path
    unsynced: list[Path] = field(default_factory=list)
    """Crops that may not be on the disk yet."""
    has_failed: bool = False
    """A crop could not be written: a record after it would make the next run skip it."""

    def append(self, crop_future: "Future[CropFile]") -> None:
        """Append the record of a crop once that is written."""
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
        """Flush everything to the disk, then replace the progress file."""
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
        """Flush the crops and their records to the disk."""
        with translate_os_errors(self.records_path):
            for path in self.unsynced:
                with suppress(FileNotFoundError):  # deleted by the user meanwhile
                    fsync(path)
            self.unsynced.clear()
            fsync(self.records_path.parent)
            os.fsync(self.file.fileno())


def _remove_temp_files(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while writing them."""
    name = r"\.((\d+-)?\d+-\d+|source|progress)-\w{8}\.(png|jpg|toml|json)"
    for path in folder.iterdir():
        if re.fullmatch(name, path.name):
            path.unlink()


def _read_progress(progress_path: Path, records_path: Path) -> tuple[Progress | None, int]:
    """Return the last checkpoint, if any, and the size in bytes of the records then."""
    size = records_path.stat().st_size if records_path.exists() else 0
    try:
        progress: Progress = json.loads(progress_path.read_text(encoding="utf-8"))
        checkpoint_size = int(progress["bytes"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None, 0
    # With records missing, the checkpoint is not to be trusted.
    return (progress, checkpoint_size) if checkpoint_size <= size else (None, 0)
