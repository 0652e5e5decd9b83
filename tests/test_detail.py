"""Detail networks: parts of the output, what they learn, and what they leave alone."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import MakeSet
from torch import Tensor
from torch.nn import functional

from faceswap_cli.core.hardware import find_hardware
from faceswap_cli.training import dataset
from faceswap_cli.training.loader import (
    CpuLoader,
    FaceLoader,
    GpuResidentLoader,
    GpuStreamingLoader,
)
from faceswap_cli.training.trainer import Trainer
from faceswap_models.backends.autoencoder import (
    DETAIL_GROUP,
    Autoencoder,
    AutoencoderModelSettings,
    AutoencoderTrainSettings,
)
from faceswap_models.base import FaceBatch, TrainProgress
from faceswap_models.detail import COARSE_PX, DetailNetwork

MODEL = AutoencoderModelSettings(
    size_px=16,
    encoder_channels=(8, 8),
    latent_dim=8,
    shared_channels=8,
    decoder_channels=(8,),
    detail_px=32,
    detail_channels=8,
    detail_blocks=1,
)
TRAIN = AutoencoderTrainSettings(batch_size=4)
PROGRESS = TrainProgress(images_seen=0, max_images=None)


def build_model(settings: AutoencoderModelSettings = MODEL, *, seed: int = 0) -> Autoencoder:
    """Return untrained networks of two identities."""
    torch.manual_seed(seed)
    return Autoencoder(settings, TRAIN, ("a", "b"))


def build_network(output_px: int = 64) -> DetailNetwork:
    """Return a network that adds something visible."""
    torch.manual_seed(0)
    network = DetailNetwork(output_px, channels=8, blocks=2)
    torch.nn.init.normal_(network.output.weight, std=0.05)
    return network


def images(count: int = 2, side: int = 16, *, seed: int = 0) -> Tensor:
    """Return noise in [-1, 1], (count, 3, side, side)."""
    return torch.rand((count, 3, side, side), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def changed_parts(before: dict[str, Tensor], model: Autoencoder) -> set[str]:
    """Return the first two parts of the names of the weights that changed."""
    return {
        ".".join(name.split(".")[:2])
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


def detail_batch(*, part_px: int = 16) -> FaceBatch:
    """Return noise of two identities with parts of the targets at the size of the output."""
    faces = images(8).view(2, 4, 3, 16, 16)
    parts = torch.cat([images(8, part_px, seed=1), torch.ones(8, 2, part_px, part_px)], dim=1)
    return FaceBatch(
        warped=faces,
        target=faces,
        mask=torch.ones(2, 4, 1, 16, 16),
        detail_target=parts.view(2, 4, 5, part_px, part_px),
        detail_position=COARSE_PX * torch.randint(0, 3, (2, 4, 2)),
    )


# --- The network ------------------------------------------------------------------------------


def test_a_new_network_adds_next_to_nothing() -> None:
    """Swaps of a run that has just begun look as those of the decoder, at more pixels."""
    torch.manual_seed(0)
    network = DetailNetwork(64, channels=16, blocks=3)
    smooth = functional.interpolate(images(), size=(64, 64), mode="bicubic", align_corners=False)
    output = network(images())
    assert (2, 3, 64, 64) == output.shape
    assert (output - smooth).abs().mean() < 0.2 * smooth.abs().mean()


def test_a_part_is_refined_as_in_the_whole() -> None:
    """But for its border, which the convolutions reach across."""
    network, border = build_network(128), 40
    enlarged = network.enlarge(images(side=24))
    whole = network.refine(enlarged)
    top, left, side = 2 * COARSE_PX, COARSE_PX, 96
    part = network.refine(
        enlarged[..., top // 2 : (top + side) // 2, left // 2 : (left + side) // 2]
    )
    # Six convolutions on a grid of 4 px, and the means.
    inside = slice(border, -border)
    expected = whole[..., top : top + side, left : left + side]
    assert torch.allclose(expected[..., inside, inside], part[..., inside, inside], atol=1e-5)
    assert not torch.allclose(expected, part, atol=1e-5)


def test_means_over_squares_stay_as_the_decoder_drew_them() -> None:
    """Detail is fine: colors and shading are the decoder's to know, however large its weights."""
    network = build_network()
    smooth = functional.interpolate(
        network.enlarge(images()), size=(64, 64), mode="bicubic", align_corners=False
    )
    added = (network(images()) - smooth).detach()
    assert added.abs().mean() > 0.05
    assert functional.avg_pool2d(added, COARSE_PX).abs().mean() < 0.25 * added.abs().mean()
    assert functional.avg_pool2d(added, 4 * COARSE_PX).abs().max() < 0.05 * added.abs().mean()


