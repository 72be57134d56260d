"""The baseline of the annotation task: a linear SVM on expression, which beats most models in published tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.model import ModelSpec, TaskBaseline
from harness.registry import register_model

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.task import Split


@register_model("svm")
class SVM(TaskBaseline):
    """Linear SVM (one against rest, C = 1) on log-normalised HVGs, selected on the training cells only.

    Abdelaal et al., Genome Biology 2019: best overall of 22 classifiers.
    """

    spec = ModelSpec(
        name="svm",
        title="SVM on expression",
        kind="predictor",
        gene_ids="any",
        readouts=(),
        tasks=("annotation",),
        paper="Abdelaal et al., Genome Biology 2019, doi:10.1186/s13059-019-1795-z",
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_top_genes: int = 2000):
        self.n_top_genes = n_top_genes

    def predict(self, data: CellData, split: Split, labels: np.ndarray, seed: int) -> np.ndarray:
        """Predicted labels of the test cells.

        Parameters
        ----------
        labels
            Labels of all cells; those of the test cells are not looked at.
        """
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        train = log_normalise(data.counts(split.train))
        genes = highly_variable(train, self.n_top_genes)
        model = make_pipeline(StandardScaler(with_mean=False), LinearSVC(C=1.0, random_state=seed))
        model.fit(train[:, genes], labels[split.train])
        return model.predict(log_normalise(data.counts(split.test))[:, genes])
