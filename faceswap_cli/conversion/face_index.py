"""Which faces of a clip become whose: found from end to end first, on the disk, read in order.

Whoever swaps a frame must know what comes after it: where a face was seen again, whether a shot
ends. What is known of every face goes to a file, so memory does not grow with the clip, and a
survey that was stopped goes on.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from faceswap_cli.conversion.swapper import FaceTask
from faceswap_cli.core.fileio import sha256_file, translate_os_errors, write_text
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import NUM_LANDMARKS
from faceswap_cli.video.frame import Frame, FramePosition

EXCLUDED = -2
"""The role of a face whose crop the user deleted: no vote of its neighbours changes that."""
VOTE_RADIUS = 6
"""Frames before and after that have a vote in whose a face becomes."""
SAVE_INTERVAL_FRAMES = 250
"""Frames after which it is put down how far the survey is."""

ROW_DTYPE = np.dtype(
    [
        ("frame", "<i8"),
        ("time", "<i8", (2,)),  # numerator and denominator, seconds
        ("track", "<i4"),
        ("role", "<i4"),
        ("to_unit", "<f8", (2, 3)),
        ("landmarks", "<f4", (NUM_LANDMARKS, 2)),
    ]
)
"""One face in one frame."""
Rows = npt.NDArray[np.void]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class IndexedFace:
    """One face in one frame, as a survey keeps it."""

    track: int
    assignment: int
    """Number of the role it has, `NOBODY` or `EXCLUDED`."""
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
    """How far a survey is."""

    frames: int = 0
    """Frames looked at."""
    rows: int = 0
    """Faces found in them."""
    position: FramePosition | None = None
    """The last of those frames."""
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the tracker and the assigner need to continue after it, as JSON."""
    is_finished: bool = False


