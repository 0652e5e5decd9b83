"""Rendering of one frame: `render_frame` of a `HeadModel` at a scene."""

import zlib
from dataclasses import astuple, dataclass
from functools import cache, lru_cache
from statistics import NormalDist

import cv2
import numpy as np

from faceswap_cli.core.types import Image, Mask
from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.background import (
    Canvas,
    add_body,
    add_glasses,
    add_hand,
    lamp_direction,
    render_background,
)
from faceswap_cli.synthetic.camera import Camera, Placement, camera_for, place_head
from faceswap_cli.synthetic.expression import (
    Expression,
    MouthLine,
    find_mouth_line,
    mouth_line_cm,
)
from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    clip,
    direction,
)
from faceswap_cli.synthetic.hair import with_hair
from faceswap_cli.synthetic.head_shape import radius_table
from faceswap_cli.synthetic.ray_casting import cast_rays
from faceswap_cli.synthetic.shading import Lighting, shade
from faceswap_cli.synthetic.texture import Texture, paint_texture
from faceswap_cli.synthetic.traits import FaceTraits, Person

_SHOULDER, _GAMMA = 0.12, 1.15
"""Roll-off of bright light, and the image's contrast."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedFrame:
    """An image and its ground truth."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    face_mask: Mask
    """float32 (S, S): 1 where a true swap shows the target's face."""
    head_mask: Mask
    """float32 (S, S): 1 on the head, hair included."""
    landmarks: dict[str, tuple[float, float]]
    """Named points of the face, (x, y) px, occluded ones too; `left` is the image's left."""
    scene: SceneParams


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadModel:
    """A person's precomputed tables and textures, for rendering."""

    person: Person
    radius: SphereMap
    """The head at rest, hair included, cm."""
    mouth: MouthLine
    texture: Texture

    @classmethod
    def from_person(cls, person: Person) -> "HeadModel":
        """Return a person's head model, cached for the last few people."""
        return _cached_head_model(person)

    @classmethod
    def build(cls, person: Person) -> "HeadModel":
        """Compute a person's head model: takes half a second."""
        bare = radius_table(person)
        return cls(
            person=person,
            radius=with_hair(bare, person.head),
            mouth=find_mouth_line(bare, person.face),
            texture=paint_texture(person, bare),
        )


@lru_cache(maxsize=8)
def _cached_head_model(person: Person) -> HeadModel:
    return HeadModel.build(person)


def render_frame(head_model: HeadModel, scene: SceneParams, size_px: int) -> RenderedFrame:
    """Render `head_model` at `scene` as a square image of `size_px`.

    Deterministic: the same arguments give the same bytes in every process.
    """
    camera, placement = camera_for(scene, size_px), place_head(scene)
    expression = Expression(scene=scene, mouth=head_model.mouth)
    radius = expression.deform_radius(head_model.radius)
    canvas = render_background(scene, size_px)
    add_body(canvas, head_model.person, scene, camera=camera)
    face_mask, head_mask = _add_head(
        canvas, head_model, expression, radius=radius, camera=camera, placement=placement
    )
    add_glasses(canvas, head_model.person, scene, camera=camera, placement=placement)
    uncovered = 1 - add_hand(canvas, scene, camera=camera)
    return RenderedFrame(
        image=_tone_map(canvas.light, scene),
        face_mask=face_mask * uncovered,
        head_mask=head_mask * uncovered,
        landmarks=_find_landmarks(
            head_model.person.face,
            expression,
            rest=head_model.radius,
            radius=radius,
            camera=camera,
            placement=placement,
        ),
        scene=scene,
    )


def _add_head(
    canvas: Canvas,
    head_model: HeadModel,
    expression: Expression,
    *,
    radius: SphereMap,
    camera: Camera,
    placement: Placement,
) -> tuple[Mask, Mask]:
    """Render the head on `canvas`, in place; return the face's mask and the head's."""
    visible = cast_rays(radius, camera, placement, nearer_than_cm=canvas.depth_cm)
    shaded = shade(
        visible.point,
        visible.ray,
        person=head_model.person,
        texture=head_model.texture.mip_level(camera.pixel_cm),
        expression=expression,
        rest_radius=head_model.radius,
        radius=radius,
        lighting=_lighting(expression.scene, placement),
    )
    pixels = visible.rows, visible.columns
    below = canvas.light[pixels]
    canvas.light[pixels] = below + (shaded.light - below) * visible.alpha[:, None]
    canvas.depth_cm[pixels] = visible.distance
    masks = np.zeros((2, camera.size_px, camera.size_px), np.float32)
    masks[0][pixels] = clip(shaded.face, 0, 1) * visible.alpha
    masks[1][pixels] = visible.alpha
    return masks[0], masks[1]


