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

from faceswap_cli import pictures
from faceswap_cli.arrays import AnyArray, Image
from faceswap_cli.faces.align import transform
from faceswap_cli.faces.record import FaceRecord, FaceSet
from faceswap_cli.faces.sface import SFace
from faceswap_cli.files import replacing

THUMBNAIL_PX = 80
"""Side of a crop's small picture, px: large enough to see who it is and where they look."""
JPEG_QUALITY = 82

GREY_PX = 24
"""Side of the picture by which crops are compared, px: noise is averaged away, a blink is not."""
INNER = 0.8
"""Part of the thumbnail's side that is compared: the face with little around it."""

SHOT_LEVELS = 25.0
"""Difference of two grey pictures, of 255 levels, beyond which they are not of one shot: twice
what 19 in 20 neighbouring frames of two lively clips differ by at most."""
NEAR = 0.3
"""How far a face moves from one frame to the next at most, as a part of its square's side."""
PAUSE_S = 0.25
"""A face that was away for longer may have come back as another person's."""
ASK_EVERY_S = 1.0
"""Who it is, is asked so often of a face that was followed: SFace takes as long as reading ten
crops."""

FORMAT = 1
"""Of the file; another one is measured anew."""

Runs = Sequence[Sequence[int]]
Advance = Callable[[int], None]
"""Hears how many crops are read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Look:
    """One crop."""

    stamp: tuple[int, int]
    """Size in bytes and time of change of the file that was read."""
    jpeg: bytes
    """The thumbnail as a JPEG file."""
    direction: npt.NDArray[np.float32] | None = None
    """SFace's direction (128,) of length 1; None where it was not asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """All crops of a set, in the order of its records."""

    jpegs: Sequence[bytes]
    """Thumbnails, each as a JPEG file."""
    grey: AnyArray
    """float32 (N, GREY_PX²), levels: the inner parts, small and grey, as rows."""
    runs: Sequence[Sequence[int]]
    """Which faces were followed in one shot, each run in the order of its frames."""
    directions: AnyArray
    """float32 (N, 128): whom each shows; NaN if that was not asked."""


def look(
    faces: FaceSet, *, cache: Path, sface: Callable[[], SFace] | None, advance: Advance
) -> Looks:
    """Return how a set's crops look, reading only those that are new or were changed.

    Args:
        faces: The set.
        cache: File in which the looks are kept; may be missing.
        sface: Loads what tells people apart; None leaves that out.
        advance: Hears how many crops are read.

    Raises:
        InputError: A crop cannot be read.
    """
    known = load(cache)
    looks = _seen(faces, known, advance)
    grey = np.array([_grey(one) for one in looks], dtype=np.float32).reshape(-1, GREY_PX**2)
    followed = runs(faces.records, grey)
    if sface is not None:
        _ask(faces, looks, followed, sface)
    found = {record.file: one for record, one in zip(faces.records, looks, strict=True)}
    if any(known.get(file) is not one for file, one in found.items()):
        # What was moved out of the set may come back.
        save(cache, {**known, **found})
    return Looks(
        jpegs=[one.jpeg for one in looks],
        grey=grey,
        runs=followed,
        directions=_spread(looks, followed),
    )


def runs(records: Sequence[FaceRecord], grey: AnyArray) -> list[list[int]]:
    """Return which faces were followed in one shot, each run in the order of its frames.

    Args:
        records: The set's records, in the order of their frames.
        grey: Their small pictures, (N, K), levels.
    """
    middles = np.array([record.alignment.corners().mean(axis=0) for record in records])
    finished: list[list[int]] = []
    going: list[list[int]] = []
    for i, record in enumerate(records):
        over = [run for run in going if _is_over(records[run[-1]], record)]
        finished += over
        going = [run for run in going if run not in over]
        near = [run for run in going if _continues(run[-1], i, records, middles, grey)]
        if near:
            best = min(near, key=lambda run: float(np.ptp(middles[[run[-1], i]], axis=0).sum()))
            best.append(i)
        else:
            going.append([i])
    return sorted(finished + going)


def save(path: Path, looks: Mapping[str, Look]) -> None:
    """Keep looks by the names of their crops."""
    ends = np.cumsum([len(one.jpeg) for one in looks.values()], dtype=np.int64)
    unknown = np.full(128, np.nan, dtype=np.float32)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            format=np.array(FORMAT),
            files=np.array(list(looks), dtype=np.str_),
            stamps=np.array([one.stamp for one in looks.values()], dtype=np.int64),
            ends=ends,
            jpegs=np.frombuffer(b"".join(one.jpeg for one in looks.values()), dtype=np.uint8),
            directions=np.array(
                [unknown if one.direction is None else one.direction for one in looks.values()]
            ),
        )


