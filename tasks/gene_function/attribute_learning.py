"""Attribute Learning Index: do clusters of gene vectors follow a known grouping?"""

from __future__ import annotations

import numpy as np


def attribute_learning_index(clusters: np.ndarray, groups: np.ndarray) -> float:
    """Mean of adjusted Rand index, Fowlkes-Mallows index and normalised mutual information (GeneRAIN, 2024).

    Parameters
    ----------
    clusters, groups
        (n,).
    """
    from sklearn.metrics import adjusted_rand_score, fowlkes_mallows_score, normalized_mutual_info_score

    return float(
        np.mean(
            [
                adjusted_rand_score(groups, clusters),
                fowlkes_mallows_score(groups, clusters),
                normalized_mutual_info_score(groups, clusters),
            ]
        )
    )


def cluster_genes(vectors: np.ndarray, n_clusters: int, seed: int) -> np.ndarray:
    """KMeans, ten starts, int (n,). How the paper clusters is not in its code: this is ours."""
    from sklearn.cluster import KMeans

    return KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(vectors)


def chance_index(clusters: np.ndarray, groups: np.ndarray, seed: int, draws: int = 20) -> float:
    """The index with the groups permuted among the genes, mean of some draws: it is not 0, Fowlkes-Mallows is not."""
    rng = np.random.default_rng([seed, 5])
    return float(np.mean([attribute_learning_index(clusters, rng.permutation(groups)) for _ in range(draws)]))
