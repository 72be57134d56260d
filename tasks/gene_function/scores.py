"""Scores of predicted classes and functions of genes."""

from __future__ import annotations

import numpy as np

from tasks.gene_function.labels import GeneLabels

#: Cuts of CAFA's Fmax (Jiang et al. 2016), and of the CellFM tutorial's.
CAFA_CUTS = np.arange(1, 100) / 100
PUBLISHED_CUTS = np.arange(0, 100) / 100


def fold_scores(labels: GeneLabels, scores: np.ndarray, positive: int) -> tuple[dict[str, float], dict[str, float]]:
    """Every score of one fold, NaN where it is not defined, and average precision by class, where it is.

    Parameters
    ----------
    labels
        Of the test genes.
    scores
        Float (n, c); a column of NaN is a class that training knew nothing of, and has no part in it.
    positive
        The class that `auroc` and `auprc` are of, where there are two.
    """
    known = ~np.isnan(scores).any(axis=0)
    told = np.flatnonzero(known & labels.member.any(axis=0) & ~labels.member.all(axis=0))
    precision = dict(zip(told.tolist(), _by_class("precision", labels, scores, told), strict=True))
    if labels.exclusive:
        found = _class_scores(labels, scores, known, positive, precision)
    else:
        found = _function_scores(labels.member[:, known], scores[:, known], precision)
    return found, {labels.classes[c]: value for c, value in precision.items()}


def _class_scores(
    labels: GeneLabels, scores: np.ndarray, known: np.ndarray, positive: int, precision: dict[int, float]
) -> dict[str, float]:
    """Accuracy and macro F1 of the likeliest class; AUROC and average precision, of several classes their mean."""
    from sklearn.metrics import accuracy_score, f1_score

    true = labels.codes
    guess = np.where(known, np.nan_to_num(scores), -np.inf).argmax(axis=1)
    two = len(labels.classes) == 2
    asked = [c for c in precision if not two or c == positive]
    return {
        "accuracy": float(accuracy_score(true, guess)),
        "macro_f1": float(f1_score(true, guess, average="macro", labels=np.unique(true), zero_division=0.0)),
        "auroc": _mean(_by_class("area", labels, scores, np.array(asked, np.int64))),
        "auprc" if two else "macro_auprc": _mean([precision[c] for c in asked]),
    }


def _function_scores(true: np.ndarray, scores: np.ndarray, precision: dict[int, float]) -> dict[str, float]:
    """Average precision over all genes and functions, and by function; CAFA's Fmax and the CellFM tutorial's."""
    from sklearn.metrics import average_precision_score

    micro = float(average_precision_score(true.ravel(), scores.ravel())) if true.any() else float("nan")
    return {
        "auprc_micro": micro,
        "macro_auprc": _mean(list(precision.values())),
        "fmax": fmax(true, scores),
        "fmax_published": fmax_published(true, scores),
    }


def _by_class(what: str, labels: GeneLabels, scores: np.ndarray, classes: np.ndarray) -> list[float]:
    """Average precision or AUROC of some classes, each of them with genes in it and outside."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not len(classes):
        return []
    measure = average_precision_score if what == "precision" else roc_auc_score
    return np.atleast_1d(measure(labels.member[:, classes], scores[:, classes], average=None)).tolist()


def fmax(true: np.ndarray, scores: np.ndarray) -> float:
    """Gene-centric Fmax of CAFA, without propagation to parent terms.

    Precision is the mean over genes that anything is predicted of at a cut, recall over all genes that have a function
    (Radivojac et al. 2013; Jiang et al. 2016); genes without one take no part. NaN without any such gene.

    Parameters
    ----------
    true, scores
        (n, c).
    """
    there = true.any(axis=1)
    true, scores = true[there].astype(bool), scores[there]
    if not len(true):
        return float("nan")
    best = 0.0
    for cut in CAFA_CUTS:
        called = scores >= cut
        hits, calls = (called & true).sum(axis=1), called.sum(axis=1)
        if not calls.any():
            break
        precision, recall = np.mean(hits[calls > 0] / calls[calls > 0]), np.mean(hits / true.sum(axis=1))
        if precision + recall > 0:
            best = max(best, float(2 * precision * recall / (precision + recall)))
    return best


def fmax_published(true: np.ndarray, scores: np.ndarray) -> float:
    """What the CellFM tutorial calls Fmax: the best mean of the F1 of "has it" and of "has it not", over all pairs."""
    flat, cells = true.ravel().astype(bool), scores.ravel()
    n = int(flat.sum())
    if not n:
        return float("nan")
    hits = n - np.searchsorted(np.sort(cells[flat]), PUBLISHED_CUTS)
    false = len(flat) - n - np.searchsorted(np.sort(cells[~flat]), PUBLISHED_CUTS)
    right = len(flat) - n - false  # called to be without it, and so it is
    with np.errstate(invalid="ignore"):
        has, has_not = 2 * hits / (hits + false + n), 2 * right / (2 * right + false + n - hits)
    return float(np.max(np.nan_to_num(has) + np.nan_to_num(has_not)) / 2)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
