"""Thumbnails and identity embeddings of a set's crops, cached beside them: `compute_features`.

Thumbnails are shown on the page of `faces` and compared to find duplicates; embeddings identify
the person. The cache file holds both, so only new or changed crops are read again.
"""

import os
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
"""Side of a thumbnail, px: large enough to recognize the person and the gaze."""
JPEG_QUALITY = 82

GRAY_PX = 24
"""Side of the images by which crops are compared, px: noise is averaged out, a blink is not."""
INNER_FRACTION = 0.8
"""Part of the thumbnail's side that is compared: the face with little background."""

SAME_SHOT_MAX_DIFF = 25.0
"""RMS difference of two gray images, of 255 levels, from which on they are not of one shot: twice
the 95th percentile over neighboring frames of two lively clips."""
MAX_MOVE = 0.3
"""The most that a face moves from one frame to the next, in sides of its square."""
MAX_GAP_S = 0.25
"""After a longer gap the next face may be another person's."""
EMBED_INTERVAL_S = 1.0
"""Seconds between embeddings of a track run: SFace takes as long as reading ten crops."""

CACHE_FORMAT = 1
"""Format of the cache file; a file of another one is ignored."""

Runs = Sequence[Sequence[int]]
ProgressCallback = Callable[[int], None]
"""Called with the number of crops read so far."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CropFeatures:
    """The cached features of a crop."""

    file_stamp: tuple[int, int]
    """Size in bytes and modification time in ns of the file that was read."""
    thumbnail: bytes
    """The thumbnail as a JPEG file."""
    embedding: npt.NDArray[np.float32] | None = None
    """SFace's embedding (128,) of length 1; None if not computed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SetFeatures:
    """The features of all crops of a set, in the order of its records."""

    thumbnails: Sequence[bytes]
    """Thumbnails, each as a JPEG file."""
    gray: AnyArray
    """float32 (N, GRAY_PX²), levels: the inner parts, small and gray, as rows."""
    track_runs: Sequence[Sequence[int]]
    """Indices of faces tracked within one shot, each run in frame order."""
    embeddings: AnyArray
    """float32 (N, 128): identity embeddings; NaN where unknown."""


def compute_features(
    faces: FaceSet,
    *,
    cache: Path,
    load_sface: Callable[[], SFace] | None,
    on_progress: ProgressCallback,
) -> SetFeatures:
    """Return the features of a set's crops, reading only those that are new or were changed.

    Args:
        faces: The set.
        cache: The cache file; may be missing.
        load_sface: Loads SFace; None leaves embeddings out.
        on_progress: Called with the number of crops read so far.

    Raises:
        InputError: A crop cannot be read.
    """
    cached = load_features(cache)
    features = _read_features(faces, cached, on_progress)
    gray = np.array([_decode_gray(one) for one in features], dtype=np.float32)
    gray = gray.reshape(-1, GRAY_PX**2)
    track_runs = find_track_runs(faces.records, gray)
    if load_sface is not None:
        _compute_embeddings(faces, features, track_runs, load_sface)
    by_file = {record.file: one for record, one in zip(faces.records, features, strict=True)}
    if any(cached.get(file) is not one for file, one in by_file.items()):
        # Keep those of crops moved out of the set: they may come back.
        save_features(cache, {**cached, **by_file})
    return SetFeatures(
        thumbnails=[one.thumbnail for one in features],
        gray=gray,
        track_runs=track_runs,
        embeddings=_propagate_embeddings(features, track_runs),
    )


def find_track_runs(records: Sequence[FaceRecord], gray: AnyArray) -> list[list[int]]:
    """Return runs of indices of faces tracked within one shot, each in frame order.

    Args:
        records: The set's records, in frame order.
        gray: Their small gray images, (N, K), levels.
    """
    centers = np.array([record.alignment.corners().mean(axis=0) for record in records])
    finished: list[list[int]] = []
    active: list[list[int]] = []
    for i, record in enumerate(records):
        ended = [run for run in active if _has_ended(records[run[-1]], record)]
        finished += ended
        active = [run for run in active if run not in ended]
        matching = [run for run in active if _continues_run(run[-1], i, records, centers, gray)]
        if matching:
            best = min(matching, key=lambda run: float(np.ptp(centers[[run[-1], i]], axis=0).sum()))
            best.append(i)
        else:
            active.append([i])
    return sorted(finished + active)


