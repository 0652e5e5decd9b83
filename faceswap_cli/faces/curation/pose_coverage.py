"""Which poses and expressions a set covers (`measure_coverage`), and gaps of another (`find_gaps`).

Left and right are the image's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.types import BLENDSHAPE_NAMES

BoolArray = npt.NDArray[np.bool_]

YAW_BINS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "far left": (-180, -35),
        "left": (-35, -12),
        "ahead": (-12, 12),
        "right": (12, 35),
        "far right": (35, 180),
    }
)
"""Degrees, lower end included."""
PITCH_BINS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"up": (-90, -8), "level": (-8, 8), "down": (8, 90)}
)

EXPRESSION_RULES: Mapping[str, tuple[tuple[str, ...], float]] = MappingProxyType(
    {
        "an open mouth": (("jawOpen",), 0.25),
        "a smile": (("mouthSmileLeft", "mouthSmileRight"), 0.4),
        "pursed lips": (("mouthPucker",), 0.6),
        "shut eyes": (("eyeBlinkLeft", "eyeBlinkRight"), 0.5),
        "raised brows": (("browInnerUp",), 0.5),
        "a frown": (("browDownLeft", "browDownRight"), 0.3),
    }
)
"""Expression, as named in a sentence -> blendshapes, and the limit that their mean exceeds."""

MIN_SHARE = 0.01
"""A trait in a smaller part of the frames is not worth more footage."""
MIN_FACES = 5
"""Fewer faces than this may be detection errors."""


@dataclass(frozen=True, kw_only=True)
class PoseCoverage:
    """Poses and expressions of the faces of a set."""

    faces: int
    poses: Mapping[str, Mapping[str, int]]
    """Faces by pitch (a name in `PITCH_BINS`) and yaw (a name in `YAW_BINS`)."""
    expressions: Mapping[str, float]
    """Share of the faces, 0 to 1, by the names in `EXPRESSION_RULES`."""


@dataclass(frozen=True, kw_only=True)
class CoverageGap:
    """A trait that one set shows and another does not, or hardly."""

    what: str
    """The predicate of a sentence about the set: `looks left with an open mouth`."""
    share: float
    """Share of the one set's faces, 0 to 1."""
    other_share: float
    """Share of the other's; a twentieth of `share` at most."""

    def to_sentence(self, present_in: str, missing_in: str) -> str:
        """Return it as advice, given the names of both sets."""
        seldom = "never" if self.other_share == 0 else f"in {self.other_share:.1%}"
        return (
            f"{present_in} {self.what} in {self.share:.0%} of its frames, {missing_in} {seldom}: "
            f"add such footage of {missing_in}"
        )


def measure_coverage(records: Sequence[FaceRecord]) -> PoseCoverage:
    """Return the poses and expressions of a set's faces."""
    yaws, pitches = _bin_poses(records)
    count = max(1, len(records))
    return PoseCoverage(
        faces=len(records),
        poses={
            pitch: {yaw: int((is_pitch & is_yaw).sum()) for yaw, is_yaw in yaws.items()}
            for pitch, is_pitch in pitches.items()
        },
        expressions={
            name: float(marks.sum() / count)
            for name, marks in _classify_expressions(records).items()
        },
    )


def find_gaps(records: Sequence[FaceRecord], other: Sequence[FaceRecord]) -> list[CoverageGap]:
    """Return the traits that `records` show and `other` do not, the most frequent first.

    Each is as general as possible: if `other` never looks left, that it never looks left with an
    open mouth is left out.
    """
    ours, theirs = _collect_traits(records), _collect_traits(other)
    gaps: dict[frozenset[str], CoverageGap] = {}
    for names in _combine_traits(ours):
        if any(general <= names for general in gaps):
            continue
        share, other_share = _trait_share(ours, names), _trait_share(theirs, names)
        enough = share >= MIN_SHARE and share * len(records) >= MIN_FACES
        if enough and other_share <= share / 20:
            gaps[names] = CoverageGap(
                what=_format_traits(names), share=share, other_share=other_share
            )
    return sorted(gaps.values(), key=lambda gap: -gap.share)


def _bin_poses(records: Sequence[FaceRecord]) -> tuple[dict[str, BoolArray], dict[str, BoolArray]]:
    """Return which faces are in each bin of yaw, and of pitch."""
    angles: AnyArray = np.array([record.pose for record in records]).reshape(-1, 3)
    yaws, pitches = (
        {
            name: np.asarray((low <= angles[:, axis]) & (angles[:, axis] < high))
            for name, (low, high) in bins.items()
        }
        for axis, bins in enumerate((YAW_BINS, PITCH_BINS))
    )
    return yaws, pitches


def _classify_expressions(records: Sequence[FaceRecord]) -> dict[str, BoolArray]:
    """Return which faces show each expression."""
    values: AnyArray = np.array([record.blendshapes for record in records])
    values = values.reshape(-1, len(BLENDSHAPE_NAMES))
    return {
        name: values[:, [BLENDSHAPE_NAMES.index(part) for part in parts]].mean(axis=1) > limit
        for name, (parts, limit) in EXPRESSION_RULES.items()
    }


def _collect_traits(records: Sequence[FaceRecord]) -> dict[str, BoolArray]:
    """Return which faces have each of the traits that a gap can consist of."""
    yaws, pitches = _bin_poses(records)
    usual = {"looks ahead", "looks level"}
    gaze = {f"looks {name}": marks for name, marks in {**yaws, **pitches}.items()}
    return {
        **{name: marks for name, marks in gaze.items() if name not in usual},
        **_classify_expressions(records),
    }


def _combine_traits(traits: Mapping[str, BoolArray]) -> Iterator[frozenset[str]]:
    """Yield single traits, then all pairs."""
    yield from (frozenset([name]) for name in traits)
    for pair in combinations(traits, 2):
        yield frozenset(pair)


def _trait_share(traits: Mapping[str, BoolArray], names: frozenset[str]) -> float:
    """Return the share of the faces that have all of some traits."""
    marks = np.logical_and.reduce([traits[name] for name in names])
    return float(marks.mean()) if len(marks) else 0.0


def _format_traits(names: frozenset[str]) -> str:
    """Return traits as a predicate: gaze first, then expressions."""
    where = [name.removeprefix("looks ") for name in sorted(names) if name.startswith("looks ")]
    # "right" and "left" before "up" and "down" reads oddly: up and left.
    where.sort(key=lambda name: name not in PITCH_BINS)
    face = [name for name in EXPRESSION_RULES if name in names]
    if not where:
        return f"has {' and '.join(face)}"
    gaze = f"looks {' and '.join(where)}"
    return f"{gaze} with {' and '.join(face)}" if face else gaze
