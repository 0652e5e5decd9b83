"""Faces from frame to frame: searched for now and then, followed in between, held steady.

    frames -> searched (a thread) -> followed -> gaps filled, jitter taken out -> chosen

The one way from frames to the faces in them, for every stage. Looking for faces costs several
times what placing the landmarks of one does, and a face is where it was a moment ago: so faces are
followed, and searched for in every `EVERY`-th frame, after a cut, and where one was lost. A search
brings newcomers only, who are followed backwards too, to where they came in; who is followed keeps
their place and their track.

A frame comes out `Pace.held` frames after it went in, with a memory: begun again after that frame
with it, the follower goes on exactly as if it had never stopped.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Generic, Protocol, Self, TypeVar

import cv2
import numpy as np

from faceswap_cli.ahead import ahead
from faceswap_cli.arrays import Grey, Image
from faceswap_cli.faces.choose import Choice, Chooser, Largest
from faceswap_cli.faces.detect import Face, FaceDetector
from faceswap_cli.faces.region import Region, overlaps
from faceswap_cli.faces.track import (
    REACH,
    SAME_FACE,
    Scene,
    Sighting,
    Steady,
    steadied,
    with_more,
)
from faceswap_cli.views import Area, Still, View

EVERY = 10
"""Frames from one search to the next. A newcomer is followed back to where it came in."""
CUT_LEVELS = 12.0
"""Mean difference of two small grey images, of 255 levels, that may mean another shot.

Too low a number costs a search and breaks a track, too high a one makes one person of two.
"""
STEADY_SECONDS = Fraction(1, 4)
"""Before and after a frame, what may have a say in where a face is in it."""
WAITING_FRAMES = 3
"""Frames decoded before a search wants them, and searched before they are followed."""
ROOM = 10
"""A face may move by a tenth of the square around it before its picture is not ready."""
_THUMBNAIL = (32, 18)


class Pictured(Protocol):
    """Anything with a picture."""

    @property
    def view(self) -> View:
        """The picture."""


Item = TypeVar("Item", bound=Pictured)
Memory = Mapping[str, Any]
"""What a follower knows after a frame, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How close the frames follow each other."""

    search_every: int = EVERY
    """Frames from one search to the next."""
    reach: int = REACH
    """Frames before and after that have a say in where a face is."""
    moves: bool = True
    """Whether a frame has to do with the one before it."""

    @property
    def held(self) -> int:
        """Frames that are held back: a search may find who came in after the one before it."""
        return self.reach + self.search_every - 1

    @classmethod
    def of(cls, rate: Fraction, *, every: int = 1, moves: bool = True) -> Self:
        """Return the pace of footage.

        Args:
            rate: Its frames a second.
            every: How many of them there are for one that is looked at. Where frames are left
                out, a face may be anywhere in the next one.
            moves: Whether a frame resembles the one before it.
        """
        if not moves:
            return cls(search_every=1, reach=0, moves=False)
        reach = min(REACH, int(rate / every * STEADY_SECONDS))
        return cls(search_every=EVERY if every == 1 else 1, reach=reach)


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched(Generic[Item]):
    """A frame with the faces that were chosen."""

    item: Item
    faces: Sequence[Steady]
    """Held steady, largest first."""
    memory: Callable[[], Memory]
    """Returns what is to be known to go on after this frame; to be called before the next comes."""


class Follower:
    """Finds and follows the faces of footage; a context manager, open inside its block.

    Args:
        detector: Makes what finds and follows faces; two are opened, for searches run ahead.
        choice: Which faces are wanted.
    """

    def __init__(
        self, detector: Callable[[], FaceDetector], *, choice: Choice | None = None
    ) -> None:
        self._make = detector
        self._choice = choice or Largest()
        self._expected: Sequence[Area] = ()
        """Where faces are likely to be looked for next."""
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Load the networks.

        Raises:
            FaceswapError: One cannot be loaded, or the photograph of the choice is no help.
        """
        with ExitStack() as stack:
            self._searching = stack.enter_context(self._make())
            self._following = stack.enter_context(self._make())
            self._choice.chooser(self._following)  # a photograph without a face is said at once
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def over(
        self, frames: Iterator[Item], *, pace: Pace | None = None, memory: Memory | None = None
    ) -> Generator[Watched[Item], None, None]:
        """Yield every frame with the faces wanted in it.

        Args:
            frames: Frames in the order of showing; those after the frame of `memory`.
            pace: How close they follow each other.
            memory: What was known after the frame before the first; None: nothing.
        """
        pace = pace or Pace()
        chooser = self._choice.chooser(self._following)
        window: _Window[Item] = _Window(reach=pace.reach, held=pace.held, chooser=chooser)
        if memory:
            window.recall(memory)
        with closing(ahead(frames, depth=WAITING_FRAMES)) as decoded:
            looks = self._searched(decoded, pace, before=window.last)
            with closing(ahead(looks, depth=WAITING_FRAMES)) as searched:
                for look in searched:
                    scene = next_scene(
                        window.newest, look, self._following, patience=pace.reach - 1
                    )
                    window.add(look, scene, self._following)
                    self._expected = [expected(face) for face in scene.faces.values()]
                    if window.is_full:
                        yield window.settled()
        while window.waiting:
            yield window.settled()

    def _searched(
        self, frames: Iterator[Item], pace: Pace, *, before: "_Last"
    ) -> Generator["Look[Item]", None, None]:
        """Yield the frames with what a search finds in those where one is due."""
        last = before.thumbnail
        for number, item in enumerate(frames, before.number + 1):
            small = thumbnail(item.view)
            begins = last is None or not pace.moves or is_cut(last, small)
            is_due = begins or number % pace.search_every == 0
            found = self._searching.find(item.view.whole()) if is_due else None
            # Whoever follows would wait for its conversion; what is missing then is made up for.
            for area in self._expected:
                item.view.showing(area)
            yield Look(item=item, thumbnail=small, begins_shot=begins, found=found)
            last = small


