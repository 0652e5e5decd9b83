"""`HeadPerson`: what makes a person of the mesh heads, in a face and a head.

A swap replaces the face and keeps the head: `HeadPerson.on_head_of` is the true swap.
"""

from dataclasses import dataclass, replace

from faceswap_cli.synthetic.geometry import Triple

ShapeWeights = tuple[tuple[str, float], ...]
"""Weights by the names of shape axes (`shape.shape_axes`), about -1 to 1, 0 is average."""


@dataclass(frozen=True, kw_only=True)
class BodyTraits:
    """What decides about the average form of a head."""

    african: float = 0.0
    """0 to 1; with `asian` at most 1, the rest is European."""
    asian: float = 0.0
    male: float = 0.5
    """0 female to 1 male."""
    age: float = 30.0
    """years, 18 to 90"""
    weight: float = 0.0
    """-1 thin to 1 heavy."""
    muscle: float = 0.0
    """-1 to 1."""


@dataclass(frozen=True, kw_only=True)
class FaceTraits:
    """Shape, features and complexion of a face: what a swap replaces.

    Colors are display RGB in [0, 1]; amounts are 0 to 1.
    """

    body: BodyTraits = BodyTraits()
    shape: ShapeWeights = ()
    skin: Triple = (0.80, 0.62, 0.53)
    lips: Triple = (0.66, 0.38, 0.36)
    iris: Triple = (0.32, 0.22, 0.12)
    brows: Triple = (0.16, 0.10, 0.07)
    brow_thickness: float = 0.5
    brow_arch: float = 0.5
    brow_density: float = 0.7
    brow_rise_cm: float = 0.0
    redness: float = 0.4
    blotches: float = 0.4
    freckles: float = 0.0
    moles: int = 2
    wrinkles: float = 0.2
    gloss: float = 0.4
    eye_shadow: float = 0.3
    """Darkness around the eyes."""
    makeup: float = 0.0
    """Eyeliner, lipstick and rouge."""
    stubble: float = 0.0
    beard_cm: float = 0.0
    """Length of the beard's hairs; 0 for none."""
    mustache_cm: float = 0.0
    beard: Triple = (0.16, 0.10, 0.07)
    seed: int = 1
    """Seed of blotches, freckles, moles and single hairs."""


@dataclass(frozen=True, kw_only=True)
class HairTraits:
    """Hair of the head; lengths in cm."""

    color: Triple = (0.15, 0.09, 0.06)
    gray: float = 0.0
    """Share of white hairs."""
    length_cm: float = 4.0
    """0 is bald."""
    fringe_cm: float = 0.0
    """Length of the hair that falls over the brow; 0 combs it back."""
    lift_cm: float = 0.8
    """How far hair stands off the scalp."""
    curl: float = 0.1
    """0 straight to 1 tight curls."""
    parting: float = 0.3
    """-1 the image's left to 1 its right."""
    hairline_cm: float = 0.0
    """How much higher the hairline is than average."""
    recession: float = 0.1
    """0 none to 1 a bare crown."""


@dataclass(frozen=True, kw_only=True)
class HeadTraits:
    """Skull, ears, neck, hair, glasses and clothes: what a swap leaves."""

    body: BodyTraits = BodyTraits()
    shape: ShapeWeights = ()
    hair: HairTraits = HairTraits()
    glasses: float = 0.0
    """Darkness of the frames; 0 for no glasses."""
    glasses_size: float = 1.0
    frame_width: float = 1.0
    """Of the glasses; 1 is 2.6 mm around the lenses, metal is about 0.4."""
    clothes: Triple = (0.20, 0.28, 0.42)
    collar_cm: float = 0.0
    """How much higher than average the collar is."""
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class HeadPerson:
    """A person: a face on a head."""

    face: FaceTraits
    head: HeadTraits
    face_shift_cm: tuple[float, float] = (0.0, 0.0)
    """How far to image right and up the face is moved on the head, from where it has the points of
    alignment."""

    def on_head_of(self, other: "HeadPerson") -> "HeadPerson":
        """Return this person's face on the head of `other`: the true swap, exactly."""
        return HeadPerson(face=self.face, head=other.head)

    def with_skin_of(self, other: "HeadPerson") -> "HeadPerson":
        """Return this person in the complexion of `other`, features unchanged.

        `bo.with_skin_of(ada).on_head_of(ada)` is the truth for a converter that matches colors.
        """
        face = replace(self.face, skin=other.face.skin, redness=other.face.redness)
        return replace(self, face=face)
