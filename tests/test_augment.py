"""Augmentation: what is drawn, what is looked up, and that every route sees the same."""

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
"""Settings that leave nothing to chance."""


def smooth_images(count: int, side: int) -> np.ndarray:
    """Return smooth random pictures uint8 (count, side, side, 4)."""
    chance = np.random.default_rng(0)
    coarse = chance.integers(0, 256, (count, 6, 6, 4), dtype=np.uint8)
    return np.stack(
        [cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )


def sample_both(
    pixels: np.ndarray, changes: AugmentParams, *, coverage: float = 1.0
) -> torch.Tensor:
    """Return targets and inputs of 32 px, (2, B, 4, 32, 32)."""
    nodes = augment.sampling_grid(changes, coverage=coverage)
    return augment.sample_by_remap(pixels, np.arange(len(pixels)), nodes, size_px=32)


def planes(pixels: np.ndarray) -> torch.Tensor:
    """Return pictures as the samplers do."""
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float()


def test_both_routes_agree_to_interpolation_error() -> None:
    """OpenCV's look-up and grid_sample give the same pictures for the same maps, edges too."""
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


def test_unchanged_crops_are_the_central_square() -> None:
    """At coverage 1 and equal size the look-up returns the crop itself, pixel for pixel."""
    pixels = smooth_images(2, 32)
    for pictures in sample_both(pixels, augment.identity_params(2)):
        assert torch.equal(planes(pixels), pictures)


def test_coverage_cuts_the_centre() -> None:
    """Coverage 1/2 shows the middle half of the crop."""
    pixels = smooth_images(1, 64)
    targets, _ = sample_both(pixels, augment.identity_params(1), coverage=0.5)
    assert torch.equal(planes(pixels[:, 16:48, 16:48]), targets)


def test_a_flip_mirrors_both() -> None:
    """A mirrored picture is the picture read from right to left, and nothing else."""
    pixels = smooth_images(2, 32)
    drawn = augment.sample_params(2, replace(NO_AUGMENTATION, flip_prob=1.0), seed=0)
    for pictures in sample_both(pixels, drawn):
        assert torch.equal(planes(pixels[:, :, ::-1]), pictures)


def test_a_shift_and_a_zoom_look_where_they_say() -> None:
    """A shift by a quarter looks a quarter further right; a zoom of 2 shows twice as much."""
    pixels = smooth_images(1, 64)
    still = augment.identity_params(1)
    shifted = replace(still, translation=torch.tensor([[0.25, 0.0]]))
    targets, _ = sample_both(pixels, shifted, coverage=0.5)
    assert torch.equal(planes(pixels[:, 16:48, 24:56]), targets)
    targets, _ = sample_both(pixels, replace(still, scale=torch.tensor([2.0])), coverage=0.5)
    halved = planes(pixels).unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (halved - targets).abs().max() <= 1


def test_a_rotation_turns_about_the_centre() -> None:
    """Looking a quarter turn clockwise shows the picture a quarter turn the other way."""
    pixels = smooth_images(1, 32)
    turned = replace(augment.identity_params(1), rotation_rad=torch.tensor([torch.pi / 2]))
    targets, _ = sample_both(pixels, turned)
    assert (planes(np.rot90(pixels, 1, (1, 2))) - targets).abs().max() <= 1


def test_the_target_is_not_warped() -> None:
    """The target's nodes are an affine image of a grid; the input's are not."""
    drawn = augment.sample_params(4, TrainSettings(), seed=0)
    targets, inputs = augment.sampling_grid(drawn, coverage=0.8).unbind(1)
    assert second_differences(targets) < 1e-6
    assert second_differences(inputs) > 1e-2


def second_differences(nodes: torch.Tensor) -> float:
    """Return how far nodes (B, 2, 5, 5) are from affine: their largest second difference."""
    along_x = nodes[..., 2:] - 2 * nodes[..., 1:-1] + nodes[..., :-2]
    along_y = nodes[..., 2:, :] - 2 * nodes[..., 1:-1, :] + nodes[..., :-2, :]
    return max(along_x.abs().max().item(), along_y.abs().max().item())


def test_without_warp_input_and_target_are_the_same_picture() -> None:
    """Rotation, zoom, shift and flip are shared."""
    drawn = augment.sample_params(4, TrainSettings(warp_strength=0), seed=2)
    targets, inputs = sample_both(smooth_images(4, 40), drawn, coverage=0.8)
    assert torch.equal(targets, inputs)


def test_the_warp_holds_no_shift_rotation_or_zoom() -> None:
    """The similarity that best fits the moved nodes is no move at all."""
    bend = augment.sample_params(16, TrainSettings(), seed=0).warp.double()
    line = torch.linspace(-0.5, 0.5, augment.GRID_NODES, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    dx, dy = bend.unbind(-1)
    for moment in (dx, dy, dx * x + dy * y, dy * x - dx * y):
        assert moment.sum((1, 2)).abs().max() < 1e-6


def test_the_warp_is_as_strong_as_the_classic_one() -> None:
    """Nodes move by a Gaussian of 5 px in 160, less the four of fifty freedoms taken out."""
    bend = augment.sample_params(4000, TrainSettings(), seed=0).warp
    expected = 5 / 160 * (46 / 50) ** 0.5
    assert expected == pytest.approx(float(bend.std()), rel=0.01)


def test_changes_stay_within_their_ranges() -> None:
    """No rotation, zoom or shift leaves what the settings allow, and each is used."""
    settings = TrainSettings(rotate_deg=10, scale_jitter=0.05, translate_jitter=0.1, flip_prob=0.5)
    drawn = augment.sample_params(4000, settings, seed=0)
    assert 9.9 < float(drawn.rotation_rad.rad2deg().abs().max()) <= 10.0001
    assert 0.049 < float((drawn.scale - 1).abs().max()) <= 0.0501
    assert 0.099 < float(drawn.translation.abs().max()) <= 0.1001
    assert 0.47 < float((drawn.flip_sign < 0).float().mean()) < 0.53


def test_the_same_seed_draws_the_same_changes() -> None:
    """Changes depend on the seed alone, not on torch's own generator."""
    torch.manual_seed(1)
    first = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=5)
    torch.manual_seed(2)
    second = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=5)
    other = augment.sample_params(3, TrainSettings(color_jitter=0.1), seed=6)
    for name, value in vars(first).items():
        assert torch.equal(value, getattr(second, name))
    assert not torch.equal(first.warp, other.warp)


