"""`validate`: measurements of reconstructions and swaps of validation faces, for any backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from faceswap_cli.training.dataset import IdentityDataset, derive_seed, evenly_spaced
from faceswap_cli.training.loader import FaceLoader
from faceswap_models.base import FaceBatch, SwapModel

MAX_FACES = 48
"""Validation faces of each identity that are used; more change the result by less than noise."""
VALIDATION_SEED = 0
"""Validation losses always have the same warps and the same randomness, to be comparable."""


@dataclass(frozen=True, kw_only=True)
class ValidationResult:
    """Measurements of validation faces, all inside the face; errors are parts of the full range."""

    reconstruction_error: Mapping[str, float]
    """Mean absolute error of the reconstruction, 0 to 1, by identity."""
    cycle_error: Mapping[str, float]
    """The same after a swap to another identity and back, by identity."""
    swap_diversity: float
    """Deviation over swaps of different faces, as a part of the deviation over the faces."""
    swap_change: float
    """Mean absolute difference between faces and their swaps; 1 with a single identity, which has
    no swaps."""
    recon_correlation: float
    """Correlation of faces with their reconstructions, -1 to 1; negative means inverted."""
    swap_correlation: float = 1.0
    """Correlation of faces with their swaps, -1 to 1; negative means inverted."""
    mean_face_error: float = 1.0
    """Mean absolute error, 0 to 1, of the same face for every input: the mean of the faces."""
    losses: Mapping[str, float] = field(default_factory=dict)
    """Validation loss by parameter group, for the groups that the backend computes it for."""

    @property
    def is_learned(self) -> bool:
        """Whether reconstructions follow their input: they are better than the mean face.

        Before, diversity and correlations are those of initial weights.
        """
        error = sum(self.reconstruction_error.values()) / len(self.reconstruction_error)
        return error < self.mean_face_error

    @property
    def error(self) -> float:
        """The validation error that runs are compared by: lower is better."""
        errors = [*self.reconstruction_error.values(), *self.cycle_error.values()]
        return sum(errors) / len(errors)


def validate(model: SwapModel, loader: FaceLoader) -> ValidationResult:
    """Measure reconstructions, swaps and cycles of unwarped validation faces of each identity.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the identities and their faces.
    """
    datasets = loader.datasets
    outputs = {
        dataset.name: _run_all(model, loader, dataset, target.name)
        for dataset, target in zip(datasets, [*datasets[1:], datasets[0]], strict=True)
    }
    return ValidationResult(
        reconstruction_error={
            name: _masked_error(one.reconstructed, one) for name, one in outputs.items()
        },
        cycle_error={name: _masked_error(one.cycled, one) for name, one in outputs.items()},
        swap_diversity=_mean([_diversity(one.swapped, one) for one in outputs.values()]),
        # A single identity is only ever reconstructed.
        swap_change=_mean([_masked_error(one.swapped, one) for one in outputs.values()])
        if len(datasets) > 1
        else 1.0,
        recon_correlation=_mean([_correlation(one.reconstructed, one) for one in outputs.values()]),
        swap_correlation=_mean([_correlation(one.swapped, one) for one in outputs.values()]),
        mean_face_error=_mean([_mean_face_error(one) for one in outputs.values()]),
        losses=compute_validation_losses(model, loader),
    )


def compute_validation_losses(model: SwapModel, loader: FaceLoader) -> dict[str, float]:
    """Return the validation loss of each parameter group that the backend computes it for."""
    count = min(MAX_FACES, *(len(dataset.val_indices) for dataset in loader.datasets))
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
    """Return each identity's validation faces from `start` to `end` of `count`, inputs warped."""
    batches = [
        loader.warped_batch(
            dataset,
            evenly_spaced(dataset.val_indices, count)[start:end],
            seed=VALIDATION_SEED + start,
        )
        for dataset in loader.datasets
    ]
    names = vars(batches[0])
    return FaceBatch(**{name: torch.cat([getattr(one, name) for one in batches]) for name in names})


@dataclass(frozen=True, kw_only=True, eq=False)
class _Outputs:
    """One identity's validation faces (N, 3, S, S) in [-1, 1], and their outputs."""

    faces: Tensor
    mask: Tensor
    """(N, 1, S, S): 1 inside the face, 0 outside."""
    reconstructed: Tensor
    swapped: Tensor
    cycled: Tensor


def _run_all(
    model: SwapModel, loader: FaceLoader, dataset: IdentityDataset, target: str
) -> _Outputs:
    """Reconstruct one identity's validation faces, and swap them to `target` and back."""
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
    """Do the same with one batch."""
    faces = batch.target[0]
    swapped = model.swap(faces, target).image
    reconstructed, cycled = model.swap(faces, name).image, model.swap(swapped, name).image
    return _Outputs(
        faces=faces.cpu(),
        mask=batch.mask[0].cpu(),
        reconstructed=reconstructed.float().cpu(),
        swapped=swapped.float().cpu(),
        cycled=cycled.float().cpu(),
    )


def _masked_error(images: Tensor, outputs: _Outputs) -> float:
    """Return the mean absolute error inside the face, as a part of the full range."""
    difference = (images - outputs.faces).abs().mean(1, keepdim=True) / 2
    return float((difference * outputs.mask).sum() / outputs.mask.sum().clamp(min=1))


def _mean_face_error(outputs: _Outputs) -> float:
    """Return the mean absolute error of the mean of the faces."""
    return _masked_error(outputs.faces.mean(0, keepdim=True).expand_as(outputs.faces), outputs)


def _diversity(images: Tensor, outputs: _Outputs) -> float:
    """Return the deviation over different images as a part of that over the faces.

    Inside the face, as everything here: backgrounds may be unconstrained, and then are noise.
    """
    if len(outputs.faces) < 2:
        return 1.0
    ours = _masked_deviation(images, outputs.mask)
    return ours / max(_masked_deviation(outputs.faces, outputs.mask), 1e-6)


def _masked_deviation(images: Tensor, mask: Tensor) -> float:
    """Return each pixel's deviation over the images whose face it is in, averaged over pixels."""
    weight = mask.sum(0)
    mean = (images * mask).sum(0) / weight.clamp(min=1e-6)
    variance = ((images - mean).square() * mask).sum(0) / weight.clamp(min=1e-6)
    return float((variance.sqrt().mean(0) * weight).sum() / weight.sum().clamp(min=1e-6))


def _correlation(images: Tensor, outputs: _Outputs) -> float:
    """Return the correlation of the values of images and faces, inside the face."""
    inside = outputs.mask.expand_as(images) > 0.5
    pair = torch.stack([images[inside], outputs.faces[inside]])
    return float(torch.corrcoef(pair)[0, 1].nan_to_num())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
