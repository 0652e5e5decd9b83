"""Training data: crops decoded once, split into training and validation, sampled by position.

`load_identity` decodes and splits a set; `shuffled_indices` says which crops come next.
"""

import hashlib
import struct
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.core.fileio import (
    MAX_NAME_BYTES,
    DamagedFileError,
    atomic_write,
    fit_name,
    translate_os_errors,
)
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.core.workspace import SetFolder
from faceswap_models.base import ModelSettings

if TYPE_CHECKING:  # training from decoded crops needs no OpenCV, which image files and masks need
    from faceswap_cli.faces.alignment import FaceAlignment
    from faceswap_cli.faces.dataset import FaceRecord, FaceSet
    from faceswap_cli.faces.occlusion import VisibleFaceModel

CACHE_FORMAT = 5
"""Part of the digest: a change of what is cached invalidates every old cache."""
OVERSAMPLING = 1.5
"""Cached px per px of the network's input: enough that bilinear sampling at any angle neither blurs
nor aliases, and no more, since the cache is held in memory."""
POOLED_IDENTITY = "everybody"
"""Name of the one identity that many people together make up."""
MIN_FACES = 8
"""Fewer faces than this cannot be split into training and validation."""
VALIDATION_BLOCKS = 4
"""Runs of neighboring frames that the validation faces come in."""
MIN_COVERED = 0.02
"""Part of a face that something in front of it covers at least, to be left out of its mask: of a
bare face hardly ever as much is called hidden, and a fringe is more."""
VALIDATION_FRACTION = 0.1
"""Part of the faces that is kept out of training, for validation."""

ANGLE_SCALE = 10.0
"""Degrees of yaw or pitch that count as much as `MOUTH_SCALE`."""
MOUTH_SCALE = 0.05
"""Opening of the mouth, as a part of the face's height, that counts as much as `ANGLE_SCALE`."""
_CHECKSUM = struct.Struct("<I")
"""CRC-32 at the end of a cache."""
_LIPS, _HEIGHT = (13, 14), (10, 152)
"""The inner lips' middles, and the face's top and chin, in the 478 landmarks."""

Pixels = npt.NDArray[np.uint8]
"""uint8 (N, S, S, 4): RGB and mask levels, see `pack_masks`; a crop covers the unit square."""
MaskChannel = TypeVar("MaskChannel", AnyArray, Tensor)
"""Values of the fourth channel, 0 to 255."""
FACE_LEVEL = 128
"""Mask level of the face; 255 is an eye or the mouth, and in between are their edges."""
Indices = npt.NDArray[np.int64]
"""Indices into a set, int64 (K,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class IdentityDataset:
    """Faces of one identity, decoded and split."""

    name: str
    pixels: Pixels
    """All crops, in the order of the set's records; usually mapped from a file."""
    train_indices: Indices
    """Crops to train on."""
    val_indices: Indices
    """Crops kept out of training, for validation."""
    val_files: tuple[str, ...] = ()
    """Their file names."""
    poses: AnyArray | None = None
    """float32 (N, 3): see `pose_features`; None if unknown."""
    detail_pixels: Pixels | None = None
    """All crops at the side that detail is learned from; None: `pixels` are large enough."""

    @property
    def all_pixels(self) -> list[Pixels]:
        """All arrays of crops."""
        return [self.pixels, *([] if self.detail_pixels is None else [self.detail_pixels])]


def check_min_faces(faces: "FaceSet") -> None:
    """Refuse a set that is too small to train on.

    Raises:
        NoFacesError: There are fewer than `MIN_FACES` faces.
    """
    if len(faces) < MIN_FACES:
        raise NoFacesError(
            f'the set "{faces.name}" has {len(faces)} faces; training needs at least {MIN_FACES}',
            hint="extract more of this person; a few hundred varied faces swap well",
        )