def save_features(path: Path, features: Mapping[str, CropFeatures]) -> None:
    """Write features by the file names of their crops."""
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
    """Return the cached features by the file names of their crops; empty if unreadable."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if int(arrays["format"]) != CACHE_FORMAT:
                return {}
            jpegs, starts = arrays["jpegs"].tobytes(), [0, *arrays["ends"][:-1].tolist()]
            rows = zip(
                arrays["files"].tolist(),
                arrays["stamps"].tolist(),
                starts,
                arrays["ends"].tolist(),
                arrays["directions"],
                strict=True,
            )
            return {
                file: CropFeatures(
                    file_stamp=(size, modified_ns),
                    thumbnail=jpegs[start:end],
                    embedding=None if np.isnan(embedding[0]) else embedding,
                )
                for file, (size, modified_ns), start, end, embedding in rows
            }
    except Exception:  # a damaged archive raises all kinds; its members have checksums
        return {}


def _read_features(
    faces: FaceSet, cached: Mapping[str, CropFeatures], on_progress: ProgressCallback
) -> list[CropFeatures]:
    """Return the features of every crop, cached or read."""

    def read(record: FaceRecord) -> CropFeatures:
        path = faces.path(record)
        stat = path.stat()
        stamp = (stat.st_size, stat.st_mtime_ns)
        known = cached.get(record.file)
        if known is not None and known.file_stamp == stamp:
            return known
        return CropFeatures(
            file_stamp=stamp, thumbnail=_encode_thumbnail(image_io.read_image(path))
        )

    def count(features: Iterator[CropFeatures]) -> Iterator[CropFeatures]:
        for done, one in enumerate(features, 1):
            on_progress(done)
            yield one

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        return list(count(threads.map(read, faces.records)))


def _encode_thumbnail(crop: Image) -> bytes:
    """Return a crop's thumbnail as the bytes of a JPEG file."""
    return image_io.encode_jpeg(
        image_io.resize_square(crop, THUMBNAIL_SIZE_PX), quality=JPEG_QUALITY
    )


def _decode_gray(features: CropFeatures) -> npt.NDArray[np.float32]:
    """Return the inner part of a crop, small and gray, as a row of levels."""
    image = cv2.imdecode(np.frombuffer(features.thumbnail, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    margin = round(THUMBNAIL_SIZE_PX * (1 - INNER_FRACTION) / 2)
    inner = image[margin:-margin, margin:-margin]
    small = cv2.resize(inner, (GRAY_PX, GRAY_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def _compute_embeddings(
    faces: FaceSet, features: list[CropFeatures], track_runs: Runs, load_sface: Callable[[], SFace]
) -> None:
    """Add the missing embeddings of the faces that `_sample_run` yields, in place."""
    sampled = [i for run in track_runs for i in _sample_run(faces.records, run)]
    missing = [i for i in sampled if features[i].embedding is None]
    if not missing:
        return
    sface = load_sface()
    for i in missing:
        features[i] = replace(features[i], embedding=_embed_crop(faces, faces.records[i], sface))


def _sample_run(records: Sequence[FaceRecord], run: Sequence[int]) -> Iterator[int]:
    """Yield the first face of a run, then one every `EMBED_INTERVAL_S`."""
    last = None
    for i in run:
        if last is None or records[i].time - last >= EMBED_INTERVAL_S:
            last = records[i].time
            yield i


def _propagate_embeddings(features: Sequence[CropFeatures], track_runs: Runs) -> AnyArray:
    """Return an embedding of each face, (N, 128): that of the nearest embedded face of its run.

    NaN for runs without one.
    """
    embeddings = np.full((len(features), 128), np.nan, dtype=np.float32)
    for run in track_runs:
        known = [position for position, i in enumerate(run) if features[i].embedding is not None]
        if known:
            nearest = np.abs(np.subtract.outer(np.arange(len(run)), known)).argmin(axis=1)
            embeddings[run] = np.stack([features[run[known[n]]].embedding for n in nearest])
    return embeddings


def _has_ended(last: FaceRecord, now: FaceRecord) -> bool:
    """Return whether a run whose last face is `last` has ended before the frame of `now`."""
    return last.input_index != now.input_index or float(now.time - last.time) > MAX_GAP_S


def _continues_run(
    last: int, now: int, records: Sequence[FaceRecord], centers: AnyArray, gray: AnyArray
) -> bool:
    """Return whether the face `now` may be the face `last` a few frames later in the same shot."""
    if records[last].frame == records[now].frame:
        return False
    distance = float(np.hypot(*(centers[now] - centers[last])))
    if distance > MAX_MOVE * records[last].alignment.side_px:
        return False
    return float(np.sqrt(np.mean((gray[now] - gray[last]) ** 2))) < SAME_SHOT_MAX_DIFF


def _embed_crop(faces: FaceSet, record: FaceRecord, sface: SFace) -> npt.NDArray[np.float32]:
    """Return the identity embedding of a crop."""
    crop = image_io.read_image(faces.path(record))
    landmarks = transform_points(record.landmarks, record.alignment.frame_to_crop(crop.shape[0]))
    return sface.embed(crop, landmarks).astype(np.float32)
