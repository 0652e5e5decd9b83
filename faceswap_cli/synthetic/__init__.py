"""Rendered synthetic people: ground truth without a data set."""

from faceswap_cli.synthetic.animation import (
    PITCH_LIMIT,
    ROLL_LIMIT,
    YAW_LIMIT,
    Animation,
    SceneParams,
    animate,
    random_scenes,
    synthesize_voice,
)
from faceswap_cli.synthetic.cast import CAST, random_person
from faceswap_cli.synthetic.parallel import render_frames
from faceswap_cli.synthetic.render import HeadModel, RenderedFrame, render_frame
from faceswap_cli.synthetic.traits import FaceTraits, HeadTraits, Person

__all__ = [
    "CAST",
    "PITCH_LIMIT",
    "ROLL_LIMIT",
    "YAW_LIMIT",
    "Animation",
    "FaceTraits",
    "HeadModel",
    "HeadTraits",
    "Person",
    "RenderedFrame",
    "SceneParams",
    "animate",
    "random_person",
    "random_scenes",
    "render_frame",
    "render_frames",
    "synthesize_voice",
]
