"""Selection of a clip's faces: the largest, all, one track, or one person; `parse_selection`.

A `SelectionRule` is what the user asked for. Its `FaceSelector` selects frame by frame among
tracked faces, and stays with its selection: it does not alternate between two faces of one size.
Its state can be saved and loaded, so that a resumed run selects the same faces.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, NoFacesError, did_you_mean
from faceswap_cli.core.fileio import fingerprint
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.faces.embedding import SAME_IDENTITY_COSINE, Embedding, SFace
from faceswap_cli.faces.reidentification import RETURN_SECONDS
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.video.frame import Frame

SWITCH_AREA_RATIO = 1.5
"""Ratio of areas from which on a larger face may replace the main one of a shot."""
SWITCH_SECONDS = 2.0
"""Time after which a face larger by that ratio does; one that is still larger takes less."""
HOLD_SECONDS = float(RETURN_SECONDS)
"""A main face that is not found stays the main one for so long at most: its track may go on."""
HOLD_RATIO = 4.0
"""It does not stay so for longer than this many times its time in view: that may be an error."""
AREA_SMOOTHING_SECONDS = 1.0
"""Time constant of the average area of a face."""
EMBED_FIRST_FRAMES = 4
"""A track is embedded in each of its first this many frames, ..."""
EMBED_INTERVAL = 5
"""... then in every n-th, ..."""
MAX_EMBEDDINGS = 20
"""... until it has this many embeddings."""
SelectorState = Mapping[str, Any]
"""The state of a selector, as JSON can hold it."""


class FaceSelector(Protocol):
    """Selects faces, frame after frame."""

    def select(self, frame: Frame, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return those of the next frame's faces that are selected, largest first."""

    def state_dict(self) -> SelectorState:
        """Return the state after the frames so far, as JSON can hold it."""

    def load_state_dict(self, state: SelectorState) -> None:
        """Continue from a state that `state_dict` returned."""


class SelectionRule(Protocol):
    """Which faces to select, as the user asked."""

    def canonical_text(self) -> str:
        """Return a line that is the same for equal rules and different for others.

        Raises:
            InputError: A photo cannot be read.
        """

    def create_selector(self, detector: FaceDetector, /) -> FaceSelector:
        """Return a selector; `detector` is open, and finds the face of a photo.

        Raises:
            InputError: A photo cannot be read.
            NoFacesError: It has no face.
        """


def parse_selection(text: str) -> SelectionRule:
    """Return the rule written as `largest`, `all`, `track N` or `match PHOTO`.

    A colon may replace the first space. `like` is an old name of `match`.

    Raises:
        ConfigurationError: It is none of them.
    """
    word, what, *_ = *re.split(r"[\s:]+", text.strip(), maxsplit=1), ""
    if word == "track" and what.isdecimal():
        return SelectTrack(track=int(what))
    if word in ("match", "like") and what:
        return SelectMatching(photo=Path(what))
    if word == "largest" and not what:
        return SelectLargest()
    if word == "all" and not what:
        return SelectAll()
    forms = ("largest", "all", "track N", "match PHOTO")
    raise ConfigurationError(
        f'there is no selection of faces called "{text}"',
        hint=_missing_part(word) or did_you_mean(text, forms),
    )


def _missing_part(word: str) -> str:
    """Return a hint for a word that needs an argument."""
    return {
        "track": 'a track is named by its number: "track 0"',
        "match": 'name a photo of the person: "match photo.jpg"',
        "like": 'name a photo of the person: "match photo.jpg"',
    }.get(word, "")


@dataclass(frozen=True, kw_only=True)
class SelectAll:
    """Every face."""

    def canonical_text(self) -> str:
        """Return `all`."""
        return "all"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return a selector of every face."""
        return _TrackSelector(track=None)


@dataclass(frozen=True, kw_only=True)
class SelectTrack:
    """One face as long as it is tracked, by the number that `faces.jsonl` gives it."""

    track: int

    def canonical_text(self) -> str:
        """Return `track N`."""
        return f"track {self.track}"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return a selector of that track."""
        return _TrackSelector(track=self.track)


