"""`Person`: the parameters of a synthetic person, those of the face and those of the head."""

from dataclasses import dataclass, replace

from faceswap_cli.synthetic.geometry import Triple


@dataclass(frozen=True, kw_only=True)
class FaceTraits:
    """Shape, features and skin of a face: what a swap replaces.

    Lengths are cm from the head's center or across; `*_width` and `*_size` without a unit are
    factors of an average face; colors are display RGB in [0, 1].
    """

    face_width: float = 1.0
    jaw_width: float = 1.0
    chin_drop_cm: float = 0.0
    chin_width: float = 1.0
    cheek_size: float = 1.0
    brow_ridge: float = 1.0
    nose_length_cm: float = 0.0
    nose_width: float = 1.0
    nose_tip_cm: float = 0.0
    nose_bridge_cm: float = 0.0
    eye_x_cm: float = 3.2
    eye_y_cm: float = 0.0
    eye_width_cm: float = 1.5
    """Distance from the middle of the eye to a corner."""
    eye_height_cm: float = 0.62
    eye_tilt: float = 0.06
    """Rise of the outer corner per cm outwards."""
    mouth_width_cm: float = 2.5
    """Distance from the middle of the mouth to a corner."""
    mouth_y_cm: float = -6.75
    upper_lip_cm: float = 0.62
    lower_lip_cm: float = 0.78
    brow_y_cm: float = 1.85
    brow_thickness_cm: float = 0.42
    brow_arch: float = 0.35
    brow_tilt: float = 0.0
    skin: Triple = (0.80, 0.60, 0.49)
    lip: Triple = (0.68, 0.34, 0.33)
    iris: Triple = (0.32, 0.22, 0.12)
    brow: Triple = (0.16, 0.10, 0.07)
    lashes: float = 1.0
    stubble: float = 0.0
    blush: float = 0.5
    freckles: float = 0.0
    seed: int = 1
    """Seed of the skin's blotches and freckles."""


@dataclass(frozen=True, kw_only=True)
class HeadTraits:
    """Skull, ears, hair, glasses, clothes: what a swap preserves; units as in `FaceTraits`."""

    skull_width: float = 1.0
    skull_height: float = 1.0
    ear_size: float = 1.0
    hair: Triple = (0.15, 0.09, 0.06)
    hair_volume_cm: float = 0.8
    hairline_y_cm: float = 6.6
    long_hair: float = 0.0
    """0 for short hair, up to 1 for hair that hangs next to the face and covers the ears."""
    parting: float = 0.2
    """Position of the hairline's peak: -1 the image's left, +1 its right."""
    clothes: Triple = (0.20, 0.28, 0.42)
    glasses: float = 0.0
    """Darkness of the frames of a pair of glasses; 0 for no glasses."""
    seed: int = 1
    """Seed of the strands of hair."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """A synthetic person: a face on a head."""

    face: FaceTraits
    head: HeadTraits

    def on_head_of(self, other: "Person") -> "Person":
        """Return this person's face on the head of `other`: the true swap, exactly."""
        return Person(face=self.face, head=other.head)

    def with_skin_of(self, other: "Person") -> "Person":
        """Return this person in the skin tone of `other`, features unchanged.

        `bo.with_skin_of(ada).on_head_of(ada)` is the truth for a converter that matches the
        colors of the target frame.
        """
        return replace(self, face=replace(self.face, skin=other.face.skin))
