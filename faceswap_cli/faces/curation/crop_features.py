"""How the crops of a set look, measured once and kept beside them; no judgement.

A crop's small picture shows it on a page and tells whether another is nearly the same; its
direction tells who is on it. Both are kept in a file, so that only crops that are new or were
changed are read again.
"""

import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli.core import image_io
from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.faces.alignment import transform_points
from faceswap_cli.faces.dataset import FaceRecord, FaceSet
from faceswap_cli.faces.embedding import SFace

THUMBNAIL_SIZE_PX = 80
"""Side of a crop's small picture, px: large enough to see who it is and where they look."""
JPEG_QUALITY = 82

GRAY_PX = 24
"""Side of the picture by which crops are compared, px: noise is averaged away, a blink is not."""
INNER_FRACTION = 0.8
"""Part of the thumbnail's side that is compared: the face with little around it."""

SAME_SHOT_MAX_DIFF = 25.0
"""Difference of two grey pictures, of 255 levels, beyond which they are not of one shot: twice
what 19 in 20 neighbouring frames of two lively clips differ by at most."""
MAX_MOVE = 0.3
"""How far a face moves from one frame to the next at most, as a part of its square's side."""
MAX_GAP_S = 0.25
"""A face that was away for longer may have come back as another person's."""
EMBED_INTERVAL_S = 1.0
"""Who it is, is asked so often of a face that was followed: SFace takes as long as reading ten
crops."""

CACHE_FORMAT = 1
"""Of the file; another one is measured anew."""

Runs = Sequence[Sequence[int]]
ProgressCallback = Callable[[int], None]
"""Hears how many crops are read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CropFeatures:
    """One crop."""

    file_stamp: tuple[int, int]
    """Size in bytes and time of change of the file that was read."""
    thumbnail: bytes
    """The thumbnail as a JPEG file."""
    embedding: npt.NDArray[np.float32] | None = None
    """SFace's direction (128,) of length 1; None where it was not asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SetFeatures:
    """All crops of a set, in the order of its records."""

    thumbnails: Sequence[bytes]
    """Thumbnails, each as a JPEG file."""
    gray: AnyArray
    """float32 (N, GREY_PX²), levels: the inner parts, small and grey, as rows."""
    track_runs: Sequence[Sequence[int]]
    """Which faces were followed in one shot, each run in the order of its frames."""
    embeddings: AnyArray
    """float32 (N, 128): whom each shows; NaN if that was not asked."""


def compute_features(
    faces: FaceSet,
    *,
    cache: Path,
    load_sface: Callable[[], SFace] | None,
    on_progress: ProgressCallback,
) -> SetFeatures:
    """Return how a set's crops look, reading only those that are new or were changed.

    Args:
        faces: The set.
        cache: File in which the looks are kept; may be missing.
        load_sface: Loads what tells people apart; None leaves that out.
        on_progress: Hears how many crops are read.

    Raises:
        InputError: A crop cannot be read.
    """
    known = load_features(cache)
    looks = _read_features(faces, known, on_progress)
    grey = np.array([_decode_gray(one) for one in looks], dtype=np.float32).reshape(-1, GRAY_PX**2)
    followed = find_track_runs(faces.records, grey)
    if load_sface is not None:
        _compute_embeddings(faces, looks, followed, load_sface)
    found = {record.file: one for record, one in zip(faces.records, looks, strict=True)}
    if any(known.get(file) is not one for file, one in found.items()):
        # What was moved out of the set may come back.
        save_features(cache, {**known, **found})
    return SetFeatures(
        thumbnails=[one.thumbnail for one in looks],
        gray=grey,
        track_runs=followed,
        embeddings=_propagate_embeddings(looks, followed),
    )


def find_track_runs(records: Sequence[FaceRecord], gray: AnyArray) -> list[list[int]]:
    """Return which faces were followed in one shot, each run in the order of its frames.

    Args:
        records: The set's records, in the order of their frames.
        gray: Their small pictures, (N, K), levels.
    """
    middles = np.array([record.alignment.corners().mean(axis=0) for record in records])
    finished: list[list[int]] = []
    going: list[list[int]] = []
    for i, record in enumerate(records):
        over = [run for run in going if _has_ended(records[run[-1]], record)]
        finished += over
        going = [run for run in going if run not in over]
        near = [run for run in going if _continues_run(run[-1], i, records, middles, gray)]
        if near:
            best = min(near, key=lambda run: float(np.ptp(middles[[run[-1], i]], axis=0).sum()))
            best.append(i)
        else:
            going.append([i])
    return sorted(finished + going)


def save_features(path: Path, features: Mapping[str, CropFeatures]) -> None:
    """Keep looks by the names of their crops."""
    ends = np.cumsum([len(one.thumbnail) for one in features.values()], dtype=np.int64)
    unknown = np.full(128, np.nan, dtype=np.float32)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            format=np.array(CACHE_FORMAT),
            files=np.array(list(features), dtype=np.str_),
            stamps=np.array([one.file_stamp for one in features.values()], dtype=np.int64),
            ends=ends,
            jpegs=np.frombuffer(
                b"".join(one.thumbnail for one in features.values()), dtype=np.uint8
            ),
            directions=np.array(
                [unknown if one.embedding is None else one.embedding for one in features.values()]
            ),
        )


