"""The genes that tell a drug's cells from untreated ones. They define metrics; no method sees them."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from harness.errors import InputError

#: Decimals of a mean, a deviation or a statistic: what differs by less is equal, whatever the order of the sums.
DECIMALS = 9


def marker_genes(values: sp.csr_matrix | np.ndarray, treated: np.ndarray, absolute: bool = True) -> np.ndarray:
    """Genes by how strongly they tell treated from control cells, the strongest first, int64 (g,).

    By the t statistic with unequal variances (`t-test` of scanpy's `rank_genes_groups`); tied genes in their own order,
    those without a difference last. A single cell has no variance and takes that of the other side; of two single
    cells the difference counts.

    Parameters
    ----------
    values
        Log-normalised expression, (n, g).
    treated
        Bool (n,).
    absolute
        By the absolute statistic. Else, as scanpy does by default, genes that rise come first and those that fall last:
        with few markers, a drug that shuts genes off would hardly be seen.

    Raises
    ------
    InputError
        No treated or no control cell.
    """
    treated = np.asarray(treated, bool)
    sizes = [int(treated.sum()), int((~treated).sum())]
    if not all(sizes):
        raise InputError(f"marker genes: {sizes[0]} treated and {sizes[1]} control cells; both are needed")
    cells = sp.csr_matrix(values, dtype=np.float64)
    (a, of_a), (b, of_b) = (_moments(cells[side]) for side in (treated, ~treated))
    of_a, of_b = (of_b if of_a is None else of_a), (of_a if of_b is None else of_b)
    difference = a - b
    if of_a is None or of_b is None:
        return _order(difference, absolute)
    error = np.sqrt(np.round(of_a / sizes[0] + of_b / sizes[1], 2 * DECIMALS))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = difference / error
    return _order(np.where(np.round(difference, DECIMALS) == 0, 0.0, t), absolute)


def _moments(cells: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean and sample variance of each gene, float64 (g,); no variance for one cell."""
    n, g = cells.shape
    mean = np.asarray(cells.sum(axis=0)).ravel() / n
    if n == 1:
        return mean, None
    squares = np.bincount(cells.indices, (cells.data - mean[cells.indices]) ** 2, minlength=g)
    zeros = n - np.bincount(cells.indices, minlength=g)
    return mean, (squares + zeros * mean**2) / (n - 1)


def _order(strength: np.ndarray, absolute: bool) -> np.ndarray:
    return np.argsort(-np.round(np.abs(strength) if absolute else strength, DECIMALS), kind="stable")
