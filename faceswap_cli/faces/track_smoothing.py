"""Smoothing of tracks over time, and filling of their short gaps: `smooth_tracks`.

Landmarks jitter by a fraction of a pixel from frame to frame, and a crop aligned by them jitters
with them. Each alignment (log of the size, angle, x, y) is therefore replaced by the value of a
parabola fitted to its neighbors in time (W. S. Cleveland, "Robust locally weighted regression and
smoothing scatterplots", JASA 74, 1979), as many before as after: nothing lags, and steady and
evenly accelerated motion stay as they are. A face that was missed in a few frames is interpolated
between the frames before and after, and marked.
"""

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.reidentification import Identities
from faceswap_cli.faces.types import NUM_LANDMARKS, Face

Array = npt.NDArray[np.float64]

SMOOTHING_RADIUS = 6
"""Frames before and after a frame that take part in smoothing; gaps are filled if shorter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SmoothedFace:
    """A face and its alignment, smoothed over time."""

    face: Face
    alignment: FaceAlignment
    track: int
    """The same number for the same face as long as it is tracked, counted from 0."""
    shot: int = 0
    """The shot that the frame belongs to, counted from 0: tracks end where one does."""
    is_interpolated: bool = False
    """It was not detected in this frame, but interpolated between the frames before and after."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """A face in the frame in which it was last detected."""

    frame_index: int
    """The frame, counted from the first that was processed."""
    face: Face

    @cached_property
    def alignment_params(self) -> Array:
        """Its alignment as `alignment_to_params` returns it."""
        return alignment_to_params(align_face(self.face.landmarks))


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameTracks:
    """The faces in a frame, and those lost shortly before."""

    frame_index: int
    """The frame, counted from the first that was processed."""
    shot: int
    """The shot it belongs to: tracks end where one does."""
    track_count: int
    """Tracks started so far."""
    last_seen: Mapping[int, Detection]
    """Track -> its last detection, in order, for those detected a few frames ago at most."""
    identities: Identities = field(default_factory=Identities)
    """The tracks that a face of the next frames may belong to."""

    @classmethod
    def empty(cls) -> Self:
        """Return the state before the first frame."""
        return cls(frame_index=-1, shot=-1, track_count=0, last_seen={})

    @property
    def faces(self) -> dict[int, Face]:
        """Track -> its face in this frame."""
        return {track: detection.face for track, detection in self.detections.items()}

    @cached_property
    def detections(self) -> dict[int, Detection]:
        """Track -> its detection in this frame."""
        return {
            track: last
            for track, last in self.last_seen.items()
            if last.frame_index == self.frame_index
        }

    def end_shot(self) -> Self:
        """Return the frame without its tracks: none of them continues."""
        return replace(self, last_seen={}, identities=self.identities.start_shot())

    def remembers(self, track: int | None) -> bool:
        """Return whether a face of the next frames may belong to a track: it is there, or lost."""
        return any(track == self.identities.track_of(one) for one in self.identities.tracks)

    def active_tracks(self, frame_index: int, *, max_missed: int) -> dict[int, Detection]:
        """Return the tracks that frame `frame_index` may continue: at most `max_missed` missed."""
        return {
            track: last
            for track, last in self.last_seen.items()
            if frame_index - last.frame_index <= max_missed + 1
        }

    def to_json(self, backtracked: Mapping[int, Detection]) -> dict[str, Any]:
        """Return the frame, with the faces tracked back to it, as JSON can hold it exactly."""
        return {
            "number": self.frame_index,
            "shot": self.shot,
            "count": self.track_count,
            "faces": [_face_to_json(track, face) for track, face in self.detections.items()],
            "earlier": [_face_to_json(track, face) for track, face in backtracked.items()],
        }

    @classmethod
    def from_json(
        cls, fields: Mapping[str, Any], *, previous: "FrameTracks", max_missed: int
    ) -> tuple[Self, dict[int, Detection]]:
        """Return the frame, and the faces tracked back to it, from the result of `to_json`.

        Args:
            fields: That result.
            previous: The frame before it.
            max_missed: Frames in a row that a face may be missing without losing its track.
        """
        index, shot = fields["number"], fields["shot"]
        active = (
            previous.active_tracks(index, max_missed=max(0, max_missed))
            if shot == previous.shot
            else {}
        )
        detections, backtracked = (
            {one["track"]: Detection(frame_index=index, face=_face_from_json(one)) for one in faces}
            for faces in (fields["faces"], fields.get("earlier", ()))
        )
        return cls(
            frame_index=index,
            shot=shot,
            track_count=fields["count"],
            last_seen=dict(sorted((active | detections).items())),
        ), backtracked


def resolve_links(tracks: FrameTracks, links: Mapping[int, int]) -> FrameTracks:
    """Return a frame with the faces of linked tracks under the number of the earlier track.

    Where that one has a face of its own, each keeps its number.
    """
    detections = tracks.detections
    renamed = {track: links[track] for track in detections.keys() & links.keys()}
    renamed = {track: known for track, known in renamed.items() if known not in detections}
    if not renamed:
        return tracks
    last_seen = {renamed.get(track, track): last for track, last in tracks.last_seen.items()}
    return replace(tracks, last_seen=last_seen)


def add_detections(tracks: FrameTracks, detections: Mapping[int, Detection]) -> FrameTracks:
    """Return a frame with further detections."""
    return replace(tracks, last_seen={**tracks.last_seen, **detections}) if detections else tracks


def smooth_tracks(
    frames: Sequence[FrameTracks], current: FrameTracks, *, radius: int = SMOOTHING_RADIUS
) -> list[SmoothedFace]:
    """Return the faces of a frame smoothed, with those interpolated that have a short gap there.

    Args:
        frames: The frames around it in order, with itself; `radius` before and after if there are.
        current: The frame.
        radius: Distance in frames up to which a frame takes part.
    """
    nearby = [one for one in frames if abs(one.frame_index - current.frame_index) <= radius]
    detected = current.faces
    interpolated = dict(_interpolate_missed(nearby, current, radius=radius))
    return [
        SmoothedFace(
            face=face,
            alignment=_smooth_alignment(nearby, track, current.frame_index, radius=radius),
            track=track,
            shot=current.shot,
            is_interpolated=track not in detected,
        )
        for track, face in (detected | interpolated).items()
    ]


def _interpolate_missed(
    frames: Sequence[FrameTracks], current: FrameTracks, *, radius: int
) -> Iterator[tuple[int, Face]]:
    """Yield the tracks that have a gap at a frame, each with its interpolated face.

    Gaps of `radius` frames or more are left: nothing is known of the face in them.
    """
    before = {
        track: detection
        for one in frames
        if one.frame_index < current.frame_index
        for track, detection in one.detections.items()
    }
    after = {
        track: detection
        for one in reversed(frames)
        if one.frame_index > current.frame_index
        for track, detection in one.detections.items()
    }
    for track in sorted(before.keys() & after.keys() - current.detections.keys()):
        start, end = before[track], after[track]
        if end.frame_index - start.frame_index <= radius:
            weight = (current.frame_index - start.frame_index) / (
                end.frame_index - start.frame_index
            )
            yield track, interpolate_face(start.face, end.face, weight)


def interpolate_face(start: Face, end: Face, weight: float) -> Face:
    """Return the face `weight` of the way from one to another, with a score of 0."""
    landmarks = start.landmarks + np.float32(weight) * (end.landmarks - start.landmarks)
    changes = ((b - a + 180) % 360 - 180 for a, b in zip(start.pose, end.pose, strict=True))
    yaw, pitch, roll = (a + weight * change for a, change in zip(start.pose, changes, strict=True))
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
    """Return the alignment of a track in frame `frame_index`, fitted to the frames around it."""
    pairs = [
        (one.frame_index - frame_index, one.detections[track].alignment_params)
        for one in frames
        if track in one.detections
    ]
    offsets = np.array([offset for offset, _ in pairs], dtype=np.float64)
    params = np.stack([params for _, params in pairs])
    return alignment_from_params(fit_local_quadratic(offsets, params, radius=radius))


def fit_local_quadratic(offsets: Array, values: Array, *, radius: int = SMOOTHING_RADIUS) -> Array:
    """Return the value (K,) at 0 of the parabola fitted to values (N, K).

    Args:
        offsets: Distances in frames (N,), ascending, at most `radius`; near ones weigh more.
        values: The values at those frames. The second column is an angle in radians.
        radius: The largest distance.
    """
    values = values.copy()
    values[:, 1] = np.unwrap(values[:, 1])
    # At a track's end a line would jitter less, and miss a head that is just speeding up.
    degree = min(2, len(offsets) - 1)
    weights = np.sqrt((1 - (np.abs(offsets) / (radius + 1)) ** 3) ** 3)
    powers = offsets[:, None] ** np.arange(degree + 1)
    fitted, *_ = np.linalg.lstsq(powers * weights[:, None], values * weights[:, None], rcond=None)
    return np.asarray(fitted[0], dtype=np.float64)


def alignment_to_params(alignment: FaceAlignment) -> Array:
    """Return an aligned square's log of the side in px, angle in radians, and center x, y."""
    corners = alignment.corners().astype(np.float64)
    across = corners[1] - corners[0]
    angle = math.atan2(across[1], across[0])
    return np.array([math.log(alignment.side_px), angle, *corners.mean(axis=0)])


def alignment_from_params(params: Array) -> FaceAlignment:
    """Return the alignment whose `alignment_to_params` these are."""
    log_side, angle, x, y = (float(value) for value in params)
    cos, sin = math.cos(angle), math.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]]) * math.exp(-log_side)
    return FaceAlignment(to_unit=np.column_stack([rotation, [0.5, 0.5] - rotation @ [x, y]]))


def _face_to_json(track: int, detection: Detection) -> dict[str, Any]:
    """Return a face as JSON can hold it exactly."""
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
    """Return the face from the result of `_face_to_json`."""
    yaw, pitch, roll = fields["pose"]
    landmarks = np.frombuffer(base64.b64decode(fields["landmarks"]), dtype="<f4")
    return Face(
        box=np.array(fields["box"], np.float32),
        landmarks=landmarks.reshape(NUM_LANDMARKS, 2).astype(np.float32),
        score=fields["score"],
        blendshapes=tuple(fields["expression"]),
        pose=(yaw, pitch, roll),
    )
