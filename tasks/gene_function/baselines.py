"""What tells genes apart without a network: how much of them there is in the cells, and what they are called."""

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
    from harness.genes import GeneTable

TASK = "gene_function"


class GeneBaseline(TaskBaseline):
    """Something with a vector per gene that is no embedding of cells."""

    @abstractmethod
    def predict(  # type: ignore[override]
        self, genes: GeneTable, columns: np.ndarray, reference: CellData, seed: int
    ) -> np.ndarray:
        """Float32 (n_genes, d).

        Parameters
        ----------
        genes
            The labelled genes.
        columns
            Where they are in the reference cells, int (n_genes,).
        """


@register_model("gene_expression")
class GeneExpression(GeneBaseline):
    """Mean, variance and detection rate of log-normalised expression: does a model know more than how much there is?"""

    spec = baseline_spec(TASK, "gene_expression", "Mean expression")

    def predict(self, genes: GeneTable, columns: np.ndarray, reference: CellData, seed: int) -> np.ndarray:
        """Float32 (n_genes, 3)."""
        values = log_normalise(reference.counts())[:, columns]
        mean = np.asarray(values.mean(axis=0)).ravel()
        square = np.asarray(values.multiply(values).mean(axis=0)).ravel()
        detected = np.asarray((values > 0).mean(axis=0)).ravel()
        return np.stack([mean, np.maximum(square - mean**2, 0), detected], axis=1).astype(np.float32)


@register_model("gene_names")
class GeneNames(GeneBaseline):
    """Letters of the symbol, one to four in a row: what a classifier gets out of families' names."""

    spec = baseline_spec(TASK, "gene_names", "Gene names")
    n_components = 50

    def predict(self, genes: GeneTable, columns: np.ndarray, reference: CellData, seed: int) -> np.ndarray:
        """Float32 (n_genes, 50): principal directions of the counts of letter groups."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import CountVectorizer

        names = [symbol or name for symbol, name in zip(genes.symbols.tolist(), genes.names.tolist(), strict=True)]
        groups = CountVectorizer(analyzer="char_wb", ngram_range=(1, 4), binary=True).fit_transform(names)
        n = max(1, min(self.n_components, min(groups.shape) - 1))
        return TruncatedSVD(n, random_state=0).fit_transform(groups.astype(np.float64)).astype(np.float32)


@register_model("permuted_gene_labels")
class PermutedLabels(GeneExpression):
    """A control: expression, with the labels exchanged among the genes. What it finds is chance."""

    spec = replace(baseline_spec(TASK, "permuted_gene_labels", "Permuted labels"), control=True)
