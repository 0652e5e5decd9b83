"""Preview grids of a run: what the network is given, and what it makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from faceswap_cli.core import image_io
from faceswap_cli.core.types import Image
from faceswap_cli.core.workspace import RunFolder
from faceswap_cli.training.dataset import IdentityDataset, evenly_spaced
from faceswap_cli.training.loader import FaceLoader
from faceswap_cli.training.state import TrainState
from faceswap_cli.training.swap_metrics import SwapEvaluator, SwapMetrics
from faceswap_cli.training.trainer import Trainer
from faceswap_models.base import SwapModel
from faceswap_models.growing import GrowingModel
from faceswap_models.tensors import to_images

TRAIN_ROWS = 2
"""Faces of each person on the sheet that are learnt from."""
VALIDATION_ROWS = 3
"""Faces of each person on the sheet that were never learnt from: the ones to judge by."""
TILE_PX = 128
"""Side of a picture on the sheet."""
STRIP_ROWS = 2
"""Held-out faces of each person on the strip of all stages."""
WARP_SEED = 0
"""The sheet's warps are always the same, so that sheets can be compared."""


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A preview that was written, and the metrics of its swaps."""

    path: Path
    swap_metrics: SwapMetrics | str
    """A text says why there are none; it is empty if none were asked for."""


def write_preview(
    trainer: Trainer,
    loader: FaceLoader,
    run: RunFolder,
    state: TrainState,
    swap_evaluator: SwapEvaluator | None = None,
) -> Preview:
    """Write a grid of faces and swaps, made with the averaged weights.

    Args:
        trainer: Lends the weights.
        loader: Gives the faces.
        run: Where the grid goes, and the growth strip of networks that grow.
        state: How far training is.
        swap_evaluator: Measures swaps of validation faces, if given.
    """
    path = run.preview_path(state.images_seen)
    metrics: SwapMetrics | str = ""
    with trainer.ema_weights() as model:
        grid = render_preview_grid(model, loader)
        if isinstance(model, GrowingModel):
            write_growth_strip(model, loader, run)
        if swap_evaluator is not None:
            metrics = swap_evaluator.evaluate(model)
    image_io.write_png(path, grid)
    return Preview(path=path, swap_metrics=metrics)


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
    """Return a sheet: reference | own decoder | other decoder, and beside it what is learnt.

    The first three are the papers' figure ("Face Swap using Autoencoders & image-to-image
    Translation Techniques", figure 7), with a column for each of the others; the last two are a
    warped face and what the own decoder makes of it. A row is one face; each person's rows come
    together, first faces learnt from, then held out.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the people and their faces.
    """
    rows: list[list[Image]] = []
    labels: list[str] = []
    for person in loader.datasets:
        learnt = evenly_spaced(person.train_indices, TRAIN_ROWS)
        held_out = evenly_spaced(person.val_indices, VALIDATION_ROWS)
        rows += _identity_rows(model, loader, person, np.concatenate([learnt, held_out]))
        labels += [f"{person.name}, learnt"] * len(learnt)
        labels += [f"{person.name}, held out"] * len(held_out)
    return image_io.make_grid(
        rows, side=TILE_PX, columns=_column_captions(len(loader.datasets) - 1), labels=labels
    )


def _column_captions(others: int) -> list[str]:
    """Return the captions of a sheet for a person and so many others."""
    each = ["other decoder"] if others == 1 else [f"decoder {turn + 1}" for turn in range(others)]
    return ["reference", "own decoder", *each, "warped", "unwarped"]


def render_growth_column(model: SwapModel, loader: FaceLoader) -> Image:
    """Return the swaps of some held-out faces one below the other, for the strip of all stages.

    Args:
        model: In evaluation mode, without gradients.
        loader: Gives the people and their faces.
    """
    following = [*loader.datasets[1:], loader.datasets[0]]
    swaps = [
        image
        for person, other in zip(loader.datasets, following, strict=True)
        for image in to_images(model.swap(_strip_faces(loader, person), other.name).image)
    ]
    return np.vstack([image_io.resize_square(image, TILE_PX) for image in swaps])


def render_growth_strip(columns: Mapping[int, Image], loader: FaceLoader) -> Image:
    """Return the strip: original | what each stage made of it, by the stage's number.

    Args:
        columns: Each as `render_growth_column` returned it.
        loader: Gives the originals.
    """
    originals = [
        image for person in loader.datasets for image in to_images(_strip_faces(loader, person))
    ]
    stages = [np.split(columns[stage], len(originals)) for stage in sorted(columns)]
    return image_io.make_grid(
        list(zip(originals, *stages, strict=True)),
        side=TILE_PX,
        columns=["original", *(f"stage {stage}" for stage in sorted(columns))],
        labels=[
            person.name
            for person in loader.datasets
            for _ in evenly_spaced(person.val_indices, STRIP_ROWS)
        ],
    )


def _strip_faces(loader: FaceLoader, dataset: IdentityDataset) -> Tensor:
    """Return one person's held-out faces that stand on the strip, (N, 3, S, S)."""
    return loader.clean_batch(dataset, evenly_spaced(dataset.val_indices, STRIP_ROWS)).target[0]


def _identity_rows(
    model: SwapModel,
    loader: FaceLoader,
    dataset: IdentityDataset,
    indices: Sequence[int] | np.ndarray,
) -> list[list[Image]]:
    """Return one person's rows of the sheet."""
    places = np.asarray(indices, dtype=np.int64)
    batch = loader.warped_batch(dataset, places, seed=WARP_SEED)
    shown, warped = batch.target[0], batch.warped[0]
    others = [other.name for other in loader.datasets if other.name != dataset.name]
    triplet = [shown, *(model.swap(shown, name).image for name in (dataset.name, *others))]
    columns = [*triplet, warped, model.swap(warped, dataset.name).image]
    return [list(row) for row in zip(*map(to_images, columns), strict=True)]
