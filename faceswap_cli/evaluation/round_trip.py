"""A person swapped to themselves: the answer is the input, so what differs the pipeline has lost.

The network is thought perfect: it answers with what it was shown. Each step is measured with all
those before it; what comes after blending is the encoder's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from faceswap_cli.compositing.compositor import Compositor
from faceswap_cli.conversion.settings import ConvertSettings
from faceswap_cli.conversion.swapper import build_compositor
from faceswap_cli.core.types import Image, Mask, Points
from faceswap_cli.evaluation.metrics.reconstruction import mean_squared_error, psnr_from_mse
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.masks import face_mask

OVERSAMPLING = 2
"""Pixels of a square for each of the frame's that show what turning there and back costs."""
STEPS = ("alignment", "resampling", "blending", "encoding")


@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """How a perfect network of one size would be laid back."""

    size_px: int
    """Side of the square that it sees."""
    coverage: float = 0.8
    """That side as a part of the aligned square's."""
    compositor: Compositor = field(default_factory=lambda: build_compositor(ConvertSettings()))

    def run_steps(self, frame: Image, landmarks: Points) -> tuple[Mapping[str, Image], Mask]:
        """Return the frame after each step but the encoding, and the mask they are judged in.

        Args:
            frame: RGB uint8 (H, W, 3).
            landmarks: (478, 2) px.
        """
        place = align_face(landmarks).center_crop(self.coverage)
        mask = face_mask(landmarks, place)
        bare = replace(
            self.compositor, color_transfer=None, postprocess=Compositor().postprocess, feather=0.0
        )
        fine = place.crop(frame, ceil(OVERSAMPLING * place.side_px))
        seen = place.crop(frame, self.size_px)
        made = {
            "alignment": bare.paste(frame, fine, mask, place),
            "resampling": bare.paste(frame, seen, mask, place),
            "blending": self.compositor.paste(frame, seen, mask, place, original=seen),
        }
        height, width = frame.shape[:2]
        alpha = self.compositor.alpha_in_frame(mask, place, (width, height))
        return made, np.asarray(alpha / np.float32(255), dtype=np.float32)


EncodeFrames = Callable[[list[Image]], Iterable[Image]]
"""`encode(frames)`: the frames as they come out of a written video, in order."""


def measure_psnr(
    faces: Iterable[tuple[Image, Points]],
    round_trip: RoundTrip,
    *,
    encode: EncodeFrames | None = None,
) -> dict[str, float]:
    """Return the PSNR inside the mask after each of the `STEPS`, dB, over all frames.

    Args:
        faces: Frames and the landmarks of the face in each.
        round_trip: The size of the network, and how its answer is laid back.
        encode: Writes and reads back; None leaves that step out.
    """
    errors: dict[str, list[float]] = defaultdict(list)
    finished: list[tuple[Image, Image, Mask]] = []
    for frame, landmarks in faces:
        made, shows = round_trip.run_steps(frame, landmarks)
        for step, image in made.items():
            errors[step].append(mean_squared_error(image, frame, shows))
        if encode is not None:
            finished.append((frame, made["blending"], shows))
    if encode is not None:
        written = encode([image for _, image, _ in finished])
        for image, (frame, _, shows) in zip(written, finished, strict=True):
            errors["encoding"].append(mean_squared_error(image, frame, shows))
    return {step: psnr_from_mse(float(np.mean(values))) for step, values in errors.items()}
