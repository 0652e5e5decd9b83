"""Batches by position: which faces come next, changed by chance, on the device of the network.

Knows where the crops lie in memory; refuses to know what is learnt from them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from faceswap_cli.training import augment
from faceswap_cli.training.augment import AugmentParams
from faceswap_cli.training.dataset import (
    IdentityDataset,
    Indices,
    derive_seed,
    shuffled_indices,
    unpack_face_mask,
    unpack_feature_mask,
)
from faceswap_cli.training.pairs import sample_partners
from faceswap_models.base import FaceBatch, ModelSettings, TrainSettings
from faceswap_models.tensors import from_levels

MAX_MEMORY_FRACTION = 0.5
"""Part of a device's free memory that the crops may take."""


@dataclass(frozen=True, kw_only=True)
class BatchShard:
    """Which part of every batch is this process's own."""

    rank: int = 0
    """Number of this process, from 0."""
    world_size: int = 1
    """How many processes share a batch."""

    def local_slice(self, batch_size: int) -> slice:
        """Return where this process's faces lie in a batch of `batch_size`."""
        return slice(
            batch_size * self.rank // self.world_size,
            batch_size * (self.rank + 1) // self.world_size,
        )

    def weight(self, batch_size: int) -> float:
        """Return how much of a batch of `batch_size` is this process's own, 0 to 1."""
        part = self.local_slice(batch_size)
        return float(part.stop - part.start) / batch_size


