"""Crops of drawn faces behind drawn occluders, with the exact mask of what is seen.

`OcclusionData.draw` renders people and occluders to files, once. `sample` then composes a crop of
a face, of marks that hide nothing, of an occluder or two and of what cameras do to images: it
depends on its number alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from faceswap_cli import synthetic
from faceswap_cli.core.types import AnyArray, Image, Mask, Matrix
from faceswap_cli.faces.alignment import align_face, fit_affine_to_template
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.faces.occlusion import COVERAGE, INPUT_PX
from faceswap_cli.faces.types import FaceDetector
from faceswap_cli.pretraining.grimaces import draw_grimaces
from faceswap_cli.pretraining.pairs import RENDER_PX, SEED_OFFSET, VALIDATION_OFFSET
from faceswap_cli.synthetic import HeadModel
from faceswap_cli.synthetic.geometry import soft_noise
from faceswap_cli.synthetic.occluders import (
    OccluderLayer,
    cover_crop,
    random_mark,
    random_occluder,
)
from faceswap_cli.training.dataset import derive_seed, map_array, write_array

DATA_VERSION = 2
"""Part of the digest: a change of what is drawn invalidates every older file."""
CROP_PX = round(INPUT_PX / COVERAGE)
"""Side of the drawn crops: those of the network's own scale, with a margin to move them in."""
MARK_PROB, OCCLUDER_PROB, SECOND_PROB = 0.45, 0.82, 0.25
"""How often a face has marks, has something before it, and then something else as well."""
MAX_ANGLE, MAX_LOG_SCALE, MAX_LOG_ASPECT, MAX_SHIFT = 14.0, 0.16, 0.07, 0.05
"""Augmentation: degrees, and parts of the side."""
CHIN_PART = 0.35
"""Part of a face's height, from below, in which its outline is convex."""
ROOM_PROB = 0.4
"""How often the room behind a head is replaced by any texture."""
GRAY_PROB, JPEG_PROB = 0.08, 0.5
"""How often a crop is black and white, and how often it is compressed."""
FOLDS_PROB, FOLDS_NODES, FOLDS_STD = 0.6, (5, 24), (0.05, 0.3)
"""How often skin has drawn folds, their nodes along a side, and the deviation of the logarithm of
its brightness."""
FAR_PROB, FAR_PX = 0.2, (24, 64)
"""How often a face is far away, and the side of its crop then."""
BEND_PROB, BEND_NODES, BEND_PART = 0.5, (3, 7), 0.025
"""How often a crop is bent, its nodes along a side, and the deviation, as a part of the side."""

Faces = npt.NDArray[np.uint8]
"""uint8 (N, S, S, 5): RGB, the mask of the face and that of the head."""
DrawCrops = Callable[[int, int, FaceDetector], Iterator[tuple[AnyArray, AnyArray]]]
"""`draw(seed, moments, detector)`: a person's crops with masks, and maps from an average face."""
Layers = npt.NDArray[np.uint8]
"""uint8 (N, S, S, 5): RGB, opacity, and in the last one whether it is worn."""


