"""The square of a face that a `.dfm` file gets, and the network's square in it: `WholeFace`.

Programs that run `.dfm` files crop faces by landmarks and templates of their own, in a framing that
is called the whole face. Their square and ours differ by a similarity that is nearly the same for
every frontal face, so a constant one is built into the exported graph: in whole pixels, so that the
graph resamples nothing.

Convention:
    Squares are given in the unit square of a face.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WHOLE_FACE_SIDE = 0.945
"""Side of the whole-face square, in sides of the unit square.

FaceFusion's template, fitted to the landmarks of two filmed and eight synthetic people, looking
within 15 degrees of the camera: 0.98, 0.92 and 0.94, with a deviation of 0.02 to 0.03 in each.
"""
WHOLE_FACE_CENTER = (0.507, 0.446)
"""Its center (x, y) in the unit square, from the same faces: theirs deviated by 0.005 to 0.012."""
RAMP = 0.04
"""Width of the soft border of a network's square, as a part of its side."""

Weights = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class WholeFace:
    """The whole-face square in pixels of a network, nearest to the measured one."""

    size_px: int
    """Side S of the network's square."""
    coverage: float
    """The same, as a part of the unit square's: it is central there."""

    @property
    def side_px(self) -> int:
        """Side H of the whole-face square, an even number."""
        return 2 * round(WHOLE_FACE_SIDE / 2 / self._unit_per_px)

    @property
    def side(self) -> float:
        """Side of the whole-face square."""
        return self.side_px * self._unit_per_px

    @property
    def center(self) -> tuple[float, float]:
        """Center (x, y) of the whole-face square."""
        x, y = (
            0.5 + ((self.side_px - self.size_px) / 2 - self.first_px(axis)) * self._unit_per_px
            for axis in (0, 1)
        )
        return x, y

    @property
    def _unit_per_px(self) -> float:
        """Side of a pixel."""
        return self.coverage / self.size_px

    def first_px(self, axis: int) -> int:
        """Return where the network's square begins in the whole-face square, px; may be negative.

        Args:
            axis: 0 for x, 1 for y.
        """
        offset = (0.5 - WHOLE_FACE_CENTER[axis]) / self._unit_per_px
        return round((self.side_px - self.size_px) / 2 + offset)

    def crop_indices(self, axis: int) -> Indices:
        """Return the whole-face square's pixel at each of the network's, (S,); edges repeat."""
        return np.clip(np.arange(self.size_px) + self.first_px(axis), 0, self.side_px - 1)

    def paste_indices(self, axis: int) -> Indices:
        """Return the network's pixel at each of the whole-face square's, (H,); edges repeat."""
        return np.clip(np.arange(self.side_px) - self.first_px(axis), 0, self.size_px - 1)

    def inside_weights(self, axis: int) -> Weights:
        """Return (H,) weights: 1 in the network's square, 0 outside, with a soft border."""
        positions = np.arange(self.side_px) + 0.5 - self.first_px(axis)
        depth = np.minimum(positions, self.size_px - positions) / (RAMP * self.size_px)
        return np.asarray(np.clip(depth, 0, 1), dtype=np.float32)
