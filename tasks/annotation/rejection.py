"""Are cells of a type that was not in the training recognised as unknown?

Some types are taken out of the training cells, and the test cells are ranked by how sure the classifier is of them:
`rejection_auroc` is the chance that a cell of a known type is surer than one of an unknown (0.5: no idea). scFM-Bench
(Wu et al., Genome Biology 2025) holds out types likewise.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from harness.metrics import row

if TYPE_CHECKING:
    from harness.results import MetricRow
    from harness.task import Split


def choose_held_out(labels: np.ndarray, split: Split, share: float = 0.2, seed: int = 0) -> list[str]:
    """Cell types to take out of the training cells: drawn by `seed`, sorted.

    Drawn of the types that have training and test cells; at least one, and two stay to be learned.

    Parameters
    ----------
    labels
        Cell types of all cells (n,).
    share
        Of these types, rounded.

    Raises
    ------
    InputError
        Fewer than three such types, or a share that is none.
    """
    if not 0 < share < 1:
        raise InputError(f"share of held-out cell types {share}: expected a number between 0 and 1")
    types = np.intersect1d(labels[split.train], labels[split.test])
    types = types[types != ""]
    if len(types) < 3:
        raise InputError(
            f"{len(types)} cell type{'s have' if len(types) != 1 else ' has'} training and test cells; rejection needs "
            "three, one to hold out and two to learn"
        )
    n = min(max(1, round(share * len(types))), len(types) - 2)
    return sorted(np.random.default_rng(seed).choice(types, n, replace=False).tolist())


def without_types(split: Split, labels: np.ndarray, held_out: list[str]) -> Split:
    """The split, and each of its folds, without the training cells of some types."""
    keep = ~np.isin(labels[split.train], held_out)
    excluded = {**split.excluded, "training cells of held-out types": int((~keep).sum())}
    folds = tuple(without_types(fold, labels, held_out) for fold in split.folds)
    return replace(split, train=split.train[keep], excluded=excluded, folds=folds)


def max_probability(scores: np.ndarray) -> np.ndarray:
    """Confidence (n,): the largest score of each cell, be it a probability or a decision value."""
    return np.asarray(scores, np.float64).max(axis=1)


def max_softmax(logits: np.ndarray) -> np.ndarray:
    """Confidence (n,): the largest softmax probability of logits (n, k)."""
    from scipy.special import softmax

    return softmax(np.asarray(logits, np.float64), axis=1).max(axis=1)


def negative_energy(logits: np.ndarray) -> np.ndarray:
    """Confidence (n,): log-sum-exp of logits (n, k), which keeps what the softmax divides out (Liu et al. 2020)."""
    from scipy.special import logsumexp

    return logsumexp(np.asarray(logits, np.float64), axis=1)


def rejection_rows(true: np.ndarray, confidence: np.ndarray, held_out: list[str], head: str) -> list[MetricRow]:
    """`rejection_auroc` of known against held-out cells, and against each held-out type alone.

    Parameters
    ----------
    true
        Labels of the test cells (n,).
    confidence
        The surer of a known type, the larger (n,).
    held_out
        Types that were not in the training.

    Returns
    -------
    Undefined where all cells are known, or none is.
    """
    true = np.asarray(true)
    known = ~np.isin(true, held_out)
    rows = [row("rejection_auroc", _auroc(known, confidence), head=head, n=len(true))]
    for kind in held_out:
        asked = known | (true == kind)
        n = int((true == kind).sum())
        value = _auroc(known[asked], np.asarray(confidence)[asked])
        rows.append(row("rejection_auroc", value, head=head, scope="per-class", key=str(kind), n=n))
    return rows


def _auroc(positive: np.ndarray, score: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(positive, score)) if positive.any() and not positive.all() else None
