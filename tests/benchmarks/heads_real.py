"""Compare mesh heads with real faces: the same performances, drawn on random people.

    faceswap extract CLIP --every 10                    (real footage, in a workspace)
    python tests/benchmarks/heads_real.py workspace/faces/CLIP ... [--people 4]

The poses and coefficients of every set are drawn on random people, whose faces are found and
aligned as those of footage are. Prints what docs/guide/heads.md says of both: where landmarks lie
in the aligned square, how coefficients are spread, and how well a performance survives. Only
numbers leave the sets.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from heads import MAIN

from faceswap_cli.faces.alignment import align_face, transform_points
from faceswap_cli.faces.dataset import FaceRecord, read_records
from faceswap_cli.faces.detectors.litert import LiteRTDetector
from faceswap_cli.faces.types import BLENDSHAPE_NAMES, Face
from faceswap_cli.heads import (
    HeadModel,
    performance_from_records,
    random_head_person,
    random_head_scenes,
    render_head,
)

SIDE_PX = 256
FIRST_SEED = 9000
PARTS = {
    "brows": (70, 63, 105, 66, 107, 336, 296, 334, 293, 300),
    "eyes": (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    "nose": (168, 6, 4, 98, 327, 129, 358),
    "mouth": (61, 291, 0, 17, 13, 14, 37, 267, 84, 314),
    "jaw": (152, 148, 377, 136, 365, 172, 397, 58, 288),
}
"""Landmarks of parts of a face."""
MAX_YAW_DEG, MAX_PITCH_DEG = 20.0, 15.0
"""Shapes are compared of faces that look this far aside at most."""

Seen = Face | FaceRecord


def main() -> None:
    """Print every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", type=Path, nargs="+", help="folders with faces.jsonl")
    parser.add_argument("--people", type=int, default=4)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    sets = [list(read_records(folder / "faces.jsonl")) for folder in given.sets]
    with LiteRTDetector() as detector:
        takes = list(draw_all(detector, sets, given.people))
    print_shapes(sets, takes)
    print_spreads(sets, takes)
    print_fidelity(sets, takes)


def draw_all(
    detector: LiteRTDetector, sets: Sequence[Sequence[FaceRecord]], people: int
) -> Iterator[tuple[int, list[Face | None]]]:
    """Draw every set's performance on random people; yield its number and the faces found."""
    for seed, number in itertools.product(range(people), range(len(sets))):
        model = HeadModel.build(random_head_person(FIRST_SEED + 10 * number + seed))
        place = replace(random_head_scenes(FIRST_SEED + seed, 1)[0], shift=(0.0, 0.0))
        faces = []
        for scene in performance_from_records(sets[number], place=place):
            found = detector.detect(render_head(model, scene, SIDE_PX).image)
            faces.append(found[0] if found else None)
        yield number, faces


def frontal_shapes(faces: Sequence[Seen]) -> np.ndarray:
    """Return the landmarks in the aligned square, 0 to 1, of faces that look ahead, (N, 478, 2)."""
    return np.array(
        [
            transform_points(one.landmarks, align_face(one.landmarks).to_unit)
            for one in faces
            if abs(one.pose[0]) < MAX_YAW_DEG and abs(one.pose[1]) < MAX_PITCH_DEG
        ]
    )


def print_shapes(
    sets: Sequence[Sequence[FaceRecord]], takes: Sequence[tuple[int, list[Face | None]]]
) -> None:
    """Print how far mean shapes lie apart, and how much shapes differ, in percent of the crop."""
    real = [frontal_shapes(records) for records in sets]
    drawn = [frontal_shapes([one for one in faces if one]) for _, faces in takes]
    means = [np.array([shape.mean(0) for shape in group]) for group in (real, drawn)]
    for name, points in PARTS.items():
        chosen = [mean[:, points] for mean in means]

        def apart(first: np.ndarray, second: np.ndarray) -> float:
            return 100 * float(np.linalg.norm(first - second, axis=-1).mean())

        nearest = np.mean([min(apart(one, other) for other in chosen[1]) for one in chosen[0]])
        among_real = [apart(a, b) for a, b in itertools.combinations(chosen[0], 2)]
        among_drawn = [apart(a, b) for a, b in itertools.combinations(chosen[1], 2)]
        offset = apart(chosen[0].mean(0), chosen[1].mean(0))
        moves = [
            100 * np.mean([shape[:, points].std(0).mean() for shape in group])
            for group in (real, drawn)
        ]
        print(
            f"| {name} | {offset:.1f} | {nearest:.1f} | {np.mean(among_real):.1f} |"
            f" {np.mean(among_drawn):.1f} | {moves[0]:.2f} | {moves[1]:.2f} |"
        )


def coefficients(faces: Sequence[Seen], parts: Sequence[str]) -> np.ndarray:
    """Return the mean of coefficients of each face, (N,)."""
    columns = [BLENDSHAPE_NAMES.index(part) for part in parts]
    return np.array([np.array(one.blendshapes)[columns].mean() for one in faces])


def print_spreads(
    sets: Sequence[Sequence[FaceRecord]], takes: Sequence[tuple[int, list[Face | None]]]
) -> None:
    """Print the median, the lowest and the highest tenth of coefficients, real and drawn."""
    real = list(itertools.chain(*sets))
    drawn = [one for _, faces in takes for one in faces if one]
    for name, parts in MAIN.items():
        tenths = [
            np.percentile(coefficients(group, parts), (10, 50, 90)) for group in (real, drawn)
        ]
        print(
            "| " + " | ".join([name, *(f"{one:.2f}" for group in tenths for one in group)]) + " |"
        )


def print_fidelity(
    sets: Sequence[Sequence[FaceRecord]], takes: Sequence[tuple[int, list[Face | None]]]
) -> None:
    """Print how what is read of a drawn performance follows the footage: medians over people."""
    rows: dict[str, list[float]] = {name: [] for name in ("yaw", "pitch", "roll", *MAIN)}
    for number, faces in takes:
        pairs = [(a, b) for a, b in zip(sets[number], faces, strict=True) if b]
        before, after = [a for a, _ in pairs], [b for _, b in pairs]
        for index, name in enumerate(("yaw", "pitch", "roll")):
            poses = [np.array([one.pose[index] for one in group]) for group in (before, after)]
            rows[name].append(np.corrcoef(*poses)[0, 1])
        for name, parts in MAIN.items():
            values = [coefficients(group, parts) for group in (before, after)]
            rows[name].append(np.corrcoef(*values)[0, 1])
    found = sum(one is not None for _, faces in takes for one in faces)
    print(f"found: {found} of {sum(len(faces) for _, faces in takes)}")
    for name, values in rows.items():
        print(f"| {name} | {np.median(values):.2f} |")


if __name__ == "__main__":
    main()
