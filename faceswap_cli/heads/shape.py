"""The shape of a person's head: `rest_points`, and the axes along which shapes differ."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np

from faceswap_cli.faces.alignment import fit_similarity, transform_points
from faceswap_cli.heads.mesh import ALIGNMENT_VERTICES, SKIN, base_mesh, face_weight
from faceswap_cli.heads.traits import BodyTraits, FaceTraits, HeadPerson, HeadTraits
from faceswap_cli.synthetic.geometry import Floats

YOUNG, OLD = 25.0, 90.0
"""Ages of MakeHuman's targets, years."""

_OPPOSITES = (
    ("decr", "incr", ""),
    ("compress", "uncompress", ""),
    ("down", "up", "-vert"),
    ("in", "out", "-horiz"),
    ("backward", "forward", "-depth"),
    ("concave", "convex", "-curve"),
)
"""Endings of the targets of an axis, negative and positive, and the ending of its name."""
_SIDE = re.compile(r"/[lr]-")


@dataclass(frozen=True, kw_only=True)
class ShapeAxis:
    """A direction in which shapes differ, as names of targets."""

    negative: tuple[str, ...]
    positive: tuple[str, ...]


@cache
def shape_axes() -> Mapping[str, ShapeAxis]:
    """Return the axes of heads by name, such as `nose/nose-hump`; both sides of a face together.

    An axis without an opposite, such as `head/head-oval`, has no negative targets. Those of
    asymmetry are apart: `asym/asym-jaw-1`.
    """
    sides: dict[str, tuple[list[str], list[str]]] = {}
    for name in base_mesh().shapes:
        if not name.startswith("macro/"):
            stem, is_positive = _axis_of(name)
            sides.setdefault(stem, ([], []))[is_positive].append(name)
    return {
        stem: ShapeAxis(negative=tuple(low), positive=tuple(high))
        for stem, (low, high) in sides.items()
    }


def _axis_of(name: str) -> tuple[str, bool]:
    """Return a target's axis, and whether it is the positive end."""
    if name.startswith("asym/"):
        return name[:-2], name.endswith("-l")
    stem, _, ending = _SIDE.sub("/", name).rpartition("-")
    for negative, positive, suffix in _OPPOSITES:
        if ending in (negative, positive):
            return stem + suffix, ending == positive
    return _SIDE.sub("/", name), True


def rest_points(person: HeadPerson) -> Floats:
    """Return the vertices of a person at rest, float32 (N, 3), cm: the face set in the head."""
    mesh = base_mesh()
    weight = face_weight(mesh.points)
    weight[mesh.vertices_of(*range(SKIN + 1, int(mesh.part.max()) + 1))] = 1
    head, face = (mesh.points + shape_offsets(one) for one in (person.head, person.face))
    face = _register(face, head) + np.array([*person.face_shift_cm, 0.0])
    points: Floats = head + weight[:, None] * (face - head)
    return points


def _register(face: Floats, head: Floats) -> Floats:
    """Return a face's vertices, both (N, 3), where a head's shape has the points of alignment.

    So every face sits on a head as its own does: a swap keeps the alignment of the face.
    """
    chosen = list(ALIGNMENT_VERTICES.values())
    start, end = face[chosen], head[chosen]
    similarity = fit_similarity(start[:, :2], end[:, :2])
    scale = float(np.hypot(*similarity[:, 0]))
    registered = np.empty_like(face)
    registered[:, :2] = transform_points(face[:, :2], similarity)
    registered[:, 2] = scale * (face[:, 2] - start[:, 2].mean()) + end[:, 2].mean()
    return registered


def shape_offsets(traits: FaceTraits | HeadTraits) -> Floats:
    """Return the offsets from the base mesh of a head with the shape of `traits`, (N, 3), cm."""
    mesh, axes = base_mesh(), shape_axes()
    offsets = np.zeros_like(mesh.points)
    weights = dict(_body_weights(traits.body))
    for name, value in traits.shape:
        axis = axes[name]
        for end in axis.positive if value > 0 else axis.negative:
            weights[end] = abs(value)
    for name, value in weights.items():
        if abs(value) > 1e-3 and name in mesh.shapes:
            target = mesh.shapes[name]
            offsets[target.vertices] += value * target.offsets_cm
    return offsets


def _body_weights(body: BodyTraits) -> Iterator[tuple[str, float]]:
    """Yield the weights of the targets of whole heads."""
    old = float(np.clip((body.age - YOUNG) / (OLD - YOUNG), 0, 1))
    populations = {
        "african": body.african,
        "asian": body.asian,
        "caucasian": 1 - body.african - body.asian,
    }
    for sex, sex_share in (("male", body.male), ("female", 1 - body.male)):
        for age, age_share in (("old", old), ("young", 1 - old)):
            share = sex_share * age_share
            for name, population_share in populations.items():
                yield f"macro/{name}-{sex}-{age}", share * population_share
            for muscle, muscle_share in _three("muscle", body.muscle):
                for weight, weight_share in _three("weight", body.weight):
                    name = f"macro/universal-{sex}-{age}-{muscle}-{weight}"
                    yield name, share * muscle_share * weight_share


def _three(name: str, value: float) -> Iterator[tuple[str, float]]:
    """Yield the shares of least, average and most."""
    yield f"min{name}", max(0.0, -value)
    yield f"average{name}", 1 - abs(value)
    yield f"max{name}", max(0.0, value)
