"""What reads an embedding: a classifier on frozen cell vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Head -> what it is, for help and board.
HEADS = {
    "knn": "k nearest neighbours (Euclidean)",
    "centroid": "nearest mean of the training cells of a type (Euclidean)",
    "logreg": "logistic regression on standardised dimensions",
    "svm": "linear SVM, one against rest, C = 1, on standardised dimensions",
    "mlp": "one hidden layer of 128 on standardised dimensions; the CellFM paper calls this zero-shot",
}


def make_head(name: str, n_train: int, neighbors: int, seed: int) -> Any:
    """An unfitted scikit-learn classifier.

    Parameters
    ----------
    name
        Of `HEADS`.
    n_train
        Number of training cells; no more neighbours than that are asked for.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    if name == "knn":
        return KNeighborsClassifier(min(neighbors, n_train))
    if name == "centroid":
        return NearestCentroid()
    trained = {
        "logreg": LogisticRegression(max_iter=1000, random_state=seed),
        "svm": LinearSVC(C=1.0, random_state=seed),
        "mlp": MLPClassifier((128,), alpha=1e-3, max_iter=200, random_state=seed),
    }
    return make_pipeline(StandardScaler(), trained[name])


def class_scores(head: Any, vectors: np.ndarray) -> np.ndarray:
    """Probabilities, or decision values where a head has none, of each of `head.classes_`; float (n, k)."""
    if hasattr(head, "predict_proba"):
        return np.asarray(head.predict_proba(vectors))
    values = np.asarray(head.decision_function(vectors))
    return values if values.ndim == 2 else np.column_stack([-values, values])