class Onlooker:
    """Follows faces as a `Follower` does, frame by frame, and tells them at once as they are.

    Nothing is smoothed, filled in or chosen: for measuring, not for cutting out.

    Args:
        detector: Finds and follows; open as long as this is used.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._pace = Pace()
        self._thumbnail: Grey | None = None
        self._scene = Scene.empty()

    def look(self, image: Image) -> list[Face]:
        """Return the faces in the next frame, largest first."""
        view = Still(image=image)
        before, self._thumbnail = self._thumbnail, thumbnail(view)
        begins = before is None or is_cut(before, self._thumbnail)
        is_due = begins or (self._scene.number + 1) % self._pace.search_every == 0
        look = Look(
            item=_Bare(view=view),
            thumbnail=self._thumbnail,
            begins_shot=begins,
            found=self._detector.find(image) if is_due else None,
        )
        patience = self._pace.reach - 1
        self._scene = next_scene(self._scene, look, self._detector, patience=patience)
        return sorted(self._scene.faces.values(), key=lambda face: face.area_px, reverse=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Bare:
    """A picture and nothing else."""

    view: View


@dataclass(frozen=True, kw_only=True, eq=False)
class Look(Generic[Item]):
    """A frame before anybody is followed into it."""

    item: Item
    thumbnail: Grey
    begins_shot: bool
    """Nobody in it is who they were."""
    found: Sequence[Region] | None
    """Where a search found faces; None: there was no search."""


def next_scene(before: Scene, look: Look[Item], detector: FaceDetector, *, patience: int) -> Scene:
    """Return who is in the next frame, and which track each is.

    Args:
        before: The frame before it.
        look: The frame.
        detector: Follows, and searches where somebody was lost.
        patience: Frames in a row that a face may be missing and still be the same.
    """
    number, view, found = before.number + 1, look.item.view, look.found
    known = {} if look.begins_shot else before.open_at(number, patience=max(0, patience))
    there = [seen.face for seen in known.values() if seen.number == before.number]
    faces = detector.follow(view, there) if there else []
    if found is None and len(faces) < max(1, len(known)):
        found = detector.find(view.whole())
    if found:
        placed = detector.place(view.whole(), found, beside=faces)
        faces = [*faces, *newcomers(placed, beside=faces)]
    tracks, count = named(faces, known, count=before.count)
    sightings = {
        track: Sighting(number=number, face=face) for track, face in zip(tracks, faces, strict=True)
    }
    shot = before.shot + look.begins_shot
    return Scene(number=number, shot=shot, count=count, seen=known | sightings)


def expected(face: Face) -> Area:
    """Return where a face will be looked for and cut out a few frames later, most likely."""
    left, top, right, bottom = Region.of(face.landmarks).area()
    across, down = (right - left) // ROOM, (bottom - top) // ROOM
    return left - across, top - down, right + across, bottom + down


def newcomers(found: Sequence[Face], *, beside: Sequence[Face]) -> list[Face]:
    """Return the faces that do not lie where another does."""
    boxes = np.array([face.box for face in beside], np.float32).reshape(-1, 2, 2)
    return [
        face for face in found if not (overlaps(boxes, face.box.reshape(2, 2)) > SAME_FACE).any()
    ]


def named(
    faces: Sequence[Face], known: Mapping[int, Sighting], *, count: int
) -> tuple[list[int], int]:
    """Return the track of each face, and how many tracks there are then.

    Those that overlap most find each other first; who overlaps nobody begins a track.
    """
    tracks = list(known)
    boxes = np.array([known[track].face.box for track in tracks], np.float32).reshape(-1, 2, 2)
    shared = np.array([overlaps(boxes, face.box.reshape(2, 2)) for face in faces])
    shared = shared.reshape(len(faces), len(tracks))
    names: dict[int, int] = {}
    while shared.size and shared.max() > SAME_FACE:
        face, track = np.unravel_index(shared.argmax(), shared.shape)
        names[int(face)] = tracks[track]
        shared[face, :] = shared[:, track] = 0
    new = iter(range(count, count + len(faces)))
    numbers = [names[face] if face in names else next(new) for face in range(len(faces))]
    return numbers, count + len(faces) - len(names)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Last:
    """The frame before the first."""

    number: int
    thumbnail: Grey | None


@dataclass(kw_only=True, eq=False)
class _Waiting(Generic[Item]):
    """A frame on its way out."""

    look: Look[Item]
    scene: Scene
    """Who is in it, going forwards."""
    earlier: dict[int, Sighting] = field(default_factory=dict)
    """Track -> where somebody was in it who was found after it."""

    @property
    def whole(self) -> Scene:
        """Everybody who is in it."""
        return with_more(self.scene, self.earlier)


@dataclass(kw_only=True)
class _Window(Generic[Item]):
    """The frames that have a say in where a face is in one of them."""

    reach: int
    held: int
    chooser: Chooser
    past: deque[tuple[Scene, Mapping[int, Sighting]]] = field(default_factory=deque)
    """The frames that came out last, oldest first: who was in them going forwards, who besides."""
    waiting: deque[_Waiting[Item]] = field(default_factory=deque)
    """The frames still to come out."""
    last: _Last = field(default_factory=lambda: _Last(number=-1, thumbnail=None))
    """The frame that came out last."""

    @property
    def newest(self) -> Scene:
        """The last frame that came in."""
        if self.waiting:
            return self.waiting[-1].scene
        return self.past[-1][0] if self.past else Scene.empty()

    @property
    def is_full(self) -> bool:
        """Whether the first frame that waits can come out."""
        return len(self.waiting) > self.held

    def add(self, look: Look[Item], scene: Scene, detector: FaceDetector) -> None:
        """Let a frame in, and follow back through those that wait who is new in it."""
        count = self.newest.count
        before = list(reversed(self.waiting))
        self.waiting.append(_Waiting(look=look, scene=scene))
        for track, seen in scene.here.items():
            if track >= count:
                _follow_back(before, track, seen.face, shot=scene.shot, detector=detector)

    def settled(self) -> Watched[Item]:
        """Let the first frame that waits out."""
        first = self.waiting.popleft()
        look, here = first.look, first.whole
        past = (with_more(*one) for one in self.past)
        near = [*past, here, *(one.whole for one in self.waiting)]
        faces = self.chooser.pick(look.item.view, steadied(near, here, reach=self.reach))
        self.past.append((first.scene, first.earlier))
        while len(self.past) > self.reach + 1:
            self.past.popleft()
        self.last = _Last(number=here.number, thumbnail=look.thumbnail)
        return Watched(item=look.item, faces=faces, memory=self.memory)

    def memory(self) -> Memory:
        """Return what is known after the frame that came out last."""
        assert self.last.thumbnail is not None
        return {
            "thumbnail": self.last.thumbnail.tobytes().hex(),
            "scenes": [scene.to_json(earlier) for scene, earlier in self.past],
            "chooser": self.chooser.memory(),
        }

    def recall(self, memory: Memory) -> None:
        """Go on after that frame."""
        small = np.frombuffer(bytes.fromhex(memory["thumbnail"]), np.uint8)
        for fields in memory["scenes"]:
            before = self.newest
            self.past.append(Scene.from_json(fields, before=before, patience=self.reach - 1))
        self.chooser.recall(memory["chooser"])
        width, height = _THUMBNAIL
        self.last = _Last(number=self.newest.number, thumbnail=small.reshape(height, width))


def _follow_back(
    before: Iterable[_Waiting[Item]], track: int, face: Face, *, shot: int, detector: FaceDetector
) -> None:
    """Add a newcomer to the frames of the shot before, the latest first, until there is nobody.

    What was followed forwards is not touched: begun again in between, all goes the same way.
    """
    for one in before:
        found = detector.follow(one.look.item.view, [face]) if one.scene.shot == shot else []
        there = [seen.face for seen in one.whole.here.values()]
        if not newcomers(found, beside=there):
            return
        face = found[0]
        one.earlier[track] = Sighting(number=one.scene.number, face=face)


def thumbnail(view: View) -> Grey:
    """Return the picture small and grey, enough to tell one shot from another."""
    # Averaging every pixel of a frame would cost as much as placing landmarks does.
    step = max(1, view.size[1] // (4 * _THUMBNAIL[1]))
    small = cv2.resize(view.grey(step), _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def is_cut(before: Grey, now: Grey) -> bool:
    """Whether two thumbnails look like those of different shots."""
    return bool(np.abs(before.astype(np.float32) - now).mean() > CUT_LEVELS)
