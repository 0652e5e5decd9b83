"""How large crops should be, and what they take on the disk: `survey_faces` and what follows."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from faceswap_cli.faces.alignment import FRAMINGS, align_face
from faceswap_cli.faces.settings import ExtractSettings
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.video.frame import Frame

SURVEYED_FRAMES = 24
"""Frames of all inputs together that are looked at."""
SIZE_STEP_PX, MIN_SIZE_PX, MAX_SIZE_PX = 64, 128, 512
"""Sizes that are chosen: multiples of the first, from the second to the third."""
SIZE_PERCENTILE = 90
"""Of the faces' sizes: a few that come nearer than all others do not decide."""
BYTES_PER_PX: Mapping[str, float] = MappingProxyType({"png": 1.3, "jpeg": 0.35})
"""Of 256 px, at most 1.45 and 0.35 in four clips; smaller crops have more, larger ones less."""
RECORD_BYTES = 14_000
"""A line of `faces.jsonl`, most of it 478 landmarks."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What some frames of the footage show."""

    frames: int
    """Frames looked at."""
    sides_px: Sequence[float]
    """Sides of the crops' squares in the frames, one for each face."""

    @property
    def faces_per_frame(self) -> float:
        """Faces that would be saved of a frame, on average; at least one in all frames."""
        return max(len(self.sides_px), 1) / max(self.frames, 1)


def survey_faces(
    frames: Iterable[Frame], *, detector: FaceDetector, settings: ExtractSettings
) -> Survey:
    """Look at some frames: at their largest face, or with `--face all` at every face.

    Args:
        frames: Some frames from all over the footage.
        detector: Inside its `with` block.
        settings: Which faces are saved, and the framing.
    """
    count = 0
    sides: list[float] = []
    for frame in frames:
        count += 1
        faces = detector.detect(frame.image)
        sides += [
            FRAMINGS[settings.framing](align_face(face.landmarks)).side_px
            for face in (faces if settings.faces == "all" else faces[:1])
        ]
    return Survey(frames=count, sides_px=tuple(sides))


def choose_size_px(sides_px: Sequence[float]) -> int:
    """Return the size at which crops keep what the footage has of most faces.

    Without any face it is the default.
    """
    if not sides_px:
        return ExtractSettings.size_px
    enough = float(np.percentile(sides_px, SIZE_PERCENTILE))
    steps = math.ceil(round(enough / SIZE_STEP_PX, 3))
    return int(np.clip(steps * SIZE_STEP_PX, MIN_SIZE_PX, MAX_SIZE_PX))


def estimate_bytes(faces: float, settings: ExtractSettings) -> int:
    """Return about what a set of faces takes on the disk, with its records."""
    crop = settings.size_px**2 * BYTES_PER_PX[settings.format]
    return round(faces * (crop + RECORD_BYTES))
