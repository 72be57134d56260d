"""Cell vectors laid out in the plane, for the pictures."""

from __future__ import annotations

import numpy as np

UMAP_NEIGHBORS = 15


def lay_out(matrix: np.ndarray) -> np.ndarray:
    """UMAP of vectors (n, d), float32 (n, 2), seed 0; rows of NaN where there is no vector."""
    import warnings

    real = ~np.isnan(matrix).any(axis=1)
    result = np.full((len(matrix), 2), np.nan, np.float32)
    if real.sum() <= 3:  # nothing to lay out
        result[real] = 0
        return result
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        neighbors = min(UMAP_NEIGHBORS, int(real.sum()) - 1)
        init = "spectral" if real.sum() > 20 else "random"
        layout = umap.UMAP(n_neighbors=neighbors, init=init, random_state=0, n_jobs=1)
        result[real] = layout.fit_transform(matrix[real])
    return result
