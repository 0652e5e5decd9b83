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
from typing import Any, Protocol, Self, runtime_checkable

import cv2
import numpy as np

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.prefetch import prefetch
from faceswap_cli.core.types import Gray, Image
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.selection import FaceSelector, SelectionRule, SelectLargest
from faceswap_cli.faces.track_smoothing import (
    SMOOTHING_RADIUS,
    Detection,
    FrameTracks,
    SmoothedFace,
    add_detections,
    smooth_tracks,
)
from faceswap_cli.faces.types import Face, FaceDetector
from faceswap_cli.video.frame import Frame

TRACKER_VERSION = 4
"""Changes whenever the same frames would give other faces."""
DETECT_INTERVAL = 10
"""Frames from one search to the next. A newcomer is followed back to where it came in."""
CUT_THRESHOLD = 12.0
"""Mean difference of two small grey images, of 255 levels, that may mean another shot.

Too low a number costs a search and breaks a track, too high a one makes one person of two.
"""
SMOOTHING_SECONDS = Fraction(1, 4)
"""Before and after a frame, what may have a say in where a face is in it."""
PREFETCH_FRAMES = 3
"""Frames decoded before a search wants them, and searched before they are followed."""
SEARCH_MARGIN_DIVISOR = 10
"""A face may move by a tenth of the square around it before its picture is not ready."""
_THUMBNAIL_SIZE = (32, 18)


