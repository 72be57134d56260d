"""How well weights of gene pairs find the true ones: the scores of BEELINE, and those of each TF.

Pratapa et al., Nature Methods 2020, doi:10.1038/s41592-019-0690-6, as the code of its repository computes them today.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NetworkScores:
    """Scores of one ranking of pairs; NaN where no pair is true.

    Parameters
    ----------
    auprc
        Area under the precision-recall curve, by trapezoid.
    auprc_ratio
        That over the share of true pairs.
    early_precision
        Share of true pairs among the first k, k being the number of true pairs, ties at the cut included.
    early_precision_ratio
        That over the share of true pairs; above 1 is better than chance.
    n_true, n_possible
        True pairs, and all pairs.
    """

    auprc: float
    auprc_ratio: float
    early_precision: float
    early_precision_ratio: float
    n_true: int
    n_possible: int


def network_scores(weight: np.ndarray, true: np.ndarray) -> NetworkScores:
    """Scores of all possible pairs.

    Parameters
    ----------
    weight
        (n,), higher is surer. A weight of zero or less is no prediction: early precision never counts it, also not
        where fewer pairs than there are true ones have a weight above zero.
    true
        Bool (n,).
    """
    n, k = len(true), int(true.sum())
    if not k:
        return NetworkScores(np.nan, np.nan, np.nan, np.nan, 0, n)
    from sklearn.metrics import auc, precision_recall_curve

    precision, recall, _ = precision_recall_curve(true, weight)
    area, early, chance = float(auc(recall, precision)), early_precision(weight, true), k / n
    return NetworkScores(area, area / chance, early, early / chance, k, n)


def early_precision(weight: np.ndarray, true: np.ndarray) -> float:
    """Share of true pairs among those of the k highest weights and their ties; 0 where no weight is above zero."""
    predicted = weight > 0
    if not predicted.any():
        return 0.0
    positive = np.sort(weight[predicted])[::-1]
    cut = positive[min(int(true.sum()), len(positive)) - 1]
    return float(true[weight >= cut].mean())


def edge_scores(
    truth: Sequence[tuple[str, str]],
    edges: Sequence[tuple[str, str]],
    weights: np.ndarray,
    *,
    tf_edges: bool = False,
) -> NetworkScores:
    """BEELINE's scores of a list of directed edges with weights.

    The possible pairs are all ordered pairs of the genes in the truth, without self pairs. Edges are ranked by absolute
    weight, the largest of several of one pair; a pair that was not predicted has weight 0.

    Parameters
    ----------
    truth, edges
        (source, target); self pairs, and edges with genes that the truth lacks, are left out.
    tf_edges
        For early precision, pairs that start at a true regulator alone; AUPRC and its ratio are of all either way.
    """
    genes = sorted({gene for edge in truth for gene in edge})
    place = {gene: i for i, gene in enumerate(genes)}
    true, weight = np.zeros((len(genes),) * 2, bool), np.zeros((len(genes),) * 2)
    for source, target in truth:
        true[place[source], place[target]] = True
    for (source, target), value in zip(edges, np.abs(weights).tolist(), strict=True):
        if source in place and target in place:
            at = place[source], place[target]
            weight[at] = max(weight[at], value)
    possible: np.ndarray = ~np.eye(len(genes), dtype=bool)
    whole = network_scores(weight[possible], true[possible])
    if not tf_edges:
        return whole
    possible = possible & (true & possible).any(axis=1, keepdims=True)
    part = network_scores(weight[possible], true[possible])
    return NetworkScores(
        whole.auprc,
        whole.auprc_ratio,
        part.early_precision,
        part.early_precision_ratio,
        part.n_true,
        part.n_possible,
    )


def tf_average_precision(weight: np.ndarray, true: np.ndarray, scored: np.ndarray, min_targets: int) -> np.ndarray:
    """Average precision (step-wise) of each TF's own ranking, float64 (t,); NaN with fewer than `min_targets` targets.

    It is the value itself that stands for a TF, not its ratio to the TF's base rate: models are compared TF by TF,
    where the base rate is the same for all, while a ratio gives most weight to the TFs with fewest targets (one lucky
    first place of 5 targets among 1,500 genes is 60 times chance).

    Parameters
    ----------
    weight, true, scored
        (t, c), see `tasks.gene_relationships.regulation.Universe`.
    """
    from sklearn.metrics import average_precision_score

    found = np.full(len(true), np.nan)
    for row in np.flatnonzero((true & scored).sum(axis=1) >= max(min_targets, 1)):
        of_tf = scored[row]
        found[row] = average_precision_score(true[row, of_tf], weight[row, of_tf])
    return found
