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
    Pixels,
    derive_seed,
    shuffled_indices,
    unpack_face_mask,
    unpack_feature_mask,
)
from faceswap_models.base import FaceBatch, ModelSettings, TrainSettings
from faceswap_models.degradation import degrade
from faceswap_models.detail import COARSE_PX
from faceswap_models.tensors import from_levels

MAX_MEMORY_FRACTION = 0.5
"""Part of a device's free memory that the crops may take."""

NEAREST = 8
"""A face is paired with a random one of this many nearest ones, for variety."""

DETAIL_INTERVAL = 2
"""Every so many steps there is a part of each target at the size of the output with detail."""
DETAIL_PART_PX = 96
"""Side of those parts, px: whole outputs would take most of the time of a step."""


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

    @cached_property
    def occluders(self) -> Tensor:
        """Drawn things to put before faces, uint8 (N, 4, S, S): RGB and opacity."""
        from faceswap_cli.synthetic.occluders.bank import draw_bank  # needs OpenCV

        bank = draw_bank(self.model.size_px, self.model.coverage, seed=self.seed)
        return torch.from_numpy(bank.transpose(0, 3, 1, 2).copy()).to(self.device)

    def batch(self, images_seen: int) -> FaceBatch:
        """Return this process's part of the batch that follows after `images_seen` images."""
        batches, all_params, seeds = [], [], []
        step = images_seen // self.images_per_step
        for dataset, (indices, params) in zip(
            self.datasets, self.sample_indices(images_seen), strict=True
        ):
            local = params.select(self._local)
            one = self.make_batch(dataset, indices[self._local], local)
            if self.model.output_px > self.model.size_px and not step % DETAIL_INTERVAL:
                seed = derive_seed(self.seed, images_seen, f"detail of {dataset.name}")
                corners = self.sample_corners(seed=seed)[self._local]
                one = self.with_detail(one, dataset, indices[self._local], local, corners)
            batches.append(one)
            all_params.append(local.to(self.device))
            seeds.append(local.degradation_seed.tolist())
        batch = self.apply_color_transfer(stack_batches(batches), all_params, step=step)
        batch = self.apply_input_jitter(batch, all_params)
        batch = self.apply_occluders(batch, images_seen=images_seen)
        return apply_degradation(batch, seeds)

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
            grid = augment.sampling_grid(params.to(self.device), coverage=self.model.coverage)
            samples = self.sample_images(dataset.pixels, indices, grid, size_px=self.model.size_px)
            images = self.apply_color_jitter(from_levels(samples[:, :, :3]), params)
            levels = samples[0, :, 3:]
            return FaceBatch(
                warped=images[1],
                target=images[0],
                mask=unpack_face_mask(levels),
                feature_mask=unpack_feature_mask(levels),
            )

    def sample_corners(self, *, seed: int) -> Tensor:
        """Return random places of a part of each target, int64 (batch size, 2): left and top, px.

        They are multiples of `detail.COARSE_PX`.
        """
        places = (self.model.output_px - self.detail_part_px) // COARSE_PX + 1
        generator = torch.Generator().manual_seed(seed)
        return COARSE_PX * torch.randint(places, (self.train.batch_size, 2), generator=generator)

    @property
    def detail_part_px(self) -> int:
        """Side of the parts at the size of the output with detail, px."""
        return min(DETAIL_PART_PX, self.model.output_px)

    def with_detail(
        self,
        batch: FaceBatch,
        dataset: IdentityDataset,
        indices: Indices,
        params: AugmentParams,
        corners: Tensor,
    ) -> FaceBatch:
        """Return a batch of one identity, (B, ...), with the parts of its targets at `corners`."""
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            part, whole = self.detail_part_px, self.model.output_px
            grid = augment.part_grid(
                params.to(self.device),
                augment.to_device(corners / whole, self.device),
                side=part / whole,
                coverage=self.model.coverage,
            )
            pixels = dataset.pixels if dataset.detail_pixels is None else dataset.detail_pixels
            [samples] = self.sample_images(pixels, indices, grid, size_px=part)
            [images] = self.apply_color_jitter(from_levels(samples[None, :, :3]), params)
            levels = samples[:, 3:]
            mask = unpack_face_mask(levels)
            if self.train.color_transfer_prob:
                # Of faces with another identity's colors there is nothing to learn here.
                kept = ~augment.to_device(params.is_color_transferred, self.device)
                mask = mask * kept[:, None, None, None]
            target = torch.cat([images, mask, unpack_feature_mask(levels)], dim=1)
            position = augment.to_device(corners.flip(1), self.device)
            return replace(batch, detail_target=target, detail_position=position)

    def apply_color_jitter(self, images: Tensor, params: AugmentParams) -> Tensor:
        """Shift the colors of images (K, B, 3, S, S) in [-1, 1]: inputs and targets alike."""
        if not self.train.color_jitter:
            return images
        shift = augment.to_device(params.color_shift, self.device).repeat(len(images), 1)
        return augment.jitter_color(images.flatten(0, 1), shift).view_as(images)

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

    def apply_occluders(self, batch: FaceBatch, *, images_seen: int) -> FaceBatch:
        """Put drawn things before some faces of the inputs, not of the targets.

        Each process draws the numbers of the whole batch, and uses those of its own faces.
        """
        if not self.train.occlusion_prob:
            return batch
        shape = len(self.datasets), self.train.batch_size
        rng = np.random.default_rng(derive_seed(self.seed, images_seen, "occluders"))
        is_chosen = rng.random(shape)[:, self._local] < self.train.occlusion_prob
        indices = rng.integers(0, len(self.occluders), shape)[:, self._local]
        is_flipped = rng.random(shape)[:, self._local] < 0.5
        chosen = augment.to_device(torch.from_numpy(indices), self.device)
        layers = self.occluders[chosen]  # (P, B, 4, S, S)
        flips = augment.to_device(torch.from_numpy(is_flipped), self.device)[..., None, None, None]
        layers = torch.where(flips, layers.flip(-1), layers)
        shown = augment.to_device(torch.from_numpy(is_chosen), self.device)[..., None, None, None]
        opacity = layers[:, :, 3:].float() / 255 * shown
        warped = batch.warped + (from_levels(layers[:, :, :3]) - batch.warped) * opacity
        return replace(batch, warped=warped)

    @abstractmethod
    def sample_images(
        self, pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int
    ) -> Tensor:
        """Sample crops on the network's device.

        Args:
            pixels: The crops, one of the arrays of `datasets`.
            indices: Which B of them.
            nodes: Where, (B, K, 2, 5, 5), on the device: see `augment`.
            size_px: Side S of the result.

        Returns:
            float32 (K, B, 4, S, S), 0 to 255.
        """


