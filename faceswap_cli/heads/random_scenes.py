"""Random scenes: poses, mouths of speech, moods, light and cameras.

Main entry points: `random_head_scenes` and `random_light`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.scene import CameraTraits, HeadScene, Lamp, blendshapes
from faceswap_cli.synthetic.geometry import Floats, Triple

HEAD_YAW_LIMIT, HEAD_PITCH_LIMIT, HEAD_ROLL_LIMIT = 40.0, 22.0, 16.0
"""The range of poses, degrees either way."""


def both_sides(**values: float) -> dict[str, float]:
    """Return coefficients of both sides of a face by their common name."""
    return {f"{name}{side}": value for name, value in values.items() for side in ("Left", "Right")}


VISEMES: tuple[dict[str, float], ...] = (
    {"jawOpen": 0.55} | both_sides(mouthLowerDown=0.15),  # a
    {"jawOpen": 0.20} | both_sides(mouthSmile=0.3, mouthStretch=0.2),  # e, i
    {"jawOpen": 0.30, "mouthFunnel": 0.6},  # o
    {"jawOpen": 0.08, "mouthPucker": 0.85},  # u, w
    {"mouthRollLower": 0.3, "mouthRollUpper": 0.3} | both_sides(mouthPress=0.4),  # m, b, p
    {"jawOpen": 0.06, "mouthRollLower": 0.4} | both_sides(mouthUpperUp=0.2),  # f, v
    {"jawOpen": 0.16, "_neutral": 0.12},  # l, th: the tongue
    {"jawOpen": 0.10, "mouthFunnel": 0.35} | both_sides(mouthUpperUp=0.15),  # sh, ch
    {},
)
"""Shapes of the mouth in speech."""

_SMILE = both_sides(mouthSmile=0.75, cheekSquint=0.5, eyeSquint=0.3)
MOODS: tuple[dict[str, float], ...] = (
    _SMILE,
    _SMILE | {"jawOpen": 0.35} | both_sides(mouthUpperUp=0.4, eyeSquint=0.5),  # laughter
    {"browInnerUp": 0.7, "jawOpen": 0.3} | both_sides(browOuterUp=0.7, eyeWide=0.6),  # surprise
    both_sides(browDown=0.8, mouthPress=0.4, noseSneer=0.3),  # anger
    {"browInnerUp": 0.8, "mouthShrugLower": 0.4} | both_sides(mouthFrown=0.7),  # sorrow
    both_sides(noseSneer=0.7, mouthUpperUp=0.5, browDown=0.4),  # disgust
    {"mouthSmileLeft": 0.6, "mouthDimpleLeft": 0.4, "browOuterUpLeft": 0.6},  # one-sided
    {"cheekPuff": 0.8, "mouthPucker": 0.3},
    {"mouthLeft": 0.5, "jawLeft": 0.4},
    {},
)
"""What a face shows for some seconds."""
BROWS: tuple[dict[str, float], ...] = (
    {"browInnerUp": 1.0} | both_sides(browOuterUp=1.0),
    both_sides(browDown=1.0),
)
"""Brows raised and lowered, with whatever the mouth does."""


def random_head_scenes(seed: int, count: int) -> Sequence[HeadScene]:
    """Return `count` independent scenes over the whole range; the same for the same seed."""
    rng = np.random.default_rng((seed, 37))
    return [random_head_scene(rng) for _ in range(count)]


def random_head_scene(rng: np.random.Generator) -> HeadScene:
    """Return a random pose, expression, gaze, light and camera."""
    values = np.zeros(len(BLENDSHAPE_NAMES), np.float32)
    mouths = to_table(VISEMES)
    values += rng.uniform(0, 1.1) * mouths[rng.integers(len(mouths))]
    moods = to_table(MOODS)
    values += rng.uniform(0, 1) * moods[rng.integers(len(moods))]
    for number in rng.integers(1, len(values), 3):
        values[number] += rng.uniform(0, 0.5)
    if rng.uniform() < 0.5:
        values += rng.uniform(0, 1) * to_table(BROWS)[rng.integers(len(BROWS))]
    if rng.uniform() < 0.2:
        close_lids(values[None], np.array([rng.uniform(0.3, 1)]))
    scene = HeadScene(
        yaw=float(rng.uniform(-HEAD_YAW_LIMIT, HEAD_YAW_LIMIT)),
        pitch=float(rng.uniform(-HEAD_PITCH_LIMIT, HEAD_PITCH_LIMIT)),
        roll=float(rng.uniform(-HEAD_ROLL_LIMIT, HEAD_ROLL_LIMIT)),
        blendshapes=tuple(float(one) for one in values.clip(0, 1)),
        gaze=(float(rng.uniform(-25, 25)), float(rng.uniform(-20, 20))),
        shift=(float(rng.uniform(-2.5, 2.5)), float(rng.uniform(-1.5, 1.5))),
        scale=float(rng.uniform(0.85, 1.2)),
        background=int(rng.integers(1, 1_000_000)),
        seed=int(rng.integers(1, 1_000_000)),
    )
    return random_light(rng, scene)


def random_light(rng: np.random.Generator, scene: HeadScene) -> HeadScene:
    """Return the scene with random lamps, ambient light and camera."""
    warmth = rng.normal(0, 0.10)
    cast = np.array([1 + warmth, 1.0, 1 - warmth])
    strength = rng.uniform(0.45, 1.0)
    key = Lamp(
        direction=_triple([rng.uniform(-1.2, 1.2), rng.uniform(-0.1, 1.1), rng.uniform(0.4, 1.2)]),
        color=_triple(strength * cast),
        size=float(rng.uniform(0.05, 1)),
    )
    lamps = [key]
    if rng.uniform() < 0.5:
        side = -np.sign(key.direction[0])
        color = rng.uniform(0.1, 0.4) * (1 + rng.normal(0, 0.12, 3))
        fill = [side * rng.uniform(0.4, 1.4), rng.uniform(-0.4, 0.6), rng.uniform(0.1, 0.8)]
        lamps.append(Lamp(direction=_triple(fill), color=_triple(color), shadow=False))
    if rng.uniform() < 0.25:
        color = rng.uniform(0.3, 1.0) * (1 + rng.normal(0, 0.15, 3))
        rim = [rng.choice([-1, 1]) * rng.uniform(0.6, 1.3), rng.uniform(0.2, 0.9), -0.8]
        lamps.append(Lamp(direction=_triple(rim), color=_triple(color), size=0.3))
    ambient = rng.uniform(0.18, 0.50)
    sky = ambient * (1 + rng.normal(0, 0.08, 3))
    ground = ambient * rng.uniform(0.35, 0.8) * (1 + rng.normal(0, 0.08, 3))
    camera = CameraTraits(
        distance_cm=float(rng.uniform(50, 160)),
        blur=float(rng.uniform(0.2, 1.0)),
        depth_blur=float(rng.uniform(0, 2.0)) if rng.uniform() < 0.3 else 0.0,
        motion=_motion(rng) if rng.uniform() < 0.15 else (0.0, 0.0),
        noise=float(rng.uniform(0.5, 5)),
        white_balance=_triple(1 + rng.normal(0, 0.04, 3)),
        exposure=float(np.exp(rng.normal(0, 0.15)) * 0.95 / (0.45 * strength + ambient + 0.25)),
        contrast=float(rng.uniform(0.92, 1.12)),
        jpeg_quality=int(rng.integers(55, 96)) if rng.uniform() < 0.4 else 0,
        interlaced=bool(rng.uniform() < 0.03),
    )
    return replace(
        scene, lamps=tuple(lamps), sky=_triple(sky), ground=_triple(ground), camera=camera
    )


def _motion(rng: np.random.Generator) -> tuple[float, float]:
    return float(rng.normal(0, 2.5)), float(rng.normal(0, 1.2))


def _triple(values: Iterable[float]) -> Triple:
    red, green, blue = (float(max(one, -9)) for one in values)
    return red, green, blue


def to_table(shapes: Sequence[dict[str, float]]) -> Floats:
    """Return coefficients (N, 52) of shapes by name."""
    table: Floats = np.array([blendshapes(shape) for shape in shapes], np.float32)
    return table


def close_lids(values: Floats, closed: Floats) -> None:
    """Close the lids of coefficients (T, 52) by (T,), in place."""
    for side in ("Left", "Right"):
        at = BLENDSHAPE_NAMES.index(f"eyeBlink{side}")
        values[:, at] = np.maximum(values[:, at], closed)
        for name in ("eyeWide", "eyeSquint"):
            values[:, BLENDSHAPE_NAMES.index(name + side)] *= 1 - closed
