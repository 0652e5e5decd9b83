"""Looking at one frame after the other of two videos, with everything that judges a face.

The judges are networks that no training optimises; some may not be installed, which is said.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.lazy_image import ArrayImage, Rect
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.core.types import Image, Mask, Points
from faceswap_cli.evaluation.aggregate import Array, FaceFeatures, FrameMeasurement
from faceswap_cli.evaluation.metrics import artifacts
from faceswap_cli.evaluation.metrics.artifacts import FaceZones
from faceswap_cli.evaluation.metrics.external_models import DlibIdentity, Tddfa
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, ssim
from faceswap_cli.evaluation.metrics.registry import METRICS
from faceswap_cli.evaluation.metrics.temporal import MotionCompensation, TemporalResidual
from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou
from faceswap_cli.faces.embedding import SFace
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.tracker import OnlineTracker, is_cut, make_thumbnail
from faceswap_cli.faces.types import Face, FaceDetector

CROP_PX = 256
"""Side of the crops that are measured; both videos' are cut at the same place."""
THUMBNAIL_PX = 224
"""Side of the pictures of the worst moments."""
SSIM_MARGIN_PX = 8
"""Pixels around the mask that SSIM's windows reach."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePair:
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


class IdentityModel(Protocol):
    """A network that tells people apart."""

    def embed(self, image: Image, landmarks: Points, /) -> Array:
        """Return the direction (D,) of the face whose landmarks (478, 2) px are given."""


class _PerceptualDistance(Protocol):
    def __call__(self, image: Image, truth: Image, /) -> float: ...


@dataclass(frozen=True, kw_only=True)
class EvalModels:
    """The networks that are installed, and why the others are not."""

    identity: Mapping[str, IdentityModel]
    """Those that tell people apart, by name."""
    pose: Tddfa | None
    lpips: _PerceptualDistance | None
    unavailable: Mapping[str, str]
    """Why one is not there, by the end of its metrics' names."""

    @classmethod
    def open(cls, *, has_truth: bool) -> "EvalModels":
        """Open what is installed; without a truth nothing is compared with it."""
        absent: dict[str, str] = {}
        found = {
            "dlib": _open_model("dlib", DlibIdentity.open, absent),
            "sface": _open_model("sface", lambda: SFace(find_model_file("sface")), absent),
        }
        if not has_truth:
            absent |= dict.fromkeys(("psnr", "ssim", "lpips"), "no --ground-truth was given")
        return cls(
            identity={name: judge for name, judge in found.items() if judge is not None},
            pose=_open_model("3ddfa", Tddfa.open, absent),
            lpips=_open_model("lpips", _open_lpips, absent) if has_truth else None,
            unavailable=absent,
        )

    def missing_reasons(self) -> dict[str, str]:
        """Return why metrics have no value, by name, as far as it is known."""
        return {
            name: reason
            for name in METRICS
            for judge, reason in self.unavailable.items()
            if name.endswith(judge)
        }


def _open_model(
    name: str, open_model: Callable[[], Opened], unavailable: dict[str, str]
) -> Opened | None:
    """Return an opened judge, or note why it cannot be."""
    try:
        return open_model()
    except InputError as error:
        unavailable[name] = f"{error.message}; {error.hint}"
        return None


def _open_lpips() -> _PerceptualDistance:
    # The only judge that needs torch, which takes a second to load.
    from faceswap_cli.evaluation.metrics.lpips import Lpips

    return Lpips.open()


# --- frames -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, eq=False)
class _PreviousFrame:
    """What is remembered of the frame before."""

    pair: FramePair
    thumbnail: Image
    face: Face | None


