"""Generators, discriminators, image pool, losses and augmentation of GANs."""

import pytest
import torch
from torch import Tensor, nn

from faceswap_models.gan import (
    DiscriminatorOutput,
    Generator,
    ImagePool,
    PatchDiscriminator,
    diff_augment,
    lsgan_loss,
    r1_penalty,
)
from faceswap_models.losses import weighted_structure

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the `paper` presets."""


def count(module: nn.Module) -> int:
    """Return the number of a network's parameters."""
    return sum(one.numel() for one in module.parameters())


def convolutions(module: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    """Return a network's convolutions in order."""
    return [one for one in module.modules() if isinstance(one, nn.Conv2d | nn.ConvTranspose2d)]


@pytest.mark.parametrize(
    ("layers", "parameters", "patch_px"),
    [
        (1, 136_385, 16),
        (2, 662_977, 34),
        (3, 2_764_737, 70),
        (4, 6_959_553, 142),
        (5, 11_154_369, 286),
    ],
)
def test_a_discriminator_is_the_published_patchgan(
    layers: int, parameters: int, patch_px: int
) -> None:
    """Weights and the side of a patch are those of Isola et al.'s, for each number of layers."""
    discriminator = PatchDiscriminator(CHANNELS[:layers], slope=0.2, norm="instance")
    assert parameters == count(discriminator)
    field = 1
    for layer in reversed(convolutions(discriminator)):
        field = (field - 1) * layer.stride[0] + layer.kernel_size[0]
    assert patch_px == field


def test_a_score_depends_on_its_receptive_field_only() -> None:
    """A score of a two-layer discriminator has a gradient in its 34 px patch only."""
    discriminator = PatchDiscriminator((4, 8), slope=0.2, norm="spectral").eval()
    faces = torch.zeros(1, 3, 64, 64, requires_grad=True)
    ((_, scores),) = discriminator(faces)
    (gradient,) = torch.autograd.grad(scores[0, 0, 7, 7], faces)
    rows = gradient.abs().sum((0, 1, 3)).nonzero()
    assert 34 >= rows.max() - rows.min() + 1 > 30


def test_a_generator_has_a_pair_of_layers_per_entry_of_channels() -> None:
    """The first paper's ten layers: five down to a 32nd of the side, five up."""
    generator = Generator(CHANNELS, resize_convolution=False, skip_connections=False)
    down = [layer[0] for layer in generator.down]
    up = [layer[0] for layer in generator.up]
    assert [(3, 64), (64, 128), (128, 256), (256, 512), (512, 512)] == [
        (one.in_channels, one.out_channels) for one in down
    ]
    assert [(64, 3), (128, 64), (256, 128), (512, 256), (512, 512)] == [
        (one.in_channels, one.out_channels) for one in up
    ]
    assert 10 == len(convolutions(generator))
    assert {(2, 2)} == {one.stride for one in convolutions(generator)}
    norms = [one for one in generator.modules() if isinstance(one, nn.InstanceNorm2d)]
    assert 8 == len(norms)  # neither the first downsampling nor the last upsampling has one


@pytest.mark.parametrize("resize", [True, False])
@pytest.mark.parametrize("skips", [True, False])
def test_a_generator_preserves_the_shape(resize: bool, skips: bool) -> None:
    """Its output has the input's shape, in [-1, 1]."""
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    output = Generator((4, 8, 8), resize_convolution=resize, skip_connections=skips)(faces)
    assert faces.shape == output.shape
    assert float(output.detach().abs().max()) <= 1


def test_resize_convolution_has_no_checkerboard() -> None:
    """A flat image stays flat inside; transposed convolution leaves a pattern."""
    torch.manual_seed(0)
    flat = torch.full((1, 3, 32, 32), 0.5)
    deviation = {}
    for resize in (True, False):
        generator = Generator((8,), resize_convolution=resize, skip_connections=False)
        deviation[resize] = float(generator(flat).detach()[..., 8:-8, 8:-8].std((2, 3)).max())
    assert deviation[True] < 1e-6 < 1e-3 < deviation[False]


@pytest.mark.parametrize("skips", [True, False])
def test_a_new_layer_has_no_effect_at_fade_zero(skips: bool) -> None:
    """Outputs of generator and discriminator are unchanged until it is faded in."""
    torch.manual_seed(0)
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    generator = Generator((4, 8, 8), resize_convolution=True, skip_connections=skips, depth=2)
    discriminator = PatchDiscriminator((4, 8), slope=0.2, norm="instance", depth=1)
    weight = torch.ones(2, 1, 32, 32)
    before = generator(faces), lsgan_loss(discriminator(faces), 1.0, weight)
    generator.add_layer()
    discriminator.add_layer()
    assert torch.equal(before[0], generator(faces, 0.0))
    assert torch.equal(before[1], lsgan_loss(discriminator(faces, 0.0), 1.0, weight))
    assert not torch.equal(before[0], generator(faces, 0.5))
    assert not torch.equal(before[1], lsgan_loss(discriminator(faces, 0.5), 1.0, weight))


@pytest.mark.parametrize("norm", ["instance", "spectral", "none"])
def test_a_grown_network_equals_one_built_at_once(norm: str) -> None:
    """Layer by layer: the same names, types and shapes, and the same output."""
    grown = [
        Generator((4, 8, 8), resize_convolution=True, skip_connections=True, depth=1),
        PatchDiscriminator((4, 8), slope=0.2, norm=norm, depth=1),
    ]
    whole = [
        Generator((4, 8, 8), resize_convolution=True, skip_connections=True),
        PatchDiscriminator((4, 8), slope=0.2, norm=norm),
    ]
    grown[0].add_layer()
    grown[0].add_layer()
    grown[1].add_layer()
    grown[1].drop_old_heads()
    faces = torch.rand(2, 3, 32, 32) * 2 - 1
    for one, other in zip(grown, whole, strict=True):
        assert [(name, str(module)) for name, module in other.named_modules()] == [
            (name, str(module)) for name, module in one.named_modules()
        ]
        one.eval().load_state_dict(other.eval().state_dict())
        torch.testing.assert_close(other(faces), one(faces), rtol=0, atol=0)


def test_the_lsgan_loss_is_weighted_by_pixels_and_heads() -> None:
    """The weighted mean of squared differences, and the weighted sum over heads."""
    scores = torch.tensor([[[[0.0, 1.0], [0.5, 3.0]]]])
    left = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    assert 0.625 == lsgan_loss([DiscriminatorOutput(1.0, scores)], 1.0, left)
    assert 0.125 == lsgan_loss([DiscriminatorOutput(1.0, scores)], 0.0, left)
    both = [DiscriminatorOutput(0.25, scores), DiscriminatorOutput(0.75, torch.ones(1, 1, 2, 2))]
    assert 0.25 * 0.625 == lsgan_loss(both, 1.0, left)


@pytest.mark.parametrize("is_rounded", [False, True])
def test_the_gradient_penalty_of_a_linear_discriminator(is_rounded: bool) -> None:
    """Half the squared gradient of the score, by hand; in full precision under autocast too."""
    torch.manual_seed(0)
    discriminator = nn.Conv2d(3, 1, 4, stride=4, bias=False)  # each pixel is in one of four patches
    faces = torch.rand(5, 3, 8, 8)
    weight = torch.ones(5, 1, 8, 8)
    weight[:, :, 4:] = 0  # the lower two patches have no weight

    def discriminate(images: Tensor) -> list[DiscriminatorOutput]:
        scores = discriminator(images)
        return [DiscriminatorOutput(0.25, scores), DiscriminatorOutput(0.75, scores)]

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_rounded), torch.no_grad():
        penalty = r1_penalty(discriminate, faces, weight)
    # The score is the mean of two patches, so its gradient is half a kernel, twice.
    expected = 2 * (discriminator.weight / 2).square().sum() / 2
    torch.testing.assert_close(expected, penalty)
    (gradient,) = torch.autograd.grad(penalty, discriminator.weight)
    torch.testing.assert_close(discriminator.weight / 2, gradient)


