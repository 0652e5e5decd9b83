"""How well a run does on faces it never learnt from: a number for every backend alike.

Knows what networks make of held-out faces; refuses to know what is done about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from faceswap_cli.training.dataset import IdentityDataset, derive_seed, evenly_spaced
from faceswap_cli.training.loader import FaceLoader
from faceswap_models.base import FaceBatch, SwapModel

MAX_FACES = 48
"""Held-out faces of each person that are looked at; more change the score by less than noise."""
VALIDATION_SEED = 0
"""Held-out losses always meet the same warps and the same chance, so that they can be compared."""


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """What networks make of held-out faces; errors are parts of the full range, 0 to 1."""

    reconstruction_error: Mapping[str, float]
    """Mean absolute error inside the face, shown as the person it is, by person."""
    cycle_error: Mapping[str, float]
    """The same after being shown as somebody else and back, by person."""
    swap_diversity: float
    """How much swaps of different faces differ, as a part of how much the faces do."""
    swap_change: float
    """Mean absolute difference between faces and their swaps, inside the face; 1 where there is
    nobody to swap with."""
    recon_correlation: float
    """Correlation of faces with their reconstructions, -1 to 1; negative means inverted."""
    swap_correlation: float = 1.0
    """Correlation of faces with their swaps, -1 to 1; negative means inverted."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """What groups of parameters minimise, by group, for those that the backend tells of."""

    @property
    def error(self) -> float:
        """The one number runs are compared by: lower is better."""
        every = [*self.reconstruction_error.values(), *self.cycle_error.values()]
        return sum(every) / len(every)


def validate(model: SwapModel, loader: FaceLoader) -> ValidationResult:
    """Look at held-out faces of everybody, unwarped.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the people and their faces.
    """
    people = loader.datasets
    views = {
        person.name: _run_all(model, loader, person, other.name)
        for person, other in zip(people, [*people[1:], people[0]], strict=True)
    }
    return ValidationResult(
        reconstruction_error={
            name: _masked_error(view.reconstructed, view) for name, view in views.items()
        },
        cycle_error={name: _masked_error(view.cycled, view) for name, view in views.items()},
        swap_diversity=_mean([_diversity(view.swapped, view.faces) for view in views.values()]),
        # Shown as themselves is all that one person alone can be.
        swap_change=_mean([_masked_error(view.swapped, view) for view in views.values()])
        if len(people) > 1
        else 1.0,
        recon_correlation=_mean(
            [_correlation(view.reconstructed, view.faces) for view in views.values()]
        ),
        swap_correlation=_mean([_correlation(view.swapped, view.faces) for view in views.values()]),
        losses=compute_validation_losses(model, loader),
    )


def compute_validation_losses(model: SwapModel, loader: FaceLoader) -> dict[str, float]:
    """Return what each group minimises on held-out faces, for the groups the backend tells of."""
    count = min(MAX_FACES, *(len(person.val_indices) for person in loader.datasets))
    size = loader.train.batch_size
    total: dict[str, float] = {}
    torch.manual_seed(derive_seed(VALIDATION_SEED, 0, "held-out losses"))
    for start in range(0, count, size):
        end = min(start + size, count)
        for group, loss in model.validation_losses(
            _validation_batch(loader, count, start, end)
        ).items():
            total[group] = total.get(group, 0.0) + float(loss) * (end - start) / count
    return total


def _validation_batch(loader: FaceLoader, count: int, start: int, end: int) -> FaceBatch:
    """Return everybody's held-out faces from `start` to `end` of `count`, the inputs warped."""
    everyone = [
        loader.warped_batch(
            person,
            evenly_spaced(person.val_indices, count)[start:end],
            seed=VALIDATION_SEED + start,
        )
        for person in loader.datasets
    ]
    names = vars(everyone[0])
    return FaceBatch(
        **{name: torch.cat([getattr(one, name) for one in everyone]) for name in names}
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outputs:
    """One person's held-out faces (N, 3, S, S) in [-1, 1], and what became of them."""

    faces: Tensor
    mask: Tensor
    reconstructed: Tensor
    swapped: Tensor
    cycled: Tensor


def _run_all(
    model: SwapModel, loader: FaceLoader, dataset: IdentityDataset, target: str
) -> _Outputs:
    """Show one person's held-out faces as the person, as another, and back again."""
    indices = evenly_spaced(dataset.val_indices, MAX_FACES)
    size = loader.train.batch_size
    parts = [
        _run_batch(
            model, loader.clean_batch(dataset, indices[start : start + size]), dataset.name, target
        )
        for start in range(0, len(indices), size)
    ]
    names = vars(parts[0])
    return _Outputs(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _run_batch(model: SwapModel, batch: FaceBatch, name: str, target: str) -> _Outputs:
    """Do so with one batch of them."""
    faces = batch.target[0]
    swapped = model.swap(faces, target).image
    own, back = model.swap(faces, name).image, model.swap(swapped, name).image
    return _Outputs(
        faces=faces.cpu(),
        mask=batch.mask[0].cpu(),
        reconstructed=own.float().cpu(),
        swapped=swapped.float().cpu(),
        cycled=back.float().cpu(),
    )


def _masked_error(images: Tensor, outputs: _Outputs) -> float:
    """Return the mean absolute error inside the face, as a part of the full range."""
    difference = (images - outputs.faces).abs().mean(1, keepdim=True) / 2
    return float((difference * outputs.mask).sum() / outputs.mask.sum().clamp(min=1))


def _diversity(images: Tensor, faces: Tensor) -> float:
    """Return the deviation over different images as a part of that over the faces."""
    if len(faces) < 2:
        return 1.0
    return float(images.std(0).mean() / faces.std(0).mean().clamp(min=1e-6))


def _correlation(images: Tensor, faces: Tensor) -> float:
    """Return the correlation of two batches' values."""
    pair = torch.stack([images.flatten(), faces.flatten()])
    return float(torch.corrcoef(pair)[0, 1].nan_to_num())


def _mean(values: Sequence[float]) -> float:
    """Return the mean."""
    return sum(values) / len(values)
