"""Textures of a head at rest (colors, hair, creases), as maps over direction: `paint_texture`.

Textures are painted once per person and looked up per pixel, which makes rendering fast. Each map
has copies at half the side (mip levels), so that strands and pores do not flicker in small images.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from faceswap_cli.synthetic.expression import mouth_line_cm
from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    Triple,
    Vector,
    bump,
    clip,
    direction,
    directions,
    scale_vector,
    smoothstep,
    soft_noise,
)
from faceswap_cli.synthetic.hair import hair_depth
from faceswap_cli.synthetic.traits import FaceTraits, HeadTraits, Person

COLUMNS, ROWS = 1280, 640
"""Cells of a map: 0.28 degrees, half a millimeter on the face."""

_CELL_CM = 2 * np.pi * 9 / COLUMNS
_LEVELS = 4

_FINE = ((64, 0.6), (128, 0.8), (256, 1.0))
_COARSE = ((6, 1.0), (12, 0.7), (24, 0.45), (48, 0.3), (128, 0.15))


@dataclass(frozen=True, kw_only=True, eq=False)
class TextureLevel:
    """The maps at one resolution."""

    color: SphereMap
    """red, green, blue (skin, lips, brows and hair together) and hair, each about [0, 1]."""
    detail: SphereMap
    """openness to the sky, smile fold, lip gloss, strand."""
    face: SphereMap
    """1 where a true swap shows the target's face."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Texture:
    """One person's maps, from the sharpest to the coarsest."""

    levels: tuple[TextureLevel, ...]

    def mip_level(self, size_cm: float) -> TextureLevel:
        """Return the maps whose cells best match pixels of `size_cm` on the face."""
        level = round(float(np.log2(max(size_cm / _CELL_CM, 1))))
        return self.levels[min(level, len(self.levels) - 1)]


def paint_texture(person: Person, bare: SphereMap) -> Texture:
    """Paint one person's head; `bare` is the radius table without hair."""
    azimuth, elevation = directions(COLUMNS, ROWS)
    radius = bare.sample(azimuth.ravel(), elevation.ravel()).reshape(azimuth.shape)
    point = scale_vector(direction(azimuth, elevation), radius)
    color, detail = _skin(point, person.face)
    _front(color, detail, point, person.face)
    _ears(detail, point, person.head)
    hair = _hair(color, detail, point, azimuth, elevation, head=person.head)
    throat = -11.4 - person.face.chin_drop_cm
    face = (1 - hair) * smoothstep(1.25, 1.05, np.abs(azimuth))
    face = face * smoothstep(throat - 0.5, throat + 0.5, point[1])
    levels = [
        TextureLevel(
            color=SphereMap(values=np.dstack([color, hair])),
            detail=SphereMap(values=detail),
            face=SphereMap(values=face),
        )
    ]
    while len(levels) < _LEVELS:
        last = levels[-1]
        levels.append(
            TextureLevel(
                color=last.color.downsample(),
                detail=last.detail.downsample(),
                face=last.face.downsample(),
            )
        )
    return Texture(levels=tuple(levels))


def _skin(point: Vector, face: FaceTraits) -> tuple[Floats, Floats]:
    """Return the color (rows, columns, 3) of bare skin and a detail map with its shading only."""
    rng = np.random.default_rng(face.seed)
    blotch = soft_noise(rng, (ROWS, COLUMNS), _COARSE)
    pore = soft_noise(rng, (ROWS, COLUMNS), _FINE)
    tone = 1 + 0.028 * blotch + 0.012 * pore
    # Blotches are redder, not only darker.
    redder = np.array([0.006, -0.010, -0.008], np.float32)
    color = np.array(face.skin, np.float32) * (tone[..., None] + blotch[..., None] * redder)
    detail = np.zeros((*tone.shape, 4), np.float32)
    detail[..., 0] = 1 - 0.45 * smoothstep(-10.6, -12.5, point[1] + face.chin_drop_cm)
    freckle = smoothstep(1.1, 1.9, pore) * face.freckles
    mirrored_x = np.abs(point[0])
    freckle = freckle * bump((mirrored_x - 2.6) / 2.4, (point[1] + 2.3) / 1.6) * _facing(point)
    color *= (1 - 0.22 * freckle)[..., None]
    return color, detail


def _facing(point: Vector) -> Floats:
    """Return 1 on the front of the head, 0 behind its middle."""
    return smoothstep(0, 3, point[2])


