"""Contact sheets of a run: what the network sees, and what it makes of it.

Knows which faces stand where on the sheet; refuses to know when sheets are made or where they go.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from faceswap_cli import pictures
from faceswap_cli.arrays import Image
from faceswap_cli.learning.data import Person, spread
from faceswap_cli.learning.doors import to_images
from faceswap_cli.learning.feed import Feed
from faceswap_models.base import SwapModel

LEARNT_ROWS = 2
"""Faces of each person on the sheet that are learnt from."""
HELD_OUT_ROWS = 3
"""Faces of each person on the sheet that were never learnt from: the ones to judge by."""
TILE_PX = 128
"""Side of a picture on the sheet."""
STRIP_ROWS = 2
"""Held-out faces of each person on the strip of all stages."""
WARP_SEED = 0
"""The sheet's warps are always the same, so that sheets can be compared."""


def preview_sheet(model: SwapModel, feed: Feed) -> Image:
    """Return a sheet: reference | own decoder | other decoder, and beside it what is learnt.

    The first three are the papers' figure ("Face Swap using Autoencoders & image-to-image
    Translation Techniques", figure 7), with a column for each of the others; the last two are a
    warped face and what the own decoder makes of it. A row is one face; each person's rows come
    together, first faces learnt from, then held out.

    Args:
        model: In evaluation mode, without gradients.
        feed: Gives the people and their faces.
    """
    rows: list[list[Image]] = []
    labels: list[str] = []
    for person in feed.people:
        learnt = spread(person.train, LEARNT_ROWS)
        held_out = spread(person.held_out, HELD_OUT_ROWS)
        rows += _rows(model, feed, person, np.concatenate([learnt, held_out]))
        labels += [f"{person.name}, learnt"] * len(learnt)
        labels += [f"{person.name}, held out"] * len(held_out)
    return pictures.sheet(rows, side=TILE_PX, columns=_columns(len(feed.people) - 1), labels=labels)


def _columns(others: int) -> list[str]:
    """Return the captions of a sheet for a person and so many others."""
    each = ["other decoder"] if others == 1 else [f"decoder {turn + 1}" for turn in range(others)]
    return ["reference", "own decoder", *each, "warped", "unwarped"]


def stage_column(model: SwapModel, feed: Feed) -> Image:
    """Return the swaps of some held-out faces one below the other, for the strip of all stages.

    Args:
        model: In evaluation mode, without gradients.
        feed: Gives the people and their faces.
    """
    following = [*feed.people[1:], feed.people[0]]
    swaps = [
        image
        for person, other in zip(feed.people, following, strict=True)
        for image in to_images(model.swap(_shown_on_strip(feed, person), other.name).image)
    ]
    return np.vstack([pictures.resize(image, TILE_PX) for image in swaps])


def stage_strip(columns: Mapping[int, Image], feed: Feed) -> Image:
    """Return the strip: original | what each stage made of it, by the stage's number.

    Args:
        columns: Each as `stage_column` returned it.
        feed: Gives the originals.
    """
    originals = [
        image for person in feed.people for image in to_images(_shown_on_strip(feed, person))
    ]
    stages = [np.split(columns[stage], len(originals)) for stage in sorted(columns)]
    return pictures.sheet(
        list(zip(originals, *stages, strict=True)),
        side=TILE_PX,
        columns=["original", *(f"stage {stage}" for stage in sorted(columns))],
        labels=[person.name for person in feed.people for _ in spread(person.held_out, STRIP_ROWS)],
    )


def _shown_on_strip(feed: Feed, person: Person) -> Tensor:
    """Return one person's held-out faces that stand on the strip, (N, 3, S, S)."""
    return feed.plain(person, spread(person.held_out, STRIP_ROWS)).target[0]


def _rows(
    model: SwapModel, feed: Feed, person: Person, indices: Sequence[int] | np.ndarray
) -> list[list[Image]]:
    """Return one person's rows of the sheet."""
    places = np.asarray(indices, dtype=np.int64)
    batch = feed.warped(person, places, seed=WARP_SEED)
    shown, warped = batch.target[0], batch.warped[0]
    others = [other.name for other in feed.people if other.name != person.name]
    triplet = [shown, *(model.swap(shown, name).image for name in (person.name, *others))]
    columns = [*triplet, warped, model.swap(warped, person.name).image]
    return [list(row) for row in zip(*map(to_images, columns), strict=True)]
