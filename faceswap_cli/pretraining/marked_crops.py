"""Crops whose mask the user has painted, as samples to teach the network of `faces.occlusion`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError
from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.core.workspace import SetFolder
from faceswap_cli.faces.alignment import FaceAlignment
from faceswap_cli.faces.dataset import MASK_FOLDER, FaceRecord, FaceSet
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.occlusion import INPUT_PX
from faceswap_cli.pretraining.occluded_faces import (
    CROP_PX,
    OccludedSample,
    move_levels,
    random_move,
    record_image,
)
from faceswap_cli.pretraining.pairs import SEED_OFFSET
from faceswap_cli.synthetic.occluders import OccluderLayer, cover_crop, random_occluder
from faceswap_cli.training.dataset import derive_seed

MIN_MARKED = 3
"""Fewer crops than this teach nothing."""
OCCLUDER_PROB = 0.5
"""How often a drawn thing is put before a marked face, so that hands are not forgotten."""
NUM_OCCLUDERS = 60
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkedCrop:
    """A crop and what the user painted."""

    image: Image
    """RGB uint8 (S, S, 3), the face's square at `CROP_PX`."""
    visible: Mask
    """float32 (S, S): 1 where the face is seen."""
    face: Mask
    """float32 (S, S): 1 inside the landmarks' outline."""

    def sample(self) -> OccludedSample:
        """Return it as the network gets it, without augmentation."""
        middle = (CROP_PX - INPUT_PX) // 2
        part = slice(middle, middle + INPUT_PX)
        return OccludedSample(
            image=self.image[part, part],
            visible=self.visible[part, part],
            face=self.face[part, part],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class MarkedCrops:
    """All of them, as an endless source of samples."""

    crops: Sequence[MarkedCrop]
    seed: int

    @cached_property
    def occluders(self) -> list[OccluderLayer]:
        """Drawn things to put before the faces."""
        seeds = [derive_seed(self.seed, index, "occluder") for index in range(NUM_OCCLUDERS)]
        return [random_occluder(SEED_OFFSET + seed, CROP_PX) for seed in seeds]

    def sample(self, number: int, side_px: int = INPUT_PX) -> OccludedSample:
        """Return the sample of a number: a crop moved and mirrored, sometimes behind a thing."""
        rng = np.random.default_rng(derive_seed(self.seed, number, "marked sample"))
        crop = self.crops[number % len(self.crops)]
        to_crop = random_move(rng, side_px)
        image: Image = move_levels(crop.image, to_crop, side_px)
        masks = move_levels(np.dstack([crop.visible, crop.face]), to_crop, side_px)
        visible, face = masks[..., 0], masks[..., 1]
        if rng.uniform() < OCCLUDER_PROB:
            layer = self.occluders[int(rng.integers(NUM_OCCLUDERS))]
            covered = cover_crop(image, visible, layer, rng, to_crop=to_crop)
            image, visible = covered.image, covered.visible
        return OccludedSample(image=record_image(image, rng), visible=visible * face, face=face)


def read_marked_crops(folder: SetFolder) -> list[MarkedCrop]:
    """Read the masks of a set, and the crops of the same names.

    Raises:
        InputError: There is no folder of masks, a mask has no crop, another size or another
            format, or there are fewer than `MIN_MARKED`.
    """
    face_set = FaceSet.from_folder(folder)
    paths = list_masks(folder.root / MASK_FOLDER)
    if len(paths) < MIN_MARKED:
        raise InputError(
            f"{folder.root / MASK_FOLDER} has {len(paths)} masks; at least {MIN_MARKED} are needed",
            hint="paint some crops white where the face is seen and black elsewhere, and save each "
            "there under the name of its crop, as a PNG",
        )
    records = {face_set.mask_path(record): record for record in face_set.records}
    return [_read_marked(face_set, _find_record(records, path), path) for path in paths]


def list_masks(folder: Path) -> list[Path]:
    """Return the image files of a folder, in order; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]


def _find_record(records: Mapping[Path, FaceRecord], path: Path) -> FaceRecord:
    """Return the record of the crop that a mask is of.

    Raises:
        InputError: There is none, or the mask is no PNG.
    """
    if path in records:
        return records[path]
    if path.with_suffix(".png") in records:
        raise InputError(f"{path} is no PNG", hint="save it as a PNG: others blur its edges")
    raise InputError(
        f"{path} is the mask of no crop: the set has none called {path.stem}",
        hint="name each mask as its crop, such as 000012-0.png",
    )


def _read_marked(face_set: FaceSet, record: FaceRecord, path: Path) -> MarkedCrop:
    """Return a crop with its mask, in the face's square.

    Raises:
        InputError: One is no image, or they differ in size.
    """
    image = image_io.read_image(face_set.path(record))
    painted = image_io.read_image(path)
    if painted.shape != image.shape:
        (height, width), (crop_height, crop_width) = painted.shape[:2], image.shape[:2]
        raise InputError(
            f"{path} has {width}x{height} px, and its crop {crop_width}x{crop_height}",
            hint="paint on a copy of the crop and do not resize it",
        )
    face = record.alignment
    face = face.shrink_to_face() if record.framing == "head" else face
    in_crop = face.relative_to(record.alignment, image.shape[0])
    return MarkedCrop(
        image=in_crop.crop(image, CROP_PX),
        visible=_to_mask(in_crop.crop(painted, CROP_PX)),
        face=_outline(record, face),
    )


def _to_mask(painted: Image) -> Mask:
    """Return white as 1 and black as 0; the brightest channel counts."""
    levels: AnyArray = painted.max(axis=2)
    return np.asarray(levels, np.float32) / np.float32(255)


def _outline(record: FaceRecord, face: FaceAlignment) -> Mask:
    outline = face_mask(record.landmarks, face, CROP_PX)
    return np.asarray(cv2.GaussianBlur(outline, (0, 0), 1), np.float32)
