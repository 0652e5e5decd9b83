"""Pairs of synthetic people in the same moment: rendered, detected and cropped as footage would be.

A scene shows several random people, one after the other, in the same pose, expression, light and
room. So any of them and any other are the input and the true output of a swap. `SwapPairs` draws
groups of people in worker processes, and keeps each group's crops in a file of its own: what is
drawn once is never drawn again, and a run that was interrupted draws only what is missing.
"""

import hashlib
import json
import math
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from faceswap_cli import synthetic
from faceswap_cli.core.fileio import DamagedFileError
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.faces.alignment import align_face
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.faces.masks import eyes_mouth_mask, face_mask
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.synthetic import HeadModel, Person, SceneParams
from faceswap_cli.synthetic.parallel import init_worker
from faceswap_cli.training.dataset import map_array, pack_masks, write_array

PAIRS_VERSION = 1
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

    def scenes(self, group: int) -> Sequence[SceneParams]:
        """Return the moments of a group."""
        return synthetic.random_scenes(_seed(self.seed, "scenes", group), self.moments)

    def person(self, number: int) -> Person:
        """Return the person of a number."""
        return synthetic.random_person(_seed(self.seed, "person", number))


@dataclass(frozen=True, kw_only=True, eq=False)
class SwapPairs:
    """The crops of all groups, mapped from their files."""

    settings: PairSettings
    groups: Sequence[Group]
    """In the order of `PairSettings.group_numbers`."""

    @classmethod
    def draw(cls, settings: PairSettings, folder: Path, *, processes: int = 1) -> Iterator[int]:
        """Draw the groups that are missing; yield the number of groups that are there.

        Args:
            settings: What is drawn.
            folder: Where the files are; those of other settings may be there as well.
            processes: Worker processes; 1 draws in this one.

        Raises:
            InputError: A file cannot be written.
        """
        paths = {number: _path(folder, settings, number) for number in settings.group_numbers}
        missing = [number for number, path in paths.items() if not path.exists()]
        present = len(paths) - len(missing)
        yield present
        draw = partial(_draw_to_file, settings, folder)
        if processes == 1 or len(missing) < 2:
            results: Iterator[None] = map(draw, missing)
            yield from (done for done, _ in enumerate(results, present + 1))
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes, mp_context=context, initializer=init_worker) as pool:
            try:
                results = pool.map(draw, missing)
                yield from (done for done, _ in enumerate(results, present + 1))
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    @classmethod
    def load(cls, settings: PairSettings, folder: Path) -> "SwapPairs":
        """Map the files of groups that were drawn.

        Raises:
            InputError: One is missing or damaged.
        """
        paths = [_path(folder, settings, number) for number in settings.group_numbers]
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


def draw_group(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
    """Render a group's people in all of its moments, and crop their faces.

    Args:
        settings: What is drawn.
        group: Number of the group.
        detector: An open detector.
    """
    scenes = settings.scenes(group)

    def render_person(number: int) -> Iterator[Image]:
        head = HeadModel.from_person(settings.person(number))
        return (synthetic.render_frame(head, scene, RENDER_PX).image for scene in scenes)

    return crop_group(settings, map(render_person, settings.person_numbers(group)), detector)


def crop_group(
    settings: PairSettings, people: Iterable[Iterable[Image]], detector: FaceDetector
) -> Group:
    """Crop the faces of a group.

    Args:
        settings: What is drawn.
        people: The images of each person, moment by moment.
        detector: An open detector.
    """
    crops = np.zeros(settings.group_shape, np.uint8)
    for column, images in enumerate(people):
        for row, image in enumerate(images):
            crop = crop_largest(image, detector, side_px=settings.side_px)
            if crop is not None:
                crops[row, column] = crop
    return crops


def crop_largest(image: Image, detector: FaceDetector, *, side_px: int) -> AnyArray | None:
    """Return the crop and mask levels of the largest face, uint8 (S, S, 4), if there is one."""
    faces = detector.detect(image)
    if not faces:
        return None
    landmarks = faces[0].landmarks
    alignment = align_face(landmarks)
    masks = [mask(landmarks, alignment, side_px) for mask in (face_mask, eyes_mouth_mask)]
    return np.dstack([alignment.crop(image, side_px), pack_masks(*masks)])


def _seed(seed: int, purpose: str, number: int) -> int:
    """Return a seed of its own for each number and purpose, from `SEED_OFFSET` on."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=6).digest()
    return SEED_OFFSET + int.from_bytes(digest, "big")


def _path(folder: Path, settings: PairSettings, group: int) -> Path:
    return folder / settings.digest / f"{group:06d}.npy"


def _load_group(path: Path, settings: PairSettings) -> Group:
    """Map the file of a group.

    Raises:
        InputError: It is missing or damaged.
    """
    group = map_array(path)
    if group.shape != settings.group_shape or group.dtype != np.uint8:
        raise DamagedFileError(path, hint="delete it: it is drawn again")
    return group


def _draw_to_file(settings: PairSettings, folder: Path, group: int) -> None:
    """Draw a group to its file."""
    path = _path(folder, settings, group)
    with LOCATION_DETECTORS["litert"]() as detector:
        crops = draw_group(settings, group, detector)
    write_array(path, [crops.tobytes()], shape=crops.shape)
