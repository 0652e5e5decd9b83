"""Light from points on a head towards the camera: `shade`."""

from dataclasses import dataclass

import numpy as np

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.expression import Expression
from faceswap_cli.synthetic.eyes import add_eyes
from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    Triple,
    Vector,
    clip,
    direction,
    directions,
    dot,
    scale_vector,
    smoothstep,
    spherical,
    unit,
)
from faceswap_cli.synthetic.mouth import add_mouth
from faceswap_cli.synthetic.texture import TextureLevel
from faceswap_cli.synthetic.traits import Person

SKIN_WRAP = (0.30, 0.18, 0.14)
"""Softness of the light's edge per channel: red is scattered furthest in skin."""

_LAMP: Triple = (0.966, 0.92, 0.874)
_SKY: Triple = (0.95, 1.00, 1.06)
_LAMPLIT_ROOM: Triple = (1.06, 1.00, 0.92)

_SHADOW_COLUMNS, _SHADOW_ROWS = 180, 90
_SHADOW_STEPS_CM = (0.5, 1.0, 1.7, 2.6, 3.8, 5.4)
_SHADOW_DARKNESS = 0.72


@dataclass(frozen=True, kw_only=True, eq=False)
class Lighting:
    """The light of one scene, in head coordinates."""

    lamp: Triple
    """Unit vector towards the lamp."""
    up: Triple
    """Unit vector towards the sky."""
    eye: Triple
    """The camera, cm."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shaded:
    """Light and face mask of the pixels."""

    light: Floats
    """float32 (N, 3)."""
    face: Floats
    """float32 (N,): 1 where a true swap shows the target's face."""


def shade(
    point: Vector,
    ray: Vector,
    *,
    person: Person,
    texture: TextureLevel,
    expression: Expression,
    rest_radius: SphereMap,
    radius: SphereMap,
    lighting: Lighting,
) -> Shaded:
    """Return the light from points (N,) on the moved head towards the camera.

    Args:
        point: Points on the surface, head coordinates, cm.
        ray: Unit directions from the camera to them.
        person: The person.
        texture: The head's texture.
        expression: The face's expression.
        rest_radius: The radius table of the head at rest.
        radius: The radius table of the moved head.
        lighting: Lamp, sky and camera.
    """
    scene = expression.scene
    azimuth, elevation, r = spherical(point)
    normal = _normal(radius, azimuth, elevation, r)
    rest_azimuth, rest_elevation, opening = expression.to_canonical(azimuth, elevation)
    color = texture.color.sample(rest_azimuth, rest_elevation)
    detail = texture.detail.sample(rest_azimuth, rest_elevation)
    shadow = compute_shadow(radius, lighting.lamp).sample(azimuth, elevation)
    light = _apply_lighting(color, detail, normal, ray, shadow, lighting=lighting, scene=scene)
    add_mouth(
        light,
        point,
        opening,
        azimuth=azimuth,
        ray=ray,
        lamp=lighting.lamp,
        mouth=expression.mouth,
        scene=scene,
    )
    rest = scale_vector(
        direction(rest_azimuth, rest_elevation), rest_radius.sample(rest_azimuth, rest_elevation)
    )
    add_eyes(
        light,
        rest,
        ray=ray,
        eye=lighting.eye,
        lamp=lighting.lamp,
        shadow=shadow,
        face=person.face,
        scene=scene,
    )
    return Shaded(light=light, face=texture.face.sample(rest_azimuth, rest_elevation))


def compute_shadow(radius: SphereMap, lamp: Triple) -> SphereMap:
    """Return a coarse map of how much of the lamp's light reaches the surface, 0 to 1.

    A shadow's edge on a face is soft, so a two-degree map, computed once per image, is fine enough.
    """
    azimuth, elevation = (a.ravel() for a in directions(_SHADOW_COLUMNS, _SHADOW_ROWS))
    r = radius.sample(azimuth, elevation)
    normal = _normal(radius, azimuth, elevation, r)
    lit = np.flatnonzero(_along(normal, lamp) > 0)
    start = [
        (d[lit] * r[lit] + n[lit] * 0.25)
        for d, n in zip(direction(azimuth, elevation), normal, strict=True)
    ]
    blocked = np.zeros(lit.size, np.float32)
    for step in _SHADOW_STEPS_CM:
        x, y, z = (s + towards * step for s, towards in zip(start, lamp, strict=True))
        sample_azimuth, sample_elevation, height = spherical((x, y, z))
        depth = radius.sample(sample_azimuth, sample_elevation) - height
        blocked = np.maximum(blocked, clip(depth * (1 / (0.12 + 0.16 * step)), 0, 1))
    reached = np.ones(azimuth.size, np.float32)
    reached[lit] -= _SHADOW_DARKNESS * blocked
    return SphereMap(values=reached.reshape(_SHADOW_ROWS, _SHADOW_COLUMNS))


