"""Types of the arrays that packages exchange; see docs/develop/conventions.md."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Image: TypeAlias = npt.NDArray[np.uint8]
"""RGB uint8 (H, W, 3)."""

Gray: TypeAlias = npt.NDArray[np.uint8]
"""One value per pixel, uint8 (H, W)."""

Mask: TypeAlias = npt.NDArray[np.float32]
"""float32 (H, W) in [0, 1]; 1 belongs to the face."""

Points: TypeAlias = npt.NDArray[np.float32]
"""float32 (N, 2), columns x and y in px, pixel centers on integers, origin top-left."""

Matrix: TypeAlias = npt.NDArray[np.float64]
"""float64 (2, 3) affine matrix, named after its spaces: `frame_to_crop`."""

AnyArray: TypeAlias = npt.NDArray[Any]
