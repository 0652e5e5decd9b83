"""What there is to draw, and how often: `random_occluder` hides, `random_mark` does not."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from faceswap_cli.synthetic.occluders.hand import draw_hand
from faceswap_cli.synthetic.occluders.layer import OccluderLayer
from faceswap_cli.synthetic.occluders.marks import (
    draw_beard,
    draw_brows,
    draw_makeup,
    draw_wrinkles,
)
from faceswap_cli.synthetic.occluders.strands import draw_fringe, draw_lock, draw_wisps
from faceswap_cli.synthetic.occluders.things import (
    draw_blob,
    draw_blurred_edge,
    draw_cup,
    draw_food,
    draw_microphone,
    draw_paper,
    draw_shadow,
    draw_stick,
)
from faceswap_cli.synthetic.occluders.worn import (
    draw_clear_lenses,
    draw_face_covering,
    draw_glasses,
)

DrawFn = Callable[[np.random.Generator, int], OccluderLayer]
"""`draw(rng, size_px)`."""
Table = Mapping[str, tuple[DrawFn, float]]
"""Kind -> function that draws one, and its share; the shares add up to 1."""

OCCLUDERS: Table = MappingProxyType(
    {
        "hand": (draw_hand, 0.38),
        "fringe": (draw_fringe, 0.08),
        "lock": (draw_lock, 0.06),
        "wisps": (draw_wisps, 0.02),
        "glasses": (draw_glasses, 0.13),
        "face covering": (draw_face_covering, 0.04),
        "microphone": (draw_microphone, 0.06),
        "stick": (draw_stick, 0.05),
        "cup": (draw_cup, 0.05),
        "food": (draw_food, 0.03),
        "paper": (draw_paper, 0.05),
        "blurred edge": (draw_blurred_edge, 0.02),
        "blob": (draw_blob, 0.03),
    }
)
"""What hides a face."""
MARKS: Table = MappingProxyType(
    {
        "beard": (draw_beard, 0.25),
        "wrinkles": (draw_wrinkles, 0.15),
        "makeup": (draw_makeup, 0.1),
        "brows": (draw_brows, 0.15),
        "clear lenses": (draw_clear_lenses, 0.1),
        "shadow": (draw_shadow, 0.25),
    }
)
"""What changes the look of a face and hides nothing."""


def random_occluder(seed: int, size_px: int) -> OccluderLayer:
    """Return something to put before a face; the same for a seed and a size."""
    return _random_layer(OCCLUDERS, seed, size_px)


def random_mark(seed: int, size_px: int) -> OccluderLayer:
    """Return something on a face that hides nothing; the same for a seed and a size."""
    return _random_layer(MARKS, seed, size_px)


def _random_layer(table: Table, seed: int, size_px: int) -> OccluderLayer:
    rng = np.random.default_rng(seed)
    draw, _ = list(table.values())[
        int(rng.choice(len(table), p=[one for _, one in table.values()]))
    ]
    return draw(rng, size_px)
