"""Where everybody is in a clip: from a set that knows, or by looking at every frame."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from faceswap_cli.conversion.assignment import FaceAssigner, FaceAssignment
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.face_index import (
    SAVE_INTERVAL_FRAMES,
    FaceIndex,
    IndexedFace,
    IndexProgress,
)
from faceswap_cli.conversion.known_sets import ExtractedSet, find_reusable_set, read_set_faces
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.alignment import TEMPLATE_VERSION
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, LOCATION_DETECTORS
from faceswap_cli.faces.selection import SelectAll
from faceswap_cli.faces.track_smoothing import SmoothedFace
from faceswap_cli.faces.tracker import FaceTracker, TrackingConfig


def analyze_clip(
    clip: Clip,
    assignments: Sequence[FaceAssignment],
    *,
    folder: Path,
    workspace: Workspace | None,
    report: Reporter,
) -> FaceIndex:
    """Return where everybody is in a clip: from a set that knows, or by looking at every frame.

    Args:
        clip: The clip.
        assignments: Whose faces matter.
        folder: Where it is written down; a survey begun there goes on.
        workspace: Where sets are looked for.
        report: Hears how far it is.
    """
    if known := find_known_set(clip, assignments, workspace):
        report.note(f'the faces are those of the set "{known.folder.name}"')
        survey = FaceIndex(folder=folder, key="")
        with survey.resume(IndexProgress()) as writer:
            for place, face in read_set_faces(known, clip):
                writer.write(place, [face])
        return survey
    asked = [
        clip.fingerprint(),
        [role.selector.canonical_text() for role in assignments],
        f"{DEFAULT_DETECTOR}, places",
        TEMPLATE_VERSION,
    ]
    survey = FaceIndex(folder=folder, key=json.dumps(asked))
    begun = survey.read_progress()
    if begun.is_finished:
        report.note("the faces are known from a run before this")
    else:
        detect_and_track(clip, assignments, face_index=survey, progress=begun, report=report)
    return survey


def find_known_set(
    clip: Clip, assignments: Sequence[FaceAssignment], workspace: Workspace | None
) -> ExtractedSet | None:
    """Return a set that knows where everybody is who matters."""
    return find_reusable_set(clip, assignments[0], workspace) if len(assignments) == 1 else None


def detect_and_track(
    clip: Clip,
    assignments: Sequence[FaceAssignment],
    *,
    face_index: FaceIndex,
    progress: IndexProgress,
    report: Reporter,
) -> None:
    """Find the faces in every frame, follow them, and give them their roles."""
    report.start_task(
        f"find the faces in {clip.source.name}", total=clip.approx_frame_count, unit="frames"
    )
    pace = TrackingConfig.from_frame_rate(
        clip.source.average_rate, is_continuous=clip.source.is_continuous
    )
    make = LOCATION_DETECTORS[DEFAULT_DETECTOR]
    memory = dict(progress.memory)
    with (
        FaceTracker(make, selection=SelectAll()) as follower,
        make() as detector,
        face_index.resume(progress) as writer,
    ):
        casting = FaceAssigner.create(assignments, detector)
        if progress.position:
            casting.load_state_dict(memory["casting"])
        frames = clip.frames(note=report.note, resume_after=progress.position)
        watching = follower.track(frames, config=pace, state=memory.get("follower"))
        with closing(watching) as watched:
            for seen in watched:
                cast = casting.assign(seen.frame.view, seen.faces)
                writer.write(seen.frame.position, [_to_indexed_face(*one) for one in cast])
                if writer.frames % SAVE_INTERVAL_FRAMES == 0:
                    known = {"follower": seen.get_state(), "casting": casting.state_dict()}
                    writer.save(seen.frame.position, state=known)
                report.update(writer.frames, {"faces": writer.rows})
        writer.save(None, is_finished=True)


def _to_indexed_face(face: SmoothedFace, assignment: int) -> IndexedFace:
    """Return what is kept of a face."""
    return IndexedFace(
        track=face.track,
        assignment=assignment,
        alignment=face.alignment,
        landmarks=face.face.landmarks,
    )
