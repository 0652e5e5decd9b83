"""The faces of a whole clip with their assignments, stored on disk and read in order: `FaceIndex`.

Swapping a frame needs future context (gap filling, shot boundaries), so faces of the whole clip are
tracked first. They are stored in a file, so memory does not grow with the clip and an interrupted
analysis can resume.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from faceswap_cli.conversion.swapper import FaceTask
from faceswap_cli.core.fileio import (
    DamagedFileError,
    make_folder,
    parse_fraction,
    read_json,
    sha256_file,
    translate_os_errors,
    write_json,
)
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import NUM_LANDMARKS
from faceswap_cli.video.frame import Frame, FramePosition

EXCLUDED = -2
"""Assignment of a face whose crop the user deleted; the votes of its neighbors do not change it."""
VOTE_RADIUS = 6
"""Frames before and after that vote on a face's assignment."""
SAVE_INTERVAL_FRAMES = 250
"""Frames after which the progress is saved."""

HASHED_BYTES = 1 << 20
"""Read at a time to hash the rows."""

ROW_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("time", "<i8", (2,)),  # numerator and denominator, seconds
        ("track", "<i4"),
        ("assignment", "<i4"),
        ("to_unit", "<f8", (2, 3)),
        ("landmarks", "<f4", (NUM_LANDMARKS, 2)),
    ]
)
"""One face in one frame."""
Rows = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexedFace:
    """One face in one frame."""

    track: int
    assignment: int
    """Index of its assignment, `UNASSIGNED` or `EXCLUDED`."""
    alignment: FaceAlignment
    landmarks: npt.NDArray[np.float32]
    """(478, 2), px in the frame."""

    @classmethod
    def from_tracked(cls, face: SmoothedFace, assignment: int) -> "IndexedFace":
        """Return a tracked face with its assignment."""
        return cls(
            track=face.track,
            assignment=assignment,
            alignment=face.alignment,
            landmarks=face.face.landmarks,
        )


@dataclass(frozen=True, kw_only=True)
class IndexProgress:
    """How far an index is filled."""

    frames: int = 0
    """Frames analyzed."""
    rows: int = 0
    """Faces in them."""
    position: FramePosition | None = None
    """The last of those frames."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the tracker and the assigner need to continue after it, as JSON."""
    is_finished: bool = False


