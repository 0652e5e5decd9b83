"""Whose face it is: directions of faces against those of the people they may be.

A direction is what a recognition network makes of a face, a vector of length 1; the product of two
is the cosine of the angle between them. Which network it was does not matter here.
"""

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float64]
"""float64 (N, D), each of length 1, NaN where there is no face."""


def cosine_similarity(
    embeddings: Embeddings, centroid: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the cosine between each face and a person's centre, -1 to 1 (N,)."""
    return np.asarray(embeddings @ centroid)


def retrieval_hits(
    embeddings: Embeddings, target: npt.NDArray[np.float64], distractors: Embeddings
) -> npt.NDArray[np.float64]:
    """Return 1 for each face that is nearest to the wanted person, 0 for the rest (N,).

    Args:
        embeddings: Faces.
        target: The wanted person's centre (D,).
        distractors: The centres of everybody else (P, D).
    """
    nearest = cosine_similarity(embeddings, target) > (embeddings @ distractors.T).max(axis=1)
    return np.where(np.isfinite(embeddings).all(axis=1), nearest.astype(np.float64), np.nan)
