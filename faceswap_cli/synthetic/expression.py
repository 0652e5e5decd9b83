"""Facial expressions as an inverse warp of directions, so that every feature stays attached.

A *deformed* direction is where a feature is on the moved face; its *canonical* direction is where
it is on the face at rest. The warp maps deformed to canonical, as rendering needs it. Blinks and
gaze are in `eyes`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from faceswap_cli.synthetic.animation import SceneParams
from faceswap_cli.synthetic.geometry import (
    Floats,
    SphereMap,
    bump,
    clip,
    direction,
    directions,
    smoothstep,
)
from faceswap_cli.synthetic.head_shape import MOUTH_BOW_CM
from faceswap_cli.synthetic.traits import FaceTraits

UPPER_LIP_RISE = float(np.radians(1.6))
"""Rise of the upper lip when the jaw is wide open, rad."""
LOWER_LIP_DROP = float(np.radians(17.5))
"""Drop of the lower lip when the jaw is wide open, rad."""

_JAW_OUT_CM = 0.7
"""Additional distance of the chin from the head's center when the jaw is wide open."""

SMILE_OUT, SMILE_UP = 0.065, 0.065
"""Displacement of a mouth corner by a full smile, rad."""
_CORNER_SPREAD = (0.17, 0.15)
"""Reach of that displacement, rad of azimuth and elevation."""
_CHEEK_RISE_CM, _CHEEK = 0.45, (0.50, -0.36)
"""Bulge of a cheek by a full smile, and its position (azimuth, elevation; rad)."""

BROW_RISE = 0.085
"""Displacement of a raised brow, rad; at 9 cm this is 0.75 cm."""
_BROW_AT, _BROW_SPREAD, _BROW_HALF = 0.27, 0.17, 0.75
"""Elevation and reach of the skin that moves with the brows, rad; and half its azimuth."""

_MOVING_SIDE, _MOVING_TOP, _MOVING_BROW = 1.45, 0.10, 0.70
"""The warp is the identity beyond this azimuth and, for mouth and brows, above these elevations."""


def mouth_line_cm(x: Floats, face: FaceTraits) -> Floats:
    """Return the height of the seam between the lips at `x`, cm."""
    bow = MOUTH_BOW_CM * np.cos(clip(x * (1 / face.mouth_width_cm), -1, 1) * np.pi)
    height: Floats = face.mouth_y_cm - bow - 0.05 * bump(x * (1 / 0.3))
    return height


@dataclass(frozen=True, kw_only=True, eq=False)
class MouthLine:
    """The seam between the lips of one face at rest, as elevation over azimuth."""

    azimuth: Floats
    elevation: Floats
    corner: float
    """Azimuth of the mouth's corner, rad."""

    def at(self, azimuth: Floats) -> Floats:
        """Return the seam's elevation, rad."""
        return np.interp(azimuth, self.azimuth, self.elevation).astype(np.float32)

    @cached_property
    def corner_elevation(self) -> float:
        """Elevation of the mouth's corner, rad."""
        return float(np.interp(self.corner, self.azimuth, self.elevation))

    def opening(self, azimuth: Floats) -> Floats:
        """Return how far the mouth opens at `azimuth` relative to its middle, 0 to 1."""
        profile: Floats = np.sqrt(clip(1 - (azimuth * (1 / self.corner)) ** 2, 0, 1))
        return profile


