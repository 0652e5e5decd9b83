"""Named points of a drawn face and where they appear; found on the surface, not in the picture."""

import numpy as np

from faceswap_cli.synthetic.camera import Camera, Placement
from faceswap_cli.synthetic.expression import Expression, mouth_line_cm
from faceswap_cli.synthetic.geometry import Floats, SphereMap, direction
from faceswap_cli.synthetic.traits import FaceTraits


def find_landmarks(
    face: FaceTraits,
    expression: Expression,
    *,
    rest: SphereMap,
    radius: SphereMap,
    camera: Camera,
    placement: Placement,
) -> dict[str, tuple[float, float]]:
    """Return where the named points of a face appear, (x, y) px; `rest` and `radius` in cm."""
    places = _places(face)
    x, y = np.array(list(places.values()), np.float32).T
    azimuth, elevation = expression.to_deformed(*_directions(x, y, rest))
    r = radius.sample(azimuth, elevation)
    points = np.stack([r * part for part in direction(azimuth, elevation)], axis=1)
    seen = placement.to_image(points, camera)
    return {name: (float(x), float(y)) for name, (x, y) in zip(places, seen, strict=True)}


def _places(face: FaceTraits) -> dict[str, tuple[float, float]]:
    """Return the points' x and y on the face at rest, cm."""
    places = {
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
        places |= {
            f"{side}_eye_outer": (sign * outer, face.eye_y_cm + rise),
            f"{side}_eye_inner": (sign * inner, face.eye_y_cm - rise),
            f"{side}_brow": (sign * 3.0, face.brow_y_cm + 1.1 * face.brow_arch),
            f"{side}_mouth_corner": (sign * face.mouth_width_cm, corner_y),
            f"{side}_nose_wing": (sign * 1.75 * face.nose_width, -4.1 - face.nose_length_cm),
        }
    return places


def _directions(x: Floats, y: Floats, rest: SphereMap) -> tuple[Floats, Floats]:
    """Return the directions in which the surface at rest has these x and y (fixed point)."""
    azimuth, elevation = np.arctan2(x, 8.0), np.arctan2(y, np.hypot(x, 8.0))
    for _ in range(25):
        r = rest.sample(azimuth, elevation)
        z = np.sqrt(np.maximum(r * r - x * x - y * y, 1))
        azimuth = 0.5 * (azimuth + np.arctan2(x, z))
        elevation = 0.5 * (elevation + np.arctan2(y, np.hypot(x, z)))
    return azimuth, elevation
