"""Re-identification: a face that was lost comes back to its track: `ReIdentifier`.

Tracking from frame to frame ends where a head turns away or is occluded. A face that appears is
therefore compared with those that were lost in the same shot shortly before, by its place and by
its embedding, and continues the track of one if it is clearly the same person. It stays a new track
where that is not clear: two people on one track are worse than two tracks of one person. It is then
compared again as it is seen better (`LATER_EMBEDDINGS`); a track recognized late is *linked*: from
there on its number stands for that of the first one.

Where faces overlap, tracking may slide from one to the other. After an overlap, a face that
resembles its track no more leaves it, and is compared with all tracks that are free.

Embeddings are computed when a track begins, a few times soon after and rarely later: a face that is
never lost costs `MAX_EMBEDDINGS`, however long the clip is.
"""

import base64
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.lazy_image import LazyImage
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import Image, Points
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou, compute_overlap
from faceswap_cli.faces.embedding import SAME_IDENTITY_COSINE, Embedding, SFace
from faceswap_cli.faces.types import Face

RETURN_SECONDS = Fraction(5)
"""A face that is lost for longer comes back as a new track."""
DIFFERENT_IDENTITY_COSINE = 0.35
"""Cosine similarity of a face and a track's mean below which they are of two people.

Between this and `SAME_IDENTITY_COSINE` a face is known only by its place as well. In a street scene
with faces of 40 to 130 px the first view of a returning face had 0.46 and more with the mean of its
track, and 0.34 at most with those of others.
"""
IDENTITY_MARGIN = 0.1
"""Cosine similarity by which a person must exceed another one to be told from them."""
MAX_SIZE_RATIO = 2.0
"""Ratio of the widths of a lost face and one that returns, at most."""
REACH_WIDTHS = 1.0
"""A face may return this far from where it was lost, in face widths, ..."""
REACH_WIDTHS_PER_SECOND = 10.0
"""... and this much farther each second. Someone who walks past a camera nearby has 9."""
LATER_EMBEDDINGS = (4, 12, 25)
"""A track is embedded in its first frame, in the frames of these numbers, ..."""
EMBED_INTERVAL = 50
"""... then in every n-th, ..."""
MAX_EMBEDDINGS = 20
"""... until it has this many embeddings."""
CONTACT_OVERLAP = 0.1
"""Faces touch if they share more than this part of the smaller box: tracking may mix them up."""
SETTLE_FRAMES = 3
"""Frames after faces touched until a face is compared with its track: it is whole again."""
MAX_IDENTITIES = 64
"""Tracks remembered, at most; those that were lost longest are forgotten first."""
PROVISIONAL_OFFSET = 2**40
"""Added to the number of a track that a face leaves, until the face has a number of its own."""
MAX_LINKS = 256
"""Links remembered, at most: those of all frames that are still to come out, many times over."""


class FaceEmbedder(Protocol):
    """Computes identity embeddings of faces."""

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """Return the embedding of the face in `image` with these landmarks (478, 2) px."""


