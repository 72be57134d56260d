"""What is predicted of the test cells of a split, by frozen vectors and heads, by a baseline, or by a tuned network."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from tasks.annotation.finetune import finetuned_scores
from tasks.annotation.heads import class_scores, make_head

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject
    from harness.task import Split, TaskResult


#: The head of what reads expression and needs none.
NO_HEAD = "none"


@dataclass(frozen=True)
class Prediction:
    """What one head says of the test cells that can be read.

    Parameters
    ----------
    head
        What read the vectors; `none` for a baseline that reads expression.
    rows
        int (n,), the test cells.
    labels
        Predicted (n,).
    classes, scores
        Names (k,) of the columns of the scores (n, k); None where a baseline only names a label.
    """

    head: str
    rows: np.ndarray
    labels: np.ndarray
    classes: np.ndarray | None = None
    scores: np.ndarray | None = None


def predict(
    subject: Subject,
    data: CellData,
    split: Split,
    labels: np.ndarray,
    seed: int,
    result: TaskResult,
    *,
    heads: Sequence[str],
    neighbors: int,
) -> list[Prediction]:
    """The predictions of each head for a split without folds.

    Parameters
    ----------
    labels
        Labels of all cells; those of the test cells are not looked at.
    result
        Notes and flags of a fine-tuning are added to it.

    Raises
    ------
    InputError
        Too few cells can be read.
    """
    if subject.tuning is not None:
        head, test, types, scores = finetuned_scores(subject, data, split, labels, result)
        return [Prediction(head, test, types[scores.argmax(axis=1)], types, scores)]
    if subject.spec.kind == "predictor":
        return [_by_baseline(subject, data, split, labels, seed)]
    return _by_heads(subject, data, split, labels, seed, heads, neighbors)


def _by_baseline(subject: Subject, data: CellData, split: Split, labels: np.ndarray, seed: int) -> Prediction:
    model = subject.model
    if not hasattr(model, "predict_scores"):
        return Prediction(NO_HEAD, split.test, model.predict(data, split, labels, seed))
    classes, scores = model.predict_scores(data, split, labels, seed)
    return Prediction(NO_HEAD, split.test, classes[scores.argmax(axis=1)], classes, scores)


def _by_heads(
    subject: Subject,
    data: CellData,
    split: Split,
    labels: np.ndarray,
    seed: int,
    heads: Sequence[str],
    neighbors: int,
) -> list[Prediction]:
    from threadpoolctl import threadpool_limits

    vectors = subject.cells()
    readable = ~np.isnan(vectors).any(axis=1)
    train, test = split.train[readable[split.train]], split.test[readable[split.test]]
    if len(set(labels[train])) < 2 or not len(test):
        raise InputError(
            f"{subject.spec.name} reads too few cells of {data.name}: {len(train)} training cells of "
            f"{len(set(labels[train]))} types and {len(test)} test cells are left"
        )
    found = []
    # One thread: the same numbers on any machine, and faster at these sizes.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a head that stops before converging is scored as it is
        for name in heads:
            head = make_head(name, len(train), neighbors, seed).fit(vectors[train], labels[train])
            scores = class_scores(head, vectors[test])
            found.append(Prediction(name, test, head.predict(vectors[test]), head.classes_, scores))
    return found