TrackerState = Mapping[str, Any]
"""What a follower knows after a frame, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How close the frames follow each other."""

    detect_interval: int = DETECT_INTERVAL
    """Frames from one search to the next."""
    smoothing_radius: int = SMOOTHING_RADIUS
    """Frames before and after that have a say in where a face is."""
    is_continuous: bool = True
    """Whether a frame has to do with the one before it."""

    @property
    def lookahead(self) -> int:
        """Frames that are held back: a search may find who came in after the one before it."""
        return self.smoothing_radius + self.detect_interval - 1

    @classmethod
    def from_frame_rate(
        cls, rate: Fraction, *, frame_step: int = 1, is_continuous: bool = True
    ) -> Self:
        """Return the pace of footage.

        Args:
            rate: Its frames a second.
            frame_step: How many of them there are for one that is looked at. Where frames are left
                out, a face may be anywhere in the next one.
            is_continuous: Whether a frame resembles the one before it.
        """
        if not is_continuous:
            return cls(detect_interval=1, smoothing_radius=0, is_continuous=False)
        reach = min(SMOOTHING_RADIUS, int(rate / frame_step * SMOOTHING_SECONDS))
        return cls(
            detect_interval=DETECT_INTERVAL if frame_step == 1 else 1, smoothing_radius=reach
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFrame:
    """A frame with the faces that were chosen."""

    frame: Frame
    faces: Sequence[SmoothedFace]
    """Held steady, largest first."""
    get_state: Callable[[], TrackerState]
    """Returns what is to be known to go on after this frame; to be called before the next comes."""


@runtime_checkable
class TwoStageDetector(FaceDetector, Protocol):
    """A detector whose `detect` is `fit_landmarks` in the regions of `detect_rois`.

    Finding regions takes most of the time and needs no tracked faces, so it runs ahead in a thread
    of its own. Other detectors search when the tracked faces are known.
    """

    def detect_rois(self, image: Image) -> Sequence[RoI]:
        """Return the regions that may hold a face."""

    def fit_landmarks(
        self, image: Image, rois: Sequence[RoI], *, exclude: Sequence[Face]
    ) -> list[Face]:
        """Return the faces in regions, largest first, less those at one of `exclude`."""


class FaceTracker:
    """Finds and follows the faces of footage; a context manager, open inside its block.

    Args:
        detector_factory: Makes what finds and follows faces; two are opened, for searches run ahead.
        selection: Which faces are wanted.
    """

    def __init__(
        self,
        detector_factory: Callable[[], FaceDetector],
        *,
        selection: SelectionRule | None = None,
    ) -> None:
        self._detector_factory = detector_factory
        self._selection = selection or SelectLargest()
        self._predicted_areas: Sequence[Rect] = ()
        """Where faces are likely to be looked for next."""
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        """Load the networks.

        Raises:
            FaceswapError: One cannot be loaded, or the photograph of the choice is no help.
        """
        with ExitStack() as stack:
            self._search_detector = stack.enter_context(self._detector_factory())
            self._track_detector = stack.enter_context(self._detector_factory())
            self._selection.create_selector(
                self._track_detector
            )  # a photograph without a face is said at once
            self._exit_stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit_stack.close()

    def track(
        self,
        frames: Iterator[Frame],
        *,
        config: TrackingConfig | None = None,
        state: TrackerState | None = None,
    ) -> Generator[TrackedFrame, None, None]:
        """Yield every frame with the faces wanted in it.

        Args:
            frames: Frames in the order of showing; those after the frame of `state`.
            config: How close they follow each other.
            state: What was known after the frame before the first; None: nothing.
        """
        config = config or TrackingConfig()
        chooser = self._selection.create_selector(self._track_detector)
        window = _SmoothingWindow(
            radius=config.smoothing_radius, lookahead=config.lookahead, selector=chooser
        )
        if state:
            window.load_state_dict(state)
        with closing(prefetch(frames, depth=PREFETCH_FRAMES)) as decoded:
            looks = self._search(decoded, config, previous=window.last_output)
            with closing(prefetch(looks, depth=PREFETCH_FRAMES)) as searched:
                for frame, look in searched:
                    scene = advance_tracks(
                        window.latest,
                        look,
                        self._track_detector,
                        max_missed=config.smoothing_radius - 1,
                    )
                    window.add(frame, look, scene, self._track_detector)
                    self._predicted_areas = [predict_area(face) for face in scene.faces.values()]
                    if window.is_full:
                        yield window.pop()
        while window.pending:
            yield window.pop()

    def _search(
        self, frames: Iterator[Frame], config: TrackingConfig, *, previous: "_LastFrame"
    ) -> Generator[tuple[Frame, "SearchedImage"], None, None]:
        """Yield the frames with what a search finds in those where one is due."""
        last = previous.thumbnail
        for number, item in enumerate(frames, previous.frame_index + 1):
            small = make_thumbnail(item.view)
            begins = last is None or not config.is_continuous or is_cut(last, small)
            is_due = begins or number % config.detect_interval == 0
            rois = None
            if is_due and isinstance(self._search_detector, TwoStageDetector):
                rois = self._search_detector.detect_rois(item.view.to_array())
            # Whoever follows would wait for its conversion; what is missing then is made up for.
            for area in self._predicted_areas:
                item.view.to_partial_array(area)
            searched = SearchedImage(
                view=item.view,
                thumbnail=small,
                starts_shot=begins,
                is_search_due=is_due,
                rois=rois,
            )
            yield item, searched
            last = small


class OnlineTracker:
    """Follows faces as a `Follower` does, frame by frame, and tells them at once as they are.

    Nothing is smoothed, filled in or chosen: for measuring, not for cutting out.

    Args:
        detector: Finds and follows; open as long as this is used.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._config = TrackingConfig()
        self._thumbnail: Gray | None = None
        self._tracks = FrameTracks.empty()

    def update(self, image: Image) -> list[Face]:
        """Return the faces in the next frame, largest first."""
        view = ArrayImage(image=image)
        before, self._thumbnail = self._thumbnail, make_thumbnail(view)
        begins = before is None or is_cut(before, self._thumbnail)
        is_due = begins or (self._tracks.frame_index + 1) % self._config.detect_interval == 0
        look = SearchedImage(
            view=view,
            thumbnail=self._thumbnail,
            starts_shot=begins,
            is_search_due=is_due,
            rois=None,
        )
        patience = self._config.smoothing_radius - 1
        self._tracks = advance_tracks(self._tracks, look, self._detector, max_missed=patience)
        return sorted(self._tracks.faces.values(), key=lambda face: face.area_px, reverse=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchedImage:
    """A frame's image before the faces of the frame before are tracked into it."""

    view: LazyImage
    thumbnail: Gray
    starts_shot: bool
    """Its faces are not those of the frame before."""
    is_search_due: bool
    rois: Sequence[RoI] | None
    """Regions that a search ahead found; None: there was no such search."""


def advance_tracks(
    previous: FrameTracks,
    searched: SearchedImage,
    detector: FaceDetector,
    *,
    max_missed: int,
) -> FrameTracks:
    """Return who is in the next frame, and which track each is.

    Args:
        previous: The frame before it.
        searched: The frame.
        detector: Follows, and searches where somebody was lost.
        max_missed: Frames in a row that a face may be missing and still be the same.
    """
    number, view = previous.frame_index + 1, searched.view
    known = (
        {}
        if searched.starts_shot
        else previous.active_tracks(number, max_missed=max(0, max_missed))
    )
    there = [seen.face for seen in known.values() if seen.frame_index == previous.frame_index]
    faces = detector.track(view, there) if there else []
    if searched.is_search_due or len(faces) < max(1, len(known)):
        found = _detect(view.to_array(), searched.rois, detector, exclude=faces)
        faces = [*faces, *find_new_faces(found, known=faces)]
    tracks, count = match_tracks(faces, known, track_count=previous.track_count)
    sightings = {
        track: Detection(frame_index=number, face=face)
        for track, face in zip(tracks, faces, strict=True)
    }
    shot = previous.shot + searched.starts_shot
    return FrameTracks(
        frame_index=number, shot=shot, track_count=count, last_seen=known | sightings
    )


def _detect(
    image: Image,
    rois: Sequence[RoI] | None,
    detector: FaceDetector,
    *,
    exclude: Sequence[Face],
) -> list[Face]:
    """Return the faces of an image, less those at one of `exclude`, from its regions if known."""
    if rois is not None and isinstance(detector, TwoStageDetector):
        return detector.fit_landmarks(image, rois, exclude=exclude)
    return detector.detect(image, exclude=exclude)


def predict_area(face: Face) -> Rect:
    """Return where a face will be looked for and cut out a few frames later, most likely."""
    left, top, right, bottom = RoI.from_landmarks(face.landmarks).source_area()
    across, down = (right - left) // SEARCH_MARGIN_DIVISOR, (bottom - top) // SEARCH_MARGIN_DIVISOR
    return Rect(left - across, top - down, right + across, bottom + down)


def find_new_faces(candidates: Sequence[Face], *, known: Sequence[Face]) -> list[Face]:
    """Return the candidates whose box overlaps none of the known faces'."""
    boxes = np.array([face.box for face in known], np.float32).reshape(-1, 4)
    return [face for face in candidates if not (compute_iou(boxes, face.box) > IOU_THRESHOLD).any()]


def match_tracks(
    faces: Sequence[Face], last_seen: Mapping[int, Detection], *, track_count: int
) -> tuple[list[int], int]:
    """Return the track of each face, and how many tracks there are then.

    Those that overlap most find each other first; who overlaps nobody begins a track.
    """
    tracks = list(last_seen)
    boxes = np.array([last_seen[track].face.box for track in tracks], np.float32).reshape(-1, 4)
    shared = np.array([compute_iou(boxes, face.box) for face in faces])
    shared = shared.reshape(len(faces), len(tracks))
    names: dict[int, int] = {}
    while shared.size and shared.max() > IOU_THRESHOLD:
        face, track = np.unravel_index(shared.argmax(), shared.shape)
        names[int(face)] = tracks[track]
        shared[face, :] = shared[:, track] = 0
    new = iter(range(track_count, track_count + len(faces)))
    numbers = [names[face] if face in names else next(new) for face in range(len(faces))]
    return numbers, track_count + len(faces) - len(names)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LastFrame:
    """The frame before the first."""

    frame_index: int
    thumbnail: Gray | None


@dataclass(kw_only=True, eq=False)
class _PendingFrame:
    """A frame on its way out."""

    frame: Frame
    thumbnail: Gray
    tracks: FrameTracks
    """Who is in it, going forwards."""
    backtracked: dict[int, Detection] = field(default_factory=dict)
    """Track -> where somebody was in it who was found after it."""

    @property
    def all_tracks(self) -> FrameTracks:
        """Everybody who is in it."""
        return add_detections(self.tracks, self.backtracked)


@dataclass(kw_only=True)
class _SmoothingWindow:
    """The frames that have a say in where a face is in one of them."""

    radius: int
    lookahead: int
    selector: FaceSelector
    history: deque[tuple[FrameTracks, Mapping[int, Detection]]] = field(default_factory=deque)
    """The frames that came out last, oldest first: who was in them going forwards, who besides."""
    pending: deque[_PendingFrame] = field(default_factory=deque)
    """The frames still to come out."""
    last_output: _LastFrame = field(
        default_factory=lambda: _LastFrame(frame_index=-1, thumbnail=None)
    )
    """The frame that came out last."""

    @property
    def latest(self) -> FrameTracks:
        """The last frame that came in."""
        if self.pending:
            return self.pending[-1].tracks
        return self.history[-1][0] if self.history else FrameTracks.empty()

    @property
    def is_full(self) -> bool:
        """Whether the first frame that waits can come out."""
        return len(self.pending) > self.lookahead

    def add(
        self,
        frame: Frame,
        searched: SearchedImage,
        tracks: FrameTracks,
        detector: FaceDetector,
    ) -> None:
        """Let a frame in, and follow back through those that wait who is new in it."""
        count = self.latest.track_count
        before = list(reversed(self.pending))
        self.pending.append(_PendingFrame(frame=frame, thumbnail=searched.thumbnail, tracks=tracks))
        for track, seen in tracks.detections.items():
            if track >= count:
                _backtrack(before, track, seen.face, shot=tracks.shot, detector=detector)

    def pop(self) -> TrackedFrame:
        """Let the first frame that waits out."""
        first = self.pending.popleft()
        here = first.all_tracks
        past = (add_detections(*one) for one in self.history)
        near = [*past, here, *(one.all_tracks for one in self.pending)]
        faces = self.selector.select(
            first.frame.view, smooth_tracks(near, here, radius=self.radius)
        )
        self.history.append((first.tracks, first.backtracked))
        while len(self.history) > self.radius + 1:
            self.history.popleft()
        self.last_output = _LastFrame(frame_index=here.frame_index, thumbnail=first.thumbnail)
        return TrackedFrame(frame=first.frame, faces=faces, get_state=self.state_dict)

    def state_dict(self) -> TrackerState:
        """Return what is known after the frame that came out last."""
        assert self.last_output.thumbnail is not None
        return {
            "thumbnail": self.last_output.thumbnail.tobytes().hex(),
            "scenes": [scene.to_json(earlier) for scene, earlier in self.history],
            "chooser": self.selector.state_dict(),
        }

    def load_state_dict(self, state: TrackerState) -> None:
        """Go on after that frame."""
        small = np.frombuffer(bytes.fromhex(state["thumbnail"]), np.uint8)
        for fields in state["scenes"]:
            before = self.latest
            self.history.append(
                FrameTracks.from_json(fields, previous=before, max_missed=self.radius - 1)
            )
        self.selector.load_state_dict(state["chooser"])
        width, height = _THUMBNAIL_SIZE
        self.last_output = _LastFrame(
            frame_index=self.latest.frame_index, thumbnail=small.reshape(height, width)
        )


def _backtrack(
    pending: Iterable[_PendingFrame],
    track: int,
    face: Face,
    *,
    shot: int,
    detector: FaceDetector,
) -> None:
    """Add a newcomer to the frames of the shot before, the latest first, until there is nobody.

    What was followed forwards is not touched: begun again in between, all goes the same way.
    """
    for one in pending:
        found = detector.track(one.frame.view, [face]) if one.tracks.shot == shot else []
        there = [seen.face for seen in one.all_tracks.detections.values()]
        if not find_new_faces(found, known=there):
            return
        face = found[0]
        one.backtracked[track] = Detection(frame_index=one.tracks.frame_index, face=face)


def make_thumbnail(view: LazyImage) -> Gray:
    """Return the picture small and grey, enough to tell one shot from another."""
    # Averaging every pixel of a frame would cost as much as placing landmarks does.
    step = max(1, view.size[1] // (4 * _THUMBNAIL_SIZE[1]))
    small = cv2.resize(view.sample_luma(step), _THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def is_cut(previous: Gray, current: Gray) -> bool:
    """Whether two thumbnails look like those of different shots."""
    return bool(np.abs(previous.astype(np.float32) - current).mean() > CUT_THRESHOLD)
