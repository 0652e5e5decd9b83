"""Preview: single frames of a conversion on one image, in seconds: `preview`, `compare_settings`.

If a set holds the clip's faces, the frames show exactly the faces that convert would swap.
Otherwise frames are read by seeking and faces are detected in each alone, without smoothing over
time. Only a selection by track number needs a pass over the whole clip.
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
from faceswap_cli.core.lock import output_lock
from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import Workspace
from faceswap_cli.faces.detectors import DEFAULT_DETECTOR, DETECTORS
from faceswap_cli.faces.selection import SelectTrack
from faceswap_cli.video.frame import Frame, FramePosition

TILE_PX = 256
"""Side of a tile."""
CONTEXT_SCALE = 1.4
"""Side of a tile's area as a multiple of the model's square."""
DIMMED_LEVEL = 60
"""Brightness of the image where the mask is 0, of 255."""
GRID_CANDIDATES = 5
"""Frames of which a grid shows the one with the largest face."""
SEARCH_FACTOR = 3
"""Frames searched at most, as a multiple of those shown: some have no face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PreviewFrame:
    """A frame with its faces to swap."""

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
    """Write one image of frames spread over `source` as `convert` would swap them.

    Each frame is three tiles around the face: original, swapped, and dimmed outside the mask.

    Args:
        source: A video, an image or a folder of images.
        weights: Trained weights, as `train` writes them.
        to: Identity to swap in; None chooses as `convert` does.
        output: The image, PNG.
        count: Frames to show; fewer if fewer have a face.
        device: `auto`, `cpu`, `cuda` or `mps`.
        report: Receives the progress.
        settings: Which faces are swapped, and how they are composited.
        workspace: Its sets say which identities the clip shows, and where.

    Returns:
        The number of frames shown.

    Raises:
        FaceswapError: As `convert` does.
    """
    settings = settings or ConvertSettings()
    with output_lock(output):
        clip, swapper, assignments, sets = _prepare(
            source, weights, to, device, settings, workspace
        )
        known = select_known_frames(clip, assignments, sets, count=count, report=report)
        report.start_task(f"preview {clip.source.name}", total=count, unit="frames")
        rows = []
        for item in iter_preview_frames(clip, assignments, known, count=count):
            rows.append(render_tiles(swapper, item))
            report.update(len(rows))
        pairs = [
            [*left, *right] for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=())
        ]
        captions = ["original", "swapped", "mask"] * (1 + (len(rows) > 1))
        image_io.write_png(output, image_io.make_grid(pairs, side=TILE_PX, columns=captions))
        identities = " and ".join(dict.fromkeys(one.identity for one in assignments))
        report.show_image(output, f"{len(rows)} frames of {clip.source.name} as {identities}")
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
    """Write one image that compares all blend modes (rows) with all color transfers (columns).

    It shows the frame, of a few, with the largest face. The arguments are those of `preview`.

    Raises:
        FaceswapError: As `convert` does.
    """
    settings = settings or ConvertSettings()
    with output_lock(output):
        clip, swapper, assignments, sets = _prepare(
            source, weights, to, device, settings, workspace
        )
        known = select_known_frames(clip, assignments, sets, count=GRID_CANDIDATES, report=report)
        title = f"compare settings on {clip.source.name}"
        report.start_task(title, total=len(BLEND_MODES), unit="rows")
        largest = max(
            iter_preview_frames(clip, assignments, known, count=GRID_CANDIDATES),
            key=lambda item: item.tasks[0].alignment.side_px,
        )
        rows = []
        for blend in BLEND_MODES.values():
            row = [render_tiles(swapper, largest)[0]]
            for transfer in COLOR_TRANSFERS.values():
                compositor = replace(swapper.compositor, blend=blend, color_transfer=transfer)
                row.append(render_tiles(replace(swapper, compositor=compositor), largest)[1])
            rows.append(row)
            report.update(len(rows))
        grid = image_io.make_grid(
            rows, side=TILE_PX, columns=["original", *COLOR_TRANSFERS], labels=list(BLEND_MODES)
        )
        image_io.write_png(output, grid)
        report.show_image(
            output, f"blend modes (rows) and color transfers (columns), {output.name}"
        )


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
    swapper = build_swapper(settings, model, workspace)
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
    """Yield the known frames, or search up to `count` of them.

    Raises:
        NoFacesError: None has a face to swap.
    """
    if known_frames is None:
        items = search_frames(clip, assignments, count=count)
    else:
        frames = clip.frames_at([position for position, _ in known_frames])
        items = (
            PreviewFrame(frame=frame, tasks=tasks)
            for frame, (_, tasks) in zip(frames, known_frames, strict=True)
        )
    first = next(items, None)
    if first is None:
        raise no_match_error(clip.source.name, assignments)
    yield from chain([first], items)


def search_frames(
    clip: Clip, assignments: Sequence[FaceAssignment], *, count: int
) -> Iterator[PreviewFrame]:
    """Yield up to `count` frames with faces to swap, spread over a clip."""
    with DETECTORS[DEFAULT_DETECTOR]() as detector:
        assigner = FaceAssigner.create(assignments, detector)
        done = 0
        for frame in clip.sample_frames(count, search_factor=SEARCH_FACTOR):
            if tasks := assigner.assign_detected(frame, detector.detect(frame.image)):
                done += 1
                yield PreviewFrame(frame=frame, tasks=tasks)
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
