"""Annotation by a network that is fine-tuned on the training cells, a head with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.errors import InputError
from tasks.tuning_notes import note_tuning

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.subject import Subject
    from harness.task import Split, TaskResult


def finetuned_scores(
    subject: Subject, data: CellData, split: Split, labels: np.ndarray, result: TaskResult
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Head, test cells that the model can read (n,), cell types (k,), and their probabilities (n, k).

    Labels of test cells are not looked at. The curve of the training goes into `result.tables`, what a reader must
    know of it into `result.notes`; of several folds each has its own.

    Raises
    ------
    InputError
        One cell type only to learn, or no test cell that can be read.
    """
    from scipy.special import softmax

    from harness.classification import Classification

    types, numbers = np.unique(labels[split.train], return_inverse=True)
    if len(types) < 2:
        raise InputError(f"{data.name}: the training cells are all {types[0]}; two cell types are needed")
    tuned, outputs = subject.finetune(split.train, numbers, Classification(len(types)), strata=numbers)
    readable = ~np.isnan(outputs).any(axis=1)
    test = split.test[readable[split.test]]
    if not len(test):
        raise InputError(f"{subject.spec.name} reads none of the {len(split.test)} test cells of {data.name}")
    note_tuning(tuned, split.name, result)
    return tuned.head_name, test, types, softmax(outputs[test].astype(np.float64), axis=1)
