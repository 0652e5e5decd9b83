"""Faces held steady over time: who is who from frame to frame, and where, without the jitter.

It knows landmarks and alignments, nothing of pictures: a cut between shots is told by the caller.

Landmarks tremble by a part of a pixel from frame to frame, and a face cut out by them trembles with
them. Each face's place (log of the size, angle, x, y) is therefore replaced by the value of a
parabola laid through its neighbours in time (W. S. Cleveland, "Robust locally weighted regression
and smoothing scatterplots", JASA 74, 1979), before and after alike: nothing lags, and steady and
evenly accelerated motion stay as they are.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from faceswap_cli.faces.align import FaceAlignment, align
from faceswap_cli.faces.detect import Face
from faceswap_cli.faces.region import overlaps

Item = TypeVar("Item")
Array = npt.NDArray[np.float64]

REACH = 6
"""Frames before and after that have a say in where a face is."""
PATIENCE = 5
"""Frames in a row that a face may be missing and still be the same."""
SAME_FACE = 0.3
"""Intersection over union of the boxes of one face in two frames is larger than this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Steady:
    """A face, and where it lies without the jitter."""

    face: Face
    alignment: FaceAlignment
    track: int
    """The same number for the same face as long as it is followed, counted from 0."""
    is_interpolated: bool = False
    """Nobody saw it in this frame: it lies between where it was before and after."""


def steadied(
    looked: Iterable[tuple[Item, Sequence[Face]]], *, is_cut: Callable[[Item, Item], bool]
) -> Iterator[tuple[Item, list[Steady]]]:
    """Yield every frame with its faces held steady, `REACH` frames after it came in.

    Args:
        looked: Frames of any kind, in the order of showing, with their faces.
        is_cut: Whether another shot begins with the second of two frames in a row.
    """
    window: deque[_Seen[Item]] = deque()
    tracks = _Tracks()
    before: Item | None = None
    due = 0
    for number, (item, faces) in enumerate(looked):
        if before is not None and is_cut(before, item):
            tracks.forget()
        before = item
        named = [(tracks.name(face, number), face, places(align(face.landmarks))) for face in faces]
        window.append(_Seen(number=number, item=item, faces=named))
        while window[0].number < due - REACH:
            window.popleft()
        if number >= due + REACH:
            yield _steady(window, due)
            due += 1
    while window and due <= window[-1].number:
        yield _steady(window, due)
        due += 1


@dataclass(frozen=True, kw_only=True, eq=False)
class _Seen(Generic[Item]):
    """A frame with its faces: track, face, places."""

    number: int
    item: Item
    faces: Sequence[tuple[int, Face, Array]]


@dataclass(kw_only=True)
class _Tracks:
    """The faces that were there a moment ago."""

    count: int = 0
    last: dict[int, tuple[int, Face]] = field(default_factory=dict)
    """Track -> the number of the last frame it was seen in, and the face there."""

    def forget(self) -> None:
        """Begin another shot: nobody is who they were."""
        self.last.clear()

    def name(self, face: Face, number: int) -> int:
        """Return the track of a face in frame `number`: the one it overlaps most, or a new one."""
        open_tracks = {
            track: seen
            for track, (when, seen) in self.last.items()
            if 0 < number - when <= PATIENCE + 1
        }
        boxes = np.array([seen.box for seen in open_tracks.values()]).reshape(-1, 2, 2)
        shared = overlaps(boxes, face.box.reshape(2, 2))
        if shared.size and shared.max() > SAME_FACE:
            track = list(open_tracks)[int(shared.argmax())]
        else:
            track, self.count = self.count, self.count + 1
        self.last[track] = (number, face)
        return track


def _steady(window: Sequence[_Seen[Item]], number: int) -> tuple[Item, list[Steady]]:
    """Return the frame `number` of the window with its faces held steady."""
    here = next(seen for seen in window if seen.number == number)
    near = [seen for seen in window if abs(seen.number - number) <= REACH]
    faces = []
    for track, face, _ in here.faces:
        pairs = [
            (seen.number - number, where)
            for seen in near
            for other, _, where in seen.faces
            if other == track
        ]
        apart = np.array([offset for offset, _ in pairs], dtype=np.float64)
        where = smoothed(apart, np.stack([where for _, where in pairs]))
        faces.append(Steady(face=face, alignment=from_places(where), track=track))
    return here.item, faces


def smoothed(apart: Array, values: Array) -> Array:
    """Return the value (K,) at 0 of the parabola that lies best through values (N, K).

    Args:
        apart: Frames from here (N,), growing, 0 among them; the near ones count more.
        values: What was measured there. The second column is an angle in radians.
    """
    values = values.copy()
    values[:, 1] = np.unwrap(values[:, 1])
    # At a track's end a line would tremble less, and miss a head that is just speeding up.
    degree = min(2, len(apart) - 1)
    weights = np.sqrt((1 - (np.abs(apart) / (REACH + 1)) ** 3) ** 3)
    powers = apart[:, None] ** np.arange(degree + 1)
    fitted, *_ = np.linalg.lstsq(powers * weights[:, None], values * weights[:, None], rcond=None)
    return np.asarray(fitted[0], dtype=np.float64)


def places(alignment: FaceAlignment) -> Array:
    """Return where an aligned square lies: log of its side in px, angle, x and y of its centre."""
    corners = alignment.corners().astype(np.float64)
    across = corners[1] - corners[0]
    angle = math.atan2(across[1], across[0])
    return np.array([math.log(alignment.side_px), angle, *corners.mean(axis=0)])


def from_places(values: Array) -> FaceAlignment:
    """Return the alignment whose `places` these are."""
    log_side, angle, x, y = (float(value) for value in values)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]]) * math.exp(-log_side)
    return FaceAlignment(to_unit=np.column_stack([turn, [0.5, 0.5] - turn @ [x, y]]))
