"""People drawn by the program itself: ground truth without a data set."""

from faceswap_cli.actors.cast import CAST, random_person
from faceswap_cli.actors.identity import FaceTraits, HeadTraits, Person
from faceswap_cli.actors.performance import (
    PITCH_LIMIT,
    ROLL_LIMIT,
    YAW_LIMIT,
    Moment,
    Performance,
    perform,
    random_moments,
)
from faceswap_cli.actors.render import Actor, Drawing, draw
from faceswap_cli.actors.studio import draw_all
from faceswap_cli.actors.voice import speak

__all__ = [
    "CAST",
    "PITCH_LIMIT",
    "ROLL_LIMIT",
    "YAW_LIMIT",
    "Actor",
    "Drawing",
    "FaceTraits",
    "HeadTraits",
    "Moment",
    "Performance",
    "Person",
    "draw",
    "draw_all",
    "perform",
    "random_moments",
    "random_person",
    "speak",
]
