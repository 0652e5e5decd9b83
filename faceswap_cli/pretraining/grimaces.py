"""Crops of people of a mesh who grimace in hard light, with exact masks.

The ellipsoid people hardly move: these pucker, pull their jaws aside and wrinkle. What their own
hair and glasses hide is known. Main entry point: `draw_grimaces`.
"""

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np

from faceswap_cli import heads
from faceswap_cli.core.types import AnyArray, Mask
from faceswap_cli.faces.alignment import align_face, fit_affine_to_template
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, FaceDetector
from faceswap_cli.heads import HeadModel, HeadPerson, HeadScene, Lamp, RenderedHead
from faceswap_cli.heads.random_scenes import both_sides, random_head_scene, to_table
from faceswap_cli.synthetic.geometry import Floats

GLASSES_PROB, METAL_PROB = 0.3, 0.6
"""How often somebody wears glasses, and how often these have a thin frame of metal."""
CALM_PROB, HARD_LIGHT_PROB = 0.15, 0.4
"""How often somebody does what `random_head_scene` says, and how often one lamp is all light."""
STRONGEST = 1.3
"""Of a unit: MakeHuman's faces move less than real ones that grimace."""


GRIMACES: tuple[dict[str, float], ...] = (
    {"mouthPucker": 1.0},
    {"mouthPucker": 0.8, "mouthLeft": 0.9, "jawLeft": 0.4},
    {"mouthFunnel": 1.0, "jawOpen": 0.25},
    {"jawOpen": 1.0},
    {"jawOpen": 0.7, "jawLeft": 1.0, "mouthLeft": 0.7},
    {"jawLeft": 1.0, "mouthLeft": 0.8} | both_sides(mouthFrown=0.4),
    {"jawOpen": 0.5, "mouthClose": 0.5},
    {"jawForward": 1.0, "mouthShrugLower": 0.7} | both_sides(mouthFrown=0.6),
    {"jawOpen": 0.6, "mouthShrugUpper": 0.8} | both_sides(mouthUpperUp=0.8, noseSneer=0.8),
    {"cheekPuff": 1.0, "mouthPucker": 0.3},
    {"mouthRollLower": 0.9, "mouthRollUpper": 0.9} | both_sides(mouthPress=0.6),
    {"mouthShrugLower": 1.0, "mouthShrugUpper": 0.6},
    both_sides(mouthFrown=1.0, mouthStretch=0.6),
    {"jawOpen": 0.4} | both_sides(mouthStretch=1.0, mouthLowerDown=0.8),
    both_sides(mouthSmile=1.0, cheekSquint=0.7, mouthDimple=0.5),
    {"jawOpen": 0.5} | both_sides(mouthSmile=1.0, mouthUpperUp=0.7, cheekSquint=0.8, eyeSquint=0.6),
    both_sides(noseSneer=1.0, mouthUpperUp=0.7, browDown=0.6),
    {"mouthSmileLeft": 1.0, "mouthUpperUpLeft": 0.7, "noseSneerLeft": 0.7, "cheekSquintLeft": 0.6},
    {"jawOpen": 0.5, "mouthLowerDownLeft": 1.0, "mouthStretchLeft": 0.8, "mouthFrownLeft": 0.6},
    {"jawOpen": 0.9, "_neutral": 0.8} | both_sides(mouthLowerDown=0.4),
)
"""What faces do when they are made; sides are swapped half of the time."""


def random_grimace(rng: np.random.Generator) -> HeadScene:
    """Return a strong, often one-sided expression in any pose, light and camera."""
    scene = random_head_scene(rng)
    if rng.uniform() >= CALM_PROB:
        values = 0.4 * np.array(scene.blendshapes, np.float32)
        table = to_table(GRIMACES)
        for _ in range(1 + (rng.uniform() < 0.4)):
            shape = table[rng.integers(len(table))]
            values += rng.uniform(0.5, STRONGEST) * _mirror(shape, rng)
        scene = replace(scene, blendshapes=tuple(float(one) for one in values.clip(0, STRONGEST)))
    return _light_hard(scene, rng) if rng.uniform() < HARD_LIGHT_PROB else scene


def _mirror(values: Floats, rng: np.random.Generator) -> Floats:
    """Return coefficients (52,), left and right exchanged half of the time."""
    if rng.uniform() < 0.5:
        return values
    swap = {"Left": "Right", "Right": "Left"}
    order = []
    for name in BLENDSHAPE_NAMES:
        side = next((one for one in swap if name.endswith(one)), None)
        other = name.removesuffix(side) + swap[side] if side else name
        order.append(BLENDSHAPE_NAMES.index(other))
    mirrored: Floats = values[order]
    return mirrored


