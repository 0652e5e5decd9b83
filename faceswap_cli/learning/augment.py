"""Chance for training pictures: flip, rotation, zoom, shift, warp and colour, one look-up each.

Knows how to draw the changes and how to sample crops by them, on a CPU or a GPU; refuses to know
which crops come next. Everything is batched, and everything is drawn on the CPU from a seed, so
both routes see the same changes.

Convention:
    A sampling map (B, H, W, 2) says for each output px where in the crop to look: (x, y) in the
    unit square, which the crop covers exactly. The network's square is the crop's centre, its side
    `coverage` of the crop's.
"""

from dataclasses import dataclass, fields
from math import radians

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from faceswap_cli.learning.data import Indices, Pixels
from faceswap_models.base import TrainSettings

NODES = 5
"""The warp moves a grid of this many points a side; between them it is bilinear."""
WARP_DEVIATION = 5 / 160
"""Standard deviation of a node's move, as a part of the network's side: the first autoencoders
moved the nodes of a 160 px square by a Gaussian of 5 px."""
LAB_RANGE = 100.0
"""Range of lightness in LAB; the colour axes are jittered in the same steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """What chance decided for B pictures; small, so that it is drawn on the CPU for every route."""

    mirrored: Tensor
    """(B,) -1 for a mirrored picture, else 1."""
    angle: Tensor
    """(B,) rotation, radians."""
    zoom: Tensor
    """(B,) side of what is shown as a multiple of the network's square; above 1 shows more."""
    shift: Tensor
    """(B, 2) as a fraction of the network's side."""
    bend: Tensor
    """(B, 5, 5, 2) moves of the warp's nodes as a fraction of the network's side."""
    colour: Tensor
    """(B, 3) change of L, a and b."""

    def part(self, which: slice) -> "Changes":
        """Return the changes of some of the pictures."""
        return Changes(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    def to(self, device: torch.device) -> "Changes":
        """Return the same changes on a device."""
        return Changes(
            **{field.name: getattr(self, field.name).to(device) for field in fields(self)}
        )


@torch.autocast("cpu", enabled=False)
def draw(count: int, settings: TrainSettings, *, seed: int) -> Changes:
    """Draw the changes of `count` pictures; the same seed draws the same changes everywhere."""
    chance = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=chance) * 2 - 1

    mirrored = torch.rand(count, generator=chance) < settings.flip_probability
    noise = torch.randn(count, NODES, NODES, 2, generator=chance)
    return Changes(
        mirrored=torch.where(mirrored, -1.0, 1.0),
        angle=uniform() * radians(settings.rotate_degrees),
        zoom=1 + uniform() * settings.zoom,
        shift=uniform(2) * settings.shift,
        bend=_without_similarity(noise) * WARP_DEVIATION * settings.warp,
        colour=uniform(3) * settings.colour_jitter * LAB_RANGE,
    )


def unchanged(count: int) -> Changes:
    """Return changes that change nothing: the network's square as it lies in the crop."""
    return Changes(
        mirrored=torch.ones(count),
        angle=torch.zeros(count),
        zoom=torch.ones(count),
        shift=torch.zeros(count, 2),
        bend=torch.zeros(count, NODES, NODES, 2),
        colour=torch.zeros(count, 3),
    )


def sampling_maps(changes: Changes, *, size_px: int, coverage: float) -> Tensor:
    """Compose all geometric changes into one look-up a picture: target above warped.

    Flip, rotation, zoom and shift are applied to the few nodes of the warp and not to the picture:
    an affine map commutes with bilinear interpolation, so the result is the same, and each crop is
    resampled once. The target takes the same affine map without the warp.

    Returns:
        Sampling maps (B, 2 * size_px, size_px, 2): the target's rows, then the warped input's.
    """
    device = changes.angle.device
    corners = _grid(2, device).expand(len(changes.angle), 2, 2, 2)
    nodes = _grid(NODES, device) + changes.bend
    halves = [
        _between(_placed(points, changes, coverage), size_px=size_px) for points in (corners, nodes)
    ]
    return torch.cat(halves, dim=1)