@dataclass(frozen=True, kw_only=True)
class OcclusionSize:
    """How much is drawn."""

    people: int = 160
    validation_people: int = 24
    """People that training never sees."""
    mesh_people: int = 120
    """People of a mesh, who grimace."""
    validation_mesh_people: int = 16
    moments: int = 10
    """Moments of each."""
    occluders: int = 4_000
    validation_occluders: int = 400
    """Occluders that training never sees."""
    marks: int = 800
    seed: int = 0

    @property
    def digest(self) -> str:
        """16 hex digits that change with anything that the files depend on."""
        text = json.dumps({**asdict(self), "version": DATA_VERSION, "px": CROP_PX}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def person_seeds(self, *, is_validation: bool = False) -> list[int]:
        """Return the seeds of the people, from `SEED_OFFSET` on."""
        return self._seeds("masked person", self.people, self.validation_people, is_validation)

    def mesh_person_seeds(self, *, is_validation: bool = False) -> list[int]:
        """Return the seeds of the people of a mesh, from `SEED_OFFSET` on."""
        counts = self.mesh_people, self.validation_mesh_people
        return self._seeds("masked mesh person", *counts, is_validation)

    def occluder_seeds(self, *, is_validation: bool = False) -> list[int]:
        """Return the seeds of the occluders, from `SEED_OFFSET` on."""
        counts = self.occluders, self.validation_occluders
        return self._seeds("occluder", *counts, is_validation)

    def mark_seeds(self, *, is_validation: bool = False) -> list[int]:
        """Return the seeds of the marks, from `SEED_OFFSET` on."""
        return self._seeds("mark", self.marks, self.marks // 10, is_validation)

    def _seeds(self, purpose: str, count: int, validation: int, is_validation: bool) -> list[int]:
        first = VALIDATION_OFFSET if is_validation else 0
        numbers = range(first, first + (validation if is_validation else count))
        return [SEED_OFFSET + derive_seed(self.seed, number, purpose) for number in numbers]


@dataclass(frozen=True, kw_only=True, eq=False)
class OcclusionData:
    """What crops are composed of, mapped from files."""

    faces: Faces
    face_maps: AnyArray
    """float32 (N, 2, 3): from an average face's crop to each one, px."""
    mesh_faces: Faces
    """People of a mesh, uint8 (N, S, S, 6); the last channel is their hair and glasses."""
    mesh_maps: AnyArray
    occluders: Layers
    marks: Layers
    seed: int
    is_rough: bool = False
    """Whether skin has folds, and faces are far away, now and then, as in footage."""
    has_whole_chins: bool = True
    """Whether the underside of a chin belongs to the face, although a true swap ends there."""
    mesh_prob: float = 0.0
    """How often a crop shows a person of a mesh."""
    is_bent: bool = False
    """Whether faces are bent smoothly, now and then, as grimaces do."""

    @classmethod
    def draw(
        cls, size: OcclusionSize, folder: Path, *, is_validation: bool = False
    ) -> Iterator[tuple[int, int]]:
        """Draw what is missing; yield how many people and layers are drawn, and of how many.

        Raises:
            InputError: A file cannot be written.
        """
        root = _folder(folder, size, is_validation)
        people: dict[tuple[str, str], tuple[list[int], DrawCrops]] = {
            ("faces", "maps"): (size.person_seeds(is_validation=is_validation), draw_person),
            ("mesh-faces", "mesh-maps"): (
                size.mesh_person_seeds(is_validation=is_validation),
                partial(draw_grimaces, render_px=RENDER_PX, crop_px=CROP_PX),
            ),
        }
        kinds = {
            "occluders": (size.occluder_seeds(is_validation=is_validation), random_occluder),
            "marks": (size.mark_seeds(is_validation=is_validation), random_mark),
        }
        total = sum(len(seeds) for seeds, _ in (*people.values(), *kinds.values()))
        done = 0
        for name, (seeds, draw) in kinds.items():
            if not (root / f"{name}.npy").exists():
                layers = []
                for seed in seeds:
                    layers.append(pack_layer(draw(seed, CROP_PX)))
                    yield (done := done + 1), total
                _save(root / f"{name}.npy", np.stack(layers))
        for (name, maps_name), (seeds, draw_crops) in people.items():
            if (root / f"{name}.npy").exists():
                continue
            faces: list[AnyArray] = []
            maps: list[AnyArray] = []
            with LOCATION_DETECTORS["litert"]() as detector:
                for seed in seeds:
                    for face, to_face in draw_crops(seed, size.moments, detector):
                        faces.append(face)
                        maps.append(to_face)
                    yield (done := done + 1), total
            _save(root / f"{maps_name}.npy", np.stack(maps))
            _save(root / f"{name}.npy", np.stack(faces))

    @classmethod
    def load(
        cls,
        size: OcclusionSize,
        folder: Path,
        *,
        is_validation: bool = False,
        is_rough: bool = False,
        has_whole_chins: bool = True,
        mesh_prob: float = 0.0,
        is_bent: bool = False,
    ) -> "OcclusionData":
        """Map the files of what was drawn.

        Raises:
            InputError: One is missing or damaged.
        """
        root = _folder(folder, size, is_validation)
        return cls(
            faces=map_array(root / "faces.npy"),
            face_maps=map_array(root / "maps.npy"),
            mesh_faces=map_array(root / "mesh-faces.npy"),
            mesh_maps=map_array(root / "mesh-maps.npy"),
            occluders=map_array(root / "occluders.npy"),
            marks=map_array(root / "marks.npy"),
            seed=size.seed + (VALIDATION_OFFSET if is_validation else 0),
            is_rough=is_rough,
            has_whole_chins=has_whole_chins,
            mesh_prob=mesh_prob,
            is_bent=is_bent,
        )

    def sample(self, number: int, side_px: int = INPUT_PX) -> "OccludedSample":
        """Return the crop of a number, as a network of `side_px` gets it."""
        rng = np.random.default_rng(derive_seed(self.seed, number, "occluded sample"))
        is_mesh = self.mesh_prob > 0 and self._is_mesh(number)
        faces, maps = (self.mesh_faces, self.mesh_maps) if is_mesh else (self.faces, self.face_maps)
        index = int(rng.integers(len(faces)))
        to_crop, to_face = random_move(rng, side_px), maps[index].astype(np.float64)
        packed = faces[index]
        image: Image = move_levels(packed[..., :3], to_crop, side_px)
        levels = packed[..., 3:]
        if self.has_whole_chins:
            levels = np.dstack([complete_chin(levels[..., :2]), levels[..., 2:]])
        masks = move_levels(levels, to_crop, side_px)
        if self.is_bent and rng.uniform() < BEND_PROB:
            image, masks = _bend(image, masks, rng)
        face: Mask = masks[..., 0].astype(np.float32) / np.float32(255)
        seen = face * (1 - masks[..., 2].astype(np.float32) / np.float32(255)) if is_mesh else face
        if rng.uniform() < ROOM_PROB:
            image = _replace_room(image, masks[..., 1], rng)
        if rng.uniform() < MARK_PROB:
            mark = unpack_layer(_choose(self.marks, rng), hides=False)
            image = cover_crop(image, seen, mark, rng, to_face=to_face, to_crop=to_crop).image
        if self.is_rough and rng.uniform() < FOLDS_PROB:
            image = _fold_skin(image, seen, rng)
        visible = seen
        if rng.uniform() < OCCLUDER_PROB:
            for _ in range(1 + (rng.uniform() < SECOND_PROB)):
                layer = unpack_layer(_choose(self.occluders, rng), hides=True)
                covered = cover_crop(image, visible, layer, rng, to_face=to_face, to_crop=to_crop)
                image, visible = covered.image, covered.visible
        if self.is_rough and rng.uniform() < FAR_PROB:
            image = _move_away(image, rng)
        return OccludedSample(image=record_image(image, rng), visible=visible, face=face)

    def _is_mesh(self, number: int) -> bool:
        """Return whether the crop of a number shows a person of a mesh."""
        rng = np.random.default_rng(derive_seed(self.seed, number, "kind of person"))
        return bool(rng.uniform() < self.mesh_prob)


@dataclass(frozen=True, kw_only=True, eq=False)
class OccludedSample:
    """One crop, as the network gets it, and its truth."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    visible: Mask
    """float32 (S, S): 1 where the face is seen."""
    face: Mask
    """float32 (S, S): 1 where it is, seen or not."""


def draw_person(
    seed: int, moments: int, detector: FaceDetector
) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Yield a person's crops with masks, uint8 (S, S, 5), and maps from an average face (2, 3)."""
    head = HeadModel.from_person(synthetic.random_person(seed))
    for scene in synthetic.random_scenes(seed, moments):
        frame = synthetic.render_frame(head, scene, RENDER_PX)
        if not (found := detector.detect(frame.image)):
            continue
        alignment = align_face(found[0].landmarks)
        to_crop = alignment.frame_to_crop(CROP_PX)
        masks = np.dstack([frame.face_mask, frame.head_mask])
        moved = cv2.warpAffine(masks, to_crop, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR)
        levels = np.round(moved * 255).astype(np.uint8)
        to_face = fit_affine_to_template(found[0].landmarks, alignment, CROP_PX)
        yield np.dstack([alignment.crop(frame.image, CROP_PX), levels]), to_face


def complete_chin(masks: AnyArray) -> AnyArray:
    """Return the masks of a face and its head, uint8 (S, S, 2), the face with all of its chin.

    A true swap fades out below the chin, which is seen where somebody looks up.
    """
    face, head = masks[..., 0], masks[..., 1]
    inside = np.argwhere(face > 127)[:, ::-1]
    if len(inside) < 3:
        return masks
    top, bottom = inside[:, 1].min(), inside[:, 1].max()
    lower = inside[inside[:, 1] > bottom - CHIN_PART * (bottom - top)]
    hull = np.zeros_like(face)
    cv2.fillConvexPoly(hull, cv2.convexHull(lower.astype(np.int32)), 255)
    soft = cv2.GaussianBlur(np.minimum(hull, head), (3, 3), 0)
    return np.dstack([np.maximum(face, np.minimum(soft, hull)), head])


def pack_layer(layer: OccluderLayer) -> AnyArray:
    """Return a layer as uint8 (S, S, 5)."""
    worn = np.full(layer.pixels.shape[:2], 255 * layer.is_worn, np.uint8)
    return np.dstack([layer.pixels, worn])


def unpack_layer(packed: AnyArray, *, hides: bool) -> OccluderLayer:
    """Return the layer of `pack_layer`."""
    return OccluderLayer(pixels=packed[..., :4], is_worn=bool(packed[0, 0, 4]), hides=hides)


def _choose(layers: Layers, rng: np.random.Generator) -> AnyArray:
    chosen: AnyArray = layers[int(rng.integers(len(layers)))]
    return chosen


def _replace_room(image: Image, head: AnyArray, rng: np.random.Generator) -> Image:
    """Return the head before a texture."""
    nodes = int(rng.integers(2, 14))
    grid = rng.uniform(0, 255, (nodes, nodes, 3)).astype(np.uint8)
    how = cv2.INTER_NEAREST if rng.uniform() < 0.3 else cv2.INTER_CUBIC
    room = cv2.resize(grid, image.shape[:2], interpolation=how)
    weight = (head.astype(np.float32) / 255)[..., None]
    return np.asarray(room + (image.astype(np.float32) - room) * weight, np.uint8)


def _bend(image: Image, masks: AnyArray, rng: np.random.Generator) -> tuple[Image, AnyArray]:
    """Return an image and its masks with pixels moved a little, smoothly."""
    side = image.shape[0]
    nodes = int(rng.integers(*BEND_NODES))
    strength = np.float32(side * BEND_PART * rng.uniform(0, 2))
    across, down = (strength * soft_noise(rng, (side, side), ((nodes, 1.0),)) for _ in range(2))
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bent = [
        cv2.remap(one, x + across, y + down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for one in (image, masks)
    ]
    return np.asarray(bent[0], np.uint8), np.asarray(bent[1], np.uint8)


def _fold_skin(image: Image, face: Mask, rng: np.random.Generator) -> Image:
    """Return a face with smooth light and dark folds, of which renderings have none."""
    nodes = int(rng.integers(*FOLDS_NODES))
    noise = soft_noise(rng, face.shape, ((nodes, 1.0), (2 * nodes, 0.5)))
    gain = np.exp(noise * np.float32(rng.uniform(*FOLDS_STD)))
    folded = image * (1 + (gain - 1) * face)[..., None]
    return np.asarray(np.minimum(folded + np.float32(0.5), 255), np.uint8)


def _move_away(image: Image, rng: np.random.Generator) -> Image:
    """Return an image with few pixels, enlarged again."""
    side = int(rng.integers(*FAR_PX))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR))


def move_levels(levels: AnyArray, matrix: Matrix, side_px: int) -> AnyArray:
    """Return levels (S, S, C) moved to a square of `side_px`; its edge is continued."""
    size = (side_px, side_px)
    return np.asarray(cv2.warpAffine(levels, matrix, size, borderMode=cv2.BORDER_REPLICATE))


def record_image(image: Image, rng: np.random.Generator) -> Image:
    """Return an image as a camera stores it: in its own colors, and compressed."""
    gain = rng.uniform(0.75, 1.2, 3).astype(np.float32)
    if rng.uniform() < GRAY_PROB:
        gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
        image = np.repeat(gray[..., None], 3, axis=2)
    image = np.asarray(np.minimum(image * gain + np.float32(0.5), 255), np.uint8)
    if rng.uniform() < JPEG_PROB:
        quality = int(rng.integers(15, 90))
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return image


def random_move(rng: np.random.Generator, side_px: int) -> Matrix:
    """Return the affine map from a drawn crop's px to those of an input of `side_px`."""
    angle = np.radians(rng.uniform(-MAX_ANGLE, MAX_ANGLE))
    scale = np.exp(rng.uniform(-MAX_LOG_SCALE, MAX_LOG_SCALE)) * side_px / INPUT_PX
    aspect = np.exp(rng.uniform(-MAX_LOG_ASPECT, MAX_LOG_ASPECT))
    mirror = -1 if rng.uniform() < 0.5 else 1
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = linear @ np.diag([mirror * aspect, 1 / aspect])
    center = np.full(2, (CROP_PX - 1) / 2)
    middle = np.full(2, (side_px - 1) / 2) + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * side_px
    return np.column_stack([linear, middle - linear @ center])


def _folder(folder: Path, size: OcclusionSize, is_validation: bool) -> Path:
    return folder / f"{size.digest}-{'validation' if is_validation else 'training'}"


def _save(path: Path, array: AnyArray) -> None:
    write_array(path, [array.tobytes()], shape=array.shape, dtype=array.dtype)
