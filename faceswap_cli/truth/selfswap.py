"""A person swapped to themselves: the answer is the input, so what differs the pipeline has lost.

The network is thought perfect: it answers with what it was shown. Each step is measured with all
those before it; what comes after blending is the encoder's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from faceswap_cli.arrays import Image, Mask, Points
from faceswap_cli.blend.composite import Compositor, Rectangle, warped
from faceswap_cli.blend.finish import USUAL
from faceswap_cli.faces.align import FaceAlignment, align
from faceswap_cli.faces.mask import oval_mask
from faceswap_cli.metrics.reconstruction import decibels, mean_squared_error

FINE = 2
"""Pixels of a square for each of the frame's that show what turning there and back costs."""
MASK_PX = 128

STEPS = ("alignment", "resampling", "blending", "encoding")


@dataclass(frozen=True, kw_only=True)
class SelfSwap:
    """How a perfect network of one size would be laid back."""

    size_px: int
    """Side of the square that it sees."""
    coverage: float = 0.8
    """That side as a part of the aligned square's."""
    compositor: Compositor = field(default_factory=lambda: Compositor(finish=USUAL))

    def steps(self, frame: Image, landmarks: Points) -> tuple[Mapping[str, Image], Mask]:
        """Return the frame after each step but the encoding, and the mask they are judged in.

        Args:
            frame: RGB uint8 (H, W, 3).
            landmarks: (478, 2) px.
        """
        place = align(landmarks).central(self.coverage)
        mask = oval_mask(landmarks, place, MASK_PX)
        bare = replace(self.compositor, recolour=None, finish=Compositor().finish, feather=0.0)
        fine = place.crop(frame, ceil(FINE * place.side_px))
        seen = place.crop(frame, self.size_px)
        made = {
            "alignment": bare(frame, fine, mask, place),
            "resampling": bare(frame, seen, mask, place),
            "blending": self.compositor(frame, seen, mask, place, covers=seen),
        }
        return made, self._shows(frame, mask, place)

    def _shows(self, frame: Image, mask: Mask, place: FaceAlignment) -> Mask:
        """Return where the swap shows, float32 (H, W)."""
        height, width = frame.shape[:2]
        whole = Rectangle(0, 0, width, height)
        alpha = warped(self.compositor.alpha(mask), place, whole)
        return np.asarray(alpha / np.float32(255), dtype=np.float32)


Encode = Callable[[list[Image]], Iterable[Image]]
"""`encode(frames)`: the frames as they come out of a written video, in order."""


def losses(
    seen: Iterable[tuple[Image, Points]], swap: SelfSwap, *, encode: Encode | None = None
) -> dict[str, float]:
    """Return the PSNR inside the mask after each of the `STEPS`, dB, over all frames.

    Args:
        seen: Frames and the landmarks of the face in each.
        swap: The size of the network, and how its answer is laid back.
        encode: Writes and reads back; None leaves that step out.
    """
    errors: dict[str, list[float]] = defaultdict(list)
    finished: list[tuple[Image, Image, Mask]] = []
    for frame, landmarks in seen:
        made, shows = swap.steps(frame, landmarks)
        for step, image in made.items():
            errors[step].append(mean_squared_error(image, frame, shows))
        if encode is not None:
            finished.append((frame, made["blending"], shows))
    if encode is not None:
        written = encode([image for _, image, _ in finished])
        for image, (frame, _, shows) in zip(written, finished, strict=True):
            errors["encoding"].append(mean_squared_error(image, frame, shows))
    return {step: decibels(float(np.mean(values))) for step, values in errors.items()}
