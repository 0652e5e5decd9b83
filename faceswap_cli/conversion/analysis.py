"""First pass of a conversion: the faces of a whole clip, copied from a set or detected and tracked.

`find_extracted_sets` lists the sets extracted from the clip's file, `analyze_clip` returns its
faces.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from faceswap_cli.conversion.assignment import FaceAssigner, FaceAssignment
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import (
    EXCLUDED,
    SAVE_INTERVAL_FRAMES,
    FaceIndex,
    IndexedFace,
    IndexProgress,
)
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import (
    DamagedFileError,
    fsync,
    make_folder,
    sha256_file,
    translate_os_errors,
)
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.signals import graceful_interrupt
from faceswap_cli.core.workspace import SetFolder, Workspace
from faceswap_cli.faces.alignment import TEMPLATE_VERSION
from faceswap_cli.faces.curation.outliers import MAX_COVERED
from faceswap_cli.faces.dataset import read_records, read_records_digest
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, LOCATION_DETECTORS
from faceswap_cli.faces.selection import SelectAll
from faceswap_cli.faces.set_source import read_source
from faceswap_cli.faces.tracker import TRACKER_VERSION, FaceTracker, TrackingConfig
from faceswap_cli.video.frame import FramePosition, MissingSpan, MissingSpans
from faceswap_cli.video.source import ReportMissing
from faceswap_cli.video.time_range import TimeRange

DEFAULT_EXTRACT_SETTINGS: Mapping[str, Any] = {
    "every": 1,
    "start_s": 0.0,
    "end_s": None,
    "faces": "largest",
    "template": None,
}
"""What a set was extracted with where its `source.toml` does not say."""


@dataclass(frozen=True, kw_only=True)
class ExtractedSet:
    """A set that was extracted from the clip's file, perhaps with other files."""

    folder: SetFolder
    input_index: int
    """Which of the set's inputs the file is, counted from 0."""
    settings: Mapping[str, Any]
    """What it was extracted with."""
    is_finished: bool

    def digest(self) -> str:
        """Return a digest of its records, and of which crops are still there."""
        folders = (self.folder.root, self.folder.rejected)
        names = {path.name for folder in folders for path in folder.glob("[0-9]*-*.*")}
        text = json.dumps([sha256_file(self.folder.records), sorted(names)])
        return hashlib.sha256(text.encode()).hexdigest()

    def count_covered(self, clip: Clip) -> int:
        """Return how many of its faces in a clip have something in front of them."""
        return sum(
            record.input_index == self.input_index
            and clip.contains(record.time)
            and record.covered > MAX_COVERED
            for record in read_records(self.folder.records)
        )

    def has_all_faces(self, clip: Clip, assignment: FaceAssignment) -> bool:
        """Return whether it holds every face of the clip that an assignment selects."""
        settings = {**DEFAULT_EXTRACT_SETTINGS, **self.settings}
        is_every_frame = settings["every"] == 1 and not {"fps", "max_faces"} & settings.keys()
        extracted_range = TimeRange.from_seconds(settings["start_s"], settings["end_s"])
        is_same_selection = settings["faces"] == assignment.selector.canonical_text()
        is_same_alignment = settings["template"] == TEMPLATE_VERSION
        return (
            self.is_finished
            and is_every_frame
            and extracted_range.covers(clip.time_range)
            and is_same_selection
            and is_same_alignment
        )


class MissingLog:
    """The missing times of a clip, kept on the disk: a resumed run does not read all of it.

    Each is the name of an empty file: processes that convert parts of the clip add theirs at the
    same time, and there is no content that could be torn.

    Args:
        folder: A folder beside the unfinished parts.
        clip: The clip; times that were found in another one are left out.
    """

    def __init__(self, folder: Path, clip: Clip) -> None:
        key = json.dumps(clip.fingerprint(), sort_keys=True)
        self._folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.spans = MissingSpans()
        for path in sorted(self._folder.glob("*")):
            if span := span_from_name(path.name):
                self.spans.add(span)

    @classmethod
    def in_folder(cls, folder: Path, clip: Clip) -> "MissingLog":
        """Return the log of a clip in the folder of its unfinished parts."""
        return cls(folder / "missing", clip)

    def add(self, span: MissingSpan) -> None:
        """Add a time.

        Raises:
            InputError: It cannot be written.
        """
        if span not in self.spans:
            self.spans.add(span)
            with translate_os_errors(self._folder):
                make_folder(self._folder)
                (self._folder / span_to_name(span)).touch()
                fsync(self._folder)


def span_to_name(span: MissingSpan) -> str:
    """Return a missing time as the name of a file."""
    return quote(json.dumps(span.to_json()), safe="")


def span_from_name(name: str) -> MissingSpan | None:
    """Return the missing time that a file is named after; None for any other name."""
    try:
        span = MissingSpan.from_json(json.loads(unquote(name)))
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None
    return span if span.start <= span.end and type(span.frames) is int else None


