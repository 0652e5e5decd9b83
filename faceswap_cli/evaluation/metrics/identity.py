"""Identity metrics: embeddings of faces against the centroids of identities.

Embeddings are vectors of length 1; the dot product of two is their cosine similarity.
"""

import numpy as np
import numpy.typing as npt

Embeddings = npt.NDArray[np.float64]
"""float64 (N, D), each of length 1, NaN where there is no face."""


def cosine_similarity(
    embeddings: Embeddings, centroid: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the cosine similarities (N,) of faces and a centroid (D,), -1 to 1."""
    return np.asarray(embeddings @ centroid)


def retrieval_hits(
    embeddings: Embeddings, target: npt.NDArray[np.float64], distractors: Embeddings
) -> npt.NDArray[np.float64]:
    """Return 1 for each face that is nearest to the target, 0 for others, NaN without a face (N,).

    Args:
        embeddings: The faces (N, D).
        target: Centroid of the target identity (D,).
        distractors: Centroids of the other identities (P, D).
    """
    nearest = cosine_similarity(embeddings, target) > (embeddings @ distractors.T).max(axis=1)
    return np.where(np.isfinite(embeddings).all(axis=1), nearest.astype(np.float64), np.nan)
