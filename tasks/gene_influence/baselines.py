"""What ranks genes without a network: how they vary with the perturbed gene, how much there is of them, and chance."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.counts import log_normalise
from harness.model import TaskBaseline
from harness.registry import register_model
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from harness.data import CellData

TASK = "gene_influence"


class InfluenceBaseline(TaskBaseline):
    """Something that says how much a gene influences the others."""

    @abstractmethod
    def predict(  # type: ignore[override]
        self, data: CellData, cells: CellData, columns: np.ndarray, seed: int
    ) -> np.ndarray:
        """Float64 (n_vars,), NaN where it is not defined.

        Parameters
        ----------
        data
            All cells.
        cells
            Those that express the perturbed gene, at most as many as a network reads.
        columns
            Columns of the perturbed gene, int.
        """


@register_model("influence_correlation")
class InfluenceCorrelation(InfluenceBaseline):
    """Absolute Pearson correlation with the perturbed gene, log-normalised, over all cells with a count."""

    spec = baseline_spec(TASK, "influence_correlation", "Correlation with the perturbed gene")

    def predict(self, data: CellData, cells: CellData, columns: np.ndarray, seed: int) -> np.ndarray:
        """See `InfluenceBaseline.predict`; NaN for genes that do not vary."""
        n, own, own_square = 0, 0.0, 0.0
        total, square, product = np.zeros((3, data.n_vars))
        for _, counts in data.blocks():
            counts = counts[np.diff(counts.indptr) > 0]
            values = log_normalise(counts).astype(np.float64)
            gene = np.log1p(np.expm1(values[:, columns].toarray()).sum(axis=1))
            n, own, own_square = n + len(gene), own + gene.sum(), own_square + (gene**2).sum()
            total += np.asarray(values.sum(axis=0)).ravel()
            square += np.asarray(values.multiply(values).sum(axis=0)).ravel()
            product += values.T @ gene
        spread, own_spread = square - total**2 / n, own_square - own**2 / n
        # Rounding leaves a trace of variance where there is none.
        varies = (spread > 1e-9 * square) & (own_spread > 1e-9 * own_square)
        scale = np.sqrt(np.where(varies, spread * own_spread, 1.0))
        return np.where(varies, np.abs(product - total * own / n) / scale, np.nan)


@register_model("influence_expression")
class InfluenceExpression(InfluenceBaseline):
    """Mean log-normalised expression in the cells that express the perturbed gene: the same genes for every one."""

    spec = baseline_spec(TASK, "influence_expression", "Most expressed genes")

    def predict(self, data: CellData, cells: CellData, columns: np.ndarray, seed: int) -> np.ndarray:
        """See `InfluenceBaseline.predict`."""
        return mean_expression(cells)


@register_model("influence_random")
class InfluenceRandom(InfluenceBaseline):
    """A control: a random number for each gene."""

    spec = replace(baseline_spec(TASK, "influence_random", "Random genes"), control=True)

    def predict(self, data: CellData, cells: CellData, columns: np.ndarray, seed: int) -> np.ndarray:
        """See `InfluenceBaseline.predict`."""
        return np.random.default_rng([seed, 41, int(columns[0])]).random(data.n_vars)


def mean_expression(cells: CellData) -> np.ndarray:
    """Mean of log-normalised expression, float64 (n_vars,)."""
    values = log_normalise(cells.counts())
    return np.asarray(values.sum(axis=0, dtype=np.float64)).ravel() / cells.n_obs
