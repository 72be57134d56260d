"""A Gaussian random projection of log-normalised expression: what an embedding is worth that learned nothing."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from harness.counts import log_normalise
from harness.data import CellData
from harness.model import FittedEmbedder
from harness.registry import register_model
from harness.spec import ModelSpec


@register_model("random_projection")
class RandomProjection(FittedEmbedder):
    """Distances survive a random projection (Johnson & Lindenstrauss 1984); nothing is fitted."""

    spec = ModelSpec(
        name="random_projection",
        title="Random projection",
        kind="embedding",
        gene_ids="any",
        readouts=("projection",),
        code_licence="MIT",
        commercial_use=True,
    )

    def __init__(self, n_components: int = 50):
        self.n_components = n_components

    def fit(self, data: CellData, seed: int = 0) -> None:
        """Draw the projection."""
        from sklearn.random_projection import GaussianRandomProjection

        shape = csr_matrix((1, data.n_vars), dtype=np.float32)
        self.projection = GaussianRandomProjection(self.n_components, random_state=seed).fit(shape)

    def transform(self, counts: csr_matrix) -> np.ndarray:
        """Float32 (n, n_components)."""
        return self.projection.transform(log_normalise(counts))
