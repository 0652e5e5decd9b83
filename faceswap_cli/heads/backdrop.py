"""Backgrounds made by the program: rooms, windows and lights, out of focus."""

from functools import lru_cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.synthetic.geometry import Floats, soft_noise

_SIDE = 256


@lru_cache(maxsize=16)
def _room(seed: int) -> Floats:
    """Return a blurred room, linear RGB float32 (256, 256, 3)."""
    rng = np.random.default_rng((seed, 11))
    wall = rng.uniform(0.05, 0.7) * (1 + rng.normal(0, 0.12, 3))
    slopes = [np.linspace(rng.uniform(0.6, 1.3), rng.uniform(0.6, 1.3), _SIDE) for _ in range(2)]
    room = np.ones((_SIDE, _SIDE, 3)) * wall * np.outer(*slopes)[..., None]
    room *= 1 + 0.08 * soft_noise(rng, (_SIDE, _SIDE), ((4, 1.0), (16, 0.5)))[..., None]
    room = room.clip(0.01, 2).astype(np.float32)
    for _ in range(int(rng.integers(0, 9))):
        _add_thing(room, rng)
    for _ in range(int(rng.integers(0, 4)) * int(rng.integers(0, 3))):
        x, y = (int(one) for one in rng.integers(0, _SIDE, 2))
        color = rng.uniform(0.7, 3.0) * np.array([1, 0.85, 0.6]) ** rng.uniform(0, 1.5)
        cv2.circle(room, (x, y), int(rng.integers(3, 12)), color.tolist(), -1, cv2.LINE_AA)
    blurred: Floats = cv2.GaussianBlur(room, (0, 0), float(rng.uniform(0.7, 7)))
    return blurred


def _add_thing(room: Floats, rng: np.random.Generator) -> None:
    """Paint a window, a shelf, a door or a plant, in place."""
    left, top = rng.integers(-40, _SIDE, 2)
    width, height = rng.integers(14, 150, 2)
    color = rng.uniform(0.02, 0.9) * (1 + rng.normal(0, 0.25, 3)).clip(0.2, 2)
    if rng.uniform() < 0.2:
        color = np.array([1.1, 1.2, 1.35]) * rng.uniform(0.8, 2)  # a window
    corners: AnyArray = np.array(
        [[left, top], [left + width, top], [left + width, top + height], [left, top + height]],
        np.int32,
    )
    corners = corners + rng.integers(-12, 12) * np.array([[0, 1], [0, -1], [0, 1], [0, -1]])
    cv2.fillConvexPoly(room, corners.astype(np.int32), color.tolist(), cv2.LINE_AA)
    if rng.uniform() < 0.4:
        for row in range(int(top), int(top + height), int(rng.integers(9, 30))):
            end = (int(left + width), row)
            cv2.line(room, (int(left), row), end, (color * 0.4).tolist(), 2, cv2.LINE_AA)


def backdrop(seed: int, side_px: int) -> Floats:
    """Return the background of a scene, linear RGB float32 (side, side, 3)."""
    room: Floats = cv2.resize(_room(seed), (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    return room
