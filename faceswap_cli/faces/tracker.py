"""Face tracking through footage: `FaceTracker`; without smoothing, frame by frame: `OnlineTracker`.

    frames -> searched (a thread) -> tracked -> gaps filled, smoothed -> selected

Every stage gets the faces of frames from here. A search costs several times what fitting the
landmarks of one face does, and a face hardly moves between frames. So faces are tracked by fitting
landmarks where they were in the frame before, and searched for in every `DETECT_INTERVAL`-th
frame, after a cut, and where one was lost. A search only adds new faces, which are also tracked
backwards to the frame they came in; faces that are tracked keep their position and their track.

A face that was lost and appears again in the same shot continues its track, and one that is mixed
up with another gets its own back (`faces.reidentification`).

A frame comes out `TrackingConfig.lookahead` frames after it went in, together with the tracker's
state. Started with that state at the next frame, a tracker continues exactly as if it had never
stopped.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Protocol, Self, runtime_checkable

import cv2
import numpy as np

from faceswap_cli.core.lazy_image import ArrayImage, LazyImage, Rect
from faceswap_cli.core.prefetch import prefetch
from faceswap_cli.core.types import Gray, Image
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou, compute_overlap
from faceswap_cli.faces.detectors.roi import RoI
from faceswap_cli.faces.reidentification import (
    FaceEmbedder,
    Identities,
    LazySFace,
    ReIdentifier,
)
from faceswap_cli.faces.selection import FaceSelector, SelectionRule, SelectLargest
from faceswap_cli.faces.track_smoothing import (
    SMOOTHING_RADIUS,
    Detection,
    FrameTracks,
    SmoothedFace,
    add_detections,
    resolve_links,
    smooth_tracks,
)
from faceswap_cli.faces.types import Face, FaceDetector
from faceswap_cli.video.frame import Frame

TRACKER_VERSION = 5
"""Changes whenever the same frames would give other faces."""
DETECT_INTERVAL = 10
"""Frames from one search to the next. A new face is tracked back to where it came in."""
CUT_THRESHOLD = 12.0
"""Mean difference of two thumbnails, of 255 levels, above which there may be a cut between them.

Too low a number costs a search and breaks a track, too high a one puts two people on one track.
"""
LOCAL_CHANGE_LEVELS = 6.0
"""Difference of two pixels of thumbnails, of 255 levels, above which that part has changed."""
LOCAL_CHANGE_SHARE = 2 / 3
"""If a smaller part of the image has changed, something large may have moved into it or out of it.

It is no cut if a face that was tracked is still there.
"""
NEW_FACE_OVERLAP = 0.25
"""A face is new if no tracked one shares more than this part of the smaller box with it.

