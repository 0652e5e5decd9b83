"""A sound for a silent performance: a hum that is loud when the mouth is open."""

import numpy as np

from faceswap_cli.synthetic.animation import Animation
from faceswap_cli.synthetic.geometry import Floats

PEAK_AMPLITUDE = 0.3
"""No sample is further from zero."""

_PITCH_HZ, _VIBRATO_HZ, _VIBRATO_SHARE = 140.0, 5.0, 0.01
_HARMONICS = (1.0, 0.5, 0.25, 0.12)
_SHUT_LOUDNESS = 0.12
"""Of the loudest: a shut mouth still hums, so that a clip never falls silent."""


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
