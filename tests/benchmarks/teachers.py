"""Which synthetic people teach better, and what in them does.

    python tests/benchmarks/teachers.py --folder DIR [--only NAME ...] [--seed 0] [--real SET ...]

Each row of `ROWS` draws equally many people and moments, and pretrains `light` on as many pairs:
ten minutes of processor time a row. Rows differ in one thing, so that a table says what it did. The
weights stay in the folder; what they are worth to real people shows in a training that begins with
them, equally long for all:

    faceswap train A B --model autoencoder --init-from DIR/mesh-0.safetensors --max-images 6000
        --set model.detail_px=0

With `--footage`, folders of face sets, there is a row more, `mesh-footage`: poses and coefficients
of that footage, less those of the face at rest, in random light.

Rows of `INPUT_ROWS` take the crops of `mesh` and leave a part of `degrade` out, or add one.

With `--real`, folders of face sets of real people, the base itself is measured as well: how much of
what they do the mean person does whom it draws of them. Weights that are in the folder are not
taught again.

Repeat a row with another seed to learn what chance does: a smaller difference is no finding.
"""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

import cv2
import numpy as np
import torch
from torch import Tensor

from faceswap_cli import heads, synthetic
from faceswap_cli.cli.console import Terminal
from faceswap_cli.core.hardware import find_hardware, limit_threads
from faceswap_cli.core.image_io import read_image, resize_square
from faceswap_cli.core.types import AnyArray, Image
from faceswap_cli.faces.dataset import FaceSet, read_records
from faceswap_cli.faces.detectors import LOCATION_DETECTORS
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face, FaceDetector
from faceswap_cli.heads import HeadScene
from faceswap_cli.pretraining import loader as pretraining_loader
from faceswap_cli.pretraining.drawing import (
    crop_group,
    draw_person,
    draw_scenes,
)
from faceswap_cli.pretraining.loader import PairLoader
from faceswap_cli.pretraining.mesh_groups import with_ellipsoid_expressions
from faceswap_cli.pretraining.pairs import (
    RENDER_PX,
    SEED_OFFSET,
    VALIDATION_OFFSET,
    Group,
    PairSettings,
    SwapPairs,
)
from faceswap_cli.pretraining.recipe import build_pretrain_model, resolve_pretrain_recipe
from faceswap_cli.pretraining.score import score_pairs
from faceswap_cli.training.checkpoint import load_weights, save_weights
from faceswap_cli.training.dataset import POOLED_IDENTITY, derive_seed, pack_masks
from faceswap_cli.training.schedule import warmup_factor
from faceswap_cli.training.trainer import Trainer
from faceswap_models import degradation
from faceswap_models.base import SwapModel, TrainProgress
from faceswap_models.modulated import ModulatedAutoencoder
from faceswap_models.tensors import to_images, to_tensor

SETTINGS = PairSettings(groups=40, validation_groups=4, moments=20)
REAL_FACES = 80
"""Faces of a set that a base is measured on, evenly over it."""
READ_BORDER = 0.22
"""What a crop is padded by before it is read, as a part of its side: faces fill it."""
TRAITS = ("yaw", "pitch", "jawOpen", "mouthSmile", "mouthPucker", "eyeBlink")
"""What a base is to keep of real faces: poses and blendshapes, means of both sides."""
PERFORMANCE_S = 12.0
"""Duration of an invented performance, of which the moments are a part."""

DrawGroup = Callable[[PairSettings, int, FaceDetector], Group]
HeadScenes = Callable[[int, int], Sequence[HeadScene]]
"""Returns as many scenes of mesh people as are asked for, by a seed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is drawn, and how much of it."""

    draw: DrawGroup
    settings: PairSettings = SETTINGS
    changes: Mapping[str, object] = field(default_factory=dict)
    """Constants of `degradation` by name."""
    degrade: Callable[..., Tensor] = degradation.degrade
    """What inputs go through."""

    @property
    def is_drawn(self) -> bool:
        """Whether it has crops of its own, not those of `mesh`."""
        return not self.changes and self.degrade is degradation.degrade


