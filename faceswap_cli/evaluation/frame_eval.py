"""Evaluation frame by frame: `FrameEvaluator` measures pairs of original and swapped frames.

The models it measures with are those of `metrics.external_models` and the face detector.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import Gray, Image, Mask
from faceswap_cli.evaluation.aggregate import FaceFeatures, FrameMeasurement
from faceswap_cli.evaluation.metrics import artifacts
from faceswap_cli.evaluation.metrics.artifacts import FaceZones
from faceswap_cli.evaluation.metrics.external_models import EvalModels
from faceswap_cli.evaluation.metrics.reconstruction import mask_window, mean_squared_error, ssim
from faceswap_cli.evaluation.metrics.registry import crop_metrics
from faceswap_cli.evaluation.metrics.teeth import teeth_area
from faceswap_cli.evaluation.metrics.temporal import MotionCompensation, TemporalResidual
from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.boxes import IOU_THRESHOLD, compute_iou
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.occlusion import SeenFace, VisibleFaceModel, outline_face
from faceswap_cli.faces.track_smoothing import FrameTracks
from faceswap_cli.faces.tracker import OnlineTracker, is_cut, make_thumbnail
from faceswap_cli.faces.types import Face, FaceDetector

CROP_PX = 256
"""Side of the crops that are measured; both videos' crops share one alignment."""
THUMBNAIL_PX = 224
"""Side of the images of the worst frames."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePair:
    """One frame of both videos, and of the true swap if it is known."""

    time: float
    """Seconds."""
    original: Image
    swapped: Image
    truth: Image | None = None
    mask: Mask | None = None
    """Where to compare with the truth, float32 (H, W); None: inside the face's outline."""
    swapped_area: Image | None = None
    """Where the face was swapped: white. None, or black in the crop: inside the face's outline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _PreviousFrame:
    pair: FramePair
    thumbnail: Gray
    face: Face | None


class FrameEvaluator:
    """Measures one frame after another, in order.

    Args:
        detector: Inside its `with` block.
        models: The evaluation models that are installed.
        intervals: Slow models run on each n-th frame only: n, by model.
    """

    def __init__(
        self, detector: FaceDetector, models: EvalModels, *, intervals: Mapping[str, int]
    ) -> None:
        self._detector = detector
        self._models = models
        self._intervals = intervals
        self._tracker = OnlineTracker(detector, embedder=models.identity.get("sface"))
        self._track: int | None = None
        """The track of the face that was measured last."""
        self._previous: _PreviousFrame | None = None
        self._frame_index = -1
        self._occlusion = VisibleFaceModel.load()

    def evaluate(self, pair: FramePair) -> FrameMeasurement:
        """Measure the next frame."""
        self._frame_index += 1

        # The previous frame counts only within one shot.
        thumbnail = make_thumbnail(ArrayImage(image=pair.original))
        previous = self._previous
        if previous is not None and is_cut(previous.thumbnail, thumbnail):
            previous = None
        previous_face = previous.face if previous else None

        # One face of the original is measured.
        crops = self._select_face(pair, self._tracker.update(pair.original))
        self._previous = _PreviousFrame(
            pair=pair, thumbnail=thumbnail, face=crops.face if crops else None
        )
        if crops is None:
            return FrameMeasurement(time=pair.time)

        # Temporal metrics need the same face in the previous frame.
        is_continuous, residuals = False, None
        if previous is not None and previous_face is not None:
            is_continuous = bool(compute_iou(previous_face.box, crops.face.box) > IOU_THRESHOLD)
            if is_continuous:
                residuals = _measure_residuals(previous.pair, crops)
        return FrameMeasurement(
            time=pair.time,
            original=self._extract_features(pair.original, crops.face),
            swapped=self._find_swapped_face(pair.swapped, crops.face),
            is_continuous=is_continuous,
            is_changed=crops.is_changed,
            residuals=residuals,
            artifacts=crops.measure_artifacts(),
            reconstruction=self._compare_to_truth(pair, crops),
        )

    def encode_images(self, pair: FramePair) -> dict[str, bytes]:
        """Return the face just measured, or else the whole frame, of each video as JPEG files."""
        assert self._previous is not None
        face = self._previous.face
        alignment = align_face(face.landmarks) if face else _full_frame_alignment(pair.original)
        images = {"original": pair.original, "swapped": pair.swapped, "truth": pair.truth}
        return {
            name: image_io.encode_jpeg(alignment.crop(image, THUMBNAIL_PX))
            for name, image in images.items()
            if image is not None
        }

    def _select_face(self, pair: FramePair, tracks: FrameTracks) -> "_FaceCrops | None":
        """Return the face to measure: a changed one if there is any, the last one if possible.

        While the face measured so far is lost, another one that is not changed is not measured: it
        is not its turn to be swapped.
        """
        crops = {
            track: _FaceCrops.from_pair(pair, face, self._occlusion)
            for track, face in tracks.faces.items()
        }
        changed = {track: one for track, one in crops.items() if one.is_changed}
        if not changed and self._track not in crops and tracks.remembers(self._track):
            return None
        candidates = changed or crops
        if self._track not in candidates:
            by_area = sorted(candidates, key=lambda track: candidates[track].face.area_px)
            if not by_area:
                return None
            self._track = by_area[-1]
        return candidates[self._track]

    def _find_swapped_face(self, image: Image, face: Face) -> FaceFeatures | None:
        """Return the face in the swapped frame at the position of `face` in the original."""
        tracked = self._detector.track(ArrayImage(image=image), [face])
        return self._extract_features(image, tracked[0]) if tracked else None

    def _extract_features(self, image: Image, face: Face) -> FaceFeatures:
        models = self._models
        return FaceFeatures(
            landmarks=face.landmarks,
            pose=face.pose,
            blendshapes=face.blendshapes,
            embeddings={
                name: model.embed(image, face.landmarks)
                for name, model in models.identity.items()
                if self._is_due(name)
            },
            pose_3ddfa=models.pose.estimate_pose(image, face.landmarks) if models.pose else None,
            teeth=teeth_area(image, face.landmarks),
        )

    def _compare_to_truth(self, pair: FramePair, crops: "_FaceCrops") -> dict[str, float]:
        """Return the reconstruction errors inside the face; nothing without a truth."""
        if pair.truth is None:
            return {}
        mask = _outline_mask(pair.original, crops.face) if pair.mask is None else pair.mask
        if mask.max() <= 0:
            return {}
        window = mask_window(mask)
        images = pair.swapped[window], pair.truth[window], mask[window]
        errors = {"mean_squared_error": mean_squared_error(*images), "ssim": ssim(*images)}
        if self._models.lpips and self._is_due("lpips"):
            inside = crops.zones.face[..., None]
            truth = crops.alignment.crop(pair.truth, CROP_PX)
            errors["lpips"] = self._models.lpips(np.where(inside, crops.swapped, truth), truth)
        return errors

    def _is_due(self, model: str) -> bool:
        return self._frame_index % self._intervals[model] == 0


@dataclass(frozen=True, kw_only=True, eq=False)
class _FaceCrops:
    """A face of the original, and the crops of both videos at its alignment."""

    face: Face
    alignment: FaceAlignment
    zones: FaceZones
    original: Image
    """uint8 (S, S, 3)."""
    swapped: Image
    is_changed: bool

    seen: SeenFace
    """What of the original's face is seen."""

    @classmethod
    def from_pair(cls, pair: FramePair, face: Face, visible: VisibleFaceModel) -> "_FaceCrops":
        """Crop both frames around a face of the original."""
        alignment = align_face(face.landmarks)
        original, swapped = (
            alignment.crop(image, CROP_PX) for image in (pair.original, pair.swapped)
        )
        seen = visible.analyze(ArrayImage(image=pair.original), alignment)
        area = find_marked_area(pair, alignment)
        if area is None:
            outline = face_mask(face.landmarks, alignment, CROP_PX)
            found = seen.find_face(alignment, CROP_PX, face.landmarks)
            area = found if is_forehead_changed(swapped, original, outline, found) else outline
        zones = FaceZones.from_mask(area)
        return cls(
            face=face,
            alignment=alignment,
            zones=zones,
            original=original,
            swapped=swapped,
            is_changed=artifacts.is_changed(swapped, original, zones),
            seen=seen,
        )

    def measure_artifacts(self) -> dict[str, float]:
        """Return seam, color, sharpness and what other packages measure, by metric."""
        outline = outline_face(self.face.landmarks, self.alignment)
        occlusion = self.seen.find_occlusion(self.alignment, CROP_PX, outline)
        crops = (artifacts.to_lab(self.swapped), artifacts.to_lab(self.original), self.zones)
        area = self.zones.face.astype(np.float32)
        return {
            "seam_gradient": artifacts.seam_gradient(*crops),
            "seam_color": artifacts.seam_color_step(*crops),
            "color_offset": artifacts.color_offset(*crops),
            "sharpness": artifacts.sharpness_ratio(*crops),
            "painted_over": artifacts.painted_over(
                self.swapped, self.original, self.zones, occlusion
            ),
            **{
                name: one.measure(self.swapped, self.original, area)
                for name, one in crop_metrics().items()
            },
        }


