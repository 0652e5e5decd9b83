"""Which faces of other people go with a face: those that look the same way with a like mouth.

Knows poses and who is near whom; refuses to know when faces are paired. A critic that is shown two
people in different poses learns the poses; shown them in like ones, it learns the people.
"""

from collections.abc import Sequence

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.dataset import FaceRecord

NEAREST = 8
"""A face is paired with one of so many nearest ones, by chance, so that many get their turn."""
ANGLE_SCALE = 10.0
"""Degrees of yaw or pitch that count as much as `MOUTH_SCALE`."""
MOUTH_SCALE = 0.05
"""Opening of the mouth, as a part of the face's height, that counts as much as `ANGLE_SCALE`."""
_LIPS, _HEIGHT = (13, 14), (10, 152)
"""The inner lips' middles, and the face's top and chin, in the 478 landmarks."""


def pose_features(records: Sequence[FaceRecord]) -> AnyArray:
    """Return yaw, pitch and opening of the mouth of faces, float32 (N, 3), in the units above."""
    return np.array(
        [
            [
                record.pose[0] / ANGLE_SCALE,
                record.pose[1] / ANGLE_SCALE,
                _landmark_distance(record, _LIPS)
                / max(_landmark_distance(record, _HEIGHT), 1.0)
                / MOUTH_SCALE,
            ]
            for record in records
        ],
        dtype=np.float32,
    ).reshape(-1, 3)


def sample_partners(poses: AnyArray, others: AnyArray, *, rng: np.random.Generator) -> AnyArray:
    """Return, for each of `poses` (B, 3), where one of the nearest of `others` (N, 3) is."""
    distances = np.square(poses[:, None] - others[None]).sum(-1)  # (B, N)
    near = np.argsort(distances, axis=1, kind="stable")[:, :NEAREST]
    return near[np.arange(len(near)), rng.integers(0, near.shape[1], len(near))]


def _landmark_distance(record: FaceRecord, indices: tuple[int, int]) -> float:
    """Return the distance of two landmarks, px."""
    one, other = record.landmarks[list(indices)].astype(np.float64)
    return float(np.linalg.norm(one - other))
