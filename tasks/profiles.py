"""Predicted mean profiles against the observed ones, perturbation by perturbation.

Every function takes arrays of perturbations × genes and gives one number per perturbation. What is undefined is NaN: a
correlation with a constant, an error over no gene, anything of a prediction that is NaN.

GEARS (Roohani et al. 2024, cell-gears 0.1.2 `inference.py`), Ahlmann-Eltze et al. 2025 (the most expressed genes),
Vinas Torne et al. 2025 (Systema: changes from the mean perturbation instead of from control).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

#: Genes of a comparison: all, the same int (k,) for every perturbation, or one int array per perturbation.
Genes = np.ndarray | Sequence[np.ndarray] | None

#: Genes of the comparison on the most expressed ones.
TOP_EXPRESSED = 1000
#: Root mean square below which differences of log expression are what rounding to float32 leaves of equal profiles.
CONSTANT = 1e-6


def rows_pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of `a` with that of `b`, float (n,); NaN where either is constant."""
    return np.sum(standardised(a) * standardised(b), axis=-1) if np.shape(a)[-1] else _nan(a)


def standardised(rows: np.ndarray) -> np.ndarray:
    """Rows centred and of length 1, so that products are correlations, float64; NaN for constant rows."""
    centred = np.asarray(rows, np.float64)
    centred = centred - centred.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / np.where(length > CONSTANT * np.sqrt(centred.shape[-1]), length, np.nan)


def pearson_delta(predicted: np.ndarray, true: np.ndarray, reference: np.ndarray, genes: Genes = None) -> np.ndarray:
    """Pearson correlation of the changes from a reference profile, float (n,).

    Parameters
    ----------
    predicted, true
        Mean profiles, (n, g).
    reference
        (g,): the control mean (`pearson_delta`, CellFM's and scGPT's), the mean of the training perturbations' mean
        profiles (`pearson_delta_perturbed`, Systema), or zeros (GEARS' `pearson`, 0.99 where nothing is predicted to
        change).
    genes
        What is compared: all genes, or the DE genes of each perturbation.
    """
    return _each(rows_pearson, predicted - reference, true - reference, genes)


def mse(predicted: np.ndarray, true: np.ndarray, genes: Genes = None) -> np.ndarray:
    """Mean squared error, float (n,)."""
    return _each(lambda a, b: np.mean((a - b) ** 2, axis=-1) if a.shape[-1] else _nan(a), predicted, true, genes)


def mae(predicted: np.ndarray, true: np.ndarray, genes: Genes = None) -> np.ndarray:
    """Mean absolute error, float (n,)."""
    return _each(lambda a, b: np.mean(np.abs(a - b), axis=-1) if a.shape[-1] else _nan(a), predicted, true, genes)


def l2(predicted: np.ndarray, true: np.ndarray, genes: Genes = None) -> np.ndarray:
    """Euclidean distance, float (n,); over `top_expressed` it is the error of Ahlmann-Eltze et al."""
    return _each(lambda a, b: np.linalg.norm(a - b, axis=-1) if a.shape[-1] else _nan(a), predicted, true, genes)


def r2_delta(predicted: np.ndarray, true: np.ndarray, reference: np.ndarray, genes: Genes = None) -> np.ndarray:
    """Share of the variance of the observed change over genes that is explained, float (n,).

    1 is best, 0 a change that is the same in all genes, no bound below; NaN where the observed change is constant.
    """

    def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if not a.shape[-1]:
            return _nan(a)
        spread = np.mean((b - b.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
        return 1 - np.mean((a - b) ** 2, axis=-1) / np.where(spread > CONSTANT**2, spread, np.nan)

    return _each(share, predicted - reference, true - reference, genes)


def direction_shares(
    predicted: np.ndarray, true: np.ndarray, control: np.ndarray, genes: Genes = None
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of genes that change in the right and in the opposite direction, two floats (n,).

    GEARS' `frac_correct_direction` and `frac_opposite_direction`; the rest changes in one of the two alone.
    """

    def signs(same: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        def share(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if not a.shape[-1]:
                return _nan(a)
            met = np.sign(a) == np.sign(b) if same else np.sign(a) * np.sign(b) < 0
            return np.where(np.isnan(a).any(axis=-1), np.nan, met.mean(axis=-1))

        return share

    a, b = predicted - control, true - control
    return _each(signs(True), a, b, genes), _each(signs(False), a, b, genes)


def top_expressed(control: np.ndarray, n: int = TOP_EXPRESSED) -> np.ndarray:
    """The genes of highest control mean, the highest first, int (min(n, g),); the first of equal ones first."""
    return np.argsort(-np.asarray(control), kind="stable")[:n]


def strongest(true: np.ndarray, control: np.ndarray, n: int = 20) -> list[np.ndarray]:
    """The genes of the largest observed absolute change, per perturbation int (min(n, g),)."""
    return list(np.argsort(-np.abs(true - control), axis=-1, kind="stable")[:, :n])


def _each(
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray, genes: Genes
) -> np.ndarray:
    """`measure` on the chosen genes of each row."""
    a, b = np.asarray(a), np.asarray(b)
    if genes is None:
        return measure(a, b)
    if isinstance(genes, np.ndarray) and genes.ndim == 1:
        return measure(a[:, genes], b[:, genes])
    chosen = [np.asarray(own, np.int64) for own in genes]
    return np.array([float(measure(x[None, own], y[None, own])[0]) for x, y, own in zip(a, b, chosen, strict=True)])


def _nan(rows: np.ndarray) -> np.ndarray:
    return np.full(rows.shape[:-1], np.nan)
