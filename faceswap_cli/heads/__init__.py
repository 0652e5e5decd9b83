"""Synthetic people of a mesh: heads that could be anybody's, with 52 face units.

They are rendered by OpenCV's rasterizer and NumPy; `synthetic` has the older, ellipsoid people.
"""

from faceswap_cli.heads.parallel import HeadFrame, render_head_frames
from faceswap_cli.heads.people import head_cast, random_head_person
from faceswap_cli.heads.performance import invent_performance, performance_from_records
from faceswap_cli.heads.random_scenes import random_head_scenes
from faceswap_cli.heads.render import HeadModel, RenderedHead, render_head
from faceswap_cli.heads.scene import CameraTraits, HeadScene, Lamp, blendshapes
from faceswap_cli.heads.traits import BodyTraits, FaceTraits, HairTraits, HeadPerson, HeadTraits

__all__ = [
    "BodyTraits",
    "CameraTraits",
    "FaceTraits",
    "HairTraits",
    "HeadFrame",
    "HeadModel",
    "HeadPerson",
    "HeadScene",
    "HeadTraits",
    "Lamp",
    "RenderedHead",
    "blendshapes",
    "head_cast",
    "invent_performance",
    "performance_from_records",
    "random_head_person",
    "random_head_scenes",
    "render_head",
    "render_head_frames",
]