def load(path: Path) -> dict[str, Look]:
    """Return the looks that are kept, by the names of their crops; none if they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            if int(kept["format"]) != FORMAT:
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
                file: Look(
                    stamp=(size, changed),
                    jpeg=jpegs[start:end],
                    direction=None if np.isnan(direction[0]) else direction,
                )
                for file, (size, changed), start, end, direction in rows
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return {}


def _seen(faces: FaceSet, known: Mapping[str, Look], advance: Advance) -> list[Look]:
    """Return a look at every crop, from what is known or by reading it."""

    def one(record: FaceRecord) -> Look:
        path = faces.path(record)
        state = path.stat()
        stamp = (state.st_size, state.st_mtime_ns)
        old = known.get(record.file)
        if old is not None and old.stamp == stamp:
            return old
        return Look(stamp=stamp, jpeg=_thumbnail(pictures.read(path)))

    def counted(looks: Iterator[Look]) -> Iterator[Look]:
        for count, found in enumerate(looks, 1):
            advance(count)
            yield found

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        return list(counted(threads.map(one, faces.records)))


def _thumbnail(crop: Image) -> bytes:
    """Return a crop's small picture as the bytes of a JPEG file."""
    return pictures.encode_jpeg(pictures.resize(crop, THUMBNAIL_PX), quality=JPEG_QUALITY)


def _grey(one: Look) -> npt.NDArray[np.float32]:
    """Return the inner part of a crop, small and grey, as a row of numbers."""
    image = cv2.imdecode(np.frombuffer(one.jpeg, dtype=np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    margin = round(THUMBNAIL_PX * (1 - INNER) / 2)
    inner = image[margin:-margin, margin:-margin]
    small = cv2.resize(inner, (GREY_PX, GREY_PX), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32).ravel()


def _ask(faces: FaceSet, looks: list[Look], followed: Runs, sface: Callable[[], SFace]) -> None:
    """Ask who they are of some faces of each run, the first and then one a second, in place."""
    asked = [i for run in followed for i in _now_and_then(faces.records, run)]
    missing = [i for i in asked if looks[i].direction is None]
    if not missing:
        return
    reader = sface()
    for i in missing:
        looks[i] = replace(looks[i], direction=_direction(faces, faces.records[i], reader))


def _now_and_then(records: Sequence[FaceRecord], run: Sequence[int]) -> Iterator[int]:
    """Yield the first face of a run, then one every `ASK_EVERY_S`."""
    last = None
    for i in run:
        if last is None or records[i].time - last >= ASK_EVERY_S:
            last = records[i].time
            yield i


def _spread(looks: Sequence[Look], followed: Runs) -> AnyArray:
    """Return everybody's direction, (N, 128): that of the nearest face of the run that was asked.

    Where none was, the direction is NaN.
    """
    found = np.full((len(looks), 128), np.nan, dtype=np.float32)
    for run in followed:
        asked = [place for place, i in enumerate(run) if looks[i].direction is not None]
        if asked:
            nearest = np.abs(np.subtract.outer(np.arange(len(run)), asked)).argmin(axis=1)
            found[run] = np.stack([looks[run[asked[n]]].direction for n in nearest])
    return found


def _is_over(last: FaceRecord, now: FaceRecord) -> bool:
    """Whether a run that ended with `last` is not gone on with at the frame of `now` or later."""
    return last.source != now.source or float(now.time - last.time) > PAUSE_S


def _continues(
    last: int, now: int, records: Sequence[FaceRecord], middles: AnyArray, grey: AnyArray
) -> bool:
    """Whether the face `now` may be the face `last` a few frames later, in the same shot."""
    if records[last].frame == records[now].frame:
        return False
    apart = float(np.hypot(*(middles[now] - middles[last])))
    if apart > NEAR * records[last].alignment.side_px:
        return False
    return float(np.sqrt(np.mean((grey[now] - grey[last]) ** 2))) < SHOT_LEVELS


def _direction(faces: FaceSet, record: FaceRecord, sface: SFace) -> npt.NDArray[np.float32]:
    """Return whom a crop shows, as SFace sees it."""
    crop = pictures.read(faces.path(record))
    landmarks = transform(record.landmarks, record.alignment.matrix(crop.shape[0]))
    return sface.direction(crop, landmarks).astype(np.float32)
