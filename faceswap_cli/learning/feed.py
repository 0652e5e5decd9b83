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

from faceswap_cli.learning import augment
from faceswap_cli.learning.augment import Changes
from faceswap_cli.learning.data import (
    Indices,
    Person,
    drawn,
    features_of,
    outline_of,
    position_seed,
)
from faceswap_cli.learning.pairs import partners
from faceswap_models.base import FaceBatch, ModelSettings, TrainSettings

FITS = 0.5
"""Part of a device's free memory that the crops may take."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which part of every batch is this process's own."""

    rank: int = 0
    """Number of this process, from 0."""
    count: int = 1
    """How many processes share a batch."""

    def part(self, batch_size: int) -> slice:
        """Return where this process's faces lie in a batch of `batch_size`."""
        return slice(
            batch_size * self.rank // self.count, batch_size * (self.rank + 1) // self.count
        )

    def weight(self, batch_size: int) -> float:
        """Return how much of a batch of `batch_size` is this process's own, 0 to 1."""
        part = self.part(batch_size)
        return float(part.stop - part.start) / batch_size


class Feed(ABC):
    """Draws batches of several people's faces.

    Args:
        people: Whose faces.
        model: Gives the side and the coverage of what the network sees.
        train: Gives the batch size and how much chance there is.
        seed: Seed of the run.
        device: Where the network is.
        share: This process's part of each batch.
    """

    def __init__(
        self,
        people: Sequence[Person],
        *,
        model: ModelSettings,
        train: TrainSettings,
        seed: int,
        device: torch.device,
        share: Share | None = None,
    ) -> None:
        self.people = tuple(people)
        self.model = model
        self.train = train
        self.seed = seed
        self.device = device
        self.share = share or Share()

    @property
    def images_a_batch(self) -> int:
        """Faces in a batch, of all people and all processes together."""
        return self.train.batch_size * len(self.people)

    def batch(self, images_seen: int) -> FaceBatch:
        """Return the batch that comes after `images_seen` images, whatever happened before."""
        part = self.share.part(self.train.batch_size)
        everyone, chances = [], []
        for person, (indices, changes) in zip(self.people, self.chosen(images_seen), strict=True):
            everyone.append(self.cut(person, indices[part], changes.part(part)))
            chances.append(changes.part(part).to(self.device))
        turn = images_seen // self.images_a_batch
        return self.tinted(self.matched(stacked(everyone), chances, turn=turn), chances)

    def chosen(self, images_seen: int) -> list[tuple[Indices, Changes]]:
        """Return which faces of each person come next, and how they are changed."""
        before, count = images_seen // len(self.people), self.train.batch_size
        picks = []
        for person in self.people:
            indices = drawn(
                person.train, start=before, count=count, seed=self.seed, purpose=person.name
            )
            chance = position_seed(self.seed, images_seen, f"changes of {person.name}")
            picks.append((indices, augment.draw(count, self.train, seed=chance)))
        return self.paired(picks, images_seen=images_seen)

    def paired(
        self, picks: list[tuple[Indices, Changes]], *, images_seen: int
    ) -> list[tuple[Indices, Changes]]:
        """Let some faces of one person choose the others' at their place: another leads each turn.

        Whoever leads comes in the usual order, so that everybody's faces all have their turn; and
        a pair is mirrored together, or it would look different ways.
        """
        if not self.train.pose_match:
            return picks
        leader = images_seen // self.images_a_batch % len(self.people)
        indices, lead = picks[leader]
        poses = self.people[leader].poses
        chance = np.random.default_rng(position_seed(self.seed, images_seen, "pairs"))
        is_paired = chance.random(len(indices)) < self.train.pose_match
        followed = []
        for person, (own, changes) in zip(self.people, picks, strict=True):
            if person is self.people[leader] or poses is None or person.poses is None:
                followed.append((own, changes))
                continue
            near = partners(poses[indices], person.poses[person.train], chance=chance)
            mirrored = torch.where(torch.from_numpy(is_paired), lead.mirrored, changes.mirrored)
            followed.append(
                (np.where(is_paired, person.train[near], own), replace(changes, mirrored=mirrored))
            )
        return followed

    def plain(self, person: Person, indices: Indices) -> FaceBatch:
        """Return chosen faces as they are: warped and target alike, (1, B, ...)."""
        return stacked([self.cut(person, indices, augment.unchanged(len(indices)))])

    def warped(self, person: Person, indices: Indices, *, seed: int) -> FaceBatch:
        """Return chosen faces in place, with the input warped, (1, B, ...): for preview sheets."""
        plain = augment.unchanged(len(indices))
        bend = augment.draw(len(indices), self.train, seed=seed).bend
        changes = Changes(**{**vars(plain), "bend": bend})
        return stacked([self.cut(person, indices, changes)])

    def cut(self, person: Person, indices: Indices, changes: Changes) -> FaceBatch:
        """Return chosen faces of one person, changed: (B, ...) without the people's dimension."""
        # In full precision wherever this is called: bfloat16 has no place for coordinates.
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            samples = self.sampled(person, indices, changes)
            images = (samples[:, :, :3] / 127.5).sub_(1)  # (2, B, 3, S, S)
            if self.train.colour_jitter:
                colour = changes.colour.to(images.device).repeat(2, 1)
                images = augment.jitter_colour(images.flatten(0, 1), colour).view_as(images)
            levels = samples[0, :, 3:]
            return FaceBatch(
                warped=images[1],
                target=images[0],
                mask=outline_of(levels),
                features=features_of(levels),
            )

    def matched(self, batch: FaceBatch, chances: Sequence[Changes], *, turn: int) -> FaceBatch:
        """Give some faces the colours of another person's, a different one's in every turn."""
        others = len(chances) - 1
        if not self.train.colour_match or not others:
            return batch
        by = 1 + turn % others
        both = torch.stack([batch.target, batch.warped]).flatten(1, 2)  # (2, P*B, 3, S, S)
        like, like_masks = (one.roll(by, 0).flatten(0, 1) for one in (batch.target, batch.mask))
        changed = augment.match_colours(both, batch.mask.flatten(0, 1), like, like_masks)
        is_matched = torch.cat([one.matched for one in chances])[:, None, None, None]
        target, warped = torch.where(is_matched, changed, both).view(2, *batch.target.shape)
        return replace(batch, target=target, warped=warped)

    def tinted(self, batch: FaceBatch, chances: Sequence[Changes]) -> FaceBatch:
        """Change the colours of what the network is shown, not of what it is to draw."""
        if not self.train.input_jitter:
            return batch
        tints = torch.cat([one.tint for one in chances])
        warped = augment.tinted(batch.warped.flatten(0, 1), tints)
        return replace(batch, warped=warped.view_as(batch.warped))

    @abstractmethod
    def sampled(self, person: Person, indices: Indices, changes: Changes) -> Tensor:
        """Return float32 (2, B, 4, S, S), 0 to 255, on the network's device: targets, inputs."""


