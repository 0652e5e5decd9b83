"""Light from every visible point: skin, eyes, teeth, hair, clothes. Main entry point: `shade`.

Skin is a wrapped diffuse surface, whose red light creeps furthest around its edges, under a
specular one with Fresnel's term (Schlick). Hair is Kajiya and Kay's model. Vectors are float32
(3, N): NumPy is fastest on whole rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray
from faceswap_cli.heads.camera import View
from faceswap_cli.heads.eyes import EyeTexture, shade_eye
from faceswap_cli.heads.light import ShadowMap, sample
from faceswap_cli.heads.mesh import (
    ATLAS_SIZE,
    HEAD_CENTER_CM,
    LEFT_EYE,
    LOWER_TEETH,
    RIGHT_EYE,
    SKIN,
    TONGUE,
    UPPER_TEETH,
    base_mesh,
)
from faceswap_cli.heads.pose import Eye, rotation, turn
from faceswap_cli.heads.raster import Raster
from faceswap_cli.heads.scene import HeadScene
from faceswap_cli.heads.skin import SkinTexture
from faceswap_cli.heads.skin.wrinkles import fold_map, fold_weights
from faceswap_cli.heads.strands.glasses import rim_vertices
from faceswap_cli.heads.strands.ribbons import Strands
from faceswap_cli.synthetic.geometry import Floats, Triple, clip

_WRAP = (0.34, 0.17, 0.11)
"""How far red, green and blue light creep around an edge of skin."""
_SHADOW_GLOW = (0.07, 0.015, 0.01)
"""Light in a skin's shadow that came through from its lit side."""
_BUMP = 0.5
"""How much the skin's height tilts its normals."""
_LEAST_FOLD = 0.03
_FOLD_COLOR = (0.18, 0.26, 0.28)
"""How much red, green and blue a fold loses."""

_UPPER_GAPS_CM, _LOWER_GAPS_CM = (0.0, 0.85, 1.5, 2.2, 2.8), (0.0, 0.54, 1.12, 1.75, 2.4)
"""Where teeth meet, to the sides of the middle."""
_GAP_CM = 0.05
"""How wide the shade between them is."""

