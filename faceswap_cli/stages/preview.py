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

from faceswap_cli import pictures
from faceswap_cli.arrays import Image
from faceswap_cli.blend.colour import COLOUR_MATCHES
from faceswap_cli.blend.composite import BLENDS, Rectangle, alpha_blend, warped
from faceswap_cli.faces.align import align
from faceswap_cli.faces.choose import OneTrack
from faceswap_cli.faces.detect import FaceDetector
from faceswap_cli.faces.detectors import DEFAULT, DETECTORS
from faceswap_cli.faces.track import Steady
from faceswap_cli.report import Reporter
from faceswap_cli.swap.clip import Clip
from faceswap_cli.swap.frame import FaceSwap, FaceToSwap, Layer
from faceswap_cli.swap.looking import knowing, surveyed
from faceswap_cli.swap.network import FaceNetwork
from faceswap_cli.swap.roles import NOBODY, Casting, Role, nobody, parse_roles
from faceswap_cli.swap.settings import ConvertSettings
from faceswap_cli.swap.shown import people_shown
from faceswap_cli.video.footage import Place
from faceswap_cli.video.reader import Frame
from faceswap_cli.workspace import Workspace

TILE_PX = 256
"""Side of a preview's tiles, px."""
SURROUNDINGS = 1.4
"""Side of a tile as a multiple of the network's square's."""
DIMMED = 60
"""How much of a preview's picture is left where the mask is 0, of 255."""
TRIED = 5
"""Moments of which a grid shows the one with the largest face."""
TRIES = 3
"""Times as many moments are looked at as are shown, at most: some have no face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """A frame with the faces to be swapped in it."""

    frame: Frame
    faces: Sequence[FaceToSwap]


def preview(
    source: Path,
    *,
    weights: Path,
    to: str | None,
    output: Path,
    moments: int,
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
        moments: How many to show; fewer where there are fewer frames with a face.
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
    clip, swap, roles = _prepared(source, weights, to, device, settings, workspace)
    told = chosen(clip, roles, count=moments, workspace=workspace, report=report)
    report.stage(f"preview {clip.footage.name}", total=moments, unit="moments")
    rows = []
    for moment in shown(clip, roles, told, count=moments):
        rows.append(tiles(swap, moment))
        report.advance(len(rows))
    caption = ["original", "swapped", "mask"]
    pairs = [[*left, *right] for left, right in zip_longest(rows[::2], rows[1::2], fillvalue=())]
    captions = caption * (1 + (len(rows) > 1))
    pictures.write_png(output, pictures.sheet(pairs, side=TILE_PX, columns=captions))
    people = " and ".join(dict.fromkeys(role.to for role in roles))
    report.picture(output, f"{len(rows)} moments of {clip.footage.name} as {people}")
    return len(rows)


def grid(
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
    clip, swap, roles = _prepared(source, weights, to, device, settings, workspace)
    told = chosen(clip, roles, count=TRIED, workspace=workspace, report=report)
    report.stage(f"compare settings on {clip.footage.name}", total=len(BLENDS), unit="rows")
    moment = max(
        shown(clip, roles, told, count=TRIED), key=lambda one: one.faces[0].alignment.side_px
    )
    rows = []
    for blend in BLENDS.values():
        row = [tiles(swap, moment)[0]]
        for match in COLOUR_MATCHES.values():
            compositor = replace(swap.compositor, blend=blend, recolour=match)
            row.append(tiles(replace(swap, compositor=compositor), moment)[1])
        rows.append(row)
        report.advance(len(rows))
    sheet = pictures.sheet(
        rows, side=TILE_PX, columns=["original", *COLOUR_MATCHES], labels=list(BLENDS)
    )
    pictures.write_png(output, sheet)
    report.picture(output, f"ways to blend (rows) and to match colours (columns), {output.name}")


def _prepared(
    source: Path,
    weights: Path,
    to: str | None,
    device: str,
    settings: ConvertSettings,
    workspace: Workspace | None,
) -> tuple[Clip, FaceSwap, list[Role]]:
    """Return what both pictures are made of."""
    settings.check()
    clip = Clip.of(source, start_s=settings.start_s, end_s=settings.end_s)
    network = FaceNetwork.load(weights, device=device)
    people = people_shown(clip, workspace)
    roles = parse_roles(settings.faces, to=to, network=network, shown=people)
    return clip, settings.swap(network), roles


def chosen(
    clip: Clip,
    roles: Sequence[Role],
    *,
    count: int,
    workspace: Workspace | None,
    report: Reporter,
) -> list[tuple[Place, list[FaceToSwap]]] | None:
    """Return up to `count` moments and who is to be swapped in each; None: that is to be sought.

    It is told by a set that knows the faces. Tracks have their numbers only when the whole clip was
    looked at: then it is.

    Raises:
        NoFacesError: In the whole clip nobody is to be swapped.
    """
    is_numbered = any(isinstance(role.choice, OneTrack) for role in roles)
    if not is_numbered and knowing(clip, roles, workspace) is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        survey = surveyed(clip, roles, folder=Path(folder), workspace=workspace, report=report)
        if not survey.swapped():
            raise nobody(clip.footage.name, roles, survey.tracks())
        return survey.moments(count, [role.to for role in roles])


def shown(
    clip: Clip,
    roles: Sequence[Role],
    told: Sequence[tuple[Place, list[FaceToSwap]]] | None,
    *,
    count: int,
) -> Iterator[Moment]:
    """Yield the moments that were chosen, or else up to `count` found by seeking.

    Raises:
        NoFacesError: There is none.
    """
    if told is None:
        moments = found(clip, roles, count=count)
    else:
        frames = zip(clip.at([place for place, _ in told]), told, strict=True)
        moments = (Moment(frame=frame, faces=faces) for frame, (_, faces) in frames)
    first = next(moments, None)
    if first is None:
        raise nobody(clip.footage.name, roles)
    yield from chain([first], moments)


def found(clip: Clip, roles: Sequence[Role], *, count: int) -> Iterator[Moment]:
    """Yield up to `count` moments spread over a clip in which somebody is to be swapped."""
    with DETECTORS[DEFAULT]() as detector:
        casting = Casting.of(roles, detector)
        done = 0
        # More moments than are asked for: in some there may be no face.
        for frame in clip.moments(count, spare=TRIES):
            if faces := _cast(frame, detector, casting):
                done += 1
                yield Moment(frame=frame, faces=faces)
            if done == count:
                return


def tiles(swap: FaceSwap, moment: Moment) -> list[Image]:
    """Return the first face of a moment as it is, swapped, and under its mask."""
    before = moment.frame.image
    view = moment.frame.view
    layers = swap.layers([swap.target(view, face) for face in moment.faces])
    after = swap.laid(view, layers).whole()
    around = layers[0].alignment.central(SURROUNDINGS)
    veiled = _veiled(before, layers, swap)
    return [around.crop(image, TILE_PX) for image in (before, after, veiled)]


def _cast(frame: Frame, detector: FaceDetector, casting: Casting) -> list[FaceToSwap]:
    """Return the faces to be swapped in a frame that is looked at by itself."""
    faces = [
        # No two moments share a track: whoever is there may be somebody else.
        Steady(face=face, alignment=align(face.landmarks), track=1000 * frame.index + number)
        for number, face in enumerate(detector.detect(frame.image))
    ]
    return [
        FaceToSwap(
            to=casting.people[role],
            track=face.track,
            landmarks=face.face.landmarks,
            alignment=face.alignment,
        )
        for face, role in casting.cast(frame.view, faces)
        if role != NOBODY
    ]


def _veiled(image: Image, layers: Sequence[Layer], swap: FaceSwap) -> Image:
    """Return the image dimmed where the swapped faces do not show."""
    height, width = image.shape[:2]
    whole = Rectangle(0, 0, width, height)
    shows = np.full((height, width), DIMMED, np.uint8)
    for layer in layers:
        shaped = swap.compositor.alpha(layer.mask, keep=layer.keep)
        alpha = warped(shaped, layer.alignment, whole)
        shows = np.maximum(shows, alpha)
    return alpha_blend(np.zeros_like(image), image, shows)