def load_identity(
    faces: "FaceSet",
    *,
    cache: Path,
    side_px: int,
    detail_side_px: int = 0,
    val_files: Collection[str] = (),
) -> IdentityDataset:
    """Decode a set's crops, or map the cache of an earlier session, and split them.

    Args:
        faces: The set.
        cache: Folder of the decoded crops.
        side_px: Their side.
        detail_side_px: Side of those that detail is learned from; 0: the same.
        val_files: Crops that the run kept out of training so far: they stay the validation faces,
            whatever was added to the set or deleted since. Empty for a new run.

    Raises:
        InputError: A crop cannot be read.
    """
    files = [record.file for record in faces.records]
    is_val = np.array([file in val_files for file in files], dtype=bool)
    train, val = np.flatnonzero(~is_val), np.flatnonzero(is_val)
    if not (len(train) and len(val)):
        train, val = split_train_val(len(faces), VALIDATION_FRACTION)
    return IdentityDataset(
        name=faces.name,
        pixels=load_or_build_cache(faces, cache=cache, side_px=side_px),
        detail_pixels=load_or_build_cache(faces, cache=cache / "detail", side_px=detail_side_px)
        if detail_side_px
        else None,
        train_indices=train,
        val_indices=val,
        val_files=tuple(files[index] for index in val),
        poses=pose_features(faces.records),
    )


def pose_features(records: "Sequence[FaceRecord]") -> AnyArray:
    """Return yaw, pitch and mouth opening of faces, float32 (N, 3), in units of `*_SCALE`."""
    return np.array(
        [
            [
                record.pose[0] / ANGLE_SCALE,
                record.pose[1] / ANGLE_SCALE,
                _landmark_distance(record, _LIPS)
                / max(_landmark_distance(record, _HEIGHT), 1.0)
                / MOUTH_SCALE,
            ]
            for record in records
        ],
        dtype=np.float32,
    ).reshape(-1, 3)


def merge_sets(sets: "Sequence[FaceSet]", *, name: str) -> "FaceSet":
    """Return the faces of sets in one folder as one set of a single identity."""
    [folder] = {faces.folder.parent for faces in sets}
    records = [
        replace(record, file=f"{faces.folder.name}/{record.file}")
        for faces in sets
        for record in faces.records
    ]
    return replace(sets[0], name=name, folder=folder, records=records)


def cached_side_px(model: ModelSettings, crop_px: int) -> int:
    """Return the side of the cached crops, px, for networks and crops of `crop_px`."""
    return max(1, min(crop_px, round(OVERSAMPLING * model.size_px / model.coverage)))


def detail_side_px(model: ModelSettings, crop_px: int) -> int:
    """Return the side of the cached crops that detail is learned from, px; 0: the network's do."""
    side = min(crop_px, round(model.output_px / model.coverage))  # targets are hardly turned
    return side if side > cached_side_px(model, crop_px) else 0


def crop_side_px(faces: "FaceSet") -> int:
    """Return the side of a set's crops, px: that of the first."""
    return int(read_crop(faces.path(faces.records[0])).shape[0])


def load_or_build_cache(faces: "FaceSet", *, cache: Path, side_px: int) -> Pixels:
    """Map the decoded crops of a set, decoding them when the set is new or has changed.

    Returns:
        uint8 (N, side_px, side_px, 4), read-only, backed by a file in the folder `cache`.

    Raises:
        InputError: A crop cannot be read, or the cache cannot be written.
    """
    path = cache / f"{_cache_stem(faces)}-{cache_digest(faces, side_px)}.npy"
    shape = (len(faces), side_px, side_px, 4)
    if not is_whole_array(path):
        crops = (crop_with_masks(faces, record, side_px).tobytes() for record in faces.records)
        write_array(path, crops, shape=shape)
        _delete_stale_caches(cache, _cache_stem(faces), keep=path)
    pixels: Pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    assert pixels.shape == shape
    return pixels


def cache_digest(faces: "FaceSet", side_px: int) -> str:
    """Return 16 hex digits that change with crops, records, the cached side and taught masks."""
    total = hashlib.sha256(f"{CACHE_FORMAT} {side_px}\n".encode())
    for record in faces.records:
        for path in filter(None, (faces.path(record), faces.find_mask(record))):
            state = path.stat()
            total.update(f"{record.file} {state.st_size} {state.st_mtime_ns}\n".encode())
        total.update(record.landmarks.tobytes() + record.alignment.to_unit.tobytes())
    taught = SetFolder(root=faces.folder).visible_face_weights
    if taught.exists():
        total.update(str(taught.stat().st_mtime_ns).encode())
    return total.hexdigest()[:16]


def read_crop(path: Path) -> Image:
    """Read a crop, RGB uint8 (S, S, 3).

    Raises:
        InputError: It is not an image, or not square.
    """
    from faceswap_cli.core import image_io

    image = image_io.read_image(path)
    if image.shape[0] != image.shape[1]:
        raise InputError(
            f"{path} is not square, so it is not a crop",
            hint="delete it to leave that face out, or extract the set again",
        )
    return image


