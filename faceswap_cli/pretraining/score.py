"""Swaps of validation pairs against their truth: `score_pairs`, and a grid to look at."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.evaluation.metrics.reconstruction import cropped_ssim, psnr
from faceswap_cli.pretraining.loader import PairLoader, ValidationPair
from faceswap_models.modulated import ModulatedAutoencoder
from faceswap_models.tensors import to_images, to_masks

MAX_PAIRS = 96
"""Validation pairs that are scored; more change the score by less than noise."""
GRID_ROWS = 8
TILE_PX = 128
"""Side of an image in the grid."""


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """Swaps against the truth, inside the face, means over validation pairs."""

    ssim: float
    """-1 to 1."""
    psnr: float
    """dB."""


def score_pairs(model: ModulatedAutoencoder, loader: PairLoader) -> PairScore:
    """Score swaps of people whom training has not seen to people whom it has.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the pairs.
    """
    scores = []
    for pairs in _split(_choose(loader.validation_pairs, MAX_PAIRS), loader.images_per_step):
        batch = loader.validation_batch(pairs)
        swaps = to_images(model.swap_to(batch.warped[0], batch.people[0]).image)
        truths, masks = to_images(batch.target[0]), to_masks(batch.mask[0])
        for swap, truth, mask in zip(swaps, truths, masks, strict=True):
            scores.append((cropped_ssim(swap, truth, mask), psnr(swap, truth, mask)))
    ssim, decibels = np.mean(scores, axis=0).tolist()
    return PairScore(ssim=ssim, psnr=decibels)


def render_pair_grid(model: ModulatedAutoencoder, loader: PairLoader) -> Image:
    """Return a grid: input | person wanted | swap | truth | swap to the mean of all people.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the pairs.
    """
    rows = []
    for pair in _choose(loader.validation_pairs, GRID_ROWS):
        reference = ValidationPair(
            source=pair.reference, truth=pair.reference, person=pair.person, reference=0
        )
        batch = loader.validation_batch([pair, reference])
        faces, targets = to_images(batch.warped[0]), to_images(batch.target[0])
        [swap, _] = to_images(model.swap_to(batch.warped[0], batch.people[0]).image)
        [mean, _] = to_images(model.swap(batch.warped[0], model.identities[0]).image)
        rows.append([faces[0], faces[1], swap, targets[0], mean])
    columns = ["input", "wanted", "swap", "truth", "mean person"]
    return image_io.make_grid(rows, side=TILE_PX, columns=columns)


def _choose(pairs: Sequence[ValidationPair], count: int) -> list[ValidationPair]:
    """Return at most `count` pairs, evenly spaced."""
    positions = np.linspace(0, len(pairs) - 1, min(count, len(pairs))).round().astype(int)
    return [pairs[position] for position in positions]


def _split(pairs: Sequence[ValidationPair], size: int) -> list[Sequence[ValidationPair]]:
    """Return the pairs in parts of `size`."""
    return [pairs[start : start + size] for start in range(0, len(pairs), size)]
