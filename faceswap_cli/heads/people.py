"""People: `random_head_person`, one for every seed, and `head_cast`, five by name."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from types import MappingProxyType

import numpy as np

from faceswap_cli.heads.shape import shape_axes
from faceswap_cli.heads.traits import (
    BodyTraits,
    FaceTraits,
    HairTraits,
    HeadPerson,
    HeadTraits,
)
from faceswap_cli.synthetic.geometry import Triple

SPREAD = 0.36
"""Standard deviation of the weights of shape axes; 1 is MakeHuman's most extreme."""
_CALM = {"head/head-age": 0.5, "chin/chin-cleft": 0.6, "neck/neck-double": 0.6, "ears/": 0.9}
_NEVER = ("nose-trans-horiz", "mouth-trans-horiz", "nose-septumangle", "eye-push")
"""Axes that would be asymmetric, or that part the lids from the eyes."""
_MEAN_MOUTH_WIDTH, _ASIAN_MOUTH_WIDTH = 0.30, 0.35
"""Mean weight of the mouth's width, and what Asian heads add: MakeHuman's mouths are narrow, and
a narrow mouth is read as a pucker."""
_HALVED = ("eye-scale", "eye-height", "eye-corner", "eye-trans", "head-scale", "nose-scale")

_SKINS: tuple[Triple, ...] = (
    (0.94, 0.80, 0.74),
    (0.91, 0.75, 0.66),
    (0.86, 0.68, 0.56),
    (0.76, 0.57, 0.45),
    (0.62, 0.44, 0.33),
    (0.47, 0.32, 0.24),
    (0.34, 0.23, 0.18),
)
"""Complexions from fair to dark."""
_HAIR: tuple[Triple, ...] = (
    (0.07, 0.06, 0.06),
    (0.14, 0.09, 0.07),
    (0.22, 0.14, 0.09),
    (0.33, 0.22, 0.14),
    (0.50, 0.36, 0.22),
    (0.70, 0.55, 0.35),
    (0.46, 0.20, 0.10),
)
_IRIS: tuple[Triple, ...] = (
    (0.18, 0.11, 0.07),
    (0.28, 0.17, 0.09),
    (0.40, 0.30, 0.16),
    (0.34, 0.40, 0.28),
    (0.36, 0.46, 0.56),
    (0.46, 0.52, 0.58),
)


def random_head_person(seed: int) -> HeadPerson:
    """Return a random person; the same for the same seed."""
    rng = np.random.default_rng((seed, 2024))
    body = _random_body(rng)
    tone = _complexion(body, rng)
    hair_color = _hair_color(body, tone, rng)
    hair = _random_hair(body, hair_color, rng)
    brows = _grayed(_scaled(hair_color, rng.uniform(0.8, 1.2)), 0.5 * hair.gray)
    beard = _grayed(hair_color, 0.9 * hair.gray)
    face = _random_face(body, tone, brows=brows, beard=beard, rng=rng)
    head = HeadTraits(
        body=body,
        shape=tuple(_random_shape(body, rng)),
        hair=hair,
        glasses=float(rng.uniform(0.3, 1)) if rng.uniform() < 0.15 else 0.0,
        glasses_size=float(rng.uniform(0.85, 1.15)),
        clothes=_triple(rng.uniform(0.05, 0.85, 3) * rng.uniform(0.5, 1)),
        collar_cm=float(rng.uniform(-1, 2.5)),
        seed=int(rng.integers(1 << 30)),
    )
    return HeadPerson(face=face, head=head)


@cache
def head_cast() -> Mapping[str, HeadPerson]:
    """Return the people by name: random ones, some with other hair, of different age and sex."""
    lea = _with_hair(random_head_person(30), length_cm=7.0)  # 29 years
    ken = random_head_person(56)  # 37
    sam = random_head_person(16)  # 39, bald, with a beard
    nia = random_head_person(48)  # 43
    max_ = random_head_person(26)  # 64
    return MappingProxyType({"lea": lea, "ken": ken, "sam": sam, "nia": nia, "max": max_})


