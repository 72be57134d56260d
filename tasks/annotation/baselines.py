"""Plain baselines of annotation: the largest type, and classifiers on principal components of expression."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.registry import register_model
from tasks.annotation.expression import ExpressionClassifier
from tasks.baselines import baseline_spec

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


@register_model("majority")
class Majority(ExpressionClassifier):
    """Every cell is of the largest type of the training cells: the accuracy that says nothing."""

    spec = baseline_spec("annotation", "majority", "Majority class")
    one_type = True

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Count the types."""
        self.classes, sizes = np.unique(labels, return_counts=True)
        self.shares = sizes / sizes.sum()

    def scores(self, counts: csr_matrix) -> np.ndarray:
        """The share of each type among the training cells, for every cell."""
        return np.tile(self.shares, (counts.shape[0], 1))


class ComponentClassifier(ExpressionClassifier):
    """A classifier on principal components of log-normalised HVGs; genes and components of the training cells only."""

    def __init__(self, n_top_genes: int = 2000, n_components: int = 50):
        self.n_top_genes, self.n_components = n_top_genes, n_components

    @abstractmethod
    def classifier(self, n_train: int, seed: int) -> Any:
        """An unfitted scikit-learn classifier with `predict_proba`."""

    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Select genes, find components, train."""
        from sklearn.decomposition import PCA
        from sklearn.pipeline import make_pipeline

        values = log_normalise(counts)
        self.genes = highly_variable(values, self.n_top_genes)
        values = values[:, self.genes]
        n = min(self.n_components, min(values.shape) - 1)
        steps = [PCA(n, svd_solver="arpack", random_state=0)] if n > 0 else []
        self.model = make_pipeline(*steps, self.classifier(len(labels), seed))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one that stops before converging is scored as it is
            self.model.fit(values, labels)
        self.classes = self.model.classes_

    def scores(self, counts: csr_matrix) -> np.ndarray:
        """Probabilities of the classes."""
        return self.model.predict_proba(log_normalise(counts)[:, self.genes])


@register_model("logreg_pca")
class LogisticOnPCA(ComponentClassifier):
    """Logistic regression on standardised principal components."""

    spec = baseline_spec("annotation", "logreg_pca", "Logistic regression on PCA")

    def classifier(self, n_train: int, seed: int) -> Any:
        """Multinomial, L2, C = 1. Components are centred as they are; only their variance is brought to 1."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(with_mean=False), LogisticRegression(max_iter=1000, random_state=seed))


@register_model("knn_pca")
class NeighborsOnPCA(ComponentClassifier):
    """Vote of the nearest training cells (Euclidean) in principal components."""

    spec = baseline_spec("annotation", "knn_pca", "kNN on PCA")

    def __init__(self, n_top_genes: int = 2000, n_components: int = 50, neighbors: int = 10):
        super().__init__(n_top_genes, n_components)
        self.neighbors = neighbors

    def classifier(self, n_train: int, seed: int) -> Any:
        """No more neighbours than training cells; all votes count the same."""
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(min(self.neighbors, n_train))
