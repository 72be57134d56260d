"""Is a predicted perturbation nearer to the observed one than to the others? Ranks, which no common shift can win.

Centroid accuracy: Vinas Torne et al. 2025 (Systema). Discrimination score: cell-eval 0.8 (Virtual Cell Challenge).
Rank score: Wu et al. 2024 (PerturBench). Equally near ones share the mean of their ranks, so that a prediction that is
the same for all perturbations is at chance instead of at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from tasks.profiles import standardised

Distance = Literal["l1", "l2", "cosine"]
Likeness = Literal["rmse", "pearson", "logfc_cosine"]

#: Added to mean expression before its logarithm is taken (PerturBench).
PSEUDOCOUNT = 0.1
#: Decimals to which distances are compared: the order of sums must not break ties.
DECIMALS = 9


def centroid_accuracy(predicted: np.ndarray, centroids: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Share of the other observed centroids that are farther from a prediction than its own, float (n,).

    1 is best, about 0.5 chance. A tie counts as not farther, as in Systema.

    Parameters
    ----------
    predicted
        Mean profiles, (n, g).
    centroids
        Observed mean profiles of all perturbations, training ones included, (m, g).
    own
        Int (n,): which centroid each prediction is of.
    """
    distance, mine = _with_own(np.sqrt(squared_distances(predicted, centroids)), own)
    share = (distance > mine).sum(axis=1) / max(len(centroids) - 1, 1)
    return np.where(np.isnan(mine[:, 0]) | (len(centroids) < 2), np.nan, share)


def discrimination_score(
    predicted: np.ndarray,
    true: np.ndarray,
    own: np.ndarray,
    distance: Distance = "cosine",
    targets: Sequence[Sequence[int]] | None = None,
) -> np.ndarray:
    """1 - rank of the own perturbation among the observed ones, from 0, divided by their number, float (n,).

    1 is best, about 0.5 chance. Cosine does not change when a prediction is scaled; the others can be won by it.

    Parameters
    ----------
    predicted, true
        Changes from control, (n, g) and (m, g).
    own
        Int (n,): which observed one each prediction is of.
    targets
        Per prediction the columns left out, its perturbed genes: their own expression gives the answer away. None: no
        column is.
    """
    found = _distances(np.asarray(predicted, np.float64), np.asarray(true, np.float64), distance, targets)
    found, mine = _with_own(found, own)
    return np.where(np.isnan(mine[:, 0]), np.nan, 1 - _mid_rank(found, mine) / found.shape[1])


def rank_score(
    predicted: np.ndarray, true: np.ndarray, by: Likeness = "rmse", control: np.ndarray | None = None
) -> np.ndarray:
    """Rank of the own prediction among all n, by likeness to the observed profile, divided by n; float (n,).

    Ranks count from 0: 0 is best, (n - 1) / 2n chance. Predictions that are NaN take no part.

    Parameters
    ----------
    predicted, true
        Mean profiles of the same perturbations, (n, g).
    control
        Control mean (g,), for `logfc_cosine`.
    """
    told = np.flatnonzero(~np.isnan(predicted).any(axis=1))
    guess, truth = np.asarray(predicted, np.float64)[told], np.asarray(true, np.float64)[told]
    if by == "rmse":
        distance = np.sqrt(squared_distances(guess, truth))
    elif by == "pearson":
        distance = 1 - np.nan_to_num(standardised(guess) @ standardised(truth).T)
    else:
        assert control is not None
        distance = _distances(log_fold_change(guess, control), log_fold_change(truth, control), "cosine", None)
    found = np.full(len(true), np.nan)
    by_truth, mine = _with_own(distance.T, np.arange(len(told)))
    found[told] = _mid_rank(by_truth, mine) / max(len(told), 1)
    return found


def log_fold_change(profiles: np.ndarray, control: np.ndarray) -> np.ndarray:
    """log2(mean + 0.1) less that of control, (n, g); PerturBench's, on means of what is stored. Below 0 counts as 0."""
    return np.log2(np.maximum(profiles, 0) + PSEUDOCOUNT) - np.log2(np.maximum(control, 0) + PSEUDOCOUNT)


def logfc_cosine(predicted: np.ndarray, true: np.ndarray, control: np.ndarray) -> np.ndarray:
    """Cosine of predicted and observed log fold change, float (n,); NaN where either has no change at all."""
    a, b = log_fold_change(predicted, control), log_fold_change(true, control)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.sum(a * b, axis=1) / np.where(length > 0, length, np.nan)


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of rows, float64 (n, m)."""
    from scipy.spatial.distance import cdist

    return cdist(a, b, "sqeuclidean")


def _distances(a: np.ndarray, b: np.ndarray, kind: Distance, targets: Sequence[Sequence[int]] | None) -> np.ndarray:
    """Distances of rows, without the targets of each row of `a`, (n, m).

    Cosine distance is 1 where either has no change at all: as far from all others as what has nothing in common.
    """
    from scipy.spatial.distance import cdist

    metric = {"l1": "cityblock", "l2": "euclidean", "cosine": "cosine"}[kind]
    if targets is None:
        found = cdist(a, b, metric)
    else:
        a, b, found = a.copy(), b.copy(), np.empty((len(a), len(b)))
        for i, own in enumerate(np.asarray(each, np.int64) for each in targets):
            # 0 in both is no difference and no part of a product; cdist's own weights are far slower.
            held = b[:, own]
            a[i, own], b[:, own] = 0, 0
            found[i] = cdist(a[i : i + 1], b, metric)
            b[:, own] = held
    if kind == "cosine":
        found[np.isnan(found) & ~np.isnan(a).any(axis=1)[:, None]] = 1
    return found


def _with_own(distance: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances rounded, and the one to the own perturbation, (n, m) and (n, 1)."""
    distance = np.round(distance, DECIMALS)
    return distance, distance[np.arange(len(distance)), np.asarray(own, np.int64)][:, None]


def _mid_rank(distance: np.ndarray, mine: np.ndarray) -> np.ndarray:
    """Place from 0 of the own one, the mean place among those equally near, float (n,)."""
    return (distance < mine).sum(axis=1) + ((distance == mine).sum(axis=1) - 1) / 2