class RemapFeed(Feed):
    """Samples on the CPU, out of mapped files."""

    def sampled(self, person: Person, indices: Indices, changes: Changes) -> Tensor:
        """Look up by OpenCV."""
        nodes = augment.look_up_nodes(changes, coverage=self.model.coverage)
        return augment.sample_by_remap(person.pixels, indices, nodes, size_px=self.model.size_px)


class GridFeed(Feed):
    """Samples on a device that holds all crops, so that no picture crosses the bus again."""

    @cached_property
    def held(self) -> dict[str, Tensor]:
        """Everybody's crops, on the device."""
        return {
            person.name: torch.from_numpy(np.array(person.pixels)).to(self.device)
            for person in self.people
        }

    def sampled(self, person: Person, indices: Indices, changes: Changes) -> Tensor:
        """Look up by `grid_sample`."""
        nodes = augment.look_up_nodes(changes.to(self.device), coverage=self.model.coverage)
        places = torch.from_numpy(indices).to(self.device)
        return augment.sample_by_grid(
            self.held[person.name], places, nodes, size_px=self.model.size_px
        )


class StreamedFeed(Feed):
    """Samples on a device that the crops do not fit into: each batch's crops are sent there."""

    def sampled(self, person: Person, indices: Indices, changes: Changes) -> Tensor:
        """Send the crops, then look up by `grid_sample`."""
        nodes = augment.look_up_nodes(changes.to(self.device), coverage=self.model.coverage)
        crops = torch.from_numpy(person.pixels[indices]).to(self.device)
        places = torch.arange(len(indices), device=self.device)
        return augment.sample_by_grid(crops, places, nodes, size_px=self.model.size_px)


def choose_feed(
    people: Sequence[Person],
    *,
    model: ModelSettings,
    train: TrainSettings,
    seed: int,
    device: torch.device,
    share: Share | None = None,
) -> Feed:
    """Return the fastest feed for a device that the crops fit into."""
    size = sum(person.pixels.nbytes for person in people)
    kinds: dict[bool, type[Feed]] = {True: GridFeed, False: StreamedFeed}
    kind = RemapFeed if device.type == "cpu" else kinds[size <= FITS * free_memory(device)]
    return kind(people, model=model, train=train, seed=seed, device=device, share=share)


def free_memory(device: torch.device) -> float:
    """Return a device's free memory, bytes; unbounded where it shares the machine's."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")


def stacked(everyone: Sequence[FaceBatch]) -> FaceBatch:
    """Put single people's batches (B, ...) on top of each other: (P, B, ...)."""
    return FaceBatch(
        warped=torch.stack([one.warped for one in everyone]),
        target=torch.stack([one.target for one in everyone]),
        mask=torch.stack([one.mask for one in everyone]),
        features=torch.stack([one.features for one in everyone]),
    )