def _front(color: Floats, detail: Floats, point: Vector, face: FaceTraits) -> None:
    """Paint the facial features into the front of the maps."""
    front = (
        slice(int(0.05 * ROWS), int(0.78 * ROWS)),
        slice(int(0.29 * COLUMNS), int(0.71 * COLUMNS)),
    )
    front_point = (point[0][front], point[1][front], point[2][front])
    skin, marks = color[front], detail[front]  # views: painting changes the maps
    _blush(skin, front_point, face)
    _creases(marks, front_point, face)
    _nostrils(skin, front_point, face)
    _stubble(skin, front_point, face)
    _brows(skin, front_point, face)
    _lips(skin, marks, front_point, face)


def _blend(color: Floats, over: Floats | Triple, alpha: Floats) -> None:
    """Blend `over` into `color` in place."""
    color += (np.asarray(over, np.float32) - color) * alpha[..., None]


def _blush(skin: Floats, point: Vector, face: FaceTraits) -> None:
    x, y, _ = point
    cheeks = bump((np.abs(x) - 4.2) / 1.7, (y + 2.8) / 1.5)
    nose = bump(x / 1.1, (y + 3.9) / 0.9)
    amount = face.blush * (0.8 * cheeks + 0.7 * nose) * _facing(point)
    skin *= 1 - np.array([-0.05, 0.14, 0.14], np.float32) * amount[..., None]


def _creases(marks: Floats, point: Vector, face: FaceTraits) -> None:
    """Paint ambient occlusion at the inner eye, below nose and lip; and the smile fold."""
    x, y, _ = point
    side, facing = np.abs(x), _facing(point)
    off_eye = side - face.eye_x_cm
    below_nose, below_lip = y + face.nose_length_cm, y - face.mouth_y_cm + 0.25 * face.lower_lip_cm
    hidden = 0.30 * bump((off_eye + 1.1) / 0.9, (y - 0.75) / 0.65)
    hidden += 0.12 * bump(off_eye / 1.7, (y + 1.05) / 0.55)
    hidden += 0.42 * bump(x / (1.5 * face.nose_width), (below_nose + 4.95) / 0.42)
    hidden += 0.22 * bump((side - 1.95 * face.nose_width) / 0.28, (below_nose + 4.0) / 0.7)
    hidden += 0.20 * bump(x / 1.6, (below_lip + 1.65) / 0.38)
    fold = bump((side - 2.3 - 0.35 * (-4.2 - y)) / 0.22)
    fold = fold * smoothstep(-7.6, -6.3, y) * smoothstep(-3.6, -4.6, y) * facing
    marks[..., 0] -= hidden * facing + 0.05 * fold
    marks[..., 1] = fold


def _nostrils(skin: Floats, point: Vector, face: FaceTraits) -> None:
    x, y, _ = point
    off = (np.abs(x) - 0.72 * face.nose_width) / (0.34 * face.nose_width)
    dark = bump(off, (y + 4.62 + face.nose_length_cm) / 0.17) * _facing(point)
    skin *= (1 - 0.80 * dark)[..., None]


def _stubble(skin: Floats, point: Vector, face: FaceTraits) -> None:
    if face.stubble == 0:
        return
    x, y, _ = point
    area = smoothstep(-4.6, -6.2, y) * smoothstep(7.4, 6.0, np.abs(x)) * smoothstep(-13, -11, y)
    bare_lips = 1 - 0.75 * bump(x / 2.6, (y - face.mouth_y_cm) / 0.55)
    amount = face.stubble * area * bare_lips * _facing(point)
    skin *= 1 - np.array([0.40, 0.37, 0.33], np.float32) * amount[..., None]


def _brows(skin: Floats, point: Vector, face: FaceTraits) -> None:
    x, y, _ = point
    along = (np.abs(x) - 1.15) / 3.5  # 0 at the inner end, 1 at the outer
    within = clip(along, 0, 1)
    arch = 1.3 * face.brow_arch * np.sin(within * (0.72 * np.pi))
    middle = face.brow_y_cm - 0.10 + arch - face.brow_tilt * along
    # Round at the inner end, fullest at a third, thin at the tail.
    half = face.brow_thickness_cm * (0.55 + 0.6 * clip(3 * along, 0, 1)) * (1 - 0.85 * within**1.5)
    hairs = 0.10 * np.sin(38 * along + 9 * (y - middle) + 2 * np.sin(11 * along))
    off = np.abs(y - middle) + 0.06 * hairs
    brow = smoothstep(0.17, -0.17, off - half) * (0.92 + hairs)
    brow = brow * smoothstep(-0.06, 0.14, along) * smoothstep(1.08, 0.82, along) * _facing(point)
    _blend(skin, face.brow, clip(brow, 0, 1))


