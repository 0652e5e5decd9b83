"""Crops are cached, split by runs of frames and sampled by position; batches depend on position."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faceswap_cli.core import image_io
from faceswap_cli.core.errors import InputError, NoFacesError
from faceswap_cli.faces.dataset import FaceSet, read_records
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.faces.occlusion import SeenFace
from faceswap_cli.training import dataset, loader
from faceswap_cli.training.dataset import IdentityDataset, load_or_build_cache
from faceswap_cli.training.loader import (
    CpuLoader,
    FaceLoader,
    GpuResidentLoader,
    GpuStreamingLoader,
    make_loader,
)
from faceswap_models.base import FaceBatch, ModelSettings, TrainSettings

MakeSet = Callable[..., FaceSet]
CPU = torch.device("cpu")
MODEL = ModelSettings(size_px=16)
TRAIN = TrainSettings(batch_size=4)


@pytest.fixture
def datasets(make_set: MakeSet, tmp_path: Path) -> list[IdentityDataset]:
    """Return two identities with different numbers of faces."""
    return [
        dataset.load_identity(make_set(name, count), cache=tmp_path / "cache", side_px=24)
        for name, count in (("ada", 11), ("bo", 17))
    ]


def make_test_loader(
    datasets: list[IdentityDataset], kind: type[FaceLoader] = CpuLoader, **changes: object
) -> FaceLoader:
    """Return a loader of two identities on the CPU."""
    arguments = {"model": MODEL, "train": TRAIN, "seed": 3, "device": CPU, **changes}
    return kind(datasets, **arguments)  # type: ignore[arg-type]


def equal_batches(one: FaceBatch, other: FaceBatch) -> bool:
    """Return whether two batches are equal, bit for bit."""
    return all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_the_cache_has_crops_and_masks(make_set: MakeSet, tmp_path: Path) -> None:
    """Red, green and blue are the crop's; the fourth channel has the mask levels."""
    faces = make_set("ada", 3, side=32)
    pixels = dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=32)
    record = faces.records[1]
    assert (3, 32, 32, 4) == pixels.shape
    assert np.array_equal(image_io.read_image(faces.path(record)), pixels[1, ..., :3])
    outline = face_mask(record.landmarks, record.alignment, 32)
    assert np.abs(outline - dataset.unpack_face_mask(pixels[1, ..., 3])).max() <= 0.5 / 128 + 1e-6
    assert 0 == pixels[1, 0, 0, 3]
    assert pixels[1, 16, 16, 3] >= dataset.FACE_LEVEL


