"""A stratified part of the cells, for data sets too large for metrics that are quadratic in the cells."""

from __future__ import annotations

import numpy as np


def stratified(rows: np.ndarray, strata: list[np.ndarray], n: int, seed: int) -> np.ndarray:
    """`n` of `rows`, ascending; every stratum keeps its share to within a cell.

    Parameters
    ----------
    rows
        Int (m,).
    strata
        Labels of all cells, by each of which shares are kept; those of `rows` are read.
    """
    if len(rows) <= n:
        return rows
    _, group = np.unique(np.stack([labels[rows] for labels in strata]), axis=1, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(group.ravel()[order], kind="stable")]
    return np.sort(rows[order[np.floor((np.arange(n) + 0.5) * len(rows) / n).astype(np.int64)]])
