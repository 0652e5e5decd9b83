"""What a drawn person does: one moment, or a smooth path of them; not who does it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from faceswap_cli.synthetic.geometry import Floats, Triple

YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT = 35.0, 20.0, 15.0
"""The documented range of poses, degrees either way: what the detectors were measured on."""

BLINK_CURVE = (0.3, 0.8, 1.0, 0.8, 0.4)
"""How far the lids are down in the frames of one blink."""

BLINK_INTERVAL_FRAMES = (40, 80)
"""Fewest and most frames from one blink to the next."""

PEAK_AMPLITUDE = 0.3
"""No sample is further from zero."""

_PITCH_HZ, _VIBRATO_HZ, _VIBRATO_SHARE = 140.0, 5.0, 0.01
_HARMONICS = (1.0, 0.5, 0.25, 0.12)
_SHUT_LOUDNESS = 0.12
"""Of the loudest: a shut mouth still hums, so that a clip never falls silent."""


@dataclass(frozen=True, kw_only=True)
class SceneParams:
    """Pose, expression, light and surroundings of one picture.

    Convention:
        yaw + turns the subject towards the image's right; pitch + nods down; roll + leans the head
        counter-clockwise as seen in the image: what `faces.detect` reports. The head turns by
        Rz(roll) @ Ry(yaw) @ Rx(pitch), with x to image right, y up, z to the camera.
    """

    yaw: float = 0.0
    """degrees"""
    pitch: float = 0.0
    """degrees"""
    roll: float = 0.0
    """degrees"""
    blink: float = 0.0
    """0 open to 1 shut, both eyes."""
    jaw: float = 0.0
    """0 shut to 1 wide open."""
    smile: float = 0.0
    """0 to 1."""
    brow: float = 0.0
    """-0.3 lowered to 1 raised."""
    gaze: tuple[float, float] = (0.0, 0.0)
    """degrees to the image's right and up, against the head."""
    shift: tuple[float, float] = (0.0, 0.0)
    """cm to the image's right and up; the frame shows about 35 cm."""
    scale: float = 1.0
    """Size in the frame; 1 makes the head about two thirds of its height."""
    light: Triple = (-0.4, 0.5, 1.0)
    """Towards the lamp: image right, up, towards the camera; any length."""
    key: float = 1.0
    """Strength of the lamp."""
    ambient: float = 0.42
    """Strength of the light from everywhere."""
    warmth: float = 0.0
    """Colour of the ambient light: 0 sky, 1 lamp-lit room."""
    background: int = 1
    """Which blurred room is behind."""
    noise: float = 1.4
    """Deviation of the sensor noise, in 255ths; the same noise for every person at this moment."""
    hand: tuple[float, float] | None = None
    """Fingertips of a hand before the face, cm to the image's right and up of the head's centre."""


@dataclass(frozen=True, kw_only=True)
class Animation:
    """Moments at an even rate."""

    scenes: tuple[SceneParams, ...]
    rate: Fraction
    """Moments a second."""

    @property
    def seconds(self) -> Fraction:
        """How long it lasts."""
        return len(self.scenes) / self.rate


