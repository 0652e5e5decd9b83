"""Drawn things in front of a face: hands, hair, glasses, objects, with exact masks."""

from faceswap_cli.synthetic.occluders.cast import MARKS, OCCLUDERS, random_mark, random_occluder
from faceswap_cli.synthetic.occluders.cover import CoveredCrop, cover_crop
from faceswap_cli.synthetic.occluders.layer import OccluderLayer

__all__ = [
    "MARKS",
    "OCCLUDERS",
    "CoveredCrop",
    "OccluderLayer",
    "cover_crop",
    "random_mark",
    "random_occluder",
]