In a street scene heads in front of each other shared 0.28 at most, and 0.08 on average; what was
found in the hair above a tracked face shared 0.33 and more of it.
"""
SMOOTHING_SECONDS = Fraction(1, 4)
"""Frames up to this long before and after a frame take part in smoothing."""
PREFETCH_FRAMES = 3
"""Frames decoded ahead of the search, and searched ahead of tracking."""
SEARCH_MARGIN_DIVISOR = 10
"""A face may move by a tenth of the square around it and still be in the area converted ahead."""
_THUMBNAIL_SIZE = (32, 18)


TrackerState = Mapping[str, Any]
"""The state of a tracker after a frame, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """How closely the frames follow each other, and what that allows."""

    detect_interval: int = DETECT_INTERVAL
    """Frames from one search to the next."""
    smoothing_radius: int = SMOOTHING_RADIUS
    """Frames before and after a frame that take part in smoothing."""
    frame_rate: Fraction = Fraction(25)
    """Frames a second, of those that are processed."""
    is_continuous: bool = True
    """Whether a frame resembles the one before it."""

    @property
    def max_missed(self) -> int:
        """Frames in a row that a face may be missing and is searched for in each of them."""
        return max(0, self.smoothing_radius - 1)

    def create_reidentifier(self, embedder: FaceEmbedder) -> ReIdentifier | None:
        """Return what gives lost faces their tracks back; None if frames do not follow another."""
        if not self.is_continuous:
            return None
        return ReIdentifier(embedder, frame_rate=self.frame_rate, max_missed=self.max_missed)

    @property
    def lookahead(self) -> int:
        """Frames held back: the next search may find a face that came in after the last one."""
        return self.smoothing_radius + self.detect_interval - 1

    @classmethod
    def from_frame_rate(
        cls, rate: Fraction, *, frame_step: int = 1, is_continuous: bool = True
    ) -> Self:
        """Return the configuration for footage.

        Args:
            rate: Its frames a second.
            frame_step: One of how many frames is processed. With gaps between them a face may be
                anywhere in the next one, so each is searched.
            is_continuous: Whether a frame resembles the one before it.
        """
        if not is_continuous:
            return cls(detect_interval=1, smoothing_radius=0, is_continuous=False)
        frame_rate = Fraction(rate) / frame_step
        return cls(
            detect_interval=DETECT_INTERVAL if frame_step == 1 else 1,
            smoothing_radius=min(SMOOTHING_RADIUS, int(frame_rate * SMOOTHING_SECONDS)),
            frame_rate=frame_rate,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFrame:
    """A frame with the faces that were selected."""

    frame: Frame
    faces: Sequence[SmoothedFace]
    """Largest first."""
    get_state: Callable[[], TrackerState]
    """Returns the tracker's state after this frame; valid until the next frame is taken."""


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
    """Finds and tracks the faces of footage; a context manager, open inside its block.

    Args:
        detector_factory: Makes a detector; two are opened, since searches run ahead in a thread.
        selection: Which faces are wanted; the largest if not given.
        embedder: Tells people apart; SFace if not given.
    """

    def __init__(
        self,
        detector_factory: Callable[[], FaceDetector],
        *,
        selection: SelectionRule | None = None,
        embedder: FaceEmbedder | None = None,
    ) -> None:
        self._detector_factory = detector_factory
        self._selection = selection or SelectLargest()
        self._embedder = embedder or LazySFace()
        self._predicted_areas: Sequence[Rect] = ()
        """Where faces are likely to be in the next frames."""
        self._exit_stack = ExitStack()

    def __enter__(self) -> Self:
        """Load the networks.

        Raises:
            FaceswapError: One cannot be loaded, or the selection's photo is unusable.
        """
        with ExitStack() as stack:
            self._search_detector = stack.enter_context(self._detector_factory())
            self._track_detector = stack.enter_context(self._detector_factory())
            # Fail now, not at the first frame, if the photo has no face.
            self._selection.create_selector(self._track_detector)
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
        """Yield every frame with its selected faces.

        Args:
            frames: Frames in display order; if resuming, those after the frame of `state`.
            config: How closely they follow each other.
            state: The state after the frame before the first; None starts anew.
        """
        config = config or TrackingConfig()
        selector = self._selection.create_selector(self._track_detector)
        reidentifier = config.create_reidentifier(self._embedder)
        window = _SmoothingWindow(
            radius=config.smoothing_radius, lookahead=config.lookahead, selector=selector
        )
        if state:
            window.load_state_dict(state)
        with closing(prefetch(frames, depth=PREFETCH_FRAMES)) as decoded:
            search = self._search(decoded, config, previous=window.last_output)
            with closing(prefetch(search, depth=PREFETCH_FRAMES)) as results:
                for frame, searched in results:
                    tracks = advance_tracks(
                        window.latest,
                        searched,
                        self._track_detector,
                        max_missed=config.max_missed,
                        reidentifier=reidentifier,
                    )
                    window.add(frame, searched, tracks, self._track_detector)
                    self._predicted_areas = [predict_area(face) for face in tracks.faces.values()]
                    if window.is_full:
                        yield window.pop()
        while window.pending:
            yield window.pop()

    def _search(
        self, frames: Iterator[Frame], config: TrackingConfig, *, previous: "_LastFrame"
    ) -> Generator[tuple[Frame, "SearchedImage"], None, None]:
        """Yield the frames with the result of the search ahead in those where one is due."""
        last = previous.thumbnail
        for index, frame in enumerate(frames, previous.frame_index + 1):
            thumbnail = make_thumbnail(frame.view)
            starts_shot = last is None or not config.is_continuous or is_cut(last, thumbnail)
            is_search_due = starts_shot or index % config.detect_interval == 0
            rois = None
            if is_search_due and isinstance(self._search_detector, TwoStageDetector):
                rois = self._search_detector.detect_rois(frame.view.to_array())
            # Convert here what tracking will read, so that it need not wait; it converts the rest.
            for area in self._predicted_areas:
                frame.view.to_partial_array(area)
            searched = SearchedImage(
                view=frame.view,
                thumbnail=thumbnail,
                starts_shot=starts_shot,
                is_local_change=last is not None and is_local_change(last, thumbnail),
                is_search_due=is_search_due,
                rois=rois,
            )
            yield frame, searched
            last = thumbnail


class OnlineTracker:
    """Tracks faces as `FaceTracker` does, but returns those of each frame at once.

    Nothing is smoothed, filled in or selected: for measuring, not for cropping.

    Args:
        detector: An open detector; stays open as long as this is used.
        embedder: Tells people apart; SFace if not given.
    """

    def __init__(self, detector: FaceDetector, *, embedder: FaceEmbedder | None = None) -> None:
        self._detector = detector
        self._config = TrackingConfig()
        self._reidentifier = self._config.create_reidentifier(embedder or LazySFace())
        self._thumbnail: Gray | None = None
        self._tracks = FrameTracks.empty()

    def update(self, image: Image) -> FrameTracks:
        """Return the faces in the next frame and their tracks."""
        view = ArrayImage(image=image)
        previous, self._thumbnail = self._thumbnail, make_thumbnail(view)
        starts_shot = previous is None or is_cut(previous, self._thumbnail)
        next_index = self._tracks.frame_index + 1
        searched = SearchedImage(
            view=view,
            thumbnail=self._thumbnail,
            starts_shot=starts_shot,
            is_local_change=previous is not None and is_local_change(previous, self._thumbnail),
            is_search_due=starts_shot or next_index % self._config.detect_interval == 0,
            rois=None,
        )
        self._tracks = advance_tracks(
            self._tracks,
            searched,
            self._detector,
            max_missed=self._config.max_missed,
            reidentifier=self._reidentifier,
        )
        return resolve_links(self._tracks, self._tracks.identities.links)


@dataclass(frozen=True, kw_only=True, eq=False)
class SearchedImage:
    """A frame's image before the faces of the frame before are tracked into it."""

    view: LazyImage
    thumbnail: Gray
    starts_shot: bool
    """No track continues from the frame before, ..."""
    is_local_change: bool
    """... unless a face does: only a part of the image has changed."""
    is_search_due: bool
    rois: Sequence[RoI] | None
    """The regions found ahead of tracking; None if there was no such search."""


def advance_tracks(
    previous: FrameTracks,
    searched: SearchedImage,
    detector: FaceDetector,
    *,
    max_missed: int,
    reidentifier: ReIdentifier | None,
) -> FrameTracks:
    """Return the faces of the next frame and their tracks.

    Args:
        previous: The frame before it.
        searched: The frame.
        detector: Tracks the faces, and searches where one was lost.
        max_missed: Frames in a row in which a lost face is searched for.
        reidentifier: Finds the tracks of faces that appear, and of those that may be mixed up;
            None if every frame is a shot of its own.
    """
    index, view = previous.frame_index + 1, searched.view
    visible = previous.detections
    tracked = _track_visible(previous, searched, detector, reidentifier)
    starts_shot = tracked is None
    if tracked is None:
        tracked, visible, previous = [], {}, previous.end_shot()
    active = previous.active_tracks(index, max_missed=max_missed)
    found: Sequence[Face] = []
    if searched.is_search_due or len(tracked) < max(1, len(active)):
        detected = _detect(view.to_array(), searched.rois, detector, exclude=tracked)
        found = find_new_faces(detected, known=tracked)
    faces = [*tracked, *found]
    tracks, track_count = match_tracks(faces, visible, track_count=previous.track_count)
    numbered = dict(zip(tracks, faces, strict=True))
    identities = previous.identities
    if reidentifier is not None:
        identified = reidentifier.update(
            identities,
            numbered,
            view=view,
            frame_index=index,
            found=tracks[len(tracked) :],
            track_count=previous.track_count,
        )
        numbered, track_count = dict(identified.faces), identified.track_count
        identities = identified.identities
    detections = {
        track: Detection(frame_index=index, face=face) for track, face in numbered.items()
    }
    return FrameTracks(
        frame_index=index,
        shot=previous.shot + starts_shot,
        track_count=track_count,
        last_seen=dict(sorted((active | detections).items())),
        identities=identities,
    )


def _track_visible(
    previous: FrameTracks,
    searched: SearchedImage,
    detector: FaceDetector,
    reidentifier: ReIdentifier | None,
) -> list[Face] | None:
    """Return the faces of the frame before that are still there; None if a new shot starts."""
    visible = previous.detections
    if searched.starts_shot and not (reidentifier and searched.is_local_change and visible):
        return None
    faces = [last.face for last in visible.values()]
    tracked = detector.track(searched.view, faces) if faces else []
    if searched.starts_shot and reidentifier:
        tracks, _ = match_tracks(tracked, visible, track_count=previous.track_count)
        numbered = dict(zip(tracks, tracked, strict=True))
        if not reidentifier.any_continues(previous.identities, numbered, view=searched.view):
            return None
    return tracked


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
    """Return where a face will most likely be tracked and cropped a few frames later."""
    left, top, right, bottom = RoI.from_landmarks(face.landmarks).source_area()
    across, down = (right - left) // SEARCH_MARGIN_DIVISOR, (bottom - top) // SEARCH_MARGIN_DIVISOR
    return Rect(left - across, top - down, right + across, bottom + down)


def find_new_faces(candidates: Sequence[Face], *, known: Sequence[Face]) -> list[Face]:
    """Return the candidates that cover little of the known faces, and are covered little by them.

    A head has one face: what is found in its hair overlaps the face by a third.
    """
    boxes = np.array([face.box for face in known], np.float32).reshape(-1, 4)
    return [
        face
        for face in candidates
        if not (compute_overlap(boxes, face.box) > NEW_FACE_OVERLAP).any()
    ]


def match_tracks(
    faces: Sequence[Face], last_seen: Mapping[int, Detection], *, track_count: int
) -> tuple[list[int], int]:
    """Return the track of each face, and the number of tracks started so far.

    Pairs are matched greedily by overlap; a face that overlaps no track starts a new one.
    """
    tracks = list(last_seen)
    boxes = np.array([last_seen[track].face.box for track in tracks], np.float32).reshape(-1, 4)
    ious = np.array([compute_iou(boxes, face.box) for face in faces])
    ious = ious.reshape(len(faces), len(tracks))
    matched: dict[int, int] = {}
    while ious.size and ious.max() > IOU_THRESHOLD:
        face, track = np.unravel_index(ious.argmax(), ious.shape)
        matched[int(face)] = tracks[track]
        ious[face, :] = ious[:, track] = 0
    new = iter(range(track_count, track_count + len(faces)))
    of_faces = [matched[face] if face in matched else next(new) for face in range(len(faces))]
    return of_faces, track_count + len(faces) - len(matched)


@dataclass(frozen=True, kw_only=True, eq=False)
class _LastFrame:
    """The frame that came out last."""

    frame_index: int
    thumbnail: Gray | None


@dataclass(kw_only=True, eq=False)
class _PendingFrame:
    """A frame that waits for later ones."""

    frame: Frame
    thumbnail: Gray
    tracks: FrameTracks
    """Its faces tracked forwards."""
    backtracked: dict[int, Detection] = field(default_factory=dict)
    """Track -> a face found in a later frame and tracked back to this one."""

    @property
    def all_tracks(self) -> FrameTracks:
        """All of its faces."""
        return add_detections(self.tracks, self.backtracked)


@dataclass(kw_only=True)
class _SmoothingWindow:
    """The frames that take part in smoothing one of them."""

    radius: int
    lookahead: int
    selector: FaceSelector
    history: deque[tuple[FrameTracks, Mapping[int, Detection]]] = field(default_factory=deque)
    """The frames that came out last, oldest first: their faces tracked forwards, and backwards."""
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
        """Whether the first pending frame can come out."""
        return len(self.pending) > self.lookahead

    def add(
        self,
        frame: Frame,
        searched: SearchedImage,
        tracks: FrameTracks,
        detector: FaceDetector,
    ) -> None:
        """Add a frame, and track faces that appear in it backwards through the pending ones."""
        active = self.latest.last_seen
        before = list(reversed(self.pending))
        self.pending.append(_PendingFrame(frame=frame, thumbnail=searched.thumbnail, tracks=tracks))
        for track, detection in tracks.detections.items():
            if track not in active:
                _backtrack(before, track, detection.face, shot=tracks.shot, detector=detector)

    def pop(self) -> TrackedFrame:
        """Remove the first pending frame and return it with its smoothed, selected faces."""
        first = self.pending.popleft()
        current = first.all_tracks
        past = (add_detections(*one) for one in self.history)
        links = self.latest.identities.links if self.pending else first.tracks.identities.links
        nearby = [
            resolve_links(tracks, links)
            for tracks in (*past, current, *(one.all_tracks for one in self.pending))
        ]
        current = nearby[len(self.history)]
        smoothed = smooth_tracks(nearby, current, radius=self.radius)
        faces = self.selector.select(first.frame, smoothed)
        self.history.append((first.tracks, first.backtracked))
        while len(self.history) > self.radius + 1:
            self.history.popleft()
        self.last_output = _LastFrame(frame_index=current.frame_index, thumbnail=first.thumbnail)
        return TrackedFrame(frame=first.frame, faces=faces, get_state=self.state_dict)

    def state_dict(self) -> TrackerState:
        """Return the state after the frame that came out last."""
        assert self.last_output.thumbnail is not None
        return {
            "thumbnail": self.last_output.thumbnail.tobytes().hex(),
            "scenes": [tracks.to_json(backtracked) for tracks, backtracked in self.history],
            "identities": self.history[-1][0].identities.to_json(),
            "chooser": self.selector.state_dict(),
        }

    def load_state_dict(self, state: TrackerState) -> None:
        """Continue after the frame of `state`."""
        thumbnail = np.frombuffer(bytes.fromhex(state["thumbnail"]), np.uint8)
        for fields in state["scenes"]:
            previous = self.latest
            self.history.append(
                FrameTracks.from_json(fields, previous=previous, max_missed=self.radius - 1)
            )
        last, backtracked = self.history.pop()
        identities = Identities.from_json(state["identities"])
        self.history.append((replace(last, identities=identities), backtracked))
        self.selector.load_state_dict(state["chooser"])
        width, height = _THUMBNAIL_SIZE
        self.last_output = _LastFrame(
            frame_index=self.latest.frame_index, thumbnail=thumbnail.reshape(height, width)
        )


def _backtrack(
    pending: Iterable[_PendingFrame],
    track: int,
    face: Face,
    *,
    shot: int,
    detector: FaceDetector,
) -> None:
    """Add a face that appears to the pending frames of its shot, latest first, while it is there.

    Faces tracked forwards are left alone, so a run resumed in between gives the same.
    """
    for one in pending:
        if one.tracks.shot != shot or track in one.all_tracks.detections:
            return
        found = detector.track(one.frame.view, [face])
        known = [detection.face for detection in one.all_tracks.detections.values()]
        if not find_new_faces(found, known=known):
            return
        face = found[0]
        one.backtracked[track] = Detection(frame_index=one.tracks.frame_index, face=face)


def make_thumbnail(view: LazyImage) -> Gray:
    """Return the image small and gray, enough to find cuts by."""
    # Averaging every pixel of a frame would cost as much as fitting landmarks does.
    step = max(1, view.size[1] // (4 * _THUMBNAIL_SIZE[1]))
    small = cv2.resize(view.sample_luma(step), _THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)


def is_local_change(previous: Gray, current: Gray) -> bool:
    """Return whether two thumbnails differ in a part of the image only."""
    differences = np.abs(previous.astype(np.float32) - current)
    return bool((differences > LOCAL_CHANGE_LEVELS).mean() < LOCAL_CHANGE_SHARE)


def is_cut(previous: Gray, current: Gray) -> bool:
    """Return whether two thumbnails differ as those of different shots do."""
    return bool(np.abs(previous.astype(np.float32) - current).mean() > CUT_THRESHOLD)
