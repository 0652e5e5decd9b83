"""Rendering of one image: `render_head` of a `HeadModel` in a scene."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from faceswap_cli.core.types import AnyArray, Image, Mask
from faceswap_cli.faces.alignment import FaceAlignment, align_face
from faceswap_cli.faces.types import NUM_LANDMARKS
from faceswap_cli.heads.backdrop import backdrop
from faceswap_cli.heads.camera import View, take_image, view
from faceswap_cli.heads.eyes import EyeTexture, paint_eye
from faceswap_cli.heads.light import ambient_occlusion
from faceswap_cli.heads.mesh import (
    ALIGNMENT_VERTICES,
    HEAD_CENTER_CM,
    LANDMARKS,
    base_mesh,
    bend_weight,
    vertex_normals,
)
from faceswap_cli.heads.pose import deform, eyes, rotation, turn, with_gaze
from faceswap_cli.heads.raster import Raster, is_front_facing, is_in_frame, rasterize
from faceswap_cli.heads.scene import HeadScene
from faceswap_cli.heads.shading import LABELS, PixelLabels, Posed, shade
from faceswap_cli.heads.shape import rest_points
from faceswap_cli.heads.skin import SkinTexture, paint_skin
from faceswap_cli.heads.strands import grow
from faceswap_cli.heads.strands.ribbons import Strands, edges
from faceswap_cli.heads.traits import HeadPerson
from faceswap_cli.synthetic.geometry import Floats

_TURN_NARROWS = 0.59
"""By what part of 1 - cos(yaw) a square around vertices is smaller than one around landmarks: a
fit to 40 images of random people in random scenes."""
SUPERSAMPLING = 1.25
"""Pixels across that are rendered for one of the image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadModel:
    """A person's precomputed form and maps, for rendering."""

    person: HeadPerson
    rest: Floats
    """float32 (N, 3): the vertices at rest, cm."""
    bend: Floats
    skin: SkinTexture
    eye: EyeTexture
    ambient: Floats
    """float32 (N,): how much of the surroundings each vertex sees."""
    strands: Strands

    @classmethod
    def from_person(cls, person: HeadPerson) -> "HeadModel":
        """Return a person's model, cached for the last few people."""
        return _cached_model(person)

    @classmethod
    def build(cls, person: HeadPerson) -> "HeadModel":
        """Compute a person's model: takes about a second."""
        mesh = base_mesh()
        rest = rest_points(person)
        strands = grow(person, rest)
        ambient = ambient_occlusion(
            np.concatenate(
                [rest, edges(strands.points, strands.tangents, strands.half_width, strands.outward)]
            ),
            vertex_normals(rest, mesh.triangles),
            np.concatenate([mesh.visible_triangles, strands.shadow_triangles + len(rest)]),
            center=np.array(HEAD_CENTER_CM, np.float32),
            count=len(rest),
        )
        return cls(
            person=person,
            rest=rest,
            bend=bend_weight(mesh.points),
            skin=paint_skin(person),
            eye=paint_eye(person.face),
            ambient=ambient,
            strands=strands,
        )

    def pose(self, scene: HeadScene, camera: View) -> Posed:
        """Return the person's vertices in a scene; hair turns its flat side to the camera."""
        mesh, strands = base_mesh(), self.strands
        deformed = deform(self.rest, scene)
        follow = (deformed - self.rest)[strands.anchors]
        points = turn(deformed, self.bend, scene)
        middle = turn(strands.points + follow, strands.bend, scene)
        tangents = strands.tangents @ rotation(scene.yaw, scene.pitch, scene.roll).T
        return Posed(
            points=points,
            normals=vertex_normals(points, mesh.triangles),
            ambient=self.ambient,
            strands=strands,
            strand_points=edges(middle, tangents, strands.half_width, camera.origin - middle),
            skin=self.skin,
            wrinkles=self.person.face.wrinkles,
            eye_texture=self.eye,
            eyes=eyes(deformed, scene),
            scene=scene,
        )


@lru_cache(maxsize=8)
def _cached_model(person: HeadPerson) -> HeadModel:
    return HeadModel.build(person)


@dataclass(frozen=True, kw_only=True, eq=False)
class RenderedHead:
    """An image and its ground truth."""

    image: Image
    """RGB uint8 (S, S, 3)."""
    labels: PixelLabels
    """The masks before they are reduced to the image's size."""
    landmarks: Mapping[str, tuple[float, float]]
    """Named points of the face, (x, y) px, hidden ones too; `left` is the image's left."""
    alignment: FaceAlignment
    """The square that `extract` would cut, from the mesh itself: no detector is needed."""
    scene: HeadScene

    @cached_property
    def masks(self) -> Mapping[str, Mask]:
        """float32 (S, S) in [0, 1] by the names in `LABELS`.

        `face` is what a true swap replaces, less what is in front of it.
        """
        height, width = self.image.shape[:2]
        shrunk: list[AnyArray] = [
            cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA)
            for plane in self.labels.planes().astype(np.float32) / 255
        ]
        return dict(zip(LABELS, shrunk, strict=True))


def render_head(model: HeadModel, scene: HeadScene, size_px: int) -> RenderedHead:
    """Render a person in a scene as a square image of `size_px`.

    Deterministic: the same arguments give the same bytes on one machine.
    """
    scene = with_gaze(scene)
    camera = view(scene)
    posed = model.pose(scene, camera)
    side = round(size_px * SUPERSAMPLING)
    raster = _rasterize_visible(posed, camera, side)
    light, labels = shade(posed, scene, raster, camera, background=backdrop(scene.background, side))
    landmarks = camera.project(posed.points[list(LANDMARKS.values())], size_px)
    return RenderedHead(
        image=take_image(light, raster.depth, scene, size_px),
        labels=labels,
        landmarks={
            name: (float(x), float(y)) for name, (x, y) in zip(LANDMARKS, landmarks, strict=True)
        },
        alignment=_align(posed, scene, camera, size_px),
        scene=scene,
    )


def _align(posed: Posed, scene: HeadScene, camera: View, size_px: int) -> FaceAlignment:
    """Return the square that a detector's landmarks would be aligned to, nearly."""
    landmarks = np.zeros((NUM_LANDMARKS, 2), np.float32)
    vertices = posed.points[list(ALIGNMENT_VERTICES.values())]
    landmarks[list(ALIGNMENT_VERTICES)] = camera.project(vertices, size_px)
    # A detector puts landmarks of the temples on the outline, which turns around a head.
    narrowed = 1 - _TURN_NARROWS * (1 - math.cos(math.radians(scene.yaw)))
    return align_face(landmarks).center_crop(1 / narrowed)


def _rasterize_visible(posed: Posed, camera: View, side: int) -> Raster:
    """Rasterize what may be seen: no back of the head, and nothing outside the frame."""
    points, triangles = camera.to_camera(posed.all_points()), posed.all_triangles()
    mesh_count = len(base_mesh().visible_triangles)
    chosen = np.concatenate(
        [
            is_front_facing(points, triangles[:mesh_count]),
            posed.is_strand_towards(camera.origin),
        ]
    )
    chosen &= is_in_frame(points, triangles, fov_rad=camera.fov_rad)
    numbers = np.flatnonzero(chosen).astype(np.int32)
    raster = rasterize(points, triangles[numbers], size=(side, side), fov_rad=camera.fov_rad)
    original = np.where(raster.triangle >= 0, numbers[raster.triangle], -1)
    return raster._replace(triangle=original)