def find_mouth_line(radius: SphereMap, face: FaceTraits) -> MouthLine:
    """Find the directions in which the surface crosses the seam's height."""
    azimuths = np.linspace(-0.6, 0.6, 121, dtype=np.float32)
    elevations = np.linspace(-1.1, -0.2, 400, dtype=np.float32)
    azimuth, elevation = np.meshgrid(azimuths, elevations, indexing="ij")
    r = radius.sample(azimuth.ravel(), elevation.ravel()).reshape(azimuth.shape)
    x, y, _ = (r * part for part in direction(azimuth, elevation))
    crossing = np.argmax(y > mouth_line_cm(x, face), axis=1)
    along = np.arange(len(azimuths))
    corner = np.argmin(np.abs(x[along, crossing] - face.mouth_width_cm))
    return MouthLine(
        azimuth=azimuths, elevation=elevations[crossing], corner=abs(float(azimuths[corner]))
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Opening:
    """The open mouth, for those of N directions that are below the nose."""

    index: Floats
    """Indices into the N directions, int (M,)."""
    below_upper: Floats
    """rad below the upper lip's edge."""
    above_lower: Floats
    """rad above the lower lip's edge."""
    profile: Floats
    """How far the mouth opens at this azimuth relative to its middle, 0 to 1."""
    inside: Floats
    """bool (M,): between the lips."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Expression:
    """The warp of one face by one scene's expression."""

    scene: SceneParams
    mouth: MouthLine

    def to_canonical(self, azimuth: Floats, elevation: Floats) -> tuple[Floats, Floats, Opening]:
        """Return the canonical directions of deformed ones (N,)."""
        elevation = self._brows_down(azimuth, elevation)
        near = (elevation < _MOVING_TOP) & (np.abs(azimuth) < _MOVING_SIDE)
        index = np.flatnonzero(near)
        rest_azimuth, rest_elevation = azimuth.copy(), elevation.copy()
        low_azimuth, low_elevation = self._smile_off(azimuth[index], elevation[index])
        rest_azimuth[index] = low_azimuth
        rest_elevation[index], opening = self._jaw_shut(low_azimuth, low_elevation, index)
        return rest_azimuth, rest_elevation, opening

    def to_deformed(self, azimuth: Floats, elevation: Floats) -> tuple[Floats, Floats]:
        """Return the deformed directions of canonical ones (N,), by fixed-point iteration."""
        out_azimuth, out_elevation = azimuth.copy(), elevation.copy()
        for _ in range(24):
            rest_azimuth, rest_elevation, _ = self.to_canonical(out_azimuth, out_elevation)
            out_azimuth += 0.6 * (azimuth - rest_azimuth)
            out_elevation += 0.6 * (elevation - rest_elevation)
        return out_azimuth, out_elevation

    def deform_radius(self, rest: SphereMap) -> SphereMap:
        """Return the radius table of the moved face, cm."""
        rows, columns = rest.values.shape
        azimuth, elevation = directions(columns, rows)
        window = _moving_cells(columns, rows)
        near_azimuth, near_elevation = azimuth[window].ravel(), elevation[window].ravel()
        rest_azimuth, rest_elevation, opening = self.to_canonical(near_azimuth, near_elevation)
        r = rest.sample(rest_azimuth, rest_elevation)
        r += self._cheeks(near_azimuth, near_elevation)
        low_azimuth, low_elevation = near_azimuth[opening.index], near_elevation[opening.index]
        if self.scene.jaw > 0:
            r[opening.index] -= self._hollow(low_azimuth, low_elevation, opening)
        values = rest.values.copy()
        values[window] = r.reshape(azimuth[window].shape)
        return SphereMap(values=values)

    def _brows_down(self, azimuth: Floats, elevation: Floats) -> Floats:
        if self.scene.brow == 0:
            return elevation
        reach = bump((elevation - _BROW_AT) / _BROW_SPREAD, (azimuth / _BROW_HALF) ** 2)
        lowered: Floats = elevation - self.scene.brow * BROW_RISE * reach
        return lowered

    def _smile_off(self, azimuth: Floats, elevation: Floats) -> tuple[Floats, Floats]:
        if self.scene.smile == 0:
            return azimuth, elevation
        side = np.abs(azimuth)
        pull = self.scene.smile * smoothstep(0.02, 0.16, side)
        pull = pull * bump(
            (side - 1.05 * self.mouth.corner) / _CORNER_SPREAD[0],
            (elevation - self.mouth.corner_elevation) / _CORNER_SPREAD[1],
        )
        return azimuth - np.sign(azimuth) * SMILE_OUT * pull, elevation - SMILE_UP * pull

    def _jaw_shut(
        self, azimuth: Floats, elevation: Floats, index: Floats
    ) -> tuple[Floats, Opening]:
        jaw, seam = self.scene.jaw, self.mouth.at(azimuth)
        profile = self.mouth.opening(azimuth)
        rise, drop = jaw * UPPER_LIP_RISE, jaw * LOWER_LIP_DROP
        upper_edge, lower_edge = seam + rise * profile, seam - drop * profile
        below_upper, above_lower = upper_edge - elevation, elevation - lower_edge
        # Below the lip the drop spreads to the whole jaw, and fades out below the chin.
        to_jaw = smoothstep(0, 0.40, -above_lower)
        jaw_wide = 0.9 * bump((azimuth / 0.95) ** 2)
        fall = profile + (jaw_wide - profile) * to_jaw
        fall *= drop * smoothstep(-1.52, -1.2, elevation)
        lift = rise * profile * np.exp(clip(below_upper, -9, 0) * (1 / 0.07))
        inside = (below_upper > 0) & (above_lower > 0) & (profile > 0) & (jaw > 1e-3)
        rest = np.where(above_lower <= 0, elevation + fall, elevation - lift)
        rest = np.where(inside, seam, rest).astype(np.float32)
        return rest, Opening(
            index=index,
            below_upper=below_upper,
            above_lower=above_lower,
            profile=profile,
            inside=inside,
        )

    def _cheeks(self, azimuth: Floats, elevation: Floats) -> Floats | float:
        if self.scene.smile == 0:
            return 0.0
        off = (np.abs(azimuth) - _CHEEK[0]) / 0.17
        rise: Floats = self.scene.smile * _CHEEK_RISE_CM * bump(off, (elevation - _CHEEK[1]) / 0.15)
        return rise

    def _hollow(self, azimuth: Floats, elevation: Floats, opening: Opening) -> Floats:
        """Return the depth of the open mouth, negative where the jaw protrudes, cm."""
        depth = clip(np.minimum(opening.below_upper, opening.above_lower) / 0.05, 0, 1)
        # The hinge is behind the head's center, so an opening jaw gets further from the center.
        jaw = smoothstep(-0.65, -1.05, elevation) * smoothstep(-1.5, -1.2, elevation)
        jaw = jaw * bump((azimuth / 0.9) ** 2)
        hollow: Floats = 0.25 * depth * opening.inside - _JAW_OUT_CM * self.scene.jaw * jaw
        return hollow


def _moving_cells(columns: int, rows: int) -> tuple[slice, slice]:
    """Return the part of a table that an expression can change."""
    side = int(np.ceil(_MOVING_SIDE / (2 * np.pi) * columns))
    top = int(np.ceil((_MOVING_BROW / np.pi + 0.5) * rows))
    return slice(0, top), slice(columns // 2 - side, columns // 2 + side + 1)
