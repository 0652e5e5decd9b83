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

from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.types import NUM_LANDMARKS, Face

Array = npt.NDArray[np.float64]

SMOOTHING_RADIUS = 6
"""Frames before and after that have a say in where a face is; the missing ones in a gap are fewer.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedFace:
    """A face, and where it lies without the jitter."""

    face: Face
    alignment: FaceAlignment
    track: int
    """The same number for the same face as long as it is followed, counted from 0."""
    is_interpolated: bool = False
    """Nobody saw it in this frame: it lies between where it was before and after."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """A face where it was seen last."""

    frame_index: int
    """The frame, counted from the first that was looked at."""
    face: Face

    @cached_property
    def alignment_params(self) -> Array:
        """Where its aligned square lies, see `places`."""
        return alignment_to_params(align_face(self.face.landmarks))


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTracks:
    """Who is in a frame, and who was a moment ago."""

    frame_index: int
    """The frame, counted from the first that was looked at."""
    shot: int
    """The shot it belongs to: tracks end where one does."""
    track_count: int
    """Tracks begun so far."""
    last_seen: Mapping[int, Detection]
    """Track -> where it was seen last, for those that may still go on."""

    @classmethod
    def empty(cls) -> Self:
        """Return what is before the first frame."""
        return cls(frame_index=-1, shot=-1, track_count=0, last_seen={})

    @property
    def faces(self) -> dict[int, Face]:
        """Track -> the face, for those seen in this very frame."""
        return {track: seen.face for track, seen in self.detections.items()}

    @cached_property
    def detections(self) -> dict[int, Detection]:
        """Track -> the sighting, for those of this very frame."""
        return {
            track: seen
            for track, seen in self.last_seen.items()
            if seen.frame_index == self.frame_index
        }

    def active_tracks(self, frame_index: int, *, max_missed: int) -> dict[int, Detection]:
        """Return the tracks that may go on in frame `frame_index`, after `max_missed` missed at most."""
        return {
            track: seen
            for track, seen in self.last_seen.items()
            if frame_index - seen.frame_index <= max_missed + 1
        }

    def to_json(self, backtracked: Mapping[int, Detection]) -> dict[str, Any]:
        """Return the frame, and who else was found in it later, as JSON can hold it exactly."""
        return {
            "number": self.frame_index,
            "shot": self.shot,
            "count": self.track_count,
            "faces": [_face_to_json(track, seen) for track, seen in self.detections.items()],
            "earlier": [_face_to_json(track, seen) for track, seen in backtracked.items()],
        }

    @classmethod
    def from_json(
        cls, fields: Mapping[str, Any], *, previous: "FrameTracks", max_missed: int
    ) -> tuple[Self, dict[int, Detection]]:
        """Read back what `to_json` put down, having the frame before it."""
        number, shot = fields["number"], fields["shot"]
        known = (
            previous.active_tracks(number, max_missed=max(0, max_missed))
            if shot == previous.shot
            else {}
        )
        now, earlier = (
            {one["track"]: Detection(frame_index=number, face=_face_from_json(one)) for one in some}
            for some in (fields["faces"], fields.get("earlier", ()))
        )
        return cls(
            frame_index=number, shot=shot, track_count=fields["count"], last_seen=known | now
        ), earlier


def add_detections(tracks: FrameTracks, detections: Mapping[int, Detection]) -> FrameTracks:
    """Return a frame with others in it as well."""
    return replace(tracks, last_seen={**tracks.last_seen, **detections}) if detections else tracks


def smooth_tracks(
    frames: Sequence[FrameTracks], current: FrameTracks, *, radius: int = SMOOTHING_RADIUS
) -> list[SmoothedFace]:
    """Return the faces of a frame held steady, those with a short gap there filled in.

    Args:
        frames: Frames around it, in order, itself among them; `radius` before and after, as far as
            there are any.
        current: The frame.
        radius: How far away a frame may be to have a say.
    """
    near = [scene for scene in frames if abs(scene.frame_index - current.frame_index) <= radius]
    there = current.faces
    filled = dict(_interpolate_missed(near, current, radius=radius))
    return [
        SmoothedFace(
            face=face,
            alignment=_smooth_alignment(near, track, current.frame_index, radius=radius),
            track=track,
            is_interpolated=track not in there,
        )
        for track, face in (there | filled).items()
    ]


def _interpolate_missed(
    frames: Sequence[FrameTracks], current: FrameTracks, *, radius: int
) -> Iterator[tuple[int, Face]]:
    """Yield the tracks seen shortly before and after a frame, not in it, and where they would be.

    Who is missed in `radius` frames or more comes back as another track, so the gaps are shorter.
    """
    before = {
        track: seen
        for scene in frames
        if scene.frame_index < current.frame_index
        for track, seen in scene.detections.items()
    }
    after = {
        track: seen
        for scene in reversed(frames)
        if scene.frame_index > current.frame_index
        for track, seen in scene.detections.items()
    }
    for track in sorted(before.keys() & after.keys() - current.detections.keys()):
        start, end = before[track], after[track]
        if end.frame_index - start.frame_index <= radius:
            share = (current.frame_index - start.frame_index) / (
                end.frame_index - start.frame_index
            )
            yield track, interpolate_face(start.face, end.face, share)


def interpolate_face(start: Face, end: Face, weight: float) -> Face:
    """Return the face that lies `weight` of the way from one to another; nobody is sure of it."""
    landmarks = start.landmarks + np.float32(weight) * (end.landmarks - start.landmarks)
    turns = ((b - a + 180) % 360 - 180 for a, b in zip(start.pose, end.pose, strict=True))
    yaw, pitch, roll = (a + weight * turn for a, turn in zip(start.pose, turns, strict=True))
    pairs = zip(start.blendshapes, end.blendshapes, strict=True)
    return Face(
        box=np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]),
        landmarks=landmarks,
        score=0.0,
        blendshapes=tuple(a + weight * (b - a) for a, b in pairs),
        pose=(yaw, pitch, (roll + 180) % 360 - 180),
    )


def _smooth_alignment(
    frames: Sequence[FrameTracks], track: int, frame_index: int, *, radius: int
) -> FaceAlignment:
    """Return where a track's face lies in frame `frame_index`, of what the frames around it say."""
    pairs = [
        (scene.frame_index - frame_index, scene.detections[track].alignment_params)
        for scene in frames
        if track in scene.detections
    ]
    apart = np.array([offset for offset, _ in pairs], dtype=np.float64)
    return alignment_from_params(
        fit_local_quadratic(apart, np.stack([where for _, where in pairs]), radius=radius)
    )