def test_what_covers_a_face_is_left_out_of_its_mask(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only of faces that extraction found covered; what is in front counts as background."""

    def cover_left(*_: object, **__: object) -> np.ndarray:
        return np.tile(np.arange(32) < 16, (32, 1)).astype(np.float32)

    monkeypatch.setattr(SeenFace, "find_occlusion", cover_left)
    faces = make_set("ada", 3, side=32)
    records = [replace(faces.records[0], covered=0.4), *faces.records[1:]]
    faces = replace(faces, records=records)
    pixels = dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=32)
    assert (pixels[0, :, :16, 3] == 0).all()
    assert pixels[0, 16, 20, 3] >= dataset.FACE_LEVEL
    assert pixels[1, 16, 12, 3] >= dataset.FACE_LEVEL


def test_the_cache_is_reused(make_set: MakeSet, tmp_path: Path) -> None:
    """The same set maps the same file; the crops are not read."""
    faces = make_set("ada", 3)
    first = np.array(dataset.load_or_build_cache(faces, cache=tmp_path, side_px=16))
    for record in faces.records:
        path = faces.path(record)
        state = path.stat()
        path.write_bytes(b"x" * state.st_size)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert np.array_equal(first, dataset.load_or_build_cache(faces, cache=tmp_path, side_px=16))


def test_the_cache_is_replaced_when_the_set_changes(make_set: MakeSet, tmp_path: Path) -> None:
    """A deleted crop, a changed crop or another side gives a new cache and deletes the old one."""
    faces = make_set("ada [1]", 4)
    dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    fewer = replace(faces, records=faces.records[1:])
    assert 3 == len(dataset.load_or_build_cache(fewer, cache=tmp_path / "cache", side_px=16))
    image_io.write_png(faces.path(faces.records[1]), np.full((48, 48, 3), 77, np.uint8))
    assert (
        77 == dataset.load_or_build_cache(fewer, cache=tmp_path / "cache", side_px=16)[0, 3, 3, 0]
    )
    assert 18 == dataset.load_or_build_cache(fewer, cache=tmp_path / "cache", side_px=18).shape[1]
    assert 1 == len(list((tmp_path / "cache").iterdir()))


def test_unreadable_crops_are_named(make_set: MakeSet, tmp_path: Path) -> None:
    """A damaged or stretched crop is an error that names the file."""
    faces = make_set("ada", 3)
    path = faces.path(faces.records[1])
    path.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"000001-0\.png is not an image"):
        dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    image_io.write_png(path, np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"000001-0\.png is not square"):
        dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    assert [] == list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_an_error(make_set: MakeSet, tmp_path: Path) -> None:
    """The process is not killed, and no incomplete cache stays."""

    def raise_no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "crop_with_masks", raise_no_space)
        with pytest.raises(InputError, match="no space left on the disk"):
            dataset.load_or_build_cache(make_set("ada", 3), cache=tmp_path / "cache", side_px=16)
    assert [] == list((tmp_path / "cache").iterdir())


def test_too_few_faces_are_refused(make_set: MakeSet) -> None:
    """Seven faces cannot be split; the error says how many there are and are needed."""
    with pytest.raises(NoFacesError, match=r'set "ada" has 7 faces; training needs at least 8'):
        dataset.check_min_faces(make_set("ada", 7))


@pytest.mark.parametrize("count", [8, 9, 30, 100, 1234])
def test_a_split_is_complete_and_in_runs(count: int) -> None:
    """Every face is on exactly one side; a tenth is for validation, in at most four runs."""
    train, validation = dataset.split_train_val(count, 0.1)
    assert list(range(count)) == sorted([*train, *validation])
    assert abs(len(validation) - count * 0.1) <= 1
    runs = 1 + int((np.diff(validation) > 1).sum())
    assert runs <= dataset.VALIDATION_BLOCKS
    assert len(validation) / runs >= min(2, len(validation))


def test_every_face_is_sampled_once_per_round() -> None:
    """Each round has its own order."""
    indices = np.array([2, 3, 5, 7, 11])
    order = dataset.shuffled_indices(indices, start=0, count=15, seed=1, purpose="ada")
    rounds = order.reshape(3, 5)
    for one in rounds:
        assert sorted(indices) == sorted(one)
    assert not np.array_equal(rounds[0], rounds[1])


def test_samples_depend_on_the_position_only() -> None:
    """3 + 4 + 8 samples are the same as 15."""
    indices = np.arange(6)
    whole = dataset.shuffled_indices(indices, start=0, count=15, seed=1, purpose="ada")
    parts = [
        dataset.shuffled_indices(indices, start=start, count=count, seed=1, purpose="ada")
        for start, count in ((0, 3), (3, 4), (7, 8))
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_batches_depend_on_the_position_only(
    datasets: list[IdentityDataset],
) -> None:
    """A loader that has run and a new one agree; other positions and seeds differ."""
    used = make_test_loader(datasets)
    for images_seen in range(0, 64, 8):
        last = used.batch(images_seen)
    assert equal_batches(last, make_test_loader(datasets).batch(56))
    assert not equal_batches(last, make_test_loader(datasets).batch(48))
    assert not equal_batches(last, make_test_loader(datasets, seed=4).batch(56))


def test_batches_have_their_range_and_shape(datasets: list[IdentityDataset]) -> None:
    """(P, B, 3, S, S) in [-1, 1] and masks (P, B, 1, S, S) in [0, 1]."""
    batch = make_test_loader(datasets, train=replace(TRAIN, color_jitter=0.2)).batch(0)
    assert (2, 4, 3, 16, 16) == batch.warped.shape == batch.target.shape
    assert (2, 4, 1, 16, 16) == batch.mask.shape
    assert batch.warped.abs().max() <= 1
    assert batch.target.abs().max() <= 1
    assert 0 <= float(batch.mask.min()) < float(batch.mask.max()) <= 1


def test_outline_and_features_share_a_channel() -> None:
    """Masks are unpacked to half a level, and features count inside the outline only."""
    outline, features = np.zeros((2, 8, 8), np.float32)
    outline[1:7, 1:7], outline[1, 1], features[3:5, 3:5], features[3, 3] = 1, 0.5, 1, 0.25
    levels = dataset.pack_masks(outline, features)
    assert np.abs(outline - dataset.unpack_face_mask(levels)).max() <= 0.5 / 128
    assert np.abs(features - dataset.unpack_feature_mask(levels)).max() <= 0.5 / 127
    features[1, 1] = 1
    assert np.array_equal(levels, dataset.pack_masks(outline, features))
    assert torch.equal(
        torch.from_numpy(dataset.unpack_feature_mask(levels.astype(np.float32))),
        dataset.unpack_feature_mask(torch.from_numpy(levels).float()),
    )


def test_mask_and_target_are_aligned(datasets: list[IdentityDataset]) -> None:
    """An image whose red is its own mask has the mask in its target, not in its warped input."""
    with_masks = []
    for one in datasets:
        pixels = np.array(one.pixels)
        pixels[..., 3] = np.minimum(pixels[..., 3], dataset.FACE_LEVEL)  # no eyes: outlines only
        pixels[..., 0] = np.round(255 * dataset.unpack_face_mask(pixels[..., 3]))
        with_masks.append(replace(one, pixels=pixels))
    batch = make_test_loader(
        with_masks, train=replace(TRAIN, warp_strength=3.0, rotate_deg=30)
    ).batch(0)
    red = batch.target[:, :, :1] / 2 + 0.5
    # Both are rounded to whole levels after sampling; 128 levels are a full mask.
    assert (red - batch.mask).abs().max() < 1 / 128
    assert (batch.warped[:, :, :1] / 2 + 0.5 - batch.mask).abs().max() > 0.2


@pytest.mark.parametrize("kind", [GpuResidentLoader, GpuStreamingLoader])
def test_all_loaders_give_the_same_batch(
    datasets: list[IdentityDataset], kind: type[FaceLoader]
) -> None:
    """The loaders for a GPU, run on a CPU, give OpenCV's batches to interpolation error."""
    one, other = make_test_loader(datasets).batch(8), make_test_loader(datasets, kind).batch(8)
    assert (one.target - other.target).abs().max() < 1.5 / 127.5
    assert (one.warped - other.warped).abs().max() < 1.5 / 127.5
    assert (one.mask - other.mask).abs().max() < 1.5 / 128
    assert (one.feature_mask - other.feature_mask).abs().max() < 1.5 / 127


def test_loaders_are_exact_inside_autocast(datasets: list[IdentityDataset]) -> None:
    """Coordinates are never rounded to bfloat16."""
    gpu_loader = make_test_loader(datasets, GpuResidentLoader)
    plain = gpu_loader.batch(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal_batches(plain, gpu_loader.batch(8))


COLOR_AUGMENTED = replace(TRAIN, color_jitter=0.1, color_transfer_prob=0.5, input_color_jitter=0.3)
"""Every color augmentation."""


@pytest.mark.parametrize("train", [TRAIN, COLOR_AUGMENTED, replace(TRAIN, occlusion_prob=0.5)])
def test_processes_share_one_batch(datasets: list[IdentityDataset], train: TrainSettings) -> None:
    """The parts of three processes, concatenated, are the batch of one."""
    whole = make_test_loader(datasets, train=train).batch(16)
    parts = [
        make_test_loader(datasets, train=train, rank=rank, world_size=3).batch(16)
        for rank in range(3)
    ]
    joined = FaceBatch(
        **{name: torch.cat([getattr(part, name) for part in parts], dim=1) for name in vars(whole)}
    )
    assert equal_batches(whole, joined)


def test_input_jitter_leaves_the_target_unchanged(datasets: list[IdentityDataset]) -> None:
    """Targets are the same; inputs have other colors."""
    plain = make_test_loader(datasets).batch(16)
    jittered = make_test_loader(datasets, train=replace(TRAIN, input_color_jitter=0.3)).batch(16)
    assert torch.equal(plain.target, jittered.target)
    assert (plain.warped - jittered.warped).abs().amax((2, 3, 4)).min() > 0.01


def test_occluders_are_before_the_inputs_only(datasets: list[IdentityDataset]) -> None:
    """Targets and masks stay; a part of the inputs has something in front, others nothing."""
    many = replace(TRAIN, batch_size=32)
    plain = make_test_loader(datasets, train=many).batch(0)
    covered = make_test_loader(datasets, train=replace(many, occlusion_prob=0.5)).batch(0)
    assert torch.equal(plain.target, covered.target)
    assert torch.equal(plain.mask, covered.mask)
    changed = (plain.warped != covered.warped).flatten(2).any(-1).float().mean()
    assert 0.3 < changed < 0.7
    assert covered.warped.abs().max() <= 1


def test_color_transfer_takes_the_colors_of_another_identity(
    make_set: MakeSet, tmp_path: Path
) -> None:
    """A red face becomes green, input and target, with the given probability."""
    pair = [
        dataset.load_identity(make_set(name, 12, hue=hue), cache=tmp_path / "cache", side_px=24)
        for hue, name in enumerate(("red", "green"))
    ]

    def redness(faces: torch.Tensor) -> torch.Tensor:
        return (faces[:, :, 0] - faces[:, :, 1]).mean((2, 3))

    many = replace(TRAIN, batch_size=64, flip_prob=0)
    plain = make_test_loader(pair, train=many).batch(0)
    always = make_test_loader(pair, train=replace(many, color_transfer_prob=1.0)).batch(0)
    half = make_test_loader(pair, train=replace(many, color_transfer_prob=0.5)).batch(0)
    assert redness(plain.target)[0].min() > 0 > redness(always.target)[0].median()
    assert redness(plain.warped)[0].min() > 0 > redness(always.warped)[0].median()
    changed = (half.target != plain.target).any(-1).any(-1).any(-1).float().mean()
    assert 0.3 < changed < 0.7
    single = make_test_loader(pair[:1], train=replace(many, color_transfer_prob=1.0))
    assert equal_batches(make_test_loader(pair[:1], train=many).batch(0), single.batch(0))


def with_random_poses(datasets: list[IdentityDataset], *, seed: int = 0) -> list[IdentityDataset]:
    """Return the same identities with random poses."""
    rng = np.random.default_rng(seed)
    return [
        replace(one, poses=rng.uniform(-3, 3, (len(one.pixels), 3)).astype(np.float32))
        for one in datasets
    ]


def test_paired_faces_have_similar_poses(
    datasets: list[IdentityDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `pose_pairing_prob` faces are paired with one of the nearest, mirrored equally."""
    monkeypatch.setattr(loader, "NEAREST", 2)  # of few faces
    posed = with_random_poses(datasets)
    unpaired, paired = [], []
    for probability, distances in ((0.0, unpaired), (1.0, paired)):
        pairing = make_test_loader(posed, train=replace(TRAIN, pose_pairing_prob=probability))
        for step in range(20):
            (first, first_params), (second, second_params) = pairing.sample_indices(
                step * pairing.images_per_step
            )
            difference = posed[0].poses[first] - posed[1].poses[second]  # type: ignore[index]
            distances.append(float(np.linalg.norm(difference, axis=1).mean()))
            assert set(first) <= set(posed[0].train_indices)
            assert set(second) <= set(posed[1].train_indices)
            if probability:
                assert torch.equal(first_params.flip_sign, second_params.flip_sign)
    assert np.mean(paired) < 0.7 * np.mean(unpaired)


def test_the_identity_that_sets_the_poses_is_sampled_as_usual(
    datasets: list[IdentityDataset],
) -> None:
    """It changes every step; faces without known poses are not paired."""
    train = replace(TRAIN, pose_pairing_prob=1.0)
    usual, paired = (
        make_test_loader(with_random_poses(datasets)),
        make_test_loader(with_random_poses(datasets), train=train),
    )
    for step in range(4):
        images = step * usual.images_per_step
        expected, found = usual.sample_indices(images), paired.sample_indices(images)
        leader = step % 2
        assert np.array_equal(expected[leader][0], found[leader][0])
        assert not np.array_equal(expected[1 - leader][0], found[1 - leader][0])
    unknown = [replace(one, poses=None) for one in datasets]
    usual_samples, paired_samples = (
        make_test_loader(unknown, train=settings).sample_indices(0) for settings in (TRAIN, train)
    )
    assert all(
        np.array_equal(a[0], b[0]) for a, b in zip(usual_samples, paired_samples, strict=True)
    )


def test_poses_come_from_the_records(make_set: MakeSet, tmp_path: Path) -> None:
    """Yaw and pitch in tens of degrees, the mouth opening as a part of the face's height."""
    faces = make_set("ada", 8)
    landmarks = np.zeros((478, 2), np.float32)
    landmarks[10], landmarks[152], landmarks[13], landmarks[14] = (5, 0), (5, 40), (5, 30), (5, 34)
    first = replace(faces.records[0], pose=(20.0, -10.0, 5.0), landmarks=landmarks)
    faces = replace(faces, records=[first, *faces.records[1:]])
    ada = dataset.load_identity(faces, cache=tmp_path / "c", side_px=16)
    assert ada.poses is not None
    assert [2.0, -1.0, 2.0] == pytest.approx(ada.poses[0].tolist())
    assert (8, 3) == ada.poses.shape


@pytest.mark.parametrize("file", ["../1.png", "/1.png", "more/1.png"])
def test_a_record_names_no_file_outside_its_set(
    make_set: MakeSet, tmp_path: Path, file: str
) -> None:
    """A set may come from somebody else, and its files are copied, moved and deleted."""
    line = replace(make_set("ada", 1).records[0], file=file).to_json()
    (tmp_path / "faces.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match="line 1 is not a face"):
        list(read_records(tmp_path / "faces.jsonl"))


def test_a_cpu_has_a_cpu_loader(datasets: list[IdentityDataset]) -> None:
    """The device decides."""
    assert isinstance(
        make_loader(datasets, model=MODEL, train=TRAIN, seed=0, device=CPU), CpuLoader
    )


def test_the_cache_is_no_larger_than_the_network_needs() -> None:
    """1.5 cached px per px of the network's input, and never more than the crop has."""
    assert 120 == dataset.cached_side_px(ModelSettings(size_px=64), 256)
    assert 256 == dataset.cached_side_px(ModelSettings(size_px=256), 256)


def test_a_set_with_the_longest_name_is_cached(make_set: MakeSet, tmp_path: Path) -> None:
    """Its cache has a name that fits, is found again, and replaced when the set changes."""
    faces = make_set("x" * 255, 3)
    first = load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    (path,) = (tmp_path / "cache").iterdir()
    written = path.stat().st_mtime_ns
    np.testing.assert_array_equal(first, load_or_build_cache(faces, cache=path.parent, side_px=16))
    assert written == path.stat().st_mtime_ns
    load_or_build_cache(faces, cache=path.parent, side_px=24)
    assert path not in (others := list(path.parent.iterdir()))
    assert 1 == len(others)
