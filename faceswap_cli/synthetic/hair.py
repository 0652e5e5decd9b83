"""Shape of the hair: where it grows and how thick it is."""

import numpy as np

from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    Vector,
    bump,
    direction,
    directions,
    scale_vector,
    smoothstep,
)
from faceswap_cli.synthetic.traits import HeadTraits

_RADIUS_CM = 8.0
"""Turns an angle at the side of the head into a length."""

_SIDEBURN, _NAPE, _CURTAIN = 1.20, 1.87, 1.24
"""Azimuths (rad) behind which sideburns and the hair behind the ears grow, and long hair hangs."""


def hair_depth(point: Vector, azimuth: Floats, elevation: Floats, *, head: HeadTraits) -> Floats:
    """Return the distance of points of the bare head from the hairline, cm, negative outside."""
    x, y, z = point
    side = np.abs(azimuth)
    off_parting = x - 4 * head.parting
    line = head.hairline_y_cm - 0.055 * off_parting * off_parting + 0.3 * bump(off_parting / 1.2)
    front = y - line
    sideburn = np.minimum((side - _SIDEBURN) * _RADIUS_CM, y + 1.9 + 9 * head.long_hair)
    if head.long_hair > 0:
        nape = np.minimum((side - _NAPE) * _RADIUS_CM, y + 12.5)
        curtain = np.minimum((side - _CURTAIN) * _RADIUS_CM, (elevation + 1.22) * _RADIUS_CM)
        long: Floats = np.maximum(np.maximum(front, sideburn), np.maximum(nape, curtain))
        return long
    nape = np.minimum((side - _NAPE) * _RADIUS_CM, y + 5.5)
    off_ear = [(np.abs(x) - 7.9) / 1.0, (y + 1.2) / 2.6, (z + 0.7) / 1.7]
    around_ear = 1.2 * (np.sqrt(sum(o * o for o in off_ear)) - 1)
    short: Floats = np.minimum(np.maximum(np.maximum(front, sideburn), nape), around_ear)
    return short


def with_hair(bare: SphereMap, head: HeadTraits) -> SphereMap:
    """Return the radius table of the head with its hair, cm."""
    rows, columns = bare.values.shape
    azimuth, elevation = directions(columns, rows)
    point = scale_vector(direction(azimuth, elevation), bare.values)
    depth = hair_depth(point, azimuth, elevation, head=head)
    # Thin at the line, full two centimetres behind it, fuller on the crown.
    lift = smoothstep(-0.1, 1.9, depth) * (0.55 + 0.45 * smoothstep(2, 9, point[1]))
    hanging = (
        smoothstep(1.20, 1.65, np.abs(azimuth))
        * smoothstep(-1.25, -0.9, elevation)
        * smoothstep(0.9, 0.2, elevation)
    )
    thickness = head.hair_volume_cm * lift + 1.3 * head.long_hair * hanging
    return SphereMap(values=bare.values + thickness).smooth()
