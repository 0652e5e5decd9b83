"""Where everybody is in a clip: from a set that knows, or by looking at every frame."""

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from faceswap_cli.faces.align import TEMPLATE_VERSION
from faceswap_cli.faces.choose import Everyone
from faceswap_cli.faces.detectors import DEFAULT, PLACING
from faceswap_cli.faces.follow import Follower, Pace
from faceswap_cli.faces.track import Steady
from faceswap_cli.report import Reporter
from faceswap_cli.swap.clip import Clip
from faceswap_cli.swap.roles import Casting, Role
from faceswap_cli.swap.shown import Extracted, found_in, set_for
from faceswap_cli.swap.survey import SAVE_EVERY, Found, Progress, Survey
from faceswap_cli.video.footage import Place
from faceswap_cli.video.reader import Frame
from faceswap_cli.workspace import Workspace


def surveyed(
    clip: Clip,
    roles: Sequence[Role],
    *,
    folder: Path,
    workspace: Workspace | None,
    report: Reporter,
) -> Survey:
    """Return where everybody is in a clip: from a set that knows, or by looking at every frame.

    Args:
        clip: The clip.
        roles: Whose faces matter.
        folder: Where it is written down; a survey begun there goes on.
        workspace: Where sets are looked for.
        report: Hears how far it is.
    """
    if known := knowing(clip, roles, workspace):
        report.note(f'the faces are those of the set "{known.folder.name}"')
        survey = Survey(folder=folder, key="")
        with survey.going_on(Progress()) as writer:
            for place, face in found_in(known, clip):
                writer.write(place, [face])
        return survey
    asked = [
        clip.known(),
        [role.choice.described() for role in roles],
        f"{DEFAULT}, places",
        TEMPLATE_VERSION,
    ]
    survey = Survey(folder=folder, key=json.dumps(asked))
    begun = survey.progress()
    if begun.is_finished:
        report.note("the faces are known from a run before this")
    else:
        look(clip, roles, survey=survey, begun=begun, report=report)
    return survey


def knowing(clip: Clip, roles: Sequence[Role], workspace: Workspace | None) -> Extracted | None:
    """Return a set that knows where everybody is who matters."""
    return set_for(clip, roles[0], workspace) if len(roles) == 1 else None


def look(
    clip: Clip, roles: Sequence[Role], *, survey: Survey, begun: Progress, report: Reporter
) -> None:
    """Find the faces in every frame, follow them, and give them their roles."""
    report.stage(f"find the faces in {clip.footage.name}", total=clip.count, unit="frames")
    pace = Pace.of(clip.footage.average_rate, moves=clip.footage.moves)
    make = PLACING[DEFAULT]
    memory = dict(begun.memory)
    with (
        Follower(make, choice=Everyone()) as follower,
        make() as detector,
        survey.going_on(begun) as writer,
    ):
        casting = Casting.of(roles, detector)
        if begun.place:
            casting.recall(memory["casting"])
        frames = clip.frames(note=report.note, after=begun.place)
        watching = follower.over(frames, pace=pace, memory=memory.get("follower"))
        with closing(watching) as watched:
            for seen in watched:
                cast = casting.cast(seen.item.view, seen.faces)
                writer.write(_place(seen.item), [_found(*one) for one in cast])
                if writer.frames % SAVE_EVERY == 0:
                    known = {"follower": seen.memory(), "casting": casting.memory()}
                    writer.save(_place(seen.item), memory=known)
                report.advance(writer.frames, {"faces": writer.rows})
        writer.save(None, is_finished=True)


def _place(frame: Frame) -> Place:
    """Return where a frame is."""
    return Place(index=frame.index, time=frame.time)


def _found(face: Steady, role: int) -> Found:
    """Return what is kept of a face."""
    return Found(
        track=face.track, role=role, alignment=face.alignment, landmarks=face.face.landmarks
    )
