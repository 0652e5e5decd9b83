"""How a frame is stored, rotated or mirrored, and how to make it upright; quarter turns only."""

from dataclasses import dataclass
from typing import Self, cast

import cv2
import numpy as np
from av.buffer import Buffer
from av.video.frame import VideoFrame

from faceswap_cli.core.lazy_image import Rect
from faceswap_cli.core.types import AnyArray


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """How a stored image becomes upright: the axes are transposed first, then mirrored."""

    transposed: bool
    mirrored_x: bool
    mirrored_y: bool

    @classmethod
    def from_frame(cls, frame: VideoFrame) -> Self:
        """Return the orientation in a frame's display matrix, to the nearest quarter turn.

        Convention: ISO/IEC 14496-12, 8.3.2. A point is a row vector times the matrix, so
        x' = a x + c y and y' = b x + d y, y pointing down.
        """
        data = cast(Buffer | None, frame.side_data.get("DISPLAYMATRIX"))
        if data is None:
            return cls(transposed=False, mirrored_x=False, mirrored_y=False)
        (a, b, _), (c, d, _), _ = np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3).tolist()
        swapped = abs(b) > abs(a)
        return cls(
            transposed=swapped,
            mirrored_x=(c if swapped else a) < 0,
            mirrored_y=(b if swapped else d) < 0,
        )

    @property
    def rotation_deg(self) -> int:
        """Clockwise, 0, 90, 180 or 270; a mirrored image is mirrored left to right first."""
        quarter_turns = {
            (False, False, False): 0,
            (False, True, False): 0,
            (True, True, False): 90,
            (True, True, True): 90,
            (False, True, True): 180,
            (False, False, True): 180,
            (True, False, True): 270,
            (True, False, False): 270,
        }
        return quarter_turns[self.transposed, self.mirrored_x, self.mirrored_y]

    @property
    def is_mirrored(self) -> bool:
        """Whether left and right are exchanged."""
        return self.transposed ^ self.mirrored_x ^ self.mirrored_y

    def to_stored_area(self, area: Rect, size: tuple[int, int]) -> Rect:
        """Return where an area of the upright image of (width, height) px is stored."""
        left, top, right, bottom = area
        width, height = size
        if self.mirrored_x:
            left, right = width - right, width - left
        if self.mirrored_y:
            top, bottom = height - bottom, height - top
        stored = (top, left, bottom, right) if self.transposed else (left, top, right, bottom)
        return Rect(*stored)

    def to_upright(self, image: AnyArray) -> AnyArray:
        """Return a stored image, or one plane of its samples, upright."""
        transposed = cv2.transpose(image) if self.transposed else image
        flips = {(True, False): 1, (False, True): 0, (True, True): -1}
        flip = flips.get((self.mirrored_x, self.mirrored_y))
        return transposed if flip is None else cv2.flip(transposed, flip)
