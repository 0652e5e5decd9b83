"""`draw_bank`: a stock of occluders for the inputs of a network."""

import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.synthetic.occluders.cast import random_occluder

BANK_SIZE = 96
MIN_COVER = 0.03
"""Part of the square that an occluder covers at least."""


def draw_bank(side_px: int, coverage: float, *, seed: int) -> AnyArray:
    """Return things that may be before any face, uint8 (N, S, S, 4): RGB and opacity.

    Nothing that is worn: a network would learn to take glasses off.

    Args:
        side_px: Side of the network's input.
        coverage: Side of its square as a part of the aligned square's.
        seed: The same seed gives the same things.
    """
    whole_px = max(side_px, round(side_px / coverage))
    start = (whole_px - side_px) // 2
    part = slice(start, start + side_px)
    rng = np.random.default_rng(seed)
    bank: list[AnyArray] = []
    while len(bank) < BANK_SIZE:
        layer = random_occluder(int(rng.integers(2**62)), whole_px)
        pixels = layer.pixels[part, part]
        if not layer.is_worn and pixels[..., 3].mean() >= 255 * MIN_COVER:
            bank.append(pixels)
    return np.stack(bank)