def animate(seed: int, *, seconds: float, rate: Fraction = Fraction(25)) -> Animation:
    """Return a smooth performance, like somebody talking to the camera; same seed, same one.

    Every parameter is a sum of three sines with random phases; the eyes blink every 40 to 80
    frames. Poses stay within the documented range.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(seconds * rate))
    wave = _waves(rng, np.arange(count) / float(rate))
    yaw, pitch, roll = wave(-30, 30, 0.25), wave(-14, 14, 0.2), wave(-8, 8, 0.15)
    # A range that starts below zero keeps the mouth shut for a part of the time.
    jaw, smile = np.maximum(wave(-0.5, 1, 0.9), 0), np.maximum(wave(-0.6, 1, 0.3), 0)
    brow, blink = wave(-0.2, 0.4, 0.3), _blinks(rng, count)
    gaze_x, gaze_y = wave(-15, 15, 0.4), wave(-6, 6, 0.3)
    light_x, light_y = wave(-0.8, 0.8, 0.05), wave(0, 0.8, 0.05)
    shift_x, shift_y = wave(-1.0, 1.0, 0.2), wave(-0.6, 0.6, 0.2)
    return Animation(
        rate=rate,
        scenes=tuple(
            SceneParams(
                yaw=float(yaw[i]),
                pitch=float(pitch[i]),
                roll=float(roll[i]),
                blink=float(blink[i]),
                jaw=float(jaw[i]),
                smile=float(smile[i]),
                brow=float(brow[i]),
                gaze=(float(gaze_x[i]), float(gaze_y[i])),
                shift=(float(shift_x[i]), float(shift_y[i])),
                light=(float(light_x[i]), float(light_y[i]), 1.0),
                background=seed,
            )
            for i in range(count)
        ),
    )


def synthesize_voice(animation: Animation, *, rate_hz: int = 48_000) -> Floats:
    """Return a hum as long as the performance, its loudness in step with the jaw.

    Args:
        animation: What the jaw does.
        rate_hz: Samples a second.

    Returns:
        float32 (N, 1) in [-0.3, 0.3]; N = seconds * rate_hz, rounded.
    """
    times_s = np.arange(round(animation.seconds * rate_hz)) / rate_hz
    frame_times_s = (np.arange(len(animation.scenes)) + 0.5) / float(animation.rate)
    jaw = np.interp(times_s, frame_times_s, [m.jaw for m in animation.scenes])
    vibrato = np.sin(2 * np.pi * _VIBRATO_HZ * times_s) * _VIBRATO_SHARE / _VIBRATO_HZ
    phase = 2 * np.pi * _PITCH_HZ * (times_s + vibrato)
    hum = sum(weight * np.sin(k * phase) for k, weight in enumerate(_HARMONICS, start=1))
    loudness = PEAK_AMPLITUDE * (_SHUT_LOUDNESS + (1 - _SHUT_LOUDNESS) * np.clip(jaw, 0, 1))
    samples: Floats = (hum * (loudness / sum(_HARMONICS))).astype(np.float32)[:, None]
    return samples


def random_scenes(seed: int, count: int) -> Sequence[SceneParams]:
    """Return `count` unrelated moments over the whole documented range; same seed, same ones."""
    rng = np.random.default_rng(seed)
    return [_random_scene(rng) for _ in range(count)]


def _random_scene(rng: np.random.Generator) -> SceneParams:
    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    return SceneParams(
        yaw=between(-YAW_LIMIT, YAW_LIMIT),
        pitch=between(-PITCH_LIMIT, PITCH_LIMIT),
        roll=between(-ROLL_LIMIT, ROLL_LIMIT),
        blink=max(0.0, between(-1.0, 1.0)),
        jaw=max(0.0, between(-0.7, 1.0)),
        smile=max(0.0, between(-0.7, 1.0)),
        brow=between(-0.3, 0.6),
        gaze=(between(-18, 18), between(-8, 8)),
        shift=(between(-2.5, 2.5), between(-1.5, 1.5)),
        scale=between(0.85, 1.1),
        light=(between(-1, 1), between(-0.2, 1), 1.0),
        key=between(0.7, 1.15),
        ambient=between(0.3, 0.6),
        warmth=between(0, 1),
        background=int(rng.integers(1, 100_000)),
    )


def _waves(rng: np.random.Generator, times_s: Floats) -> Callable[[float, float, float], Floats]:
    """Return a maker of smooth paths: (low, high, frequency in Hz) -> one value a moment."""

    def wave(low: float, high: float, frequency_hz: float) -> Floats:
        phases = rng.uniform(0, 2 * math.pi, 3)
        frequencies = frequency_hz * rng.uniform(0.7, 1.3, 3)
        weights = 1 / np.arange(1, 4)
        angles = 2 * math.pi * np.outer(times_s, frequencies) + phases
        unit = np.sin(angles) @ weights / weights.sum()
        path: Floats = low + (high - low) * (unit + 1) / 2
        return path

    return wave


def _blinks(rng: np.random.Generator, count: int) -> Floats:
    """Return how far the lids are down in each of `count` frames."""
    lids = np.zeros(count + len(BLINK_CURVE))
    start = int(rng.integers(10, BLINK_INTERVAL_FRAMES[0]))
    while start < count:
        lids[start : start + len(BLINK_CURVE)] = BLINK_CURVE
        start += int(rng.integers(*BLINK_INTERVAL_FRAMES))
    return lids[:count]