def flat_images(*values: float) -> Tensor:
    """Return images of one gray level each (B, 3, 8, 8)."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8).contiguous()


def test_a_pool_fills_up_and_then_returns_old_images() -> None:
    """Until it is full it returns its input; then every stored image is returned once."""
    torch.manual_seed(0)
    pool = ImagePool(4, channels=3, side_px=8)
    first = flat_images(-1, -0.6, -0.2, 0.2)
    assert torch.equal(first, pool.query(first))
    levels = ((first[:, 0, 0, 0] + 1) * 127.5).round()
    assert levels.tolist() == pool.stored[:, 0, 0, 0].tolist()
    old = 0
    for _ in range(100):
        returned = pool.query(flat_images(1, 1))
        old += int((returned[:, 0, 0, 0] < 0.99).sum())
        assert {255} | set(levels.tolist()) >= set(pool.stored.flatten().tolist())
    # Each of the four old ones is returned once, when a new one replaces it.
    assert 4 == old
    assert {255} == set(pool.stored.flatten().tolist())


def test_half_of_the_images_from_a_full_pool_are_old() -> None:
    """On average over many queries."""
    torch.manual_seed(0)
    pool = ImagePool(8, channels=3, side_px=8)
    pool.query(flat_images(*[-1.0] * 8))
    old = 0
    for step in range(200):
        new = flat_images(step / 200, step / 200, step / 200)
        old += int((pool.query(new) != new).flatten(1).any(1).sum())
    assert 0.4 < old / 600 < 0.6


def test_an_empty_pool_returns_its_input() -> None:
    """And one that is smaller than a batch returns the rest unchanged."""
    many = flat_images(-1, 0, 1)
    assert torch.equal(many, ImagePool(0, channels=3, side_px=8).query(many))
    assert torch.equal(many, ImagePool(2, channels=3, side_px=8).query(many))


def test_augmentation_is_differentiable_and_preserves_mask_values() -> None:
    """The image has a gradient; the mask has its own values or 0; strength 0 is the identity."""
    torch.manual_seed(0)
    faces = torch.rand(6, 3, 32, 32, requires_grad=True)
    mask = torch.full((6, 1, 32, 32), 0.75)
    changed = diff_augment(torch.cat([faces, mask], dim=1), 1.0)
    assert {0.0, 0.75} == set(changed[:, 3].unique().tolist())
    assert not torch.equal(faces, changed[:, :3])
    (gradient,) = torch.autograd.grad(changed[:, :3].sum(), faces)
    assert (gradient.abs().sum((1, 2, 3)) > 0).all()
    same = torch.cat([faces, mask], dim=1)
    assert same is diff_augment(same, 0.0)


def test_the_structure_loss_ignores_brightness_contrast_and_tint() -> None:
    """A translated or an inverted image has a loss; a flat one a finite gradient."""
    torch.manual_seed(0)
    coarse = torch.rand(2, 3, 8, 8) * 1.2 - 0.6
    faces = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    weight = torch.ones(2, 1, 32, 32)

    def loss(image: Tensor) -> float:
        return float(weighted_structure(image, faces, weight))

    assert 0 == pytest.approx(loss(faces), abs=1e-5)
    tint = torch.tensor([0.2, -0.1, 0.1])[:, None, None]
    assert loss(0.8 * faces + tint) < 0.02 < 0.2 < loss(faces.roll(8, -1))
    assert loss(-faces) > 0.8
    flat = torch.zeros_like(faces, requires_grad=True)
    (gradient,) = torch.autograd.grad(weighted_structure(flat, faces, weight), flat)
    assert gradient.isfinite().all()
