"""Co-expression: genes are alike if they vary alike among the reference cells. What every network has to beat."""

from __future__ import annotations

import numpy as np

from harness.counts import log_normalise
from harness.data import CellData
from harness.genes import GeneTable
from harness.model import TaskBaseline
from harness.registry import register_model
from tasks.baselines import baseline_spec
from tasks.gene_names import gene_names


@register_model("coexpression")
class Coexpression(TaskBaseline):
    """A gene's vector is its expression in each cell, standardised: the cosine of two is their Pearson correlation."""

    spec = baseline_spec("gene_relationships", "coexpression", "Co-expression")

    def predict(self, genes: GeneTable, reference: CellData) -> np.ndarray:
        """Standardised log-normalised expression, float64 (n_genes, n_cells), rows of length one.

        Rows of NaN are genes that the cells lack, or whose expression is the same in all of them.
        """
        counts = reference.counts()
        counts = counts[np.diff(counts.indptr) > 0]
        names = gene_names(reference.genes)
        expressed = np.bincount(counts.indices, minlength=counts.shape[1]) > 0
        # The last one stands: the first of the columns that are expressed, as `measured_genes` takes it.
        order = np.lexsort((-np.arange(len(names)), expressed))
        column = {names[i]: i for i in order.tolist()}
        at = np.array([column.get(name, -1) for name in genes.names.tolist()], np.int64)
        found = np.full((len(genes), counts.shape[0]), np.nan)
        values = log_normalise(counts)[:, at[at >= 0]].toarray().astype(np.float64).T
        centred = values - values.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centred, axis=1, keepdims=True)
        constant = np.ptp(values, axis=1, keepdims=True) == 0 if values.shape[1] else np.ones((len(values), 1), bool)
        found[at >= 0] = np.where(constant, np.nan, centred / np.where(constant, 1.0, length))
        return found
