"""The cheap way in for gene vectors: ridge regression from the perturbed genes' vectors to the change of expression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.perturbation.conditions import Condition
from tasks.perturbation.problem import Problem

#: Penalties tried, relative to the mean squared length of a training vector.
PENALTIES = np.logspace(-3, 3, 13)


def perturbation_vectors(
    conditions: Sequence[Condition], vectors: dict[str, np.ndarray], fallback: np.ndarray
) -> np.ndarray:
    """The sum of the perturbed genes' vectors, float64 (n, d); `fallback` (d,) for a gene that has none."""
    return np.stack([sum((vectors.get(gene, fallback) for gene in c), np.zeros(len(fallback))) for c in conditions])


def ridge_on_vectors(problem: Problem, vectors: dict[str, np.ndarray]) -> np.ndarray:
    """Predicted mean profiles, float64 (n_test, g).

    Vectors are centred on the training conditions and scaled to a mean squared length of 1, so that no network gains
    or loses by its scale or width. The change from control is regressed on them with an intercept; the penalty is the
    one of the smallest leave-one-condition-out error. A condition whose vector says nothing gets the mean change of
    the training conditions. A gene without a vector has the mean vector of the training genes.

    Parameters
    ----------
    vectors
        Perturbed gene -> vector (d,); genes without one are not in it.
    """
    from sklearn.linear_model import RidgeCV

    learned = [gene for condition in problem.known for gene in condition if gene in vectors]
    fallback = np.mean([vectors[gene] for gene in learned or sorted(vectors)], axis=0)
    known = perturbation_vectors(problem.known, vectors, fallback)
    test = perturbation_vectors(problem.test, vectors, fallback)
    centre = known.mean(axis=0)
    scale = np.sqrt(np.mean(np.sum((known - centre) ** 2, axis=1))) or 1.0
    changes = np.stack([problem.cells.mean(c) for c in problem.known]) - problem.control
    model = RidgeCV(alphas=PENALTIES).fit((known - centre) / scale, changes)
    return problem.control + model.predict((test - centre) / scale).reshape(len(problem.test), -1)
