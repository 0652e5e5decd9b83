"""`PairLoader`: augmented batches of swap pairs; they depend on the images seen only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from faceswap_cli.pretraining.pairs import VALIDATION_OFFSET, JoinedCrops, SwapPairs
from faceswap_cli.training import augment
from faceswap_cli.training.dataset import (
    IdentityDataset,
    Indices,
    derive_seed,
    shuffled_indices,
)
from faceswap_cli.training.loader import FaceLoader, make_loader, stack_batches
from faceswap_models.base import ModelSettings, TrainSettings
from faceswap_models.degradation import degrade
from faceswap_models.modulated import PairBatch

SETS_FRACTION = 0.25
"""Part of a batch that shows sets of real people, if there are any."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationPair:
    """A swap whose truth is known: a person in no training group, to one who is in one."""

    source: int
    """Index of the crop to swap."""
    truth: int
    """Index of the crop of the same moment that shows the person wanted."""
    person: int
    """Number of the person wanted."""
    reference: int
    """Index of another crop of the person wanted, to look at."""


class PairLoader:
    """Makes batches of pairs: two people in the same moment, chosen by the images seen.

    Args:
        pairs: The crops.
        model: Gives the side and the coverage of what the network sees.
        train: Gives the batch size and the strength of the augmentation.
        seed: Seed of the run.
        device: Device of the network.
        identity: Name of everybody.
        sets: Real people to learn from besides; each has a number after those of the pairs.
    """

    def __init__(
        self,
        pairs: SwapPairs,
        *,
        model: ModelSettings,
        train: TrainSettings,
        seed: int,
        device: torch.device,
        identity: str,
        sets: Sequence[IdentityDataset] = (),
    ) -> None:
        settings = pairs.settings
        crops = JoinedCrops([group.reshape(-1, *group.shape[2:]) for group in pairs.groups])
        # (K M, P); a face is not black on a grid of points
        found = np.concatenate([group[:, :, ::16, ::16].any((2, 3, 4)) for group in pairs.groups])
        is_train = np.repeat(np.array(settings.group_numbers) < VALIDATION_OFFSET, settings.moments)
        people = np.repeat(
            [settings.person_numbers(number) for number in settings.group_numbers],
            settings.moments,
            axis=0,
        )  # (K M, P)
        self.train, self.seed = train, seed
        self._num_drawn = settings.groups * settings.people
        self._sets = sets
        self.num_people = self._num_drawn + len(sets)
        self._people, self._found = people, found
        self._train_moments = np.flatnonzero(is_train & found.any(axis=1))
        self.dataset = IdentityDataset(
            name=identity,
            pixels=crops,  # type: ignore[arg-type]  # as much of an array as is needed
            train_indices=np.flatnonzero((found & is_train[:, None]).ravel()),
            val_indices=np.flatnonzero((found & ~is_train[:, None]).ravel()),
        )
        self.faces: FaceLoader = make_loader(
            [self.dataset, *sets], model=model, train=train, seed=seed, device=device
        )
        self.validation_pairs = self._list_validation_pairs(~is_train)

    @property
    def images_per_step(self) -> int:
        """Pairs in a batch."""
        return self.train.batch_size

    def batch(self, images_seen: int) -> PairBatch:
        """Return the batch that follows after `images_seen` images."""
        count, seed = self.images_per_step, self.seed
        step = images_seen // count
        num_pairs = count - (max(1, round(SETS_FRACTION * count)) if self._sets else 0)
        params = augment.sample_params(
            count, self.train, seed=derive_seed(seed, images_seen, "changes")
        )
        batch = self._pair_batch(step * num_pairs, params.select(slice(num_pairs)))
        if num_pairs < count:
            others = self._set_batch(
                step * (count - num_pairs), params.select(slice(num_pairs, count))
            )
            batch = _join([batch, others])
        seed = derive_seed(seed, images_seen, "degradation")
        return replace(batch, warped=degrade(batch.warped[0], seed=seed)[None])

    def _pair_batch(self, start: int, params: augment.AugmentParams) -> PairBatch:
        """Return the pairs from number `start` on, as many as there are `params`."""
        count, seed = len(params.flip_sign), self.seed
        moments = shuffled_indices(
            self._train_moments, start=start, count=count, seed=seed, purpose="moments"
        )
        rng = np.random.default_rng(derive_seed(seed, start, "pairs"))
        columns = np.array([rng.choice(np.flatnonzero(self._found[one]), 2) for one in moments])
        people = self._people[moments, columns[:, 1]]
        crops = moments[:, None] * self._found.shape[1] + columns  # (B, 2): source, target
        return self._make_batch(crops, people, params)

    def _set_batch(self, start: int, params: augment.AugmentParams) -> PairBatch:
        """Return the faces of sets from number `start` on: nobody else is known in their moment."""
        batches = []
        for index in range(len(params.flip_sign)):
            turn, number = divmod(start + index, len(self._sets))
            dataset = self._sets[number]
            face = shuffled_indices(
                dataset.train_indices, start=turn, count=1, seed=self.seed, purpose=dataset.name
            )
            people = np.array([self._num_drawn + number])
            one = params.select(slice(index, index + 1))
            batches.append(self._make_batch(face[:, None].repeat(2, 1), people, one, dataset))
        return _join(batches)

    def validation_batch(self, pairs: Sequence[ValidationPair]) -> PairBatch:
        """Return pairs without augmentation: `warped` is the input as it is."""
        crops = np.array([[one.source, one.truth] for one in pairs])
        people = np.array([one.person for one in pairs])
        return self._make_batch(crops, people, augment.identity_params(len(pairs)))

    def _make_batch(
        self,
        crops: Indices,
        people: Indices,
        params: augment.AugmentParams,
        dataset: IdentityDataset | None = None,
    ) -> PairBatch:
        """Return the crops of sources (warped) and of targets, changed alike, (1, B, ...)."""
        faces, device, dataset = self.faces, self.faces.device, dataset or self.dataset
        source = stack_batches([faces.make_batch(dataset, crops[:, 0], params)])
        target = stack_batches([faces.make_batch(dataset, crops[:, 1], params)])
        source = faces.apply_input_jitter(source, [params.to(device)])
        numbers: Tensor = augment.to_device(torch.from_numpy(people[None].astype(np.int64)), device)
        return PairBatch(**vars(replace(target, warped=source.warped)), people=numbers)

    def _list_validation_pairs(self, is_validation: "np.ndarray") -> list[ValidationPair]:
        """Return all pairs of a new person and a known one, moment by moment."""
        width = self._found.shape[1]
        shown = np.flatnonzero(self._found)
        people, first = np.unique(self._people.ravel()[shown], return_index=True)
        references = dict(zip(people.tolist(), shown[first].tolist(), strict=True))
        pairs = []
        for moment in np.flatnonzero(is_validation):
            known = self._people[moment] < self.num_people
            for source in np.flatnonzero(self._found[moment] & ~known):
                for target in np.flatnonzero(self._found[moment] & known):
                    person = int(self._people[moment, target])
                    pairs.append(
                        ValidationPair(
                            source=int(moment) * width + int(source),
                            truth=int(moment) * width + int(target),
                            person=person,
                            reference=references[person],
                        )
                    )
        return pairs


def _join(batches: Sequence[PairBatch]) -> PairBatch:
    """Return batches (1, B, ...) as one."""
    names = vars(batches[0])
    return PairBatch(
        **{name: torch.cat([getattr(one, name) for one in batches], dim=1) for name in names}
    )
