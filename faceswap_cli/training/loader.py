"""`FaceLoader`: augmented batches on the network's device; they depend on the images seen only.

One class per location of the decoded crops: `make_loader` chooses.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from faceswap_cli.core.types import AnyArray
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
from faceswap_models.base import FaceBatch, ModelSettings, TrainSettings
from faceswap_models.tensors import from_levels

MAX_MEMORY_FRACTION = 0.5
"""Part of a device's free memory that the crops may take."""

NEAREST = 8
"""A face is paired with a random one of this many nearest ones, for variety."""


def batch_slice(batch_size: int, rank: int, world_size: int) -> slice:
    """Return which faces of a batch of `batch_size` belong to process `rank` of `world_size`."""
    return slice(batch_size * rank // world_size, batch_size * (rank + 1) // world_size)


class FaceLoader(ABC):
    """Makes batches of several identities' faces; the images seen decide what is in them.

    Args:
        datasets: The identities.
        model: Gives the side and the coverage of what the network sees.
        train: Gives the batch size and the strength of the augmentation.
        seed: Seed of the run.
        device: Device of the network.
        rank: Number of this process, from 0.
        world_size: Number of processes that share every batch.
    """

    def __init__(
        self,
        datasets: Sequence[IdentityDataset],
        *,
        model: ModelSettings,
        train: TrainSettings,
        seed: int,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.datasets = tuple(datasets)
        self.model = model
        self.train = train
        self.seed = seed
        self.device = device
        self._local = batch_slice(train.batch_size, rank, world_size)

    @property
    def images_per_step(self) -> int:
        """Faces in a batch, of all identities and all processes together."""
        return self.train.batch_size * len(self.datasets)

    def batch(self, images_seen: int) -> FaceBatch:
        """Return this process's part of the batch that follows after `images_seen` images."""
        batches, all_params = [], []
        for dataset, (indices, params) in zip(
            self.datasets, self.sample_indices(images_seen), strict=True
        ):
            local = params.select(self._local)
            batches.append(self.make_batch(dataset, indices[self._local], local))
            all_params.append(local.to(self.device))
        step = images_seen // self.images_per_step
        batch = self.apply_color_transfer(stack_batches(batches), all_params, step=step)
        return self.apply_input_jitter(batch, all_params)

    def sample_indices(self, images_seen: int) -> list[tuple[Indices, AugmentParams]]:
        """Return which faces of each identity come next, and how they are augmented."""
        start, count = images_seen // len(self.datasets), self.train.batch_size
        samples = []
        for dataset in self.datasets:
            name = dataset.name
            indices = shuffled_indices(
                dataset.train_indices, start=start, count=count, seed=self.seed, purpose=name
            )
            # The words are hashed into the random stream: they must stay as they are.
            seed = derive_seed(self.seed, images_seen, f"changes of {name}")
            samples.append((indices, augment.sample_params(count, self.train, seed=seed)))
        return self.apply_pose_pairing(samples, images_seen=images_seen)

    def apply_pose_pairing(
        self, samples: list[tuple[Indices, AugmentParams]], *, images_seen: int
    ) -> list[tuple[Indices, AugmentParams]]:
        """Replace some faces by ones in a similar pose to another identity's face of the batch.

        A discriminator that sees two identities in different poses learns the poses; in similar
        ones, it learns the identities. The identity that sets the poses changes every step, so
        that all faces of all identities have their turn; a pair is mirrored together.
        """
        if not self.train.pose_pairing_prob:
            return samples
        leader = images_seen // self.images_per_step % len(self.datasets)
        lead_indices, lead_params = samples[leader]
        lead_poses = self.datasets[leader].poses
        rng = np.random.default_rng(derive_seed(self.seed, images_seen, "pairs"))
        is_paired = rng.random(len(lead_indices)) < self.train.pose_pairing_prob
        paired = []
        for dataset, (indices, params) in zip(self.datasets, samples, strict=True):
            if dataset is self.datasets[leader] or lead_poses is None or dataset.poses is None:
                paired.append((indices, params))
                continue
            candidates = dataset.train_indices
            nearest = sample_partners(lead_poses[lead_indices], dataset.poses[candidates], rng=rng)
            flip_sign = torch.where(
                torch.from_numpy(is_paired), lead_params.flip_sign, params.flip_sign
            )
            partners = np.where(is_paired, candidates[nearest], indices)
            paired.append((partners, replace(params, flip_sign=flip_sign)))
        return paired

    def clean_batch(self, dataset: IdentityDataset, indices: Indices) -> FaceBatch:
        """Return chosen faces without augmentation, (1, B, ...): inputs equal targets."""
        params = augment.identity_params(len(indices))
        return stack_batches([self.make_batch(dataset, indices, params)])

    def warped_batch(self, dataset: IdentityDataset, indices: Indices, *, seed: int) -> FaceBatch:
        """Return chosen faces with nothing but the input warped, (1, B, ...)."""
        warp = augment.sample_params(len(indices), self.train, seed=seed).warp
        params = replace(augment.identity_params(len(indices)), warp=warp)
        return stack_batches([self.make_batch(dataset, indices, params)])

    def make_batch(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> FaceBatch:
        """Return augmented faces of one identity, (B, ...): without the dimension of identities."""
        # In full precision wherever this is called: bfloat16 has no place for coordinates.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            samples = self.sample_images(dataset, indices, params)
            images = from_levels(samples[:, :, :3])  # (2, B, 3, S, S)
            if self.train.color_jitter:
                shift = augment.to_device(params.color_shift, self.device).repeat(2, 1)
                images = augment.jitter_color(images.flatten(0, 1), shift).view_as(images)
            levels = samples[0, :, 3:]
            return FaceBatch(
                warped=images[1],
                target=images[0],
                mask=unpack_face_mask(levels),
                feature_mask=unpack_feature_mask(levels),
            )

    def apply_color_transfer(
        self, batch: FaceBatch, params: Sequence[AugmentParams], *, step: int
    ) -> FaceBatch:
        """Give some faces the colors of another identity's, a different one's in every step."""
        others = len(params) - 1
        if not self.train.color_transfer_prob or not others:
            return batch
        offset = 1 + step % others
        images = torch.stack([batch.target, batch.warped]).flatten(1, 2)  # (2, P*B, 3, S, S)
        references, reference_masks = (
            one.roll(offset, 0).flatten(0, 1) for one in (batch.target, batch.mask)
        )
        transferred = augment.transfer_color(
            images, batch.mask.flatten(0, 1), references, reference_masks
        )
        chosen = torch.cat([one.is_color_transferred for one in params])[:, None, None, None]
        target, warped = torch.where(chosen, transferred, images).view(2, *batch.target.shape)
        return replace(batch, target=target, warped=warped)

    def apply_input_jitter(self, batch: FaceBatch, params: Sequence[AugmentParams]) -> FaceBatch:
        """Change the colors of the inputs, not of the targets."""
        if not self.train.input_color_jitter:
            return batch
        jitter = torch.cat([one.input_color_jitter for one in params])
        warped = augment.jitter_input(batch.warped.flatten(0, 1), jitter)
        return replace(batch, warped=warped.view_as(batch.warped))

    @abstractmethod
    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Return float32 (2, B, 4, S, S), 0 to 255, on the network's device: targets, inputs."""


class CpuLoader(FaceLoader):
    """Samples crops on the CPU with OpenCV, out of mapped files."""

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Sample with `cv2.remap`."""
        grid = augment.sampling_grid(params, coverage=self.model.coverage)
        return augment.sample_by_remap(dataset.pixels, indices, grid, size_px=self.model.size_px)


class GpuResidentLoader(FaceLoader):
    """Samples on a GPU that holds all crops, so that none crosses the bus twice."""

    @cached_property
    def device_crops(self) -> dict[str, Tensor]:
        """All crops by identity, on the device."""
        return {
            dataset.name: torch.from_numpy(np.array(dataset.pixels)).to(self.device)
            for dataset in self.datasets
        }

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Sample with `grid_sample`."""
        grid = augment.sampling_grid(params.to(self.device), coverage=self.model.coverage)
        on_device = augment.to_device(torch.from_numpy(indices), self.device)
        return augment.sample_by_grid(
            self.device_crops[dataset.name], on_device, grid, size_px=self.model.size_px
        )


class GpuStreamingLoader(FaceLoader):
    """Samples on a GPU that is too small for all crops: each batch's crops are sent there."""

    def sample_images(
        self, dataset: IdentityDataset, indices: Indices, params: AugmentParams
    ) -> Tensor:
        """Send the crops, then sample with `grid_sample`."""
        grid = augment.sampling_grid(params.to(self.device), coverage=self.model.coverage)
        crops = augment.to_device(torch.from_numpy(dataset.pixels[indices]), self.device)
        in_batch = torch.arange(len(indices), device=self.device)
        return augment.sample_by_grid(crops, in_batch, grid, size_px=self.model.size_px)


class BatchPrefetcher:
    """Makes the next batch on a GPU while a step runs, on a stream of its own.

    Elsewhere a batch is made when it is asked for: a CPU has no time to spare during a step.

    Args:
        loader: Makes the batches.
    """

    def __init__(self, loader: FaceLoader) -> None:
        self._loader = loader
        self._stream: torch.cuda.Stream | None = None
        if loader.device.type == "cuda":
            self._stream = torch.cuda.Stream(loader.device)  # type: ignore[no-untyped-call]  # torch's stub
        self._next: tuple[int, FaceBatch] | None = None

    def batch(self, images_seen: int) -> FaceBatch:
        """Return the batch that follows after `images_seen` images."""
        if self._stream is None or self._next is None or self._next[0] != images_seen:
            return self._loader.batch(images_seen)
        (_, batch), self._next = self._next, None
        current = torch.cuda.current_stream(self._loader.device)
        current.wait_stream(self._stream)
        for value in vars(batch).values():
            value.record_stream(current)  # else its memory would be reused while it is read
        return batch

    def prefetch(self, images_seen: int) -> None:
        """Begin to make the batch that follows after `images_seen` images."""
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                self._next = images_seen, self._loader.batch(images_seen)


def make_loader(
    datasets: Sequence[IdentityDataset],
    *,
    model: ModelSettings,
    train: TrainSettings,
    seed: int,
    device: torch.device,
    rank: int = 0,
    world_size: int = 1,
) -> FaceLoader:
    """Return the fastest loader for a device: see `FaceLoader` for the arguments."""
    kind: type[FaceLoader] = CpuLoader
    if device.type != "cpu":
        size = sum(dataset.pixels.nbytes for dataset in datasets)
        fits = size <= MAX_MEMORY_FRACTION * free_device_memory(device)
        kind = GpuResidentLoader if fits else GpuStreamingLoader
    return kind(
        datasets,
        model=model,
        train=train,
        seed=seed,
        device=device,
        rank=rank,
        world_size=world_size,
    )


def free_device_memory(device: torch.device) -> float:
    """Return the free memory of a device, bytes; unlimited if it shares the machine's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def stack_batches(batches: Sequence[FaceBatch]) -> FaceBatch:
    """Stack the batches (B, ...) of single identities: (P, B, ...)."""
    return FaceBatch(
        warped=torch.stack([one.warped for one in batches]),
        target=torch.stack([one.target for one in batches]),
        mask=torch.stack([one.mask for one in batches]),
        feature_mask=torch.stack([one.feature_mask for one in batches]),
    )


def sample_partners(poses: AnyArray, others: AnyArray, *, rng: np.random.Generator) -> AnyArray:
    """Return, for each of `poses` (B, 3), the index of a random near one of `others` (N, 3)."""
    count = min(NEAREST, len(others))
    # Cheap: there may be thousands of faces, and this is done in every step. Distances (B, N) less
    # the square of each of `poses`, which does not change their order; and no sorting of them all.
    distances = np.square(others).sum(1) - 2 * poses @ others.T
    near = np.sort(np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)
    return near[np.arange(len(near)), rng.integers(0, count, len(near))]
