"""The autoencoder's variants: VGG19, depths, losses on the face, the adversarial phase."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from faceswap_cli.core import config
from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.training import checkpoint
from faceswap_cli.training.trainer import Trainer
from faceswap_models import vgg
from faceswap_models.backends.autoencoder import (
    AUTOENCODER_GROUP,
    DISCRIMINATORS,
    Autoencoder,
    AutoencoderModelSettings,
    AutoencoderTrainSettings,
)
from faceswap_models.base import FaceBatch, SwapOutput, TrainProgress
from faceswap_models.identity_classifier import (
    IdentityClassifier,
    classification_loss,
    confusion_loss,
)

SMALL = AutoencoderModelSettings(
    size_px=16,
    encoder_channels=(8, 8),
    encoder_kernel_size=3,
    latent_dim=8,
    shared_channels=8,
    decoder_channels=(8,),
    output_kernel_size=3,
    predict_mask=True,
)
VGG = AutoencoderModelSettings(size_px=32, encoder="vgg19", decoder_channels=(8, 8, 8, 8, 8))


def build_model(
    model: AutoencoderModelSettings = SMALL,
    identities: tuple[str, ...] = ("a", "b"),
    **train: object,
) -> Autoencoder:
    """Return untrained networks, the same ones every time."""
    torch.manual_seed(0)
    return Autoencoder(model, AutoencoderTrainSettings(**train), identities)  # type: ignore[arg-type]


def batch(size: int = 16, *, seed: int = 0, identities: int = 2) -> FaceBatch:
    """Return noise, the face in the left half, eyes and mouth in the upper left corner."""
    rng = torch.Generator().manual_seed(seed)
    faces = torch.rand((identities, 3, 3, size, size), generator=rng) * 2 - 1
    mask = torch.zeros(identities, 3, 1, size, size)
    mask[..., : size // 2] = 1
    features = torch.zeros_like(mask)
    features[..., : size // 4, : size // 4] = 1
    return FaceBatch(warped=faces.roll(1, -1), target=faces, mask=mask, feature_mask=features)


class TrainerSteps:
    """Runs steps of a `Trainer` on noise."""

    def __init__(self, model: Autoencoder) -> None:
        train = replace(model.train_settings, learning_rate=0.01)
        self.trainer = Trainer(model, train, find_hardware("cpu"))
        self.size = model.model_settings.size_px
        self.identities = len(model.identities)

    def run(self, first: int, last: int) -> dict[str, Tensor]:
        """Take the steps from `first` up to `last`, of one image each; return the last losses."""
        losses: dict[str, Tensor] = {}
        for step in range(first, last):
            faces = batch(self.size, seed=step, identities=self.identities)
            progress = TrainProgress(images_seen=step, max_images=None)
            losses = self.trainer.step(faces, progress, lr_scale=1, images=1)
        return losses


def clone_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a module's tensors."""
    return {name: value.clone() for name, value in module.state_dict().items()}


def is_same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    """Return whether a module's tensors are unchanged, bit for bit."""
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


# --- VGG19 as encoder -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imagenet() -> dict[str, Tensor]:
    """Tensors with VGG19's names and shapes in torchvision, except its dense layers."""
    torch.manual_seed(5)
    names = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    widths = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    state = {"classifier.0.weight": torch.zeros(4, 4), "classifier.0.bias": torch.zeros(4)}
    for name, before, after in zip(names, widths[:-1], widths[1:], strict=True):
        state[f"features.{name}.weight"] = torch.randn(after, before, 3, 3)
        state[f"features.{name}.bias"] = torch.randn(after)
    return state


def test_vgg19_has_the_published_number_of_weights(imagenet: dict[str, Tensor]) -> None:
    """Sixteen convolutions, 20,024,384 weights, with torchvision's names."""
    layers = vgg.conv_layers(vgg.VGG19_BLOCKS)
    assert 20_024_384 == sum(one.numel() for one in layers.parameters())
    named = {f"features.{name}" for name in layers.state_dict()}
    assert {name for name in imagenet if name.startswith("features.")} == named