def load_features(path: Path) -> dict[str, CropFeatures]:
    """Return the looks that are kept, by the names of their crops; none if they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if int(kept["format"]) != CACHE_FORMAT:
                return {}
            jpegs, starts = kept["jpegs"].tobytes(), [0, *kept["ends"][:-1].tolist()]
            rows = zip(
                kept["files"].tolist(),
                kept["stamps"].tolist(),
                starts,
                kept["ends"].tolist(),
                kept["directions"],
                strict=True,
            )
            return {
                file: CropFeatures(
                    file_stamp=(size, changed),
                    thumbnail=jpegs[start:end],
                    embedding=None if np.isnan(direction[0]) else direction,
                )
                for file, (size, changed), start, end, direction in rows
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}


def _read_features(
    faces: FaceSet, cached: Mapping[str, CropFeatures], on_progress: ProgressCallback
) -> list[CropFeatures]:
    """Return a look at every crop, from what is known or by reading it."""

    def one(record: FaceRecord) -> CropFeatures:
        path = faces.path(record)
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        old = cached.get(record.file)
        if old is not None and old.file_stamp == stamp:
            return old
        return CropFeatures(
            file_stamp=stamp, thumbnail=_encode_thumbnail(image_io.read_image(path))
        )

    def counted(looks: Iterator[CropFeatures]) -> Iterator[CropFeatures]:
        for count, found in enumerate(looks, 1):
            on_progress(count)
            yield found

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        return list(counted(threads.map(one, faces.records)))


def _encode_thumbnail(crop: Image) -> bytes:
    """Return a crop's small picture as the bytes of a JPEG file."""
    return image_io.encode_jpeg(
        image_io.resize_square(crop, THUMBNAIL_SIZE_PX), quality=JPEG_QUALITY
    )


def _decode_gray(features: CropFeatures) -> npt.NDArray[np.float32]:
    """Return the inner part of a crop, small and grey, as a row of numbers."""
    image = cv2.imdecode(np.frombuffer(features.thumbnail, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    margin = round(THUMBNAIL_SIZE_PX * (1 - INNER_FRACTION) / 2)
    inner = image[margin:-margin, margin:-margin]
    small = cv2.resize(inner, (GRAY_PX, GRAY_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def _compute_embeddings(
    faces: FaceSet, features: list[CropFeatures], track_runs: Runs, load_sface: Callable[[], SFace]
) -> None:
    """Ask who they are of some faces of each run, the first and then one a second, in place."""
    asked = [i for run in track_runs for i in _sample_run(faces.records, run)]
    missing = [i for i in asked if features[i].embedding is None]
    if not missing:
        return
    reader = load_sface()
    for i in missing:
        features[i] = replace(features[i], embedding=_embed_crop(faces, faces.records[i], reader))


def _sample_run(records: Sequence[FaceRecord], run: Sequence[int]) -> Iterator[int]:
    """Yield the first face of a run, then one every `EMBED_INTERVAL_S`."""
    last = None
    for i in run:
        if last is None or records[i].time - last >= EMBED_INTERVAL_S:
            last = records[i].time
            yield i


def _propagate_embeddings(features: Sequence[CropFeatures], track_runs: Runs) -> AnyArray:
    """Return everybody's direction, (N, 128): that of the nearest face of the run that was asked.

    Where none was, the direction is NaN.
    """
    found = np.full((len(features), 128), np.nan, dtype=np.float32)
    for run in track_runs:
        asked = [place for place, i in enumerate(run) if features[i].embedding is not None]
        if asked:
            nearest = np.abs(np.subtract.outer(np.arange(len(run)), asked)).argmin(axis=1)
            found[run] = np.stack([features[run[asked[n]]].embedding for n in nearest])
    return found


def _has_ended(last: FaceRecord, now: FaceRecord) -> bool:
    """Whether a run that ended with `last` is not gone on with at the frame of `now` or later."""
    return last.input_index != now.input_index or float(now.time - last.time) > MAX_GAP_S


def _continues_run(
    last: int, now: int, records: Sequence[FaceRecord], centers: AnyArray, gray: AnyArray
) -> bool:
    """Whether the face `now` may be the face `last` a few frames later, in the same shot."""
    if records[last].frame == records[now].frame:
        return False
    apart = float(np.hypot(*(centers[now] - centers[last])))
    if apart > MAX_MOVE * records[last].alignment.side_px:
        return False
    return float(np.sqrt(np.mean((gray[now] - gray[last]) ** 2))) < SAME_SHOT_MAX_DIFF


def _embed_crop(faces: FaceSet, record: FaceRecord, sface: SFace) -> npt.NDArray[np.float32]:
    """Return whom a crop shows, as SFace sees it."""
    crop = image_io.read_image(faces.path(record))
    landmarks = transform_points(record.landmarks, record.alignment.frame_to_crop(crop.shape[0]))
    return sface.embed(crop, landmarks).astype(np.float32)
