"""Where a face lies: the similarity that carries it to the unit square, and nothing of detectors.

Convention:
    Points are (x, y) px, pixel centres on integers. The unit square is continuous: a crop of
    `size` px covers it exactly, so its first pixel's centre is at `0.5 / size`.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.arrays import Image, Matrix, Points


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceAlignment:
    """A face's place in its frame, free of any crop size."""

    to_unit: Matrix
    """float64 (2, 3): frame px -> the unit square."""

    def matrix(self, size: int) -> Matrix:
        """Return frame_to_crop (2, 3) for a crop of `size` px."""
        return _after(np.array([[size, 0, -0.5], [0, size, -0.5]], dtype=np.float64), self.to_unit)

    def inverse(self, size: int) -> Matrix:
        """Return crop_to_frame (2, 3) for a crop of `size` px."""
        return np.asarray(cv2.invertAffineTransform(self.matrix(size)), dtype=np.float64)

    @property
    def side_px(self) -> float:
        """Length of the square's side in the frame, px."""
        return float(1 / np.sqrt(abs(np.linalg.det(self.to_unit[:, :2]))))

    def central(self, coverage: float) -> "FaceAlignment":
        """Return the alignment of the central part whose side is `coverage` of this square's."""
        margin = (1 - coverage) / 2
        shrink = np.array([[1, 0, -margin], [0, 1, -margin]], dtype=np.float64) / coverage
        return FaceAlignment(to_unit=_after(shrink, self.to_unit))

    def corners(self) -> Points:
        """Return the square's corners in the frame, float32 (4, 2), clockwise from top left."""
        unit_to_frame = np.asarray(cv2.invertAffineTransform(self.to_unit), dtype=np.float64)
        return transform(np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32), unit_to_frame)

    def crop(self, image: Image, size: int) -> Image:
        """Return the crop of `image`, uint8 (size, size, 3)."""
        # Shrinking by a plain bilinear look-up skips pixels: average in steps of two first.
        image, matrix = _halved(image, self.matrix(size))
        crop = cv2.warpAffine(
            image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(crop, dtype=np.uint8)


def transform(points: Points, matrix: Matrix) -> Points:
    """Carry points (N, 2) through an affine matrix (2, 3)."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], dtype=np.float32)


def _after(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the affine map that applies `inner`, then `outer`."""
    return np.hstack([outer[:, :2] @ inner[:, :2], outer[:, :2] @ inner[:, 2:] + outer[:, 2:]])


def _halved(image: Image, matrix: Matrix) -> tuple[Image, Matrix]:
    """Halve `image` by 2x2 averages while `matrix` shrinks it by two or more."""
    while abs(np.linalg.det(matrix[:, :2])) <= 0.25 and min(image.shape[:2]) >= 2:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: height * 2, : width * 2]
        image = np.asarray(
            cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8
        )
        matrix = _after(matrix, np.array([[2, 0, 0.5], [0, 2, 0.5]], dtype=np.float64))
    return image, matrix
