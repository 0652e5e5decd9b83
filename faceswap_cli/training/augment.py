"""Chance for training pictures: flip, rotation, zoom, shift, warp and colour, one look-up each.

Knows how to draw the changes and how to sample crops by them, on a CPU or a GPU; refuses to know
which crops come next. Everything is batched, and everything is drawn on the CPU from a seed, so
both routes see the same changes.

Convention:
    Nodes (B, 2, 2, 5, 5) say where to look in the crop: for each picture those of the target and
    those of the warped input, x then y, in the unit square, which the crop covers exactly. They
    stand at the edges and quarters of the network's square, which is the crop's centre, its side
    `coverage` of the crop's; between them is interpolated.
"""

from dataclasses import dataclass, fields
from math import radians

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from faceswap_cli.training.dataset import Indices, Pixels
from faceswap_models.base import TrainSettings

GRID_NODES = 5
"""The warp moves a grid of this many points a side; between them it is bilinear."""
WARP_STD = 5 / 160
"""Standard deviation of a node's move, as a part of the network's side: the first autoencoders
moved the nodes of a 160 px square by a Gaussian of 5 px."""
LAB_RANGE = 100.0
"""Range of lightness in LAB; the colour axes are jittered in the same steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AugmentParams:
    """What chance decided for B pictures; small, so that it is drawn on the CPU for every route."""

    flip_sign: Tensor
    """(B,) -1 for a mirrored picture, else 1."""
    rotation_rad: Tensor
    """(B,) rotation, radians."""
    scale: Tensor
    """(B,) side of what is shown as a multiple of the network's square; above 1 shows more."""
    translation: Tensor
    """(B, 2) as a fraction of the network's side."""
    warp: Tensor
    """(B, 5, 5, 2) moves of the warp's nodes as a fraction of the network's side."""
    color_shift: Tensor
    """(B, 3) change of L, a and b."""
    is_color_transferred: Tensor
    """(B,) whether a picture takes on the colours of another person's, bool."""
    input_color_jitter: Tensor
    """(B, 7) change of what is shown alone: brightness, each colour's factor, each's offset."""

    def select(self, indices: slice) -> "AugmentParams":
        """Return the changes of some of the pictures."""
        return AugmentParams(
            **{field.name: getattr(self, field.name)[indices] for field in fields(self)}
        )

    def to(self, device: torch.device) -> "AugmentParams":
        """Return the same changes on a device."""
        return AugmentParams(
            **{field.name: getattr(self, field.name).to(device) for field in fields(self)}
        )


def sample_params(count: int, settings: TrainSettings, *, seed: int) -> AugmentParams:
    """Draw the changes of `count` pictures; the same seed draws the same changes everywhere."""
    chance = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=chance) * 2 - 1

    mirrored = torch.rand(count, generator=chance) < settings.flip_prob
    noise = torch.randn(count, GRID_NODES, GRID_NODES, 2, generator=chance)
    return AugmentParams(
        flip_sign=torch.where(mirrored, -1.0, 1.0),
        rotation_rad=uniform() * radians(settings.rotate_deg),
        scale=1 + uniform() * settings.scale_jitter,
        translation=uniform(2) * settings.translate_jitter,
        warp=_remove_similarity(noise) * WARP_STD * settings.warp_strength,
        color_shift=uniform(3) * settings.color_jitter * LAB_RANGE,
        is_color_transferred=torch.rand(count, generator=chance) < settings.color_transfer_prob,
        input_color_jitter=uniform(7) * settings.input_color_jitter,
    )


def identity_params(count: int) -> AugmentParams:
    """Return changes that change nothing: the network's square as it lies in the crop."""
    return AugmentParams(
        flip_sign=torch.ones(count),
        rotation_rad=torch.zeros(count),
        scale=torch.ones(count),
        translation=torch.zeros(count, 2),
        warp=torch.zeros(count, GRID_NODES, GRID_NODES, 2),
        color_shift=torch.zeros(count, 3),
        is_color_transferred=torch.zeros(count, dtype=torch.bool),
        input_color_jitter=torch.zeros(count, 7),
    )


