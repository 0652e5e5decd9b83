"""Masks that a data set stores as videos, as the masks of a set's crops: `write_masks`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from faceswap_cli.core.errors import InputError
from faceswap_cli.core.fileio import translate_os_errors
from faceswap_cli.core.image_io import read_image, write_png
from faceswap_cli.core.types import Image
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.video.probe import probe
from faceswap_cli.video.reader import read_frames

WHITE_LEVEL = 128
"""Levels from here on are inside a mask: compression adds noise to black and white."""


def write_masks(faces: FaceSet, video: Path, *, footage_size: tuple[int, int]) -> int:
    """Write the masks of a set's crops; return how many crops have one.

    Args:
        faces: The set, of one video.
        video: The masks: white on black, a frame for each of the footage's.
        footage_size: (width, height) px of the footage.

    Raises:
        InputError: The video cannot be read or is of another size, or a mask cannot be written.
    """
    if probe(video).size != footage_size:
        raise InputError(
            f"{video} is not of the size of the footage, so it is not its mask",
            hint="leave it out, or download it again",
        )
    by_frame: dict[int, list[FaceRecord]] = {}
    for record in faces.records:
        by_frame.setdefault(record.frame, []).append(record)
    paths = [faces.mask_path(record) for record in faces.records]
    if not all(path.exists() for path in paths):
        _cut_masks(faces, by_frame, video)
    return sum(path.exists() for path in paths)


def _cut_masks(faces: FaceSet, by_frame: Mapping[int, list[FaceRecord]], video: Path) -> None:
    """Write the mask of each crop whose frame the video has."""
    side_px = read_image(faces.path(faces.records[0])).shape[0]
    last = max(by_frame)
    for frame in read_frames(video):
        if frame.index > last:
            return
        for record in by_frame.get(frame.index, ()):
            path = faces.mask_path(record)
            with translate_os_errors(path):
                path.parent.mkdir(exist_ok=True)
                write_png(path, record.alignment.crop(to_black_and_white(frame.image), side_px))


def to_black_and_white(image: Image) -> Image:
    """Return a mask's frame (H, W, 3) without what compression added."""
    bright = image.max(axis=2, keepdims=True) >= WHITE_LEVEL
    return np.repeat(np.where(bright, np.uint8(255), np.uint8(0)), 3, axis=2)
