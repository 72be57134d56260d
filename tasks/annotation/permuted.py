"""A floor of the annotation task: a classifier that was trained on permuted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from harness.counts import highly_variable, log_normalise
from harness.model import ModelSpec, TaskBaseline
from harness.registry import register_model

if TYPE_CHECKING:
    from harness.data import CellData
    from harness.task import Split


@register_model("permuted_labels")
class PermutedLabels(TaskBaseline):
    """Logistic regression on principal components, its training labels permuted among the training cells.

    Everything is as in a real run, but expression says nothing of the label: what is left is the share of each type.
    """

    spec = ModelSpec(
        name="permuted_labels",
        title="Permuted labels",
        kind="predictor",
        gene_ids="any",
        readouts=(),
        tasks=("annotation",),
        control=True,
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_top_genes: int = 2000, n_components: int = 50):
        self.n_top_genes, self.n_components = n_top_genes, n_components

    def predict(self, data: CellData, split: Split, labels: np.ndarray, seed: int) -> np.ndarray:
        """Predicted labels of the test cells.

        Parameters
        ----------
        labels
            Labels of all cells; those of the test cells are not looked at.
        """
        import warnings

        from sklearn.decomposition import PCA
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        train = log_normalise(data.counts(split.train))
        genes = highly_variable(train, self.n_top_genes)
        n = max(1, min(self.n_components, min(train[:, genes].shape) - 1))
        model = make_pipeline(
            PCA(n, svd_solver="arpack", random_state=0),
            StandardScaler(),
            LogisticRegression(max_iter=1000, random_state=seed),
        )
        permuted = np.random.default_rng(seed).permutation(labels[split.train])
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a head that stops before converging is scored as it is
            model.fit(train[:, genes], permuted)
        return model.predict(log_normalise(data.counts(split.test))[:, genes])