@dataclass(frozen=True, kw_only=True)
class FaceIndex:
    """The faces of a clip, in two files of a folder."""

    folder: Path
    key: str
    """What tells these faces from all others: the footage, and how they are looked for."""

    @property
    def _rows_path(self) -> Path:
        """Every face, one row after the other."""
        return self.folder / "faces.bin"

    @property
    def _state_path(self) -> Path:
        """How far it is."""
        return self.folder / "faces.json"

    def read_progress(self) -> IndexProgress:
        """Return how far the survey is; nothing is done of one with another key, or a torn one."""
        try:
            told = json.loads(self._state_path.read_text(encoding="utf-8"))
            held = self._rows_path.stat().st_size // ROW_DTYPE.itemsize
            if told.pop("key") != self.key or held < told["rows"]:
                return IndexProgress()
            place = told.pop("place")
            last = FramePosition(index=place[0], time=Fraction(place[1])) if place else None
            return IndexProgress(state=told.pop("memory"), position=last, **told)
        except (OSError, ValueError, KeyError, TypeError):
            return IndexProgress()

    @contextmanager
    def resume(self, progress: IndexProgress) -> Iterator["FaceIndexWriter"]:
        """Yield what takes the faces of the frames after those in `progress`, in order."""
        with translate_os_errors(self._rows_path):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not progress.rows:
                # The state of an older index must not come to vouch for the new rows.
                self._state_path.unlink(missing_ok=True)
            with self._rows_path.open("ab") as file:
                os.truncate(file.fileno(), progress.rows * ROW_DTYPE.itemsize)
                yield FaceIndexWriter(
                    face_index=self, file=file, frames=progress.frames, rows=progress.rows
                )

    def save_progress(self, progress: IndexProgress) -> None:
        """Put down how far the survey is; the faces must be on the disk."""
        told = {
            "key": self.key,
            "frames": progress.frames,
            "rows": progress.rows,
            "place": progress.position and [progress.position.index, str(progress.position.time)],
            "memory": dict(progress.state),
            "is_finished": progress.is_finished,
        }
        write_text(self._state_path, json.dumps(told))

    def digest(self) -> str:
        """Return the SHA-256 of all that is known, in hexadecimal digits."""
        return sha256_file(self._rows_path)

    def iter_tasks(self, identities: Sequence[str]) -> Iterator[tuple[int, list[FaceTask]]]:
        """Yield the number of a frame and its faces to be swapped, for all frames with any.

        Args:
            identities: Whose face each role gets.
        """
        roles = self._smoothed_assignments()
        to_swap = (pair for pair in zip(self._iter_rows(), roles, strict=True) if pair[1] >= 0)
        for frame, some in groupby(to_swap, key=lambda pair: int(pair[0]["frame"])):
            yield frame, [_task_from_row(row, identities[role]) for row, role in some]

    def frames_to_swap(self) -> frozenset[int]:
        """Return the numbers of the frames with a face to be swapped."""
        (frames,) = self._columns("frame")
        return frozenset(frames[self._smoothed_assignments() >= 0].tolist())

    def sample_frames(
        self, count: int, identities: Sequence[str]
    ) -> list[tuple[FramePosition, list[FaceTask]]]:
        """Return up to `count` frames with faces to be swapped, and these, all over the clip.

        Args:
            count: Frames; the middles of equal parts of all that have any.
            identities: Whose face each role gets.
        """
        frames = sorted(self.frames_to_swap())
        parts = min(count, len(frames))
        chosen = {frames[len(frames) * (2 * part + 1) // (2 * parts)] for part in range(parts)}
        found: dict[int, tuple[FramePosition, list[FaceTask]]] = {}
        for row, role in zip(self._iter_rows(), self._smoothed_assignments(), strict=True):
            if role >= 0 and (number := int(row["frame"])) in chosen:
                _, faces = found.setdefault(number, (_position_from_row(row), []))
                faces.append(_task_from_row(row, identities[role]))
        return list(found.values())

    def boxes(self) -> npt.NDArray[np.float32]:
        """Return boxes around all faces, (N, 4): left, top, right, bottom px."""
        found = [np.zeros((0, 4), np.float32)]
        for rows in self._iter_chunks():
            points = rows["landmarks"]  # (N, 478, 2)
            found.append(np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1))
        return np.concatenate(found)

    def tracks(self) -> list[int]:
        """Return the numbers of all tracks."""
        (tracks,) = self._columns("track")
        return [int(track) for track in np.unique(tracks)]

    def position_before(self, frame: int) -> FramePosition | None:
        """Return the last frame before number `frame` whose place is known, if there is one."""
        found = None
        for row in self._iter_rows():
            if row["frame"] >= frame:
                break
            found = row
        return None if found is None else _position_from_row(found)

    def _smoothed_assignments(self) -> IntArray:
        """Return the settled role of every row."""
        return smooth_assignments(*self._columns("frame", "track", "role"))

    def _columns(self, *names: str) -> list[IntArray]:
        """Return some columns of all rows; they are small."""
        # Copied chunk by chunk: several fields at once would be a view that keeps whole rows.
        pieces = [[rows[name].astype(np.int64) for name in names] for rows in self._iter_chunks()]
        nothing = [np.zeros(0, np.int64)] * len(names)
        return [np.concatenate(column) for column in zip(nothing, *pieces, strict=True)]

    def _iter_rows(self) -> Iterator[np.void]:
        """Yield the rows."""
        for rows in self._iter_chunks():
            yield from rows

    def _iter_chunks(self) -> Iterator[Rows]:
        """Yield the rows some at a time: a quarter of a megabyte, however long the clip is."""
        with self._rows_path.open("rb") as file:
            while len(rows := np.fromfile(file, dtype=ROW_DTYPE, count=64)):
                yield rows


@dataclass(kw_only=True)
class FaceIndexWriter:
    """Appends the faces of frames to a survey."""

    face_index: FaceIndex
    file: BinaryIO
    frames: int
    rows: int

    def write(self, position: FramePosition, faces: Iterable[IndexedFace]) -> None:
        """Add the next frame with the faces found in it."""
        rows = [_to_row(position, face) for face in faces]
        for row in rows:
            self.file.write(row.tobytes())
        self.frames += 1
        self.rows += len(rows)

    def save(
        self,
        position: FramePosition | None,
        *,
        state: Mapping[str, Any] = MappingProxyType({}),
        is_finished: bool = False,
    ) -> None:
        """Put everything on the disk, and say how far it is: after the frame at `position`."""
        self.file.flush()
        os.fsync(self.file.fileno())
        progress = IndexProgress(
            frames=self.frames,
            rows=self.rows,
            position=position,
            state=state,
            is_finished=is_finished,
        )
        self.face_index.save_progress(progress)


def smooth_assignments(frames: IntArray, tracks: IntArray, assignments: IntArray) -> IntArray:
    """Return each face's role as most of its track's next `VOTE_RADIUS` frames either way have it.

    So a face that was not recognised for a moment does not flash up as itself, nor somebody else's
    for a moment as another. Who is left alone stays so, and has no vote.

    Args:
        frames: The frame of each face (N,), growing.
        tracks: The track of each (N,).
        assignments: The role of each (N,).
    """
    result = assignments.copy()
    kinds = [int(kind) for kind in np.unique(assignments) if kind != EXCLUDED]
    for track in np.unique(tracks):
        whose = np.flatnonzero((tracks == track) & (assignments != EXCLUDED))
        when, own = frames[whose], assignments[whose]
        first = np.searchsorted(when, when - VOTE_RADIUS)
        beyond = np.searchsorted(when, when + VOTE_RADIUS, side="right")
        votes = []
        for kind in kinds:
            total = np.concatenate([[0], np.cumsum(own == kind)])
            # A half more for what it is: an even vote changes nothing.
            votes.append(total[beyond] - total[first] + 0.5 * (own == kind))
        if votes and len(whose):
            result[whose] = np.array(kinds)[np.argmax(votes, axis=0)]
    return result


def join_faces(
    frames: Iterable[Frame], tasks: Iterator[tuple[int, list[FaceTask]]]
) -> Iterator[tuple[Frame, Sequence[FaceTask]]]:
    """Yield every frame with its faces, both in order."""
    number, here = next(tasks, _END)
    for frame in frames:
        while number < frame.index:
            number, here = next(tasks, _END)
        yield frame, here if number == frame.index else []


_END: tuple[float, list[FaceTask]] = (float("inf"), [])


def _to_row(position: FramePosition, face: IndexedFace) -> Rows:
    """Return a face as it is kept."""
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
    """Return where the frame of a face is."""
    return FramePosition(index=int(row["frame"]), time=Fraction(*map(int, row["time"])))


def _task_from_row(row: np.void, identity: str) -> FaceTask:
    """Return a face as it was kept."""
    return FaceTask(
        identity=identity,
        track=int(row["track"]),
        landmarks=np.array(row["landmarks"], dtype=np.float32),
        alignment=FaceAlignment(to_unit=np.array(row["to_unit"], dtype=np.float64)),
    )
