"""Trials of the benchmark: synthetic performances, one for each difficulty of face swapping.

A version of the benchmark is these trials, seeds and people. Any change needs a new `VERSION`,
since scores of two versions are not comparable.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from faceswap_cli.synthetic import CAST, Animation, Person, SceneParams, animate, random_person

VERSION = 1

RATE = Fraction(25)
IDENTITIES = ("ada", "ed", "bo", "di", "cy")
"""The first identities, in this order: the first two have similar complexions, as a cast would."""
TRAIN_SEED, TEST_SEED = 1_000, 2_000
"""Seeds of the performances for training and for the trials."""
TAKES = 3
"""Training performances of each person, each with its own room and light."""

Trial = Callable[[int, int], tuple[SceneParams, ...]]
"""`trial(seed, frames)`: its scenes."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One person's test clip."""

    performance: Animation
    labels: tuple[str, ...]
    """Trial of each frame."""


def select_identities(count: int) -> dict[str, Person]:
    """Return the first `count` people of the benchmark by name."""
    cast = {name: CAST[name] for name in IDENTITIES[:count]}
    seeds = range(count - len(cast))
    return {**cast, **{f"person-{seed}": random_person(seed) for seed in seeds}}


def make_training_performance(index: int, *, seconds: float) -> Animation:
    """Return the training performance of person `index`: `TAKES` takes in sequence."""
    scenes: list[SceneParams] = []
    for take in range(TAKES):
        seed = TRAIN_SEED + TAKES * index + take
        scenes += [
            replace(scene, warmth=take / TAKES, ambient=0.36 + 0.06 * take)
            for scene in animate(seed, seconds=seconds / TAKES, rate=RATE).scenes
        ]
    return Animation(scenes=tuple(scenes), rate=RATE)


def make_test_scenario(index: int, *, frames: int) -> Scenario:
    """Return the test clip of person `index`: every trial for `frames` frames."""
    scenes: list[SceneParams] = []
    labels: list[str] = []
    for number, (name, trial) in enumerate(TRIALS.items()):
        part = trial(TEST_SEED + len(TRIALS) * index + number, frames)
        scenes += part
        labels += [name] * len(part)
    return Scenario(performance=Animation(scenes=tuple(scenes), rate=RATE), labels=tuple(labels))


def _talking(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return talking to the camera."""
    return animate(seed, seconds=frames / float(RATE), rate=RATE).scenes


def _light(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return talking while a lamp of changing strength moves around the face."""
    return tuple(
        replace(
            scene,
            light=(1.6 * math.cos(angle), 0.5 + 0.7 * math.sin(angle), 0.8),
            key=0.9 + 0.35 * math.sin(2 * angle),
            warmth=0.5 + 0.5 * math.cos(angle),
        )
        for scene, angle in zip(_talking(seed, frames), _angles(frames), strict=True)
    )


def _hand(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return talking while a hand passes over the mouth and one cheek."""
    return tuple(
        replace(scene, hand=(5.0 * math.cos(angle), -6.0 + 6.0 * math.sin(angle)))
        for scene, angle in zip(_talking(seed, frames), _angles(frames), strict=True)
    )


def _small(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return talking far from the camera: the face has a ninth of the frame's width."""
    return tuple(replace(scene, scale=0.33) for scene in _talking(seed, frames))


def _profile(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return the head turning far to both sides, beyond the poses of the training clips."""
    half = frames // 2
    return tuple(
        replace(scene, yaw=(30 + 28 * (index % half) / half) * (1 if index < half else -1))
        for index, scene in enumerate(_talking(seed, frames))
    )


def _fast(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return motion four times as fast as while talking, over more of the frame."""
    scenes = animate(seed, seconds=4 * frames / float(RATE), rate=RATE).scenes[::4]
    return tuple(replace(scene, shift=(3 * scene.shift[0], 3 * scene.shift[1])) for scene in scenes)


def _cuts(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Return shots of six frames, each with another room and another size of the face."""
    shots = -(-frames // SHOT_FRAMES)
    scenes: list[SceneParams] = []
    for shot in range(shots):
        part = _talking(1000 * seed + shot, SHOT_FRAMES)
        scenes += [replace(scene, scale=0.7 + 0.1 * (shot % 5)) for scene in part]
    return tuple(scenes[:frames])


def _angles(frames: int) -> Sequence[float]:
    """Return an angle for each frame, over one turn from 0."""
    return [2 * math.pi * index / frames for index in range(frames)]


SHOT_FRAMES = 6

TRIALS: Mapping[str, Trial] = MappingProxyType(
    {
        "talking": _talking,
        "light": _light,
        "hand": _hand,
        "small": _small,
        "profile": _profile,
        "fast": _fast,
        "cuts": _cuts,
    }
)
"""Trials by name, in the order of the clip, with a cut between two."""