class CpuLoader(FaceLoader):
    """Samples crops on the CPU with OpenCV, out of mapped files."""

    def sample_images(
        self, pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int
    ) -> Tensor:
        """Sample with `cv2.remap`."""
        return augment.sample_by_remap(pixels, indices, nodes, size_px=size_px)


class GpuResidentLoader(FaceLoader):
    """Samples on a GPU that holds all crops, so that none crosses the bus twice."""

    @cached_property
    def device_crops(self) -> dict[int, Tensor]:
        """All arrays of crops on the device, by `id`: the datasets hold them as long as this."""
        return {
            id(pixels): torch.from_numpy(np.array(pixels)).to(self.device)
            for dataset in self.datasets
            for pixels in dataset.all_pixels
        }

    def sample_images(
        self, pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int
    ) -> Tensor:
        """Sample with `grid_sample`."""
        on_device = augment.to_device(torch.from_numpy(indices), self.device)
        return augment.sample_by_grid(
            self.device_crops[id(pixels)], on_device, nodes, size_px=size_px
        )


class GpuStreamingLoader(FaceLoader):
    """Samples on a GPU that is too small for all crops: each batch's crops are sent there."""

    def sample_images(
        self, pixels: Pixels, indices: Indices, nodes: Tensor, *, size_px: int
    ) -> Tensor:
        """Send the crops, then sample with `grid_sample`."""
        crops = augment.to_device(torch.from_numpy(pixels[indices]), self.device)
        in_batch = torch.arange(len(indices), device=self.device)
        return augment.sample_by_grid(crops, in_batch, nodes, size_px=size_px)


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
        size = sum(pixels.nbytes for dataset in datasets for pixels in dataset.all_pixels)
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
        **{name: torch.stack([getattr(one, name) for one in batches]) for name in vars(batches[0])}
    )


def apply_degradation(batch: FaceBatch, seeds: Sequence[Sequence[int]]) -> FaceBatch:
    """Degrade inputs by their seeds (P, B): those of -1 stay as they are, and all targets.

    One by one, so that an image does not depend on the others of its batch: processes that share a
    batch have some of it each.
    """
    flat = [seed for one in seeds for seed in one]
    if all(seed < 0 for seed in flat):
        return batch
    warped = [
        image if seed < 0 else degrade(image[None], seed=seed)[0]
        for image, seed in zip(batch.warped.flatten(0, 1), flat, strict=True)
    ]
    return replace(batch, warped=torch.stack(warped).view_as(batch.warped))


def sample_partners(poses: AnyArray, others: AnyArray, *, rng: np.random.Generator) -> AnyArray:
    """Return, for each of `poses` (B, 3), the index of a random near one of `others` (N, 3)."""
    count = min(NEAREST, len(others))
    # Cheap: there may be thousands of faces, and this is done in every step. Distances (B, N) less
    # the square of each of `poses`, which does not change their order; and no sorting of them all.
    distances = np.square(others).sum(1) - 2 * poses @ others.T
    near = np.sort(np.argpartition(distances, count - 1, axis=1)[:, :count], axis=1)
    return near[np.arange(len(near)), rng.integers(0, count, len(near))]
