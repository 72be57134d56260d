"""Principal components of log-normalised highly variable genes: the analysis everybody runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from harness.counts import highly_variable, log_normalise
from harness.data import CellData
from harness.errors import NotApplicableError
from harness.genes import GeneTable
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec
from harness.tokens import GeneEmbedding


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

    def embed_genes(
        self, genes: GeneTable | Sequence[str], *, reference: CellData | None = None, seed: int = 0
    ) -> GeneEmbedding:
        """Components of the gene × cell matrix of the reference cells: genes are alike if they vary alike in these."""
        from sklearn.decomposition import PCA as Components

        if reference is None:
            raise NotApplicableError(f"{self.spec.title} reads gene vectors off cells, and none are given")
        table = genes if isinstance(genes, GeneTable) else GeneTable.from_names(genes)
        column = {name: i for i, name in reversed(list(enumerate(reference.genes.symbols.tolist()))) if name}
        column |= {name: i for i, name in reversed(list(enumerate(reference.genes.names.tolist())))}
        at = np.array([column.get(name, -1) for name in table.names.tolist()], np.int64)
        values = log_normalise(reference.counts())
        n = max(1, min(self.n_components, min(values.shape) - 1))
        vectors = Components(n, svd_solver="arpack", random_state=0).fit_transform(values.T.tocsr())
        return GeneEmbedding(vectors[at[at >= 0]].astype(np.float32), table.names[at >= 0], table.names[at < 0])
