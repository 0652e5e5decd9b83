"""`RoI`: the rotated box in a frame that a face network's input is taken from.

Convention:
    The box is sampled as MediaPipe samples it: the center of the first input pixel is on the
    corner of the box, pixel centers of the frame are on integers. Rotations are positive clockwise
    as seen in the image.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import Image, Matrix, Points

OUTER_EYE_CORNERS = (33, 263)
"""Landmarks: image left on an upright face, then image right."""
ROI_MARGIN = 1.5
"""Side of the region for the next landmarks over the longer side of the box around the last."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RoI:
    """A rotated box in a frame that a network's input is taken from."""

    center: tuple[float, float]
    """(x, y) px."""
    size: tuple[float, float]
    """(width, height) px along the rotated axes."""
    rotation_deg: float = 0.0
    """Degrees clockwise from upright."""

    @classmethod
    def from_image(cls, image: Image) -> Self:
        """Return the square around the whole image, with the same center."""
        height, width = image.shape[:2]
        side = float(max(height, width))
        return cls(center=(width / 2, height / 2), size=(side, side))

    @classmethod
    def from_box(cls, box: Points, eyes: Points, *, margin: float) -> Self:
        """Return the region around a box, rotated so that the eyes are level.

        Args:
            box: Its corners (2, 2): top left, bottom right, px.
            eyes: Positions of the eyes (2, 2), px: image left of an upright face, then image right.
            margin: The region's sides over the box's.
        """
        across, down = eyes[1] - eyes[0]
        (x, y), (width, height) = (box[0] + box[1]) / 2, (box[1] - box[0]) * margin
        return cls(
            center=(float(x), float(y)),
            size=(float(width), float(height)),
            rotation_deg=math.degrees(math.atan2(down, across)),
        )

    @classmethod
    def from_landmarks(cls, landmarks: Points) -> Self:
        """Return the region to fit landmarks in, given nearby ones (478, 2) of the same face."""
        box = np.stack([landmarks.min(axis=0), landmarks.max(axis=0)])
        return cls.from_box(box, landmarks[list(OUTER_EYE_CORNERS)], margin=ROI_MARGIN).to_square()

    def to_square(self) -> Self:
        """Return the region extended to a square along its shorter side."""
        side = max(self.size)
        return replace(self, size=(side, side))

    def scale(self, factor: float) -> Self:
        """Return the region in an image `factor` times as large."""
        (x, y), (width, height) = self.center, self.size
        return replace(
            self, center=(x * factor, y * factor), size=(width * factor, height * factor)
        )

    def unrotate(self, quarter_turns: int, *, size: tuple[int, int]) -> Self:
        """Return the region in `image`, given this one in `np.rot90(image, quarter_turns)`.

        Args:
            quarter_turns: Quarter turns counter-clockwise, 0 to 3.
            size: (width, height) px of `image`.
        """
        x, y = self.center
        right, bottom = size[0] - 1, size[1] - 1
        centers = [(x, y), (right - y, x), (right - x, bottom - y), (y, bottom - x)]
        return replace(
            self, center=centers[quarter_turns], rotation_deg=self.rotation_deg + 90 * quarter_turns
        )

    def overlaps_center(self, other: Self) -> bool:
        """Return whether both regions are likely of one face.

        Their centers are then nearer than half the smaller face: a third of its region.
        """
        distance = math.dist(self.center, other.center)
        return distance < min(*self.size, *other.size) / 3

    def roi_to_frame(self, side: int) -> Matrix:
        """Return crop_to_frame (2, 3) for a network input of `side` px."""
        angle = math.radians(self.rotation_deg)
        (width, height), (cos, sin) = self.size, (math.cos(angle), math.sin(angle))
        axes = np.array([[width * cos, -height * sin], [width * sin, height * cos]]) / side
        return np.column_stack([axes, np.array(self.center) - axes @ [side / 2, side / 2]])

    def source_area(self) -> Rect:
        """Return the part of the frame that the network's input reads."""
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
        to_frame = self.roi_to_frame(1)
        return Rect.from_points(
            np.asarray(corners @ to_frame[:, :2].T + to_frame[:, 2], np.float32)
        )

    def crop(self, image: Image, side: int, *, border: int) -> Image:
        """Return the region as an image (side, side, 3); `border` is OpenCV's border mode."""
        crop = cv2.warpAffine(
            image,
            self.roi_to_frame(side),
            (side, side),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=border,
        )
        return np.asarray(crop, dtype=np.uint8)
