"""The planes of a decoded frame as arrays; nothing of what their numbers mean."""

import numpy as np
from av.video.frame import VideoFrame

from faceswap_cli.core.types import AnyArray

_DEPTHS = ("", "9le", "10le", "12le", "14le", "16le")
PLANAR_FORMATS = frozenset(
    f"yuv{colour}p{depth}" for colour in (420, 422, 444) for depth in _DEPTHS
)
"""The pixel formats whose planes are understood here."""


def to_planar_format(name: str, *, transposed: bool = False) -> str | None:
    """Return a decoder's pixel format by its plain name, or None if it is of another kind.

    Full range is a tag of its own here (yuvj420p is yuv420p). A picture turned on its side with
    colour at half the columns would have it at half the rows, which no encoder here takes.
    """
    plain = name.replace("yuvj", "yuv")
    if plain not in PLANAR_FORMATS or (transposed and "422" in plain):
        return None
    return plain


def get_planes(frame: VideoFrame) -> list[AnyArray]:
    """Return views of a planar frame's Y, Cb and Cr, each (rows, columns), uint8 or uint16."""
    wide = frame.format.components[0].bits > 8
    kind = np.dtype("<u2") if wide else np.dtype(np.uint8)
    views = []
    for plane in frame.planes:
        lines = np.frombuffer(memoryview(plane), dtype=np.uint8).reshape(
            plane.height, plane.line_size
        )
        views.append(lines.view(kind)[:, : plane.width])
    return views
