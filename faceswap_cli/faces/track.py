"""Faces held steady over time: where a followed face lies, without the jitter and the gaps.

It knows landmarks and alignments, nothing of pictures: who is who is told by the caller.

Landmarks tremble by a part of a pixel from frame to frame, and a face cut out by them trembles with
them. Each face's place (log of the size, angle, x, y) is therefore replaced by the value of a
parabola laid through its neighbours in time (W. S. Cleveland, "Robust locally weighted regression
and smoothing scatterplots", JASA 74, 1979), before and after alike: nothing lags, and steady and
evenly accelerated motion stay as they are. A face that was missed in a few frames is put between
where it was before and after, and marked.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.faces.align import FaceAlignment, align
from faceswap_cli.faces.detect import LANDMARKS, Face

Array = npt.NDArray[np.float64]

REACH = 6
"""Frames before and after that have a say in where a face is; the missing ones in a gap are fewer.
"""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Sighting:
    """A face where it was seen last."""

    number: int
    """The frame, counted from the first that was looked at."""
    face: Face

    @cached_property
    def place(self) -> Array:
        """Where its aligned square lies, see `places`."""
        return places(align(self.face.landmarks))


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Who is in a frame, and who was a moment ago."""

    number: int
    """The frame, counted from the first that was looked at."""
    shot: int
    """The shot it belongs to: tracks end where one does."""
    count: int
    """Tracks begun so far."""
    seen: Mapping[int, Sighting]
    """Track -> where it was seen last, for those that may still go on."""

    @classmethod
    def empty(cls) -> Self:
        """Return what is before the first frame."""
        return cls(number=-1, shot=-1, count=0, seen={})

    @property
    def faces(self) -> dict[int, Face]:
        """Track -> the face, for those seen in this very frame."""
        return {track: seen.face for track, seen in self.here.items()}

    @cached_property
    def here(self) -> dict[int, Sighting]:
        """Track -> the sighting, for those of this very frame."""
        return {track: seen for track, seen in self.seen.items() if seen.number == self.number}

    def open_at(self, number: int, *, patience: int) -> dict[int, Sighting]:
        """Return the tracks that may go on in frame `number`, after `patience` missed at most."""
        return {
            track: seen for track, seen in self.seen.items() if number - seen.number <= patience + 1
        }

    def to_json(self, earlier: Mapping[int, Sighting]) -> dict[str, Any]:
        """Return the frame, and who else was found in it later, as JSON can hold it exactly."""
        return {
            "number": self.number,
            "shot": self.shot,
            "count": self.count,
            "faces": [_to_json(track, seen) for track, seen in self.here.items()],
            "earlier": [_to_json(track, seen) for track, seen in earlier.items()],
        }

    @classmethod
    def from_json(
        cls, fields: Mapping[str, Any], *, before: "Scene", patience: int
    ) -> tuple[Self, dict[int, Sighting]]:
        """Read back what `to_json` put down, having the frame before it."""
        number, shot = fields["number"], fields["shot"]
        known = before.open_at(number, patience=max(0, patience)) if shot == before.shot else {}
        now, earlier = (
            {one["track"]: Sighting(number=number, face=_from_json(one)) for one in some}
            for some in (fields["faces"], fields.get("earlier", ()))
        )
        return cls(number=number, shot=shot, count=fields["count"], seen=known | now), earlier


def with_more(scene: Scene, more: Mapping[int, Sighting]) -> Scene:
    """Return a frame with others in it as well."""
    return replace(scene, seen={**scene.seen, **more}) if more else scene


