"""Layouts of the original network, losses, layers, and lookup of backends and presets."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor, nn
from torch.nn import functional

import faceswap_models.backends
import faceswap_models.presets
from faceswap_models import losses, registry
from faceswap_models.backends import autoencoder
from faceswap_models.backends.autoencoder import (
    Autoencoder,
    AutoencoderModelSettings,
    AutoencoderTrainSettings,
)
from faceswap_models.base import FaceBatch, SwapOutput, TrainProgress
from faceswap_models.cpu import winograd
from faceswap_models.layers import PixelShuffle, WinogradConv2d, kaiming_init, upscale
from faceswap_models.losses import pixel_weights, weighted_dssim, weighted_l1


def build_original(size_px: int) -> Autoencoder:
    """Build the `original` preset's networks for two identities on the meta device."""
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in registry.presets("autoencoder")["original"].model.items()
    }
    with torch.device("meta"):
        return Autoencoder(
            AutoencoderModelSettings(**values | {"size_px": size_px}),
            AutoencoderTrainSettings(),
            ("a", "b"),
        )


def count(module: nn.Module) -> int:
    """Return the number of a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_original_has_the_published_number_of_weights() -> None:
    """At 64 px: 69,662,976 weights in the encoder, 6,199,747 in each of two decoders."""
    model = build_original(64)
    assert 69_662_976 == count(model.encoder)
    assert [6_199_747, 6_199_747] == [count(decoder) for decoder in model.decoders]
    assert 82_062_470 == count(model)


@pytest.mark.parametrize(("size_px", "weights"), [(128, 108_420_806), (256, 134_670_822)])
def test_the_original_has_one_more_layer_at_twice_the_side(size_px: int, weights: int) -> None:
    """One more downsampling and upsampling; the dense layers are the same."""
    assert weights == count(build_original(size_px))


def test_the_original_has_the_published_layers() -> None:
    """Layer by layer: (inputs, outputs, kernel) of all convolutions and dense layers."""
    model = build_original(64)
    assert [
        (3, 128, 5),
        (128, 256, 5),
        (256, 512, 5),
        (512, 1024, 5),
        (4 * 4 * 1024, 1024),
        (1024, 4 * 4 * 1024),
        (1024, 4 * 512, 3),
    ] == layers(model.encoder)
    assert [
        (512, 4 * 256, 3),
        (256, 4 * 128, 3),
        (128, 4 * 64, 3),
        (64, 3, 5),
    ] == layers(model.decoders[0])
    slopes = [m.negative_slope for m in model.modules() if isinstance(m, nn.LeakyReLU)]
    assert [0.1] * 11 == slopes


def layers(module: nn.Module) -> list[tuple[int, ...]]:
    """Return (inputs, outputs[, kernel]) of a module's dense layers and convolutions, in order."""
    return [
        (m.in_features, m.out_features)
        if isinstance(m, nn.Linear)
        else (m.in_channels, m.out_channels, m.kernel_size[0])
        for m in module.modules()
        if isinstance(m, nn.Linear | nn.Conv2d)
    ]


@pytest.mark.parametrize("size_px", [8, 32, 48, 64, 80, 96, 112, 160, 224])
def test_any_side_that_can_be_halved_works(size_px: int) -> None:
    """The output has the input's side."""
    settings = AutoencoderModelSettings(
        size_px=size_px,
        encoder_channels=(4, 4),
        latent_dim=4,
        shared_channels=4,
        decoder_channels=(8, 4),
    )
    model = Autoencoder(settings, AutoencoderTrainSettings(), ("a",))
    faces = torch.zeros(2, 3, size_px, size_px)
    assert faces.shape == model.swap(faces, "a").image.shape


@pytest.mark.parametrize("size_px", [1, 7, 50, 100])
def test_a_side_that_cannot_be_halved_is_refused(size_px: int) -> None:
    """The error names it."""
    with pytest.raises(ValueError, match=f"size_px = {size_px} cannot be halved"):
        AutoencoderModelSettings(size_px=size_px)


def test_a_layout_without_channels_is_refused() -> None:
    """The error names the empty setting."""
    with pytest.raises(ValueError, match="encoder_channels and decoder_channels"):
        AutoencoderModelSettings(decoder_channels=())