def _measure_residuals(
    previous: FramePair, crops: _FaceCrops
) -> tuple[TemporalResidual, TemporalResidual]:
    """Return the residuals after motion compensation: swapped, original."""
    old_original = crops.alignment.crop(previous.original, CROP_PX)
    old_swapped = crops.alignment.crop(previous.swapped, CROP_PX)
    motion = MotionCompensation(old_original, crops.original)
    face, around = (zone.astype(np.float32) for zone in (crops.zones.face, crops.zones.outer))
    return (
        motion.compute_residual(old_swapped, crops.swapped, face=face, surroundings=around),
        motion.compute_residual(old_original, crops.original, face=face, surroundings=around),
    )


def find_marked_area(pair: FramePair, alignment: FaceAlignment) -> Mask | None:
    """Return where a face is said to be swapped in its crop, float32 (S, S), if it is said."""
    if pair.swapped_area is None:
        return None
    area = np.asarray(alignment.crop(pair.swapped_area, CROP_PX)[..., 0] / 255, np.float32)
    return area if area.max() >= 0.5 else None


def is_forehead_changed(swapped: Image, original: Image, outline: Mask, found: Mask) -> bool:
    """Return whether a swap goes up to the hair, and not to the landmarks' outline alone.

    Args:
        swapped: The crop of the swapped frame.
        original: The same of the original.
        outline: The landmarks' outline, float32 (S, S).
        found: The face up to the hair.
    """
    zones = FaceZones.from_mask(outline)
    # Beyond the bands: a soft edge of the outline ends in them.
    above = (found > 0.5) & ~(zones.face | zones.seam | zones.outer)
    return bool(above.any()) and artifacts.is_changed(swapped, original, zones, area=above)


def _outline_mask(image: Image, face: Face) -> Mask:
    """Return the face's outline in its frame, filled, float32 (H, W)."""
    height, width = image.shape[:2]
    alignment = _full_frame_alignment(image)
    return face_mask(face.landmarks, alignment, max(height, width))[:height, :width]


def _full_frame_alignment(image: Image) -> FaceAlignment:
    """Return the square that holds the whole image, in its top left corner, pixel by pixel."""
    return FaceAlignment.from_square(max(image.shape[:2]))