def steadied(scenes: Sequence[Scene], here: Scene, *, reach: int = REACH) -> list[Steady]:
    """Return the faces of a frame held steady, those with a short gap there filled in.

    Args:
        scenes: Frames around it, in order, itself among them; `reach` before and after, as far as
            there are any.
        here: The frame.
        reach: How far away a frame may be to have a say.
    """
    near = [scene for scene in scenes if abs(scene.number - here.number) <= reach]
    there = here.faces
    filled = dict(_missed(near, here, reach=reach))
    return [
        Steady(
            face=face,
            alignment=_place(near, track, here.number, reach=reach),
            track=track,
            is_interpolated=track not in there,
        )
        for track, face in (there | filled).items()
    ]


def _missed(near: Sequence[Scene], here: Scene, *, reach: int) -> Iterator[tuple[int, Face]]:
    """Yield the tracks seen shortly before and after a frame, not in it, and where they would be.

    Who is missed in `reach` frames or more comes back as another track, so the gaps are shorter.
    """
    before = {
        track: seen
        for scene in near
        if scene.number < here.number
        for track, seen in scene.here.items()
    }
    after = {
        track: seen
        for scene in reversed(near)
        if scene.number > here.number
        for track, seen in scene.here.items()
    }
    for track in sorted(before.keys() & after.keys() - here.here.keys()):
        start, end = before[track], after[track]
        if end.number - start.number <= reach:
            share = (here.number - start.number) / (end.number - start.number)
            yield track, between(start.face, end.face, share)


def between(start: Face, end: Face, share: float) -> Face:
    """Return the face that lies `share` of the way from one to another; nobody is sure of it."""
    landmarks = start.landmarks + np.float32(share) * (end.landmarks - start.landmarks)
    turns = ((b - a + 180) % 360 - 180 for a, b in zip(start.pose, end.pose, strict=True))
    yaw, pitch, roll = (a + share * turn for a, turn in zip(start.pose, turns, strict=True))
    pairs = zip(start.expression, end.expression, strict=True)
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=0.0,
        expression=tuple(a + share * (b - a) for a, b in pairs),
        pose=(yaw, pitch, (roll + 180) % 360 - 180),
    )


def _place(near: Sequence[Scene], track: int, number: int, *, reach: int) -> FaceAlignment:
    """Return where a track's face lies in frame `number`, of what the frames around it say."""
    pairs = [
        (scene.number - number, scene.here[track].place) for scene in near if track in scene.here
    ]
    apart = np.array([offset for offset, _ in pairs], dtype=np.float64)
    return from_places(smoothed(apart, np.stack([where for _, where in pairs]), reach=reach))


def smoothed(apart: Array, values: Array, *, reach: int = REACH) -> Array:
    """Return the value (K,) at 0 of the parabola that lies best through values (N, K).

    Args:
        apart: Frames from here (N,), growing, none further than `reach`; the near ones count more.
        values: What was measured there. The second column is an angle in radians.
        reach: How far away a frame may be.
    """
    values = values.copy()
    values[:, 1] = np.unwrap(values[:, 1])
    # At a track's end a line would tremble less, and miss a head that is just speeding up.
    degree = min(2, len(apart) - 1)
    weights = np.sqrt((1 - (np.abs(apart) / (reach + 1)) ** 3) ** 3)
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


def _to_json(track: int, seen: Sighting) -> dict[str, Any]:
    """Return a face as JSON can hold it, to the last bit."""
    face = seen.face
    return {
        "track": track,
        "landmarks": base64.b64encode(face.landmarks.astype("<f4").tobytes()).decode(),
        "box": [float(value) for value in face.box],
        "score": face.score,
        "expression": face.expression,
        "pose": face.pose,
    }


def _from_json(fields: Mapping[str, Any]) -> Face:
    """Read a face back."""
    yaw, pitch, roll = fields["pose"]
    landmarks = np.frombuffer(base64.b64decode(fields["landmarks"]), dtype="<f4")
    return Face(
        box=np.array(fields["box"], np.float32),
        landmarks=landmarks.reshape(LANDMARKS, 2).astype(np.float32),
        score=fields["score"],
        expression=tuple(fields["expression"]),
        pose=(yaw, pitch, roll),
    )
