"""Baselines without training: lower bounds and the upper bound of a swap's scores.

All use the compositor and the area of a swap, so that only the face differs. A `Baseline` is called
with a frame, its face record and the true swap.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core import image_io
from faceswap_cli.core.lazy_image import ArrayImage
from faceswap_cli.core.types import AnyArray, Image, Mask, Matrix, Points
from faceswap_cli.faces.alignment import FaceAlignment, transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.masks import MASK_PX
from faceswap_cli.faces.occlusion import VisibleFaceModel

ROLL_WEIGHT = 0.3
"""Weight of roll against yaw and pitch in pose distances: crops are aligned, which removes most."""
JAW_OPEN = 25
"""Index of `jawOpen` in `BLENDSHAPE_NAMES`."""
JAW_DEGREES = 30.0
"""Distance of a fully open from a closed mouth, in degrees of head rotation."""


class Baseline(Protocol):
    """Replaces the face in a frame."""

    def __call__(self, frame: Image, record: FaceRecord, truth: Image, /) -> Image:
        """Return the frame with the face at `record` replaced; `truth` is the true swap."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnswappedBaseline:
    """The input itself."""

    @classmethod
    def from_faces(cls, _: FaceSet) -> "UnswappedBaseline":
        """Return the baseline; it does not depend on the target."""
        return cls()

    def __call__(self, frame: Image, _record: FaceRecord, _truth: Image) -> Image:
        """Return the frame as it is."""
        return frame


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFaceBaseline:
    """The target's mean crop in every frame."""

    face: Image
    compositor: Compositor = field(default_factory=Compositor)

    @classmethod
    def from_faces(cls, faces: FaceSet) -> "MeanFaceBaseline":
        """Compute the mean of a set's crops."""
        total: AnyArray | None = None
        for record in faces.records:
            crop = image_io.read_image(faces.path(record)).astype(np.float64)
            total = crop if total is None else total + crop
        assert total is not None
        return cls(face=np.round(total / len(faces)).astype(np.uint8))

    def __call__(self, frame: Image, record: FaceRecord, _truth: Image) -> Image:
        """Return the frame with the mean face."""
        mask = find_outline(frame, record, record.alignment, self.face.shape[0])
        return self.compositor.paste(frame, self.face, mask, record.alignment)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestPoseBaseline:
    """The target's crop of the nearest pose, fitted to the landmarks by an affine map."""

    faces: FaceSet
    compositor: Compositor = field(default_factory=Compositor)

    @classmethod
    def from_faces(cls, faces: FaceSet) -> "NearestPoseBaseline":
        """Return the baseline that takes its crops from a set."""
        return cls(faces=faces)

    def __call__(self, frame: Image, record: FaceRecord, _truth: Image) -> Image:
        """Return the frame with that crop, its colors matched to the frame."""
        nearest = self.faces.records[int(self._pose_distances(record).argmin())]
        crop = image_io.read_image(self.faces.path(nearest))
        side = crop.shape[0]
        source = transform_points(nearest.landmarks, nearest.alignment.frame_to_crop(side))
        target = transform_points(record.landmarks, record.alignment.frame_to_crop(side))
        fitted = cv2.warpAffine(
            crop,
            fit_affine(source, target),
            (side, side),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mask = find_outline(frame, record, record.alignment, side)
        return self.compositor.paste(
            frame, np.asarray(fitted, dtype=np.uint8), mask, record.alignment
        )

    def _pose_distances(self, record: FaceRecord) -> AnyArray:
        """Return the distances (N,) of the set's faces from a record's pose and jaw, degrees."""
        differences: AnyArray = _pose_features(self.faces.records) - _pose_features([record])
        return np.asarray(np.linalg.norm(differences, axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """The true swap as the output of a perfect network of one size: the upper bound.

    What is missing is what the pipeline loses: resolution, compositing, mask.
    """

    size_px: int
    """Side of the network's input."""
    coverage: float
    """That side as a fraction of the aligned square's."""
    compositor: Compositor = field(default_factory=Compositor)

    def __call__(self, frame: Image, record: FaceRecord, truth: Image) -> Image:
        """Return the frame with the true face."""
        alignment = record.alignment.center_crop(self.coverage)
        mask = find_outline(frame, record, alignment, MASK_PX)
        swapped, original = (alignment.crop(image, self.size_px) for image in (truth, frame))
        return self.compositor.paste(frame, swapped, mask, alignment, original=original)


def find_outline(frame: Image, record: FaceRecord, square: FaceAlignment, size: int) -> Mask:
    """Return where `convert` would swap a face with nothing in front of it, float32 (size, size).

    Args:
        frame: RGB uint8 (H, W, 3).
        record: The face.
        square: The square that the mask covers.
        size: Its side, px.
    """
    seen = VisibleFaceModel.load().analyze(ArrayImage(image=frame), record.alignment)
    return seen.find_face(square, size, record.landmarks)


def fit_affine(start: Points, end: Points) -> Matrix:
    """Return the least-squares affine map (2, 3) from start to end points, both (N, 2)."""
    homogeneous = np.column_stack([start.astype(np.float64), np.ones(len(start))])
    solution, *_ = np.linalg.lstsq(homogeneous, end.astype(np.float64), rcond=None)
    return np.asarray(solution.T)


def _pose_features(records: Sequence[FaceRecord]) -> AnyArray:
    """Return poses and jaw openness (N, 4), weighted, in degrees."""
    angles = np.array([record.pose for record in records]) * [1, 1, ROLL_WEIGHT]
    jaws = [JAW_DEGREES * record.blendshapes[JAW_OPEN] for record in records]
    return np.column_stack([angles, jaws])
