"""Measure the mesh heads with detectors of real faces; render docs/pictures/heads.jpg.

    python tests/benchmarks/heads.py [--people 50] [--scenes 10] [--swaps 50] [--figure] [--gains]

Prints the figures of docs/guide/heads.md: faces found, poses and coefficients read against those
set, whether two networks tell the people apart, and whose face a true swap has.

What MediaPipe reads for a face at rest depends on the face, so coefficients are also compared less
what it read for the same person at rest. It takes every frame for one of a camera whose field of
view is 63 degrees, so poses are also read in frames padded to that field of view.
"""

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faceswap_cli.core.fileio import atomic_write
from faceswap_cli.core.model_files import find_model_file
from faceswap_cli.evaluation.metrics.external_models import DlibIdentity
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.embedding import SFace
from faceswap_cli.faces.head_pose import VERTICAL_FOV_DEG
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face
from faceswap_cli.heads import (
    HeadModel,
    HeadScene,
    blendshapes,
    invent_performance,
    random_head_person,
    random_head_scenes,
    render_head,
)
from faceswap_cli.heads.camera import view
from faceswap_cli.heads.pose import with_gaze

SIDE_PX = 256
FIGURE = Path(__file__).parents[2] / "docs/pictures/heads.jpg"
FIGURE_PEOPLE, FIGURE_COLUMNS, FIGURE_TILE_PX = 30, 6, 150
FIRST_SEED = 7000