class FaceLoader(ABC):
    """Draws batches of several people's faces.

    Args:
        datasets: Whose faces.
        model: Gives the side and the coverage of what the network sees.
        train: Gives the batch size and how much chance there is.
        seed: Seed of the run.
        device: Where the network is.
        shard: This process's part of each batch.
    """

    def __init__(
        self,
        datasets: Sequence[IdentityDataset],
        *,
        model: ModelSettings,
        train: TrainSettings,
        seed: int,
        device: torch.device,
        shard: BatchShard | None = None,
    ) -> None:
        self.datasets = tuple(datasets)
        self.model = model
        self.train = train
        self.seed = seed
        self.device = device
        self.shard = shard or BatchShard()

    @property
    def images_per_step(self) -> int:
        """Faces in a batch, of all people and all processes together."""
        return self.train.batch_size * len(self.datasets)

    def batch(self, images_seen: int) -> FaceBatch:
        """Return the batch that comes after `images_seen` images, whatever happened before."""
        part = self.shard.local_slice(self.train.batch_size)
        everyone, chances = [], []
        for person, (indices, changes) in zip(
            self.datasets, self.sample_indices(images_seen), strict=True
        ):
            everyone.append(self.make_batch(person, indices[part], changes.select(part)))
            chances.append(changes.select(part).to(self.device))
        turn = images_seen // self.images_per_step
        return self.apply_input_jitter(
            self.apply_color_transfer(stack_batches(everyone), chances, turn=turn), chances
        )

    def sample_indices(self, images_seen: int) -> list[tuple[Indices, AugmentParams]]:
        """Return which faces of each person come next, and how they are changed."""
        before, count = images_seen // len(self.datasets), self.train.batch_size
        picks = []
        for person in self.datasets:
            indices = shuffled_indices(
                person.train_indices, start=before, count=count, seed=self.seed, purpose=person.name
            )
            chance = derive_seed(self.seed, images_seen, f"changes of {person.name}")
            picks.append((indices, augment.sample_params(count, self.train, seed=chance)))
        return self.apply_pose_pairing(picks, images_seen=images_seen)

    def apply_pose_pairing(
        self, samples: list[tuple[Indices, AugmentParams]], *, images_seen: int
    ) -> list[tuple[Indices, AugmentParams]]:
        """Let some faces of one person choose the others' at their place: another leads each turn.

        Whoever leads comes in the usual order, so that everybody's faces all have their turn; and
        a pair is mirrored together, or it would look different ways.
        """
        if not self.train.pose_pairing_prob:
            return samples
        leader = images_seen // self.images_per_step % len(self.datasets)
        indices, lead = samples[leader]
        poses = self.datasets[leader].poses
        chance = np.random.default_rng(derive_seed(self.seed, images_seen, "pairs"))
        is_paired = chance.random(len(indices)) < self.train.pose_pairing_prob
        followed = []
        for person, (own, changes) in zip(self.datasets, samples, strict=True):
            if person is self.datasets[leader] or poses is None or person.poses is None:
                followed.append((own, changes))
                continue
            near = sample_partners(poses[indices], person.poses[person.train_indices], rng=chance)
            mirrored = torch.where(torch.from_numpy(is_paired), lead.flip_sign, changes.flip_sign)
            followed.append(
                (
                    np.where(is_paired, person.train_indices[near], own),
                    replace(changes, flip_sign=mirrored),
                )
            )
        return followed

    def clean_batch(self, dataset: IdentityDataset, indices: Indices) -> FaceBatch:
        """Return chosen faces as they are: warped and target alike, (1, B, ...)."""
        return stack_batches(
            [self.make_batch(dataset, indices, augment.identity_params(len(indices)))]
        )

    def warped_batch(self, dataset: IdentityDataset, indices: Indices, *, seed: int) -> FaceBatch:
        """Return chosen faces in place, with the input warped, (1, B, ...): for preview sheets."""
        plain = augment.identity_params(len(indices))
        bend = augment.sample_params(len(indices), self.train, seed=seed).warp
        changes = AugmentParams(**{**vars(plain), "warp": bend})
        return stack_batches([self.make_batch(dataset, indices, changes)])

    def make_batch(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> FaceBatch:
        """Return chosen faces of one person, changed: (B, ...) without the people's dimension."""
        # In full precision wherever this is called: bfloat16 has no place for coordinates.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            samples = self.sample_images(dataset, indices, params)
            images = from_levels(samples[:, :, :3])  # (2, B, 3, S, S)
            if self.train.color_jitter:
                colour = params.color_shift.to(images.device).repeat(2, 1)
                images = augment.jitter_color(images.flatten(0, 1), colour).view_as(images)
            levels = samples[0, :, 3:]
            return FaceBatch(
                warped=images[1],
                target=images[0],
                mask=unpack_face_mask(levels),
                feature_mask=unpack_feature_mask(levels),
            )

    def apply_color_transfer(
        self, batch: FaceBatch, params: Sequence[AugmentParams], *, turn: int
    ) -> FaceBatch:
        """Give some faces the colours of another person's, a different one's in every turn."""
        others = len(params) - 1
        if not self.train.color_transfer_prob or not others:
            return batch
        by = 1 + turn % others
        both = torch.stack([batch.target, batch.warped]).flatten(1, 2)  # (2, P*B, 3, S, S)
        like, like_masks = (one.roll(by, 0).flatten(0, 1) for one in (batch.target, batch.mask))
        changed = augment.transfer_color(both, batch.mask.flatten(0, 1), like, like_masks)
        is_matched = torch.cat([one.is_color_transferred for one in params])[:, None, None, None]
        target, warped = torch.where(is_matched, changed, both).view(2, *batch.target.shape)
        return replace(batch, target=target, warped=warped)

    def apply_input_jitter(self, batch: FaceBatch, params: Sequence[AugmentParams]) -> FaceBatch:
        """Change the colours of what the network is shown, not of what it is to draw."""
        if not self.train.input_color_jitter:
            return batch
        tints = torch.cat([one.input_color_jitter for one in params])
        warped = augment.jitter_input(batch.warped.flatten(0, 1), tints)
        return replace(batch, warped=warped.view_as(batch.warped))

    @abstractmethod
    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Return float32 (2, B, 4, S, S), 0 to 255, on the network's device: targets, inputs."""


class CpuLoader(FaceLoader):
    """Samples on the CPU, out of mapped files."""

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Look up by OpenCV."""
        nodes = augment.sampling_grid(params, coverage=self.model.coverage)
        return augment.sample_by_remap(dataset.pixels, indices, nodes, size_px=self.model.size_px)


class GpuResidentLoader(FaceLoader):
    """Samples on a device that holds all crops, so that no picture crosses the bus again."""

    @cached_property
    def device_crops(self) -> dict[str, Tensor]:
        """Everybody's crops, on the device."""
        return {
            person.name: torch.from_numpy(np.array(person.pixels)).to(self.device)
            for person in self.datasets
        }

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Look up by `grid_sample`."""
        nodes = augment.sampling_grid(params.to(self.device), coverage=self.model.coverage)
        places = torch.from_numpy(indices).to(self.device)
        return augment.sample_by_grid(
            self.device_crops[dataset.name], places, nodes, size_px=self.model.size_px
        )


class GpuStreamingLoader(FaceLoader):
    """Samples on a device that the crops do not fit into: each batch's crops are sent there."""

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Send the crops, then look up by `grid_sample`."""
        nodes = augment.sampling_grid(params.to(self.device), coverage=self.model.coverage)
        crops = torch.from_numpy(dataset.pixels[indices]).to(self.device)
        places = torch.arange(len(indices), device=self.device)
        return augment.sample_by_grid(crops, places, nodes, size_px=self.model.size_px)


def make_loader(
    datasets: Sequence[IdentityDataset],
    *,
    model: ModelSettings,
    train: TrainSettings,
    seed: int,
    device: torch.device,
    shard: BatchShard | None = None,
) -> FaceLoader:
    """Return the fastest feed for a device that the crops fit into."""
    size = sum(person.pixels.nbytes for person in datasets)
    kinds: dict[bool, type[FaceLoader]] = {True: GpuResidentLoader, False: GpuStreamingLoader}
    kind = (
        CpuLoader
        if device.type == "cpu"
        else kinds[size <= MAX_MEMORY_FRACTION * free_device_memory(device)]
    )
    return kind(datasets, model=model, train=train, seed=seed, device=device, shard=shard)


def free_device_memory(device: torch.device) -> float:
    """Return a device's free memory, bytes; unbounded where it shares the machine's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def stack_batches(batches: Sequence[FaceBatch]) -> FaceBatch:
    """Put single people's batches (B, ...) on top of each other: (P, B, ...)."""
    return FaceBatch(
        warped=torch.stack([one.warped for one in batches]),
        target=torch.stack([one.target for one in batches]),
        mask=torch.stack([one.mask for one in batches]),
        feature_mask=torch.stack([one.feature_mask for one in batches]),
    )
