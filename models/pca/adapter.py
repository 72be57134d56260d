"""Principal components of log-normalised highly variable genes: the analysis everybody runs."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from harness.counts import highly_variable, log_normalise
from harness.data import CellData
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec


@register_model("pca")
class PCA(FittedEmbedder):
    """Centred, unscaled principal components; at most one fewer than cells or genes."""

    spec = ModelSpec(
        name="pca",
        title="PCA",
        kind="embedding",
        gene_ids="any",
        readouts=("components",),
        draws=False,
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_top_genes: int = 2000, n_components: int = 50):
        self.n_top_genes, self.n_components = n_top_genes, n_components

    def fit(self, data: CellData, seed: int = 0) -> None:
        """Fit the components to all cells."""
        from sklearn.decomposition import PCA as Components

        values = log_normalise(data.counts())
        self.genes = highly_variable(values, self.n_top_genes)
        values = values[:, self.genes]
        n = max(1, min(self.n_components, min(values.shape) - 1))
        if min(values.shape) < 2:  # one cell or one gene has no component: its expression is all there is
            self.components = None
            return
        self.components = Components(n, svd_solver="arpack", random_state=0).fit(values)

    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Float32 (n, n_components)."""
        values = log_normalise(counts)[:, self.genes]
        return values.toarray() if self.components is None else self.components.transform(values)