def test_vgg19_loads_pretrained_weights(imagenet: dict[str, Tensor]) -> None:
    """Every convolution has the file's weights; the dense layers are ignored."""
    model = build_model(VGG)
    model.load_pretrained(imagenet)
    for name, value in model.encoder.features.state_dict().items():
        assert torch.equal(imagenet[f"features.{name}"], value)


def test_weights_that_do_not_fit_are_refused(imagenet: dict[str, Tensor]) -> None:
    """A missing layer and a layer of another shape are errors that name it."""
    model = build_model(VGG)
    short = {name: one for name, one in imagenet.items() if name != "features.28.bias"}
    with pytest.raises(ValueError, match=r"features\.28\.bias is missing"):
        model.load_pretrained(short)
    other = imagenet | {"features.10.weight": torch.zeros(256, 128, 5, 5)}
    with pytest.raises(ValueError, match=r"features\.10\.weight is \(256, 128, 5, 5\) and should"):
        model.load_pretrained(other)
    with pytest.raises(ValueError, match=r"features\.0\.weight is missing"):
        model.load_pretrained({"conv.weight": torch.zeros(1)}, partial=True)


def test_some_layers_are_loaded_with_partial_only(imagenet: dict[str, Tensor]) -> None:
    """With `partial` layers that the file lacks stay random, the others have its weights."""
    model = build_model(VGG)
    fresh = clone_state(model.encoder.features)
    first = {name: one for name, one in imagenet.items() if name.startswith("features.0.")}
    model.load_pretrained(first, partial=True)
    assert torch.equal(imagenet["features.0.weight"], model.encoder.features[0].weight)
    assert torch.equal(fresh["34.weight"], model.encoder.features[34].weight)


def test_vgg19_normalizes_its_input() -> None:
    """ImageNet's mean color becomes 0, and a standard deviation more 1."""
    mean, std = torch.tensor(vgg.IMAGENET_MEAN), torch.tensor(vgg.IMAGENET_STD)
    for more in (0.0, 1.0):
        color = ((mean + more * std) * 2 - 1).view(1, 3, 1, 1)
        normalized = vgg.ImageNetNormalize()(color)
        torch.testing.assert_close(torch.full((1, 3, 1, 1), more), normalized, rtol=0, atol=1e-5)


def test_the_encoder_is_trained_when_it_is_unfrozen() -> None:
    """Until `unfreeze_start_images` it is unchanged while decoders are trained."""
    model = build_model(VGG, unfreeze_start_images=2)
    encoder, decoders = clone_state(model.encoder), clone_state(model.decoders)
    steps = TrainerSteps(model)
    steps.run(0, 2)
    assert is_same(model.encoder, encoder)
    assert not is_same(model.decoders, decoders)
    steps.run(2, 3)
    assert not is_same(model.encoder, encoder)


def test_a_side_that_vgg19_cannot_halve_is_refused() -> None:
    """It always halves five times."""
    with pytest.raises(ValueError, match="size_px = 48 cannot be halved five times"):
        replace(VGG, size_px=48)


def test_an_unknown_encoder_is_refused() -> None:
    """The error names the known ones."""
    with pytest.raises(ValueError, match=r"conv, vgg19, not vgg11"):
        AutoencoderModelSettings(encoder="vgg11")


# --- depth ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_decoders_of_all_depths_have_the_same_output_size() -> None:
    """A deeper decoder learns more upsamplings; 0 is the deepest."""
    models = [build_model(replace(VGG, learned_upsamples=depth)) for depth in (1, 2, 3, 4, 5, 0)]
    faces = torch.zeros(1, 3, 32, 32)
    assert {faces.shape} == {model.swap(faces, "a").image.shape for model in models}
    num_convs = [
        sum(isinstance(one, nn.Conv2d) for one in model.decoders[0].modules()) for model in models
    ]
    assert [2, 3, 4, 5, 6, 6] == num_convs