def _normal(radius: SphereMap, azimuth: Floats, elevation: Floats, r: Floats) -> Vector:
    """Return the outward unit normals of the surface r = radius(azimuth, elevation)."""
    slopes = radius.with_slopes.sample(azimuth, elevation)
    outward = direction(azimuth, elevation)
    level = np.cos(elevation)
    by_azimuth = slopes[:, 1] / (r * np.maximum(level, 0.15))
    by_elevation = slopes[:, 2] / r
    sine_a, cosine_a, sine_e = np.sin(azimuth), np.cos(azimuth), outward[1]
    return unit(
        (
            outward[0] - by_azimuth * cosine_a + by_elevation * sine_e * sine_a,
            outward[1] - by_elevation * level,
            outward[2] + by_azimuth * sine_a + by_elevation * sine_e * cosine_a,
        )
    )


def _apply_lighting(
    color: Floats,
    detail: Floats,
    normal: Vector,
    ray: Vector,
    shadow: Floats,
    *,
    lighting: Lighting,
    scene: SceneParams,
) -> Floats:
    """Return the light from the textured surface under lamp and sky: diffuse and specular."""
    hair, gloss, strand = color[:, 3], detail[:, 2], detail[:, 3]
    openness = detail[:, 0] - 0.20 * scene.smile * detail[:, 1]
    wrap = np.array(SKIN_WRAP, np.float32)
    towards_lamp = _along(normal, lighting.lamp)
    diffuse = clip((towards_lamp[:, None] + wrap) * (1 / (1 + wrap)), 0, 1)
    sky = np.array(_SKY, np.float32) * (1 - scene.warmth)
    sky += np.array(_LAMPLIT_ROOM, np.float32) * np.float32(scene.warmth)
    upward = 0.5 + 0.5 * _along(normal, lighting.up)
    ambient = scene.ambient * (0.55 + 0.6 * upward) * openness
    lamp = scene.key * shadow * (0.55 + 0.45 * openness)
    arriving = ambient[:, None] * sky
    arriving += diffuse * lamp[:, None] * np.array(_LAMP, np.float32)
    shine = _specular(towards_lamp, normal, ray, hair, gloss, strand, lamp=lighting.lamp)
    facing = clip(-dot(normal, ray), 0, 1)
    rim = 0.10 * scene.ambient * (1 - facing) ** 3
    light: Floats = color[:, :3] * arriving
    light += (shine * (scene.key * shadow * openness) + rim)[:, None]
    return light


def _specular(
    towards_lamp: Floats,
    normal: Vector,
    ray: Vector,
    hair: Floats,
    gloss: Floats,
    strand: Floats,
    *,
    lamp: Triple,
) -> Floats:
    """Return the lamp's reflection: broad and sharp on skin, streaked on hair (Blinn)."""
    halfway = unit((lamp[0] - ray[0], lamp[1] - ray[1], lamp[2] - ray[2]))
    aligned = clip(dot(normal, halfway), 0, 1)
    aligned2 = aligned * aligned
    aligned4 = aligned2 * aligned2
    aligned8 = aligned4 * aligned4
    broad = aligned8 * aligned8 * aligned4 * aligned2
    sharp = broad * broad * aligned8 * aligned8
    skin = (0.15 * broad * (1 + 0.7 * gloss) + 0.09 * sharp) * (1 - hair)
    streak = 0.10 * aligned8 * aligned2 * clip(1 + 0.5 * strand, 0, 2) * hair
    shine: Floats = (skin + streak) * smoothstep(-0.1, 0.15, towards_lamp)
    return shine


def _along(vector: Vector, towards: Triple) -> Floats:
    """Return the components of many vectors along one direction."""
    part: Floats = vector[0] * towards[0] + vector[1] * towards[1] + vector[2] * towards[2]
    return part
