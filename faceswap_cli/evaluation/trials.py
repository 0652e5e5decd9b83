"""What drawn people do to try a swap: one short trial for each thing that swaps find hard.

A version of the benchmark is these trials, these seeds and these people: change any and its number
goes up, since scores of two versions do not compare.
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
"""Who takes part, in this order: the first two are of like complexion, as anyone would cast."""
TRAIN_SEED, TEST_SEED = 1_000, 2_000
"""Of performances that are learnt from, and of those that are not."""
TAKES = 3
"""Performances that each person is learnt from, each in a room and a light of its own."""

Trial = Callable[[int, int], tuple[SceneParams, ...]]
"""`trial(seed, frames)`: what is done in it."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What one person does in one clip."""

    performance: Animation
    labels: tuple[str, ...]
    """The trial that each frame belongs to."""


def select_identities(count: int) -> dict[str, Person]:
    """Return the first `count` people of the benchmark, by name."""
    known = {name: CAST[name] for name in IDENTITIES[:count]}
    more = range(count - len(known))
    return {**known, **{f"person-{seed}": random_person(seed) for seed in more}}


def make_training_performance(index: int, *, seconds: float) -> Animation:
    """Return what person `index` does in the footage that is learnt from, in some takes."""
    takes = []
    for take in range(TAKES):
        seed = TRAIN_SEED + TAKES * index + take
        part = animate(seed, seconds=seconds / TAKES, rate=RATE).scenes
        takes += [
            replace(moment, warmth=take / TAKES, ambient=0.36 + 0.06 * take) for moment in part
        ]
    return Animation(scenes=tuple(takes), rate=RATE)


def make_test_scenario(index: int, *, frames: int) -> Scenario:
    """Return what person `index` does to try a swap: every trial for `frames` frames."""
    moments: list[SceneParams] = []
    labels: list[str] = []
    for place, (name, trial) in enumerate(TRIALS.items()):
        part = trial(TEST_SEED + len(TRIALS) * index + place, frames)
        moments += part
        labels += [name] * len(part)
    return Scenario(performance=Animation(scenes=tuple(moments), rate=RATE), labels=tuple(labels))


def _talking(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Somebody talks to the camera."""
    return animate(seed, seconds=frames / float(RATE), rate=RATE).scenes


def _light(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """A lamp is carried around the face, and its strength changes."""
    return tuple(
        replace(
            moment,
            light=(1.6 * math.cos(turn), 0.5 + 0.7 * math.sin(turn), 0.8),
            key=0.9 + 0.35 * math.sin(2 * turn),
            warmth=0.5 + 0.5 * math.cos(turn),
        )
        for moment, turn in zip(_talking(seed, frames), _angles(frames), strict=True)
    )


def _hand(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """A hand passes over the mouth and one cheek, and away."""
    return tuple(
        replace(moment, hand=(5.0 * math.cos(turn), -6.0 + 6.0 * math.sin(turn)))
        for moment, turn in zip(_talking(seed, frames), _angles(frames), strict=True)
    )


def _small(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Somebody stands far away: a face of a ninth of the frame's width."""
    return tuple(replace(moment, scale=0.33) for moment in _talking(seed, frames))


def _profile(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """The head turns far to one side, then to the other: beyond what was learnt from."""
    half = frames // 2
    return tuple(
        replace(moment, yaw=(30 + 28 * (place % half) / half) * (1 if place < half else -1))
        for place, moment in enumerate(_talking(seed, frames))
    )


def _fast(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Four times as fast as anybody moves while talking, and over more of the frame."""
    hasty = animate(seed, seconds=4 * frames / float(RATE), rate=RATE).scenes[::4]
    return tuple(
        replace(moment, shift=(3 * moment.shift[0], 3 * moment.shift[1])) for moment in hasty
    )


def _cuts(seed: int, frames: int) -> tuple[SceneParams, ...]:
    """Shots of six frames, each in another room and another size."""
    shots = -(-frames // SHOT_FRAMES)
    moments: list[SceneParams] = []
    for shot in range(shots):
        part = _talking(1000 * seed + shot, SHOT_FRAMES)
        moments += [replace(moment, scale=0.7 + 0.1 * (shot % 5)) for moment in part]
    return tuple(moments[:frames])


def _angles(frames: int) -> Sequence[float]:
    """Return an angle for each frame, from 0 once around."""
    return [2 * math.pi * place / frames for place in range(frames)]


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
"""Every trial by its name, in the order of the clip; a cut lies between two."""
