"""Which faces of a set a training is better off without, and why; nothing is changed here."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.curation.crop_features import SetFeatures
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.selection import SAME_IDENTITY_COSINE

BoolArray = npt.NDArray[np.bool_]
"""bool (N,): which faces of a set."""

BLUR_RATIO = 0.25
"""A face is blurry below this part of the sharpness that the set's sharpest quarter begins at.

A Gaussian blur of 1.6 px on a crop of 256 px comes to so much, over the faces of two clips.
"""
DUPLICATE_MAX_DIFF = 2.0
"""Two crops are nearly the same if they differ by less than this, of 255 levels (root mean square
of their small grey pictures), ..."""
DUPLICATE_MAX_BLENDSHAPE_DIFF = 0.2
"""... and by less than this in every coefficient of expression.

Of two clips of people who talk and move all the time, 30 frames a second, 26 and 30 % are.
"""
MAX_CUT_OFF = 0.03
"""A face is cut off if more than this part of it lies outside the frame."""
BLOCK_SIZE = 512
"""Crops that are compared with all others at once."""

OUTLIER_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "blurry": "far less sharp than the set's sharpest quarter",
        "duplicate": "nearly the same picture as a sharper one",
        "cut-off": "partly outside the frame",
        "other-person": "not the person most of the set shows",
    }
)
"""Each flaw by the name a user types, and what it means."""


def find_outliers(records: Sequence[FaceRecord], features: SetFeatures) -> Mapping[str, BoolArray]:
    """Return which of a set's faces have each of the `FLAWS`."""
    sharpness = np.array([record.sharpness for record in records])
    other_person = identity_similarity(features.embeddings) < SAME_IDENTITY_COSINE
    return {
        "blurry": find_blurry(sharpness),
        "duplicate": find_duplicates(
            features.gray, np.array([record.blendshapes for record in records]), sharpness
        ),
        "cut-off": np.array([record.cut_off > MAX_CUT_OFF for record in records], dtype=np.bool_),
        "other-person": other_person,
    }


def find_blurry(sharpness: AnyArray) -> BoolArray:
    """Return which faces are blurry next to the others; `sharpness` is (N,)."""
    if not len(sharpness):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(sharpness < BLUR_RATIO * np.percentile(sharpness, 75), dtype=np.bool_)


def find_duplicates(gray: AnyArray, blendshapes: AnyArray, sharpness: AnyArray) -> BoolArray:
    """Return which faces are nearly the same as another that stays.

    The sharpest stays; none of those that stay is nearly the same as another.

    Args:
        gray: Small pictures, (N, K), levels.
        blendshapes: Coefficients, (N, E), 0 to 1.
        sharpness: (N,).
    """
    order = np.argsort(-sharpness, kind="stable")
    stays = np.zeros(0, dtype=np.int64)
    for start in range(0, len(order), BLOCK_SIZE):
        block = order[start : start + BLOCK_SIZE]
        block = block[~_near_duplicates(gray, blendshapes, block, stays).any(axis=1)]
        twins = _near_duplicates(gray, blendshapes, block, block)
        kept = np.zeros(len(block), dtype=np.bool_)
        for place in range(len(block)):
            kept[place] = not (twins[place] & kept).any()
        stays = np.concatenate([stays, block[kept]])
    marks = np.ones(len(order), dtype=np.bool_)
    marks[stays] = False
    return marks


def identity_similarity(embeddings: AnyArray) -> AnyArray:
    """Return how much each face is like the person most of the set shows, (N,) cosines, -1 to 1.

    That person is who has most faces around one direction.

    Args:
        embeddings: SFace's, (N, 128); NaN where unknown, and so is the likeness there.
    """
    known = embeddings[~np.isnan(embeddings[:, 0])]
    if not len(known):
        return np.full(len(embeddings), np.nan)
    # A face that was followed has its direction many times: each weighs by the faces it stands for.
    different, counts = np.unique(known, axis=0, return_counts=True)
    around = (different @ different.T >= SAME_IDENTITY_COSINE) * counts
    centre = different[around.sum(axis=1).argmax()]
    for _ in range(2):
        of_person = known[known @ centre >= SAME_IDENTITY_COSINE]
        centre = of_person.mean(axis=0)
        centre /= np.linalg.norm(centre)
    return np.asarray(embeddings @ centre)


def _near_duplicates(
    gray: AnyArray, blendshapes: AnyArray, rows: AnyArray, columns: AnyArray
) -> AnyArray:
    """Return which of `rows` faces are nearly the same as which `columns`, bool (S, O)."""
    a, b = gray[rows].astype(np.float32), gray[columns].astype(np.float32)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    same = np.asarray(squares < DUPLICATE_MAX_DIFF**2 * gray.shape[1])
    for i, j in np.argwhere(same):
        same[i, j] = (
            np.abs(blendshapes[rows[i]] - blendshapes[columns[j]]).max()
            < DUPLICATE_MAX_BLENDSHAPE_DIFF
        )
    return same