def sampling_grid(params: AugmentParams, *, coverage: float) -> Tensor:
    """Compose all geometric changes of each picture into where its nodes look.

    Flip, rotation, zoom and shift are applied to the few nodes of the warp and not to the picture:
    an affine map commutes with bilinear interpolation, so the result is the same, and each crop is
    resampled once. The target takes the same affine map without the warp.

    Returns:
        Nodes (B, 2, 2, 5, 5).
    """
    still = _node_grid(params.rotation_rad.device).expand_as(params.warp)
    both = torch.stack([still, still + params.warp], dim=1)  # (B, 2, 5, 5, 2)
    cos, sin = params.rotation_rad.cos(), params.rotation_rad.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 1, 1, 1, 2, 2)
    flip = torch.stack([params.flip_sign, torch.ones_like(params.flip_sign)], dim=-1)
    turned = (rotation @ (both * flip[:, None, None, None])[..., None])[..., 0]
    zoomed = turned * params.scale[:, None, None, None, None]
    placed = (zoomed + params.translation[:, None, None, None]) * coverage + 0.5
    return placed.permute(0, 1, 4, 2, 3)


def sample_by_remap(pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int) -> Tensor:
    """Look crops up on a CPU by OpenCV, one after the other.

    Args:
        pixels: uint8 (N, S, S, 4).
        indices: Which B of the crops, int64.
        nodes: Where to look, (B, 2, 2, 5, 5).
        size_px: Side of the pictures to make.

    Returns:
        float32 (2, B, 4, size_px, size_px), 0 to 255, rounded to whole steps: targets, inputs.
    """
    # Pixel centres lie on integers; the nodes are few, so they are carried over, not the maps.
    maps = _interpolate_nodes(nodes * pixels.shape[1] - 0.5, size_px=size_px).numpy()
    planes = np.empty((2, len(indices), 4, size_px, size_px), dtype=np.uint8)
    for place, index in enumerate(indices):
        crop = pixels[index]
        for kind in (0, 1):
            x, y = maps[place, kind]
            sample = cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            planes[kind, place] = cv2.split(sample)
    return torch.from_numpy(planes).float()


def sample_by_grid(pixels: Tensor, indices: Tensor, nodes: Tensor, *, size_px: int) -> Tensor:
    """Look crops up where they are, on any device, in one batched operation.

    Args:
        pixels: uint8 (N, S, S, 4) on the device.
        indices: Which B of the crops, int64, on the device.
        nodes: Where to look, (B, 2, 2, 5, 5), on the device.
        size_px: Side of the pictures to make.

    Returns:
        float32 (2, B, 4, size_px, size_px), 0 to 255: targets, inputs.
    """
    crops = pixels[indices].permute(0, 3, 1, 2).float()
    # Without `align_corners`, -1 and 1 are the picture's outer edges: the unit square's.
    maps = _interpolate_nodes(nodes * 2 - 1, size_px=size_px)
    # Looking no further out than the last pixels' centres repeats them, as `padding_mode="border"`
    # would, which Apple's GPUs do not have.
    edge = 1 - 1 / pixels.shape[1]
    grid = maps.clamp(-edge, edge).permute(0, 1, 3, 4, 2).flatten(1, 2)  # (B, 2S, S, 2)
    samples = functional.grid_sample(crops, grid, mode="bilinear", align_corners=False)
    return torch.stack(samples.chunk(2, dim=2))


def jitter_color(images: Tensor, lab_shift: Tensor) -> Tensor:
    """Shift pictures (B, 3, H, W) in [-1, 1] by `lab_shift` (B, 3) in LAB, and keep them in range."""
    shifted = rgb_to_lab(images / 2 + 0.5) + lab_shift[:, :, None, None]
    return lab_to_rgb(shifted).clamp(0, 1) * 2 - 1


def jitter_input(images: Tensor, jitter: Tensor) -> Tensor:
    """Change brightness and colours of pictures (B, 3, H, W) in [-1, 1] by `jitter` (B, 7)."""
    brightness, factor, offset = torch.split(jitter[:, :, None, None], [1, 3, 3], dim=1)
    return ((images + 1) * (1 + brightness) * (1 + factor) - 1 + offset / 2).clamp(-1, 1)