@dataclass(frozen=True, kw_only=True)
class SelectLargest:
    """The main face of each shot: that of the largest track.

    The shot's first largest face is the main one. While it is not found, none is selected rather
    than another. Another becomes the main one

    - if its average area is 1.5 times the main one's or more (`SWITCH_AREA_RATIO`), and has been in
      view long enough: area times seconds must be 3 times the main one's area
      (`SWITCH_AREA_RATIO` x `SWITCH_SECONDS`), so twice as wide takes 0.75 s. A passer-by near the
      camera is gone by then, a person who comes in after a small one in the background is not;
    - if the main one is not found for `HOLD_SECONDS`, or for 4 times as long as it had been in view
      (`HOLD_RATIO`): then the largest one in view.

    A shot begins anew.
    """

    def canonical_text(self) -> str:
        """Return `largest`."""
        return "largest"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return a selector of the main face."""
        return _LargestSelector()


@dataclass(frozen=True, kw_only=True)
class SelectMatching:
    """The face of the person in a photo."""

    photo: Path

    def canonical_text(self) -> str:
        """Return `like DIGEST`, with the digest of the photo's content.

        Raises:
            InputError: The photo cannot be read.
        """
        image_io.read_image(self.photo)
        return f"like {fingerprint(self.photo)['sha256_of_ends']}"

    def create_selector(self, detector: FaceDetector, /) -> FaceSelector:
        """Return a selector of the face most similar to the largest one of the photo."""
        image = image_io.read_image(self.photo)
        faces = detector.detect(image)
        if not faces:
            raise NoFacesError(
                f"there is no face in {self.photo}",
                hint="choose a photo that shows the person from the front, sharp and large",
            )
        sface = SFace(find_model_file("sface"))
        return _IdentitySelector(embedding=sface.embed(image, faces[0].landmarks), sface=sface)


@dataclass(frozen=True, kw_only=True)
class _TrackSelector:
    """Selects one track, or every face."""

    track: int | None

    def select(self, _: Frame, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the faces of that track, largest first."""
        return [face for face in _sort_by_size(faces) if self.track in (None, face.track)]

    def state_dict(self) -> SelectorState:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: SelectorState) -> None:
        """Ignore the empty state."""


@dataclass(frozen=True, kw_only=True)
class _Presence:
    """How large a face is in a shot, and how long it has been in view."""

    area_px: float
    """Average of its recent areas, px²."""
    seconds: float
    """How long it has been in view."""
    last_time: float
    """When it was in view last, seconds."""

    def is_held(self, time: float) -> bool:
        """Return whether the face, if it is the main one, still is at a time in seconds."""
        return time - self.last_time <= min(HOLD_SECONDS, HOLD_RATIO * self.seconds)

    def replaces(self, main: "_Presence") -> bool:
        """Return whether it is rather the main face than `main`, which was so far."""
        least_area = SWITCH_AREA_RATIO * main.area_px
        return (
            self.area_px >= least_area
            and self.area_px * self.seconds >= least_area * SWITCH_SECONDS
        )


