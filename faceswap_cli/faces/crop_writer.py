"""Crops and their records on disk, resumable at any frame: `CropWriter`.

A few threads make and write crops; a record is appended when its crop and all records before it
are written. Every `CHECKPOINT_INTERVAL_S` all of it is flushed to the disk, and then the progress
file is replaced. After an interruption of any kind the work after that checkpoint is repeated, to
the same bytes: later records are cut off, and later crops are overwritten.
"""

import hashlib
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

from faceswap_cli.core.fileio import (
    DamagedFileError,
    atomic_write,
    fsync,
    hard_link_or_copy,
    parse_fraction,
    read_json,
    translate_os_errors,
    write_json,
)
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.crops import FILE_EXTENSIONS, CropFile, make_crop
from faceswap_cli.faces.occlusion import VisibleFaceModel
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.video.frame import Frame

CHECKPOINT_INTERVAL_S = 2.0
"""At most this much work is repeated after a power cut."""
MAX_PENDING_CROPS = 8
"""Crops that may wait to be written before `CropWriter.add` waits, too."""
HASHED_BYTES = 1 << 20
"""Read at a time to hash the records."""
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
        self._occlusion = VisibleFaceModel.load(folder.visible_face_weights)
        self.face_count = 0
        """Faces added, in this run and those before it."""
        self.resumed_progress: Progress | None = None
        """The last checkpoint of the runs before that is whole; None: there was none."""
        self.damaged: list[Path] = []
        """Files of the runs before that have changed since they were written."""

    def __enter__(self) -> Self:
        """Remove what is beyond the last checkpoint, and open the file of records."""
        records_path = self._folder.records
        _remove_temp_files(self._folder.root)
        with translate_os_errors(records_path):
            self._resume()
            progress = self.resumed_progress or {"faces": 0, "bytes": 0}
            self.face_count = progress["faces"]
            self._file = records_path.open("ab")
            self._file.truncate(progress["bytes"])
            digest = _hash_file(records_path)
        self._appender = _RecordAppender(file=self._file, folder=self._folder, digest=digest)
        self._encoders = ThreadPoolExecutor(max_workers=ENCODER_THREADS)
        self._writer = ThreadPoolExecutor(max_workers=1)
        self._pending: deque[Future[None]] = deque()
        self._last_checkpoint_s = time.monotonic()
        return self

    def _resume(self) -> None:
        """Find the last checkpoint that is whole, with records that are."""
        for path in (self._folder.progress, self._folder.previous_progress):
            try:
                self.resumed_progress = _read_progress(path, self._folder.records)
            except FileNotFoundError:
                continue
            except DamagedFileError as error:
                self.damaged.append(error.path)
                continue
            return

    @property
    def records_sha256(self) -> str:
        """The digest of the records that are written so far."""
        return self._appender.digest.hexdigest()

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
            with suppress(OSError):  # a full disk also refuses what is still buffered
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
        crop = make_crop(
            frame,
            face,
            path=path,
            input_index=input_index,
            settings=self._settings,
            occlusion=self._occlusion,
        )
        if not self._appender.has_failed:
            with atomic_write(crop.path, durable=False) as temporary:
                temporary.write_bytes(crop.content)
        return crop


@dataclass(kw_only=True)
class _RecordAppender:
    """Appends records in order, in a thread of its own."""

    file: BinaryIO
    folder: SetFolder
    digest: "hashlib._Hash"
    """Of all records."""
    unsynced: list[Path] = field(default_factory=list)
    """Crops that may not be on the disk yet."""
    has_failed: bool = False
    """A crop could not be written: a record after it would make the next run skip it."""

    def append(self, crop_future: "Future[CropFile]") -> None:
        """Append the record of a crop once that is written."""
        with translate_os_errors(self.folder.records):
            if self.has_failed:
                return
            try:
                crop = crop_future.result()
                line = crop.record.to_json().encode() + b"\n"
                self.file.write(line)
                self.file.flush()
                self.digest.update(line)
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
            records = {
                "bytes": os.fstat(self.file.fileno()).st_size,
                "records_sha256": self.digest.hexdigest(),
            }
            if self.folder.progress.exists():
                hard_link_or_copy(self.folder.progress, self.folder.previous_progress)
            write_json(self.folder.progress, {**progress, **records})
        except BaseException:
            self.has_failed = True
            raise

    def _flush(self) -> None:
        """Flush the crops and their records to the disk."""
        with translate_os_errors(self.folder.records):
            for path in self.unsynced:
                with suppress(FileNotFoundError):  # deleted by the user meanwhile
                    fsync(path)
            self.unsynced.clear()
            fsync(self.folder.root)
            os.fsync(self.file.fileno())


def _remove_temp_files(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while writing them."""
    name = r"\.((\d+-)?\d+-\d+|source|progress|progress-1)-\w{8}\.(png|jpg|toml|json)"
    for path in folder.iterdir():
        if re.fullmatch(name, path.name):
            path.unlink()


def _read_progress(path: Path, records: Path) -> Progress:
    """Return a checkpoint whose records are as it left them.

    Raises:
        FileNotFoundError: There is none.
        DamagedFileError: It, or the records, have changed since; records can also be missing.
    """
    progress = read_json(path)
    try:
        size, digest = int(progress["bytes"]), progress.get("records_sha256")
        if size < 0 or int(progress["faces"]) < 0:
            raise ValueError("less than nothing")
        if "frame" in progress:
            parse_fraction(progress["time"])
        found = _hash_file(records, size)
    except FileNotFoundError as error:
        raise DamagedFileError(records) from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise DamagedFileError(path) from error
    if records.stat().st_size < size or (digest is not None and digest != found.hexdigest()):
        raise DamagedFileError(records)
    return progress


def _hash_file(path: Path, size: int | None = None) -> "hashlib._Hash":
    """Return the hash of the first `size` bytes of a file, or of all."""
    with path.open("rb") as file:
        total = hashlib.sha256()
        while block := file.read(HASHED_BYTES if size is None else min(HASHED_BYTES, size)):
            total.update(block)
            size = None if size is None else size - len(block)
        return total
