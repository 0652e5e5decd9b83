"""Face alignment: the similarity from a frame to the unit square, `align_face(landmarks)`.

Convention:
    Points are (x, y) px, pixel centers on integers. The unit square is continuous: a crop of
    `size` px covers it exactly, so its first pixel's center is at `0.5 / size`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import Image, Matrix, Points


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAlignment:
    """The aligned square of a face in its frame, independent of crop size."""

    to_unit: Matrix
    """float64 (2, 3): frame px -> unit square."""

    @classmethod
    def from_square(cls, side: int, *, left: int = 0, top: int = 0) -> "FaceAlignment":
        """Return an upright square of whole pixels of the frame, by its side and first pixel."""
        to_unit = np.array([[1, 0, 0.5 - left], [0, 1, 0.5 - top]], dtype=np.float64) / side
        return cls(to_unit=to_unit)

    def frame_to_crop(self, size: int) -> Matrix:
        """Return frame_to_crop (2, 3) for a crop of `size` px."""
        return compose(np.array([[size, 0, -0.5], [0, size, -0.5]], dtype=np.float64), self.to_unit)

    def crop_to_frame(self, size: int) -> Matrix:
        """Return crop_to_frame (2, 3) for a crop of `size` px."""
        return np.asarray(cv2.invertAffineTransform(self.frame_to_crop(size)), dtype=np.float64)

    @property
    def side_px(self) -> float:
        """Length of the square's side in the frame, px."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.to_unit[:, :2]))))

    def subsquare(self, side: float, center: tuple[float, float]) -> "FaceAlignment":
        """Return the alignment of a square inside this one, or around it.

        Args:
            side: Its side, as a part of this square's.
            center: Its center (x, y) in this square's coordinates, 0 to 1.
        """
        left, top = center[0] - side / 2, center[1] - side / 2
        shrink = np.array([[1, 0, -left], [0, 1, -top]], dtype=np.float64) / side
        return FaceAlignment(to_unit=compose(shrink, self.to_unit))

    def center_crop(self, coverage: float) -> "FaceAlignment":
        """Return the alignment of the central part whose side is `coverage` of this square's."""
        return self.subsquare(coverage, (0.5, 0.5))

    def corners(self) -> Points:
        """Return the square's corners in the frame, float32 (4, 2), clockwise from top left."""
        unit_to_frame = np.asarray(cv2.invertAffineTransform(self.to_unit), dtype=np.float64)
        return transform_points(
            np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), unit_to_frame
        )

    def source_area(self) -> Rect:
        """Return the part of the frame that a crop reads."""
        return Rect.from_points(self.corners())

    def crop(self, image: Image, size: int) -> Image:
        """Return the crop of `image`, uint8 (size, size, 3)."""
        # Downscaling by bilinear interpolation alone skips pixels: sample a crop at least as fine
        # as the frame, then average whole blocks of it.
        factor = max(1, math.ceil(self.side_px / size - 1e-6))
        fine = cv2.warpAffine(
            image,
            self.frame_to_crop(size * factor),
            (size * factor, size * factor),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        crop = cv2.resize(fine, (size, size), interpolation=cv2.INTER_AREA)
        return np.asarray(crop, dtype=np.uint8)

    def expand_to_head(self) -> "FaceAlignment":
        """Return the alignment of the square around the whole head, hair and neck included.

        Its center is above the face's, and its side is `HEAD_SCALE` times as long: 40 cm, from
        18 cm below the eyes' level to 22 cm above it.
        """
        side, up = HEAD_SCALE, HEAD_CENTER_SHIFT
        shrink = np.array([[1, 0, (side - 1) / 2], [0, 1, (side - 1) / 2 + up]]) / side
        return FaceAlignment(to_unit=compose(shrink, self.to_unit))

    def relative_to(self, crop: "FaceAlignment", size: int) -> "FaceAlignment":
        """Return the alignment of this square in another one's crop of `size` px."""
        return FaceAlignment(to_unit=compose(self.to_unit, crop.crop_to_frame(size)))

    def shrink_to_face(self) -> "FaceAlignment":
        """Return the alignment of the face whose `expand_to_head` this is."""
        side, up = HEAD_SCALE, HEAD_CENTER_SHIFT
        grow = np.array([[side, 0, (1 - side) / 2], [0, side, (1 - side) / 2 - up]])
        return FaceAlignment(to_unit=compose(grow, self.to_unit))


TEMPLATE_VERSION = 1
"""Changes whenever the same landmarks would get another alignment."""

# The template is the front view of the canonical face model that comes with MediaPipe's
# face_landmarker.task (Apache-2.0): centimeters from the model's origin, x to image right, y up.
# Only points are used that expressions hardly move: the corners of the eyes, the bridge and base
# of the nose, the forehead, the temples and the upper cheekbones. Points near the silhouette keep
# the scale right when the head turns, which narrows the rest.
MIDLINE_CM: Mapping[int, float] = MappingProxyType(
    {10: 8.262, 151: 6.545, 9: 4.886, 168: 3.271, 6: 2.473, 197: 1.728, 2: -2.089}
)
"""Landmark -> y of the stable points with x = 0."""
PAIRS_CM: Mapping[tuple[int, int], tuple[float, float]] = MappingProxyType(
    {
        (33, 263): (4.446, 2.664),
        (133, 362): (1.856, 2.585),
        (67, 297): (3.524, 8.006),
        (54, 284): (6.279, 6.615),
        (98, 327): (1.406, -1.714),
        (127, 356): (7.743, 2.365),
        (234, 454): (7.664, 0.673),
        (117, 346): (5.259, 0.946),
        (118, 347): (4.432, 0.722),
    }
)
"""Landmarks (image left, image right) -> (x of the right one, y)."""
SIDE_CM = 26.5
"""Side of the square. Its central 0.8, which a network sees, is 21.2 cm.

Over 873 measured frames (five synthetic people over the whole range of `synthetic.animate`, two
filmed ones; mouths wide open) the aligned outline reached from 8.9 cm above the model's origin
(landmark 10) to 11.5 cm below it (landmark 152) and 9.9 cm to either side: none left the 21.2 cm.
"""
CENTER_BELOW_ORIGIN_CM = 1.3
"""Halfway between those highest and lowest points."""


HEAD_SCALE = 1.5
"""Side of the square around a head over that around its face."""
HEAD_CENTER_SHIFT = 0.15
"""Distance of its center above that of the face's square, in sides of the latter."""

FRAMINGS: Mapping[str, Callable[[FaceAlignment], FaceAlignment]] = MappingProxyType(
    {"face": lambda alignment: alignment, "head": FaceAlignment.expand_to_head}
)
"""Name -> function from the alignment of a face to that of its crop."""


def align_face(landmarks: Points) -> FaceAlignment:
    """Return the alignment of the face with these landmarks (478, 2) px."""
    indices, target = build_template()
    return FaceAlignment(to_unit=fit_similarity(landmarks[indices], target))


def build_template() -> tuple[npt.NDArray[np.intp], Points]:
    """Return the stable landmarks' indices (K,) and their positions in the unit square (K, 2)."""
    positions = {index: (0.0, y) for index, y in MIDLINE_CM.items()}
    for (left, right), (x, y) in PAIRS_CM.items():
        positions |= {left: (-x, y), right: (x, y)}
    from_origin = np.array(list(positions.values())) * [1, -1]
    unit = 0.5 + (from_origin - [0, CENTER_BELOW_ORIGIN_CM]) / SIDE_CM
    return np.array(list(positions), dtype=np.intp), unit.astype(np.float32)


def fit_similarity(points: Points, target: Points) -> Matrix:
    """Return the similarity (2, 3) that best maps points to target, both (N, 2).

    Best in the sum of squares over the targets: S. Umeyama, "Least-squares estimation of
    transformation parameters between two point patterns", IEEE PAMI 13(4), 1991. In the plane,
    where rotation and scale are one complex number, it needs no decomposition, and never mirrors.

    Raises:
        ValueError: All points are the same.
    """
    start, end = points.astype(np.float64), target.astype(np.float64)
    start_mean, end_mean = start.mean(axis=0), end.mean(axis=0)
    (x, y), (u, v) = (start - start_mean).T, (end - end_mean).T
    spread = (x**2 + y**2).sum()
    if spread == 0:
        raise ValueError("a similarity needs points that are not all the same")
    real, imaginary = (x * u + y * v).sum() / spread, (x * v - y * u).sum() / spread
    linear = np.array([[real, -imaginary], [imaginary, real]])
    return np.column_stack([linear, end_mean - linear @ start_mean])


def fit_affine_to_template(landmarks: Points, alignment: FaceAlignment, size: int) -> Matrix:
    """Return the affine map (2, 3) from an average face's crop of `size` px to this one's.

    Beside a similarity it follows how a turned head narrows: glasses of an average face then sit.
    """
    indices, template = build_template()
    end = transform_points(landmarks[indices], alignment.frame_to_crop(size))
    start = np.column_stack([template.astype(np.float64) * size - 0.5, np.ones(len(template))])
    solution, *_ = np.linalg.lstsq(start, end.astype(np.float64), rcond=None)
    return np.asarray(solution.T, dtype=np.float64)


def transform_points(points: Points, matrix: Matrix) -> Points:
    """Return points (N, 2) mapped by an affine matrix (2, 3)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the affine map that applies `inner`, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])