@pytest.mark.parametrize("depth", [-1, 6])
def test_an_invalid_depth_is_refused(depth: int) -> None:
    """More upsamplings than the side allows, or fewer than 0."""
    with pytest.raises(
        ValueError, match=f"learned_upsamples = {depth}: .* 32 px upsamples 5 times"
    ):
        replace(VGG, learned_upsamples=depth)


# --- the loss ---------------------------------------------------------------------------------


def perturbed_loss(model: Autoencoder, change: Callable[[Tensor], None]) -> float:
    """Return the loss of the target image after `change`."""
    faces = batch()
    image = faces.target[0].clone()
    change(image)
    output = SwapOutput(image=image, mask=None)
    return float(
        model.reconstruction_loss(output, faces.target[0], faces.mask[0], faces.feature_mask[0])
    )


def test_a_background_weight_of_zero_ignores_the_background() -> None:
    """Errors outside the face's outline add nothing to the loss."""
    model = build_model(background_weight=0.0, eyes_mouth_weight=2.0)

    def paint_background(image: Tensor) -> None:
        image[..., 8:] = 0

    assert pytest.approx(0, abs=1e-6) == perturbed_loss(model, paint_background)
    assert perturbed_loss(build_model(), paint_background) > 0.1


def test_eyes_and_mouth_have_more_weight() -> None:
    """The same error adds three times as much there as elsewhere in the face."""

    def corner(row: int) -> Callable[[Tensor], None]:
        def change(image: Tensor) -> None:
            image[:, :, row, 0] += 0.5

        return change

    model = build_model(background_weight=0.0, eyes_mouth_weight=2.0)
    assert pytest.approx(3 * perturbed_loss(model, corner(15))) == perturbed_loss(model, corner(0))


def test_perceptual_loss_compares_the_face_only(imagenet: dict[str, Tensor]) -> None:
    """It is 0 for equal faces, ignores the background, and has a gradient for the output."""
    scaled = {name: one * 0.05 for name, one in imagenet.items()}
    model = build_model(perceptual_weight=1.0, background_weight=0.0)
    assert "vgg16" == model.perceptual_file
    saved = set(model.state_dict())
    model.load_perceptual(scaled)
    assert saved == set(model.state_dict())
    [perceptual_loss] = model._perceptual
    faces = batch()
    image = faces.target[0].clone()
    assert pytest.approx(0, abs=1e-6) == float(perceptual_loss(image, faces.target[0]))
    image[..., 12:] = 0
    output = SwapOutput(image=image.requires_grad_(), mask=None)
    loss = model.reconstruction_loss(output, faces.target[0], faces.mask[0], faces.feature_mask[0])
    assert pytest.approx(0, abs=1e-6) == loss.item()
    other = torch.zeros_like(image).requires_grad_()
    perceptual_loss(other, faces.target[0]).backward()
    assert other.grad is not None
    assert other.grad.abs().max() > 0
    assert all(one.grad is None for one in perceptual_loss.parameters())


def test_without_a_perceptual_loss_no_file_is_needed() -> None:
    """Its weight is 0 by default."""
    assert "" == build_model().perceptual_file
    assert "" == build_model().pretrained_file
    assert "vgg19" == build_model(VGG).pretrained_file


# --- the adversarial phase --------------------------------------------------------------------

WITH_DISCRIMINATORS = replace(SMALL, discriminator_base_channels=4)


def test_the_adversarial_phase_starts_at_the_set_image() -> None:
    """Until then the discriminators are unchanged; from then on they are trained."""
    model = build_model(WITH_DISCRIMINATORS, adversarial_weight=0.1, adversarial_start_images=2)
    discriminators = clone_state(model.critics)
    steps = TrainerSteps(model)
    assert 0 == steps.run(0, 2)["discriminator"]
    assert is_same(model.critics, discriminators)
    assert steps.run(2, 3)["discriminator"] > 0
    assert not is_same(model.critics, discriminators)


def test_without_a_weight_there_is_no_adversarial_phase() -> None:
    """The discriminators are unchanged."""
    model = build_model(WITH_DISCRIMINATORS)
    discriminators = clone_state(model.critics)
    TrainerSteps(model).run(0, 3)
    assert is_same(model.critics, discriminators)


