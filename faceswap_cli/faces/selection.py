"""Which of a clip's faces are kept: the largest, all, one track, one person; nothing of files.

A `Choice` is what was typed. Its `Chooser` picks frame by frame, from faces that are followed, and
remembers whom it picked: two people of one size do not take turns. What it remembers can be put
down and taken up again, so that a stopped run goes on with the same people.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import ConfigurationError, NoFacesError, did_you_mean
from faceswap_cli.core.fileio import fingerprint
from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.faces.embedding import Embedding, SFace
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.types import FaceDetector

SWITCH_AREA_RATIO = 1.5
"""Ratio of areas from which on another face takes the place of the one that was picked."""
SAME_IDENTITY_COSINE = 0.44
"""Cosine of two directions from which on they are one person's.

On fifteen photographs those of one person came to 0.55 and more, those of two to 0.33 at most.
"""
EMBED_FIRST_FRAMES = 4
"""A track's identity is measured in its first so many frames, ..."""
EMBED_INTERVAL = 5
"""... then in every so-manieth, ..."""
MAX_EMBEDDINGS = 20
"""... and taken as known after so many measurements."""
TRACK_EXPIRY_FRAMES = 50
"""Frames after which a track that was not seen again is forgotten."""

SelectorState = Mapping[str, Any]
"""What a chooser remembers, as JSON can hold it."""


class FaceSelector(Protocol):
    """Picks the faces to keep, frame after frame."""

    def select(self, view: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return those of the faces of the next frame that are kept, largest first."""

    def state_dict(self) -> SelectorState:
        """Return what was learnt from the frames so far."""

    def load_state_dict(self, state: SelectorState) -> None:
        """Go on from what `state` returned."""


class SelectionRule(Protocol):
    """What was chosen, before any footage is seen."""

    def canonical_text(self) -> str:
        """Return what tells this choice from all others, in one line.

        Raises:
            InputError: A photograph cannot be read.
        """

    def create_selector(self, detector: FaceDetector, /) -> FaceSelector:
        """Return what picks accordingly; `detector` is open, and looks at photographs.

        Raises:
            InputError: A photograph cannot be read.
            NoFacesError: There is no face in it.
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
        f'there is no choice of faces called "{text}"',
        hint=_missing_part(word) or did_you_mean(text, forms),
    )


def _missing_part(word: str) -> str:
    """Return what should follow a word that does not stand alone."""
    return {
        "track": 'a track is named by its number: "track 0"',
        "match": 'name a photo of the person: "match photo.jpg"',
        "like": 'name a photo of the person: "match photo.jpg"',
    }.get(word, "")


@dataclass(frozen=True, kw_only=True)
class SelectAll:
    """All faces."""

    def canonical_text(self) -> str:
        """Return `all`."""
        return "all"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return what keeps everything."""
        return _TrackSelector(track=None)


@dataclass(frozen=True, kw_only=True)
class SelectTrack:
    """One face as long as it is followed, by the number that `faces.jsonl` gives it."""

    track: int

    def canonical_text(self) -> str:
        """Return `track N`."""
        return f"track {self.track}"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return what keeps that track."""
        return _TrackSelector(track=self.track)


@dataclass(frozen=True, kw_only=True)
class SelectLargest:
    """The largest face of each shot, until another is much larger."""

    def canonical_text(self) -> str:
        """Return `largest`."""
        return "largest"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return what follows the largest."""
        return _LargestSelector()


@dataclass(frozen=True, kw_only=True)
class SelectMatching:
    """One person's face, known from a photograph."""

    photo: Path

    def canonical_text(self) -> str:
        """Return the choice with what the photograph is known by: its content, not its name.

        Raises:
            InputError: It cannot be read.
        """
        image_io.read_image(self.photo)
        return f"like {fingerprint(self.photo)['sha256_of_ends']}"

    def create_selector(self, detector: FaceDetector, /) -> FaceSelector:
        """Return what keeps the face that is like the largest one of the photograph."""
        image = image_io.read_image(self.photo)
        faces = detector.detect(image)
        if not faces:
            raise NoFacesError(
                f"there is no face in {self.photo}",
                hint="choose a picture that shows the person from the front, sharp and large",
            )
        sface = SFace(find_model_file("sface"))
        return _IdentitySelector(embedding=sface.embed(image, faces[0].landmarks), sface=sface)


