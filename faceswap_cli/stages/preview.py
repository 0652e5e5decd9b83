"""Preview: what convert would make of single moments, on one sheet, in seconds.

Where a set knows the faces, they are those that convert would swap. Otherwise moments are found by
seeking, so nothing is known of the frames around them: faces lie where they were found, not where
a whole reading would hold them steady. Only a face that is asked for by its track's number wants
that whole reading first.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np

from faceswap_cli.compositing.color_transfer import COLOR_TRANSFERS
from faceswap_cli.compositing.compositor import BLEND_MODES, alpha_blend
from faceswap_cli.conversion.analysis import (
    ExtractedSet,
    analyze_clip,
    find_extracted_sets,
    find_reusable_set,
)
from faceswap_cli.conversion.assignment import (
    FaceAssigner,
    FaceAssignment,
    no_match_error,
    parse_assignments,
)
from faceswap_cli.conversion.clip import Clip
from faceswap_cli.conversion.model import FaceModel
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import (
    FaceSwapper,
    FaceTask,
    build_swapper,
    validate_settings,
)
from faceswap_cli.core import image_io
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.selection import SelectTrack
from faceswap_cli.video.frame import Frame, FramePosition

TILE_PX = 256
"""Side of a preview's tiles, px."""
CONTEXT_SCALE = 1.4
"""Side of a tile as a multiple of the network's square's."""
DIMMED_LEVEL = 60
"""How much of a preview's picture is left where the mask is 0, of 255."""
GRID_CANDIDATES = 5
"""Moments of which a grid shows the one with the largest face."""
SEARCH_FACTOR = 3
"""Times as many moments are looked at as are shown, at most: some have no face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreviewFrame:
    """A frame with the faces to be swapped in it."""

    frame: Frame
    tasks: Sequence[FaceTask]


def preview(
    source: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    count: int,
    device: str,
    report: Reporter,
    settings: ConvertSettings | None = None,
    workspace: Workspace | None = None,
) -> int:
    """Write one picture that shows what `convert` would make of moments spread over `source`.

    Each moment is three tiles around the face: as it is, swapped, and where the mask lets the
    swapped face through.

    Args:
        source: The video, picture or folder of pictures.
        weights: Trained weights, as `train` leaves them.
        to: Whose face to put on; None chooses as `convert` does.
        output: The picture, PNG.
        count: How many to show; fewer where there are fewer frames with a face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Hears how far it is.
        settings: Whose faces are replaced, and how they are laid in.
        workspace: Where the people's sets are, which tell whom a clip shows.

    Returns:
        How many moments are shown.

    Raises:
        FaceswapError: As `convert` does.
    """
    settings = settings or ConvertSettings()
    clip, swap, roles, sets = _prepare(source, weights, to, device, settings, workspace)
    told = select_known_frames(clip, roles, sets, count=count, report=report)
    report.start_task(f"preview {clip.source.name}", total=count, unit="moments")
    rows = []
    for moment in iter_preview_frames(clip, roles, told, count=count):
        rows.append(render_tiles(swap, moment))
        report.update(len(rows))
    caption = ["original", "swapped", "mask"]
    pairs = [[*left, *right] for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=())]
    captions = caption * (1 + (len(rows) > 1))
    image_io.write_png(output, image_io.make_grid(pairs, side=TILE_PX, columns=captions))
    people = " and ".join(dict.fromkeys(role.identity for role in roles))
    report.show_image(output, f"{len(rows)} moments of {clip.source.name} as {people}")
    return len(rows)


def compare_settings(
    source: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    device: str,
    report: Reporter,
    settings: ConvertSettings | None = None,
    workspace: Workspace | None = None,
) -> None:
    """Write one picture that compares all ways to blend with all ways to match colours.

    It shows the moment, of a few, in which the face is largest: a row for each way to blend, a
    column for each way to match colours. The arguments are those of `preview`.

    Raises:
        FaceswapError: As `convert` does.
    """
    settings = settings or ConvertSettings()
    clip, swap, roles, sets = _prepare(source, weights, to, device, settings, workspace)
    told = select_known_frames(clip, roles, sets, count=GRID_CANDIDATES, report=report)
    report.start_task(
        f"compare settings on {clip.source.name}", total=len(BLEND_MODES), unit="rows"
    )
    moment = max(
        iter_preview_frames(clip, roles, told, count=GRID_CANDIDATES),
        key=lambda one: one.tasks[0].alignment.side_px,
    )
    rows = []
    for blend in BLEND_MODES.values():
        row = [render_tiles(swap, moment)[0]]
        for match in COLOR_TRANSFERS.values():
            compositor = replace(swap.compositor, blend=blend, color_transfer=match)
            row.append(render_tiles(replace(swap, compositor=compositor), moment)[1])
        rows.append(row)
        report.update(len(rows))
    sheet = image_io.make_grid(
        rows, side=TILE_PX, columns=["original", *COLOR_TRANSFERS], labels=list(BLEND_MODES)
    )
    image_io.write_png(output, sheet)
    report.show_image(output, f"ways to blend (rows) and to match colours (columns), {output.name}")


def _prepare(
    source: Path,
    weights: Path,
    to: str | None,
    device: str,
    settings: ConvertSettings,
    workspace: Workspace | None,
) -> tuple[Clip, FaceSwapper, list[FaceAssignment], list[ExtractedSet]]:
    """Return the clip, the swapper, the faces to swap and the sets extracted from the clip."""
    validate_settings(settings)
    clip = Clip.open(source, start_s=settings.start_s, end_s=settings.end_s)
    model = FaceModel.load(weights, device=device)
    swapper = build_swapper(settings, model)
    sets = find_extracted_sets(clip, workspace)
    assignments = parse_assignments(
        settings.faces,
        to=to,
        identities=model.identities,
        source_identities={one.folder.name for one in sets},
    )
    return clip, swapper, assignments, sets


def select_known_frames(
    clip: Clip,
    assignments: Sequence[FaceAssignment],
    sets: Sequence[ExtractedSet],
    *,
    count: int,
    report: Reporter,
) -> list[tuple[FramePosition, list[FaceTask]]] | None:
    """Return up to `count` frames with their faces to swap; None if they must be searched.

    They are known if a set holds the clip's faces. Tracks get their numbers by reading the whole
    clip, so a selection by track number reads it.

    Raises:
        NoFacesError: No face of the whole clip is selected.
    """
    is_by_track = any(isinstance(one.selector, SelectTrack) for one in assignments)
    if not is_by_track and find_reusable_set(sets, clip, assignments) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        face_index = analyze_clip(
            clip,
            assignments,
            sets=sets,
            folder=Path(folder),
            report=report,
            note=report.note,
        )
        if not face_index.frames_to_swap():
            raise no_match_error(clip.source.name, assignments, face_index.tracks())
        return face_index.sample_frames(count, [one.identity for one in assignments])


def iter_preview_frames(
    clip: Clip,
    assignments: Sequence[FaceAssignment],
    known_frames: Sequence[tuple[FramePosition, list[FaceTask]]] | None,
    *,
    count: int,
) -> Iterator[PreviewFrame]:
    """Yield the moments that were chosen, or else up to `count` found by seeking.

    Raises:
        NoFacesError: There is none.
    """
    if known_frames is None:
        moments = search_frames(clip, assignments, count=count)
    else:
        frames = zip(
            clip.frames_at([place for place, _ in known_frames]), known_frames, strict=True
        )
        moments = (PreviewFrame(frame=frame, tasks=faces) for frame, (_, faces) in frames)
    first = next(moments, None)
    if first is None:
        raise no_match_error(clip.source.name, assignments)
    yield from chain([first], moments)


def search_frames(
    clip: Clip, assignments: Sequence[FaceAssignment], *, count: int
) -> Iterator[PreviewFrame]:
    """Yield up to `count` moments spread over a clip in which somebody is to be swapped."""
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        casting = FaceAssigner.create(assignments, detector)
        done = 0
        # More moments than are asked for: in some there may be no face.
        for frame in clip.sample_frames(count, search_factor=SEARCH_FACTOR):
            if faces := casting.assign_detected(frame, detector.detect(frame.image)):
                done += 1
                yield PreviewFrame(frame=frame, tasks=faces)
            if done == count:
                return


def render_tiles(swapper: FaceSwapper, item: PreviewFrame) -> list[Image]:
    """Return the surroundings of a frame's first face: original, swapped, and dimmed off the mask.

    Each is uint8 (TILE_PX, TILE_PX, 3).
    """
    view, before = item.frame.view, item.frame.image
    layers = swapper.run([swapper.prepare(view, task) for task in item.tasks])
    after = swapper.composite(view, layers).to_array()
    alpha = np.maximum(swapper.alpha_in_frame(view.size, layers), DIMMED_LEVEL)
    masked = alpha_blend(np.zeros_like(before), before, alpha)
    tile = layers[0].alignment.center_crop(CONTEXT_SCALE)
    return [tile.crop(image, TILE_PX) for image in (before, after, masked)]