MAIN = {
    "jawOpen": ("jawOpen",),
    "smile": ("mouthSmileLeft", "mouthSmileRight"),
    "pucker": ("mouthPucker",),
    "blink": ("eyeBlinkLeft", "eyeBlinkRight"),
    "brows up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "brows down": ("browDownLeft", "browDownRight"),
    "look left": ("eyeLookOutRight", "eyeLookInLeft"),
    "look right": ("eyeLookOutLeft", "eyeLookInRight"),
    "look up": ("eyeLookUpLeft", "eyeLookUpRight"),
    "look down": ("eyeLookDownLeft", "eyeLookDownRight"),
}
"""Rows of the short table, and the coefficients each is the mean of."""
LEVELS = (0.5, 1.0)
"""At which single units are set."""
GAINS_SEED = 9000
"""First seed of the people whom gains are fitted to: none of those whom they are judged on."""
GAIN_LEVELS = (0.35, 0.7, 1.05, 1.4)
WANTED = 0.7
"""What a unit set to this should be read as."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A rendered face, and what was read."""

    person: int
    scene: HeadScene
    face: Face
    rest: np.ndarray
    """What is read for the person at rest, (52,)."""
    framed_pose: tuple[float, float, float] | None
    """The pose, read in a frame of the camera that MediaPipe assumes."""
    embeddings: tuple[np.ndarray, ...]


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--figure", action="store_true", help="render the picture only")
    parser.add_argument("--gains", action="store_true", help="print what units lack only")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    if given.figure:
        write_figure()
        return
    if given.gains:
        with LiteRTDetector() as detector:
            print_gains(detector, given.people)
        return
    embedders = (SFace(find_model_file("sface")), DlibIdentity.open())
    with LiteRTDetector() as detector:
        readings = list(read_all(detector, embedders, given.people, given.scenes))
        print(f"found: {len(readings)} of {given.people * given.scenes}")
        print_poses(readings)
        print_coefficients(readings)
        print_single_units(detector, given.people // 2)
        print_identities(readings)
        print_swaps(detector, embedders, readings, given.swaps)
    print_speed()


def read_all(
    detector: LiteRTDetector, embedders: Sequence, people: int, scenes: int
) -> Iterator[Reading]:
    """Render every person in scenes of its own; yield what is read."""
    for person in range(people):
        model = HeadModel.build(random_head_person(FIRST_SEED + person))
        rest = read_face(detector, model, HeadScene()).blendshapes
        for scene in random_head_scenes(FIRST_SEED + person, scenes):
            image = render_head(model, scene, SIDE_PX).image
            framed = detector.detect(pad_to_assumed_camera(image, scene))
            for face in detector.detect(image)[:1]:
                yield Reading(
                    person=person,
                    scene=with_gaze(scene),
                    face=face,
                    rest=np.array(rest),
                    framed_pose=framed[0].pose if framed else None,
                    embeddings=tuple(one.embed(image, face.landmarks) for one in embedders),
                )


def read_face(detector: LiteRTDetector, model: HeadModel, scene: HeadScene) -> Face:
    """Render a person in a scene; return the face that is found."""
    return detector.detect(render_head(model, scene, SIDE_PX).image)[0]


def pad_to_assumed_camera(image: np.ndarray, scene: HeadScene) -> np.ndarray:
    """Return the frame that a camera with the field of view that MediaPipe assumes would take."""
    reach = math.tan(math.radians(VERTICAL_FOV_DEG) / 2) / math.tan(view(scene).fov_rad / 2)
    border = max(0, round(len(image) * (reach - 1) / 2))
    return cv2.copyMakeBorder(image, border, border, border, border, cv2.BORDER_REPLICATE)


def print_poses(readings: Sequence[Reading]) -> None:
    """Print how measured poses follow the true ones."""
    framed = [one for one in readings if one.framed_pose]
    print(f"poses in padded frames: {len(framed)} of {len(readings)}")
    for index, name in enumerate(("yaw", "pitch", "roll")):
        true = np.array([getattr(one.scene, name) for one in framed])
        plain = np.array([one.face.pose[index] for one in framed])
        read = np.array([one.framed_pose[index] for one in framed if one.framed_pose])
        correlation, slope = np.corrcoef(true, read)[0, 1], np.polyfit(true, read, 1)[0]
        off, bias = np.abs(read - true).mean(), (read - true).mean()
        as_is = np.polyfit(true, plain, 1)[0]
        print(
            f"| {name} | {correlation:.3f} | {slope:.2f} | {off:.1f} | {bias:+.1f} | {as_is:.2f} |"
        )


def print_coefficients(readings: Sequence[Reading]) -> None:
    """Print how coefficients follow those set in mixtures: as read, and less the face at rest."""
    true = np.array([one.scene.blendshapes for one in readings])
    read = np.array([one.face.blendshapes for one in readings])
    rest = np.array([one.rest for one in readings])
    for name, parts in {**MAIN, **{name: (name,) for name in BLENDSHAPE_NAMES[1:]}}.items():
        columns = [BLENDSHAPE_NAMES.index(part) for part in parts]
        given, found = true[:, columns].mean(1), read[:, columns].mean(1)
        moved = found - rest[:, columns].mean(1)
        raw, less = np.corrcoef(given, found)[0, 1], np.corrcoef(given, moved)[0, 1]
        print(f"| {name} | {raw:.2f} | {less:.2f} | {np.polyfit(given, moved, 1)[0]:.2f} |")


def print_single_units(detector: LiteRTDetector, people: int) -> None:
    """Print how each unit is read that is set alone, both sides of the face together."""
    rows = {**MAIN, **dict(symmetric_units())}
    found: dict[str, list[list[float]]] = {name: [] for name in rows}
    for person in range(people):
        model = HeadModel.build(random_head_person(FIRST_SEED + person))
        light = random_head_scenes(FIRST_SEED + person, 1)[0]
        plain = replace(HeadScene(), lamps=light.lamps, sky=light.sky, ground=light.ground)
        rest = np.array(read_face(detector, model, plain).blendshapes)
        for name, level in itertools.product(rows, LEVELS):
            given = blendshapes(dict.fromkeys(rows[name], level))
            face = read_face(detector, model, replace(plain, blendshapes=given))
            columns = [BLENDSHAPE_NAMES.index(part) for part in rows[name]]
            read = np.array(face.blendshapes)[columns].mean()
            found[name].append([level, float(read), float(rest[columns].mean())])
    for name, table in found.items():
        level, read, rest = np.array(table).T
        given = np.concatenate([0 * level, level])  # the face at rest counts once a level
        raw = np.corrcoef(given, np.concatenate([rest, read]))[0, 1]
        moved = np.concatenate([0 * rest, read - rest])
        less, slope = np.corrcoef(given, moved)[0, 1], np.polyfit(given, moved, 1)[0]
        print(f"| {name} | {raw:.2f} | {less:.2f} | {slope:.2f} | {rest.mean():.2f} |")


def print_gains(detector: LiteRTDetector, people: int) -> None:
    """Print by how much each unit must grow to be read as it is set, and what is read instead.

    Medians over people who look ahead, less what is read at rest; "-": not even at the highest
    level.
    """
    rows = {**MAIN, **dict(symmetric_units())}
    moved = []  # people, rows, levels, coefficients
    for person in range(people):
        model = HeadModel.build(random_head_person(GAINS_SEED + person))
        rest = np.array(read_face(detector, model, HeadScene()).blendshapes)
        scenes = [
            HeadScene(blendshapes=blendshapes(dict.fromkeys(parts, level)))
            for parts, level in itertools.product(rows.values(), GAIN_LEVELS)
        ]
        read = [read_face(detector, model, scene).blendshapes for scene in scenes]
        moved.append(np.reshape(read, (len(rows), len(GAIN_LEVELS), -1)) - rest)
    for (name, parts), table in zip(rows.items(), np.median(moved, axis=0), strict=True):
        columns = [BLENDSHAPE_NAMES.index(part) for part in parts]
        read = table[:, columns].mean(1)
        level = np.interp(WANTED, np.maximum.accumulate(read), GAIN_LEVELS)
        gain = f"{level / WANTED:.2f}" if read.max() >= WANTED else "-"
        others = np.delete(table[GAIN_LEVELS.index(WANTED)], columns)
        taken = np.delete(np.array(BLENDSHAPE_NAMES), columns)[int(np.argmax(others))]
        print(f"| {name} | {gain} | {read.max():.2f} | {taken} {others.max():.2f} |")


def symmetric_units() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the units that are not in the short table by name; left and right ones as one."""
    shown = {part for parts in MAIN.values() for part in parts}
    for name in BLENDSHAPE_NAMES[1:]:
        twin = name.removesuffix("Left") + "Right"
        if name in shown:
            continue
        if name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight") or not name.endswith(
            ("Left", "Right")
        ):
            yield name, (name,)
        elif name.endswith("Left"):
            yield name.removesuffix("Left"), (name, twin)


def print_identities(readings: Sequence[Reading]) -> None:
    """Print how often a face is nearest to the mean of its person's other faces."""
    people = np.array([one.person for one in readings])
    for number, name in enumerate(("SFace", "dlib")):
        vectors = np.array([one.embeddings[number] for one in readings])
        right = []
        for index, person in enumerate(people):
            scores = []
            for other in np.unique(people):
                chosen = (people == other) & (np.arange(len(people)) != index)
                center = vectors[chosen].mean(0) if chosen.any() else np.zeros(vectors.shape[1])
                scores.append(vectors[index] @ center / (np.linalg.norm(center) + 1e-9))
            right.append(np.unique(people)[int(np.argmax(scores))] == person)
        count = len(np.unique(people))
        print(f"| {name} | nearest of {count} people is the right one | {np.mean(right):.3f} |")


def print_swaps(
    detector: LiteRTDetector, embedders: Sequence, readings: Sequence[Reading], count: int
) -> None:
    """Print how often a true swap is nearer to its source than to the head's owner."""
    people = np.array([one.person for one in readings])
    centers = []
    for number in range(len(embedders)):
        vectors = np.array([one.embeddings[number] for one in readings])
        centers.append([vectors[people == one].mean(0) for one in range(people.max() + 1)])
    wins: list[list[bool]] = [[] for _ in embedders]
    for swap in range(count):
        source, target = swap % (people.max() + 1), (7 * swap + 3) % (people.max() + 1)
        if source == target:
            continue
        persons = [random_head_person(FIRST_SEED + one) for one in (source, target)]
        model = HeadModel.build(persons[0].on_head_of(persons[1]))
        for scene in random_head_scenes(swap, 2):
            image = render_head(model, scene, SIDE_PX).image
            for face in detector.detect(image)[:1]:
                for number, embedder in enumerate(embedders):
                    vector = embedder.embed(image, face.landmarks)
                    near = [
                        vector @ one / np.linalg.norm(one)
                        for one in (centers[number][source], centers[number][target])
                    ]
                    wins[number].append(bool(near[0] > near[1]))
    for name, won in zip(("SFace", "dlib"), wins, strict=True):
        print(f"| {name} | {len(won)} true swaps nearer to the source | {np.mean(won):.3f} |")


def print_speed() -> None:
    """Print the processor time of the set-up and of an image, on one core."""
    people = [random_head_person(seed) for seed in range(8)]
    start = time.process_time()
    models = [HeadModel.build(person) for person in people]
    print(f"set-up: {(time.process_time() - start) / len(models):.2f} s")
    for side, scale, name in ((160, 2.2, "crop"), (256, 1.0, "frame"), (384, 1.0, "frame")):
        spent = []
        for model, scene in zip(models, random_head_scenes(3, len(models)), strict=True):
            for _ in range(3):
                start = time.process_time()
                render_head(model, replace(scene, scale=scale), side)
                spent.append(time.process_time() - start)
        print(f"{name} of {side} px: median {1000 * np.median(spent):.0f} ms")


def write_figure() -> None:
    """Render random people, each in a moment of a performance."""
    tiles = []
    for seed in range(FIGURE_PEOPLE):
        scene = invent_performance(seed, seconds=4)[50]
        scene = replace(scene, scale=1.25, yaw=0.5 * scene.yaw, pitch=0.5 * scene.pitch)
        model = HeadModel.build(random_head_person(seed))
        tiles.append(render_head(model, scene, FIGURE_TILE_PX).image)
    rows = [tiles[i : i + FIGURE_COLUMNS] for i in range(0, len(tiles), FIGURE_COLUMNS)]
    grid = np.vstack([np.hstack(row) for row in rows])
    with atomic_write(FIGURE) as temporary:
        Image.fromarray(grid).save(temporary, format="JPEG", quality=88, optimize=True)
    print(f"{FIGURE.name}: {FIGURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