def draw_mesh(
    scenes: HeadScenes = heads.random_head_scenes,
    change: Callable[[heads.HeadPerson], heads.HeadPerson] = lambda person: person,
) -> DrawGroup:
    """Return a function that draws groups of mesh people; seeded by numbers.

    Args:
        scenes: What they do, and in which light.
        change: Applied to every person.
    """

    def draw(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
        moments = scenes(SEED_OFFSET + group, settings.moments)

        def render_person(number: int) -> Iterator[Image]:
            person = change(heads.random_head_person(SEED_OFFSET + number))
            head = heads.HeadModel.from_person(person)
            return (heads.render_head(head, scene, RENDER_PX).image for scene in moments)

        return crop_group(settings, map(render_person, settings.person_numbers(group)), detector)

    return draw


def draw_ellipsoids(
    change: Callable[[synthetic.SceneParams], synthetic.SceneParams],
) -> DrawGroup:
    """Return a function that draws groups of ellipsoid people, in changed scenes."""

    def draw(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
        moments = [change(scene) for scene in draw_scenes(settings, group)]

        def render_person(number: int) -> Iterator[Image]:
            head = synthetic.HeadModel.from_person(draw_person(settings, number))
            return (synthetic.render_frame(head, scene, RENDER_PX).image for scene in moments)

        return crop_group(settings, map(render_person, settings.person_numbers(group)), detector)

    return draw


def draw_by_turns(*kinds: DrawGroup) -> DrawGroup:
    """Return a function that draws each group with the next of some kinds.

    A validation group has people of a training group, so it takes the kind of that one.
    """

    def draw(settings: PairSettings, group: int, detector: FaceDetector) -> Group:
        return kinds[group % VALIDATION_OFFSET % len(kinds)](settings, group, detector)

    return draw


def with_wide_expressions(seed: int, count: int) -> Sequence[HeadScene]:
    """Return random scenes of mesh people with expressions of ellipsoid people's."""
    return with_ellipsoid_expressions(heads.random_head_scenes(seed, count), seed)


def in_ellipsoid_scenes(seed: int, count: int) -> Sequence[HeadScene]:
    """Return these with the poses, lamps and cameras of ellipsoid people besides."""
    scenes = []
    for scene, params in zip(
        with_wide_expressions(seed, count), synthetic.random_scenes(seed, count), strict=True
    ):
        lamp = heads.Lamp(direction=params.light, color=_scaled((0.9, 0.88, 0.84), params.key))
        scenes.append(
            replace(
                scene,
                yaw=params.yaw,
                pitch=params.pitch,
                roll=params.roll,
                shift=params.shift,
                scale=params.scale,
                lamps=(lamp,),
                sky=_scaled((0.97, 1.0, 1.03), params.ambient),
                ground=_scaled((0.58, 0.60, 0.62), params.ambient),
                camera=heads.CameraTraits(noise=params.noise),
            )
        )
    return scenes


def _scaled(color: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    red, green, blue = color
    return red * factor, green * factor, blue * factor


def in_plain_light(seed: int, count: int) -> Sequence[HeadScene]:
    """Return random scenes of mesh people, all in the same light before the same camera."""
    plain = HeadScene()
    return [
        replace(scene, lamps=plain.lamps, sky=plain.sky, ground=plain.ground, camera=plain.camera)
        for scene in heads.random_head_scenes(seed, count)
    ]


def in_one_room(seed: int, count: int) -> Sequence[HeadScene]:
    """Return random scenes of mesh people, all before the same background."""
    return [replace(scene, background=1) for scene in heads.random_head_scenes(seed, count)]


def from_footage(folders: Sequence[Path]) -> HeadScenes:
    """Return a function that gives moments of footage, less the face at rest, in random light.

    Args:
        folders: Of face sets, with `faces.jsonl`.
    """
    performances = [
        heads.performance_from_records(list(read_records(folder / "faces.jsonl")))
        for folder in folders
    ]

    def scenes(seed: int, count: int) -> Sequence[HeadScene]:
        rng = np.random.default_rng(seed)
        performance = performances[seed % len(performances)]
        chosen = [performance[int(at)] for at in rng.integers(0, len(performance), count)]
        return [
            replace(
                place,
                yaw=one.yaw,
                pitch=one.pitch,
                roll=one.roll,
                blendshapes=one.blendshapes,
                gaze=None,
            )
            for place, one in zip(heads.random_head_scenes(seed, count), chosen, strict=True)
        ]

    return scenes


def draw_aligned_mesh(settings: PairSettings, group: int, _: FaceDetector) -> Group:
    """Draw a group of mesh people whose crops and masks the mesh itself gives, not a detector."""
    moments = heads.random_head_scenes(SEED_OFFSET + group, settings.moments)
    crops = np.zeros(settings.group_shape, np.uint8)
    for column, number in enumerate(settings.person_numbers(group)):
        head = heads.HeadModel.from_person(heads.random_head_person(SEED_OFFSET + number))
        for row, scene in enumerate(moments):
            rendered = heads.render_head(head, scene, RENDER_PX)
            face, eyes, mouth = (rendered.masks[name] for name in ("face", "eyes", "mouth"))
            planes = np.dstack([face, cv2.dilate(np.maximum(eyes, mouth), np.ones((5, 5)))])
            levels = np.round(255 * np.dstack([planes, np.zeros_like(face)])).astype(np.uint8)
            masks = rendered.alignment.crop(levels, settings.side_px).astype(np.float32) / 255
            image = rendered.alignment.crop(rendered.image, settings.side_px)
            crops[row, column] = np.dstack([image, pack_masks(masks[..., 0], masks[..., 1])])
    return crops


def from_performances(seed: int, count: int) -> Sequence[HeadScene]:
    """Return moments of an invented performance, evenly over its time: one place, one light."""
    scenes = heads.invent_performance(seed, seconds=PERFORMANCE_S)
    return [scenes[int(at)] for at in np.linspace(0, len(scenes) - 1, count)]


def without_covers(person: heads.HeadPerson) -> heads.HeadPerson:
    """Return the person without beard, mustache and glasses."""
    face = replace(person.face, beard_cm=0.0, mustache_cm=0.0, stubble=0.0)
    return replace(person, face=face, head=replace(person.head, glasses=0.0))


def without_fringe(person: heads.HeadPerson) -> heads.HeadPerson:
    """Return the person with a bare forehead."""
    hair = replace(person.head.hair, fringe_cm=0.0)
    return replace(person, head=replace(person.head, hair=hair))


def with_still_eyes(params: synthetic.SceneParams) -> synthetic.SceneParams:
    """Return the scene with open eyes that look ahead."""
    return replace(params, blink=0.0, gaze=(0.0, 0.0))


def degrade_and_compress(images: Tensor, *, seed: int) -> Tensor:
    """Return images (B, 3, S, S) in [-1, 1], degraded, and half of them compressed as JPEG."""
    degraded = degradation.degrade(images, seed=seed)
    random = np.random.default_rng(seed)
    levels = to_images(degraded)
    for index in range(len(levels)):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(20, 80))]
        if random.uniform() < 0.5:
            _, encoded = cv2.imencode(".jpg", levels[index][..., ::-1], quality)
            levels[index] = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    return to_tensor(list(levels))


ELLIPSOIDS = draw_ellipsoids(lambda scene: scene)
MESH = draw_mesh()
ROWS: dict[str, Row] = {
    "ellipsoids": Row(draw=ELLIPSOIDS),
    "mesh": Row(draw=MESH),
    "half-mesh": Row(draw=draw_by_turns(MESH, ELLIPSOIDS)),
    "mesh-expressions": Row(draw=draw_mesh(with_wide_expressions)),
    "mesh-scenes": Row(draw=draw_mesh(in_ellipsoid_scenes)),
    "mesh-performances": Row(draw=draw_mesh(from_performances)),
    "mesh-plain-light": Row(draw=draw_mesh(in_plain_light)),
    "mesh-one-room": Row(draw=draw_mesh(in_one_room)),
    "mesh-aligned": Row(draw=draw_aligned_mesh),
    "mesh-bare": Row(draw=draw_mesh(change=without_covers)),
    "mesh-without-fringes": Row(draw=draw_mesh(change=without_fringe)),
    "still-eyes": Row(draw=draw_ellipsoids(with_still_eyes)),
    "few-people": Row(draw=ELLIPSOIDS, settings=replace(SETTINGS, groups=16, moments=50)),
    "many-people": Row(draw=ELLIPSOIDS, settings=replace(SETTINGS, groups=160, moments=5)),
}
"""What is drawn, by a name for the file."""
NO_LIGHT = {"MAX_LOG_GAMMA": 0.0, "SATURATION": (1.0, 1.0), "SHADING_PROB": 0.0}
INPUT_ROWS: dict[str, Row] = {
    "inputs-without-light": Row(draw=MESH, changes=NO_LIGHT),
    "inputs-without-blur": Row(draw=MESH, changes={"BLUR_PROB": 0.0}),
    "inputs-without-grain": Row(draw=MESH, changes={"NOISE_PROB": 0.0}),
    "inputs-clean": Row(draw=MESH, changes=NO_LIGHT | {"BLUR_PROB": 0.0, "NOISE_PROB": 0.0}),
    "inputs-compressed": Row(draw=MESH, degrade=degrade_and_compress),
}
"""Inputs that are changed in another way."""
ROWS |= INPUT_ROWS
FOOTAGE = "mesh-footage"
"""The row that `--footage` adds."""


def draw(name: str, folder: Path, terminal: Terminal) -> SwapPairs:
    """Return the crops of a row; groups that are in the folder are not drawn again."""
    row, groups = ROWS[name], []
    numbers = row.settings.group_numbers
    terminal.start_task(f"drawing {name}", total=len(numbers), unit="groups")
    with LOCATION_DETECTORS["litert"]() as detector:
        for number in numbers:
            path = folder / (name if row.is_drawn else "mesh") / f"{number:06d}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, row.draw(row.settings, number, detector))
            groups.append(np.load(path, mmap_mode="r"))
            terminal.update(len(groups))
    return SwapPairs(settings=row.settings, groups=groups)


def teach(pairs: SwapPairs, path: Path, *, seed: int, max_images: int, terminal: Terminal) -> str:
    """Pretrain on pairs, write the weights, and return the score on validation pairs as JSON."""
    recipe, hardware = resolve_pretrain_recipe("light", ()), find_hardware("cpu")
    loader = PairLoader(
        pairs,
        model=recipe.model,
        train=recipe.train,
        seed=seed,
        device=hardware.device,
        identity=POOLED_IDENTITY,
    )
    model = build_pretrain_model(recipe, num_people=loader.num_people, seed=seed)
    trainer = Trainer(model.train(), recipe.train, hardware)
    terminal.start_task(f"teaching {path.stem}", total=max_images, unit="pairs")
    for seen in range(0, max_images, loader.images_per_step):
        torch.manual_seed(derive_seed(seed, seen, "step"))
        rate = trainer.schedule(seen / max_images)
        trainer.step(
            loader.batch(seen),
            TrainProgress(images_seen=seen, max_images=max_images),
            lr_scale=rate * warmup_factor(seen, recipe.train.warmup_images),
            images=loader.images_per_step,
        )
        terminal.update(seen)
    save_weights(
        path,
        trainer.export_weights(),
        recipe=recipe,
        identities=(POOLED_IDENTITY,),
        images_seen=max_images,
    )
    with trainer.ema_weights() as averaged:
        assert isinstance(averaged, ModulatedAutoencoder)
        return json.dumps(asdict(score_pairs(averaged, loader)))


def measure_transfer(model: SwapModel, folder: Path, detector: FaceDetector) -> str:
    """Draw a set's real faces as the mean person; return how both agree, as JSON.

    Correlations over the faces are 1 where the mean person does what they do, whatever either looks
    like at rest.

    Args:
        model: A base.
        folder: The set's, with `faces.jsonl`.
        detector: An open detector, with blendshapes.
    """
    faces = FaceSet.load(folder.name, folder=folder, records=folder / "faces.jsonl")
    chosen = np.linspace(0, len(faces) - 1, min(REAL_FACES, len(faces))).astype(int)
    pairs = []
    for index in chosen:
        crop = resize_square(read_image(folder / faces.records[index].file), SETTINGS.side_px)
        before = _read_face(crop, detector)
        after = _read_face(draw_mean_person(model, crop), detector)
        if before and after:
            pairs.append((before, after))
    traits = np.array([[[_trait(one, name) for name in TRAITS] for one in pair] for pair in pairs])
    scores = [
        round(_correlation(traits[:, :, column]), 2)
        for column in range(len(TRAITS) if pairs else 0)
    ]
    named = dict(zip(TRAITS, scores, strict=False))  # without a face there are none
    return json.dumps({"set": folder.name, "faces": len(pairs), **named})


def draw_mean_person(model: SwapModel, crop: Image) -> Image:
    """Return a crop whose middle is what the base draws of it."""
    side = round(len(crop) * model.model_settings.coverage / 2) * 2
    start = (len(crop) - side) // 2
    middle = (slice(start, start + side),) * 2
    with torch.inference_mode():
        inputs = to_tensor([resize_square(crop[middle], model.model_settings.size_px)])
        drawn = to_images(model.swap(inputs, POOLED_IDENTITY).image)[0]
    changed = crop.copy()
    changed[middle] = resize_square(drawn, side)
    return changed


def _read_face(crop: Image, detector: FaceDetector) -> Face | None:
    """Return the face of a crop, if one is found."""
    border = (round(len(crop) * READ_BORDER),) * 4
    found = detector.detect(cv2.copyMakeBorder(crop, *border, cv2.BORDER_REPLICATE))
    return found[0] if found else None


def _trait(face: Face, name: str) -> float:
    if name in ("yaw", "pitch"):
        return face.pose[("yaw", "pitch").index(name)]
    sides = [number for number, one in enumerate(BLENDSHAPE_NAMES) if one.startswith(name)]
    return float(np.mean([face.blendshapes[side] for side in sides]))


def _correlation(values: AnyArray) -> float:
    """Return the correlation of columns (N, 2); 0 where one of them is the same in all rows."""
    before, after = values.T - values.mean(0)[:, None]
    scale = float(np.linalg.norm(before) * np.linalg.norm(after))
    return float(before @ after) / scale if scale else 0.0


def main() -> None:
    """Draw, teach, measure, and print lines for each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=list(ROWS), metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="of the training, not of the people")
    parser.add_argument("--pairs", type=int, default=16_000)
    parser.add_argument("--real", type=Path, nargs="+", default=[], metavar="SET")
    parser.add_argument("--footage", type=Path, nargs="+", default=[], metavar="SET")
    options = parser.parse_args()
    if options.footage:
        ROWS[FOOTAGE] = Row(draw=draw_mesh(from_footage(options.footage)))
    if unknown := set(options.only) - set(ROWS):
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    terminal = Terminal()
    with limit_threads(1), LiteRTDetector() as detector:
        for name in options.only:
            path = options.folder / f"{name}-{options.seed}.safetensors"
            if not path.exists():
                pairs = draw(name, options.folder, terminal)
                with ExitStack() as stack:
                    for constant, value in ROWS[name].changes.items():
                        stack.enter_context(patch.object(degradation, constant, value))
                    stack.enter_context(
                        patch.object(pretraining_loader, "degrade", ROWS[name].degrade)
                    )
                    score = teach(
                        pairs, path, seed=options.seed, max_images=options.pairs, terminal=terminal
                    )
                print(name, score, flush=True)
            model = load_weights(path, torch.device("cpu")).model.eval()
            for folder in options.real:
                print(name, measure_transfer(model, folder, detector), flush=True)


if __name__ == "__main__":
    main()
