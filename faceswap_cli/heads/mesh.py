"""The base mesh of every head: geometry, shape targets, face units and regions (CC0, MakeHuman).

Main entry points: `base_mesh`, cached, and `vertex_normals`. `tests/benchmarks/make_heads.py`
makes the arrays; `data/LICENSE.md` is their license.
Convention: cm from the point between the eyes; x to the image's right of a head that faces the
camera (its own left), y up, z towards the camera.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.types import BLENDSHAPE_NAMES
from faceswap_cli.heads.raster import rasterize_uv
from faceswap_cli.synthetic.geometry import Floats, smoothstep

ATLAS_SIZE = (640, 1280)
"""Width and height of the textures, px: half a millimeter on the face."""

HEAD_CENTER_CM = (0.0, -0.5, -7.5)
"""Inside the skull; directions of hair and of the hairline are seen from here."""
NECK_PIVOT_CM = (0.0, -6.0, -9.0)
"""The joint below the skull that a head turns about."""
_UNIT_GAINS = {
    "browInnerUp": 2.65,
    "browOuterUpLeft": 2.4,
    "browOuterUpRight": 2.4,
    "browDownLeft": 1.5,
    "browDownRight": 1.5,
    "jawOpen": 1.6,
    "mouthLeft": 1.6,
    "mouthPucker": 2.1,
    "mouthRight": 1.6,
    "mouthSmileLeft": 1.25,
    "mouthSmileRight": 1.25,
}
"""MakeHuman's units that move less than a face at a coefficient of 1, and by how much.

From `tests/benchmarks/heads.py --gains`: 0.7 of a unit alone is read as 0.7, less what is read at
rest; medians over random people. Brows stay below that: further up they leave the brow ridge, and
further down they cover the eyes.
"""
TONGUE_UNIT = "tongueOut"
"""The unit that MediaPipe does not read; in place of its coefficient `_neutral`."""

SKIN, LEFT_EYE, RIGHT_EYE, UPPER_TEETH, LOWER_TEETH, TONGUE, LASHES = range(7)
"""Values of `BaseMesh.part`."""

_TEETH_SHIFT_CM = np.array([0, -0.25, 0.05], np.float32)
"""The upper teeth of the base mesh hide behind the lip: an open mouth would show none."""

LANDMARKS = {
    "nose_tip": 297,
    "chin": 2129,
    "lip_top": 455,
    "lip_bottom": 496,
    "left_eye_outer": 1115,
    "left_eye_inner": 1853,
    "left_mouth_corner": 435,
    "right_eye_outer": 3655,
    "right_eye_inner": 4369,
    "right_mouth_corner": 3043,
}
"""Vertices of named points; left and right are the image's."""

ALIGNMENT_VERTICES = {
    10: 244,
    151: 237,
    9: 227,
    168: 132,
    6: 134,
    197: 131,
    2: 317,
    33: 1062,
    263: 4353,
    133: 71,
    362: 2705,
    67: 714,
    297: 3285,
    54: 716,
    284: 3287,
    98: 358,
    327: 2967,
    127: 718,
    356: 3289,
    234: 2019,
    454: 4529,
    117: 901,
    346: 3451,
    118: 213,
    347: 2836,
}
"""Landmarks that faces are aligned by, and the vertices nearest to where the detector finds them:
means over 14 random people and three poses."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """Offsets of some vertices."""

    vertices: AnyArray
    offsets_cm: Floats
    """float32 (K, 3)"""


@dataclass(frozen=True, kw_only=True, eq=False)
class BaseMesh:
    """The head that every person is a deformation of."""

    points: Floats
    """float32 (N, 3): positions."""
    triangles: AnyArray
    """int32 (T, 3): positions of each triangle's corners."""
    corner_uv: Floats
    """float32 (T, 3, 2): texture coordinates of each triangle's corners, 0 to 1."""
    part: AnyArray
    """uint8 (T,): skin, eye, teeth, ..."""
    shapes: Mapping[str, Target]
    """How heads differ, by MakeHuman's names, such as `nose/nose-hump-incr`."""
    units: Floats
    """float32 (52, N, 3): offsets of the face units, in the order of `BLENDSHAPE_NAMES`."""
    regions: Mapping[str, Floats]
    """float32 (1280, 640) in [0, 1] by name: lips, eyelids, ears, face, inside_mouth."""
    lashes: tuple[AnyArray, ...]
    """Vertices of four strips of lashes, lower and upper of each eye: int32 (2, K), roots first."""
    texel_points: Floats
    """float32 (1280, 640, 3): the position on the base mesh of each texel of the skin."""
    texel_normals: Floats
    """float32 (1280, 640, 3): the normal there."""

    @cached_property
    def is_above_neck(self) -> AnyArray:
        """Bool (N,): vertices of the head and the upper neck."""
        above: AnyArray = bend_weight(self.points) > 0.8
        return above

    @cached_property
    def _is_visible(self) -> AnyArray:
        visible: AnyArray = self.part != LASHES
        return visible

    @cached_property
    def visible_triangles(self) -> AnyArray:
        """The triangles that are rendered: lashes are grown in their place."""
        return self.triangles[self._is_visible]

    @cached_property
    def visible_corners(self) -> AnyArray:
        """The same as rows, int32 (3, T): NumPy gathers fastest from whole rows."""
        return np.ascontiguousarray(self.visible_triangles.T)

    @cached_property
    def visible_uv(self) -> Floats:
        """`corner_uv` of these as rows, (2, 3, T)."""
        return np.ascontiguousarray(
            np.moveaxis(self.corner_uv[self._is_visible], 0, 2).swapaxes(0, 1)
        )

    @cached_property
    def visible_part(self) -> AnyArray:
        """`part` of these."""
        return self.part[self._is_visible]

    def vertices_of(self, *parts: int) -> AnyArray:
        """Return the vertices that belong to parts."""
        return np.unique(self.triangles[np.isin(self.part, parts)])


