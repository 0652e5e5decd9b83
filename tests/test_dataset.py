"""Crops: decoded once, split by segments, drawn by position; batches by position."""

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
from faceswap_cli.faces.dataset import FaceSet
from faceswap_cli.faces.masks import face_mask
from faceswap_cli.training import dataset, loader
from faceswap_cli.training.dataset import IdentityDataset
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
def people(make_set: MakeSet, tmp_path: Path) -> list[IdentityDataset]:
    """Return two people of different numbers of faces."""
    return [
        dataset.load_identity(make_set(name, count), cache=tmp_path / "cache", side_px=24)
        for name, count in (("ada", 11), ("bo", 17))
    ]


def make_test_loader(
    people: list[IdentityDataset], kind: type[FaceLoader] = CpuLoader, **changes: object
) -> FaceLoader:
    """Return a feed of two people on the CPU."""
    arguments = {"model": MODEL, "train": TRAIN, "seed": 3, "device": CPU, **changes}
    return kind(people, **arguments)  # type: ignore[arg-type]


def equal_batches(one: FaceBatch, other: FaceBatch) -> bool:
    """Say whether two batches are equal, bit for bit."""
    return all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_the_cache_holds_the_crops_and_their_outlines(make_set: MakeSet, tmp_path: Path) -> None:
    """Red, green and blue are the crop's; the fourth channel holds outline and features."""
    faces = make_set("ada", 3, side=32)
    pixels = dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=32)
    record = faces.records[1]
    assert (3, 32, 32, 4) == pixels.shape
    assert np.array_equal(image_io.read_image(faces.path(record)), pixels[1, ..., :3])
    outline = face_mask(record.landmarks, record.alignment, 32)
    assert np.abs(outline - dataset.unpack_face_mask(pixels[1, ..., 3])).max() <= 0.5 / 128 + 1e-6
    assert 0 == pixels[1, 0, 0, 3]
    assert pixels[1, 16, 16, 3] >= dataset.FACE_LEVEL


def test_the_cache_is_read_again_not_made_again(make_set: MakeSet, tmp_path: Path) -> None:
    """The same set maps the same file; the crops are not even looked into."""
    faces = make_set("ada", 3)
    first = np.array(dataset.load_or_build_cache(faces, cache=tmp_path, side_px=16))
    for record in faces.records:
        path = faces.path(record)
        state = path.stat()
        path.write_bytes(b"x" * state.st_size)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert np.array_equal(first, dataset.load_or_build_cache(faces, cache=tmp_path, side_px=16))


def test_the_cache_follows_the_set(make_set: MakeSet, tmp_path: Path) -> None:
    """A deleted crop, a changed crop or another side makes another cache and drops the old one."""
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


