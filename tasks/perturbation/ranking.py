"""Which perturbation made these cells? Candidates ranked by how near their predicted profile is to the observed one.

CellFM paper, "Reverse perturbation prediction in silico"; scGPT's protocol (Cui et al. 2024, issue 87: Euclidean).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tasks.perturbation.conditions import Condition


@dataclass(frozen=True)
class Ranking:
    """Candidates by query.

    Parameters
    ----------
    order
        Int (n_queries, n_candidates): candidates, the nearest first, equally near ones as they were given.
    nearer
        Int (n_queries,): candidates that are nearer than the truth.
    tied
        Int (n_queries,): candidates as near as the truth, itself included.
    """

    order: np.ndarray
    nearer: np.ndarray
    tied: np.ndarray

    @property
    def rank(self) -> np.ndarray:
        """Place of the truth from 1, float (n_queries,); the mean place among those equally near."""
        return self.nearer + (self.tied + 1) / 2

    def hits(self, k: int) -> np.ndarray:
        """1 where the truth is among the first k, float (n_queries,); its chance to be where it is one of several."""
        return np.clip((k - self.nearer) / self.tied, 0.0, 1.0)


def rank_candidates(
    queries: np.ndarray, candidates: np.ndarray, truth: np.ndarray, columns: np.ndarray | None = None
) -> Ranking:
    """Rank candidates by Euclidean distance.

    Parameters
    ----------
    queries, candidates
        Mean profiles, (n_queries, g) and (n_candidates, g).
    truth
        Int (n_queries,): which candidate each query is.
    columns
        Genes that are compared; None: all.
    """
    from scipy.spatial.distance import cdist

    if columns is not None:
        queries, candidates = queries[:, columns], candidates[:, columns]
    # Rounded so that candidates with the same profile are equally near, whatever the order of the sums.
    distance = np.round(cdist(queries, candidates), 9)
    own = distance[np.arange(len(queries)), truth][:, None]
    order = np.argsort(distance, axis=1, kind="stable")
    return Ranking(order, (distance < own).sum(axis=1), (distance == own).sum(axis=1))


def relevant(ranking: Ranking, queries: Sequence[Condition], candidates: Sequence[Condition], k: int) -> np.ndarray:
    """Share of the first k candidates that share a perturbed gene with the truth, float (n_queries,)."""
    shares = np.array([[bool(set(q) & set(c)) for c in candidates] for q in queries], float)
    return np.stack([own[order[:k]].mean() for own, order in zip(shares, ranking.order, strict=True)])