def _lips(skin: Floats, marks: Floats, point: Vector, face: FaceTraits) -> None:
    x, y, _ = point
    facing = _facing(point)
    seam = mouth_line_cm(x, face)
    out = x * (1 / face.mouth_width_cm)
    within, side = clip(out, -1, 1), np.abs(out)
    cupid = 0.20 * bump(x / 0.42)
    top = seam + face.upper_lip_cm * (1 - np.abs(within) ** 1.7 - cupid)
    bottom = seam - face.lower_lip_cm * (1 - within * within)
    lips = smoothstep(0.10, -0.10, y - top) * smoothstep(-0.10, 0.10, y - bottom)
    lips = lips * smoothstep(1.02, 0.90, side) * facing
    upper = smoothstep(-0.04, 0.04, y - seam)
    wrinkles = 1 + 0.03 * np.sin(x * 9 + 2 * np.sin(x * 4)) * (1 - side)
    _blend(skin, np.array(face.lip, np.float32) * (wrinkles * (1 - 0.20 * upper))[..., None], lips)
    line = bump((y - seam) / 0.075) * smoothstep(1.06, 0.9, side) * facing
    corner = bump((np.abs(x) - 1.02 * face.mouth_width_cm) / 0.22, (y - seam) / 0.22) * facing
    skin *= ((1 - 0.72 * line) * (1 - 0.30 * corner))[..., None]
    marks[..., 2] = lips


def _ears(detail: Floats, point: Vector, head: HeadTraits) -> None:
    """Darken the hollow of each ear and the fold behind its rim."""
    x, y, z = point
    size = head.ear_size
    on_ear = smoothstep(6.5, 7.2, np.abs(x))
    hollow = bump((y + 1.2 * size) / (1.3 * size), (z + 0.3) / (0.75 * size))
    ring = np.hypot((y + 0.8) / (2.1 * size), (z + 0.7) / (1.25 * size))
    detail[..., 0] -= on_ear * (0.50 * hollow + 0.22 * bump((ring - 0.85) / 0.12))


def _hair(
    color: Floats,
    detail: Floats,
    point: Vector,
    azimuth: Floats,
    elevation: Floats,
    *,
    head: HeadTraits,
) -> Floats:
    """Paint the hair over the maps; return how much of each cell it covers."""
    strand, tuft = _strands(azimuth, elevation, head.seed)
    depth = hair_depth(point, azimuth, elevation, head=head)
    # Single strands cross the hairline, so that it is not a sharp edge.
    hair = smoothstep(-0.5, 0.6, depth + 0.22 * strand + 0.16 * tuft)
    shade = clip(1 + 0.24 * strand + 0.10 * tuft, 0.35, 2.0)
    _blend(color, np.array(head.hair, np.float32) * shade[..., None], hair)
    # The skin next to the hair is in its shadow.
    detail[..., 0] *= 1 - 0.22 * bump((depth + 0.25) / 0.6)
    detail[..., 3] = strand
    return hair


def _strands(azimuth: Floats, elevation: Floats, seed: int) -> tuple[Floats, Floats]:
    """Return fine strands that run down from the crown, and the coarser tufts they form."""
    rng = np.random.default_rng(seed)
    random = rng.standard_normal((8, 512)).astype(np.float32)
    fine = np.asarray(cv2.GaussianBlur(cv2.resize(random, (1024, 256)), (0, 0), 1.0))
    coarse = np.asarray(cv2.GaussianBlur(fine, (0, 0), 6))
    columns = (azimuth + np.pi) * (1023 / (2 * np.pi))
    rows = (elevation + 1.6) * (60 / 3.2) + np.sin(3 * azimuth) + 2
    # Meridians meet at the crown: fade them there.
    fade = clip(1.6 * np.cos(elevation), 0, 1)
    strand, tuft = (
        cv2.remap(noise / noise.std(), columns, rows, cv2.INTER_LINEAR) * fade
        for noise in (fine, coarse)
    )
    return strand, tuft
