"""Synthetic people: `CAST`, five made by hand, and `random_person`."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from faceswap_cli.synthetic.geometry import Triple
from faceswap_cli.synthetic.traits import FaceTraits, HeadTraits, Person

ADA = Person(
    face=FaceTraits(
        face_width=0.95,
        jaw_width=0.90,
        chin_width=0.85,
        nose_width=0.88,
        nose_length_cm=-0.15,
        eye_width_cm=1.62,
        eye_height_cm=0.72,
        eye_tilt=0.12,
        mouth_width_cm=2.35,
        upper_lip_cm=0.75,
        lower_lip_cm=0.95,
        brow_thickness_cm=0.34,
        brow_arch=0.5,
        skin=(0.86, 0.67, 0.57),
        lip=(0.72, 0.30, 0.32),
        iris=(0.25, 0.42, 0.45),
        brow=(0.25, 0.14, 0.09),
        lashes=1.6,
        blush=0.9,
        freckles=0.5,
        seed=11,
    ),
    head=HeadTraits(
        hair=(0.33, 0.17, 0.08),
        hair_volume_cm=1.1,
        long_hair=1.0,
        clothes=(0.55, 0.20, 0.22),
        seed=11,
    ),
)
BO = Person(
    face=FaceTraits(
        face_width=1.06,
        jaw_width=1.15,
        chin_width=1.25,
        chin_drop_cm=0.35,
        nose_width=1.22,
        nose_length_cm=0.25,
        nose_tip_cm=0.25,
        eye_width_cm=1.42,
        eye_height_cm=0.54,
        eye_tilt=0.0,
        mouth_width_cm=2.7,
        upper_lip_cm=0.5,
        lower_lip_cm=0.66,
        brow_thickness_cm=0.62,
        brow_arch=0.15,
        brow_y_cm=1.6,
        brow_ridge=1.35,
        skin=(0.56, 0.38, 0.28),
        lip=(0.50, 0.26, 0.24),
        iris=(0.20, 0.12, 0.07),
        brow=(0.06, 0.045, 0.04),
        stubble=0.55,
        lashes=0.9,
        seed=23,
    ),
    head=HeadTraits(
        hair=(0.06, 0.05, 0.05),
        hair_volume_cm=0.45,
        hairline_y_cm=7.2,
        clothes=(0.22, 0.30, 0.25),
        seed=23,
    ),
)
CY = Person(
    face=FaceTraits(
        face_width=1.06,
        cheek_size=1.12,
        jaw_width=0.98,
        chin_drop_cm=-0.15,
        nose_width=1.14,
        nose_length_cm=-0.1,
        nose_bridge_cm=-0.2,
        eye_height_cm=0.54,
        eye_tilt=0.18,
        eye_x_cm=3.42,
        mouth_width_cm=2.35,
        upper_lip_cm=0.62,
        lower_lip_cm=0.75,
        brow_y_cm=2.0,
        brow_thickness_cm=0.42,
        brow_arch=0.2,
        skin=(0.78, 0.60, 0.45),
        iris=(0.17, 0.10, 0.06),
        brow=(0.06, 0.05, 0.05),
        stubble=0.15,
        seed=37,
    ),
    head=HeadTraits(
        hair=(0.05, 0.045, 0.05),
        hair_volume_cm=1.0,
        hairline_y_cm=5.9,
        parting=-0.3,
        clothes=(0.75, 0.72, 0.66),
        seed=37,
    ),
)
DI = Person(
    face=FaceTraits(
        face_width=0.96,
        jaw_width=0.9,
        chin_drop_cm=-0.25,
        chin_width=0.9,
        brow_ridge=0.85,
        nose_width=1.24,
        nose_length_cm=-0.2,
        eye_width_cm=1.6,
        eye_height_cm=0.68,
        mouth_width_cm=2.7,
        upper_lip_cm=0.9,
        lower_lip_cm=1.05,
        brow_thickness_cm=0.34,
        brow_arch=0.5,
        skin=(0.40, 0.26, 0.19),
        lip=(0.45, 0.20, 0.20),
        iris=(0.14, 0.08, 0.05),
        brow=(0.04, 0.03, 0.03),
        lashes=1.4,
        seed=51,
    ),
    head=HeadTraits(
        hair=(0.04, 0.03, 0.03),
        hair_volume_cm=1.5,
        long_hair=0.6,
        clothes=(0.80, 0.62, 0.20),
        seed=51,
    ),
)
ED = Person(
    face=FaceTraits(
        face_width=0.97,
        jaw_width=1.0,
        chin_drop_cm=0.4,
        chin_width=1.1,
        cheek_size=0.9,
        nose_width=0.88,
        nose_length_cm=0.45,
        nose_bridge_cm=0.3,
        nose_tip_cm=0.3,
        eye_x_cm=3.02,
        eye_width_cm=1.38,
        eye_height_cm=0.52,
        eye_tilt=-0.04,
        mouth_width_cm=2.45,
        upper_lip_cm=0.42,
        lower_lip_cm=0.58,
        mouth_y_cm=-6.9,
        brow_y_cm=1.6,
        brow_thickness_cm=0.5,
        brow_arch=0.2,
        brow_ridge=1.3,
        skin=(0.83, 0.63, 0.54),
        iris=(0.30, 0.40, 0.55),
        brow=(0.40, 0.37, 0.34),
        stubble=0.25,
        freckles=0.2,
        seed=67,
    ),
    head=HeadTraits(
        hair=(0.62, 0.60, 0.58),
        hair_volume_cm=0.5,
        hairline_y_cm=7.8,
        clothes=(0.15, 0.15, 0.18),
        seed=67,
    ),
)

CAST: Mapping[str, Person] = MappingProxyType({"ada": ADA, "bo": BO, "cy": CY, "di": DI, "ed": ED})
"""Five people of different build, skin, brows, eyes and hair, by name."""

_DARKEST_SKIN, _LIGHTEST_SKIN = (0.30, 0.19, 0.13), (0.90, 0.71, 0.61)
_DARK_HAIR: tuple[Triple, ...] = ((0.05, 0.04, 0.04), (0.16, 0.09, 0.05))
_LIGHT_HAIR: tuple[Triple, ...] = (
    (0.34, 0.19, 0.09),
    (0.62, 0.45, 0.24),
    (0.5, 0.48, 0.46),
    (0.42, 0.15, 0.06),
)
_DARK_IRISES: tuple[Triple, ...] = ((0.14, 0.08, 0.05), (0.32, 0.22, 0.12))
_LIGHT_IRISES: tuple[Triple, ...] = ((0.25, 0.42, 0.45), (0.30, 0.40, 0.55), (0.32, 0.40, 0.22))


def random_person(seed: int) -> Person:
    """Return a person within the ranges the detectors were tested on; the same for a seed."""
    rng = np.random.default_rng(seed)
    lightness = float(rng.uniform())
    is_light = lightness > 0.5
    hair_colors = _DARK_HAIR + _LIGHT_HAIR * is_light
    hair = hair_colors[int(rng.integers(len(hair_colors)))]
    return Person(face=_random_face(rng, lightness, hair), head=_random_head(rng, hair))


def _random_face(rng: np.random.Generator, lightness: float, hair: Triple) -> FaceTraits:
    skin = _jitter_color(
        _interpolate(_DARKEST_SKIN, _LIGHTEST_SKIN, lightness),
        rng,
        (1, 0.97, 0.94),
        (1, 1.02, 1.03),
    )
    irises = _DARK_IRISES + _LIGHT_IRISES * (lightness > 0.5)
    return FaceTraits(
        face_width=_uniform(rng, 0.93, 1.07),
        jaw_width=_uniform(rng, 0.86, 1.18),
        chin_drop_cm=_uniform(rng, -0.35, 0.45),
        chin_width=_uniform(rng, 0.8, 1.3),
        cheek_size=_uniform(rng, 0.85, 1.15),
        brow_ridge=_uniform(rng, 0.8, 1.4),
        nose_length_cm=_uniform(rng, -0.35, 0.45),
        nose_width=_uniform(rng, 0.82, 1.3),
        nose_tip_cm=_uniform(rng, -0.2, 0.35),
        nose_bridge_cm=_uniform(rng, -0.2, 0.3),
        eye_x_cm=_uniform(rng, 2.95, 3.45),
        eye_width_cm=_uniform(rng, 1.35, 1.65),
        eye_height_cm=_uniform(rng, 0.5, 0.74),
        eye_tilt=_uniform(rng, -0.05, 0.18),
        mouth_width_cm=_uniform(rng, 2.2, 2.85),
        mouth_y_cm=_uniform(rng, -6.95, -6.5),
        upper_lip_cm=_uniform(rng, 0.4, 0.9),
        lower_lip_cm=_uniform(rng, 0.55, 1.05),
        brow_y_cm=_uniform(rng, 1.55, 2.05),
        brow_thickness_cm=_uniform(rng, 0.3, 0.65),
        brow_arch=_uniform(rng, 0.1, 0.55),
        brow_tilt=_uniform(rng, -0.1, 0.1),
        skin=skin,
        lip=_jitter_color(skin, rng, (0.8, 0.5, 0.6), (0.95, 0.72, 0.85)),
        iris=irises[int(rng.integers(len(irises)))],
        brow=_interpolate((0.0, 0.0, 0.0), hair, _uniform(rng, 0.6, 0.95)),
        lashes=_uniform(rng, 0.7, 1.6),
        stubble=max(0.0, _uniform(rng, -0.6, 0.6)),
        blush=_uniform(rng, 0.2, 0.9),
        freckles=max(0.0, _uniform(rng, -0.6, 0.6)),
        seed=int(rng.integers(1, 9999)),
    )


def _random_head(rng: np.random.Generator, hair: Triple) -> HeadTraits:
    return HeadTraits(
        skull_width=_uniform(rng, 0.96, 1.05),
        skull_height=_uniform(rng, 0.96, 1.05),
        hair=hair,
        hair_volume_cm=_uniform(rng, 0.4, 1.4),
        hairline_y_cm=_uniform(rng, 5.9, 8.0),
        long_hair=float(rng.integers(2)) * _uniform(rng, 0.5, 1.0),
        parting=_uniform(rng, -0.4, 0.4),
        clothes=_random_clothes(rng),
        seed=int(rng.integers(1, 9999)),
    )


def _random_clothes(rng: np.random.Generator) -> Triple:
    """Return a muted color, dark or light."""
    gray = _uniform(rng, 0.12, 0.75)
    dye = _jitter_color((1, 1, 1), rng, (0.1, 0.1, 0.1), (0.9, 0.9, 0.9))
    return _interpolate((gray, gray, gray), dye, 0.35)


def _uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(rng.uniform(low, high))


def _interpolate(first: Triple, second: Triple, fraction: float) -> Triple:
    red, green, blue = (a + (b - a) * fraction for a, b in zip(first, second, strict=True))
    return red, green, blue


def _jitter_color(color: Triple, rng: np.random.Generator, low: Triple, high: Triple) -> Triple:
    """Return `color` with each channel times a random factor, neither black nor white."""
    red, green, blue = (
        min(max(c * _uniform(rng, a, b), 0.03), 0.92)
        for c, a, b in zip(color, low, high, strict=True)
    )
    return red, green, blue