def split_train_val(count: int, fraction: float) -> tuple[Indices, Indices]:
    """Split `count` faces in the order of their frames into training and validation.

    The validation faces are a few runs of neighbors, spread evenly: single faces picked at random
    would each have a near duplicate, the frame before, in training. Nothing is random, so a resumed
    run has the same validation faces.

    Returns:
        Indices for training and for validation, both ascending; together all of `range(count)`.
    """
    val_count = max(1, round(count * fraction))
    runs = max(1, min(VALIDATION_BLOCKS, val_count // 2))
    is_val = np.zeros(count, dtype=bool)
    for run in range(runs):
        length = val_count * (run + 1) // runs - val_count * run // runs
        middle = count * (2 * run + 1) // (2 * runs)
        start = min(max(middle - length // 2, 0), count - length)
        is_val[start : start + length] = True
    return np.flatnonzero(~is_val), np.flatnonzero(is_val)


def derive_seed(seed: int, position: int, purpose: str) -> int:
    """Return the 63-bit seed of the random numbers at `position` of a run, for one purpose.

    Neighboring positions have unrelated seeds, which torch's own seeding does not promise. The
    purpose is hashed: another wording is another random stream.
    """
    text = f"{seed}/{position}/{purpose}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def shuffled_indices(
    indices: Indices, *, start: int, count: int, seed: int, purpose: str
) -> Indices:
    """Return the `count` entries of `indices` that come at `start` in an endless shuffled order.

    Every entry comes once before any comes again. Each round has its own seed, so what comes at a
    position does not depend on where the run was started or stopped.

    Args:
        indices: The entries to sample from.
        start: Number of entries before.
        count: Number of entries to return.
        seed: Seed of the run.
        purpose: Gives each identity its own order.
    """
    size = len(indices)
    positions = np.arange(start, start + count, dtype=np.int64)
    rounds, offsets = positions // size, positions % size
    orders = {
        number: np.random.default_rng(derive_seed(seed, number, f"round of {purpose}")).permutation(
            size
        )
        for number in np.unique(rounds).tolist()
    }
    sampled = [
        orders[number][offset] for number, offset in zip(rounds.tolist(), offsets, strict=True)
    ]
    return indices[np.array(sampled, dtype=np.int64)]


def evenly_spaced(indices: Indices, count: int) -> Indices:
    """Return at most `count` of `indices`, evenly spaced."""
    if len(indices) <= count:
        return indices
    return indices[np.linspace(0, len(indices) - 1, count).round().astype(np.int64)]


def crop_with_masks(face_set: "FaceSet", record: "FaceRecord", side_px: int) -> AnyArray:
    """Return one crop with its mask levels as fourth channel, uint8 (S, S, 4).

    It covers the face's square, which is the middle of a crop with `head` framing. The mask is the
    one that came with the footage or was painted, or else the landmarks' outline and the forehead
    above it, without what is in front of the face.
    """
    from faceswap_cli.core import image_io
    from faceswap_cli.faces.masks import eyes_mouth_mask
    from faceswap_cli.faces.occlusion import VisibleFaceModel

    alignment = record.alignment
    if record.framing == "head":
        alignment = alignment.shrink_to_face()

    def cut(image: Image) -> Image:
        if record.framing == "head":
            return alignment.relative_to(record.alignment, image.shape[0]).crop(image, side_px)
        return image if image.shape[0] == side_px else image_io.resize_square(image, side_px)

    crop, mask_path = read_crop(face_set.path(record)), face_set.find_mask(record)
    if mask_path is not None:
        face = np.asarray(cut(read_crop(mask_path))[..., 0] / 255, dtype=np.float32)
    else:
        model = VisibleFaceModel.load(SetFolder(root=face_set.folder).visible_face_weights)
        face = find_visible_face(model, crop, record, alignment, side_px)
    features = eyes_mouth_mask(record.landmarks, alignment, side_px)
    return np.dstack([cut(crop), pack_masks(face, features)])


def find_visible_face(
    model: "VisibleFaceModel",
    crop: Image,
    record: "FaceRecord",
    alignment: "FaceAlignment",
    side_px: int,
) -> Mask:
    """Return where a face is seen, up to its hair, float32 (S, S).

    What is in front of it is left out only where extraction has found something.

    Args:
        model: What sees it.
        crop: The crop of the record.
        record: The face.
        alignment: Its square in the frame, which the mask covers.
        side_px: S.
    """
    from faceswap_cli.core.lazy_image import ArrayImage
    from faceswap_cli.faces.alignment import transform_points
    from faceswap_cli.faces.occlusion import outline_face

    landmarks = transform_points(record.landmarks, record.alignment.frame_to_crop(crop.shape[0]))
    square = alignment.relative_to(record.alignment, crop.shape[0])
    seen = model.analyze(ArrayImage(image=crop), square)
    face = seen.find_face(square, side_px, landmarks)
    if record.covered < MIN_COVERED:
        return face
    return face * (1 - seen.find_occlusion(square, side_px, outline_face(landmarks, square)))


def pack_masks(outline: Mask, features: Mask) -> AnyArray:
    """Return the masks of the face and of eyes and mouth, (S, S) from 0 to 1, in one channel.

    One channel, since OpenCV samples four at once. Eyes and mouth are well inside the outline, so
    levels rise from the background over the face to them, and can be interpolated.
    """
    levels = FACE_LEVEL * outline + (255 - FACE_LEVEL) * features * (outline == 1)
    return np.asarray(np.round(levels), dtype=np.uint8)


def unpack_face_mask(levels: MaskChannel) -> MaskChannel:
    """Return the mask of the face, 0 to 1, of levels from `pack_masks`."""
    return (levels / FACE_LEVEL).clip(0, 1)


def unpack_feature_mask(levels: MaskChannel) -> MaskChannel:
    """Return the mask of eyes and mouth, 0 to 1, of levels from `pack_masks`."""
    # In floating point first: unsigned levels would wrap below 0.
    return (levels / (255 - FACE_LEVEL) - FACE_LEVEL / (255 - FACE_LEVEL)).clip(0, 1)


def write_array(
    path: Path, blocks: Iterable[bytes], *, shape: Sequence[int], dtype: npt.DTypeLike = np.uint8
) -> None:
    """Write an array as an `.npy` file; behind it, where nothing is mapped, a checksum.

    Written block after block: writing into a mapped file on a full disk does not raise, it kills
    the process.

    Args:
        path: The file.
        blocks: The array's bytes.
        shape: Its shape.
        dtype: Of its elements.

    Raises:
        InputError: It cannot be written.
    """
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
    with atomic_write(path) as temporary, translate_os_errors(path), temporary.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        checksum = zlib.crc32(temporary.read_bytes())
        for block in blocks:
            checksum = zlib.crc32(block, checksum)
            file.write(block)
        file.write(_CHECKSUM.pack(checksum))


def map_array(path: Path) -> AnyArray:
    """Map the array in a file of `write_array`; those of older versions have no checksum.

    Raises:
        InputError: The file is missing, or has changed since it was written.
    """
    try:
        array: np.memmap[Any, np.dtype[Any]] = np.load(path, mmap_mode="r", allow_pickle=False)
        if path.stat().st_size == array.offset + array.nbytes or is_whole_array(path):
            return array
    except (OSError, ValueError, EOFError):
        pass
    raise DamagedFileError(path, hint="delete it: it is drawn again")


def is_whole_array(path: Path) -> bool:
    """Return whether a file of `write_array` exists and has not changed since it was written."""
    if not path.exists():
        return False
    checksum, left = 0, path.stat().st_size - _CHECKSUM.size
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            checksum, left = zlib.crc32(block, checksum), left - len(block)
        return file.read() == _CHECKSUM.pack(checksum)


def _cache_stem(faces: "FaceSet") -> str:
    """Return the name of a set's caches before the digest."""
    return fit_name(faces.name, max_bytes=MAX_NAME_BYTES - len("-0123456789abcdef.npy"))


def _delete_stale_caches(cache: Path, name: str, *, keep: Path) -> None:
    """Delete a set's caches of earlier states."""
    digits = "[0-9a-f]" * 16
    for path in cache.glob(f"{_escape_glob(name)}-{digits}.npy"):
        if path != keep:
            path.unlink()


def _escape_glob(name: str) -> str:
    """Return `name` with the special characters of `glob` escaped."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _landmark_distance(record: "FaceRecord", indices: tuple[int, int]) -> float:
    """Return the distance of two landmarks, px."""
    first, second = record.landmarks[list(indices)].astype(np.float64)
    return float(np.linalg.norm(first - second))