def fit_local_quadratic(offsets: Array, values: Array, *, radius: int = SMOOTHING_RADIUS) -> Array:
    """Return the value (K,) at 0 of the parabola that lies best through values (N, K).

    Args:
        offsets: Frames from here (N,), growing, none further than `radius`; the near ones count more.
        values: What was measured there. The second column is an angle in radians.
        radius: How far away a frame may be.
    """
    values = values.copy()
    values[:, 1] = np.unwrap(values[:, 1])
    # At a track's end a line would tremble less, and miss a head that is just speeding up.
    degree = min(2, len(offsets) - 1)
    weights = np.sqrt((1 - (np.abs(offsets) / (radius + 1)) ** 3) ** 3)
    powers = offsets[:, None] ** np.arange(degree + 1)
    fitted, *_ = np.linalg.lstsq(powers * weights[:, None], values * weights[:, None], rcond=None)
    return np.asarray(fitted[0], dtype=np.float64)


def alignment_to_params(alignment: FaceAlignment) -> Array:
    """Return where an aligned square lies: log of its side in px, angle, x and y of its centre."""
    corners = alignment.corners().astype(np.float64)
    across = corners[1] - corners[0]
    angle = math.atan2(across[1], across[0])
    return np.array([math.log(alignment.side_px), angle, *corners.mean(axis=0)])


def alignment_from_params(params: Array) -> FaceAlignment:
    """Return the alignment whose `places` these are."""
    log_side, angle, x, y = (float(value) for value in params)
    cos, sin = math.cos(angle), math.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]]) * math.exp(-log_side)
    return FaceAlignment(to_unit=np.column_stack([turn, [0.5, 0.5] - turn @ [x, y]]))


def _face_to_json(track: int, detection: Detection) -> dict[str, Any]:
    """Return a face as JSON can hold it, to the last bit."""
    face = detection.face
    return {
        "track": track,
        "landmarks": base64.b64encode(face.landmarks.astype("<f4").tobytes()).decode(),
        "box": [float(value) for value in face.box],
        "score": face.score,
        "expression": face.blendshapes,
        "pose": face.pose,
    }


def _face_from_json(fields: Mapping[str, Any]) -> Face:
    """Read a face back."""
    yaw, pitch, roll = fields["pose"]
    landmarks = np.frombuffer(base64.b64decode(fields["landmarks"]), dtype="<f4")
    return Face(
        box=np.array(fields["box"], np.float32),
        landmarks=landmarks.reshape(NUM_LANDMARKS, 2).astype(np.float32),
        score=fields["score"],
        blendshapes=tuple(fields["expression"]),
        pose=(yaw, pitch, roll),
    )
