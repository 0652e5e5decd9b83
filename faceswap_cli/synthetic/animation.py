"""Scenes (pose, expression, light), animations of them, and a sound track for an animation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from faceswap_cli.synthetic.geometry import Floats, Triple

YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT = 35.0, 20.0, 15.0
"""The documented range of poses, degrees either way: the detectors were measured on it."""

BLINK_CURVE = (0.3, 0.8, 1.0, 0.8, 0.4)
"""How far the lids are closed in the frames of one blink."""

BLINK_INTERVAL_FRAMES = (40, 80)
"""Minimum and maximum number of frames from one blink to the next."""

PEAK_AMPLITUDE = 0.3
"""Bound on the absolute value of samples."""

_PITCH_HZ, _VIBRATO_HZ, _VIBRATO_SHARE = 140.0, 5.0, 0.01
_HARMONICS = (1.0, 0.5, 0.25, 0.12)
_SHUT_LOUDNESS = 0.12
"""Loudness with a shut mouth, relative to a wide open one: a clip is never silent."""


@dataclass(frozen=True, kw_only=True)
class SceneParams:
    """Pose, expression, light and surroundings of one image.

    Convention:
        yaw + turns the head towards the image's right; pitch + nods down; roll + leans the head
        counter-clockwise in the image, as the detectors report it. The head's rotation is
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
    """degrees to the image's right and up, relative to the head."""
    shift: tuple[float, float] = (0.0, 0.0)
    """cm to the image's right and up; the frame shows about 35 cm."""
    scale: float = 1.0
    """Size in the frame; 1 makes the head about two thirds of its height."""
    light: Triple = (-0.4, 0.5, 1.0)
    """Towards the lamp: image right, up, towards the camera; any length."""
    key: float = 1.0
    """Strength of the lamp."""
    ambient: float = 0.42
    """Strength of the ambient light."""
    warmth: float = 0.0
    """Color of the ambient light: 0 sky, 1 lamp-lit room."""
    background: int = 1
    """Seed of the blurred room in the background."""
    noise: float = 1.4
    """Standard deviation of the sensor noise, in 255ths; equal scenes have the same noise."""
    hand: tuple[float, float] | None = None
    """Fingertips of a hand in front of the face, cm to the image's right and up of the head's
    center; None without a hand."""


@dataclass(frozen=True, kw_only=True)
class Animation:
    """Scenes at a constant rate."""

    scenes: tuple[SceneParams, ...]
    rate: Fraction
    """Scenes per second."""

    @property
    def seconds(self) -> Fraction:
        """Duration."""
        return len(self.scenes) / self.rate


def animate(seed: int, *, seconds: float, rate: Fraction = Fraction(25)) -> Animation:
    """Return a smooth animation of talking to the camera; the same for the same seed.

    Every parameter is a sum of three sines with random phases; the eyes blink every 40 to 80
    frames. Poses are within the documented range.
    """
    rng = np.random.default_rng(seed)
    count = max(1, round(seconds * rate))
    wave = _waves(rng, np.arange(count) / float(rate))
    yaw, pitch, roll = wave(-30, 30, 0.25), wave(-14, 14, 0.2), wave(-8, 8, 0.15)
    # With a range that starts below zero the mouth is shut for a part of the time.
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


def synthesize_voice(jaws: Sequence[float], *, rate: Fraction, rate_hz: int = 48_000) -> Floats:
    """Return a hum as long as a performance, louder the wider the mouth is open.

    Args:
        jaws: Opening of the jaw in each frame, 0 to 1.
        rate: Frames per second.
        rate_hz: Samples per second.

    Returns:
        float32 (N, 1) in [-0.3, 0.3]; N = seconds * rate_hz, rounded.
    """
    times_s = np.arange(round(len(jaws) / rate * rate_hz)) / rate_hz
    frame_times_s = (np.arange(len(jaws)) + 0.5) / float(rate)
    jaw = np.interp(times_s, frame_times_s, jaws)
    vibrato = np.sin(2 * np.pi * _VIBRATO_HZ * times_s) * _VIBRATO_SHARE / _VIBRATO_HZ
    phase = 2 * np.pi * _PITCH_HZ * (times_s + vibrato)
    hum = sum(weight * np.sin(k * phase) for k, weight in enumerate(_HARMONICS, start=1))
    loudness = PEAK_AMPLITUDE * (_SHUT_LOUDNESS + (1 - _SHUT_LOUDNESS) * np.clip(jaw, 0, 1))
    samples: Floats = (hum * (loudness / sum(_HARMONICS))).astype(np.float32)[:, None]
    return samples


def random_scenes(seed: int, count: int) -> Sequence[SceneParams]:
    """Return `count` independent scenes over the documented range; the same for the same seed."""
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
    """Return a function (low, high, frequency in Hz) -> smooth values at the times."""

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
    """Return how far the lids are closed in each of `count` frames, 0 to 1."""
    lids = np.zeros(count + len(BLINK_CURVE))
    start = int(rng.integers(10, BLINK_INTERVAL_FRAMES[0]))
    while start < count:
        lids[start : start + len(BLINK_CURVE)] = BLINK_CURVE
        start += int(rng.integers(*BLINK_INTERVAL_FRAMES))
    return lids[:count]