def _find_landmarks(
    face: FaceTraits,
    expression: Expression,
    *,
    rest: SphereMap,
    radius: SphereMap,
    camera: Camera,
    placement: Placement,
) -> dict[str, tuple[float, float]]:
    """Return the projections of a face's named points, (x, y) px; `rest` and `radius` in cm."""
    at_rest = _landmarks_at_rest(face)
    x, y = np.array(list(at_rest.values()), np.float32).T
    azimuth, elevation = expression.to_deformed(*_directions_at(x, y, rest))
    r = radius.sample(azimuth, elevation)
    points = np.stack([r * part for part in direction(azimuth, elevation)], axis=1)
    points_px = placement.to_image(points, camera)
    return {name: (float(x), float(y)) for name, (x, y) in zip(at_rest, points_px, strict=True)}


def _landmarks_at_rest(face: FaceTraits) -> dict[str, tuple[float, float]]:
    """Return x and y of the named points on the face at rest, cm."""
    at_rest = {
        "nose_tip": (0.0, -3.75 - face.nose_length_cm),
        "chin": (0.0, -11.0 - face.chin_drop_cm),
        "lip_top": (0.0, face.mouth_y_cm + 0.8 * face.upper_lip_cm),
        "lip_bottom": (0.0, face.mouth_y_cm - face.lower_lip_cm),
    }
    corner = np.array([face.mouth_width_cm], np.float32)
    corner_y = float(mouth_line_cm(corner, face)[0])
    rise = face.eye_tilt * face.eye_width_cm
    for side, sign in (("left", -1), ("right", 1)):
        outer, inner = face.eye_x_cm + face.eye_width_cm, face.eye_x_cm - face.eye_width_cm
        at_rest |= {
            f"{side}_eye_outer": (sign * outer, face.eye_y_cm + rise),
            f"{side}_eye_inner": (sign * inner, face.eye_y_cm - rise),
            f"{side}_brow": (sign * 3.0, face.brow_y_cm + 1.1 * face.brow_arch),
            f"{side}_mouth_corner": (sign * face.mouth_width_cm, corner_y),
            f"{side}_nose_wing": (sign * 1.75 * face.nose_width, -4.1 - face.nose_length_cm),
        }
    return at_rest


def _directions_at(x: Floats, y: Floats, rest: SphereMap) -> tuple[Floats, Floats]:
    """Return the directions in which the surface at rest has these x and y, by iteration."""
    azimuth, elevation = np.arctan2(x, 8.0), np.arctan2(y, np.hypot(x, 8.0))
    for _ in range(25):
        r = rest.sample(azimuth, elevation)
        z = np.sqrt(np.maximum(r * r - x * x - y * y, 1))
        azimuth = 0.5 * (azimuth + np.arctan2(x, z))
        elevation = 0.5 * (elevation + np.arctan2(y, np.hypot(x, z)))
    return azimuth, elevation


def _lighting(scene: SceneParams, placement: Placement) -> Lighting:
    return Lighting(
        lamp=placement.vector_to_local(lamp_direction(scene)),
        up=placement.vector_to_local((0, 1, 0)),
        eye=placement.camera_cm(),
    )


def _tone_map(light: Floats, scene: SceneParams) -> Image:
    """Return the camera's image of `light`: tone mapped, with sensor noise."""
    linear = np.maximum(light, 0)
    bright: Floats = np.asarray(cv2.pow(linear / (1 + _SHOULDER * linear), 1 / _GAMMA))
    values = bright * 255 + 0.5
    if scene.noise > 0:
        values += _sensor_noise(scene, light.shape)
    image: Image = clip(values, 0, 255).astype(np.uint8)
    return image


def _sensor_noise(scene: SceneParams, shape: tuple[int, ...]) -> Floats:
    """Return normal noise, in 255ths, seeded by the scene so that a true swap has the same."""
    numbers = [np.ravel(value) for value in astuple(scene) if value is not None]
    # Adding zero makes one of minus zero and zero, as `==` does.
    rng = np.random.default_rng(zlib.crc32((np.concatenate(numbers) + 0.0).tobytes()))
    # Looking up 256 quantiles of the normal distribution is far faster than sampling it.
    index = rng.integers(0, 256, shape, dtype=np.uint8)
    return _normal_quantiles()[index] * np.float32(scene.noise)


@cache
def _normal_quantiles() -> Floats:
    """Return the middles of 256 equally likely slices of the normal distribution, float32."""
    normal = NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 256) for i in range(256)], np.float32)