@dataclass(kw_only=True)
class _LargestSelector:
    """Selects the main face of a shot, as `SelectLargest` says."""

    track: int | None = None
    """The main face's track."""
    shot: int | None = None
    time: float = 0.0
    """The time of the last frame, seconds."""
    presences: dict[int, _Presence] = field(default_factory=dict)
    """Track -> presence in this shot, of those in view shortly before."""

    def select(self, frame: Frame, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the main face of the shot if it is in this frame."""
        now = float(frame.time)
        if any(face.shot != self.shot for face in faces):
            self.track, self.presences, self.time = None, {}, now
            self.shot = faces[0].shot
        elapsed, self.time = max(0.0, now - self.time), now
        self.presences = {
            track: presence
            for track, presence in self.presences.items()
            if now - presence.last_time <= HOLD_SECONDS
        }
        for face in faces:
            self.presences[face.track] = self._extend_presence(face, elapsed)
        self.track = self._find_main([face.track for face in faces])
        return [face for face in faces if face.track == self.track]

    def _extend_presence(self, face: SmoothedFace, elapsed: float) -> _Presence:
        """Return the presence of a face with another frame, `elapsed` seconds after the last."""
        area_px = face.face.area_px
        before = self.presences.get(face.track)
        if before is None:
            return _Presence(area_px=area_px, seconds=0.0, last_time=self.time)
        weight = math.exp(-elapsed / AREA_SMOOTHING_SECONDS)
        return _Presence(
            area_px=weight * before.area_px + (1 - weight) * area_px,
            seconds=before.seconds + elapsed,
            last_time=self.time,
        )

    def _find_main(self, visible: Sequence[int]) -> int | None:
        """Return the track of the shot's main face, given those in view."""
        main = None if self.track is None else self.presences.get(self.track)
        if main is not None and self.track not in visible and not main.is_held(self.time):
            main = None
        candidates = {track: self.presences[track] for track in visible}
        if main is not None:
            candidates = {t: one for t, one in candidates.items() if one.replaces(main)}
        return max(candidates, key=lambda track: candidates[track].area_px, default=self.track)

    def state_dict(self) -> SelectorState:
        """Return the main track and the presences."""
        presences = {str(track): vars(presence) for track, presence in self.presences.items()}
        return {"track": self.track, "shot": self.shot, "time": self.time, "presences": presences}

    def load_state_dict(self, state: SelectorState) -> None:
        """Continue with that track and those presences."""
        self.track, self.shot, self.time = state["track"], state["shot"], state["time"]
        self.presences = {
            int(track): _Presence(**fields) for track, fields in state["presences"].items()
        }


@dataclass(kw_only=True)
class _TrackIdentity:
    """The identity of a track: the sum of its embeddings.

    The attributes are keys of the saved state.
    """

    seen: int = 0
    """Frames in which it was detected."""
    measured: int = 0
    """Embeddings computed."""
    last: float = 0.0
    """The time of the last frame that had it, seconds."""
    total: Embedding = field(default_factory=lambda: np.zeros(128))
    """Sum of the embeddings."""

    @property
    def is_due(self) -> bool:
        """Whether to embed it in the current frame, which is counted already."""
        return self.measured < MAX_EMBEDDINGS and (
            self.seen <= EMBED_FIRST_FRAMES or self.seen % EMBED_INTERVAL == 0
        )

    def cosine_similarity(self, embedding: Embedding) -> float:
        """Return the cosine of the mean embedding and another, -1 to 1; -1 without any."""
        norm = float(np.linalg.norm(self.total))
        return float(self.total @ embedding) / norm if norm else -1.0


@dataclass(kw_only=True)
class _IdentitySelector:
    """Selects the face whose track is most similar to a person, if it is similar enough."""

    embedding: Embedding
    sface: SFace
    tracks: dict[int, _TrackIdentity] = field(default_factory=dict)

    def select(self, frame: Frame, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the face most similar to the person, if it is similar enough."""
        now = float(frame.time)
        self.tracks = {
            track: identity
            for track, identity in self.tracks.items()
            if now - identity.last <= RETURN_SECONDS
        }
        for face in faces:
            self._update_track(frame, face)
        best = max(faces, key=self._similarity, default=None)
        return [best] if best and self._similarity(best) >= SAME_IDENTITY_COSINE else []

    def _similarity(self, face: SmoothedFace) -> float:
        """Return the similarity of a face's track to the person, -1 to 1."""
        return self.tracks[face.track].cosine_similarity(self.embedding)

    def _update_track(self, frame: Frame, face: SmoothedFace) -> None:
        """Update the identity of a face's track by the current frame."""
        identity = self.tracks.setdefault(face.track, _TrackIdentity())
        identity.last = float(frame.time)
        # An interpolated face may be occluded.
        if face.is_interpolated:
            return
        identity.seen += 1
        if identity.is_due:
            embedding = self.sface.embed(frame.view.to_array(), face.face.landmarks)
            identity.total = identity.total + embedding
            identity.measured += 1

    def state_dict(self) -> SelectorState:
        """Return the identities of the tracks."""
        tracks = {
            str(track): {**vars(identity), "total": identity.total.tolist()}
            for track, identity in self.tracks.items()
        }
        return {"tracks": tracks}

    def load_state_dict(self, state: SelectorState) -> None:
        """Continue with the saved identities."""
        self.tracks = {
            int(track): _TrackIdentity(**{**fields, "total": np.array(fields["total"])})
            for track, fields in state["tracks"].items()
        }


def _sort_by_size(faces: Sequence[SmoothedFace]) -> list[SmoothedFace]:
    """Return the faces, largest first."""
    return sorted(faces, key=lambda face: face.face.area_px, reverse=True)
