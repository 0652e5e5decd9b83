"""Outliers: faces of a set that would harm training, by type; `find_outliers`."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from faceswap_cli.core.types import AnyArray
from faceswap_cli.faces.curation.crop_features import SetFeatures
from faceswap_cli.faces.dataset import FaceRecord
from faceswap_cli.faces.embedding import SAME_IDENTITY_COSINE

BoolArray = npt.NDArray[np.bool_]
"""bool (N,), one for each face of a set."""

BLUR_RATIO = 0.25
"""A face is blurry below this part of the third quartile of the set's sharpness.

A Gaussian blur of 1.6 px on crops of 256 px has this effect, over the faces of two clips.
"""
DUPLICATE_MAX_DIFF = 2.0
"""Two crops are duplicates if they differ by less than this, of 255 levels (root mean square of
their small gray images), ..."""
DUPLICATE_MAX_BLENDSHAPE_DIFF = 0.2
"""... and by less than this in every blendshape.

Of two clips of people who talk and move all the time, 30 frames a second, 26 and 30 % are.
"""
MAX_CUT_OFF = 0.03
"""A face is cut off if more than this part of it is outside the frame."""
MAX_COVERED = 0.2
"""A face is covered if more than this part of it is behind something: glasses are less."""
BLOCK_SIZE = 512
"""Crops that are compared with all others at a time."""

OUTLIER_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "blurry": "far less sharp than the set's sharpest quarter",
        "duplicate": "nearly the same image as a sharper one",
        "cut-off": "partly outside the frame",
        "covered": "partly behind a hand, hair, or another thing",
        "other-person": "not the person most of the set shows",
    }
)
"""Name of the type, as a user types it -> its meaning."""


def find_outliers(records: Sequence[FaceRecord], features: SetFeatures) -> Mapping[str, BoolArray]:
    """Return, for each of the `OUTLIER_TYPES`, which faces of a set are of it."""
    sharpness = np.array([record.sharpness for record in records])
    other_person = identity_similarity(features.embeddings) < SAME_IDENTITY_COSINE
    return {
        "blurry": find_blurry(sharpness),
        "duplicate": find_duplicates(
            features.gray, np.array([record.blendshapes for record in records]), sharpness
        ),
        "cut-off": np.array([record.cut_off > MAX_CUT_OFF for record in records], dtype=np.bool_),
        "covered": np.array([record.covered > MAX_COVERED for record in records], dtype=np.bool_),
        "other-person": other_person,
    }


def find_blurry(sharpness: AnyArray) -> BoolArray:
    """Return which faces are blurry compared with the others; `sharpness` is (N,)."""
    if not len(sharpness):
        return np.zeros(0, dtype=np.bool_)
    return np.asarray(sharpness < BLUR_RATIO * np.percentile(sharpness, 75), dtype=np.bool_)


def find_duplicates(gray: AnyArray, blendshapes: AnyArray, sharpness: AnyArray) -> BoolArray:
    """Return which faces are duplicates of a sharper one; no two of the rest are duplicates.

    Args:
        gray: Small gray images, (N, K), levels.
        blendshapes: Coefficients, (N, E), 0 to 1.
        sharpness: (N,).
    """
    order = np.argsort(-sharpness, kind="stable")
    unique = np.zeros(0, dtype=np.int64)
    for start in range(0, len(order), BLOCK_SIZE):
        block = order[start : start + BLOCK_SIZE]
        block = block[~_near_duplicates(gray, blendshapes, block, unique).any(axis=1)]
        same = _near_duplicates(gray, blendshapes, block, block)
        is_unique = np.zeros(len(block), dtype=np.bool_)
        for i in range(len(block)):
            is_unique[i] = not (same[i] & is_unique).any()
        unique = np.concatenate([unique, block[is_unique]])
    is_duplicate = np.ones(len(order), dtype=np.bool_)
    is_duplicate[unique] = False
    return is_duplicate


def identity_similarity(embeddings: AnyArray) -> AnyArray:
    """Return each face's cosine similarity to the set's main person, (N,), -1 to 1.

    That person has the most faces around one embedding.

    Args:
        embeddings: SFace's, (N, 128); NaN where unknown, as is the result there.
    """
    known = embeddings[~np.isnan(embeddings[:, 0])]
    if not len(known):
        return np.full(len(embeddings), np.nan)
    # The faces of a track run share embeddings: weight each by the number of its faces.
    distinct, counts = np.unique(known, axis=0, return_counts=True)
    nearby = (distinct @ distinct.T >= SAME_IDENTITY_COSINE) * counts
    center = distinct[nearby.sum(axis=1).argmax()]
    for _ in range(2):
        of_person = known[known @ center >= SAME_IDENTITY_COSINE]
        center = of_person.mean(axis=0)
        center /= np.linalg.norm(center)
    return np.asarray(embeddings @ center)


def _near_duplicates(
    gray: AnyArray, blendshapes: AnyArray, rows: AnyArray, columns: AnyArray
) -> AnyArray:
    """Return which of the faces `rows` are duplicates of which of `columns`, bool (R, C)."""
    a, b = gray[rows].astype(np.float32), gray[columns].astype(np.float32)
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * a @ b.T
    same = np.asarray(squares < DUPLICATE_MAX_DIFF**2 * gray.shape[1])
    for i, j in np.argwhere(same):
        same[i, j] = (
            np.abs(blendshapes[rows[i]] - blendshapes[columns[j]]).max()
            < DUPLICATE_MAX_BLENDSHAPE_DIFF
        )
    return same
