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

from faceswap_cli import pictures
from faceswap_cli.errors import ConfigurationError, NoFacesError, did_you_mean
from faceswap_cli.faces.detect import FaceDetector
from faceswap_cli.faces.sface import Direction, SFace
from faceswap_cli.faces.track import Steady
from faceswap_cli.files import fingerprint
from faceswap_cli.views import View
from faceswap_cli.weights import find

MUCH_LARGER = 1.5
"""Ratio of areas from which on another face takes the place of the one that was picked."""
SAME_PERSON = 0.44
"""Cosine of two directions from which on they are one person's.

On fifteen photographs those of one person came to 0.55 and more, those of two to 0.33 at most.
"""
MEASURED_AT_ONCE = 4
"""A track's identity is measured in its first so many frames, ..."""
MEASURED_EVERY = 5
"""... then in every so-manieth, ..."""
MEASURED_MOST = 20
"""... and taken as known after so many measurements."""
FORGOTTEN_AFTER = 50
"""Frames after which a track that was not seen again is forgotten."""

Memory = Mapping[str, Any]
"""What a chooser remembers, as JSON can hold it."""


class Chooser(Protocol):
    """Picks the faces to keep, frame after frame."""

    def pick(self, view: View, faces: Sequence[Steady], /) -> list[Steady]:
        """Return those of the faces of the next frame that are kept, largest first."""

    def memory(self) -> Memory:
        """Return what was learnt from the frames so far."""

    def recall(self, memory: Memory) -> None:
        """Go on from what `memory` returned."""


class Choice(Protocol):
    """What was chosen, before any footage is seen."""

    def described(self) -> str:
        """Return what tells this choice from all others, in one line.

        Raises:
            InputError: A photograph cannot be read.
        """

    def chooser(self, detector: FaceDetector, /) -> Chooser:
        """Return what picks accordingly; `detector` is open, and looks at photographs.

        Raises:
            InputError: A photograph cannot be read.
            NoFacesError: There is no face in it.
        """


def parse_choice(text: str) -> Choice:
    """Return the choice that is written as `largest`, `all`, `track N` or `like PHOTO`.

    A colon may stand in place of the first space.

    Raises:
        ConfigurationError: It is none of them.
    """
    word, what, *_ = *re.split(r"[\s:]+", text.strip(), maxsplit=1), ""
    if word == "track" and what.isdecimal():
        return OneTrack(number=int(what))
    if word == "like" and what:
        return Like(photo=Path(what))
    if word == "largest" and not what:
        return Largest()
    if word == "all" and not what:
        return Everyone()
    forms = ("largest", "all", "track N", "like PHOTO")
    raise ConfigurationError(
        f'there is no choice of faces called "{text}"',
        hint=_missing_part(word) or did_you_mean(text, forms),
    )


def _missing_part(word: str) -> str:
    """Return what should follow a word that does not stand alone."""
    return {
        "track": 'a track is named by its number: "track 0"',
        "like": 'name a picture of the person: "like photo.jpg"',
    }.get(word, "")


@dataclass(frozen=True, kw_only=True)
class Everyone:
    """All faces."""

    def described(self) -> str:
        """Return `all`."""
        return "all"

    def chooser(self, _: FaceDetector, /) -> Chooser:
        """Return what keeps everything."""
        return _Plain(keep=None)


@dataclass(frozen=True, kw_only=True)
class OneTrack:
    """One face as long as it is followed, by the number that `faces.jsonl` gives it."""

    number: int

    def described(self) -> str:
        """Return `track N`."""
        return f"track {self.number}"

    def chooser(self, _: FaceDetector, /) -> Chooser:
        """Return what keeps that track."""
        return _Plain(keep=self.number)


@dataclass(frozen=True, kw_only=True)
class Largest:
    """The largest face of each shot, until another is much larger."""

    def described(self) -> str:
        """Return `largest`."""
        return "largest"

    def chooser(self, _: FaceDetector, /) -> Chooser:
        """Return what follows the largest."""
        return _Foremost()


@dataclass(frozen=True, kw_only=True)
class Like:
    """One person's face, known from a photograph."""

    photo: Path

    def described(self) -> str:
        """Return the choice with what the photograph is known by: its content, not its name.

        Raises:
            InputError: It cannot be read.
        """
        pictures.read(self.photo)
        return f"like {fingerprint(self.photo)['sha256_of_ends']}"

    def chooser(self, detector: FaceDetector, /) -> Chooser:
        """Return what keeps the face that is like the largest one of the photograph."""
        image = pictures.read(self.photo)
        faces = detector.detect(image)
        if not faces:
            raise NoFacesError(
                f"there is no face in {self.photo}",
                hint="choose a picture that shows the person from the front, sharp and large",
            )
        sface = SFace(find("sface"))
        return _Alike(wanted=sface.direction(image, faces[0].landmarks), sface=sface)