def find_extracted_sets(clip: Clip, workspace: Workspace | None) -> list[ExtractedSet]:
    """Return the sets that were extracted from the clip's file, whatever its name was then."""
    if workspace is None:
        return []
    content = {
        key: value
        for key, value in clip.source.describe().items()
        if key in ("bytes", "sha256_of_ends")
    }
    sets = []
    for name in workspace.set_names():
        folder = workspace.set_folder(name)
        try:
            source = read_source(folder.source)
        except InputError:
            continue
        inputs = (section for title, section in source.items() if title.startswith("input"))
        for index, section in enumerate(inputs):
            if isinstance(section, dict) and section.items() >= content.items():
                extracted = ExtractedSet(
                    folder=folder,
                    input_index=index,
                    settings=source.get("settings", {}),
                    is_finished="result" in source,
                )
                sets.append(extracted)
    return sets


def find_reusable_set(
    sets: Sequence[ExtractedSet], clip: Clip, assignments: Sequence[FaceAssignment]
) -> ExtractedSet | None:
    """Return a set that holds all faces to be swapped in a clip; None if there are two identities.

    A set holds the faces of one selection, so it cannot tell two apart.
    """
    if len(assignments) != 1:
        return None
    usable = (one for one in sets if one.has_all_faces(clip, assignments[0]))
    return next(usable, None)


def analyze_clip(
    clip: Clip,
    assignments: Sequence[FaceAssignment],
    *,
    sets: Sequence[ExtractedSet],
    folder: Path,
    report: Reporter,
    note: Callable[[str], None],
    missing: ReportMissing | None = None,
) -> FaceIndex:
    """Return all faces of a clip, from a set that holds them or by reading every frame.

    Args:
        clip: The clip.
        assignments: The faces to swap.
        sets: The sets extracted from the clip's file.
        folder: Where the index is written; an unfinished one in it is resumed.
        report: Receives the progress.
        note: Called with a line for what is missing or damaged in the file.
        missing: As of `FrameSource.frames`.

    Raises:
        KeyboardInterrupt: A signal asked to stop; the faces so far are saved.
    """
    if reusable := find_reusable_set(sets, clip, assignments):
        report.note(f'the faces are those of the set "{reusable.folder.name}"')
        return _copy_set_faces(reusable, clip, FaceIndex(folder=folder, key=""))
    tracking = TrackingConfig.from_frame_rate(
        clip.source.average_rate, is_continuous=clip.source.is_continuous
    )
    key = [
        clip.fingerprint(),
        [one.selector.canonical_text() for one in assignments],
        f"{DEFAULT_DETECTOR}, places",
        TRACKER_VERSION,
        TEMPLATE_VERSION,
    ]
    face_index = FaceIndex(folder=folder, key=json.dumps(key))
    try:
        progress = face_index.read_progress()
    except DamagedFileError as error:
        note(f"{error}: the faces are searched again from the first frame")
        progress = IndexProgress()
    if progress.is_finished:
        report.note("the faces are known from an earlier run")
        return face_index
    title = f"find the faces in {clip.source.name}"
    report.start_task(title, total=clip.approx_frame_count, unit="frames")
    make_detector = LOCATION_DETECTORS[DEFAULT_DETECTOR]
    with (
        graceful_interrupt() as stop,
        FaceTracker(make_detector, selection=SelectAll()) as tracker,
        make_detector() as detector,
        face_index.resume(progress) as writer,
    ):
        assigner = FaceAssigner.create(assignments, detector)
        if progress.position:
            assigner.load_state_dict(progress.state["casting"])
        frames = clip.frames(note=note, resume_after=progress.position, missing=missing)
        tracked = tracker.track(frames, config=tracking, state=progress.state.get("follower"))
        with closing(tracked) as tracked_frames:
            for item in tracked_frames:
                position = item.frame.position
                assigned = assigner.assign(item.frame, item.faces)
                writer.write(position, [IndexedFace.from_tracked(*one) for one in assigned])
                if writer.frames % SAVE_INTERVAL_FRAMES == 0 or stop.requested:
                    state = {"follower": item.get_state(), "casting": assigner.state_dict()}
                    writer.save(position, state=state)
                report.update(writer.frames, {"faces": writer.rows})
                stop.raise_if_requested()
        writer.save(None, is_finished=True)
    return face_index


def _copy_set_faces(extracted: ExtractedSet, clip: Clip, face_index: FaceIndex) -> FaceIndex:
    """Fill an index with a set's faces of a clip; a face with a deleted crop is excluded.

    A crop in `rejected` counts as present: an image that is bad for training may be fine to swap.
    """
    folder = extracted.folder
    with face_index.resume(IndexProgress()) as writer:
        for record in read_records(folder.records, sha256=read_records_digest(folder)):
            if record.input_index != extracted.input_index or not clip.contains(record.time):
                continue
            paths = (folder.root / record.file, folder.rejected / record.file)
            is_present = any(path.exists() for path in paths)
            is_head = record.framing == "head"
            face = IndexedFace(
                track=record.track,
                assignment=0 if is_present else EXCLUDED,
                alignment=record.alignment.shrink_to_face() if is_head else record.alignment,
                landmarks=record.landmarks,
            )
            writer.write(FramePosition(index=record.frame, time=record.time), [face])
    return face_index
