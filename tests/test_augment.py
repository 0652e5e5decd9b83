"""Augmentation: random parameters, sampling, and that CPU and GPU sampling agree."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from faceswap_cli.training import augment
from faceswap_cli.training.augment import AugmentParams
from faceswap_models.base import TrainSettings

NO_AUGMENTATION = TrainSettings(
    warp_strength=0, rotate_deg=0, scale_jitter=0, translate_jitter=0, flip_prob=0
)
"""Settings without any randomness."""


def smooth_images(count: int, side: int) -> np.ndarray:
    """Return smooth random images uint8 (count, side, side, 4)."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, 4), dtype=np.uint8)
    return np.stack(
        [cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )


def sample_both(
    pixels: np.ndarray, params: AugmentParams, *, coverage: float = 1.0
) -> torch.Tensor:
    """Return targets and inputs of 32 px, (2, B, 4, 32, 32)."""
    nodes = augment.sampling_grid(params, coverage=coverage)
    return augment.sample_by_remap(pixels, np.arange(len(pixels)), nodes, size_px=32)


def planes(pixels: np.ndarray) -> torch.Tensor:
    """Return images in the layout of the samplers."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()


def test_cpu_and_gpu_sampling_agree_to_interpolation_error() -> None:
    """cv2.remap and grid_sample give the same images for the same maps, edges included."""
    pixels = smooth_images(8, 40)
    strong = TrainSettings(translate_jitter=0.3, rotate_deg=40)
    nodes = augment.sampling_grid(augment.sample_params(8, strong, seed=1), coverage=0.8)
    order = np.array([3, 1, 2, 0, 7, 6, 5, 4])
    by_remap = augment.sample_by_remap(pixels, order, nodes, size_px=32)
    by_grid = augment.sample_by_grid(
        torch.from_numpy(pixels), torch.from_numpy(order), nodes, size_px=32
    )
    # OpenCV rounds to whole steps, and its positions to 1/32 px.
    assert (by_remap - by_grid).abs().max() < 1.5


def test_identity_params_return_the_crop() -> None:
    """At coverage 1 and equal size the samples are the crop itself, pixel for pixel."""
    pixels = smooth_images(2, 32)
    for images in sample_both(pixels, augment.identity_params(2)):
        assert torch.equal(planes(pixels), images)


def test_coverage_crops_the_center() -> None:
    """Coverage 1/2 samples the middle half of the crop."""
    pixels = smooth_images(1, 64)
    targets, _ = sample_both(pixels, augment.identity_params(1), coverage=0.5)
    assert torch.equal(planes(pixels[:, 16:48, 16:48]), targets)


def test_a_flip_mirrors_both() -> None:
    """Target and input are the mirrored image, and nothing else."""
    pixels = smooth_images(2, 32)
    params = augment.sample_params(2, replace(NO_AUGMENTATION, flip_prob=1.0), seed=0)
    for images in sample_both(pixels, params):
        assert torch.equal(planes(pixels[:, :, ::-1]), images)


def test_translation_and_scale_move_the_sampled_square() -> None:
    """A translation of 1/4 samples a quarter further right; a scale of 2 covers twice the side."""
    pixels = smooth_images(1, 64)
    identity = augment.identity_params(1)
    translated = replace(identity, translation=torch.tensor([[0.25, 0.0]]))
    targets, _ = sample_both(pixels, translated, coverage=0.5)
    assert torch.equal(planes(pixels[:, 16:48, 24:56]), targets)
    targets, _ = sample_both(pixels, replace(identity, scale=torch.tensor([2.0])), coverage=0.5)
    halved = planes(pixels).unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (halved - targets).abs().max() <= 1


def test_rotation_is_about_the_center() -> None:
    """Sampling a square rotated by 90 degrees returns the image rotated the other way."""
    pixels = smooth_images(1, 32)
    rotated = replace(augment.identity_params(1), rotation_rad=torch.tensor([torch.pi / 2]))
    targets, _ = sample_both(pixels, rotated)
    assert (planes(np.rot90(pixels, 1, (1, 2))) - targets).abs().max() <= 1


def test_the_target_is_not_warped() -> None:
    """The target's nodes are an affine image of a grid; the input's are not."""
    params = augment.sample_params(4, TrainSettings(), seed=0)
    targets, inputs = augment.sampling_grid(params, coverage=0.8).unbind(1)
    assert second_differences(targets) < 1e-6
    assert second_differences(inputs) > 1e-2


def second_differences(nodes: torch.Tensor) -> float:
    """Return how far nodes (B, 2, 5, 5) are from affine: their largest second difference."""
    along_x = nodes[..., 2:] - 2 * nodes[..., 1:-1] + nodes[..., :-2]
    along_y = nodes[..., 2:, :] - 2 * nodes[..., 1:-1, :] + nodes[..., :-2, :]
    return max(along_x.abs().max().item(), along_y.abs().max().item())


def test_without_warp_input_and_target_are_the_same_image() -> None:
    """Both have the same rotation, scale, translation and flip."""
    params = augment.sample_params(4, TrainSettings(warp_strength=0), seed=2)
    targets, inputs = sample_both(smooth_images(4, 40), params, coverage=0.8)
    assert torch.equal(targets, inputs)


def test_the_warp_has_no_translation_rotation_or_scale() -> None:
    """The similarity that best fits the moved nodes is the identity."""
    warp = augment.sample_params(16, TrainSettings(), seed=0).warp.double()
    line = torch.linspace(-0.5, 0.5, augment.GRID_NODES, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    dx, dy = warp.unbind(-1)
    for component in (dx, dy, dx * x + dy * y, dy * x - dx * y):
        assert component.sum((1, 2)).abs().max() < 1e-6


def test_the_warp_has_the_strength_of_the_first_autoencoders() -> None:
    """Nodes move by a Gaussian of 5 px in 160, less the four of fifty degrees of freedom."""
    warp = augment.sample_params(4000, TrainSettings(), seed=0).warp
    expected = 5 / 160 * (46 / 50) ** 0.5
    assert expected == pytest.approx(float(warp.std()), rel=0.01)


def test_params_are_within_their_ranges() -> None:
    """Rotation, scale and translation use the ranges of the settings, and do not leave them."""
    settings = TrainSettings(rotate_deg=10, scale_jitter=0.05, translate_jitter=0.1, flip_prob=0.5)
    params = augment.sample_params(4000, settings, seed=0)
    assert 9.9 < float(params.rotation_rad.rad2deg().abs().max()) <= 10.0001
    assert 0.049 < float((params.scale - 1).abs().max()) <= 0.0501
    assert 0.099 < float(params.translation.abs().max()) <= 0.1001
    assert 0.47 < float((params.flip_sign < 0).float().mean()) < 0.53


def test_the_same_seed_gives_the_same_params() -> None:
    """They depend on the seed only, not on torch's global generator."""
    torch.manual_seed(1)
    first = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=5)
    torch.manual_seed(2)
    second = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=5)
    other = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=6)
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name))
    assert not torch.equal(first.warp, other.warp)