def test_discriminators_learn_to_tell_generated_faces_from_real_ones() -> None:
    """Their loss falls against constant outputs."""
    model = build_model(WITH_DISCRIMINATORS, adversarial_weight=0.1)
    faces = batch()
    outputs = [SwapOutput(image=torch.zeros_like(one), mask=None) for one in faces.target]
    optimizer = torch.optim.Adam(model.critics.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss = model._discriminator_loss(outputs, faces)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_adversarial_loss_rewards_faces_scored_as_real() -> None:
    """A score of 1 has a loss of 0, a score of 0 a loss of 1."""
    model = build_model(WITH_DISCRIMINATORS, adversarial_weight=1.0)
    faces = batch()
    outputs = [SwapOutput(image=one, mask=None) for one in faces.target]
    for discriminator, bias in zip(model.critics, (1.0, 0.0), strict=True):
        for one in discriminator.parameters():
            nn.init.zeros_(one)
        nn.init.constant_(discriminator[-1].bias, bias)
    first, second = model._adversarial_losses(outputs, faces.mask)
    assert (0, 1) == (first, second)


def test_discriminators_are_not_exported() -> None:
    """They are in the state to resume from, not in what `convert` reads."""
    trainer = Trainer(
        build_model(WITH_DISCRIMINATORS), AutoencoderTrainSettings(), find_hardware("cpu")
    )
    assert any(name.startswith("model/critics.") for name in trainer.state_dict())
    assert {"encoder", "decoders"} == {name.split(".")[0] for name in trainer.export_weights()}


@pytest.mark.parametrize(
    ("file", "model"),
    [
        (WITH_DISCRIMINATORS, WITH_DISCRIMINATORS),
        (WITH_DISCRIMINATORS, SMALL),
        (SMALL, WITH_DISCRIMINATORS),
    ],
)
def test_exported_discriminators_are_ignored(
    file: AutoencoderModelSettings, model: AutoencoderModelSettings
) -> None:
    """Weights are read with and without discriminators: older versions exported them."""
    exported, loaded = build_model(file), build_model(model)
    checkpoint._load_exported(loaded, exported.state_dict())
    assert is_same(loaded.decoders, clone_state(exported.decoders))


def test_parameter_groups_contain_every_parameter_once() -> None:
    """Encoder and decoders are one group, discriminators another."""
    groups = build_model(WITH_DISCRIMINATORS).parameter_groups()
    assert [AUTOENCODER_GROUP, DISCRIMINATORS] == list(groups)
    assert [AUTOENCODER_GROUP] == list(build_model().parameter_groups())


# --- starting from trained networks -----------------------------------------------------------


def test_a_trained_encoder_and_known_decoders_are_copied() -> None:
    """Identities of both models get the trained decoder; a new one begins with the first one."""
    torch.manual_seed(1)
    old = Autoencoder(SMALL, AutoencoderTrainSettings(), ("b", "c"))
    new = build_model(identities=("a", "b"))
    new.init_from(old)
    assert is_same(new.encoder, clone_state(old.encoder))
    assert is_same(new.decoders[1], clone_state(old.decoders[0]))
    assert is_same(new.decoders[0], clone_state(old.decoders[0]))


def test_a_pooled_decoder_initializes_all_identities() -> None:
    """From a model with one identity, all decoders start from its decoder."""
    torch.manual_seed(1)
    old = Autoencoder(SMALL, AutoencoderTrainSettings(), ("everybody",))
    new = build_model(identities=("a", "b"))
    new.init_from(old)
    assert all(is_same(one, clone_state(old.decoders[0])) for one in new.decoders)


def test_networks_of_another_layout_are_refused() -> None:
    """The error says that they are built differently."""
    with pytest.raises(ValueError, match="built differently"):
        build_model().init_from(build_model(replace(SMALL, latent_dim=4)))


@pytest.mark.parametrize("size_px", [64, 128, 256])
def test_hd_can_be_built_at_its_sizes(size_px: int) -> None:
    """At 64, 128 and 256 px: each has one more downsampling and upsampling."""
    recipe = config.resolve("autoencoder", "hd", [f"model.size_px={size_px}"])
    assert isinstance(recipe.model, AutoencoderModelSettings)
    assert {64: 4, 128: 5, 256: 6}[size_px] == recipe.model.num_downsamples
    with torch.device("meta"):
        model = Autoencoder(recipe.model, AutoencoderTrainSettings(), ("a", "b"))
        swapped = model.swap(torch.zeros(1, 3, size_px, size_px), "a")
    assert (1, 3, size_px, size_px) == swapped.image.shape
    assert swapped.mask is not None


# --- identity in the latents ------------------------------------------------------------------

CONFUSED = replace(SMALL, normalize_latent=True, identity_classifier_dim=16)


def separability(weight: float) -> float:
    """Return how well a classifier trained along tells two identities' latents apart, nats.

    The identities are noise on a dark and on a bright ground: reconstruction has no reason to leave
    that out of the latent.
    """
    model = build_model(CONFUSED, confusion_weight=weight, learning_rate=0.01)
    trainer = Trainer(model, model.train_settings, find_hardware("cpu"))
    losses = []
    for step in range(150):
        noise = batch(seed=step)
        ground = torch.tensor([-0.5, 0.5]).view(2, 1, 1, 1, 1)
        faces = replace(noise, warped=noise.warped / 2 + ground, target=noise.target / 2 + ground)
        progress = TrainProgress(images_seen=step, max_images=None)
        found = trainer.step(faces, progress, lr_scale=1, images=1)
        losses.append(float(found["identity_classifier"]))
    return sum(losses[-50:]) / 50


@pytest.mark.slow
def test_confusion_takes_the_identity_out_of_the_latents() -> None:
    """A classifier knows dark from bright at once; against the loss it stays near chance."""
    assert separability(1e-9) < 0.1
    assert separability(1.0) > 0.5


def test_confusion_fades() -> None:
    """Constant for half of its images, then down to nothing, and off: the latents are let go."""
    weights = []
    for seen in (0, 500, 750, 1000, 5000):
        model = build_model(CONFUSED, confusion_weight=0.5, confusion_end_images=1000)
        progress = TrainProgress(images_seen=seen, max_images=None)
        weights.append(model.confusion_weight(progress))
    assert [0.5, 0.5, 0.25, 0, 0] == weights
    steps = Trainer(model, model.train_settings, find_hardware("cpu"))
    losses = steps.step(batch(), progress, lr_scale=1, images=6)
    assert "identity_classifier" not in losses


def test_confusion_and_classification_train_one_side_each() -> None:
    """The encoder's loss leaves the classifier without a gradient, and the other way round."""
    torch.manual_seed(0)
    classifier = IdentityClassifier(8, 16, 3)
    latents = torch.randn(3, 4, 8, requires_grad=True)
    confusion_loss(classifier, latents).backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0
    assert all(one.grad is None for one in classifier.parameters())
    latents.grad = None
    classification_loss(classifier, latents).backward()
    assert latents.grad is None
    assert all(one.grad is not None for one in classifier.parameters())


def test_confusion_is_zero_only_for_equal_odds() -> None:
    """A classifier that gives every identity the same odds has nothing to hide from."""
    torch.manual_seed(0)
    classifier, latents = IdentityClassifier(8, 16, 3), torch.randn(3, 4, 8)
    assert confusion_loss(classifier, latents) > 0
    for parameter in classifier[-1].parameters():
        nn.init.zeros_(parameter)
    assert 0 == pytest.approx(float(confusion_loss(classifier, latents).detach()), abs=1e-6)


def test_the_classifier_is_only_for_training() -> None:
    """It is not exported, a single identity has none, and VGG19 has no latent to classify."""
    model = build_model(CONFUSED)
    names = model.select_exported(model.state_dict())
    assert not [name for name in names if name.startswith("identity_classifier")]
    assert build_model(CONFUSED, ("a",)).identity_classifier is None
    with pytest.raises(ValueError, match="no latent"):
        replace(VGG, identity_classifier_dim=16)