@dataclass(frozen=True, kw_only=True)
class FaceIndex:
    """The faces of a clip, in two files in a folder."""

    folder: Path
    key: str
    """Identifies the clip and how its faces are selected, detected and tracked."""

    @property
    def _rows_path(self) -> Path:
        """The faces, one `ROW_DTYPE` after the other."""
        return self.folder / "faces.bin"

    @property
    def _state_path(self) -> Path:
        """The progress, as JSON."""
        return self.folder / "faces.json"

    def read_progress(self) -> IndexProgress:
        """Return the progress; that of an index with another key is empty.

        Raises:
            DamagedFileError: A file has changed since it was written.
        """
        try:
            saved = read_json(self._state_path)
        except FileNotFoundError:
            return IndexProgress()
        try:
            if saved.pop("key") != self.key:
                return IndexProgress()
            digest = saved.pop("rows_sha256", None)
            last = saved.pop("place")
            position = FramePosition(index=last[0], time=parse_fraction(last[1])) if last else None
            progress = IndexProgress(state=saved.pop("memory"), position=position, **saved)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            raise DamagedFileError(self._state_path) from error
        if digest is not None and digest != self._hash_rows(progress.rows).hexdigest():
            raise DamagedFileError(self._rows_path)
        return progress

    @contextmanager
    def resume(self, progress: IndexProgress) -> Iterator["FaceIndexWriter"]:
        """Yield a writer for the frames after those of `progress`; rows beyond them are cut off."""
        with translate_os_errors(self._rows_path):
            make_folder(self.folder)
            if not progress.rows:
                # The progress of an older index must not be taken for that of the new rows.
                self._state_path.unlink(missing_ok=True)
            with self._rows_path.open("ab") as file:
                os.truncate(file.fileno(), progress.rows * ROW_DTYPE.itemsize)
                yield FaceIndexWriter(
                    face_index=self,
                    file=file,
                    frames=progress.frames,
                    rows=progress.rows,
                    digest=self._hash_rows(progress.rows),
                )

    def _hash_rows(self, count: int) -> "hashlib._Hash":
        """Return the hash of the first rows; of fewer if there are fewer."""
        total, left = hashlib.sha256(), count * ROW_DTYPE.itemsize
        with suppress(FileNotFoundError), self._rows_path.open("rb") as file:
            while block := file.read(min(left, HASHED_BYTES)):
                total.update(block)
                left -= len(block)
        return total

    def save_progress(self, progress: IndexProgress, *, rows_sha256: str) -> None:
        """Save the progress; the rows, with that digest, must be on the disk."""
        saved = {
            "key": self.key,
            "rows_sha256": rows_sha256,
            "frames": progress.frames,
            "rows": progress.rows,
            "place": progress.position and [progress.position.index, str(progress.position.time)],
            "memory": dict(progress.state),
            "is_finished": progress.is_finished,
        }
        write_json(self._state_path, saved)

    def digest(self) -> str:
        """Return the SHA-256 of all rows, in hexadecimal digits."""
        return sha256_file(self._rows_path)

    def iter_tasks(self, identities: Sequence[str]) -> Iterator[tuple[int, list[FaceTask]]]:
        """Yield the index of each frame with faces to swap, and these faces.

        Args:
            identities: What each assignment swaps in.
        """
        assignments = self._smoothed_assignments()
        rows = zip(self._iter_rows(), assignments, strict=True)
        to_swap = (pair for pair in rows if pair[1] >= 0)
        for frame, pairs in groupby(to_swap, key=lambda pair: int(pair[0]["frame"])):
            yield frame, [_task_from_row(row, identities[index]) for row, index in pairs]

    def frames_to_swap(self) -> frozenset[int]:
        """Return the indices of the frames with faces to swap."""
        (frames,) = self._columns("frame")
        return frozenset(frames[self._smoothed_assignments() >= 0].tolist())

    def sample_frames(
        self, count: int, identities: Sequence[str]
    ) -> list[tuple[FramePosition, list[FaceTask]]]:
        """Return up to `count` frames with faces to swap, spread over the clip, and these faces.

        Args:
            count: Frames; each is the middle of one of `count` equal parts.
            identities: What each assignment swaps in.
        """
        frames = sorted(self.frames_to_swap())
        parts = min(count, len(frames))
        chosen = {frames[len(frames) * (2 * part + 1) // (2 * parts)] for part in range(parts)}
        samples: dict[int, tuple[FramePosition, list[FaceTask]]] = {}
        for row, assignment in zip(self._iter_rows(), self._smoothed_assignments(), strict=True):
            if assignment >= 0 and (frame := int(row["frame"])) in chosen:
                _, tasks = samples.setdefault(frame, (_position_from_row(row), []))
                tasks.append(_task_from_row(row, identities[assignment]))
        return list(samples.values())

    def boxes(self) -> npt.NDArray[np.float32]:
        """Return boxes around all faces, (N, 4): left, top, right, bottom px."""
        boxes = [np.zeros((0, 4), np.float32)]
        for rows in self._iter_chunks():
            points = rows["landmarks"]  # (N, 478, 2)
            boxes.append(np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1))
        return np.concatenate(boxes)

    def tracks(self) -> list[int]:
        """Return the numbers of all tracks, in order."""
        (tracks,) = self._columns("track")
        return [int(track) for track in np.unique(tracks)]

    def position_before(self, frame: int) -> FramePosition | None:
        """Return the position of the last frame with a face before index `frame`, if any."""
        last = None
        for row in self._iter_rows():
            if row["frame"] >= frame:
                break
            last = row
        return None if last is None else _position_from_row(last)

    def _smoothed_assignments(self) -> IntArray:
        """Return the smoothed assignment of every row."""
        return smooth_assignments(*self._columns("frame", "track", "assignment"))

    def _columns(self, *names: str) -> list[IntArray]:
        """Return some columns of all rows; they are small."""
        # Copied chunk by chunk: a view of several fields would keep the whole rows in memory.
        chunks = [[rows[name].astype(np.int64) for name in names] for rows in self._iter_chunks()]
        empty = [np.zeros(0, np.int64)] * len(names)
        return [np.concatenate(column) for column in zip(empty, *chunks, strict=True)]

    def _iter_rows(self) -> Iterator[np.void]:
        """Yield the rows."""
        for rows in self._iter_chunks():
            yield from rows

    def _iter_chunks(self) -> Iterator[Rows]:
        """Yield 64 rows at a time: a quarter of a megabyte, however long the clip is."""
        with self._rows_path.open("rb") as file:
            while len(rows := np.fromfile(file, dtype=ROW_DTYPE, count=64)):
                yield rows


@dataclass(kw_only=True)
class FaceIndexWriter:
    """Appends the faces of frames to an index."""

    face_index: FaceIndex
    file: BinaryIO
    frames: int
    rows: int
    digest: "hashlib._Hash"
    """Of all rows."""

    def write(self, position: FramePosition, faces: Iterable[IndexedFace]) -> None:
        """Add the next frame with its faces."""
        rows = [_to_row(position, face) for face in faces]
        for row in rows:
            self.file.write(row.tobytes())
            self.digest.update(row.tobytes())
        self.frames += 1
        self.rows += len(rows)

    def save(
        self,
        position: FramePosition | None,
        *,
        state: Mapping[str, Any] = MappingProxyType({}),
        is_finished: bool = False,
    ) -> None:
        """Flush the rows to the disk and save the progress: up to the frame at `position`."""
        self.file.flush()
        os.fsync(self.file.fileno())
        progress = IndexProgress(
            frames=self.frames,
            rows=self.rows,
            position=position,
            state=state,
            is_finished=is_finished,
        )
        self.face_index.save_progress(progress, rows_sha256=self.digest.hexdigest())


def smooth_assignments(frames: IntArray, tracks: IntArray, assignments: IntArray) -> IntArray:
    """Return each face's assignment by majority over `VOTE_RADIUS` frames of its track either way.

    So a face that is briefly misassigned does not flicker. Excluded faces stay excluded and have no
    vote.

    Args:
        frames: Frame index of each face (N,), ascending.
        tracks: Track of each (N,).
        assignments: Assignment of each (N,).
    """
    result = assignments.copy()
    candidates = [int(one) for one in np.unique(assignments) if one != EXCLUDED]
    for track in np.unique(tracks):
        rows = np.flatnonzero((tracks == track) & (assignments != EXCLUDED))
        frame, own = frames[rows], assignments[rows]
        first = np.searchsorted(frame, frame - VOTE_RADIUS)
        end = np.searchsorted(frame, frame + VOTE_RADIUS, side="right")
        votes = []
        for candidate in candidates:
            total = np.concatenate([[0], np.cumsum(own == candidate)])
            # Half a vote more for the current one, so that a tie changes nothing.
            votes.append(total[end] - total[first] + 0.5 * (own == candidate))
        if votes and len(rows):
            result[rows] = np.array(candidates)[np.argmax(votes, axis=0)]
    return result


def join_faces(
    frames: Iterable[Frame], tasks: Iterator[tuple[int, list[FaceTask]]]
) -> Iterator[tuple[Frame, Sequence[FaceTask]]]:
    """Yield every frame with its faces to swap; both inputs are in order."""
    index, faces = next(tasks, _END)
    for frame in frames:
        while index < frame.index:
            index, faces = next(tasks, _END)
        yield frame, faces if index == frame.index else []


_END: tuple[float, list[FaceTask]] = (float("inf"), [])


def _to_row(position: FramePosition, face: IndexedFace) -> Rows:
    """Return a face as stored."""
    time = position.time.numerator, position.time.denominator
    values = (
        position.index,
        time,
        face.track,
        face.assignment,
        face.alignment.to_unit,
        face.landmarks,
    )
    return np.array(values, dtype=ROW_DTYPE)


def _position_from_row(row: np.void) -> FramePosition:
    """Return the position of a stored face's frame."""
    return FramePosition(index=int(row["frame"]), time=Fraction(*map(int, row["time"])))


def _task_from_row(row: np.void, identity: str) -> FaceTask:
    """Return a stored face as a task."""
    return FaceTask(
        identity=identity,
        track=int(row["track"]),
        landmarks=np.array(row["landmarks"], dtype=np.float32),
        alignment=FaceAlignment(to_unit=np.array(row["to_unit"], dtype=np.float64)),
    )
