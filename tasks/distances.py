"""Distances between two groups of cells: E-distance and MMD. For predictors that give cells, not mean profiles alone.

Groups are cells × genes (or coordinates), dense or sparse. E-distance: Peidli et al. 2024 (scPerturb), cell-eval 0.8.
MMD: Bunne et al. 2023 (CellOT).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from tasks.profiles import rows_pearson

Cells = np.ndarray | sp.csr_matrix

#: Widths of CellOT's kernel: while training, and in its evaluation.
GAMMAS = (2.0, 1.0, 0.5, 0.1, 0.01, 0.005)
EVALUATION_GAMMAS = tuple(np.logspace(1, -3, 50).tolist())


def e_distance(x: Cells, y: Cells, squared: bool = False, corrected: bool = False) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'|; 0 for equal groups.

    Parameters
    ----------
    x, y
        (n, g) and (m, g).
    squared
        Squared Euclidean distances (scPerturb); else Euclidean (cell-eval, pertpy).
    corrected
        Leave pairs of a cell with itself out of the within-group means (scPerturb); the distance can then be negative.
        Uncorrected, it is never negative, and grows as groups get smaller.
    """
    between = _mean_distance(x, y, squared)
    return 2 * between - within(x, squared, corrected) - within(y, squared, corrected)


def within(x: Cells, squared: bool = False, corrected: bool = False) -> float:
    """Mean distance of a group's cells; NaN for a single one where `corrected`."""
    n = x.shape[0]
    mean = _mean_distance(x, None, squared)
    if not corrected:
        return mean
    return mean * n / (n - 1) if n > 1 else float("nan")


def pearson_edistance(true: Sequence[Cells], predicted: Sequence[Cells], control: Cells) -> float:
    """Pearson correlation over perturbations of the observed and the predicted E-distance to control (cell-eval).

    Euclidean and uncorrected. NaN where either is constant, or there are fewer than two perturbations.
    """
    spread = within(control)
    found = [
        [2 * _mean_distance(cells, control, False) - within(cells) - spread for cells in groups]
        for groups in (true, predicted)
    ]
    return float(rows_pearson(*np.array(found))) if len(true) > 1 else float("nan")


def mmd_rbf(x: Cells, y: Cells, gammas: Sequence[float] = GAMMAS) -> float:
    """Squared maximum mean discrepancy, mean over kernels exp(-gamma |x - y|²); biased, 0 for equal groups.

    The widths are not scaled to the data: in many dimensions all kernels vanish, and groups differ little.
    """
    from sklearn.metrics.pairwise import euclidean_distances

    x, y = _wide(x), _wide(y)
    of_x, of_y, between = (euclidean_distances(*pair, squared=True) for pair in ((x,), (y,), (x, y)))

    def discrepancy(gamma: float) -> float:
        kernels = [np.exp(-gamma * squares).mean() for squares in (of_x, of_y, between)]
        return kernels[0] + kernels[1] - 2 * kernels[2]

    return float(np.mean([discrepancy(gamma) for gamma in gammas]))


def _mean_distance(x: Cells, y: Cells | None, squared: bool) -> float:
    """Mean over all pairs, those of a cell with itself included; `y` None: within `x`."""
    from sklearn.metrics.pairwise import euclidean_distances

    return float(euclidean_distances(_wide(x), None if y is None else _wide(y), squared=squared).mean())


def _wide(x: Cells) -> Cells:
    return x.astype(np.float64)
