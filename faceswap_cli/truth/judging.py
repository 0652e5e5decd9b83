"""Looking at one frame after the other of two videos, with everything that judges a face.

The judges are networks that no training optimises; some may not be installed, which is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from faceswap_cli import pictures
from faceswap_cli.arrays import Image, Mask, Points
from faceswap_cli.errors import InputError
from faceswap_cli.faces.align import FaceAlignment, align
from faceswap_cli.faces.detect import Face, FaceDetector
from faceswap_cli.faces.follow import Onlooker, is_cut, thumbnail
from faceswap_cli.faces.mask import oval_mask
from faceswap_cli.faces.region import overlaps
from faceswap_cli.faces.sface import SFace
from faceswap_cli.metrics import surface
from faceswap_cli.metrics.catalogue import METRICS
from faceswap_cli.metrics.judges import DlibIdentity, Tddfa
from faceswap_cli.metrics.reconstruction import mean_squared_error, ssim
from faceswap_cli.metrics.stillness import Compensation, Residual
from faceswap_cli.metrics.summary import Array, Features, Sight
from faceswap_cli.metrics.surface import Zones
from faceswap_cli.views import Still
from faceswap_cli.weights import find

SIDE_PX = 256
"""Side of the crops that are measured; both videos' are cut at the same place."""
PICTURE_PX = 224
"""Side of the pictures of the worst moments."""
SAME_FACE = 0.3
"""Intersection over union of the boxes of one face in two frames in a row is larger than this."""
NEAR_PX = 8
"""Pixels around the mask that SSIM's windows reach."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shot:
    """One frame of both videos, and of the true swap where it is known."""

    time: float
    """Seconds."""
    original: Image
    swapped: Image
    truth: Image | None = None
    mask: Mask | None = None
    """Where the truth counts, float32 (H, W); the face's outline unless given."""


# --- judges -------------------------------------------------------------------------------------

Opened = TypeVar("Opened")


class TellsApart(Protocol):
    """A network that tells people apart."""

    def direction(self, image: Image, landmarks: Points, /) -> Array:
        """Return the direction (D,) of the face whose landmarks (478, 2) px are given."""


class _Distance(Protocol):
    def __call__(self, image: Image, truth: Image, /) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The networks that are installed, and why the others are not."""

    recognise: Mapping[str, TellsApart]
    """Those that tell people apart, by name."""
    pose: Tddfa | None
    lpips: _Distance | None
    absent: Mapping[str, str]
    """Why one is not there, by the end of its metrics' names."""

    @classmethod
    def open(cls, *, has_truth: bool) -> "Judges":
        """Open what is installed; without a truth nothing is compared with it."""
        absent: dict[str, str] = {}
        found = {
            "dlib": _opened("dlib", DlibIdentity.open, absent),
            "sface": _opened("sface", lambda: SFace(find("sface")), absent),
        }
        if not has_truth:
            absent |= dict.fromkeys(("psnr", "ssim", "lpips"), "no --truth was given")
        return cls(
            recognise={name: judge for name, judge in found.items() if judge is not None},
            pose=_opened("3ddfa", Tddfa.open, absent),
            lpips=_opened("lpips", _open_lpips, absent) if has_truth else None,
            absent=absent,
        )

    def missing(self) -> dict[str, str]:
        """Return why metrics have no value, by name, as far as it is known."""
        return {
            name: reason
            for name in METRICS
            for judge, reason in self.absent.items()
            if name.endswith(judge)
        }


def _opened(name: str, opens: Callable[[], Opened], absent: dict[str, str]) -> Opened | None:
    """Return an opened judge, or note why it cannot be."""
    try:
        return opens()
    except InputError as error:
        absent[name] = f"{error.message}; {error.hint}"
        return None


def _open_lpips() -> _Distance:
    # The only judge that needs torch, which takes a second to load.
    from faceswap_cli.metrics.lpips import Lpips

    return Lpips.open()


# --- frames -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _Before:
    """What is remembered of the frame before."""

    shot: Shot
    thumbnail: Image
    face: Face | None