class FrameEvaluator:
    """Looks at one frame after the other.

    Args:
        detector: Finds faces; open.
        models: The networks there are.
        intervals: Each how-manieth frame a slow judge looks at.
    """

    def __init__(
        self, detector: FaceDetector, models: EvalModels, *, intervals: Mapping[str, int]
    ) -> None:
        self._detector = detector
        self._models = models
        self._intervals = intervals
        self._tracker = OnlineTracker(detector)
        self._previous: _PreviousFrame | None = None
        self._frame_index = -1

    def evaluate(self, pair: FramePair) -> FrameMeasurement:
        """Return what is seen in the next frame."""
        self._frame_index += 1
        small = make_thumbnail(ArrayImage(image=pair.original))
        before = self._previous
        if before is not None and is_cut(before.thumbnail, small):
            before = None
        faces = self._tracker.update(pair.original)
        place, self._previous = None, _PreviousFrame(pair=pair, thumbnail=small, face=None)
        if not faces:
            return FrameMeasurement(time=pair.time)
        last = before.face if before else None
        place = _select_face([_FaceCrops.from_pair(pair, face) for face in faces], last)
        self._previous = _PreviousFrame(pair=pair, thumbnail=small, face=place.face)
        is_continuous = last is not None and bool(
            compute_iou(last.box, place.face.box) > IOU_THRESHOLD
        )
        return FrameMeasurement(
            time=pair.time,
            original=self._extract_features(pair.original, place.face),
            swapped=self._find_swapped_face(pair.swapped, place.face),
            is_continuous=is_continuous,
            is_changed=place.is_changed,
            residuals=_measure_residuals(before.pair, place) if before and is_continuous else None,
            artifacts=place.measure_artifacts(),
            reconstruction=self._compare_to_truth(pair, place),
        )

    def encode_images(self, pair: FramePair) -> dict[str, bytes]:
        """Return the face just looked at, or the whole frame, of each video, as JPEG files."""
        assert self._previous is not None
        face = self._previous.face
        where = (
            align_face(face.landmarks)
            if face
            else FaceAlignment.from_square(max(pair.original.shape[:2]))
        )
        images = {"original": pair.original, "swapped": pair.swapped, "truth": pair.truth}
        return {
            name: image_io.encode_jpeg(where.crop(image, THUMBNAIL_PX))
            for name, image in images.items()
            if image is not None
        }

    def _find_swapped_face(self, image: Image, face: Face) -> FaceFeatures | None:
        """Return the face in the swapped frame that lies where `face` does in the original."""
        found = self._detector.track(ArrayImage(image=image), [face])
        return self._extract_features(image, found[0]) if found else None

    def _extract_features(self, image: Image, face: Face) -> FaceFeatures:
        judges = self._models
        return FaceFeatures(
            landmarks=face.landmarks,
            pose=face.pose,
            blendshapes=face.blendshapes,
            embeddings={
                name: judge.embed(image, face.landmarks)
                for name, judge in judges.identity.items()
                if self._is_due(name)
            },
            pose_3ddfa=judges.pose.estimate_pose(image, face.landmarks) if judges.pose else None,
        )

    def _compare_to_truth(self, pair: FramePair, crops: "_FaceCrops") -> dict[str, float]:
        """Return how far the swapped frame is from the truth, inside the face."""
        if pair.truth is None:
            return {}
        window, mask = _truth_window(pair, crops.face)
        swapped, truth = pair.swapped[window.slices], pair.truth[window.slices]
        found = {
            "mean_squared_error": mean_squared_error(swapped, truth, mask),
            "ssim": ssim(swapped, truth, mask),
        }
        if self._models.lpips and self._is_due("lpips"):
            inside = crops.zones.face[..., None]
            true = crops.alignment.crop(pair.truth, CROP_PX)
            found["lpips"] = self._models.lpips(np.where(inside, crops.swapped, true), true)
        return found

    def _is_due(self, model: str) -> bool:
        return self._frame_index % self._intervals[model] == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _FaceCrops:
    """A face of the original and the same place in both videos."""

    face: Face
    alignment: FaceAlignment
    mask: Mask
    zones: FaceZones
    original: Image
    """Crop, uint8 (S, S, 3)."""
    swapped: Image
    is_changed: bool

    @classmethod
    def from_pair(cls, pair: FramePair, face: Face) -> "_FaceCrops":
        """Return the place of a face."""
        alignment = align_face(face.landmarks)
        mask = face_mask(face.landmarks, alignment, CROP_PX)
        zones = FaceZones.from_mask(mask)
        original, swapped = (
            alignment.crop(image, CROP_PX) for image in (pair.original, pair.swapped)
        )
        return cls(
            face=face,
            alignment=alignment,
            mask=mask,
            zones=zones,
            original=original,
            swapped=swapped,
            is_changed=artifacts.is_changed(swapped, original, zones),
        )

    def measure_artifacts(self) -> dict[str, float]:
        """Return seam, colour and sharpness by metric."""
        pair = (artifacts.to_lab(self.swapped), artifacts.to_lab(self.original), self.zones)
        return {
            "seam_gradient": artifacts.seam_gradient(*pair),
            "seam_colour": artifacts.seam_color_step(*pair),
            "colour_gap": artifacts.color_offset(*pair),
            "sharpness": artifacts.sharpness_ratio(*pair),
        }


def _select_face(candidates: Sequence[_FaceCrops], previous: Face | None) -> _FaceCrops:
    """Return the face to judge: one that was changed rather than not, and the one before if so.

    The faces come largest first.
    """
    changed = [place for place in candidates if place.is_changed] or candidates
    if previous is not None:
        nearest = max(changed, key=lambda place: compute_iou(previous.box, place.face.box))
        if compute_iou(previous.box, nearest.face.box) > IOU_THRESHOLD:
            return nearest
    return changed[0]


def _measure_residuals(
    previous: FramePair, crops: _FaceCrops
) -> tuple[TemporalResidual, TemporalResidual]:
    """Return what motion compensation leaves over, swapped and original."""
    old = crops.alignment.crop(previous.original, CROP_PX)
    new = crops.alignment.crop(previous.swapped, CROP_PX)
    motion = MotionCompensation(old, crops.original)
    face, around = (zone.astype(np.float32) for zone in (crops.zones.face, crops.zones.outer))
    return (
        motion.compute_residual(new, crops.swapped, face=face, surroundings=around),
        motion.compute_residual(old, crops.original, face=face, surroundings=around),
    )


def _truth_window(pair: FramePair, face: Face) -> tuple[Rect, Mask]:
    """Return the part of the frame around where the truth counts, and the mask there."""
    height, width = pair.original.shape[:2]
    if pair.mask is None:
        (x0, y0), (x1, y1) = face.box[:2], face.box[2:]
    else:
        ys, xs = np.nonzero(pair.mask)
        x0, y0, x1, y1 = xs.min(), ys.min(), xs.max(), ys.max()
    margin = SSIM_MARGIN_PX
    window = Rect(
        int(x0) - margin, int(y0) - margin, int(x1) + 1 + margin, int(y1) + 1 + margin
    ).clip((width, height))
    if pair.mask is not None:
        return window, pair.mask[window.slices]
    across, down = window.size
    side = max(down, across)
    square = FaceAlignment.from_square(side, left=window.left, top=window.top)
    return window, face_mask(face.landmarks, square, side)[:down, :across]