class LazySFace:
    """SFace, loaded when the first face is embedded."""

    def __init__(self) -> None:
        self._sface: SFace | None = None

    def embed(self, image: Image, landmarks: Points) -> Embedding:
        """Return the embedding of the face in `image` with these landmarks (478, 2) px.

        Raises:
            InputError: The network is not installed and cannot be downloaded.
        """
        self._sface = self._sface or SFace(find_model_file("sface"))
        return self._sface.embed(image, landmarks)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackIdentity:
    """What is remembered of a face that is tracked, or was until shortly before."""

    first_frame: int
    """The frame in which it came in."""
    last_frame: int
    """The frame in which it was detected last."""
    box: npt.NDArray[np.float32]
    """Its box (4,) in that frame, px."""
    frame_count: int
    """Frames in which it was detected."""
    contact_frame: int | None
    """The last frame in which it touched another face, until it was compared after that."""
    embedding_count: int
    embedding_sum: Embedding

    def cosine_similarity(self, embedding: Embedding) -> float:
        """Return the cosine of its mean embedding and another, -1 to 1."""
        norm = float(np.linalg.norm(self.embedding_sum))
        return float(self.embedding_sum @ embedding) / norm if norm else -1.0

    @property
    def is_embedding_due(self) -> bool:
        """Whether to embed it in its last frame, as far as time decides."""
        return self.embedding_count < MAX_EMBEDDINGS and (
            self.frame_count in LATER_EMBEDDINGS or self.frame_count % EMBED_INTERVAL == 0
        )

    def add_embedding(self, embedding: Embedding) -> Self:
        """Return it with a further embedding."""
        return replace(
            self,
            embedding_count=self.embedding_count + 1,
            embedding_sum=self.embedding_sum + embedding,
        )

    def continue_from(self, earlier: "TrackIdentity") -> Self:
        """Return it as the continuation of a track that was lost before."""
        return replace(
            self,
            first_frame=earlier.first_frame,
            frame_count=earlier.frame_count + self.frame_count,
            embedding_count=earlier.embedding_count + self.embedding_count,
            embedding_sum=earlier.embedding_sum + self.embedding_sum,
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it exactly."""
        return {
            "frames": [self.first_frame, self.last_frame, self.frame_count, self.contact_frame],
            "box": self.box.tolist(),
            "embeddings": self.embedding_count,
            "sum": base64.b64encode(self.embedding_sum.astype("<f8").tobytes()).decode(),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the identity from the result of `to_json`."""
        first, last, count, contact = fields["frames"]
        total = np.frombuffer(base64.b64decode(fields["sum"]), dtype="<f8")
        return cls(
            first_frame=first,
            last_frame=last,
            box=np.array(fields["box"], np.float32),
            frame_count=count,
            contact_frame=contact,
            embedding_count=fields["embeddings"],
            embedding_sum=total.astype(np.float64),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Identities:
    """The tracks of a shot that a face may belong to, after a frame."""

    tracks: Mapping[int, TrackIdentity] = field(default_factory=dict)
    """By number; those of faces that are lost as well."""
    links: Mapping[int, int] = field(default_factory=dict)
    """Track -> the earlier one it was recognized as."""

    def track_of(self, number: int) -> int:
        """Return the track that a number stands for."""
        return self.links.get(number, number)

    def start_shot(self) -> Self:
        """Return the state before a shot: no face of it belongs to a track of the one before."""
        return replace(self, tracks={})

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it exactly."""
        return {
            "tracks": {str(number): one.to_json() for number, one in self.tracks.items()},
            "links": list(self.links.items()),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Return the state from the result of `to_json`."""
        tracks = fields["tracks"].items()
        return cls(
            tracks={int(number): TrackIdentity.from_json(one) for number, one in tracks},
            links=dict(fields["links"]),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentifiedFaces:
    """The faces of a frame on their tracks."""

    faces: Mapping[int, Face]
    """Track -> face."""
    track_count: int
    """Tracks started so far."""
    identities: Identities


class ReIdentifier:
    """Puts the faces of a frame on the right tracks; what it knows is in `Identities`.

    Args:
        embedder: Tells people apart.
        frame_rate: Frames a second.
        max_missed: Frames for which another face may be mixed up with one just lost.
    """

    def __init__(self, embedder: FaceEmbedder, *, frame_rate: Fraction, max_missed: int) -> None:
        self._embedder = embedder
        self._frame_rate = frame_rate
        self._max_missed = max_missed

    def any_continues(
        self, previous: Identities, faces: Mapping[int, Face], *, view: LazyImage
    ) -> bool:
        """Return whether a face in a frame, by track, is of the same person as in that before."""
        return any(
            number in previous.tracks
            and previous.tracks[number].cosine_similarity(_embed_face(self._embedder, view, face))
            >= SAME_IDENTITY_COSINE
            for number, face in faces.items()
        )

    def update(
        self,
        previous: Identities,
        faces: Mapping[int, Face],
        *,
        view: LazyImage,
        frame_index: int,
        found: Collection[int],
        track_count: int,
    ) -> IdentifiedFaces:
        """Return the faces of the next frame on the right tracks.

        Args:
            previous: The state after the frame before, or before the shot.
            faces: Track -> face; numbers from `track_count` on are of faces that appear.
            view: The frame.
            frame_index: The frame.
            found: The tracks whose face was not tracked into this frame, but found in it.
            track_count: Tracks started before this frame.
        """
        expiry = int(self._frame_rate * RETURN_SECONDS)
        known = [
            (number, one)
            for number, one in previous.tracks.items()
            if frame_index - one.last_frame <= expiry
        ]
        known.sort(key=lambda pair: pair[1].last_frame)
        frame = _FrameUpdate(
            embed=lambda face: _embed_face(self._embedder, view, face),
            frame_index=frame_index,
            frame_rate=self._frame_rate,
            max_missed=self._max_missed,
            known=dict(known[-MAX_IDENTITIES:]),
            links=dict(previous.links),
            track_count=track_count,
        )
        touching = frame.find_contacts(faces)
        for number, face in faces.items():
            frame.add(number, face, is_found=number in found, is_touching=number in touching)
        frame.recognize_lost()
        return frame.result()


@dataclass(kw_only=True, eq=False)
class _FrameUpdate:
    """The update of `Identities` by one frame."""

    embed: Callable[[Face], Embedding]
    """Returns the embedding of a face of the frame."""
    frame_index: int
    frame_rate: Fraction
    max_missed: int
    known: Mapping[int, TrackIdentity]
    """The tracks before the frame."""
    links: dict[int, int]
    track_count: int
    """Tracks before the frame; greater numbers are provisional."""
    faces: dict[int, Face] = field(default_factory=dict)
    """Track -> face, of those added so far."""
    current: dict[int, TrackIdentity] = field(default_factory=dict)
    """Track -> its identity after the frame."""
    embedded: set[int] = field(default_factory=set)
    """The tracks whose face was embedded."""
    superseded: set[int] = field(default_factory=set)
    """The tracks that go on under another number."""

    def find_contacts(self, faces: Mapping[int, Face]) -> set[int]:
        """Return the tracks whose face touches another one, or the place of one just lost."""
        boxes = {number: face.box for number, face in faces.items()}
        lost = {
            number: one.box
            for number, one in self.known.items()
            if number not in boxes and self.frame_index - one.last_frame - 1 <= self.max_missed
        }
        return {
            number
            for number, box in boxes.items()
            for other, other_box in (boxes | lost).items()
            if other != number and compute_overlap(box, other_box) > CONTACT_OVERLAP
        }

    def add(self, number: int, face: Face, *, is_found: bool, is_touching: bool) -> None:
        """Add a face: to its track, or as a new track if it is no longer that person."""
        earlier = self.known.get(number)
        identity = earlier and self._continue_track(number, earlier, face, is_found=is_found)
        if identity is None:
            if earlier is not None:
                number += PROVISIONAL_OFFSET
            self.embedded.add(number)
            identity = TrackIdentity(
                first_frame=self.frame_index,
                last_frame=self.frame_index,
                box=face.box,
                frame_count=1,
                contact_frame=None,
                embedding_count=1,
                embedding_sum=self.embed(face),
            )
        if is_touching:
            identity = replace(identity, contact_frame=self.frame_index)
        self.faces[number], self.current[number] = face, identity

    def _continue_track(
        self, number: int, earlier: TrackIdentity, face: Face, *, is_found: bool
    ) -> TrackIdentity | None:
        """Return the identity of a track with its next face; None if that is another person."""
        identity = replace(
            earlier,
            last_frame=self.frame_index,
            box=face.box,
            frame_count=earlier.frame_count + 1,
        )
        contact = earlier.contact_frame
        is_settled = contact is not None and self.frame_index - contact >= SETTLE_FRAMES
        is_due = contact is None and identity.is_embedding_due
        if not (is_settled or is_due or is_found):
            return identity
        embedding = self.embed(face)
        if (is_settled or is_found) and self._is_other_person(number, embedding):
            return None
        self.embedded.add(number)
        if is_settled:
            identity = replace(identity, contact_frame=None)
        return identity.add_embedding(embedding) if is_settled or is_due else identity

    def _is_other_person(self, number: int, embedding: Embedding) -> bool:
        """Return whether a face on a track is not the one that the track had before."""
        own = self.known[number].cosine_similarity(embedding)
        best_other = max(
            (
                one.cosine_similarity(embedding)
                for other, one in self.known.items()
                if other != number
            ),
            default=-1.0,
        )
        is_another = best_other >= max(SAME_IDENTITY_COSINE, own + IDENTITY_MARGIN)
        # The first view of a face may be a bad one.
        is_well_known = self.known[number].embedding_count > 1
        return is_another or (is_well_known and own < DIFFERENT_IDENTITY_COSINE)

    def recognize_lost(self) -> None:
        """Let the faces that are those of lost tracks continue them."""
        lost = {number: one for number, one in self.known.items() if number not in self.current}
        seekers = self.embedded - self.links.keys()
        for seeker, number in self._match_lost(seekers, lost).items():
            identity = self.current.pop(seeker).continue_from(lost[number])
            face = self.faces.pop(seeker)
            if seeker in self.known:
                # Its number is in frames that came out. It stays, and stands for the earlier one.
                self.links[seeker] = self.links.get(number, number)
                self.superseded.add(number)
                number = seeker
            self.current[number], self.faces[number] = identity, face

    def _match_lost(self, seekers: Set[int], lost: Mapping[int, TrackIdentity]) -> dict[int, int]:
        """Return the lost track of each face that has one, the most similar pairs first.

        A pair is left out if another pair of the face, or of the track, is nearly as similar,
        unless only the first one is also a pair by its place.
        """
        pairs = [
            pair
            for seeker in sorted(seekers)
            for number, one in lost.items()
            if one.last_frame < self.current[seeker].first_frame
            if (pair := self._compare(seeker, number, one))
        ]
        matched: dict[int, int] = {}
        while pairs:
            best = max(pairs, key=lambda pair: pair.similarity)
            rivals = [pair for pair in pairs if pair is not best and pair.rivals(best)]
            if not rivals or (best.is_near and not any(pair.is_near for pair in rivals)):
                matched[best.seeker] = best.number
            pairs = [pair for pair in pairs if not pair.shares_track(best)]
        return matched

    def _compare(self, seeker: int, number: int, lost: TrackIdentity) -> "_Pair | None":
        """Return a face and a lost track as a pair; None if they cannot be of one person."""
        identity = self.current[seeker]
        norm = float(np.linalg.norm(identity.embedding_sum))
        similarity = lost.cosine_similarity(identity.embedding_sum / max(norm, 1e-9))
        (overlap,) = compute_iou(lost.box[None], identity.box)
        is_near = bool(overlap > IOU_THRESHOLD)
        widths = sorted(float(box[2] - box[0]) for box in (lost.box, identity.box))
        moved = float(np.linalg.norm(_center(identity.box) - _center(lost.box)))
        seconds = float((self.frame_index - lost.last_frame) / self.frame_rate)
        reach = widths[1] * (REACH_WIDTHS + REACH_WIDTHS_PER_SECOND * seconds)
        if moved > reach or widths[1] > MAX_SIZE_RATIO * widths[0]:
            return None
        if similarity < (DIFFERENT_IDENTITY_COSINE if is_near else SAME_IDENTITY_COSINE):
            return None
        return _Pair(seeker=seeker, number=number, similarity=similarity, is_near=is_near)

    def result(self) -> IdentifiedFaces:
        """Return the faces and the new state."""
        new = sorted(number for number in self.current if number >= self.track_count)
        final = {number: self.track_count + rank for rank, number in enumerate(new)}
        current = {final.get(number, number): one for number, one in self.current.items()}
        kept = {
            number: one
            for number, one in self.known.items()
            if number not in current.keys() | self.superseded
        }
        return IdentifiedFaces(
            faces={final.get(number, number): face for number, face in self.faces.items()},
            track_count=self.track_count + len(new),
            identities=Identities(
                tracks=kept | current, links=dict(list(self.links.items())[-MAX_LINKS:])
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A face of the frame and a lost track that may be of one person."""

    seeker: int
    """The face's number."""
    number: int
    """The track."""
    similarity: float
    is_near: bool
    """The face is where the track was lost."""

    def shares_track(self, other: "_Pair") -> bool:
        """Return whether both cannot be right."""
        return self.seeker == other.seeker or self.number == other.number

    def rivals(self, best: "_Pair") -> bool:
        """Return whether it may be right instead of the most similar pair."""
        return self.shares_track(best) and self.similarity > best.similarity - IDENTITY_MARGIN


def _embed_face(embedder: FaceEmbedder, view: LazyImage, face: Face) -> Embedding:
    """Return the embedding of a face, of which only the square around it is read."""
    area = align_face(face.landmarks).source_area().clip_nonempty(view.size)
    part = view.to_partial_array(area)[area.slices]
    corner = np.array([area.left, area.top], np.float32)
    return embedder.embed(part, face.landmarks - corner)


def _center(box: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the center (2,) of a box (4,)."""
    return np.asarray((box[:2] + box[2:]) / 2, dtype=np.float32)