class Watch:
    """Looks at one frame after the other.

    Args:
        detector: Finds faces; open.
        judges: The networks there are.
        every: Each how-manieth frame a slow judge looks at.
    """

    def __init__(self, detector: FaceDetector, judges: Judges, *, every: Mapping[str, int]) -> None:
        self._detector = detector
        self._judges = judges
        self._every = every
        self._onlooker = Onlooker(detector)
        self._before: _Before | None = None
        self._number = -1

    def look(self, shot: Shot) -> Sight:
        """Return what is seen in the next frame."""
        self._number += 1
        small = thumbnail(Still(image=shot.original))
        before = self._before
        if before is not None and is_cut(before.thumbnail, small):
            before = None
        faces = self._onlooker.look(shot.original)
        place, self._before = None, _Before(shot=shot, thumbnail=small, face=None)
        if not faces:
            return Sight(time=shot.time)
        last = before.face if before else None
        place = _chosen([_Place.of(shot, face) for face in faces], last)
        self._before = _Before(shot=shot, thumbnail=small, face=place.face)
        is_joined = last is not None and _overlap(last, place.face) > SAME_FACE
        return Sight(
            time=shot.time,
            driving=self._features(shot.original, place.face),
            swapped=self._swapped(shot.swapped, place.face),
            is_joined=is_joined,
            is_changed=place.is_changed,
            residuals=_residuals(before.shot, place) if before and is_joined else None,
            surface=place.surface(),
            truth=self._truth(shot, place),
        )

    def picture(self, shot: Shot) -> dict[str, bytes]:
        """Return the face just looked at, or the whole frame, of each video, as JPEG files."""
        assert self._before is not None
        face = self._before.face
        where = align(face.landmarks) if face else _whole(shot.original)
        images = {"original": shot.original, "swapped": shot.swapped, "truth": shot.truth}
        return {
            name: pictures.encode_jpeg(where.crop(image, PICTURE_PX))
            for name, image in images.items()
            if image is not None
        }

    def _swapped(self, image: Image, face: Face) -> Features | None:
        """Return the face in the swapped frame that lies where `face` does in the original."""
        found = self._detector.follow(Still(image=image), [face])
        return self._features(image, found[0]) if found else None

    def _features(self, image: Image, face: Face) -> Features:
        judges = self._judges
        return Features(
            landmarks=face.landmarks,
            pose=face.pose,
            expression=face.expression,
            directions={
                name: judge.direction(image, face.landmarks)
                for name, judge in judges.recognise.items()
                if self._is_due(name)
            },
            other_pose=judges.pose.pose(image, face.landmarks) if judges.pose else None,
        )

    def _truth(self, shot: Shot, place: "_Place") -> dict[str, float]:
        """Return how far the swapped frame is from the truth, inside the face."""
        if shot.truth is None:
            return {}
        rows, columns, mask = _window(shot, place.face)
        swapped, truth = shot.swapped[rows, columns], shot.truth[rows, columns]
        found = {
            "mean_squared_error": mean_squared_error(swapped, truth, mask),
            "ssim": ssim(swapped, truth, mask),
        }
        if self._judges.lpips and self._is_due("lpips"):
            inside = place.zones.face[..., None]
            true = place.alignment.crop(shot.truth, SIDE_PX)
            found["lpips"] = self._judges.lpips(np.where(inside, place.swapped, true), true)
        return found

    def _is_due(self, judge: str) -> bool:
        return self._number % self._every[judge] == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _Place:
    """A face of the original and the same place in both videos."""

    face: Face
    alignment: FaceAlignment
    mask: Mask
    zones: Zones
    original: Image
    """Crop, uint8 (S, S, 3)."""
    swapped: Image
    is_changed: bool

    @classmethod
    def of(cls, shot: Shot, face: Face) -> "_Place":
        """Return the place of a face."""
        alignment = align(face.landmarks)
        mask = oval_mask(face.landmarks, alignment, SIDE_PX)
        zones = Zones.of(mask)
        original, swapped = (
            alignment.crop(image, SIDE_PX) for image in (shot.original, shot.swapped)
        )
        return cls(
            face=face,
            alignment=alignment,
            mask=mask,
            zones=zones,
            original=original,
            swapped=swapped,
            is_changed=surface.is_changed(swapped, original, zones),
        )

    def surface(self) -> dict[str, float]:
        """Return seam, colour and sharpness by metric."""
        pair = (surface.lab(self.swapped), surface.lab(self.original), self.zones)
        return {
            "seam_gradient": surface.edge(*pair),
            "seam_colour": surface.colour_step(*pair),
            "colour_gap": surface.colour_gap(*pair),
            "sharpness": surface.detail_ratio(*pair),
        }


def _chosen(places: Sequence[_Place], last: Face | None) -> _Place:
    """Return the face to judge: one that was changed rather than not, and the one before if so.

    The faces come largest first.
    """
    changed = [place for place in places if place.is_changed] or places
    if last is not None:
        nearest = max(changed, key=lambda place: _overlap(last, place.face))
        if _overlap(last, nearest.face) > SAME_FACE:
            return nearest
    return changed[0]


def _residuals(before: Shot, place: _Place) -> tuple[Residual, Residual]:
    """Return what motion compensation leaves over, swapped and original."""
    old = place.alignment.crop(before.original, SIDE_PX)
    new = place.alignment.crop(before.swapped, SIDE_PX)
    motion = Compensation(old, place.original)
    face, around = (zone.astype(np.float32) for zone in (place.zones.face, place.zones.outer))
    return (
        motion.residual(new, place.swapped, face=face, around=around),
        motion.residual(old, place.original, face=face, around=around),
    )


def _window(shot: Shot, face: Face) -> tuple[slice, slice, Mask]:
    """Return rows and columns around where the truth counts, and the mask there."""
    height, width = shot.original.shape[:2]
    if shot.mask is None:
        (x0, y0), (x1, y1) = face.box[:2], face.box[2:]
    else:
        ys, xs = np.nonzero(shot.mask)
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max(), ys.max()
    rows = slice(max(int(y0) - NEAR_PX, 0), min(int(y1) + 1 + NEAR_PX, height))
    columns = slice(max(int(x0) - NEAR_PX, 0), min(int(x1) + 1 + NEAR_PX, width))
    if shot.mask is not None:
        return rows, columns, shot.mask[rows, columns]
    down, across = rows.stop - rows.start, columns.stop - columns.start
    side = max(down, across)
    square = _square(columns.start, rows.start, side)
    return rows, columns, oval_mask(face.landmarks, square, side)[:down, :across]


def _whole(image: Image) -> FaceAlignment:
    """Return the square around the whole picture, which lies at its top left."""
    return _square(0, 0, max(image.shape[:2]))


def _square(left: int, top: int, side: int) -> FaceAlignment:
    """Return the upright square whose pixels are the frame's own."""
    to_unit = np.array([[1, 0, 0.5 - left], [0, 1, 0.5 - top]], dtype=np.float64) / side
    return FaceAlignment(to_unit=to_unit)


def _overlap(one: Face, other: Face) -> float:
    """Return the intersection over the union of two faces' boxes."""
    return float(overlaps(one.box.reshape(1, 2, 2), other.box.reshape(2, 2))[0])