@dataclass(frozen=True, kw_only=True)
class _TrackSelector:
    """Keeps one track, or everything."""

    track: int | None

    def select(self, _: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the faces of that track."""
        return [face for face in _sort_by_size(faces) if self.track in (None, face.track)]

    def state_dict(self) -> SelectorState:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: SelectorState) -> None:
        """Learn nothing."""


@dataclass(kw_only=True)
class _LargestSelector:
    """Keeps the largest face, and stays with it."""

    track: int | None = None
    """Whom it picked last."""

    def select(self, _: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the face picked before, or the largest if that is gone or much smaller."""
        ordered = _sort_by_size(faces)
        if not ordered:
            return []
        largest = ordered[0]
        before = next((face for face in ordered if face.track == self.track), largest)
        is_beaten = largest.face.area_px >= SWITCH_AREA_RATIO * before.face.area_px
        chosen = largest if is_beaten else before
        self.track = chosen.track
        return [chosen]

    def state_dict(self) -> SelectorState:
        """Return the track."""
        return {"track": self.track}

    def load_state_dict(self, state: SelectorState) -> None:
        """Go on with that track."""
        self.track = state["track"]


@dataclass(kw_only=True)
class _TrackIdentity:
    """What is known of a track's identity."""

    seen: int = 0
    """Frames it was seen in."""
    measured: int = 0
    last: int = 0
    """Number of the last frame it was seen in."""
    total: Embedding = field(default_factory=lambda: np.zeros(128))
    """Sum of the directions measured."""

    @property
    def is_due(self) -> bool:
        """Whether to measure in the frame at hand, the one counted last."""
        return self.measured < MAX_EMBEDDINGS and (
            self.seen <= EMBED_FIRST_FRAMES or self.seen % EMBED_INTERVAL == 0
        )

    def cosine_similarity(self, embedding: Embedding) -> float:
        """Return how near the mean of the directions is to another one, -1 to 1."""
        length = float(np.linalg.norm(self.total))
        return float(self.total @ embedding) / length if length else -1.0


@dataclass(kw_only=True)
class _IdentitySelector:
    """Keeps the face whose track is most like a person, if it is like enough."""

    embedding: Embedding
    sface: SFace
    frame_count: int = 0
    """Frames looked at."""
    tracks: dict[int, _TrackIdentity] = field(default_factory=dict)

    def select(self, view: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the face that is most like the person, or none."""
        self.frame_count += 1
        for face in faces:
            self._update_track(view, face)
        self.tracks = {
            track: known
            for track, known in self.tracks.items()
            if self.frame_count - known.last <= TRACK_EXPIRY_FRAMES
        }
        likest = max(faces, key=self._similarity, default=None)
        return [likest] if likest and self._similarity(likest) >= SAME_IDENTITY_COSINE else []

    def _similarity(self, face: SmoothedFace) -> float:
        """Return how like the person a face is."""
        return self.tracks[face.track].cosine_similarity(self.embedding)

    def _update_track(self, view: LazyImage, face: SmoothedFace) -> None:
        """Add what a frame shows of a face to what is known of its track."""
        known = self.tracks.setdefault(face.track, _TrackIdentity())
        known.last = self.frame_count
        # Where nobody saw the face, it may be hidden.
        if face.is_interpolated:
            return
        known.seen += 1
        if known.is_due:
            known.total = known.total + self.sface.embed(view.to_array(), face.face.landmarks)
            known.measured += 1

    def state_dict(self) -> SelectorState:
        """Return what is known of every track."""
        tracks = {
            str(track): {**vars(known), "total": known.total.tolist()}
            for track, known in self.tracks.items()
        }
        return {"count": self.frame_count, "tracks": tracks}

    def load_state_dict(self, state: SelectorState) -> None:
        """Go on with what is known of them."""
        self.frame_count = state["count"]
        self.tracks = {
            int(track): _TrackIdentity(**{**known, "total": np.array(known["total"])})
            for track, known in state["tracks"].items()
        }


def _sort_by_size(faces: Sequence[SmoothedFace]) -> list[SmoothedFace]:
    """Return the faces, largest first."""
    return sorted(faces, key=lambda face: face.face.area_px, reverse=True)
