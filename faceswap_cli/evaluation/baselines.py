"""Answers that need no learning: the floors and the ceiling that a swap is measured between.

All are laid into the frame by the same compositor as a swap, so that what differs is the face.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.core import image_io
from faceswap_cli.core.types import AnyArray, Image, Matrix, Points
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.masks import face_mask

ROLL_WEIGHT = 0.3
"""A crop is turned upright: how much its roll counts beside yaw and pitch in what pose is near."""
JAW_OPEN = 25
"""Place of jawOpen among the coefficients of expression."""
JAW_DEGREES = 30.0
"""A mouth wide open is as far from a shut one as a head turned by so much."""


class Baseline(Protocol):
    """Makes of each frame one with another face."""

    def __call__(self, frame: Image, record: FaceRecord, truth: Image, /) -> Image:
        """Return the frame with the face at `record` replaced; `truth` is the true swap."""


@dataclass(frozen=True, kw_only=True, eq=False)
class UnswappedBaseline:
    """The input itself."""

    @classmethod
    def from_faces(cls, _: FaceSet) -> "UnswappedBaseline":
        """Return it, whoever is wanted."""
        return cls()

    def __call__(self, frame: Image, _record: FaceRecord, _truth: Image) -> Image:
        """Return the frame as it is."""
        return frame


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFaceBaseline:
    """The wanted person's mean crop, in every frame."""

    face: Image
    compositor: Compositor = field(default_factory=Compositor)

    @classmethod
    def from_faces(cls, faces: FaceSet) -> "MeanFaceBaseline":
        """Return the mean of a set's crops."""
        total: AnyArray | None = None
        for record in faces.records:
            crop = image_io.read_image(faces.path(record)).astype(np.float64)
            total = crop if total is None else total + crop
        assert total is not None
        return cls(face=np.round(total / len(faces)).astype(np.uint8))

    def __call__(self, frame: Image, record: FaceRecord, _truth: Image) -> Image:
        """Return the frame with that face."""
        mask = face_mask(record.landmarks, record.alignment, self.face.shape[0])
        return self.compositor.paste(frame, self.face, mask, record.alignment)


@dataclass(frozen=True, kw_only=True, eq=False)
class NearestPoseBaseline:
    """The wanted person's crop of the nearest pose, fitted to the landmarks by an affine map."""

    faces: FaceSet
    compositor: Compositor = field(default_factory=Compositor)

    @classmethod
    def from_faces(cls, faces: FaceSet) -> "NearestPoseBaseline":
        """Return the answer that takes its crops from a set."""
        return cls(faces=faces)

    def __call__(self, frame: Image, record: FaceRecord, _truth: Image) -> Image:
        """Return the frame with that crop, in the frame's colours."""
        nearest = self.faces.records[int(self._pose_distances(record).argmin())]
        crop = image_io.read_image(self.faces.path(nearest))
        side = crop.shape[0]
        theirs = transform_points(nearest.landmarks, nearest.alignment.frame_to_crop(side))
        ours = transform_points(record.landmarks, record.alignment.frame_to_crop(side))
        fitted = cv2.warpAffine(
            crop,
            fit_affine(theirs, ours),
            (side, side),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        mask = face_mask(record.landmarks, record.alignment, side)
        return self.compositor.paste(
            frame, np.asarray(fitted, dtype=np.uint8), mask, record.alignment
        )

    def _pose_distances(self, record: FaceRecord) -> AnyArray:
        """Return how far each of the set's faces is from a record's pose and jaw, degrees."""
        apart: AnyArray = _pose_features(self.faces.records) - _pose_features([record])
        return np.asarray(np.linalg.norm(apart, axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class Oracle:
    """The true swap as a network of a size would draw it, without a fault.

    What is missing is what the pipeline loses: the network's size, the blend, the mask.
    """

    size_px: int
    """Side of the square that the network sees."""
    coverage: float
    """That side as a part of the aligned square's."""
    compositor: Compositor = field(default_factory=Compositor)

    def __call__(self, frame: Image, record: FaceRecord, truth: Image) -> Image:
        """Return the frame with the true face."""
        place = record.alignment.center_crop(self.coverage)
        mask = face_mask(record.landmarks, place)
        drawn = place.crop(truth, self.size_px)
        return self.compositor.paste(
            frame, drawn, mask, place, original=place.crop(frame, self.size_px)
        )


def fit_affine(start: Points, end: Points) -> Matrix:
    """Return the affine map (2, 3) that best carries points to others, both (N, 2)."""
    known = np.column_stack([start.astype(np.float64), np.ones(len(start))])
    found, *_ = np.linalg.lstsq(known, end.astype(np.float64), rcond=None)
    return np.asarray(found.T)


def _pose_features(records: Sequence[FaceRecord]) -> AnyArray:
    """Return poses and jaws, (N, 4), in degrees of like weight."""
    angles = np.array([record.pose for record in records]) * [1, 1, ROLL_WEIGHT]
    jaws = [JAW_DEGREES * record.blendshapes[JAW_OPEN] for record in records]
    return np.column_stack([angles, jaws])