def test_a_crop_that_cannot_be_read_is_named(make_set: MakeSet, tmp_path: Path) -> None:
    """A damaged or stretched crop is an error that names the file."""
    faces = make_set("ada", 3)
    path = faces.path(faces.records[1])
    path.write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"000001-0\.png is not an image"):
        dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    image_io.write_png(path, np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(InputError, match=r"000001-0\.png is not square"):
        dataset.load_or_build_cache(faces, cache=tmp_path / "cache", side_px=16)
    assert [] == list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_said(make_set: MakeSet, tmp_path: Path) -> None:
    """No space for the cache is an error, not a killed process, and leaves no half of it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "crop_with_masks", full)
        with pytest.raises(InputError, match="no space left on the disk"):
            dataset.load_or_build_cache(make_set("ada", 3), cache=tmp_path / "cache", side_px=16)
    assert [] == list((tmp_path / "cache").iterdir())


def test_too_few_faces_are_refused(make_set: MakeSet) -> None:
    """Seven faces cannot be split; the message says how many there are and are needed."""
    with pytest.raises(NoFacesError, match=r'set "ada" has 7 faces; training needs at least 8'):
        dataset.check_min_faces(make_set("ada", 7))


@pytest.mark.parametrize("count", [8, 9, 30, 100, 1234])
def test_a_split_is_whole_and_in_segments(count: int) -> None:
    """Every face is on exactly one side, a tenth is held out, in at most four runs."""
    train, held_out = dataset.split_train_val(count, 0.1)
    assert list(range(count)) == sorted([*train, *held_out])
    assert abs(len(held_out) - count * 0.1) <= 1
    runs = 1 + int((np.diff(held_out) > 1).sum())
    assert runs <= dataset.VALIDATION_BLOCKS
    assert len(held_out) / runs >= min(2, len(held_out))


def test_every_face_comes_once_before_any_comes_again() -> None:
    """Drawing goes in rounds, each in its own order."""
    indices = np.array([2, 3, 5, 7, 11])
    order = dataset.shuffled_indices(indices, start=0, count=15, seed=1, purpose="ada")
    rounds = order.reshape(3, 5)
    for one in rounds:
        assert sorted(indices) == sorted(one)
    assert not np.array_equal(rounds[0], rounds[1])


def test_what_is_drawn_depends_on_the_position_alone() -> None:
    """Drawing 3 + 4 + 8 gives what drawing 15 gives."""
    indices = np.arange(6)
    whole = dataset.shuffled_indices(indices, start=0, count=15, seed=1, purpose="ada")
    parts = [
        dataset.shuffled_indices(indices, start=start, count=count, seed=1, purpose="ada")
        for start, count in ((0, 3), (3, 4), (7, 8))
    ]
    assert np.array_equal(whole, np.concatenate(parts))


def test_the_same_position_gives_the_same_batch_wherever_one_started(
    people: list[IdentityDataset],
) -> None:
    """A feed that has run and one that has not agree; other positions and seeds differ."""
    ran = make_test_loader(people)
    for images_seen in range(0, 64, 8):
        last = ran.batch(images_seen)
    assert equal_batches(last, make_test_loader(people).batch(56))
    assert not equal_batches(last, make_test_loader(people).batch(48))
    assert not equal_batches(last, make_test_loader(people, seed=4).batch(56))


def test_a_batch_is_in_range_and_in_shape(people: list[IdentityDataset]) -> None:
    """(P, B, 3, S, S) in [-1, 1] and masks (P, B, 1, S, S) in [0, 1]."""
    batch = make_test_loader(people, train=replace(TRAIN, color_jitter=0.2)).batch(0)
    assert (2, 4, 3, 16, 16) == batch.warped.shape == batch.target.shape
    assert (2, 4, 1, 16, 16) == batch.mask.shape
    assert batch.warped.abs().max() <= 1
    assert batch.target.abs().max() <= 1
    assert 0 <= float(batch.mask.min()) < float(batch.mask.max()) <= 1


def test_outline_and_features_share_a_channel() -> None:
    """What was marked is read back to half a level, and features count inside the outline only."""
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


def test_mask_and_target_lie_in_the_same_place(people: list[IdentityDataset]) -> None:
    """A picture whose red is its own outline shows the mask in its target, not in its input."""
    marked = []
    for person in people:
        pixels = np.array(person.pixels)
        pixels[..., 3] = np.minimum(pixels[..., 3], dataset.FACE_LEVEL)  # no eyes: outlines alone
        pixels[..., 0] = np.round(255 * dataset.unpack_face_mask(pixels[..., 3]))
        marked.append(replace(person, pixels=pixels))
    batch = make_test_loader(marked, train=replace(TRAIN, warp_strength=3.0, rotate_deg=30)).batch(
        0
    )
    red = batch.target[:, :, :1] / 2 + 0.5
    # Both are rounded to whole levels after sampling, 128 of which make a whole mask.
    assert (red - batch.mask).abs().max() < 1 / 128
    assert (batch.warped[:, :, :1] / 2 + 0.5 - batch.mask).abs().max() > 0.2


@pytest.mark.parametrize("kind", [GpuResidentLoader, GpuStreamingLoader])
def test_every_route_gives_the_same_batch(
    people: list[IdentityDataset], kind: type[FaceLoader]
) -> None:
    """The feeds for a GPU, run on a CPU, give OpenCV's batches to interpolation error."""
    one, other = make_test_loader(people).batch(8), make_test_loader(people, kind).batch(8)
    assert (one.target - other.target).abs().max() < 1.5 / 127.5
    assert (one.warped - other.warped).abs().max() < 1.5 / 127.5
    assert (one.mask - other.mask).abs().max() < 1.5 / 128
    assert (one.feature_mask - other.feature_mask).abs().max() < 1.5 / 127


def test_a_feed_is_exact_inside_autocast(people: list[IdentityDataset]) -> None:
    """Coordinates are never rounded to bfloat16."""
    feed = make_test_loader(people, GpuResidentLoader)
    plain = feed.batch(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal_batches(plain, feed.batch(8))


COLOR_AUGMENTED = replace(TRAIN, color_jitter=0.1, color_transfer_prob=0.5, input_color_jitter=0.3)
"""Every kind of chance with colours."""


@pytest.mark.parametrize("train", [TRAIN, COLOR_AUGMENTED])
def test_processes_share_one_batch(people: list[IdentityDataset], train: TrainSettings) -> None:
    """The parts of three processes, put together, are the batch of one."""
    whole = make_test_loader(people, train=train).batch(16)
    parts = [
        make_test_loader(people, train=train, rank=rank, world_size=3).batch(16)
        for rank in range(3)
    ]
    joined = FaceBatch(
        **{name: torch.cat([getattr(part, name) for part in parts], dim=1) for name in vars(whole)}
    )
    assert equal_batches(whole, joined)


def test_a_tint_is_of_what_is_shown_and_not_of_the_target(people: list[IdentityDataset]) -> None:
    """With input jitter the same targets are to be drawn from other colours."""
    plain = make_test_loader(people).batch(16)
    tinted = make_test_loader(people, train=replace(TRAIN, input_color_jitter=0.3)).batch(16)
    assert torch.equal(plain.target, tinted.target)
    assert (plain.warped - tinted.warped).abs().amax((2, 3, 4)).min() > 0.01


def test_matched_colours_are_another_persons(make_set: MakeSet, tmp_path: Path) -> None:
    """A red person turns as green as the other, input and target alike, as often as asked for."""
    everyone = [
        dataset.load_identity(make_set(name, 12, hue=hue), cache=tmp_path / "cache", side_px=24)
        for hue, name in enumerate(("red", "green"))
    ]

    def redness(faces: torch.Tensor) -> torch.Tensor:
        return (faces[:, :, 0] - faces[:, :, 1]).mean((2, 3))

    often = replace(TRAIN, batch_size=64, flip_prob=0)
    plain = make_test_loader(everyone, train=often).batch(0)
    always = make_test_loader(everyone, train=replace(often, color_transfer_prob=1.0)).batch(0)
    half = make_test_loader(everyone, train=replace(often, color_transfer_prob=0.5)).batch(0)
    assert redness(plain.target)[0].min() > 0 > redness(always.target)[0].median()
    assert redness(plain.warped)[0].min() > 0 > redness(always.warped)[0].median()
    changed = (half.target != plain.target).any(-1).any(-1).any(-1).float().mean()
    assert 0.3 < changed < 0.7
    alone = make_test_loader(everyone[:1], train=replace(often, color_transfer_prob=1.0))
    assert equal_batches(make_test_loader(everyone[:1], train=often).batch(0), alone.batch(0))


def with_random_poses(people: list[IdentityDataset], *, seed: int = 0) -> list[IdentityDataset]:
    """Return the same people, looking all ways."""
    chance = np.random.default_rng(seed)
    return [
        replace(one, poses=chance.uniform(-3, 3, (len(one.pixels), 3)).astype(np.float32))
        for one in people
    ]


def test_paired_faces_look_the_same_way(
    people: list[IdentityDataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `pose_pairing_prob` another person's face is one of the nearest, and is mirrored alike."""
    monkeypatch.setattr(loader, "NEAREST", 2)  # of so few
    everybody = with_random_poses(people)
    apart, together = [], []
    for match, found in ((0.0, apart), (1.0, together)):
        feed = make_test_loader(everybody, train=replace(TRAIN, pose_pairing_prob=match))
        for turn in range(20):
            (one, changed), (other, changed_too) = feed.sample_indices(turn * feed.images_per_step)
            poses = everybody[0].poses[one] - everybody[1].poses[other]  # type: ignore[index]
            found.append(float(np.linalg.norm(poses, axis=1).mean()))
            assert set(one) <= set(everybody[0].train_indices)
            assert set(other) <= set(everybody[1].train_indices)
            if match:
                assert torch.equal(changed.flip_sign, changed_too.flip_sign)
    assert np.mean(together) < 0.7 * np.mean(apart)


def test_whoever_leads_a_pair_comes_in_the_usual_order(people: list[IdentityDataset]) -> None:
    """In turns; and who is not known to look anywhere is not paired."""
    train = replace(TRAIN, pose_pairing_prob=1.0)
    usual, paired = (
        make_test_loader(with_random_poses(people)),
        make_test_loader(with_random_poses(people), train=train),
    )
    for turn in range(4):
        images = turn * usual.images_per_step
        expected, found = usual.sample_indices(images), paired.sample_indices(images)
        leader = turn % 2
        assert np.array_equal(expected[leader][0], found[leader][0])
        assert not np.array_equal(expected[1 - leader][0], found[1 - leader][0])
    unknown = [replace(one, poses=None) for one in people]
    one, other = (
        make_test_loader(unknown, train=each).sample_indices(0) for each in (TRAIN, train)
    )
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_poses_come_from_the_records(make_set: MakeSet, tmp_path: Path) -> None:
    """Yaw and pitch in tens of degrees, the mouth's opening as a part of the face's height."""
    faces = make_set("ada", 8)
    landmarks = np.zeros((478, 2), np.float32)
    landmarks[10], landmarks[152], landmarks[13], landmarks[14] = (5, 0), (5, 40), (5, 30), (5, 34)
    first = replace(faces.records[0], pose=(20.0, -10.0, 5.0), landmarks=landmarks)
    faces = replace(faces, records=[first, *faces.records[1:]])
    person = dataset.load_identity(faces, cache=tmp_path / "c", side_px=16)
    assert person.poses is not None
    assert [2.0, -1.0, 2.0] == pytest.approx(person.poses[0].tolist())
    assert (8, 3) == person.poses.shape


def test_a_cpu_is_fed_by_remap(people: list[IdentityDataset]) -> None:
    """The route is chosen by the device."""
    assert isinstance(make_loader(people, model=MODEL, train=TRAIN, seed=0, device=CPU), CpuLoader)


def test_the_cache_is_no_larger_than_the_network_needs() -> None:
    """One and a half cached px per px seen, and never more than the crop has."""
    assert 120 == dataset.cached_side_px(64, 0.8, 256)
    assert 256 == dataset.cached_side_px(256, 0.8, 256)