def test_lab_there_and_back() -> None:
    """Every sRGB colour survives LAB and back; white, black and red lie where CIE says."""
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(images, augment.lab_to_rgb(augment.rgb_to_lab(images)), atol=1e-4)
    known = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0]]).view(3, 3, 1, 1)
    expected = torch.tensor([[100.0, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20]])
    assert torch.allclose(expected, augment.rgb_to_lab(known).flatten(1), atol=0.05)


def test_colour_jitter_shifts_and_stays_in_range() -> None:
    """More lightness is lighter, no jitter is no change, and nothing leaves [-1, 1]."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    colour = torch.tensor([[0.0, 0, 0], [30, 0, 0]])
    jittered = augment.jitter_color(images, colour)
    assert torch.allclose(images[0], jittered[0], atol=1e-3)
    assert jittered[1].mean() > images[1].mean() + 0.2
    assert jittered.abs().max() <= 1


def test_a_tint_changes_each_picture_by_itself_and_stays_in_range() -> None:
    """Equal pictures come out different, within [-1, 1], and no pixel moves."""
    tint = augment.sample_params(
        8, replace(NO_AUGMENTATION, input_color_jitter=0.3), seed=2
    ).input_color_jitter
    images = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1).repeat(
        8, 1, 1, 1
    )
    changed = augment.jitter_input(images, tint)
    assert -1 <= changed.min() <= changed.max() <= 1
    assert 8 == len({tuple(one.flatten().tolist()) for one in changed})
    grey = torch.linspace(-0.2, 0.2, 24).expand(8, 3, 24, 24)
    assert (augment.jitter_input(grey, tint).diff(dim=-1) > 0).all()
    assert torch.allclose(images, augment.jitter_input(images, torch.zeros(8, 7)), atol=1e-6)


def test_matched_faces_have_the_others_colours_inside_the_mask() -> None:
    """Mean and deviation in LAB become the other face's; its own colours change nothing."""
    chance = torch.Generator().manual_seed(0)
    images = (torch.rand(2, 4, 3, 16, 16, generator=chance) - 0.5) * 0.4
    like = (torch.rand(4, 3, 16, 16, generator=chance) - 0.4) * 0.6
    masks = torch.zeros(4, 1, 16, 16)
    masks[:, :, 4:12, 3:13] = 1
    matched = augment.transfer_color(images, masks, like, masks)

    def numbers(faces: torch.Tensor) -> torch.Tensor:
        inside = augment.rgb_to_lab(faces / 2 + 0.5)[:, :, 4:12, 3:13].flatten(2)
        return torch.cat([inside.mean(2), inside.std(2, correction=0)], dim=1)

    assert torch.allclose(numbers(like), numbers(matched[0]), atol=0.3)
    itself = augment.transfer_color(images, masks, images[0], masks)
    assert torch.allclose(images, itself, atol=1e-3)
    grey = augment.transfer_color(torch.zeros(1, 4, 3, 16, 16), masks, like, masks)
    assert torch.isfinite(grey).all()
