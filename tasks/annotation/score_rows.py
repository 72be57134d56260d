"""Scores of annotation beyond labels: ranking by class scores, accuracy of each class, and cells left unassigned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InternalError
from harness.metrics import row
from tasks.annotation.scmap import UNASSIGNED

if TYPE_CHECKING:
    from harness.results import MetricRow


def score_rows(true: np.ndarray, classes: np.ndarray, scores: np.ndarray, head: str) -> list[MetricRow]:
    """`macro_auprc` and `auroc` over the true types, one against the rest, and `auprc` of each (scikit-learn's).

    AUPRC is the average precision. A type that no class stands for (absent from training) has an undefined `auprc` and
    is not in the means, nor is `auroc` defined where all cells are of one type.

    Parameters
    ----------
    true
        Labels (n,).
    classes
        Names (k,) of the columns of `scores`.
    scores
        Probabilities or decision values (n, k); their order within a column is all that counts.

    Raises
    ------
    InternalError
        Shapes do not fit, or a score is NaN.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, classes = np.asarray(scores, np.float64), np.asarray(classes)
    if scores.shape != (len(true), len(classes)) or np.isnan(scores).any():
        raise InternalError(f"{head}: class scores are {scores.shape} for {len(true)} cells and {len(classes)} classes")
    column = {name: i for i, name in enumerate(classes.tolist())}
    types, sizes = np.unique(true, return_counts=True)
    rows, precision, area = [], [], []
    for kind, size in zip(types.tolist(), sizes.tolist(), strict=True):
        found = None
        if kind in column:
            positive, score = true == kind, scores[:, column[kind]]
            found = float(average_precision_score(positive, score))
            precision.append(found)
            if size < len(true):
                area.append(float(roc_auc_score(positive, score)))
        rows.append(row("auprc", found, head=head, scope="per-class", key=kind, n=size))
    n = len(true)
    overall = [
        row("macro_auprc", float(np.mean(precision)) if precision else None, head=head, n=n),
        row("auroc", float(np.mean(area)) if area else None, head=head, n=n),
    ]
    return overall + rows


def class_accuracy_rows(true: np.ndarray, predicted: np.ndarray, head: str) -> list[MetricRow]:
    """`class_accuracy` of each true type: the share of its cells that are labelled right, the diagonal of a confusion
    table whose rows add up to 1.
    """
    types, code, sizes = np.unique(true, return_inverse=True, return_counts=True)
    right = np.bincount(code, weights=np.asarray(true) == np.asarray(predicted), minlength=len(types)) / sizes
    return [
        row("class_accuracy", value, head=head, scope="per-class", key=str(kind), n=int(size))
        for kind, value, size in zip(types, right, sizes, strict=True)
    ]


def assigned_rows(true: np.ndarray, predicted: np.ndarray, head: str) -> list[MetricRow]:
    """`assigned_share` and `accuracy_assigned`, for baselines that may leave a cell unassigned."""
    assigned = np.asarray(predicted) != UNASSIGNED
    right = (np.asarray(true) == np.asarray(predicted))[assigned]
    return [
        row("assigned_share", float(assigned.mean()) if len(assigned) else None, head=head, n=len(assigned)),
        row("accuracy_assigned", float(right.mean()) if len(right) else None, head=head, n=len(right)),
    ]