def test_it_learns_what_the_decoder_leaves_out() -> None:
    """From smooth faces, stripes that all of the person's crops have."""
    torch.manual_seed(0)
    network = DetailNetwork(32, channels=8, blocks=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    smooth = images(4, 4).repeat_interleave(4, -1).repeat_interleave(4, -2) * 0.4
    stripes = 0.3 * torch.cos(torch.arange(32) * torch.pi / 2)
    sharp = functional.interpolate(smooth, size=(32, 32), mode="bilinear") + stripes
    target = torch.cat([sharp, torch.ones(4, 2, 32, 32)], dim=1)
    position = torch.zeros(4, 2, dtype=torch.int64)
    before = (network(smooth) - sharp).abs().mean()
    for _ in range(80):
        optimizer.zero_grad()
        network.loss(smooth, target, position).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert (network(smooth) - sharp).abs().mean() < before / 2


def test_only_the_face_counts() -> None:
    """Outside of the mask a target may be anything."""
    network = build_network(32)
    target = torch.cat([images(2, 32), torch.ones(2, 2, 32, 32)], dim=1)
    target[:, 3:, :, 24:] = 0
    other = target.clone()
    other[:, :3, :, 30:] *= -1  # beyond the reach of a window of SSIM
    losses = []
    for one in (target, other):
        torch.manual_seed(1)
        losses.append(network.loss(images(), one, torch.zeros(2, 2, dtype=torch.int64)))
    assert torch.equal(*losses)


# --- In the autoencoder -----------------------------------------------------------------------


def test_only_the_identity_that_is_shown_gets_detail() -> None:
    """And without detail networks images stay as they are."""
    model = build_model()
    with torch.no_grad():
        a, b = model.add_detail(images(), "a"), model.add_detail(images(), "b")
    assert (2, 3, 32, 32) == a.shape
    assert not torch.equal(a, b)
    with pytest.raises(KeyError):
        model.add_detail(images(), "c")
    plain = build_model(replace(MODEL, detail_px=0))
    assert plain.add_detail(images(), "a") is not None
    assert torch.equal(images(), plain.add_detail(images(), "a"))
    assert 16 == plain.model_settings.output_px


def test_detail_does_not_change_what_the_decoders_learn() -> None:
    """Their weights after some steps are those of a training without detail."""
    states = []
    for side in (32, 0):
        model = build_model(replace(MODEL, detail_px=side))
        trainer = Trainer(model, TRAIN, find_hardware("cpu"))
        for _ in range(3):
            trainer.step(detail_batch(), PROGRESS, lr_scale=1, images=8)
        states.append({k: v for k, v in model.state_dict().items() if "detail" not in k})
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("count", [1, 2])
def test_a_step_with_parts_trains_detail_one_without_does_not(count: int) -> None:
    """With micro-batches too."""
    model = build_model()
    trainer = Trainer(model, TRAIN, find_hardware("cpu"))
    trainer.grad_accum_steps = count
    before = {name: value.clone() for name, value in model.state_dict().items()}
    whole = detail_batch()
    plain = FaceBatch(warped=whole.warped, target=whole.target, mask=whole.mask)
    losses = trainer.step(plain, PROGRESS, lr_scale=1, images=8)
    assert "detail" not in losses
    assert not {one for one in changed_parts(before, model) if "detail" in one}
    losses = trainer.step(whole, PROGRESS, lr_scale=1, images=8)
    assert losses["detail"] > 0
    assert {"detail_networks.0", "detail_networks.1"} <= changed_parts(before, model)
    assert DETAIL_GROUP in trainer.learning_rates()


def test_detail_is_copied_with_its_decoder() -> None:
    """`--init-from` keeps an identity's detail where the networks are alike."""
    old, new = build_model(seed=1), build_model(seed=2)
    new.init_from(old)
    assert torch.equal(old.add_detail(images(), "b"), new.add_detail(images(), "b"))
    other = build_model(replace(MODEL, detail_channels=4), seed=3)
    before = other.add_detail(images(), "b")
    other.init_from(old)
    assert torch.equal(before, other.add_detail(images(), "b"))


@pytest.mark.parametrize("side", [8, 34])
def test_sides_that_cannot_be_are_refused(side: int) -> None:
    """Smaller than the decoder's, or no multiple of the grid."""
    with pytest.raises(ValueError, match="detail_px"):
        replace(MODEL, detail_px=side)


# --- Parts of targets -------------------------------------------------------------------------


@pytest.fixture
def datasets(make_set: MakeSet, tmp_path: Path) -> list[dataset.IdentityDataset]:
    """Return two identities, each face a smooth random image."""
    loaded = [
        dataset.load_identity(make_set(name, 16), cache=tmp_path / "cache", side_px=48)
        for name in ("ada", "bo")
    ]
    rng = torch.Generator().manual_seed(0)
    shapes = torch.rand((16, 4, 6, 6), generator=rng) * 255
    smooth = functional.interpolate(shapes, size=(48, 48), mode="bicubic").clamp(0, 255)
    pixels = smooth.round().byte().permute(0, 2, 3, 1).numpy()
    return [replace(one, pixels=pixels) for one in loaded]


def make_loader(
    datasets: list[dataset.IdentityDataset], kind: type[FaceLoader] = CpuLoader, **changes: object
) -> FaceLoader:
    """Return a loader of parts of 16 px of outputs of 32."""
    arguments = {"model": MODEL, "train": TRAIN, "seed": 3, "device": torch.device("cpu")}
    return kind(datasets, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts smaller than the outputs here."""
    monkeypatch.setattr("faceswap_cli.training.loader.DETAIL_PART_PX", 16)


@pytest.mark.parametrize("kind", [CpuLoader, GpuResidentLoader, GpuStreamingLoader])
def test_parts_show_their_place_in_the_target(
    datasets: list[dataset.IdentityDataset], kind: type[FaceLoader]
) -> None:
    """However a face is mirrored, turned and moved: at half the size they are that square of it."""
    batch = make_loader(datasets, kind).batch(0)
    assert (2, 4, 5, 16, 16) == batch.detail_target.shape
    assert (batch.detail_position % COARSE_PX == 0).all()
    assert len(torch.unique(batch.detail_position)) > 1
    half = functional.avg_pool2d(batch.detail_target[:, :, :3].flatten(0, 1), 2)
    for part, target, place in zip(
        half, batch.target.flatten(0, 1), batch.detail_position.flatten(0, 1).tolist(), strict=True
    ):
        top, left = (one // 2 for one in place)
        assert (part - target[:, top : top + 8, left : left + 8]).abs().max() < 0.12


def test_processes_share_the_parts_of_a_batch(datasets: list[dataset.IdentityDataset]) -> None:
    """The parts of two processes, concatenated, are those of one; so are degraded inputs."""
    train = replace(TRAIN, input_degradation_prob=0.5)
    whole = make_loader(datasets, train=train).batch(0)
    halves = [make_loader(datasets, train=train, rank=k, world_size=2).batch(0) for k in (0, 1)]
    for name, value in vars(whole).items():
        assert torch.equal(value, torch.cat([getattr(one, name) for one in halves], dim=1))


def test_every_second_step_has_parts(datasets: list[dataset.IdentityDataset]) -> None:
    """The others have none, and all else is as without detail."""
    loader, plain = make_loader(datasets), make_loader(datasets, model=replace(MODEL, detail_px=0))
    sides = [loader.batch(8 * step).detail_target.shape[-1] for step in range(4)]
    assert [16, 0, 16, 0] == sides
    assert torch.equal(loader.batch(0).warped, plain.batch(0).warped)
    assert 0 == plain.batch(0).detail_target.shape[-1]


def test_faces_with_exchanged_colors_teach_no_detail(
    datasets: list[dataset.IdentityDataset],
) -> None:
    """Their decoder draws other colors than the crop has."""
    train = replace(TRAIN, color_transfer_prob=1.0)
    assert not make_loader(datasets, train=train).batch(0).detail_target[:, :, 3].any()
    assert make_loader(datasets).batch(0).detail_target[:, :, 3].any()


# --- Degraded inputs --------------------------------------------------------------------------


def test_some_inputs_are_degraded_and_no_target(datasets: list[dataset.IdentityDataset]) -> None:
    """As many as the probability says; all else of a batch is as without."""
    plain = make_loader(datasets)
    degraded = make_loader(datasets, train=replace(TRAIN, input_degradation_prob=0.5))
    changed = []
    for step in range(12):
        one, other = degraded.batch(8 * step), plain.batch(8 * step)
        for name, value in vars(other).items():
            assert name == "warped" or torch.equal(value, getattr(one, name))
        changed += (one.warped != other.warped).flatten(2).any(2).flatten().tolist()
    assert 0.3 < sum(changed) / len(changed) < 0.7
