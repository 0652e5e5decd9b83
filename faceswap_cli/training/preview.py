"""Preview grids of a run: inputs, reconstructions and swaps; `write_preview` is the entry point."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training.dataset import IdentityDataset, evenly_spaced
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import SwapModel
from faceswap_models.growing import GrowingModel
from faceswap_models.tensors import to_images

TRAIN_ROWS = 2
"""Training faces of each identity in the grid."""
VALIDATION_ROWS = 3
"""Validation faces of each identity in the grid: the ones to judge quality by."""
TILE_PX = 128
"""Side of an image in the grid."""
STRIP_ROWS = 2
"""Validation faces of each identity on the strip of all growth stages."""
WARP_SEED = 0
"""Previews always have the same warps, so that they can be compared."""


def write_preview(trainer: Trainer, loader: FaceLoader, run: RunFolder, state: TrainState) -> Path:
    """Write a grid of faces and swaps, made with the averaged weights; return its path.

    Args:
        trainer: Gives the averaged weights.
        loader: Gives the faces.
        run: Folder of the grid, and of the growth strip of networks that grow.
        state: How far training is.
    """
    path = run.preview_path(state.images_seen)
    with trainer.ema_weights() as model:
        grid = render_preview_grid(model, loader)
        if isinstance(model, GrowingModel):
            write_growth_strip(model, loader, run)
    image_io.write_png(path, grid)
    return path


def write_growth_strip(model: GrowingModel, loader: FaceLoader, run: RunFolder) -> None:
    """Update the current stage's column in the strip of all growth stages."""
    column = render_growth_column(model, loader)
    image_io.write_png(run.growth_stages / f"{model.growth_stage}.png", column)
    columns = {
        int(path.stem): image_io.read_image(path)
        for path in run.growth_stages.glob("[0-9]*.png")
        if int(path.stem) <= model.growth_stage
    }
    image_io.write_png(run.growth_strip, render_growth_strip(columns, loader))


def render_preview_grid(model: SwapModel, loader: FaceLoader) -> Image:
    """Return a grid: reference | own decoder | other decoder | warped | unwarped.

    The first three are the papers' figure ("Face Swap using Autoencoders & image-to-image
    Translation Techniques", figure 7), with a column for each of the other identities; the last two
    are a warped face and its reconstruction. A row is one face; each identity's rows are together,
    first training faces, then validation faces.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the identities and their faces.
    """
    rows: list[list[Image]] = []
    labels: list[str] = []
    for dataset in loader.datasets:
        train = evenly_spaced(dataset.train_indices, TRAIN_ROWS)
        validation = evenly_spaced(dataset.val_indices, VALIDATION_ROWS)
        rows += _identity_rows(model, loader, dataset, np.concatenate([train, validation]))
        labels += [f"{dataset.name}, training"] * len(train)
        labels += [f"{dataset.name}, validation"] * len(validation)
    return image_io.make_grid(
        rows, side=TILE_PX, columns=_column_captions(len(loader.datasets) - 1), labels=labels
    )


def _column_captions(others: int) -> list[str]:
    """Return the captions of the columns, for `others` identities besides the row's own."""
    decoders = ["other decoder"] if others == 1 else [f"decoder {k + 1}" for k in range(others)]
    return ["reference", "own decoder", *decoders, "warped", "unwarped"]


def render_growth_column(model: SwapModel, loader: FaceLoader) -> Image:
    """Return the swaps of some validation faces as a column, for the strip of all growth stages.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the identities and their faces.
    """
    targets = [*loader.datasets[1:], loader.datasets[0]]
    swaps = [
        image
        for dataset, target in zip(loader.datasets, targets, strict=True)
        for image in to_images(model.swap(_strip_faces(loader, dataset), target.name).image)
    ]
    return np.vstack([image_io.resize_square(image, TILE_PX) for image in swaps])


def render_growth_strip(columns: Mapping[int, Image], loader: FaceLoader) -> Image:
    """Return the strip: original | swaps of each growth stage.

    Args:
        columns: Stage number -> column from `render_growth_column`.
        loader: Gives the originals.
    """
    originals = [
        image for dataset in loader.datasets for image in to_images(_strip_faces(loader, dataset))
    ]
    stages = [np.split(columns[stage], len(originals)) for stage in sorted(columns)]
    return image_io.make_grid(
        list(zip(originals, *stages, strict=True)),
        side=TILE_PX,
        columns=["original", *(f"stage {stage}" for stage in sorted(columns))],
        labels=[
            dataset.name
            for dataset in loader.datasets
            for _ in evenly_spaced(dataset.val_indices, STRIP_ROWS)
        ],
    )


def _strip_faces(loader: FaceLoader, dataset: IdentityDataset) -> Tensor:
    """Return an identity's validation faces of the strip, (N, 3, S, S)."""
    return loader.clean_batch(dataset, evenly_spaced(dataset.val_indices, STRIP_ROWS)).target[0]


def _identity_rows(
    model: SwapModel,
    loader: FaceLoader,
    dataset: IdentityDataset,
    indices: Sequence[int] | np.ndarray,
) -> list[list[Image]]:
    """Return an identity's rows of the grid."""
    batch = loader.warped_batch(dataset, np.asarray(indices, dtype=np.int64), seed=WARP_SEED)
    faces, warped = batch.target[0], batch.warped[0]
    others = [other.name for other in loader.datasets if other.name != dataset.name]
    names = (dataset.name, *others)
    triplet = [faces, *(model.swap_with_detail(faces, name).image for name in names)]
    columns = [*triplet, warped, model.swap_with_detail(warped, dataset.name).image]
    return [list(row) for row in zip(*map(to_images, columns), strict=True)]