@dataclass(frozen=True, kw_only=True)
class _Plain:
    """Keeps one track, or everything."""

    keep: int | None

    def pick(self, _: View, faces: Sequence[Steady], /) -> list[Steady]:
        """Return the faces of that track."""
        return [face for face in _by_size(faces) if self.keep in (None, face.track)]

    def memory(self) -> Memory:
        """Return nothing."""
        return {}

    def recall(self, memory: Memory) -> None:
        """Learn nothing."""


@dataclass(kw_only=True)
class _Foremost:
    """Keeps the largest face, and stays with it."""

    track: int | None = None
    """Whom it picked last."""

    def pick(self, _: View, faces: Sequence[Steady], /) -> list[Steady]:
        """Return the face picked before, or the largest if that is gone or much smaller."""
        ordered = _by_size(faces)
        if not ordered:
            return []
        largest = ordered[0]
        before = next((face for face in ordered if face.track == self.track), largest)
        is_beaten = largest.face.area_px >= MUCH_LARGER * before.face.area_px
        chosen = largest if is_beaten else before
        self.track = chosen.track
        return [chosen]

    def memory(self) -> Memory:
        """Return the track."""
        return {"track": self.track}

    def recall(self, memory: Memory) -> None:
        """Go on with that track."""
        self.track = memory["track"]


@dataclass(kw_only=True)
class _Likeness:
    """What is known of a track's identity."""

    seen: int = 0
    """Frames it was seen in."""
    measured: int = 0
    last: int = 0
    """Number of the last frame it was seen in."""
    total: Direction = field(default_factory=lambda: np.zeros(128))
    """Sum of the directions measured."""

    @property
    def is_due(self) -> bool:
        """Whether to measure in the frame at hand, the one counted last."""
        return self.measured < MEASURED_MOST and (
            self.seen <= MEASURED_AT_ONCE or self.seen % MEASURED_EVERY == 0
        )

    def cosine(self, wanted: Direction) -> float:
        """Return how near the mean of the directions is to another one, -1 to 1."""
        length = float(np.linalg.norm(self.total))
        return float(self.total @ wanted) / length if length else -1.0


@dataclass(kw_only=True)
class _Alike:
    """Keeps the face whose track is most like a person, if it is like enough."""

    wanted: Direction
    sface: SFace
    count: int = 0
    """Frames looked at."""
    tracks: dict[int, _Likeness] = field(default_factory=dict)

    def pick(self, view: View, faces: Sequence[Steady], /) -> list[Steady]:
        """Return the face that is most like the person, or none."""
        self.count += 1
        for face in faces:
            self._measure(view, face)
        self.tracks = {
            track: known
            for track, known in self.tracks.items()
            if self.count - known.last <= FORGOTTEN_AFTER
        }
        likest = max(faces, key=self._cosine, default=None)
        return [likest] if likest and self._cosine(likest) >= SAME_PERSON else []

    def _cosine(self, face: Steady) -> float:
        """Return how like the person a face is."""
        return self.tracks[face.track].cosine(self.wanted)

    def _measure(self, view: View, face: Steady) -> None:
        """Add what a frame shows of a face to what is known of its track."""
        known = self.tracks.setdefault(face.track, _Likeness())
        known.last = self.count
        # Where nobody saw the face, it may be hidden.
        if face.is_interpolated:
            return
        known.seen += 1
        if known.is_due:
            known.total = known.total + self.sface.direction(view.whole(), face.face.landmarks)
            known.measured += 1

    def memory(self) -> Memory:
        """Return what is known of every track."""
        tracks = {
            str(track): {**vars(known), "total": known.total.tolist()}
            for track, known in self.tracks.items()
        }
        return {"count": self.count, "tracks": tracks}

    def recall(self, memory: Memory) -> None:
        """Go on with what is known of them."""
        self.count = memory["count"]
        self.tracks = {
            int(track): _Likeness(**{**known, "total": np.array(known["total"])})
            for track, known in memory["tracks"].items()
        }


def _by_size(faces: Sequence[Steady]) -> list[Steady]:
    """Return the faces, largest first."""
    return sorted(faces, key=lambda face: face.face.area_px, reverse=True)