def transfer_color(
    images: Tensor, masks: Tensor, reference: Tensor, reference_masks: Tensor
) -> Tensor:
    """Give faces the mean and the deviation of others' colours in LAB, masked alike.

    Reinhard et al., "Color Transfer between Images", 2001, equations 10 to 12.

    Args:
        images: What to change, (N, B, 3, H, W) in [-1, 1]; what the first of N shows inside its
            mask is matched, and the others are changed as it is.
        masks: Where the face is in the first, (B, 1, H, W) in [0, 1].
        reference: What to match, (B, 3, H, W) in [-1, 1].
        reference_masks: Where the face is there, (B, 1, H, W).
    """
    lab = rgb_to_lab(images.flatten(0, 1) / 2 + 0.5).view_as(images)
    mean, deviation = _lab_statistics(lab[0], masks)
    wanted_mean, wanted_deviation = _lab_statistics(
        rgb_to_lab(reference / 2 + 0.5), reference_masks
    )
    moved = (lab - mean) * (wanted_deviation / deviation) + wanted_mean
    return lab_to_rgb(moved.flatten(0, 1)).view_as(images).clamp(0, 1) * 2 - 1


def _lab_statistics(lab: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel inside masks, (B, 3, 1, 1) each."""
    count = masks.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (lab * masks).sum((2, 3), keepdim=True) / count
    variance = ((lab - mean).square() * masks).sum((2, 3), keepdim=True) / count
    # A face of one colour has no deviation to scale by.
    return mean, variance.sqrt().clamp(min=1)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Carry sRGB (B, 3, H, W) in [0, 1] to CIE LAB under D65: L 0 to 100, a and b about ±100."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4
    )
    xyz = torch.einsum("dc,bchw->bdhw", _rgb_to_xyz_matrix(images), linear)
    cube = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp(min=1e-8) ** (1 / 3), xyz / _LAB_LINEAR_SLOPE + 4 / 29
    )
    x, y, z = cube.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Carry CIE LAB (B, 3, H, W) back to sRGB; colours out of gamut come out of [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    cube = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(cube > 6 / 29, cube**3, _LAB_LINEAR_SLOPE * (cube - 4 / 29))
    linear = torch.einsum("dc,bchw->bdhw", torch.linalg.inv(_rgb_to_xyz_matrix(lab)), xyz)
    bright = 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, bright)


_LAB_LINEAR_SLOPE = 3 * (6 / 29) ** 2
"""Slope of LAB's linear part near black (CIE 15)."""


def _rgb_to_xyz_matrix(like: Tensor) -> Tensor:
    """Return linear sRGB -> XYZ relative to the D65 white (IEC 61966-2-1), (3, 3)."""
    matrix = like.new_tensor(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    return matrix / matrix.sum(1, keepdim=True)


def _node_grid(device: torch.device) -> Tensor:
    """Return the nodes (5, 5, 2) as (x, y) over the network's square, which is ±1/2."""
    line = torch.linspace(-0.5, 0.5, GRID_NODES, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def _remove_similarity(offsets: Tensor) -> Tensor:
    """Take from moves of the nodes (B, 5, 5, 2) what is a shift, a rotation or a zoom in all.

    The first autoencoders placed the target by the similarity that best fits the moved nodes
    instead, which is the same pair of pictures up to one similarity of both.
    """
    x, y = _node_grid(offsets.device).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    basis = torch.stack(
        [torch.stack(pair, dim=-1) for pair in ((one, zero), (zero, one), (x, y), (-y, x))]
    ).flatten(1)  # (4, 50); the rows are at right angles
    basis = basis / basis.norm(dim=1, keepdim=True)
    flat = offsets.flatten(1)
    with torch.autocast("cpu", enabled=False):
        rest: Tensor = flat - flat @ basis.T @ basis
    return rest.view_as(offsets)


def _interpolate_nodes(nodes: Tensor, *, size_px: int) -> Tensor:
    """Interpolate nodes (..., 5, 5) at the edges of a square to its pixels (..., S, S)."""
    along = (torch.arange(size_px, device=nodes.device) + 0.5) / size_px * (GRID_NODES - 1)
    hats = torch.arange(GRID_NODES, device=nodes.device) - along[:, None]
    weights = (1 - hats.abs()).clamp(min=0)  # (S, 5): each pixel lies between two nodes
    return weights @ nodes @ weights.T
