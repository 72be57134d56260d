"""Tests of paired differences, and their correction where there are many. Pure functions on arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Up to here all 2**n sign flips are made; above, Wilcoxon's signed-rank test.
EXACT = 14
#: Differences closer to 0 than this are 0; two runs of one sum may differ in the last bit.
SAME = 1e-12


def paired_test(by_block: Array) -> tuple[Array, str]:
    """Two-sided p of each column (n_blocks, m) of paired differences, and the name of the test.

    All 2**n sign flips of the mean up to 14 blocks (Fisher 1935, section 21), Wilcoxon's signed-rank test above
    (Wilcoxon 1945; as `scipy.stats.wilcoxon` does it, blocks without a difference left out).
    """
    from scipy.stats import wilcoxon

    n = len(by_block)
    if n <= EXACT:
        return sign_flip(by_block), "exact sign-flip permutation"
    p = np.ones(by_block.shape[1])
    for j, column in enumerate(np.where(np.abs(by_block) <= SAME, 0.0, by_block).T):
        if column.any():  # one by one: a zero in one column would change scipy's method for all
            p[j] = wilcoxon(column).pvalue
    return p, "Wilcoxon signed-rank"


def sign_flip(by_block: Array) -> Array:
    """Exact two-sided p of the mean of each column (n, m): the share of all 2**n sign flips that reach it."""
    n = len(by_block)
    signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums = np.abs(signs @ by_block)
    return (sums >= sums[0] - SAME * n).mean(axis=0)


def corrected_t(centre: Array, error: Array, n: int) -> Array:
    """Two-sided p of means (m,) with their standard errors, by Student's t; 1 for a mean of 0 without any error."""
    from scipy.stats import t

    with np.errstate(divide="ignore", invalid="ignore"):
        found = 2 * t.sf(np.abs(centre) / error, n - 1)
    return np.where(np.abs(centre) <= SAME, 1.0, found)


def holm(p: Array) -> Array:
    """Holm's step-down correction (Holm 1979) of p values (m,); NaN stays and is not counted."""
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.isfinite(p).sum()]
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return adjusted
