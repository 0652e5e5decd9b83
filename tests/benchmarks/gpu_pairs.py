"""Pairs of synthetic people in a file small enough to send to a machine with a GPU.

    python tests/benchmarks/gpu_pairs.py --folder DIR --out pairs.npz

Where the whole program is installed: draws the people of `make_bases.py` into the folder, if they
are not there (half an hour on two cores), and packs the crops of the first moments as WebP, 45 MB.
The part `pretrain` of `gpu.py` reads them; besides torch and NumPy it needs Pillow.
"""

import argparse
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from faceswap_cli.core.errors import ConfigurationError, InputError
from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.core.types import AnyArray
from faceswap_cli.pretraining.pairs import Group, PairSettings, SwapPairs

PACKED = PairSettings(groups=140, validation_groups=4)
MOMENTS = 20
"""Of each group, the first ones: many people teach more than many moments."""
QUALITY = 85
MAX_BYTES = 48_000_000


def main() -> None:
    """Draw what is missing, and pack it."""
    from faceswap_cli.pretraining.drawing import draw_groups

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="keeps what is drawn")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    for done in draw_groups(PACKED, given.folder, processes=os.cpu_count() or 1):
        print(f"\r{done} of {len(PACKED.group_numbers)} groups", end="", flush=True)
    print()
    pairs = SwapPairs.load(PACKED, given.folder)
    pack_pairs(pairs, given.out, moments=MOMENTS)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.1f} MB")


def pack_pairs(pairs: SwapPairs, path: Path, *, moments: int) -> None:
    """Write the first moments of each group.

    Raises:
        ConfigurationError: The file would be larger than `MAX_BYTES`.
        InputError: It cannot be written.
    """
    settings = replace(pairs.settings, moments=moments)
    coded = [
        part
        for group in pairs.groups
        for crop in group[:moments].reshape(-1, *group.shape[2:])
        for part in _encode(crop)
    ]
    if (size := sum(map(len, coded))) > MAX_BYTES:
        raise ConfigurationError(f"{path} would have {size / 1e6:.0f} MB", hint="fewer groups")
    numbers = (settings.groups, settings.validation_groups, settings.people, moments)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            settings=np.array([*numbers, settings.side_px, settings.seed]),
            lengths=np.array([len(one) for one in coded], np.int32),
            data=np.frombuffer(b"".join(coded), np.uint8),
        )


def unpack_pairs(path: Path) -> SwapPairs:
    """Read the file of `pack_pairs`.

    Raises:
        InputError: It is not one, or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            numbers = [int(one) for one in file["settings"]]
            ends, data = np.cumsum(file["lengths"]), file["data"].tobytes()
        groups, validation_groups, people, moments, side_px, seed = numbers
        settings = PairSettings(
            groups=groups,
            validation_groups=validation_groups,
            people=people,
            moments=moments,
            side_px=side_px,
            seed=seed,
        )
        starts = [0, *ends[:-1]]
        parts = [data[start:end] for start, end in zip(starts, ends, strict=True)]
        return SwapPairs(settings=settings, groups=_decode_groups(parts, settings))
    except (OSError, KeyError, ValueError, BadZipFile, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as pairs: {error}",
            hint="make it with gpu_pairs.py, where the whole program is installed",
        ) from error


def _decode_groups(parts: Sequence[bytes], settings: PairSettings) -> list[Group]:
    """Return the groups of the images and masks of all crops, one after the other."""
    from PIL import Image

    def decode(part: bytes) -> AnyArray:
        return np.asarray(Image.open(io.BytesIO(part)).convert("RGB"))

    shape = settings.group_shape
    count = shape[0] * shape[1]
    groups = []
    for number in range(len(settings.group_numbers)):
        group = np.zeros((count, *shape[2:]), np.uint8)
        for index in range(count):
            image, masks = parts[2 * (number * count + index) :][:2]
            if image:
                group[index] = np.dstack([decode(image), decode(masks)[..., 0]])
        groups.append(group.reshape(shape))
    return groups


def _encode(crop: AnyArray) -> tuple[bytes, bytes]:
    """Return the image and the mask levels of a crop (S, S, 4); nothing if no face is there."""
    from PIL import Image

    if not crop.any():
        return b"", b""
    image, masks = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.ascontiguousarray(crop[..., :3])).save(image, "WEBP", quality=QUALITY)
    gray = np.repeat(crop[..., 3:], 3, axis=2)
    Image.fromarray(gray).save(masks, "WEBP", lossless=True)
    return image.getvalue(), masks.getvalue()


if __name__ == "__main__":
    main()
