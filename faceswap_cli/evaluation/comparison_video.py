"""`comparison_player`: a before/after player of several versions of one clip, for a page."""

import tempfile
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from faceswap_cli.core.progress import Reporter
from faceswap_cli.core.types import Image
from faceswap_cli.pages.player import before_after_player
from faceswap_cli.provenance.credentials import copy_claim
from faceswap_cli.video.frame import Frame
from faceswap_cli.video.writer import VideoWriter

MAX_SECONDS = 60
"""Length of what is seen: a page holds all of it."""
MAX_PANEL_PX = (854, 480)
"""Size of a version in the page, at most."""
QUALITY = 24
"""On the scale of `codecs`: a minute takes some megabytes."""


def comparison_player(
    versions: Mapping[str, Iterable[Frame]],
    *,
    size: tuple[int, int],
    rate: Fraction,
    swapped: Path,
    report: Reporter,
) -> str:
    """Return a player of the same frames in several versions, as a part of a page.

    Args:
        versions: The frames by name; the first two are seen at first. All of the same clip.
        size: (width, height) px of a frame.
        rate: Frames a second, on average.
        swapped: The swapped video, whose claim the video in the page carries, too.
        report: Receives progress.

    Raises:
        InputError: A version cannot be read.
    """
    panel = _panel_size(size)
    count = int(MAX_SECONDS * rate)
    report.start_task("video for the page", total=None, unit="frames")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "comparison.mp4"
        index = 0
        width = panel[0] * len(versions)
        with VideoWriter(path, size=(width, panel[1]), rate=rate, quality=QUALITY) as video:
            for frames in islice(zip(*versions.values(), strict=False), count):
                row = [_resize(frame.image, size, panel) for frame in frames]
                video.write(np.hstack(row), index / rate)
                index += 1
                report.update(index)
        copy_claim(swapped, path)
        return before_after_player(
            path.read_bytes(),
            panels=list(versions),
            frames_per_second=float(rate),
            caption=_caption(list(versions), is_whole=index < count),
        )


def _caption(names: list[str], *, is_whole: bool) -> str:
    """Return what the player shows."""
    listed = ", ".join(names[:-1]) + f" and {names[-1]}"
    part = "" if is_whole else f", the first {MAX_SECONDS} seconds"
    return f"{listed}{part}: move the line"


def _panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size in which a frame is shown: even numbers, for every player."""
    scale = min(1.0, MAX_PANEL_PX[0] / size[0], MAX_PANEL_PX[1] / size[1])
    width, height = (max(2, 2 * round(scale * side / 2)) for side in size)
    return width, height


def _resize(image: Image, size: tuple[int, int], panel: tuple[int, int]) -> Image:
    """Return a frame at the panel's size; of a side-by-side video its right half, the swap."""
    if image.shape[1] == 2 * size[0] and image.shape[0] == size[1]:
        image = image[:, size[0] :]
    return np.asarray(cv2.resize(image, panel, interpolation=cv2.INTER_AREA), dtype=np.uint8)
