"""Logistic regression in the manner of CellTypist: two rounds, the second on the genes that counted in the first."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from harness.counts import log_normalise
from harness.registry import register_model
from tasks.annotation.expression import ExpressionClassifier, decision_values
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Standardised values above this are cut, in training and prediction.
CEILING = 10.0


@register_model("celltypist_lr")
class CellTypistLR(ExpressionClassifier):
    """One-against-rest logistic regression by stochastic gradient descent, on genes chosen by a first round of it.

    Domínguez Conde et al., Science 2022: log1p of counts per 10,000; standardised genes cut at 10; the genes with the
    largest absolute coefficients of each class are kept (300 per class) and trained on again; alpha = 1e-4. None of
    CellTypist's code or models is used. Two differences: the first round scales without centring, which keeps it
    sparse (CellTypist's `with_mean=False`), and predictions are per cell, without its vote over clusters.
    """

    spec = baseline_spec(
        "annotation",
        "celltypist_lr",
        "CellTypist-style logistic regression",
        paper="Domínguez Conde et al., Science 2022, doi:10.1126/science.abl5197",
    )

    def __init__(self, top_genes: int = 300, alpha: float = 1e-4, max_iter: int = 1000):
        self.top_genes, self.alpha, self.max_iter = top_genes, alpha, max_iter

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Choose genes, then train on them."""
        from sklearn.preprocessing import StandardScaler

        values = log_normalise(counts)
        genes = np.flatnonzero(np.bincount(values.indices, minlength=values.shape[1]))
        if len(genes) > self.top_genes:
            scaled = StandardScaler(with_mean=False).fit_transform(values[:, genes])
            np.minimum(scaled.data, CEILING, out=scaled.data)
            weight = np.abs(self._train(scaled, labels, seed).coef_)
            top = np.argpartition(weight, -self.top_genes, axis=1)[:, -self.top_genes :]
            genes = genes[np.unique(top)]
        self.genes = genes
        self.scaler = StandardScaler().fit(values[:, genes].toarray())
        self.model = self._train(self._standardised(values), labels, seed)
        self.classes = self.model.classes_

    def _standardised(self, values: csr_matrix) -> np.ndarray:
        return np.minimum(self.scaler.transform(values[:, self.genes].toarray()), CEILING)

    def _train(self, x: np.ndarray | csr_matrix, labels: np.ndarray, seed: int):
        from sklearn.linear_model import SGDClassifier

        model = SGDClassifier(loss="log_loss", alpha=self.alpha, max_iter=self.max_iter, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one that stops before converging is scored as it is
            return model.fit(x, labels)

    def scores(self, counts: csr_matrix) -> np.ndarray:
        """Log-odds of each class against the rest: as probabilities the surest of them would all be 1."""
        return decision_values(self.model, self._standardised(log_normalise(counts)))
