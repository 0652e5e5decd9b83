"""Augmentation: flip, rotation, scale, translation, warp and color, with one resampling per crop.

`sample_params` draws random parameters on the CPU from a seed, `sampling_grid` composes them, and
`sample_by_remap` (CPU) or `sample_by_grid` (any device) samples the crops, to the same result.

Convention:
    Nodes (B, K, 2, 5, 5) are positions in the crop: for each image those of the target and those of
    the warped input, or of the target alone, x then y, in the unit square, which the crop covers
    exactly. They are at the edges and quarters of the network's square, which is the center of the
    crop, its side `coverage` of the crop's; between them is interpolated.
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from math import radians

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from faceswap_cli.training.dataset import Indices, Pixels
from faceswap_models.base import TrainSettings

GRID_NODES = 5
"""Nodes per side of the warp's grid; between them it is bilinear."""
WARP_STD = 5 / 160
"""Standard deviation of a node's move, as a part of the network's side: the first autoencoders
moved the nodes of a 160 px square by a Gaussian of 5 px."""
LAB_RANGE = 100.0
"""Range of lightness in LAB; the color axes are jittered in the same steps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AugmentParams:
    """Random parameters of B images; small, so that the CPU samples them for every device."""

    flip_sign: Tensor
    """(B,) -1 for a mirrored image, else 1."""
    rotation_rad: Tensor
    """(B,) rotation, radians."""
    scale: Tensor
    """(B,) side of the sampled square as a multiple of the network's; above 1 covers more."""
    translation: Tensor
    """(B, 2) as a fraction of the network's side."""
    warp: Tensor
    """(B, 5, 5, 2) offsets of the warp's nodes as a fraction of the network's side."""
    color_shift: Tensor
    """(B, 3) shift of L, a and b."""
    is_color_transferred: Tensor
    """(B,) bool: whether an image takes on the colors of another identity's."""
    input_color_jitter: Tensor
    """(B, 7) change of the input only: brightness, each channel's factor, each channel's offset."""
    degradation_seed: Tensor
    """(B,) int64: seed of the input's degradation; -1 for none."""

    def select(self, indices: slice) -> "AugmentParams":
        """Return the parameters of some of the images."""
        return AugmentParams(
            **{field.name: getattr(self, field.name)[indices] for field in fields(self)}
        )

    def to(self, device: torch.device) -> "AugmentParams":
        """Return the same parameters on a device."""
        return AugmentParams(
            **{field.name: to_device(getattr(self, field.name), device) for field in fields(self)}
        )


