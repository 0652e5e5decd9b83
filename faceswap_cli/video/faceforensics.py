"""A data set in the layout of FaceForensics++: its source videos, and which were swapped.

    original_sequences/youtube/c23/videos/000.mp4                  a source video
    manipulated_sequences/Deepfakes/c23/videos/000_003.mp4         000 with the face of 003
    manipulated_sequences/Deepfakes/masks/videos/000_003.mp4       where it was changed: white
    splits/train.json                                              [["000", "003"], ...]

A. Rössler et al., "FaceForensics++: Learning to Detect Manipulated Facial Images", ICCV 2019.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ORIGINAL, MANIPULATED = "original_sequences", "manipulated_sequences"
MASKS = "masks/videos"
COMPRESSIONS = ("raw", "c0", "c23", "c40")
"""From the least compressed to the most."""
PAIR = re.compile(r"(\d+)_(\d+)")
"""Name of a manipulated video: number of the target video, number of the source of the face."""
VIDEO_NAME = re.compile(r"\w[\w-]*")
"""Names of source videos in a list: no paths, and nothing that would move a terminal's cursor."""


@dataclass(frozen=True, kw_only=True)
class SwapPair:
    """Two people of the data set, by the names of their source videos."""

    target: str
    """Whose face was swapped."""
    source: str
    """Whose face it got."""
    split: str = ""
    """`train`, `val` or `test`; empty if no list has the pair."""


def is_faceforensics(folder: Path) -> bool:
    """Return whether a folder is such a data set."""
    return (folder / ORIGINAL).is_dir()


def find_source_videos(folder: Path) -> list[Path]:
    """Return its source videos in the order of their names, each as the least compressed file."""
    best: dict[tuple[str, str], Path] = {}
    for path in sorted(
        folder.glob(f"{ORIGINAL}/*/*/videos/*.mp4"), key=_compression_rank, reverse=True
    ):
        best[path.parts[-4], path.name] = path
    return sorted(best.values(), key=lambda path: (path.name, path))


def find_partners(folder: Path) -> dict[str, str]:
    """Return the partner of each person in a swap, by the names of their source videos."""
    return {pair.target: pair.source for pair in _iter_pairs(folder)}


def find_pairs(folder: Path) -> list[SwapPair]:
    """Return the pairs of the data set's lists, and of its manipulated videos, by target."""
    pairs: dict[tuple[str, str], SwapPair] = {}
    for pair in _iter_pairs(folder):
        pairs.setdefault((pair.target, pair.source), pair)
    return [pairs[key] for key in sorted(pairs)]


def find_methods(folder: Path) -> list[str]:
    """Return the names of the manipulation methods that have masks."""
    return sorted({path.parts[-3] for path in folder.glob(f"{MANIPULATED}/*/{MASKS}")})


def mask_video(folder: Path, pair: SwapPair, method: str) -> Path:
    """Return where the video of a pair's masks is, whether or not there is one."""
    return folder / MANIPULATED / method / MASKS / f"{pair.target}_{pair.source}.mp4"


def _iter_pairs(folder: Path) -> Iterator[SwapPair]:
    """Yield the pair of each swap, both ways round where the data set's lists have it."""
    for path in sorted(folder.glob("splits/*.json")):
        try:
            pairs = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        for pair in pairs if isinstance(pairs, list) else ():
            if isinstance(pair, list) and len(pair) == 2:
                first, second = map(str, pair)
                if VIDEO_NAME.fullmatch(first) and VIDEO_NAME.fullmatch(second):
                    yield SwapPair(target=first, source=second, split=path.stem)
                    yield SwapPair(target=second, source=first, split=path.stem)
    for path in sorted(folder.glob(f"{MANIPULATED}/*/*/videos/*.mp4")):
        if names := PAIR.fullmatch(path.stem):
            yield SwapPair(target=names[1], source=names[2])


def _compression_rank(path: Path) -> tuple[int, str]:
    """Return a key that sorts videos from the least compressed to the most."""
    name = path.parts[-3]
    rank = COMPRESSIONS.index(name) if name in COMPRESSIONS else len(COMPRESSIONS)
    return rank, path.name