def sample_by_remap(pixels: Pixels, indices: Indices, maps: Tensor) -> Tensor:
    """Look crops up on a CPU by OpenCV, which is twice as fast there as `sample_by_grid`.

    Args:
        pixels: uint8 (N, S, S, C).
        indices: Which B of the crops, int64.
        maps: Sampling maps (B, H, W, 2).

    Returns:
        float32 (B, C, H, W), 0 to 255, rounded to whole steps.
    """
    side_px = pixels.shape[1]
    places = maps.mul(side_px).sub_(0.5).numpy()  # pixel centres lie on integers
    samples = np.empty((*maps.shape[:3], pixels.shape[3]), dtype=np.uint8)
    for index, place, sample in zip(indices, places, samples, strict=True):
        # None says that the first map holds both x and y, which OpenCV's stub does not know; an
        # empty array there is read as a map, and gives garbage.
        cv2.remap(  # type: ignore[call-overload]
            pixels[index],
            place,
            None,
            cv2.INTER_LINEAR,
            dst=sample,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return torch.from_numpy(samples).permute(0, 3, 1, 2).float()


def sample_by_grid(pixels: Tensor, indices: Tensor, maps: Tensor) -> Tensor:
    """Look crops up where they are, on any device, in one batched operation.

    Args:
        pixels: uint8 (N, S, S, C) on the device.
        indices: Which B of the crops, int64, on the device.
        maps: Sampling maps (B, H, W, 2) on the device.

    Returns:
        float32 (B, C, H, W), 0 to 255.
    """
    crops = pixels[indices].permute(0, 3, 1, 2).float()
    # Without `align_corners`, -1 and 1 are the picture's outer edges: the unit square's.
    return functional.grid_sample(
        crops, maps * 2 - 1, mode="bilinear", padding_mode="border", align_corners=False
    )


def jitter_colour(images: Tensor, colour: Tensor) -> Tensor:
    """Shift pictures (B, 3, H, W) in [-1, 1] by `colour` (B, 3) in LAB, and keep them in range."""
    shifted = rgb_to_lab(images / 2 + 0.5) + colour[:, :, None, None]
    return lab_to_rgb(shifted).clamp(0, 1) * 2 - 1


def rgb_to_lab(images: Tensor) -> Tensor:
    """Carry sRGB (B, 3, H, W) in [0, 1] to CIE LAB under D65: L 0 to 100, a and b about ±100."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4
    )
    xyz = torch.einsum("dc,bchw->bdhw", _rgb_to_xyz(images), linear)
    cube = torch.where(xyz > (6 / 29) ** 3, xyz.clamp(min=1e-8) ** (1 / 3), xyz / _SLOPE + 4 / 29)
    x, y, z = cube.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Carry CIE LAB (B, 3, H, W) back to sRGB; colours out of gamut come out of [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    cube = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(cube > 6 / 29, cube**3, _SLOPE * (cube - 4 / 29))
    linear = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(_rgb_to_xyz(lab)), xyz)
    bright = 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, bright)


_SLOPE = 3 * (6 / 29) ** 2
"""Slope of LAB's linear part near black (CIE 15)."""


def _rgb_to_xyz(like: Tensor) -> Tensor:
    """Return linear sRGB -> XYZ relative to the D65 white (IEC 61966-2-1), (3, 3)."""
    matrix = like.new_tensor(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    return matrix / matrix.sum(1, keepdim=True)


def _grid(nodes: int, device: torch.device) -> Tensor:
    """Return `nodes` x `nodes` points (x, y) over the network's square, which is ±1/2."""
    line = torch.linspace(-0.5, 0.5, nodes, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def _without_similarity(moves: Tensor) -> Tensor:
    """Take from moves of the nodes (B, 5, 5, 2) what is a shift, a rotation or a zoom in all.

    The first autoencoders placed the target by the similarity that best fits the moved nodes
    instead, which is the same pair of pictures up to one similarity of both.
    """
    x, y = _grid(NODES, moves.device).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    basis = torch.stack(
        [torch.stack(pair, dim=-1) for pair in ((one, zero), (zero, one), (x, y), (-y, x))]
    ).flatten(1)  # (4, 50); the rows are at right angles
    basis = basis / basis.norm(dim=1, keepdim=True)
    flat = moves.flatten(1)
    rest: Tensor = flat - flat @ basis.T @ basis
    return rest.view_as(moves)


def _placed(points: Tensor, changes: Changes, coverage: float) -> Tensor:
    """Carry points (B, K, K, 2) of the network's square to where they look in the unit square."""
    cos, sin = changes.angle.cos(), changes.angle.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 1, 1, 2, 2)
    flip = torch.stack([changes.mirrored, torch.ones_like(changes.mirrored)], dim=-1)
    turned = (rotation @ (points * flip[:, None, None])[..., None])[..., 0]
    zoomed = turned * changes.zoom[:, None, None, None]
    placed: Tensor = (zoomed + changes.shift[:, None, None]) * coverage + 0.5
    return placed


def _between(points: Tensor, *, size_px: int) -> Tensor:
    """Interpolate points (B, K, K, 2) at the edges of a square to its pixels (B, S, S, 2)."""
    nodes = points.shape[1]
    along = (torch.arange(size_px, device=points.device) + 0.5) / size_px * (nodes - 1)
    hats = torch.arange(nodes, device=points.device) - along[:, None]
    weights = (1 - hats.abs()).clamp(min=0)  # (S, K): each pixel lies between two nodes
    pixels: Tensor = torch.einsum("yi,xj,bijc->byxc", weights, weights, points)
    return pixels