@cache
def base_mesh() -> BaseMesh:
    """Return the base mesh, read once."""
    with resources.files("faceswap_cli.heads").joinpath("data/heads.npz").open("rb") as file:
        arrays = dict(np.load(file, allow_pickle=False))
    points, vertex_of = arrays["points"], arrays["vertex_of"].astype(np.int32)
    corners = arrays["triangles"].astype(np.int32)
    triangles, part = vertex_of[corners], np.minimum(arrays["part"], LASHES)
    points[np.unique(triangles[part == UPPER_TEETH])] += _TEETH_SHIFT_CM
    skin = corners[part == SKIN]
    texel_points, _ = rasterize_uv(arrays["uv"], skin, points[vertex_of], ATLAS_SIZE)
    normals = vertex_normals(points, triangles)
    texel_normals, covered = rasterize_uv(arrays["uv"], skin, normals[vertex_of], ATLAS_SIZE)
    return BaseMesh(
        points=points,
        triangles=triangles,
        corner_uv=arrays["uv"][corners],
        part=part,
        shapes=_unpack(arrays, "shape"),
        units=_dense_units(_unpack(arrays, "unit"), len(points)),
        regions={
            name.removeprefix("region_"): _enlarge(mask)
            for name, mask in arrays.items()
            if name.startswith("region_")
        },
        lashes=tuple(arrays[f"lashes_{number}"].astype(np.int32) for number in range(4)),
        texel_points=_bleed(texel_points, covered),
        texel_normals=_bleed(texel_normals, covered),
    )


def _bleed(values: Floats, covered: Floats) -> Floats:
    """Return an atlas whose islands reach a few texels further, so that no seam shows."""
    for _ in range(3):
        near = cv2.blur(covered, (3, 3))
        around = cv2.blur(values * covered[..., None], (3, 3)) / np.maximum(near, 1e-6)[..., None]
        values = np.where(covered[..., None] > 0, values, around * (near > 0)[..., None])
        covered = (near > 0).astype(np.float32)
    return values


def _unpack(arrays: Mapping[str, AnyArray], kind: str) -> dict[str, Target]:
    names, starts = arrays[f"{kind}_names"], arrays[f"{kind}_starts"]
    vertices, offsets = arrays[f"{kind}_vertices"], arrays[f"{kind}_offsets"]
    scales = arrays[f"{kind}_scales"]
    return {
        str(name): Target(
            vertices=vertices[start:end].astype(np.int32),
            offsets_cm=offsets[start:end].astype(np.float32) * scale,
        )
        for name, start, end, scale in zip(names, starts[:-1], starts[1:], scales, strict=True)
    }


def _dense_units(units: Mapping[str, Target], count: int) -> Floats:
    dense = np.zeros((len(BLENDSHAPE_NAMES), count, 3), np.float32)
    for row, name in enumerate(BLENDSHAPE_NAMES):
        target = units[TONGUE_UNIT if name == "_neutral" else name]
        dense[row, target.vertices] = target.offsets_cm * _UNIT_GAINS.get(name, 1.0)
    return dense


def _enlarge(mask: AnyArray) -> Floats:
    resized = cv2.resize(mask, ATLAS_SIZE, interpolation=cv2.INTER_CUBIC)
    scaled: Floats = resized.astype(np.float32) / 255
    return scaled


def vertex_normals(points: Floats, triangles: AnyArray) -> Floats:
    """Return the unit normals of vertices, averaged over their triangles by area."""
    rows = np.ascontiguousarray(points.T)
    flat = triangles.T.ravel()
    a, b, c = (np.stack([row.take(corner) for row in rows]) for corner in triangles.T)
    (ux, uy, uz), (vx, vy, vz) = b - a, c - a
    sums = np.stack(
        [
            np.bincount(flat, np.tile(across, 3), minlength=len(points))
            for across in (uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx)
        ],
        axis=1,
    )
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    normals: Floats = (sums / np.maximum(lengths, 1e-9)).astype(np.float32)
    return normals


def face_weight(points: Floats) -> Floats:
    """Return how much points of the base mesh belong to the face that a swap replaces, 0 to 1.

    The face reaches from the hairline to below the chin, and to the front of the ears.
    """
    x, y, z = np.moveaxis(points, -1, 0)
    across = np.abs(x) / 7.0
    height = np.where(y > -2.5, (y + 2.5) / 9.0, (y + 2.5) / 9.6)
    reach = np.sqrt(across**2 + height**2)
    weight: Floats = smoothstep(1.12, 0.86, reach) * smoothstep(-8.0, -4.5, z)
    return weight


def bend_weight(points: Floats) -> Floats:
    """Return how much points follow the head when the neck bends: 0 shoulders, 1 head."""
    tilted = points[:, 1] + 0.2 * points[:, 2]
    weight: Floats = smoothstep(-19.0, -11.0, tilted)
    return weight
