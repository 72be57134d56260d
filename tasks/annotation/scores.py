"""Scores of predicted labels, and the tables the figures are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from harness.metrics import row
from tasks.annotation.score_rows import assigned_rows, class_accuracy_rows, score_rows

if TYPE_CHECKING:
    import pandas as pd

    from harness.results import MetricRow
    from harness.task import Split
    from tasks.annotation.predictions import Prediction


def prediction_rows(labels: np.ndarray, predictions: Sequence[Prediction]) -> list[MetricRow]:
    """Every metric of the predictions of one fold.

    Parameters
    ----------
    labels
        Of all cells.
    """
    rows = []
    for prediction in predictions:
        true, head = labels[prediction.rows], prediction.head
        rows += classification_rows(true, prediction.labels, head)
        rows += class_accuracy_rows(true, prediction.labels, head)
        if prediction.scores is not None and prediction.classes is not None:
            rows += score_rows(true, prediction.classes, prediction.scores, head)
        else:
            rows += assigned_rows(true, prediction.labels, head)
    return rows


def classification_rows(true: np.ndarray, predicted: np.ndarray, head: str) -> list[MetricRow]:
    """Accuracy, macro F1 over the true types, and F1 of each true type (scikit-learn's definitions).

    Parameters
    ----------
    true, predicted
        Labels (n,).
    """
    from sklearn.metrics import accuracy_score, f1_score

    types, sizes = np.unique(true, return_counts=True)
    each = f1_score(true, predicted, labels=types, average=None, zero_division=0.0)
    n = len(true)
    rows = [
        row("accuracy", accuracy_score(true, predicted), head=head, n=n),
        row("macro_f1", float(each.mean()), head=head, n=n),
    ]
    for name, value, size in zip(types, each, sizes, strict=True):
        rows.append(row("f1", value, head=head, scope="per-class", key=str(name), n=int(size)))
    return rows


def over_folds(
    folds: Sequence[tuple[str, list[MetricRow]]], labels: np.ndarray, predictions: Sequence[Sequence[Prediction]]
) -> list[MetricRow]:
    """Each overall number by fold, and its mean over the folds; numbers of a class over the cells of all folds.

    A number that is undefined in some fold is the mean of the others.
    """
    overall: dict[tuple[str, str], list[tuple[str, MetricRow]]] = {}
    for name, rows in folds:
        for item in rows:
            if item.scope == "overall":
                overall.setdefault((item.name, item.head), []).append((name, item))
    found = []
    for (metric, head), items in overall.items():
        values = [item.value for _, item in items if item.value is not None]
        n = sum(item.n or 0 for _, item in items)
        found.append(row(metric, fmean(values) if values else None, head=head, n=n))
        found += [row(metric, item.value, head=head, scope="per-fold", key=name, n=item.n) for name, item in items]
    for head in dict.fromkeys(p.head for fold in predictions for p in fold):
        own = [p for fold in predictions for p in fold if p.head == head]
        true, guess = labels[np.concatenate([p.rows for p in own])], np.concatenate([p.labels for p in own])
        pooled = classification_rows(true, guess, head) + class_accuracy_rows(true, guess, head)
        found += [item for item in pooled if item.scope == "per-class"]
    return found


def focus_rows(labels: np.ndarray, predictions: Sequence[Prediction], focus: Sequence[str]) -> list[MetricRow]:
    """`focus_accuracy` and `focus_macro_f1`: over the test cells of some types alone, whatever they are taken for."""
    if not focus:
        return []
    rows = []
    for head in dict.fromkeys(prediction.head for prediction in predictions):
        own = [prediction for prediction in predictions if prediction.head == head]
        true = labels[np.concatenate([prediction.rows for prediction in own])]
        guess = np.concatenate([prediction.labels for prediction in own])
        inside = np.isin(true, focus)
        n = int(inside.sum())
        scores = {item.name: item.value for item in classification_rows(true[inside], guess[inside], head)} if n else {}
        rows.append(row("focus_accuracy", scores.get("accuracy"), head=head, n=n))
        rows.append(row("focus_macro_f1", scores.get("macro_f1"), head=head, n=n))
    return rows


def prediction_table(
    names: np.ndarray, labels: np.ndarray, folds: Sequence[tuple[Split, Sequence[Prediction]]]
) -> pd.DataFrame:
    """Columns name, true, head, predicted, fold, confidence (the largest class score; missing where there is none)."""
    import pandas as pd

    parts = []
    for fold, predictions in folds:
        for p in predictions:
            sure = np.full(len(p.rows), np.nan) if p.scores is None else np.asarray(p.scores).max(axis=1)
            columns = {"name": names[p.rows], "true": labels[p.rows], "head": p.head, "predicted": p.labels}
            parts.append(pd.DataFrame({**columns, "fold": fold.name, "confidence": sure}))
    return pd.concat(parts, ignore_index=True)


def confusion_table(labels: np.ndarray, predictions: Sequence[Prediction]) -> pd.DataFrame:
    """Columns head, true, predicted, n; pairs that occur, over all folds."""
    import pandas as pd

    table = pd.concat(
        [pd.DataFrame({"head": p.head, "true": labels[p.rows], "predicted": p.labels}) for p in predictions]
    )
    return table.groupby(["head", "true", "predicted"], sort=True).size().reset_index(name="n")
