"""The baseline of the annotation task: a linear SVM on expression, which beats most models in published tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.registry import register_model
from tasks.annotation.expression import ExpressionClassifier, decision_values
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@register_model("svm")
class SVM(ExpressionClassifier):
    """Linear SVM (one against rest, C = 1) on log-normalised HVGs, selected on the training cells only.

    Abdelaal et al., Genome Biology 2019: best overall of 22 classifiers.
    """

    spec = baseline_spec(
        "annotation",
        "svm",
        "SVM on expression",
        paper="Abdelaal et al., Genome Biology 2019, doi:10.1186/s13059-019-1795-z",
    )

    def __init__(self, n_top_genes: int = 2000):
        self.n_top_genes = n_top_genes

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Select genes, scale them to unit variance, train."""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        train = log_normalise(counts)
        self.genes = highly_variable(train, self.n_top_genes)
        self.model = make_pipeline(StandardScaler(with_mean=False), LinearSVC(C=1.0, random_state=seed))
        self.classes = self.model.fit(train[:, self.genes], labels).classes_

    def scores(self, counts: csr_matrix) -> np.ndarray:
        """Distances from the hyperplane of each class; no probabilities."""
        return decision_values(self.model, log_normalise(counts)[:, self.genes])