def test_lab_conversion_is_invertible() -> None:
    """LAB and back gives the same color; white, black and red have the values of CIE."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images, augment.lab_to_rgb(augment.rgb_to_lab(images)), atol=1e-4)
    colors = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]).view(3, 3, 1, 1)
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]])
    assert torch.allclose(expected, augment.rgb_to_lab(colors).flatten(1), atol=0.05)


def test_color_jitter_shifts_and_stays_in_range() -> None:
    """More lightness is lighter, no jitter is no change, and nothing leaves [-1, 1]."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    lab_shift = torch.tensor([[0.0, 0, 0], [30, 0, 0]])
    jittered = augment.jitter_color(images, lab_shift)
    assert torch.allclose(images[0], jittered[0], atol=1e-3)
    assert jittered[1].mean() > images[1].mean() + 0.2
    assert jittered.abs().max() <= 1


def test_input_jitter_differs_by_image_and_stays_in_range() -> None:
    """Equal images become different, within [-1, 1], and the order of levels is the same."""
    jitter = augment.sample_params(
        8, replace(NO_AUGMENTATION, input_color_jitter=0.3), seed=2
    ).input_color_jitter
    images = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1).repeat(
        8, 1, 1, 1
    )
    changed = augment.jitter_input(images, jitter)
    assert -1 <= changed.min() <= changed.max() <= 1
    assert 8 == len({tuple(one.flatten().tolist()) for one in changed})
    gray = torch.linspace(-0.2, 0.2, 24).expand(8, 3, 24, 24)
    assert (augment.jitter_input(gray, jitter).diff(dim=-1) > 0).all()
    assert torch.allclose(images, augment.jitter_input(images, torch.zeros(8, 7)), atol=1e-6)


def test_color_transfer_matches_statistics_inside_the_mask() -> None:
    """Mean and deviation in LAB become the reference's; a face's own colors change nothing."""
    rng = torch.Generator().manual_seed(0)
    images = (torch.rand(2, 4, 3, 16, 16, generator=rng) - 0.5) * 0.4
    reference = (torch.rand(4, 3, 16, 16, generator=rng) - 0.4) * 0.6
    masks = torch.zeros(4, 1, 16, 16)
    masks[:, :, 4:12, 3:13] = 1
    matched = augment.transfer_color(images, masks, reference, masks)

    def statistics(faces: torch.Tensor) -> torch.Tensor:
        inside = augment.rgb_to_lab(faces / 2 + 0.5)[:, :, 4:12, 3:13].flatten(2)
        return torch.cat([inside.mean(2), inside.std(2, correction=0)], dim=1)

    assert torch.allclose(statistics(reference), statistics(matched[0]), atol=0.3)
    itself = augment.transfer_color(images, masks, images[0], masks)
    assert torch.allclose(images, itself, atol=1e-3)
    gray = augment.transfer_color(torch.zeros(1, 4, 3, 16, 16), masks, reference, masks)
    assert torch.isfinite(gray).all()