def _light_hard(scene: HeadScene, rng: np.random.Generator) -> HeadScene:
    """Return the scene with one lamp, from a side, from below or from above, and little else."""
    side = rng.choice([-1, 1])
    directions = (
        (side * rng.uniform(0.8, 1.6), rng.uniform(-0.3, 0.6), rng.uniform(0.0, 0.6)),
        (rng.uniform(-0.5, 0.5), -rng.uniform(0.6, 1.4), rng.uniform(0.4, 1.0)),
        (rng.uniform(-0.5, 0.5), rng.uniform(1.0, 2.0), rng.uniform(0.3, 0.8)),
    )
    strength, ambient = rng.uniform(0.7, 1.5), rng.uniform(0.06, 0.2)
    color = strength * (1 + rng.normal(0, 0.08, 3))
    lamp = Lamp(
        direction=directions[rng.integers(len(directions))],
        color=(float(color[0]), float(color[1]), float(color[2])),
        size=float(rng.uniform(0.05, 0.6)),
    )
    exposure = float(np.exp(rng.normal(0, 0.2)) * 0.95 / (0.4 * strength + ambient + 0.25))
    return replace(
        scene,
        lamps=(lamp,),
        sky=(ambient, ambient, 1.1 * ambient),
        ground=(0.7 * ambient, 0.65 * ambient, 0.6 * ambient),
        camera=replace(scene.camera, exposure=exposure),
    )


def grimacing_person(seed: int) -> HeadPerson:
    """Return the random person of a seed, more often with glasses, many of them of metal."""
    person = heads.random_head_person(seed)
    rng = np.random.default_rng((seed, 19))
    glasses, width = 0.0, 1.0
    if rng.uniform() < GLASSES_PROB:
        is_metal = rng.uniform() < METAL_PROB
        glasses = float(rng.uniform(0.02, 1))
        width = float(rng.uniform(0.25, 0.55) if is_metal else rng.uniform(0.7, 1.7))
    return replace(person, head=replace(person.head, glasses=glasses, frame_width=width))


def draw_grimaces(
    seed: int, moments: int, detector: FaceDetector, *, render_px: int, crop_px: int
) -> Iterator[tuple[AnyArray, AnyArray]]:
    """Yield a person's crops, uint8 (S, S, 6), and maps from an average face (2, 3).

    The channels are RGB, the face, the head, and the person's own hair and glasses.
    """
    head = HeadModel.from_person(grimacing_person(seed))
    rng = np.random.default_rng((seed, 23))
    for scene in [random_grimace(rng) for _ in range(moments)]:
        rendered = heads.render_head(head, scene, render_px)
        if not (found := detector.detect(rendered.image)):
            continue
        landmarks = found[0].landmarks
        alignment = align_face(landmarks)
        masks = cv2.warpAffine(
            np.dstack(_frame_masks(rendered)),
            alignment.frame_to_crop(crop_px),
            (crop_px, crop_px),
        )
        levels = face_levels(masks, face_mask(landmarks, alignment, crop_px))
        image = alignment.crop(rendered.image, crop_px)
        yield (
            np.dstack([image, levels]),
            fit_affine_to_template(landmarks, alignment, crop_px),
        )


def _frame_masks(rendered: RenderedHead) -> tuple[Mask, Mask, Mask]:
    """Return the face, the head, and what is in front of it, float32 (S, S) each."""
    masks = rendered.masks
    return masks["face"], masks["head"], np.maximum(masks["hair"], masks["glasses"])


def face_levels(masks: AnyArray, outline: Mask) -> AnyArray:
    """Return the whole face, the head, and what is in front of it, uint8 (S, S, 3).

    A true swap fades out at the temples and leaves the opening of a mouth. Both belong to the face
    here, as all of a head within the landmarks' outline does.

    Args:
        masks: The face without what is in front of it, the head, and that, float32 (S, S, 3).
        outline: The landmarks' outline, float32 (S, S).
    """
    face, head, front = (masks[..., one] for one in range(3))
    whole = np.maximum(face, np.minimum(outline, head))
    return np.asarray(np.round(np.dstack([whole, head, front]) * 255), np.uint8)
