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

from faceswap_cli.faces.align import FaceAlignment
from faceswap_cli.faces.detect import LANDMARKS
from faceswap_cli.files import digest, explained, write_text
from faceswap_cli.swap.frame import FaceToSwap
from faceswap_cli.video.footage import Place
from faceswap_cli.video.reader import Frame

LEFT_ALONE = -2
"""The role of a face whose crop the user deleted: no vote of its neighbours changes that."""
SETTLING = 6
"""Frames before and after that have a vote in whose a face becomes."""
SAVE_EVERY = 250
"""Frames after which it is put down how far the survey is."""

ROW = np.dtype(
    [
        ("frame", "<i8"),
        ("time", "<i8", (2,)),  # numerator and denominator, seconds
        ("track", "<i4"),
        ("role", "<i4"),
        ("to_unit", "<f8", (2, 3)),
        ("landmarks", "<f4", (LANDMARKS, 2)),
    ]
)
"""One face in one frame."""
Rows = npt.NDArray[np.void]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """One face in one frame, as a survey keeps it."""

    track: int
    role: int
    """Number of the role it has, `NOBODY` or `LEFT_ALONE`."""
    alignment: FaceAlignment
    landmarks: npt.NDArray[np.float32]
    """(478, 2), px in the frame."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a survey is."""

    frames: int = 0
    """Frames looked at."""
    rows: int = 0
    """Faces found in them."""
    place: Place | None = None
    """The last of those frames."""
    memory: Mapping[str, Any] = field(default_factory=dict)
    """What is to be known to go on after it."""
    is_finished: bool = False


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The faces of a clip, in two files of a folder."""

    folder: Path
    key: str
    """What tells these faces from all others: the footage, and how they are looked for."""

    @property
    def _rows(self) -> Path:
        """Every face, one row after the other."""
        return self.folder / "faces.bin"

    @property
    def _state(self) -> Path:
        """How far it is."""
        return self.folder / "faces.json"

    def progress(self) -> Progress:
        """Return how far the survey is; nothing is done of one with another key, or a torn one."""
        try:
            told = json.loads(self._state.read_text(encoding="utf-8"))
            held = self._rows.stat().st_size // ROW.itemsize
            if told.pop("key") != self.key or held < told["rows"]:
                return Progress()
            place = told.pop("place")
            last = Place(index=place[0], time=Fraction(place[1])) if place else None
            return Progress(**told, place=last)
        except (OSError, ValueError, KeyError, TypeError):
            return Progress()

    @contextmanager
    def going_on(self, begun: Progress) -> Iterator["SurveyWriter"]:
        """Yield what takes the faces of the frames after those in `begun`, in order."""
        with explained(self._rows):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._rows.open("ab") as file:
                os.truncate(file.fileno(), begun.rows * ROW.itemsize)
                yield SurveyWriter(survey=self, file=file, frames=begun.frames, rows=begun.rows)

    def put_down(self, progress: Progress) -> None:
        """Put down how far the survey is; the faces must be on the disk."""
        told = {
            "key": self.key,
            "frames": progress.frames,
            "rows": progress.rows,
            "place": progress.place and [progress.place.index, str(progress.place.time)],
            "memory": dict(progress.memory),
            "is_finished": progress.is_finished,
        }
        write_text(self._state, json.dumps(told))

    def digest(self) -> str:
        """Return the SHA-256 of all that is known, in hexadecimal digits."""
        return digest(self._rows)

    def faces(self, people: Sequence[str]) -> Iterator[tuple[int, list[FaceToSwap]]]:
        """Yield the number of a frame and its faces to be swapped, for all frames with any.

        Args:
            people: Whose face each role gets.
        """
        roles = self._roles()
        to_swap = (pair for pair in zip(self._read(), roles, strict=True) if pair[1] >= 0)
        for frame, some in groupby(to_swap, key=lambda pair: int(pair[0]["frame"])):
            yield frame, [_face(row, people[role]) for row, role in some]

    def swapped(self) -> frozenset[int]:
        """Return the numbers of the frames with a face to be swapped."""
        (frames,) = self._columns("frame")
        return frozenset(frames[self._roles() >= 0].tolist())

    def moments(self, count: int, people: Sequence[str]) -> list[tuple[Place, list[FaceToSwap]]]:
        """Return up to `count` frames with faces to be swapped, and these, all over the clip.

        Args:
            count: Frames; the middles of equal parts of all that have any.
            people: Whose face each role gets.
        """
        frames = sorted(self.swapped())
        parts = min(count, len(frames))
        chosen = {frames[len(frames) * (2 * part + 1) // (2 * parts)] for part in range(parts)}
        found: dict[int, tuple[Place, list[FaceToSwap]]] = {}
        for row, role in zip(self._read(), self._roles(), strict=True):
            if role >= 0 and (number := int(row["frame"])) in chosen:
                _, faces = found.setdefault(number, (_place(row), []))
                faces.append(_face(row, people[role]))
        return list(found.values())

    def boxes(self) -> npt.NDArray[np.float32]:
        """Return boxes around all faces, (N, 4): left, top, right, bottom px."""
        found = [np.zeros((0, 4), np.float32)]
        for rows in self._chunks():
            points = rows["landmarks"]  # (N, 478, 2)
            found.append(np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1))
        return np.concatenate(found)

    def missing(self, roles: int) -> list[int]:
        """Return the numbers, of so many roles, that nobody has."""
        return sorted(set(range(roles)) - set(self._roles().tolist()))

    def tracks(self) -> list[int]:
        """Return the numbers of all tracks."""
        (tracks,) = self._columns("track")
        return [int(track) for track in np.unique(tracks)]

    def before(self, frame: int) -> Place | None:
        """Return the last frame before number `frame` whose place is known, if there is one."""
        found = None
        for row in self._read():
            if row["frame"] >= frame:
                break
            found = row
        return None if found is None else _place(found)

    def _roles(self) -> Integers:
        """Return the settled role of every row."""
        return settled(*self._columns("frame", "track", "role"))

    def _columns(self, *names: str) -> list[Integers]:
        """Return some columns of all rows; they are small."""
        # Copied chunk by chunk: several fields at once would be a view that keeps whole rows.
        pieces = [[rows[name].astype(np.int64) for name in names] for rows in self._chunks()]
        nothing = [np.zeros(0, np.int64)] * len(names)
        return [np.concatenate(column) for column in zip(nothing, *pieces, strict=True)]

    def _read(self) -> Iterator[np.void]:
        """Yield the rows."""
        for rows in self._chunks():
            yield from rows

    def _chunks(self) -> Iterator[Rows]:
        """Yield the rows some at a time: a quarter of a megabyte, however long the clip is."""
        with self._rows.open("rb") as file:
            while len(rows := np.fromfile(file, dtype=ROW, count=64)):
                yield rows


@dataclass(kw_only=True)
class SurveyWriter:
    """Appends the faces of frames to a survey."""

    survey: Survey
    file: BinaryIO
    frames: int
    rows: int

    def write(self, place: Place, found: Iterable[Found]) -> None:
        """Add the next frame with the faces found in it."""
        rows = [_row(place, face) for face in found]
        for row in rows:
            self.file.write(row.tobytes())
        self.frames += 1
        self.rows += len(rows)

    def save(
        self,
        place: Place | None,
        *,
        memory: Mapping[str, Any] = MappingProxyType({}),
        is_finished: bool = False,
    ) -> None:
        """Put everything on the disk, and say how far it is: after the frame at `place`."""
        self.file.flush()
        os.fsync(self.file.fileno())
        progress = Progress(
            frames=self.frames,
            rows=self.rows,
            place=place,
            memory=memory,
            is_finished=is_finished,
        )
        self.survey.put_down(progress)


def settled(frames: Integers, tracks: Integers, roles: Integers) -> Integers:
    """Return each face's role as most of its track's next `SETTLING` frames either way have it.

    So a face that was not recognised for a moment does not flash up as itself, nor somebody else's
    for a moment as another. Who is left alone stays so, and has no vote.

    Args:
        frames: The frame of each face (N,), growing.
        tracks: The track of each (N,).
        roles: The role of each (N,).
    """
    result = roles.copy()
    kinds = [int(kind) for kind in np.unique(roles) if kind != LEFT_ALONE]
    for track in np.unique(tracks):
        whose = np.flatnonzero((tracks == track) & (roles != LEFT_ALONE))
        when, own = frames[whose], roles[whose]
        first = np.searchsorted(when, when - SETTLING)
        beyond = np.searchsorted(when, when + SETTLING, side="right")
        votes = []
        for kind in kinds:
            total = np.concatenate([[0], np.cumsum(own == kind)])
            # A half more for what it is: an even vote changes nothing.
            votes.append(total[beyond] - total[first] + 0.5 * (own == kind))
        if votes and len(whose):
            result[whose] = np.array(kinds)[np.argmax(votes, axis=0)]
    return result


def paired(
    frames: Iterable[Frame], faces: Iterator[tuple[int, list[FaceToSwap]]]
) -> Iterator[tuple[Frame, Sequence[FaceToSwap]]]:
    """Yield every frame with its faces, both in order."""
    number, here = next(faces, _NO_MORE)
    for frame in frames:
        while number < frame.index:
            number, here = next(faces, _NO_MORE)
        yield frame, here if number == frame.index else []


_NO_MORE: tuple[float, list[FaceToSwap]] = (float("inf"), [])


def _row(place: Place, face: Found) -> Rows:
    """Return a face as it is kept."""
    time = place.time.numerator, place.time.denominator
    values = (place.index, time, face.track, face.role, face.alignment.to_unit, face.landmarks)
    return np.array(values, dtype=ROW)


def _place(row: np.void) -> Place:
    """Return where the frame of a face is."""
    return Place(index=int(row["frame"]), time=Fraction(*map(int, row["time"])))


def _face(row: np.void, to: str) -> FaceToSwap:
    """Return a face as it was kept."""
    return FaceToSwap(
        to=to,
        track=int(row["track"]),
        landmarks=np.array(row["landmarks"], dtype=np.float32),
        alignment=FaceAlignment(to_unit=np.array(row["to_unit"], dtype=np.float64)),
    )
