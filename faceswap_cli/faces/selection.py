"""Selection of a clip's faces: the largest, all, one track, or one person; `parse_selection`.

A `SelectionRule` is what the user asked for. Its `FaceSelector` selects frame by frame among
tracked faces, and stays with its selection: it does not alternate between two faces of one size.
Its state can be saved and loaded, so that a resumed run selects the same faces.
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
"""Ratio of areas from which on a larger face replaces the selected one."""
SAME_IDENTITY_COSINE = 0.44
"""Cosine similarity of two embeddings from which on they are of one person.

On fifteen photos those of one person reached 0.55 and more, those of two people 0.33 at most.
"""
EMBED_FIRST_FRAMES = 4
"""A track is embedded in each of its first this many frames, ..."""
EMBED_INTERVAL = 5
"""... then in every n-th, ..."""
MAX_EMBEDDINGS = 20
"""... until it has this many embeddings."""
TRACK_EXPIRY_FRAMES = 50
"""Frames without detection after which a track is forgotten."""

SelectorState = Mapping[str, Any]
"""The state of a selector, as JSON can hold it."""


class FaceSelector(Protocol):
    """Selects faces, frame after frame."""

    def select(self, view: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
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
    """The largest face of each shot, until another is much larger."""

    def canonical_text(self) -> str:
        """Return `largest`."""
        return "largest"

    def create_selector(self, _: FaceDetector, /) -> FaceSelector:
        """Return a selector that stays with the largest face."""
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

    def select(self, _: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the faces of that track, largest first."""
        return [face for face in _sort_by_size(faces) if self.track in (None, face.track)]

    def state_dict(self) -> SelectorState:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: SelectorState) -> None:
        """Ignore the empty state."""


@dataclass(kw_only=True)
class _LargestSelector:
    """Selects the largest face, and stays with it."""

    track: int | None = None
    """The track selected last."""

    def select(self, _: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the face selected before, or the largest if that is gone or much smaller."""
        ordered = _sort_by_size(faces)
        if not ordered:
            return []
        largest = ordered[0]
        previous = next((face for face in ordered if face.track == self.track), largest)
        is_much_larger = largest.face.area_px >= SWITCH_AREA_RATIO * previous.face.area_px
        selected = largest if is_much_larger else previous
        self.track = selected.track
        return [selected]

    def state_dict(self) -> SelectorState:
        """Return the track."""
        return {"track": self.track}

    def load_state_dict(self, state: SelectorState) -> None:
        """Continue with that track."""
        self.track = state["track"]


@dataclass(kw_only=True)
class _TrackIdentity:
    """The identity of a track: the sum of its embeddings.

    The attributes are keys of the saved state.
    """

    seen: int = 0
    """Frames in which it was detected."""
    measured: int = 0
    """Embeddings computed."""
    last: int = 0
    """Number of the last frame that had it."""
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
    frame_count: int = 0
    """Frames processed."""
    tracks: dict[int, _TrackIdentity] = field(default_factory=dict)

    def select(self, view: LazyImage, faces: Sequence[SmoothedFace], /) -> list[SmoothedFace]:
        """Return the face most similar to the person, if it is similar enough."""
        self.frame_count += 1
        for face in faces:
            self._update_track(view, face)
        self.tracks = {
            track: identity
            for track, identity in self.tracks.items()
            if self.frame_count - identity.last <= TRACK_EXPIRY_FRAMES
        }
        best = max(faces, key=self._similarity, default=None)
        return [best] if best and self._similarity(best) >= SAME_IDENTITY_COSINE else []

    def _similarity(self, face: SmoothedFace) -> float:
        """Return the similarity of a face's track to the person, -1 to 1."""
        return self.tracks[face.track].cosine_similarity(self.embedding)

    def _update_track(self, view: LazyImage, face: SmoothedFace) -> None:
        """Update the identity of a face's track by the current frame."""
        identity = self.tracks.setdefault(face.track, _TrackIdentity())
        identity.last = self.frame_count
        # An interpolated face may be occluded.
        if face.is_interpolated:
            return
        identity.seen += 1
        if identity.is_due:
            embedding = self.sface.embed(view.to_array(), face.face.landmarks)
            identity.total = identity.total + embedding
            identity.measured += 1

    def state_dict(self) -> SelectorState:
        """Return the identities of the tracks."""
        tracks = {
            str(track): {**vars(identity), "total": identity.total.tolist()}
            for track, identity in self.tracks.items()
        }
        return {"count": self.frame_count, "tracks": tracks}

    def load_state_dict(self, state: SelectorState) -> None:
        """Continue with the saved identities."""
        self.frame_count = state["count"]
        self.tracks = {
            int(track): _TrackIdentity(**{**fields, "total": np.array(fields["total"])})
            for track, fields in state["tracks"].items()
        }


def _sort_by_size(faces: Sequence[SmoothedFace]) -> list[SmoothedFace]:
    """Return the faces, largest first."""
    return sorted(faces, key=lambda face: face.face.area_px, reverse=True)