def to_device(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device, without making the host wait for the device's work so far."""
    if device.type == "cuda" and value.device.type == "cpu":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def sample_params(count: int, settings: TrainSettings, *, seed: int) -> AugmentParams:
    """Sample the parameters of `count` images; the same seed gives the same ones everywhere."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    is_mirrored = torch.rand(count, generator=generator) < settings.flip_prob
    noise = torch.randn(count, GRID_NODES, GRID_NODES, 2, generator=generator)
    params = AugmentParams(
        flip_sign=torch.where(is_mirrored, -1.0, 1.0),
        rotation_rad=uniform() * radians(settings.rotate_deg),
        scale=1 + uniform() * settings.scale_jitter,
        translation=uniform(2) * settings.translate_jitter,
        warp=_remove_similarity(noise) * WARP_STD * settings.warp_strength,
        color_shift=uniform(3) * settings.color_jitter * LAB_RANGE,
        is_color_transferred=torch.rand(count, generator=generator) < settings.color_transfer_prob,
        input_color_jitter=uniform(7) * settings.input_color_jitter,
        degradation_seed=torch.full((count,), -1),
    )
    if not settings.input_degradation_prob:
        return params
    # The last numbers of the stream: the others are the same without any degradation.
    is_degraded = torch.rand(count, generator=generator) < settings.input_degradation_prob
    seeds = torch.randint(1 << 31, (count,), generator=generator)
    return replace(params, degradation_seed=torch.where(is_degraded, seeds, -1))


def identity_params(count: int) -> AugmentParams:
    """Return parameters that change nothing: the network's square of each crop as it is."""
    return AugmentParams(
        flip_sign=torch.ones(count),
        rotation_rad=torch.zeros(count),
        scale=torch.ones(count),
        translation=torch.zeros(count, 2),
        warp=torch.zeros(count, GRID_NODES, GRID_NODES, 2),
        color_shift=torch.zeros(count, 3),
        is_color_transferred=torch.zeros(count, dtype=torch.bool),
        input_color_jitter=torch.zeros(count, 7),
        degradation_seed=torch.full((count,), -1),
    )


def sampling_grid(params: AugmentParams, *, coverage: float) -> Tensor:
    """Compose all geometric transforms of each image into the positions of its nodes.

    Flip, rotation, scale and translation are applied to the few nodes of the warp and not to the
    image: an affine map commutes with bilinear interpolation, so the result is the same, and each
    crop is resampled once. The target has the same affine map without the warp.

    Returns:
        Nodes (B, 2, 2, 5, 5).
    """
    unwarped = _node_grid(params.rotation_rad.device).expand_as(params.warp)
    both = torch.stack([unwarped, unwarped + params.warp], dim=1)  # (B, 2, 5, 5, 2)
    return _transform_nodes(both, params, coverage=coverage)


def part_grid(params: AugmentParams, corners: Tensor, *, side: float, coverage: float) -> Tensor:
    """Return the nodes of a square part of each target, which has no warp: (B, 1, 2, 5, 5).

    Args:
        params: Those of the whole targets.
        corners: Left and top of the parts in the network's square, (B, 2), 0 to 1.
        side: Their side as a fraction of that square's.
        coverage: As in `sampling_grid`.
    """
    whole = _node_grid(params.rotation_rad.device)  # -1/2 to 1/2
    parts = (whole + 0.5) * side + corners[:, None, None] - 0.5  # (B, 5, 5, 2)
    return _transform_nodes(parts[:, None], params, coverage=coverage)


def _transform_nodes(nodes: Tensor, params: AugmentParams, *, coverage: float) -> Tensor:
    """Return nodes (B, K, 5, 5, 2) in the network's square as positions (B, K, 2, 5, 5)."""
    cos, sin = params.rotation_rad.cos(), params.rotation_rad.sin()
    rotation = torch.stack([cos, -sin, sin, cos], dim=-1).view(-1, 1, 1, 1, 2, 2)
    flip = torch.stack([params.flip_sign, torch.ones_like(params.flip_sign)], dim=-1)
    rotated = (rotation @ (nodes * flip[:, None, None, None])[..., None])[..., 0]
    scaled = rotated * params.scale[:, None, None, None, None]
    translated = (scaled + params.translation[:, None, None, None]) * coverage + 0.5
    return translated.permute(0, 1, 4, 2, 3)


def sample_by_remap(pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int) -> Tensor:
    """Sample crops on a CPU with OpenCV, one after the other.

    Args:
        pixels: uint8 (N, S, S, 4).
        indices: Which B of the crops, int64.
        nodes: Positions to sample, (B, K, 2, 5, 5).
        size_px: Side of the output.

    Returns:
        float32 (K, B, 4, size_px, size_px), 0 to 255, rounded to whole steps: targets, inputs.
    """
    import cv2  # only here: a machine that samples on its GPU need not have it

    # Pixel centers are at integers; the nodes are few, so they are converted, not the maps.
    maps = _interpolate_nodes(nodes * pixels.shape[1] - 0.5, size_px=size_px).numpy()
    kinds = nodes.shape[1]
    planes = np.empty((kinds, len(indices), 4, size_px, size_px), dtype=np.uint8)
    for row, index in enumerate(indices):
        crop = pixels[index]
        for kind in range(kinds):
            x, y = maps[row, kind]
            sample = cv2.remap(crop, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            planes[kind, row] = cv2.split(sample)
    return torch.from_numpy(planes).float()


def sample_by_grid(pixels: Tensor, indices: Tensor, nodes: Tensor, *, size_px: int) -> Tensor:
    """Sample crops on their device, in one batched operation.

    Args:
        pixels: uint8 (N, S, S, 4) on the device.
        indices: Which B of the crops, int64, on the device.
        nodes: Positions to sample, (B, K, 2, 5, 5), on the device.
        size_px: Side of the output.

    Returns:
        float32 (K, B, 4, size_px, size_px), 0 to 255: targets, inputs.
    """
    crops = pixels[indices].permute(0, 3, 1, 2).float()
    # Without `align_corners`, -1 and 1 are the image's outer edges: the unit square's.
    maps = _interpolate_nodes(nodes * 2 - 1, size_px=size_px)
    # Clamping to the centers of the outermost pixels repeats them, as `padding_mode="border"`
    # would, which Apple's GPUs do not have.
    edge = 1 - 1 / pixels.shape[1]
    grid = maps.clamp(-edge, edge).permute(0, 1, 3, 4, 2).flatten(1, 2)  # (B, K S, S, 2)
    samples = functional.grid_sample(crops, grid, mode="bilinear", align_corners=False)
    return torch.stack(samples.chunk(nodes.shape[1], dim=2))


def jitter_color(images: Tensor, lab_shift: Tensor) -> Tensor:
    """Shift images (B, 3, H, W) in [-1, 1] by `lab_shift` (B, 3) in LAB, and clamp them."""
    shifted = rgb_to_lab(images / 2 + 0.5) + lab_shift[:, :, None, None]
    return lab_to_rgb(shifted).clamp(0, 1) * 2 - 1


def jitter_input(images: Tensor, jitter: Tensor) -> Tensor:
    """Change brightness and colors of images (B, 3, H, W) in [-1, 1] by `jitter` (B, 7)."""
    brightness, factor, offset = torch.split(jitter[:, :, None, None], [1, 3, 3], dim=1)
    return ((images + 1) * (1 + brightness) * (1 + factor) - 1 + offset / 2).clamp(-1, 1)


def transfer_color(
    images: Tensor, masks: Tensor, reference: Tensor, reference_masks: Tensor
) -> Tensor:
    """Give faces the mean and deviation of the colors of reference faces, in LAB, inside masks.

    Reinhard et al., "Color Transfer between Images", 2001, equations 10 to 12.

    Args:
        images: The images to change, (N, B, 3, H, W) in [-1, 1]; the first of N is matched inside
            its mask, and the others are changed by the same map.
        masks: Face masks of the first, (B, 1, H, W) in [0, 1].
        reference: The images to match, (B, 3, H, W) in [-1, 1].
        reference_masks: Their face masks, (B, 1, H, W).
    """
    lab = rgb_to_lab(images.flatten(0, 1) / 2 + 0.5).view_as(images)
    mean, deviation = _lab_statistics(lab[0], masks)
    target_mean, target_deviation = _lab_statistics(
        rgb_to_lab(reference / 2 + 0.5), reference_masks
    )
    matched = (lab - mean) * (target_deviation / deviation) + target_mean
    return lab_to_rgb(matched.flatten(0, 1)).view_as(images).clamp(0, 1) * 2 - 1


def _lab_statistics(lab: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each channel inside masks, (B, 3, 1, 1) each."""
    count = masks.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (lab * masks).sum((2, 3), keepdim=True) / count
    variance = ((lab - mean).square() * masks).sum((2, 3), keepdim=True) / count
    # A face of a single color has no deviation to scale by.
    return mean, variance.sqrt().clamp(min=1)


def rgb_to_lab(images: Tensor) -> Tensor:
    """Convert sRGB (B, 3, H, W) in [0, 1] to CIE LAB under D65: L 0 to 100, a and b about ±100."""
    linear = torch.where(
        images <= 0.04045, images / 12.92, ((images.clamp(min=0) + 0.055) / 1.055) ** 2.4
    )
    matrix, _ = _color_matrices(images.device, images.dtype)
    xyz = torch.einsum("dc,bchw->bdhw", matrix, linear)
    cube = torch.where(
        xyz > (6 / 29) ** 3, xyz.clamp(min=1e-8) ** (1 / 3), xyz / _LAB_LINEAR_SLOPE + 4 / 29
    )
    x, y, z = cube.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIE LAB (B, 3, H, W) to sRGB; colors out of gamut are outside of [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    cube = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(cube > 6 / 29, cube**3, _LAB_LINEAR_SLOPE * (cube - 4 / 29))
    _, inverse = _color_matrices(lab.device, lab.dtype)
    linear = torch.einsum("dc,bchw->bdhw", inverse, xyz)
    bright = 1.055 * linear.clamp(min=1e-8) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, linear * 12.92, bright)


_LAB_LINEAR_SLOPE = 3 * (6 / 29) ** 2
"""Slope of LAB's linear part near black (CIE 15)."""


@cache
def _color_matrices(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return linear sRGB -> XYZ relative to the D65 white (IEC 61966-2-1), and its inverse, (3, 3).

    Kept on the device: making them there in every step would make the host wait.
    """
    with torch.inference_mode(mode=False):
        matrix = torch.tensor(
            [
                [0.4124564, 0.3575761, 0.1804375],
                [0.2126729, 0.7151522, 0.0721750],
                [0.0193339, 0.1191920, 0.9503041],
            ]
        )
        matrix /= matrix.sum(1, keepdim=True)
        inverse = torch.linalg.inv(matrix)
        return matrix.to(device, dtype), inverse.to(device, dtype)


def _node_grid(device: torch.device) -> Tensor:
    """Return the nodes (5, 5, 2) as (x, y) over the network's square, which is ±1/2."""
    line = torch.linspace(-0.5, 0.5, GRID_NODES, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def _remove_similarity(offsets: Tensor) -> Tensor:
    """Remove the translation, rotation and scale from offsets of the nodes (B, 5, 5, 2).

    The first autoencoders placed the target by the similarity that best fits the moved nodes
    instead, which is the same pair of images up to one similarity of both.
    """
    x, y = _node_grid(offsets.device).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    basis = torch.stack(
        [torch.stack(pair, dim=-1) for pair in ((one, zero), (zero, one), (x, y), (-y, x))]
    ).flatten(1)  # (4, 50); the rows are orthogonal
    basis = basis / basis.norm(dim=1, keepdim=True)
    flat = offsets.flatten(1)
    with torch.autocast("cpu", enabled=False):
        rest: Tensor = flat - flat @ basis.T @ basis
    return rest.view_as(offsets)


def _interpolate_nodes(nodes: Tensor, *, size_px: int) -> Tensor:
    """Interpolate nodes (..., 5, 5) at the edges of a square to its pixels (..., S, S)."""
    along = (torch.arange(size_px, device=nodes.device) + 0.5) / size_px * (GRID_NODES - 1)
    hats = torch.arange(GRID_NODES, device=nodes.device) - along[:, None]
    weights = (1 - hats.abs()).clamp(min=0)  # (S, 5): each pixel is between two nodes
    return weights @ nodes @ weights.T
