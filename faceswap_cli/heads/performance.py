"""Performances: scenes of a person who moves and talks, invented or read from a face set.

Main entry points: `invent_performance` and `performance_from_records`. The same scenes rendered of
two people are the input and the truth of a swap.
"""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.random_scenes import (
    HEAD_PITCH_LIMIT,
    HEAD_ROLL_LIMIT,
    HEAD_YAW_LIMIT,
    MOODS,
    VISEMES,
    close_lids,
    random_light,
    to_table,
)
from faceswap_cli.heads.scene import GAZE_DEGREES, HeadScene
from faceswap_cli.synthetic.geometry import Floats

PERFORMANCE_RATE = Fraction(25)
"""Scenes per second of an invented performance, unless another rate is given."""
_NEUTRAL_PERCENTILE = 10
"""Of a coefficient over a set: what the person's face at rest is taken to be."""


def invent_performance(
    seed: int,
    *,
    seconds: float,
    rate: Fraction = PERFORMANCE_RATE,
    place: HeadScene | None = None,
) -> tuple[HeadScene, ...]:
    """Return the scenes of a person who talks, looks around and laughs; smooth over time.

    Args:
        seed: The same seed gives the same scenes.
        seconds: Duration.
        rate: Scenes per second.
        place: Size in the frame, light, background and camera of the scenes; default: random.
    """
    rng = np.random.default_rng((seed, 31))
    count = max(1, round(seconds * rate))
    times = np.arange(count) / float(rate)
    values = _speech(rng, times) + _expressions(rng, times)
    gaze = _glances(rng, times)
    close_lids(values, _blinks(rng, times))
    values = values.clip(0, 1)
    poses = np.stack(
        [
            _wander(rng, times, limit, hertz)
            for limit, hertz in (
                (HEAD_YAW_LIMIT, 0.22),
                (HEAD_PITCH_LIMIT, 0.18),
                (HEAD_ROLL_LIMIT, 0.14),
                (1.5, 0.2),
                (0.8, 0.2),
            )
        ],
        axis=1,
    )
    if place is None:
        place = random_light(rng, HeadScene(scale=float(rng.uniform(0.9, 1.15)), background=seed))
    return tuple(
        replace(
            place,
            yaw=float(pose[0]),
            pitch=float(pose[1]),
            roll=float(pose[2]),
            shift=(float(pose[3]), float(pose[4])),
            blendshapes=tuple(float(one) for one in value),
            gaze=(float(direction[0]), float(direction[1])),
            seed=number,
        )
        for number, (pose, value, direction) in enumerate(zip(poses, values, gaze, strict=True))
    )


def performance_from_records(
    records: Sequence[FaceRecord], *, place: HeadScene | None = None
) -> tuple[HeadScene, ...]:
    """Return the scenes of a face set: poses and coefficients of footage, but nobody's face.

    A face at rest has coefficients of its own; what a coefficient is in the lowest tenth of the
    set is subtracted, so that another face at rest is at rest.

    Args:
        records: The set's records, in order.
        place: Light, background and camera of the scenes.
    """
    if not records:
        return ()
    read = np.array([record.blendshapes for record in records], np.float32)
    rest = np.percentile(read, _NEUTRAL_PERCENTILE, axis=0).clip(0, 0.8)
    gaze = [number for number, name in enumerate(BLENDSHAPE_NAMES) if name.startswith("eyeLook")]
    rest[gaze] = 0
    values = ((read - rest) / (1 - rest)).clip(0, 1)
    values[:, 0] = 0  # `_neutral` is not the tongue
    start = place or HeadScene()
    return tuple(
        replace(
            start,
            yaw=record.pose[0],
            pitch=record.pose[1],
            roll=record.pose[2],
            blendshapes=tuple(float(one) for one in value),
            gaze=None,  # as the coefficients say
            seed=number,
        )
        for number, (record, value) in enumerate(zip(records, values, strict=True))
    )


def _smooth(values: Floats, sigma: float) -> Floats:
    """Return values over time (T, C) smoothed by a Gaussian of `sigma` scenes."""
    reach = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 0.1)) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    smooth: Floats = np.stack(
        [np.convolve(padded[:, column], kernel, "valid") for column in range(values.shape[1])], 1
    )
    return smooth


def _held(rng: np.random.Generator, times: Floats, mean_s: float, count: int) -> Floats:
    """Return which of `count` shapes holds at each time; each for about `mean_s`."""
    lengths = rng.exponential(mean_s, max(2, int(times[-1] / mean_s * 2) + 8)) + 0.4 * mean_s
    index = np.searchsorted(np.cumsum(lengths), times, side="right").clip(0, len(lengths) - 1)
    shapes: Floats = rng.integers(0, count, len(lengths))[index]
    return shapes


def _speech(rng: np.random.Generator, times: Floats) -> Floats:
    """Return coefficients (T, 52) of a mouth that talks in phrases."""
    rate = 1 / max(times[1] - times[0], 1e-3) if len(times) > 1 else 25.0
    mouths = to_table(VISEMES)[_held(rng, times, 0.13, len(VISEMES))]
    talking = (_held(rng, times, 1.6, 3) > 0).astype(np.float32)
    loud = rng.uniform(0.6, 1.1)
    return _smooth(mouths * (loud * talking)[:, None], 0.045 * rate)


def _expressions(rng: np.random.Generator, times: Floats) -> Floats:
    """Return coefficients (T, 52) of moods that come and go."""
    rate = 1 / max(times[1] - times[0], 1e-3) if len(times) > 1 else 25.0
    strength = rng.uniform(0, 0.9, 64)[_held(rng, times, 1.8, 64)]
    moods = to_table(MOODS)[_held(rng, times, 1.8, len(MOODS))]
    return _smooth(moods * strength[:, None], 0.22 * rate)


def _glances(rng: np.random.Generator, times: Floats) -> Floats:
    """Return the gaze (T, 2), degrees right and up: it rests and jumps."""
    across = rng.normal(0, 9, 256).clip(-GAZE_DEGREES[0], GAZE_DEGREES[0])
    along = rng.normal(-1, 5, 256).clip(-GAZE_DEGREES[1], GAZE_DEGREES[1])
    chosen = _held(rng, times, 0.8, 256)
    return np.stack([across[chosen], along[chosen]], 1)


def _blinks(rng: np.random.Generator, times: Floats) -> Floats:
    """Return how far the lids are closed (T,), 0 to 1: every three seconds or so."""
    closed = np.zeros(len(times))
    start = float(rng.uniform(0.5, 3))
    while start < times[-1]:
        closed = np.maximum(closed, 1.15 * np.exp(-(((times - start) / 0.075) ** 2)))
        start += float(rng.uniform(1.6, 4.5))
    return closed.clip(0, 1)


def _wander(rng: np.random.Generator, times: Floats, limit: float, hertz: float) -> Floats:
    """Return a smooth path between plus and minus `limit`, (T,)."""
    phases, speeds = rng.uniform(0, 2 * np.pi, 3), hertz * rng.uniform(0.6, 1.4, 3)
    weights = np.array([1, 0.6, 0.35]) / 1.95
    path: Floats = limit * np.sin(2 * np.pi * np.outer(times, speeds) + phases) @ weights
    return path