def _with_hair(person: HeadPerson, *, length_cm: float) -> HeadPerson:
    """Return the person with hair of that length, and none over the brow."""
    hair = replace(person.head.hair, length_cm=length_cm, fringe_cm=0.0)
    return replace(person, head=replace(person.head, hair=hair))


def _random_body(rng: np.random.Generator) -> BodyTraits:
    mostly = rng.choice(3)
    shares = rng.dirichlet((0.35, 0.35, 0.35)) * 0.3
    shares[mostly] += 0.7
    male = float(rng.uniform(0.88, 1) if rng.uniform() < 0.5 else rng.uniform(0, 0.12))
    return BodyTraits(
        african=float(shares[0]),
        asian=float(shares[1]),
        male=male,
        age=float(rng.beta(1.3, 1.9) * 60 + 19),
        weight=float(np.clip(rng.normal(0.05, 0.45), -0.8, 1.0)),
        muscle=float(np.clip(rng.normal(0, 0.3), -0.6, 0.6)),
    )


def _random_shape(body: BodyTraits, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    """Yield weights of the shape axes, most of them small."""
    mouth_width = _MEAN_MOUTH_WIDTH + _ASIAN_MOUTH_WIDTH * body.asian
    for name, axis in shape_axes().items():
        if any(word in name for word in _NEVER):
            continue
        spread = SPREAD
        if name.startswith("asym/"):
            spread *= 0.4
        for word, factor in _CALM.items():
            spread *= factor if name.startswith(word) else 1
        if any(word in name for word in _HALVED):
            spread *= 0.85
        mean = mouth_width if name == "mouth/mouth-scale-horiz" else 0.0
        value = float(np.clip(rng.normal(mean, spread), mean - 0.85, mean + 0.85))
        if axis.negative or value > 0:
            yield name, value


def _complexion(body: BodyTraits, rng: np.random.Generator) -> float:
    """Return how dark the skin is, 0 to 1."""
    european = 1 - body.african - body.asian
    mean = 0.78 * body.african + 0.34 * body.asian + 0.20 * european
    return float(np.clip(mean + rng.normal(0, 0.16), 0, 1))


def _between(colors: tuple[Triple, ...], position: float) -> Triple:
    """Return the color at a position, 0 to 1, along a row of colors."""
    at = np.linspace(0, 1, len(colors))
    table = np.array(colors)
    return _triple([np.interp(position, at, table[:, channel]) for channel in range(3)])


def _triple(values: object) -> Triple:
    red, green, blue = (float(one) for one in np.asarray(values))
    return red, green, blue


def _grayed(color: Triple, gray: float) -> Triple:
    """Return a color of hair with a share of white in it."""
    return _triple(np.array(color) + (0.62 - np.array(color)) * gray)


def _scaled(color: Triple, factor: float) -> Triple:
    return _triple(np.array(color) * factor)


def _hair_color(body: BodyTraits, tone: float, rng: np.random.Generator) -> Triple:
    """Return a color of hair: nearly black but for fair Europeans."""
    if 1 - body.african - body.asian < 0.5 or tone > 0.45:
        return _triple(np.array(_HAIR[int(rng.integers(0, 2))]) * rng.uniform(0.7, 1.1))
    color = np.array(_HAIR[int(rng.integers(0, len(_HAIR)))])
    return _triple(color * rng.uniform(0.8, 1.1))


def _random_hair(body: BodyTraits, color: Triple, rng: np.random.Generator) -> HairTraits:
    is_man = body.male > 0.5
    curl = float(np.clip(rng.beta(1.2, 4), 0, 0.7))
    if body.african > 0.6:
        curl = float(rng.uniform(0.75, 1))
    elif body.asian > 0.6:
        curl *= 0.3
    gray = float(np.clip((body.age - 50) / 30 + rng.normal(0, 0.2), 0, 1)) if body.age > 40 else 0.0
    if is_man:
        recession = float(np.clip(rng.beta(1, 3) + (body.age - 35) / 90, 0, 1))
        length = float(
            rng.choice([0.25, 1.0, 2.5, 4, 6, 18], p=[0.14, 0.2, 0.26, 0.24, 0.12, 0.04])
        )
        length = 0.0 if rng.uniform() < 0.06 + 0.2 * (recession > 0.7) else length
    else:
        recession = 0.0
        length = float(rng.choice([3.5, 8, 14, 22, 30], p=[0.1, 0.15, 0.25, 0.3, 0.2]))
    if curl > 0.7:
        length = min(length, 12) * 0.8
    has_fringe = rng.uniform() < (0.35 if length > 3 and recession < 0.4 else 0)
    return HairTraits(
        color=color,
        gray=gray,
        length_cm=length * float(rng.uniform(0.8, 1.2)),
        fringe_cm=float(rng.uniform(4.0, 6.5)) if has_fringe else 0.0,
        lift_cm=float(rng.uniform(0.5, 1.5)),
        curl=curl,
        parting=float(rng.uniform(-1, 1)),
        hairline_cm=float(rng.normal(0, 0.35)),
        recession=recession,
    )


def _random_face(
    body: BodyTraits, tone: float, *, brows: Triple, beard: Triple, rng: np.random.Generator
) -> FaceTraits:
    is_man = body.male > 0.5
    skin = _between(_SKINS, tone)
    skin = _triple(np.array(skin) * (1 + rng.normal(0, 0.02, 3)))
    makeup = 0.0 if is_man else float(np.clip(rng.normal(0.3, 0.35), 0, 1))
    lips = np.array(skin) * (0.86, 0.60, 0.60) * rng.uniform(0.92, 1.08, 3)
    lips += makeup * (np.array([0.62, 0.16, 0.20]) * rng.uniform(0.7, 1.2, 3) - lips) * 0.7
    light_eyes = 1 - body.african - body.asian > 0.6 and tone < 0.3 and rng.uniform() < 0.6
    iris = _IRIS[int(rng.integers(2, 6))] if light_eyes else _IRIS[int(rng.integers(0, 2))]
    bearded = is_man and rng.uniform() < 0.33
    return FaceTraits(
        body=body,
        shape=tuple(_random_shape(body, rng)),
        skin=skin,
        lips=_triple(lips.clip(0.05, 1)),
        iris=iris,
        brows=brows,
        brow_thickness=float(np.clip(rng.normal(0.62 if is_man else 0.38, 0.24), 0.05, 1)),
        brow_arch=float(np.clip(rng.normal(0.3 if is_man else 0.6, 0.26), 0, 1)),
        brow_density=float(np.clip(rng.normal(0.7, 0.2), 0.15, 1)),
        brow_rise_cm=float(rng.normal(0.08 if is_man else 0.0, 0.10)),
        redness=float(rng.uniform(0.1, 0.8)),
        blotches=float(rng.uniform(0.2, 0.9)),
        freckles=float(rng.uniform(0.3, 1)) if tone < 0.35 and rng.uniform() < 0.25 else 0.0,
        moles=int(rng.integers(0, 7)),
        wrinkles=float(np.clip((body.age - 28) / 45 + rng.normal(0, 0.1), 0, 1)),
        gloss=float(rng.uniform(0.1, 0.9)),
        eye_shadow=float(rng.uniform(0.1, 0.7)),
        makeup=makeup,
        stubble=float(rng.uniform(0, 0.8)) if is_man else 0.0,
        beard_cm=float(rng.uniform(0.3, 2.2)) if bearded and rng.uniform() < 0.8 else 0.0,
        mustache_cm=float(rng.uniform(0.4, 1.0)) if bearded else 0.0,
        beard=beard,
        seed=int(rng.integers(1 << 30)),
    )
