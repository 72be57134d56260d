"""Small classifiers on gene vectors."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

#: The shuffled ones give each gene the vector of another: what is left is not what the vectors say.
HEADS = ("logreg", "logreg_shuffled", "knn", "knn_shuffled", "mlp", "mlp_shuffled")
SHUFFLED = "_shuffled"
NEIGHBORS = 15
HIDDEN = 64


def class_scores(
    head: str, vectors: np.ndarray, member: np.ndarray, train: np.ndarray, test: np.ndarray, exclusive: bool, seed: int
) -> np.ndarray:
    """Probability of each class for the test genes, float64 (n_test, c); NaN for a class no training gene is in.

    Parameters
    ----------
    vectors
        Float (n, d).
    member
        Bool (n, c), the classes of each gene.
    exclusive
        Whether classes exclude each other; if not, each has a classifier of its own (`mlp`: an output of its own).
    """
    from sklearn.preprocessing import StandardScaler

    there = np.flatnonzero(member[train].any(axis=0))
    found = np.full((len(test), member.shape[1]), np.nan)
    if exclusive and len(there) == 1:  # a class whose genes are all of one family is in no other fold
        found[:, there] = 1.0
        return found
    scaler = StandardScaler().fit(vectors[train])
    inputs, asked = scaler.transform(vectors[train]), scaler.transform(vectors[test])
    kind = head.removesuffix(SHUFFLED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that stops before converging is scored as it is
        if exclusive:
            codes = member[train].argmax(axis=1)
            few = bool(member[train][:, there].sum(axis=0).min() < 2)
            model = _model(kind, len(train), seed, few).fit(inputs, codes)
            found[:, model.classes_] = model.predict_proba(asked)
            return found
        if kind == "mlp" and len(there) > 1:
            model = _model(kind, len(train), seed).fit(inputs, member[train][:, there])
            found[:, there] = model.predict_proba(asked)
            return found
        for c in there:
            own = member[train, c]
            found[:, c] = (
                1.0 if own.all() else _model(kind, len(train), seed).fit(inputs, own).predict_proba(asked)[:, 1]
            )
    return found


def _model(kind: str, n_train: int, seed: int, few: bool = False) -> Any:
    """`few`: a class has one training gene, so that none can be kept for validation."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier

    if kind == "logreg":
        return LogisticRegression(max_iter=1000)
    if kind == "knn":
        return KNeighborsClassifier(min(NEIGHBORS, n_train), weights="distance")
    return MLPClassifier(
        (HIDDEN,), alpha=1e-2, max_iter=200, early_stopping=n_train >= 100 and not few, random_state=seed
    )


def shuffled(vectors: np.ndarray, seed: int) -> np.ndarray:
    """The vectors, exchanged among the genes."""
    return vectors[np.random.default_rng([seed, 71]).permutation(len(vectors))]
