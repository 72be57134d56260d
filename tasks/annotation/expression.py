"""What the baselines of annotation share: a classifier fitted to the counts of the training cells."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import InputError
from harness.model import TaskBaseline

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from harness.data import CellData
    from harness.task import Split


class ExpressionClassifier(TaskBaseline):
    """A baseline that scores every class for every test cell.

    A subclass has `fit`, which sees training cells and their labels only, and `scores`.
    """

    #: Class names (k,), sorted, of the fit.
    classes: np.ndarray
    #: Whether it can be fitted to cells of one type.
    one_type = False

    @abstractmethod
    def fit(self, counts: csr_matrix, labels: np.ndarray, seed: int) -> None:
        """Learn from raw counts (n, g) and labels (n,) of training cells; sets `classes`."""

    @abstractmethod
    def scores(self, counts: csr_matrix) -> np.ndarray:
        """Decision values or probabilities, float (n, k), of raw counts (n, g): the larger, the likelier."""

    def predict_scores(
        self, data: CellData, split: Split, labels: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Classes (k,) and their scores (n_test, k) for the test cells.

        Parameters
        ----------
        labels
            Labels of all cells; those of the test cells are not looked at.

        Raises
        ------
        InputError
            The training cells are of one type.
        """
        from threadpoolctl import threadpool_limits

        known = labels[split.train]
        if not self.one_type and len(set(known)) < 2:
            raise InputError(
                f"{data.name}: the training cells are all {known[0] if len(known) else 'missing'}; "
                f"{self.spec.title} needs two cell types"
            )
        # One thread: the same numbers on any machine, and faster at these sizes.
        with threadpool_limits(1):
            self.fit(data.counts(split.train), known, seed)
            return self.classes, self.scores(data.counts(split.test))

    def predict(self, data: CellData, split: Split, labels: np.ndarray, seed: int) -> np.ndarray:
        """Predicted labels of the test cells: the class of the largest score."""
        classes, scores = self.predict_scores(data, split, labels, seed)
        return classes[scores.argmax(axis=1)]


def decision_values(model: Any, x: Any) -> np.ndarray:
    """`decision_function` of a fitted scikit-learn classifier, with a column per class also where there are two."""
    values = np.asarray(model.decision_function(x))
    return values if values.ndim == 2 else np.column_stack([-values, values])