LABELS = ("face", "hair", "eyes", "mouth", "glasses", "head")
"""Masks, in the order of the first axis of labels: the face with beard, eyes and mouth; hair;
eyeballs; teeth and tongue; glasses; everything but clothes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Posed:
    """A person's vertices in a scene, and what is painted on them."""

    points: Floats
    """float32 (N, 3): the mesh, cm in the scene."""
    normals: Floats
    ambient: Floats
    strands: Strands
    strand_points: Floats
    skin: SkinTexture
    wrinkles: float
    eye_texture: EyeTexture
    eyes: tuple[Eye, Eye]
    scene: HeadScene

    def all_points(self) -> Floats:
        """Return the vertices of mesh and strands."""
        return np.concatenate([self.points, self.strand_points])

    def all_triangles(self) -> AnyArray:
        """Return the triangles of mesh and strands."""
        strands = self.strands.triangles + len(self.points)
        return np.concatenate([base_mesh().visible_triangles, strands])

    def shadow_triangles(self, lamp: Triple) -> AnyArray:
        """Return the triangles that cast the shadows of a lamp: those that face it.

        Fewer ribbons than there are do.
        """
        facing = self.normals @ np.array(lamp, np.float32) > 0
        skin = base_mesh().visible_triangles[facing.take(base_mesh().visible_corners[0])]
        return np.concatenate([skin, self.strands.shadow_triangles + len(self.points)])

    def is_strand_towards(self, camera: Floats) -> AnyArray:
        """Return which triangles of strands are not behind the head, bool (T,)."""
        outward = (
            self.strands.outward @ rotation(self.scene.yaw, self.scene.pitch, self.scene.roll).T
        )
        facing: AnyArray = (outward * (camera - self.strand_points)).sum(1) > -20
        return facing[self.strands.triangles[:, 0]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Visible:
    """What the rasterizer says of N visible points."""

    pixels: AnyArray
    """Row times side plus column, (N,)."""
    triangle: AnyArray
    weights: Floats
    """(2, N): shares of the triangle's second and third vertex."""
    point: Floats
    """(3, N)"""
    side: int
    """Of the image, px."""


@dataclass(kw_only=True, eq=False)
class _Surface:
    """Properties of N visible points."""

    point: Floats
    normal: Floats
    view: Floats
    """(3, N): towards the camera."""
    color: Floats
    ambient: Floats
    gloss: Floats
    shine: Floats
    """(N,): narrowness of highlights."""
    soft: Floats
    """(N,): 1 where light goes under the surface."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PixelLabels:
    """What the pixels that are not background show."""

    side: int
    """Of the square image, px."""
    pixels: tuple[AnyArray, ...]
    """Groups of pixels, row times side plus column, int (N,) each."""
    labels: tuple[AnyArray, ...]
    """uint8 (6, N) each, in the order of `LABELS`."""

    def planes(self) -> AnyArray:
        """Return the labels of all pixels, uint8 (6, side, side)."""
        planes = np.zeros((len(LABELS), self.side * self.side), np.uint8)
        for pixels, labels in zip(self.pixels, self.labels, strict=True):
            for plane, row in zip(planes, labels, strict=True):
                plane[pixels] = row
        return planes.reshape(len(LABELS), self.side, self.side)


def shade(
    posed: Posed, scene: HeadScene, raster: Raster, camera: View, *, background: Floats
) -> tuple[Floats, PixelLabels]:
    """Return linear light, float32 (S, S, 3), and what pixels show.

    Args:
        posed: The person.
        scene: The scene.
        raster: What each pixel of a square image shows.
        camera: The camera.
        background: Light where nothing is, (S, S, 3).
    """
    side = len(raster.depth)
    triangle, depth = raster.triangle.ravel(), raster.depth.ravel()
    mesh_count = len(base_mesh().visible_triangles)
    lamps = _shadow_maps(posed, scene)
    planes = [plane.ravel() for plane in cv2.split(background)]
    weights = np.ascontiguousarray(raster.weights.reshape(-1, 2).T)
    solid = np.flatnonzero((triangle >= 0) & (triangle < mesh_count))
    hairy = np.flatnonzero(triangle >= mesh_count)
    groups, labels = [], []
    for pixels, shade_group in ((solid, _shade_mesh), (hairy, _shade_hair)):
        if len(pixels):
            visible = _Visible(
                pixels=pixels,
                triangle=triangle.take(pixels),
                weights=np.stack([row.take(pixels) for row in weights]),
                point=camera.unproject(pixels, depth.take(pixels), side),
                side=side,
            )
            light, label = shade_group(posed, scene, camera, visible, lamps)
            for plane, row in zip(planes, light, strict=True):
                plane[pixels] = row
            groups.append(pixels)
            labels.append(label)
    _reflect_in_lenses(planes, posed, scene, camera, depth)
    merged: Floats = cv2.merge([plane.reshape(side, side) for plane in planes])
    return merged, PixelLabels(side=side, pixels=tuple(groups), labels=tuple(labels))


def _reflect_in_lenses(
    planes: Sequence[Floats], posed: Posed, scene: HeadScene, camera: View, depth: Floats
) -> None:
    """Let what is behind the lenses of glasses dim, and the sky and a lamp glare in them, in place.

    Args:
        planes: Linear red, green and blue, (S * S,) each.
        posed: The person.
        scene: The scene.
        camera: The camera.
        depth: Along the optical axis, cm (S * S,).
    """
    side = round(len(depth) ** 0.5)
    for rim in rim_vertices(posed.strands):
        points = posed.strand_points[rim]
        corners = camera.project(points, side)
        inside = np.zeros((side, side), np.uint8)
        outline = cv2.convexHull(np.round(corners * 16).astype(np.int32))
        cv2.fillConvexPoly(inside, outline, 255, cv2.LINE_AA, 4)
        at = np.flatnonzero(inside)
        nearest = -camera.to_camera(points)[:, 2].max()
        at = at[depth.take(at) > nearest]
        if not len(at):
            continue
        rows, columns = np.divmod(at, side)
        (left, top), (right, bottom) = corners.min(0), corners.max(0)
        across = (columns - left) / max(right - left, 1) + (rows - top) / max(bottom - top, 1)
        # A slanted band, above the middle where the lamp is above.
        band = np.exp(-(((across - 0.75) / 0.12) ** 2))
        glare = inside.reshape(-1).take(at) * ((0.03 + 0.10 * band) / 255).astype(np.float32)
        for plane, sky in zip(planes, scene.sky, strict=True):
            plane[at] = plane.take(at) * (1 - glare) + np.float32(sky) * glare * 2


def _shade_mesh(
    posed: Posed,
    scene: HeadScene,
    camera: View,
    visible: "_Visible",
    lamps: Sequence[ShadowMap | None],
) -> tuple[Floats, AnyArray]:
    """Return linear light (3, N) and labels (6, N) of visible points of the mesh."""
    surface, label = _mesh_surface(posed, scene, camera, visible)
    return _illuminate(surface, scene, lamps), label


def _shadow_maps(posed: Posed, scene: HeadScene) -> list[ShadowMap | None]:
    """Return the shadows of each lamp that casts any."""
    if not any(lamp.shadow for lamp in scene.lamps):
        return [None] * len(scene.lamps)
    points = posed.all_points()
    center = turn(np.array([HEAD_CENTER_CM], np.float32), np.ones(1, np.float32), scene)[0]
    return [
        ShadowMap.create(
            points,
            posed.shadow_triangles(lamp.direction),
            direction=lamp.direction,
            center=center,
            size=lamp.size,
        )
        if lamp.shadow
        else None
        for lamp in scene.lamps
    ]


def _interpolate(values: Floats, corners: AnyArray, triangle: AnyArray, weights: Floats) -> Floats:
    """Return values of vertices (C, N) at points in triangles: (C, P).

    Args:
        values: Rows of values.
        corners: Vertices of each triangle (3, T).
        triangle: The triangle of each point (P,).
        weights: Shares of its second and third vertex (2, P).
    """
    first, second, third = (corner.take(triangle) for corner in corners)
    rest = 1 - weights[0] - weights[1]
    mixed = np.empty((len(values), len(triangle)), np.float32)
    for row, out in zip(values, mixed, strict=True):
        np.multiply(row.take(first), rest, out=out)
        out += row.take(second) * weights[0]
        out += row.take(third) * weights[1]
    return mixed


def _blend_corners(rows: Floats, triangle: AnyArray, weights: Floats) -> Floats:
    """Return values of the corners of triangles (3, T) at points in them, (P,)."""
    first, second, third = (row.take(triangle) for row in rows)
    blended: Floats = first + weights[0] * (second - first) + weights[1] * (third - first)
    return blended


def _unit(vectors: Floats) -> Floats:
    x, y, z = vectors
    scaled: Floats = vectors * (1 / np.sqrt(x * x + y * y + z * z + 1e-12))
    return scaled


def _dot(first: Floats, second: Floats) -> Floats:
    product: Floats = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return product


def _mesh_surface(
    posed: Posed, scene: HeadScene, camera: View, visible: _Visible
) -> tuple[_Surface, AnyArray]:
    """Return the surface of the mesh at visible points, and its labels (6, N)."""
    triangle, weights, point = visible.triangle, visible.weights, visible.point
    mesh = base_mesh()
    part = mesh.visible_part[triangle]
    packed = np.vstack([posed.normals.T, posed.ambient])
    values = _interpolate(packed, mesh.visible_corners, triangle, weights)
    x, y = (
        np.float32(length) * _blend_corners(rows, triangle, weights) - np.float32(0.5)
        for length, rows in zip(ATLAS_SIZE, mesh.visible_uv, strict=True)
    )
    color = sample(posed.skin.color, x, y).T.astype(np.float32) * (1 / 255)
    color *= color
    marks = sample(posed.skin.surface, x, y).T.astype(np.float32) * (1 / 255)
    depths = fold_weights(scene.blendshapes, posed.wrinkles)
    if depths.max() > _LEAST_FOLD:
        folds = depths @ sample(fold_map(), x, y).T.astype(np.float32) * (1 / 255)
        marks[2] -= 0.18 * folds
        for plane, share in zip(color, _FOLD_COLOR, strict=True):
            plane *= 1 - share * folds
    normal = _unit(values[:3])
    normal = _bump(normal, marks[2] * (part == SKIN), visible, scene)
    surface = _Surface(
        point=point,
        normal=normal,
        view=_unit(camera.origin[:, None] - point),
        color=np.ascontiguousarray(color),
        ambient=values[3].copy(),
        gloss=marks[1],
        shine=np.full(len(part), 26, np.float32),
        soft=1 - marks[3],
    )
    # Where the skin is covered by clothes or short hair: hair is on the part that turns.
    on_head = mesh.is_above_neck[mesh.visible_corners[0].take(triangle)]
    label = np.zeros((len(LABELS), len(part)), np.uint8)
    label[LABELS.index("hair")] = 255 * marks[3] * on_head
    label[LABELS.index("face")] = 255 * marks[0] * (1 - marks[3])
    label[LABELS.index("head")] = 255 * np.where(on_head, 1, 1 - marks[3])
    _paint_eyes(surface, label, part, posed, scene)
    _paint_mouth(surface, label, part, visible)
    return surface, label


def _bump(normal: Floats, height: Floats, visible: _Visible, scene: HeadScene) -> Floats:
    """Return normals tilted by the slopes of the skin's height (Mikkelsen 2010)."""
    image = np.full((visible.side, visible.side), 0.5, np.float32)
    image.reshape(-1)[visible.pixels] = height
    per_cm = visible.side * scene.scale / 35.0
    across = cv2.Sobel(image, cv2.CV_32F, 1, 0, scale=_BUMP * per_cm / 8).take(visible.pixels)
    up = cv2.Sobel(image, cv2.CV_32F, 0, 1, scale=-_BUMP * per_cm / 8).take(visible.pixels)
    across, up = clip(across, -0.5, 0.5), clip(up, -0.5, 0.5)
    along = across * normal[0] + up * normal[1]
    tilted = normal * (1 + along)
    tilted[0] -= across
    tilted[1] -= up
    return _unit(tilted)


def _paint_eyes(
    surface: _Surface, label: AnyArray, part: AnyArray, posed: Posed, scene: HeadScene
) -> None:
    """Paint the eyeballs, in place."""
    head = rotation(scene.yaw, scene.pitch, scene.roll)
    for number, eye in zip((LEFT_EYE, RIGHT_EYE), posed.eyes, strict=True):
        at = np.flatnonzero(part == number)
        if not len(at):
            continue
        center = turn(eye.center[None], np.ones(1, np.float32), scene)[0]
        axes = eye.axes @ head.T
        direction = _unit(surface.point[:, at] - center[:, None])
        color, normal, iris = shade_eye((axes @ direction).T, posed.eye_texture)
        surface.color[:, at] = color.T
        surface.normal[:, at] = axes.T @ normal.T
        # The lids leave the eye's rim in the dark.
        height = (head.T @ direction)[1]
        surface.ambient[at] = 0.85 - 0.5 * clip((height - 0.05) * 3, 0, 1)
        surface.gloss[at] = 0.9 + 0.6 * iris
        surface.shine[at] = 350
        surface.soft[at] = 0.6
        label[:, at] = _label("face", "eyes", "head")[:, None]


def _paint_mouth(surface: _Surface, label: AnyArray, part: AnyArray, visible: _Visible) -> None:
    """Paint teeth and tongue, in place."""
    mesh = base_mesh()
    for number, color, ambient, gloss, gaps in (
        (UPPER_TEETH, (0.70, 0.64, 0.54), 0.9, 0.8, _UPPER_GAPS_CM),
        (LOWER_TEETH, (0.62, 0.56, 0.47), 0.6, 0.8, _LOWER_GAPS_CM),
        (TONGUE, (0.42, 0.13, 0.12), 0.5, 0.6, ()),
    ):
        at = np.flatnonzero(part == number)
        surface.color[:, at] = np.array(color, np.float32)[:, None]
        if len(at) and gaps:
            weights, triangle = visible.weights[:, at], visible.triangle.take(at)
            x = _interpolate(mesh.points.T[:1], mesh.visible_corners, triangle, weights)[0]
            nearest = np.abs(np.abs(x)[:, None] - np.array(gaps, np.float32)).min(1)
            surface.color[:, at] *= 1 - 0.6 * np.exp(-np.square(nearest / _GAP_CM))
        surface.ambient[at] = ambient
        surface.gloss[at] = gloss
        surface.shine[at] = 60
        surface.soft[at] = 0.8
        label[:, at] = _label("face", "mouth", "head")[:, None]


def _ambient_light(normal: Floats, scene: HeadScene) -> Floats:
    """Return the ambient light of sky and ground on surfaces (3, N)."""
    sky, ground = np.array(scene.sky, np.float32), np.array(scene.ground, np.float32)
    up = 0.5 + 0.5 * normal[1]
    mixed: Floats = ground[:, None] + (sky - ground)[:, None] * up
    return mixed


def _illuminate(surface: _Surface, scene: HeadScene, lamps: Sequence[ShadowMap | None]) -> Floats:
    """Return the light that surfaces send to the camera, linear RGB (3, N)."""
    facing = clip(_dot(surface.normal, surface.view), 0, 1)
    grazing = (1 - facing) ** 2
    grazing *= grazing
    light = surface.color * _ambient_light(surface.normal, scene) * surface.ambient
    sheen = surface.gloss * surface.ambient * (0.02 + 0.28 * grazing)
    light += np.array(scene.sky, np.float32)[:, None] * sheen
    open_to_lamp = 0.4 + 0.6 * surface.ambient
    for lamp, shadow in zip(scene.lamps, lamps, strict=True):
        towards = np.array(lamp.direction, np.float32)
        towards /= np.linalg.norm(towards)
        cosine = towards[0] * surface.normal[0] + towards[1] * surface.normal[1]
        cosine += towards[2] * surface.normal[2]
        visible = np.ones_like(cosine) if shadow is None else shadow.visibility(surface.point)
        half = _unit(surface.view + towards[:, None])
        highlight = np.exp(surface.shine * (_dot(surface.normal, half) - 1))
        fresnel = 1 - clip(_dot(half, surface.view), 0, 1)
        fresnel *= np.square(np.square(fresnel))  # to the fifth
        fresnel = 0.04 + 0.96 * fresnel
        strength = surface.gloss * (surface.shine + 8) * (0.42 / 25)
        highlight *= strength * fresnel * clip(4 * cosine, 0, 1) * visible
        dark = 1 - visible
        for channel in range(3):
            wrap = _WRAP[channel] * surface.soft
            lit = clip((cosine + wrap) / (1 + wrap), 0, 1)
            reach = visible + dark * (_SHADOW_GLOW[channel] * surface.soft)
            lit *= reach * open_to_lamp
            light[channel] += lamp.color[channel] * (surface.color[channel] * lit + highlight)
    return light


def _shade_hair(
    posed: Posed,
    scene: HeadScene,
    camera: View,
    visible: _Visible,
    lamps: Sequence[ShadowMap | None],
) -> tuple[Floats, AnyArray]:
    """Return linear light (3, N) and labels (6, N) of visible points of strands."""
    strands, point = posed.strands, visible.point
    triangle = visible.triangle - len(base_mesh().visible_triangles)
    head = rotation(scene.yaw, scene.pitch, scene.roll)
    values = _interpolate(strands.rows, strands.corners, triangle, visible.weights)
    tangent, outward = _unit(head @ values[:3]), _unit(head @ values[3:6])
    color, ambient, across = values[6:9], values[9], values[10]
    stripe = sample(strand_profile(), (across * 8) % 512, np.zeros_like(across))[:, 0]
    color = color * stripe
    view = _unit(camera.origin[:, None] - point)
    light = color * _ambient_light(outward, scene) * ambient * 0.8
    for lamp, shadow in zip(scene.lamps, lamps, strict=True):
        towards = np.array(lamp.direction, np.float32)
        towards /= np.linalg.norm(towards)
        seen = 1.0 if shadow is None else shadow.visibility(point)
        along = _dot(tangent, towards)
        facing = clip(0.45 + 0.75 * _dot(outward, towards), 0, 1)
        diffuse = np.sqrt(np.maximum(1 - along * along, 0)) * facing
        half = _unit(view + towards[:, None])
        shift = 0.10 * (stripe - 1)
        first = _kajiya_highlight(_dot(tangent, half) + 0.10 + shift, 90)
        second = _kajiya_highlight(_dot(tangent, half) - 0.12 + shift, 22)
        strength = seen * ambient
        for channel in range(3):
            reflected = 0.050 * first * facing + 1.1 * color[channel] * second * facing
            light[channel] += (
                lamp.color[channel] * strength * (color[channel] * diffuse + reflected)
            )
    return light, _STRAND_LABELS[:, strands.kind.take(triangle)]


@cache
def _label(*names: str) -> AnyArray:
    """Return labels (6,): 255 at `names`."""
    row: AnyArray = np.isin(LABELS, names).astype(np.uint8) * 255
    return row


_STRAND_LABELS = np.stack(
    [_label("hair", "head"), _label("face", "head"), _label("glasses", "head")], axis=1
)
"""Labels of ribbons, (6, 3), by their kind: `HAIR`, `BEARD`, `GLASSES`."""


def _kajiya_highlight(cosine: Floats, shine: float) -> Floats:
    """Return sin^shine of the angle with this cosine, as a Gaussian."""
    highlight: Floats = np.exp((-0.5 * shine) * cosine * cosine)
    return highlight


def strand_profile() -> Floats:
    """Return the brightness of strands over a ribbon's width, (1, 512, 1), mean 1."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((1, 514)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (5, 1), 1.2)[:, 1:-1]
    profile: Floats = np.exp(0.32 * smooth / smooth.std())
    return profile[..., None]