def pair(size: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Return two different smooth images (2, 3, S, S) and a mask (2, 1, S, S)."""
    rng = torch.Generator().manual_seed(3)
    noise = torch.rand((2, 2, 3, size, size), generator=rng) * 2 - 1
    mask = torch.zeros(2, 1, size, size)
    mask[..., : size // 2] = 1
    return noise[0], 0.5 * noise[0] + 0.5 * noise[1], mask


def test_equal_weights_give_the_papers_loss() -> None:
    """With a background weight of 1 the masked loss is the plain mean absolute error."""
    image, target, mask = pair()
    torch.testing.assert_close(
        torch.nn.functional.l1_loss(image, target),
        weighted_l1(image, target, pixel_weights(mask, background=1.0)),
    )


@pytest.mark.parametrize("loss", [weighted_l1, weighted_dssim])
def test_a_weighted_loss_is_a_mean(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Only relative weights matter: three times the weights give the same loss."""
    image, target, mask = pair()
    weight = pixel_weights(mask, background=0.25)
    torch.testing.assert_close(loss(image, target, weight), loss(image, target, 3 * weight))


@pytest.mark.parametrize("loss", [weighted_l1, weighted_dssim])
def test_a_batch_has_the_mean_gradient_of_its_parts(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    """However a batch is split, and however large its masks are, the parts add up."""
    image, target = (torch.cat([two, two[:1].flip(-1)]) for two in pair(16)[:2])
    mask = torch.zeros(3, 1, 16, 16)
    mask[0, :, 2:14, 2:14], mask[1, :, 7:9, 7:9] = 1, 1
    weight = pixel_weights(mask, background=0.1)

    def gradient(part: slice) -> Tensor:
        inputs = image.clone().requires_grad_()
        loss(inputs[part], target[part], weight[part]).backward()
        assert inputs.grad is not None
        return inputs.grad

    parts = gradient(slice(0, 1)) / 3 + gradient(slice(1, 3)) * 2 / 3
    torch.testing.assert_close(gradient(slice(None)), parts)


@pytest.mark.parametrize("loss", [weighted_l1, weighted_dssim])
def test_a_face_without_weight_has_no_loss(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    """A face with weight 0 everywhere adds 0, without a division by 0."""
    image, target, mask = pair(16)
    assert 0 == loss(image, target, torch.zeros_like(mask))


@pytest.mark.parametrize("loss", [weighted_l1, weighted_dssim])
def test_a_loss_is_zero_for_equal_images_and_positive_otherwise(
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    """For both losses."""
    image, target, mask = pair()
    weight = pixel_weights(mask, background=0.25)
    assert pytest.approx(0, abs=1e-6) == float(loss(image, image.clone(), weight))
    assert loss(image, target, weight) > 0


def test_a_background_of_weight_zero_is_ignored() -> None:
    """Changes outside the mask do not change the loss."""
    image, target, mask = pair()
    weight = pixel_weights(mask, background=0.0)
    elsewhere = target * mask
    torch.testing.assert_close(
        weighted_l1(image, target, weight), weighted_l1(image, elsewhere, weight)
    )


def test_dssim_equals_scikit_images() -> None:
    """With equal weights it is (1 - SSIM) / 2 of levels from 0 to 2."""
    image, target, mask = pair()
    expected = [
        (1 - structural_similarity(a, b, channel_axis=0, data_range=2, use_sample_covariance=False))
        / 2
        for a, b in zip((image.double() + 1).numpy(), (target.double() + 1).numpy(), strict=True)
    ]
    actual = weighted_dssim(image, target, torch.ones_like(mask))
    assert pytest.approx(sum(expected) / 2, abs=1e-5) == float(actual)


@pytest.mark.parametrize("gray", [-0.5, -0.01, 0.0, 0.5])
def test_an_offset_that_nobody_sees_costs_next_to_nothing(gray: float) -> None:
    """Two levels of 255, on any gray: middle gray is no special level."""
    image = torch.full((1, 3, 16, 16), gray)
    assert weighted_dssim(image + 4 / 255, image, torch.ones(1, 1, 16, 16)) < 1e-3


def test_dssim_has_full_precision_under_autocast() -> None:
    """In bfloat16 the variances would be lost: the loss is the same with and without autocast."""
    image, target, mask = pair()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = weighted_dssim(image, target, torch.ones_like(mask))
    assert torch.equal(weighted_dssim(image, target, torch.ones_like(mask)), actual)


def test_window_means_and_their_gradients_equal_poolings() -> None:
    """For images that are not square too."""
    images = torch.rand(2, 3, 20, 13, requires_grad=True)
    pooled = functional.avg_pool2d(images, losses.SSIM_WINDOW_PX, stride=1)
    means = losses._local_means(images)
    torch.testing.assert_close(pooled, means)
    weight = torch.rand_like(pooled)
    expected, actual = (
        torch.autograd.grad((found * weight).sum(), images)[0] for found in (pooled, means)
    )
    torch.testing.assert_close(expected, actual)


def test_the_structural_loss_is_added_with_its_weight() -> None:
    """With `dssim_weight` 0 the loss is the paper's."""
    settings = AutoencoderModelSettings(
        size_px=16, encoder_channels=(4,), latent_dim=4, shared_channels=4, decoder_channels=(4,)
    )
    image, target, mask = pair(16)
    plain, structural = (
        Autoencoder(
            settings, AutoencoderTrainSettings(dssim_weight=weight), ("a",)
        ).reconstruction_loss(
            SwapOutput(image=image, mask=None), target, mask, torch.zeros_like(mask)
        )
        for weight in (0.0, 2.0)
    )
    dssim = weighted_dssim(image, target, torch.ones_like(mask))
    torch.testing.assert_close(plain + 2 * dssim, structural)


def test_a_predicted_mask_becomes_the_outline() -> None:
    """With `predict_mask` a swap has the target's outline, in [0, 1]; without it, None."""
    layout = {
        "size_px": 16,
        "encoder_channels": (8, 8),
        "latent_dim": 8,
        "shared_channels": 8,
        "decoder_channels": (8,),
    }
    torch.manual_seed(0)
    bare = Autoencoder(AutoencoderModelSettings(**layout), AutoencoderTrainSettings(), ("a", "b"))
    model = Autoencoder(
        AutoencoderModelSettings(**layout, predict_mask=True),
        AutoencoderTrainSettings(),
        ("a", "b"),
    )
    image, target, _ = pair(16)
    outlines = torch.zeros(2, len(image), 1, 16, 16)
    outlines[0, ..., :8], outlines[1, ..., 8:] = 1, 1  # a's face is left, b's right
    batch = FaceBatch(
        warped=torch.stack([image] * 2), target=torch.stack([target] * 2), mask=outlines
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def update(_: str, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for step in range(60):
        model.train_step(batch, update, TrainProgress(images_seen=step, max_images=None))
    for name, outline in zip("ab", outlines, strict=True):
        mask = model.swap(image, name).mask
        assert mask is not None
        assert outline.shape == mask.shape
        assert 0 <= mask.min() <= mask.max() <= 1
        assert (mask - outline).abs().mean() < 0.1
    assert bare.swap(image, "a").mask is None


def test_initial_layers_preserve_the_mean_square() -> None:
    """Of features, after a convolution with its activation."""
    torch.manual_seed(0)
    layer = upscale(256, 64, kernel_size=3).apply(kaiming_init)
    features = torch.randn(2, 256, 16, 16)
    assert pytest.approx(1, abs=0.15) == layer(features)[..., 2:-2, 2:-2].square().mean().item()


def test_a_normalized_latent_has_mean_zero_and_deviation_one() -> None:
    """With `normalize_latent`, which adds no weights."""
    settings = AutoencoderModelSettings(
        size_px=16, encoder_channels=(4, 4), latent_dim=64, shared_channels=4, decoder_channels=(4,)
    )
    torch.manual_seed(0)
    model = Autoencoder(
        replace(settings, normalize_latent=True), AutoencoderTrainSettings(), ("a",)
    )
    assert count(Autoencoder(settings, AutoencoderTrainSettings(), ("a",))) == count(model)
    image, target, _ = pair(16)
    latent = model.encoder.code[:3](model.encoder.down(torch.cat([image, target])))
    torch.testing.assert_close(torch.zeros(4), latent.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.ones(4), latent.std(1, correction=0), rtol=0, atol=1e-2)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a backend: one module and one preset, added to the packages' paths."""
    shutil.copy(autoencoder.__file__, tmp_path / "copied_in.py")
    preset = (
        'description = "a"\ntraining_time = "b"\n'
        "[model]\nsize_px = 32\nencoder_channels = [4, 4, 4]\n"
    )
    (tmp_path / "copied_in-debug.toml").write_text(preset, encoding="utf-8")
    for package in (faceswap_models.backends, faceswap_models.presets):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    return "copied_in"


def test_a_backend_is_added_by_copying_a_file(copied: str) -> None:
    """The module and its preset are found, loaded and built with no other edit."""
    assert copied in registry.names()
    backend = registry.load(copied)
    assert f"faceswap_models.backends.{copied}" == backend.__module__
    preset = registry.presets(copied)["debug"]
    assert "copied_in-debug" == preset.name
    settings = backend.model_settings_type(**{**preset.model, "encoder_channels": (4, 4, 4)})
    model = backend(settings, backend.train_settings_type(), ("a", "b"))
    faces = torch.zeros(1, 3, 32, 32)
    assert faces.shape == model.swap(faces, "b").image.shape


def test_an_unknown_backend_is_a_key_error() -> None:
    """The error names it; a private module is not a backend."""
    for name in ("cyclegun", "__init__", "_private"):
        with pytest.raises(KeyError, match=name):
            registry.load(name)


def test_presets_have_short_and_long_names() -> None:
    """They are found by their short names; the long ones start with the backend's."""
    presets = registry.presets("autoencoder")
    assert {"light", "original", "debug"} <= presets.keys()
    assert all(f"autoencoder-{short}" == preset.name for short, preset in presets.items())
    assert {} == registry.presets("auto")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixel_shuffle_equals_torchs(dtype: torch.dtype) -> None:
    """The same output and the same gradient."""
    channels = torch.randn(2, 12, 3, 5).to(dtype).requires_grad_()
    expected, actual = functional.pixel_shuffle(channels, 2), PixelShuffle()(channels)
    assert torch.equal(expected, actual)
    wanted = torch.randn_like(expected)
    [one], [other] = (torch.autograd.grad(made, channels, wanted) for made in (expected, actual))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("fast", "kernel_size", "layout"),
    [
        (winograd.conv3x3, 3, {"padding": 1}),
        (winograd.conv5x5_stride2, 5, {"padding": 2, "stride": 2}),
    ],
)
def test_winograd_convolutions_equal_torchs(
    fast: Callable[[Tensor, Tensor], Tensor], kernel_size: int, layout: dict[str, int]
) -> None:
    """The convolution and both its gradients, up to rounding."""
    images = torch.randn(3, 5, 8, 12, dtype=torch.float64, requires_grad=True)
    kernels = torch.randn(7, 5, kernel_size, kernel_size, dtype=torch.float64, requires_grad=True)
    expected, actual = functional.conv2d(images, kernels, **layout), fast(images, kernels)
    assert torch.allclose(expected, actual, rtol=0, atol=1e-12)
    wanted = torch.randn_like(expected)
    ours, theirs = (
        torch.autograd.grad(made, (images, kernels), wanted) for made in (actual, expected)
    )
    assert torch.allclose(ours[0], theirs[0], rtol=0, atol=1e-12)
    assert torch.allclose(ours[1], theirs[1], rtol=1e-6, atol=1e-5)  # they are float32


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_winograd_convolution_in_bfloat16_is_accurate(kernel_size: int) -> None:
    """Under autocast its dtype is bfloat16, and its error at most 1 % of the signal."""
    stride = 1 if kernel_size == 3 else 2
    layer = WinogradConv2d(256, 32, kernel_size, stride=stride)
    images = torch.randn(8, 256, 8 * stride, 8 * stride)
    exact = nn.Conv2d.forward(layer, images)
    with torch.autocast("cpu", torch.bfloat16):
        made = layer(images)
    assert torch.bfloat16 == made.dtype
    assert (made - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    ("images", "channels", "side_px"), [(8, 256, 9), (8, 255, 8), (7, 256, 8), (8, 256, 8)]
)
def test_both_algorithms_of_a_convolution_agree(images: int, channels: int, side_px: int) -> None:
    """Few channels, few images, and odd sides use torch's convolution; the result is the same."""
    layer = WinogradConv2d(channels, 8, 3)
    faces = torch.randn(images, channels, side_px, side_px)
    assert torch.allclose(nn.Conv2d.forward(layer, faces), layer(faces), atol=1e-4)
    assert {"weight", "bias"} == set(layer.state_dict())
