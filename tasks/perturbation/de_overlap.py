"""Are the genes found that differ from control? With a table of predicted tests, or from the predicted change alone.

The metrics on two tables are those of cell-eval 0.8 (Virtual Cell Challenge). Predictors here give mean profiles and no
cells, so that there is no predicted p-value: `de_overlap` and `de_auprc` rank genes by the size of the predicted
change. What is undefined is NaN, where cell-eval says 0: the share found of no gene, and the precision of no call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.profiles import rows_pearson

#: False discovery rate below which a gene is DE.
FDR = 0.05
#: Decimals to which predicted changes are compared: what rounding to float32 leaves of no change is no order.
DECIMALS = 6
#: Least FDR that the areas under curves tell apart.
LEAST_FDR = 1e-10


@dataclass(frozen=True)
class DeTable:
    """Tests of each gene in each perturbation against control.

    Parameters
    ----------
    lfc
        log2 fold change, (n, g).
    fdr
        Adjusted p-value, (n, g); NaN counts as 1.
    """

    lfc: np.ndarray
    fdr: np.ndarray

    @property
    def significant(self) -> np.ndarray:
        """Bool (n, g)."""
        return np.asarray(self.fdr) < FDR

    def ranked(self) -> list[np.ndarray]:
        """The significant genes of each perturbation, the largest absolute fold change first."""
        size = np.nan_to_num(np.abs(self.lfc), nan=-1.0)
        order = np.argsort(-size, axis=1, kind="stable")
        return [row[called[row]] for row, called in zip(order, self.significant, strict=True)]


def overlap_at(true: DeTable, predicted: DeTable, k: int | None = None) -> np.ndarray:
    """Share of the first k true DE genes among the first k predicted ones, float (n,).

    `overlap_at_N` for k None: N is the number of true DE genes. NaN where there are none.
    """
    return _shared(true.ranked(), predicted.ranked(), k, of_predicted=False)


def precision_at(true: DeTable, predicted: DeTable, k: int | None = None) -> np.ndarray:
    """Share of the first k predicted DE genes that are among the first k true ones, float (n,); None: all predicted."""
    return _shared(true.ranked(), predicted.ranked(), k, of_predicted=True)


def direction_match(true: DeTable, predicted: DeTable) -> np.ndarray:
    """Share of the true DE genes whose predicted fold change has the right sign, float (n,)."""
    same = np.sign(true.lfc) == np.sign(predicted.lfc)
    return _mean_over(same, true.significant)


def spearman_lfc(true: DeTable, predicted: DeTable) -> np.ndarray:
    """Spearman correlation of the fold changes of the true DE genes, float (n,); NaN for fewer than two."""
    return np.array(
        [
            _spearman(a[called], b[called])
            for a, b, called in zip(true.lfc, predicted.lfc, true.significant, strict=True)
        ]
    )


def recall(true: DeTable, predicted: DeTable) -> np.ndarray:
    """Share of the true DE genes that are predicted to be DE, float (n,)."""
    return _mean_over(predicted.significant, true.significant)


def spearman_counts(true: DeTable, predicted: DeTable) -> float:
    """Spearman correlation of the numbers of DE genes, over the perturbations that have any; a size of effects."""
    some = true.significant.any(axis=1)
    return _spearman(true.significant.sum(axis=1)[some], predicted.significant.sum(axis=1)[some])


def pr_auc(true: DeTable, predicted: DeTable) -> np.ndarray:
    """Average precision of the true DE genes ranked by predicted FDR, float (n,); NaN where all or none are DE."""
    from sklearn.metrics import average_precision_score

    return _by_fdr(average_precision_score, true, predicted)


def roc_auc(true: DeTable, predicted: DeTable) -> np.ndarray:
    """AUROC of the true DE genes ranked by predicted FDR, float (n,); NaN where all or none are DE."""
    from sklearn.metrics import roc_auc_score

    return _by_fdr(roc_auc_score, true, predicted)


def de_overlap(predicted: np.ndarray, de_genes: Sequence[np.ndarray]) -> np.ndarray:
    """Share of the N true DE genes among the N genes of the largest predicted change, float (n,).

    Of genes tied at the last place the expected share counts, so that no change at all is at chance.

    Parameters
    ----------
    predicted
        Predicted changes from control, (n, g).
    de_genes
        The true DE genes of each perturbation, int arrays; NaN where there are none.
    """
    found = np.full(len(predicted), np.nan)
    for i, (row, own) in enumerate(zip(_sizes(predicted), de_genes, strict=True)):
        n = len(own)
        if n and not np.isnan(row).any():
            last = np.partition(row, len(row) - n)[len(row) - n]
            above, tied = row > last, row == last
            found[i] = (above[own].sum() + tied[own].sum() * (n - above.sum()) / tied.sum()) / n
    return found


def de_auprc(predicted: np.ndarray, de_genes: Sequence[np.ndarray]) -> np.ndarray:
    """Average precision of the true DE genes ranked by the size of the predicted change, float (n,).

    Tied genes enter together: no change at all gives the share of genes that are DE. NaN where all or none are DE.
    """
    from sklearn.metrics import average_precision_score

    found = np.full(len(predicted), np.nan)
    for i, (row, own) in enumerate(zip(_sizes(predicted), de_genes, strict=True)):
        if 0 < len(own) < len(row) and not np.isnan(row).any():
            found[i] = average_precision_score(np.isin(np.arange(len(row)), own), row)
    return found


def _sizes(predicted: np.ndarray) -> np.ndarray:
    return np.round(np.abs(np.asarray(predicted, np.float64)), DECIMALS)


def _shared(true: list[np.ndarray], predicted: list[np.ndarray], k: int | None, of_predicted: bool) -> np.ndarray:
    found = []
    for a, b in zip(true, predicted, strict=True):
        most = len(b) if of_predicted else len(a)
        n = most if k is None else min(k, most)
        found.append(len(np.intersect1d(a[:n], b[:n])) / n if n else np.nan)
    return np.array(found)


def _mean_over(what: np.ndarray, rows: np.ndarray) -> np.ndarray:
    number = rows.sum(axis=1)
    return (what & rows).sum(axis=1) / np.where(number > 0, number, np.nan)


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    from scipy.stats import rankdata

    if len(a) < 2 or np.isnan(a).any() or np.isnan(b).any():
        return float("nan")
    return float(rows_pearson(rankdata(a), rankdata(b)))


def _by_fdr(area: Callable[[np.ndarray, np.ndarray], float], true: DeTable, predicted: DeTable) -> np.ndarray:
    score = -np.log10(np.clip(np.nan_to_num(predicted.fdr, nan=1.0), LEAST_FDR, 1))
    return np.array(
        [
            area(own, row) if 0 < own.sum() < len(own) else np.nan
            for own, row in zip(true.significant, score, strict=True)
        ]
    )
