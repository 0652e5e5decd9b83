"""Pairs of synthetic people in the same moment: which there are, and their crops.

A scene shows several random people, one after the other, in the same pose, expression, light and
room. So any of them and any other are the input and the true output of a swap. `drawing` renders
them into a file for each group of people, which `SwapPairs` maps.
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.fileio import DamagedFileError
from faceswap_cli.core.types import AnyArray
from faceswap_cli.training.dataset import map_array

PAIRS_VERSION = 2
"""Part of the digest: a change of what is drawn invalidates every older file."""
SEED_OFFSET = 1_000_000
"""First seed of people and scenes here. The demo, the benchmark and the studies use smaller ones:
nobody whom a swap is judged on is in the pairs."""
VALIDATION_OFFSET = 500_000
"""Groups from this number on are for validation."""
RENDER_PX = 384
"""Side of the rendered image, in which a face is about 200 px wide."""

Group = npt.NDArray[np.uint8]
"""uint8 (M, P, S, S, 4): crops of P people in M moments; all 0 where no face was found."""


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """What is drawn."""

    groups: int = 80
    """Groups of people for training."""
    validation_groups: int = 6
    """Groups for validation, at most as many as `groups`: half of the people of each are those of
    a training group, the others are in no other group."""
    people: int = 4
    """People in a group."""
    moments: int = 50
    """Moments that a group is shown in."""
    side_px: int = 180
    """Side of the crops."""
    seed: int = 0
    """Seed of people and scenes."""

    @property
    def digest(self) -> str:
        """16 hex digits that change with anything that a group's file depends on."""
        parts = {**asdict(self), "version": PAIRS_VERSION, "render_px": RENDER_PX}
        del parts["groups"], parts["validation_groups"]  # more of them keep the first ones
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def group_shape(self) -> tuple[int, ...]:
        """Shape of a group's crops: (M, P, S, S, 4)."""
        return self.moments, self.people, self.side_px, self.side_px, 4

    @property
    def nbytes(self) -> int:
        """Size of all groups, bytes."""
        return len(self.group_numbers) * math.prod(self.group_shape)

    @property
    def group_numbers(self) -> list[int]:
        """Numbers of all groups, those for validation last."""
        return [
            *range(self.groups),
            *range(VALIDATION_OFFSET, VALIDATION_OFFSET + min(self.validation_groups, self.groups)),
        ]

    @staticmethod
    def is_mesh_group(group: int) -> bool:
        """Whether the people of a group are of a mesh, as in every other group, or ellipsoids.

        A validation group has people of a training group, so it takes the kind of that one.
        """
        return group % VALIDATION_OFFSET % 2 == 1

    def person_numbers(self, group: int) -> list[int]:
        """Return the numbers of a group's people; those from `VALIDATION_OFFSET` are validation's.

        Raises:
            ValueError: There is no such group.
        """
        if group not in self.group_numbers:
            raise ValueError(f"there is no group {group}")
        own = [group * self.people + index for index in range(self.people)]
        if group < VALIDATION_OFFSET:
            return own
        known = self.person_numbers(group - VALIDATION_OFFSET)
        return [*known[: self.people // 2], *own[self.people // 2 :]]


def derive_pair_seed(seed: int, purpose: str, number: int) -> int:
    """Return a seed of its own for each number and purpose, from `SEED_OFFSET` on."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=6).digest()
    return SEED_OFFSET + int.from_bytes(digest, "big")


def group_path(folder: Path, settings: PairSettings, group: int) -> Path:
    """Return the file of a group."""
    return folder / settings.digest / f"{group:06d}.npy"


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapPairs:
    """The crops of all groups, mapped from their files."""

    settings: PairSettings
    groups: Sequence[Group]
    """In the order of `PairSettings.group_numbers`."""

    @classmethod
    def load(cls, settings: PairSettings, folder: Path) -> "SwapPairs":
        """Map the files of groups that were drawn.

        Raises:
            InputError: One is missing or damaged.
        """
        paths = [group_path(folder, settings, number) for number in settings.group_numbers]
        return cls(settings=settings, groups=[_load_group(path, settings) for path in paths])


class JoinedCrops:
    """Arrays of crops, indexed as if they were one: uint8 (N, S, S, 4), but not in memory."""

    def __init__(self, parts: Sequence[AnyArray]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), *parts[0].shape[1:])
        self.nbytes = sum(part.nbytes for part in parts)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: "int | AnyArray") -> AnyArray:
        """Return one crop (S, S, 4), or those at indices (B,): (B, S, S, 4)."""
        if isinstance(index, np.ndarray) and index.ndim:
            return np.stack([self[int(one)] for one in index])
        part = int(np.searchsorted(self._starts, int(index), side="right")) - 1
        crop: AnyArray = self._parts[part][int(index) - int(self._starts[part])]
        return crop

    def __array__(
        self, dtype: npt.DTypeLike | None = None, *, copy: bool | None = None
    ) -> AnyArray:
        """Return all of them in memory."""
        del copy
        joined: AnyArray = np.concatenate([np.asarray(part) for part in self._parts])
        return joined if dtype is None else joined.astype(dtype)


def _load_group(path: Path, settings: PairSettings) -> Group:
    """Map the file of a group.

    Raises:
        InputError: It is missing or damaged.
    """
    group = map_array(path)
    if group.shape != settings.group_shape or group.dtype != np.uint8:
        raise DamagedFileError(path, hint="delete it: it is drawn again")
    return group
